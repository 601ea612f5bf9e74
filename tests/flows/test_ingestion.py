"""The whole flow on a small shop: what is published, and that it is always the same."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest

from ecom_tasks.artefacts import dataset
from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.features.tasks import flow as features_flow
from ecom_tasks.ingestion import pseudonyms
from ecom_tasks.ingestion.tasks import flow
from ecom_tasks.run import Ref, Run, run_locally
from ecom_tasks.tables import TABLES
from tests.builders import bucket_of, lies_in_chunks
from tests.flows import ingestion_shop as shop

LACKING = ("events", "customers", "exclusions", "promotions", "prices", "stock", "supply")

COUNTED = """
[inputs.counts]
path = "counts.csv"

[tables.stock]
sql = '''
SELECT article AS product_id, store AS location_id, day AS snapshot_on, units AS on_hand
FROM counts
'''
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Ref]:
    """The shop, ingested once for all tests that only look."""
    folder = tmp_path_factory.mktemp("shop")
    source = shop.write_shop(folder / "data")
    run = Run("test", shop.LAST_DAY, (folder / "store").as_uri(), str(source))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOM_PSEUDONYM_KEY", "00" * 32)
        return run, run_locally(flow, run)


def table(lake: Ref, name: str) -> Ref:
    return dataset.input_named(lake, f"lake/{name}")


def files_of(ref: Ref) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in dataset.manifest(ref).files}


def test_every_line_of_the_shop_is_in_both_copies(published: tuple[Run, Ref]) -> None:
    _, lake = published
    order_lines = table(lake, "order_lines")
    expected = shop.DAYS * shop.LINES_A_DAY
    by_customer = dataset.scan(order_lines, "by_customer/*.parquet").collect()
    by_product = dataset.scan(order_lines, "by_product/*.parquet").collect()
    assert by_customer.height == expected
    assert by_customer.columns == TABLES["order_lines"].column_names
    key = ["order_id", "line_number"]
    assert by_product.sort(key).equals(by_customer.sort(key))


@pytest.mark.parametrize(
    ("copy", "entity"), [("customer", "customer_id"), ("product", "product_id")]
)
def test_rows_lie_in_the_bucket_of_their_entity_chunk_by_chunk_of_the_key(
    published: tuple[Run, Ref], copy: str, entity: str
) -> None:
    order_lines = table(published[1], "order_lines")
    paths = dataset.paths(order_lines, f"by_{copy}/*")
    assert paths == [f"by_{copy}/bucket={number:03}.parquet" for number in range(8)]
    for number, path in enumerate(paths):
        rows = dataset.scan(order_lines, path).collect()
        assert lies_in_chunks(rows, ["order_id", "line_number"], 8)
        entities = rows[entity].drop_nulls().to_list()
        assert {bucket_of(each, 8) for each in entities} <= {number}
        if number:
            assert rows[entity].null_count() == 0  # guests lie in bucket 0


def test_no_customer_can_be_read_anywhere_in_the_store(published: tuple[Run, Ref]) -> None:
    run, lake = published
    lines = dataset.scan(table(lake, "order_lines"), "by_customer/*").collect()
    expected = pseudonyms.pseudonym(bytes(32), "c7@example.org")
    assert expected in lines["customer_id"].to_list()
    for folder, _, names in os.walk(urlsplit(run.root).path):
        for name in names:
            assert b"example.org" not in (Path(folder) / name).read_bytes(), name


def test_what_the_shop_lacks_is_published_empty_and_said(published: tuple[Run, Ref]) -> None:
    _, lake = published
    for name in LACKING:
        ref = table(lake, name)
        assert not dataset.has_rows(ref)
        assert dataset.manifest(ref).files == []
        [sentence] = dataset.manifest(ref).assumptions
        assert sentence in dataset.manifest(lake).assumptions
    assert "tills are set to local time" in dataset.manifest(lake).assumptions


def test_the_pin_names_every_file_without_the_machine(published: tuple[Run, Ref]) -> None:
    run, lake = published
    source = dataset.find(run, "sources/corner-shop/all")
    pins = dataset.read_json(source, "pins.json")
    assert len(pins) == shop.DAYS + 1
    assert {"articles.csv", "orders/2024-03-31.csv"} <= {pin["name"] for pin in pins}
    # A table knows its own alone.
    own = dataset.manifest(table(lake, "products")).inputs["sources/corner-shop/products"]
    assert [pin["name"] for pin in dataset.read_json(Ref(own), "pins.json")] == ["articles.csv"]
    assert str(Path(run.source).parent) not in dataset.manifest(source).to_bytes().decode()


def test_the_key_stays_secret_but_its_fingerprint_is_known(published: tuple[Run, Ref]) -> None:
    manifest = dataset.manifest(table(published[1], "order_lines"))
    assert manifest.config["pseudonym_key"] == pseudonyms.fingerprint(bytes(32))
    assert "00" * 32 not in manifest.to_bytes().decode()


