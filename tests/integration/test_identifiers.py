"""What is published of a whole run names no customer: not in a table, a page, a log or a model.

All flows run on a simulated shop whose customers are e-mail addresses; some of its rows go to
quarantine, some of its customers exclude products.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest

from ecom_tasks.artefacts import dataset
from ecom_tasks.demo.quick import QUICK
from ecom_tasks.domains import RELEASING, flow_of
from ecom_tasks.errors import ModelRejectedError
from ecom_tasks.ingestion import pseudonyms
from ecom_tasks.run import Run, run_locally
from ecom_tasks.sample_store import tables, weeks, world
from tests.identifiers import leaks

SCALE = world.Scale(products=30, stores=2, weeks=60, customers=60)
KEY = bytes(32)
NAMED = "customer_id || '@example.org' AS customer_id"
FURTHER = f"""
[tables.events]
sql = '''
SELECT order_id || '-' || line_number AS event_id, {NAMED}, product_id, 'view' AS event_type,
       ordered_at AS occurred_at
FROM order_lines WHERE line_number = 1
'''

[tables.exclusions]
sql = '''
SELECT {NAMED}, min(product_id) AS product_id FROM order_lines GROUP BY order_lines.customer_id
'''
"""


def name_customers(text: str) -> str:
    """Let the shipped source file give its customers addresses, and spoil a few rows."""
    spoilt = "CASE WHEN line_number = 9 THEN 0 ELSE quantity END AS quantity"
    lines, customers = "SELECT * FROM order_lines", "SELECT * FROM customers"
    assert text.count(lines) == text.count(customers) == 1
    text = text.replace(lines, f"SELECT * REPLACE ({NAMED}, {spoilt}) FROM order_lines")
    return text.replace(customers, f"SELECT * REPLACE ({NAMED}) FROM customers") + FURTHER


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[str]]:
    """The run, and the raw identifiers of all who bought something."""
    folder = tmp_path_factory.mktemp("shop")
    tables.write(world.create(SCALE), folder / "data")
    bought = pl.read_parquet(folder / "data/order_lines/*.parquet")["customer_id"].unique()
    shipped = resources.files("ecom_tasks") / "sources/sample-store.toml"
    (folder / "shop.toml").write_text(name_customers(shipped.read_text(encoding="utf-8")))
    as_of = weeks.START + timedelta(days=7 * SCALE.weeks - 1)
    run = Run("test", as_of, (folder / "store").as_uri(), str(folder / "shop.toml"),
              str(folder / "data"), QUICK)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOM_PSEUDONYM_KEY", KEY.hex())
        patch.setenv("ECOM_DASK", "threads")
        for domain in ("ingestion", "features", *RELEASING):
            # What a gate does not let pass is kept, and so it is looked at too.
            with suppress(ModelRejectedError):
                run_locally(flow_of(domain), run)
    return run, [f"{each}@example.org" for each in bought]


def test_no_customer_is_named_in_anything_published(published: tuple[Run, list[str]]) -> None:
    run, identifiers = published
    assert leaks(run.root, identifiers) == {}


def test_all_was_looked_at(published: tuple[Run, list[str]]) -> None:
    """Their pseudonyms do stand in what they should: customers passed through every part."""
    run, identifiers = published
    assert len(identifiers) > SCALE.customers / 2
    people = [pseudonyms.pseudonym(KEY, each) for each in identifiers]
    held = {key.partition("/v/")[0] for key in leaks(run.root, people)}
    assert held >= {
        "lake/order_lines", "lake/customers", "lake/events", "lake/exclusions",
        "quarantine/order_lines", "features/customers", "features/customer_products",
        "artefacts/recommendation",
    }  # fmt: skip
    folder = Path(urlsplit(run.root).path)
    for name in RELEASING:
        (manifest,) = folder.glob(f"artefacts/{name}/v/*/_manifest.json")
        assert (manifest.parent / "report.html").is_file()
    assert list(folder.glob("lake/data_docs/v/*/data_docs/index.html"))
    assert dataset.find(run, "features/all")


def in_a_column(file: Path, name: str) -> None:
    pl.DataFrame({"product_id": ["p1", "p2"], "note": [None, f"for {name}"]}).write_parquet(file)


def in_a_page(file: Path, name: str) -> None:
    file.write_text(f"<li>{name}</li>", encoding="utf-8")


def in_an_archive(file: Path, name: str) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vocabulary.txt", name)


@pytest.mark.parametrize(
    ("file", "write"),
    [("x.parquet", in_a_column), ("report.html", in_a_page), ("model.keras", in_an_archive)],
)
def test_one_that_is_planted_is_found(
    published: tuple[Run, list[str]], file: str, write: Callable[[Path, str], None]
) -> None:
    run, identifiers = published
    planted = Path(urlsplit(run.root).path) / "artefacts/pricing/v/planted" / file
    planted.parent.mkdir(exist_ok=True)
    write(planted, identifiers[7])
    try:
        assert leaks(run.root, identifiers) == {
            f"artefacts/pricing/v/planted/{file}": {identifiers[7]}
        }
    finally:
        planted.unlink()


def test_identifiers_that_stand_everywhere_are_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="by accident"):
        leaks(run.root, ["1234567"])
