"""Somebody asks to be forgotten: gone from what later runs read, and not brought back by them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest

from ecom_tasks import cli
from ecom_tasks.artefacts import dataset, forgotten, mentions, release, retention
from ecom_tasks.artefacts.forget import Outcome, forget
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.features import tasks as features
from ecom_tasks.ingestion import pseudonyms, tasks
from ecom_tasks.run import Run, run_locally
from tests.flows import ingestion_shop as shop

DAYS = 8
KEY = bytes(32)
NAMED = "c7@example.org"
PERSON = pseudonyms.pseudonym(KEY, NAMED)
FINGERPRINT = pseudonyms.fingerprint(KEY)
MADE_AGAIN = {
    "lake/all", "lake/order_lines", "lake/data_docs", "quarantine/order_lines", "features/all",
    "features/customers", "features/customer_products", "features/demand",
    "features/price_history", "features/products", "features/promotion_calendar",
}  # fmt: skip
"""What holds the person, and what was made from it."""


@pytest.fixture(scope="module")
def shopped(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Lake and features of the small shop; a line of the person is in quarantine."""
    folder = tmp_path_factory.mktemp("shop")
    source = shop.write_shop(folder / "data", days=DAYS)
    rows = shop.lines_of(shop.LAST_DAY)
    spoilt = rows[0] | {"line": 99, "customer": NAMED, "qty": 0}
    shop.write_csv(shop.orders_file(folder / "data", shop.LAST_DAY), [*rows, spoilt])
    run = Run("test", shop.LAST_DAY, (folder / "store").as_uri(), str(source),
              overrides={"features": {"snapshots": 1}, "ingestion": {"buckets": 2}})  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOM_PSEUDONYM_KEY", KEY.hex())
        patch.setenv("ECOM_DASK", "threads")
        run_locally(tasks.flow, run)
        run_locally(features.flow, run)
    return run


@pytest.fixture
def mine(shopped: Run, tmp_path: Path) -> Run:
    """A copy of it, to be changed."""
    shutil.copytree(urlsplit(shopped.root).path, tmp_path / "store")
    return replace(shopped, root=(tmp_path / "store").as_uri())


def lines_of_person() -> int:
    days = [shop.LAST_DAY - timedelta(days=age) for age in range(DAYS)]
    found = sum(row["customer"] == NAMED for day in days for row in shop.lines_of(day))
    assert found > 0
    return found


def rows(run: Run, name: str, pattern: str = "*.parquet") -> pl.DataFrame:
    return dataset.scan(dataset.find(run, name), pattern).collect()


def holders(run: Run, people: Sequence[str] = (PERSON,)) -> set[str]:
    """Files under the store in which somebody stands."""
    root = Path(urlsplit(run.root).path)
    return {
        file.relative_to(root).as_posix()
        for file in root.rglob("*")
        if file.is_file() and mentions.found(file, people)
    }


def current(run: Run) -> dict[str, str]:
    """Name -> version that the day points to."""
    store = open_store(run.root)
    found = {}
    for name in retention.names(store, ("lake", "quarantine", "features")):
        pointer = release.read_pointer(store, name, run.as_of.isoformat())
        found[name] = pointer.version if pointer else ""
    return found


def version_of(ref: str) -> str:
    return ref.removesuffix("/_manifest.json").rpartition("/v/")[2]


def done(run: Run, *, dry: bool = False) -> Outcome:
    return forget(run.root, PERSON, FINGERPRINT, dry=dry)


def test_their_rows_go_and_all_others_stay(mine: Run) -> None:
    names = ("lake/order_lines", "features/customers", "features/customer_products")
    before = {name: rows(mine, name) for name in names}
    demand, versions = rows(mine, "features/demand"), current(mine)
    outcome = done(mine)
    for name in names:
        expected = before[name].filter(pl.col("customer_id").ne_missing(PERSON))
        assert rows(mine, name).equals(expected)  # guests, who are null, stay too
    removed = {each.name: each.rows for each in outcome.renewed}
    assert set(removed) == MADE_AGAIN
    # Each line stands in a copy by customer and one by product.
    assert removed["lake/order_lines"] == 2 * lines_of_person()
    assert removed["quarantine/order_lines"] == 1
    assert removed["features/customers"] == 1
    assert removed["features/demand"] == removed["lake/all"] == 0
    assert rows(mine, "features/demand").equals(demand)
    changed = {name for name, version in current(mine).items() if version != versions[name]}
    assert changed == MADE_AGAIN
    # Every current version is whole, and made from current versions only.
    for name, version in current(mine).items():
        made = dataset.manifest(dataset.find(mine, name))
        dataset.fetch(dataset.find(mine, name), Path(urlsplit(mine.root).path).parent / version)
        for given, ref in made.inputs.items():
            if not given.startswith("sources/"):
                assert version_of(ref) == current(mine)[given]


def test_what_still_holds_them_is_told(mine: Run) -> None:
    before = holders(mine)
    outcome = done(mine)
    assert holders(mine) - before == {f"{forgotten.AREA}/{FINGERPRINT}.json"}
    told = {f"{each.name}/v/{each.version}/{path}"
            for each in outcome.holding for path in each.files}  # fmt: skip
    assert told == before
    assert before