def test_data_docs_and_results_are_published(published: tuple[Run, Ref]) -> None:
    docs = dataset.input_named(published[1], "lake/data_docs")
    assert {"report.html", "data_docs/index.html"} <= set(dataset.paths(docs, "*"))
    results = dataset.read_json(docs, "result.json")
    assert {each["table"] for each in results} == {"order_lines", "products"}
    assert all(each["success"] for each in results)


def test_a_second_run_finds_everything_made(
    published: tuple[Run, Ref], caplog: pytest.LogCaptureFixture
) -> None:
    run, lake = published
    with caplog.at_level(logging.INFO):
        assert run_locally(flow, run) == lake
    told = [record.message for record in caplog.records if record.name.endswith("dataset")]
    # Twelve tasks, and what each of nine tables is made from.
    assert len(told) == 21
    assert all(each.startswith("unchanged") for each in told)


def test_what_is_delivered_again_makes_anew_only_what_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    source = shop.write_shop(folder)
    source.write_text(shop.SOURCE + COUNTED, encoding="utf-8")
    run = Run("test", shop.LAST_DAY, (tmp_path / "store").as_uri(), str(source))

    def counted(units: int) -> None:
        shop.write_csv(folder / "counts.csv", [
            {"article": f"a{number}", "store": "s0", "day": shop.LAST_DAY, "units": units}
            for number in range(shop.PRODUCTS)
        ])  # fmt: skip

    def versions() -> dict[str, str]:
        lake = run_locally(flow, run)
        made = [lake, run_locally(features_flow, run)]
        named = {
            name: Ref(ref) for each in made for name, ref in dataset.manifest(each).inputs.items()
        }
        return {name: dataset.manifest(ref).version for name, ref in named.items()}

    counted(40)
    first = versions()
    # A corrected count: orders, products and all features are found.
    counted(41)
    second = versions()
    changed = {name for name in first if second[name] != first[name]}
    assert changed == {"lake/stock", "lake/data_docs"}
    # A day of orders delivered late again: what reads orders follows, the count does not.
    shop.rewrite(folder, shop.LAST_DAY, {"qty": lambda row: int(str(row["qty"])) + 1})
    third = versions()
    changed = {name for name in second if third[name] != second[name]}
    assert {"lake/order_lines", "features/demand", "features/customers"} <= changed
    assert not {"lake/products", "lake/stock", "lake/promotions"} & changed
    # A corrected SELECT of one table is a change of that table.
    more = source.read_text(encoding="utf-8").replace("units AS on_hand", "units + 1 AS on_hand")
    source.write_text(more, encoding="utf-8")
    fourth = versions()
    assert {name for name in third if fourth[name] != third[name]} == {
        "lake/stock", "lake/data_docs",
    }  # fmt: skip


def test_the_future_changes_no_byte(published: tuple[Run, Ref], tmp_path: Path) -> None:
    """Ingest day 35 from 35 days of files, then from 42: nothing after `as_of` may show."""
    seen = []
    as_of = shop.LAST_DAY - timedelta(days=7)
    for name, last_day, days in (
        ("short", as_of, shop.DAYS - 7),
        ("long", shop.LAST_DAY, shop.DAYS),
    ):
        source = shop.write_shop(tmp_path / name, last_day, days)
        run = Run("test", as_of, (tmp_path / f"store-{name}").as_uri(), str(source))
        lake = run_locally(flow, run)
        seen.append({each: files_of(table(lake, each)) for each in ("order_lines", "products")})
    assert seen[0] == seen[1]
    assert files_of(table(published[1], "order_lines")) != seen[0]["order_lines"]


def test_rows_that_break_the_contract_are_kept_apart_with_reason(tmp_path: Path) -> None:
    source = shop.write_shop(tmp_path)
    day = shop.LAST_DAY - timedelta(days=3)
    rows = shop.lines_of(day)
    rows[0]["qty"] = 0
    rows[1]["price"] = -2.5
    rows[2]["article"] = "a999"
    rows[3]["article"] = ""
    shop.write_csv(shop.orders_file(tmp_path, day), [*rows, rows[5]])
    run = Run("test", shop.LAST_DAY, (tmp_path / "store").as_uri(), str(source))
    lake = run_locally(flow, run)
    expected = {
        "below zero: unit_price": 1,
        "duplicate key": 1,
        "missing: product_id": 1,
        "not above zero: quantity": 1,
        "unknown product": 1,
    }
    metrics = dataset.manifest(table(lake, "order_lines")).metrics
    assert metrics["quarantined_by_reason"] == expected
    assert metrics["rows_published"] == shop.DAYS * shop.LINES_A_DAY - 4
    kept = dataset.scan(dataset.find(run, "quarantine/order_lines")).collect()
    assert kept.height == 5
    [row] = kept.filter(pl.col("reason") == "unknown product").to_dicts()
    assert row["product_id"] == "a999"
    assert row["customer_id"] is None or len(row["customer_id"]) == 32


def test_a_source_file_that_changes_during_the_run_is_noticed(tmp_path: Path) -> None:
    from ecom_tasks.ingestion import tasks

    source = shop.write_shop(tmp_path, days=3)
    run = Run("test", shop.LAST_DAY, (tmp_path / "store").as_uri(), str(source))
    pinned = tasks.pin_source(run)
    source.write_text(shop.SOURCE.replace("corner-shop", "other-shop"))
    with pytest.raises(ConfigError, match="changed after the run began"):
        tasks.load_products(run, pinned)


def test_a_delivery_that_changes_during_the_run_is_noticed(tmp_path: Path) -> None:
    from ecom_tasks.ingestion import tasks

    source = shop.write_shop(tmp_path, days=3)
    run = Run("test", shop.LAST_DAY, (tmp_path / "store").as_uri(), str(source))
    pinned = tasks.pin_source(run)
    shop.write_csv(tmp_path / "articles.csv", shop.articles()[:-1])
    with pytest.raises(DataContractError, match=r"'articles' changed .*: articles\.csv"):
        tasks.load_products(run, pinned)


def test_without_a_key_nothing_starts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecom_tasks.ingestion import tasks

    monkeypatch.delenv("ECOM_PSEUDONYM_KEY")
    source = shop.write_shop(tmp_path, days=1)
    with pytest.raises(ConfigError, match="ECOM_PSEUDONYM_KEY is not set"):
        tasks.pin_source(replace(run, source=str(source)))


def test_times_are_kept_to_the_second(published: tuple[Run, Ref]) -> None:
    lines = dataset.scan(table(published[1], "order_lines"), "by_customer/*")
    first = lines.select(pl.col("ordered_at").min()).collect().item()
    day = shop.LAST_DAY - timedelta(days=shop.DAYS - 1)
    assert first == datetime(day.year, day.month, day.day, 9)  # noqa: DTZ001
    assert day == date(2024, 2, 19)


def test_a_new_number_of_buckets_holds_from_its_day_on(tmp_path: Path) -> None:
    """Days loaded before stay as they are, and are found; the rows of features are the same."""
    source = shop.write_shop(tmp_path / "data")
    before = shop.LAST_DAY - timedelta(days=1)

    def day(as_of: date, buckets: int, root: str = "store") -> Run:
        settings = {"ingestion": {"buckets": buckets}, "features": {"snapshots": 2}}
        return Run("test", as_of, (tmp_path / root).as_uri(), str(source), overrides=settings)

    first = run_locally(flow, day(before, 2))
    written = sorted((tmp_path / "store/lake").rglob("*.parquet"))
    second = run_locally(flow, day(shop.LAST_DAY, 4))
    for ref, buckets in ((first, 2), (second, 4)):
        lines = table(ref, "order_lines")
        assert len(dataset.paths(lines, "by_customer/*.parquet")) == buckets
        assert len(dataset.paths(lines, "by_product/*.parquet")) == buckets
    assert set(written) < set((tmp_path / "store/lake").rglob("*.parquet"))
    # With the settings of its day, a day is found finished.
    assert run_locally(flow, day(before, 2)) == first
    rows = []
    for run in (day(shop.LAST_DAY, 4), day(shop.LAST_DAY, 2, "other")):
        run_locally(flow, run)
        made = run_locally(features_flow, run)
        rows.append({
            name: dataset.scan(dataset.input_named(made, f"features/{name}")).collect()
            for name in ("customers", "customer_products", "products", "demand", "price_history")
        })
    for name, frame in rows[0].items():
        key = frame.columns[:4]
        assert frame.height > 0
        assert frame.sort(key).equals(rows[1][name].sort(key)), name


def test_a_bucket_that_is_outgrown_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = shop.write_shop(tmp_path / "data")

    def loaded(**settings: int) -> tuple[Ref, dict[str, object]]:
        run = Run("test", shop.LAST_DAY, (tmp_path / "store").as_uri(), str(source),
                  overrides={"ingestion": {"buckets": 2, **settings}})  # fmt: skip
        ref = table(run_locally(flow, run), "order_lines")
        return ref, dataset.manifest(ref).metrics

    lines = shop.DAYS * shop.LINES_A_DAY
    ref, told = loaded(large_bucket_rows=lines // 2 - 1)
    assert isinstance(told["rows_of_largest_bucket"], dict)
    assert lines // 2 <= max(told["rows_of_largest_bucket"].values()) < lines
    assert "set ingestion.buckets=4, from now on" in str(told["advice"])
    assert told["advice"] in [record.message for record in caplog.records]
    # What is advised is not what is loaded: the version is the same.
    assert loaded(large_bucket_rows=lines)[0] == ref
    other, told = loaded(large_bucket_rows=lines, buckets=4)
    assert other != ref
    assert "advice" not in told