def test_a_release_that_holds_them_is_told_with_what_it_serves(mine: Run) -> None:
    def build(draft: dataset.Draft) -> None:
        draft.write_text("report.html", f"<b>{PERSON}</b>")

    build.__module__ = "ecom_tasks.pricing.tasks"
    ref = dataset.release(mine, dataset.produce(mine, "artefacts/pricing", build))
    held = next(each for each in done(mine).holding if each.name == "artefacts/pricing")
    assert (held.version, held.channels) == (dataset.manifest(ref).version, ("production",))
    assert held.files == ("report.html",)
    assert held.finished


def test_a_dry_run_tells_the_same_and_changes_nothing(mine: Run) -> None:
    folder = Path(urlsplit(mine.root).path)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    dry = done(mine, dry=True)
    after = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert after == before
    wet = done(mine)
    assert [replace(each, instead="") for each in wet.renewed] == dry.renewed
    assert wet.holding == dry.holding


def test_doing_it_again_finds_it_done(mine: Run) -> None:
    done(mine)
    versions = current(mine)
    again = done(mine)
    assert again.renewed == []
    assert current(mine) == versions


def test_the_next_ingestion_does_not_bring_them_back(mine: Run) -> None:
    before = rows(mine, "lake/order_lines", "by_customer/*")
    done(mine)
    cleaned = rows(mine, "lake/order_lines")
    known = holders(mine)
    run_locally(tasks.flow, mine)
    # Loaded anew from the shop's files, it is what was made without them.
    assert rows(mine, "lake/order_lines").equals(cleaned)
    manifest = dataset.manifest(dataset.find(mine, "lake/order_lines"))
    assert manifest.config["forgotten"] == forgotten.fingerprint([PERSON])
    assert manifest.metrics["rows_read"] == before.height - lines_of_person()
    assert forgotten.told([PERSON]) in manifest.assumptions
    customers = features.build_customers(mine, features.pin_lake(mine))
    assert PERSON not in dataset.scan(customers).collect()["customer_id"].to_list()
    assert holders(mine) == known
    # Products have no customers: they are not loaded again.
    assert dataset.manifest(dataset.find(mine, "lake/products")).config["forgotten"] == ""


def test_a_run_that_began_before_publishes_nothing(mine: Run) -> None:
    source = tasks.pin_source(mine)
    products = tasks.load_products(mine, source)
    lines = tasks.load_order_lines(mine, source, products)
    done(mine)
    with pytest.raises(ConfigError, match=r"forgotten after the run began.*lake/order_lines"):
        tasks.publish_snapshot(mine, source, lines, products)


def test_another_key_cannot_tell_who_was_forgotten(
    mine: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(mine)
    monkeypatch.setenv("ECOM_PSEUDONYM_KEY", "01" * 32)
    with pytest.raises(ConfigError, match="they would come back"):
        tasks.pin_source(mine)


def test_a_mangled_list_stops_everything(mine: Run) -> None:
    done(mine)
    store, key = open_store(mine.root), f"{forgotten.AREA}/{FINGERPRINT}.json"
    store.replace(key, b"{}", store.read(key).etag)
    with pytest.raises(DataContractError, match="no list of pseudonyms"):
        tasks.pin_source(mine)


def test_retention_takes_what_they_were_taken_out_of_first(mine: Run) -> None:
    old = current(mine)
    done(mine)
    now = datetime.now(UTC)
    policy = retention.Policy(newest=5, days=30, grace=timedelta(hours=1))
    retention.collect(mine.root, policy, dry=False, now=now)
    retention.collect(mine.root, policy, dry=False, now=now + timedelta(hours=2))
    store = open_store(mine.root)
    left = {name for name, version in old.items() if version in release.versions(store, name)}
    assert left == set(old) - MADE_AGAIN
    assert holders(mine) == {f"{forgotten.AREA}/{FINGERPRINT}.json"}
    assert rows(mine, "lake/order_lines").height  # what is current is whole


def test_a_second_person_is_taken_out_of_what_the_first_left(mine: Run) -> None:
    done(mine)
    other = pseudonyms.pseudonym(KEY, "c11@example.org")
    first = current(mine)["lake/order_lines"]
    outcome = forget(mine.root, other, FINGERPRINT)
    assert first in {each.version for each in outcome.renewed}
    left = set(rows(mine, "lake/order_lines")["customer_id"].to_list())
    assert not {PERSON, other} & left
    assert forgotten.people(open_store(mine.root), FINGERPRINT) == sorted([PERSON, other])
    made = dataset.manifest(dataset.find(mine, "lake/order_lines"))
    assert len(made.config[forgotten.INSTEAD_OF]) == 2


def test_command(
    mine: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ["--root", mine.root]
    assert cli.main(["forget", NAMED, "--dry-run", *root]) == 0
    said = capsys.readouterr().out
    assert PERSON in said
    assert "Would be made again" in said
    assert "@" not in said
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{NAMED}\n"))
    assert cli.main(["forget", "-", *root]) == 0
    assert "Made again" in capsys.readouterr().out
    assert PERSON not in rows(mine, "lake/order_lines")["customer_id"].to_list()
    assert cli.main(["forget", PERSON, "--pseudonym", *root]) == 0
    assert cli.main(["forget", NAMED, "--pseudonym", *root]) == 2
    capsys.readouterr()
    assert cli.main(["forget", "c7@example.com", "--dry-run", *root]) == 0
    assert "Nothing holds this person" in capsys.readouterr().out
