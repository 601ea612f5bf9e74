"""Deliveries that are wrong: each ends the day with a reason, and yesterday stays in service."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from ecom_tasks.artefacts import dataset
from ecom_tasks.errors import MAX_EXAMPLES, DataContractError
from ecom_tasks.ingestion.tasks import flow
from ecom_tasks.run import Run, run_locally
from tests.flows import ingestion_shop as shop

TODAY = shop.LAST_DAY
YESTERDAY = TODAY - timedelta(days=1)
A_DAY = shop.LINES_A_DAY
Break = Callable[[Path], None]


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Yesterday's run, which went well."""
    folder = tmp_path_factory.mktemp("shop")
    source = shop.write_shop(folder / "data", YESTERDAY, shop.DAYS - 1)
    run = Run("yesterday", YESTERDAY, (folder / "store").as_uri(), str(source))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOM_PSEUDONYM_KEY", "00" * 32)
        run_locally(flow, run)
    return run


@pytest.fixture
def today(yesterday: Run, tmp_path: Path) -> Run:
    """Today's run, with a delivery of today that is right as yet."""
    shutil.copytree(Path(yesterday.source).parent, tmp_path, dirs_exist_ok=True)
    shop.write_csv(shop.orders_file(tmp_path, TODAY), shop.lines_of(TODAY))
    return replace(yesterday, run_id="today", as_of=TODAY, source_data=str(tmp_path))


def dropped_column(folder: Path) -> None:
    columns = [name for name in shop.lines_of(TODAY)[0] if name != "qty"]
    shop.write_csv(shop.orders_file(folder, TODAY), shop.lines_of(TODAY), columns)


def dropped_column_everywhere(folder: Path) -> None:
    for file in sorted((folder / "orders").iterdir()):
        file.write_text(file.read_text().replace("qty", "quantity", 1))


def doubled_file(folder: Path) -> None:
    original = shop.orders_file(folder, TODAY)
    shutil.copy(original, original.with_name(f"{TODAY}-again.csv"))


def shifted_currency(folder: Path) -> None:
    shop.rewrite(folder, TODAY, {"price": lambda row: 100 * cast(float, row["price"])})


def half_the_stores_missing(folder: Path) -> None:
    there = {f"s{number}" for number in range(shop.STORES // 2)}
    rows = [row for row in shop.lines_of(TODAY) if row["store"] in there]
    shop.write_csv(shop.orders_file(folder, TODAY), rows)


def schema_drift(folder: Path) -> None:
    shop.rewrite(folder, TODAY, {"qty": lambda row: f"{row['qty']} pcs"})


def future_dates(folder: Path) -> None:
    shop.rewrite(
        folder, TODAY, {"sold_at": lambda row: str(row["sold_at"]).replace("2024", "2924")}
    )


def empty_files(folder: Path) -> None:
    for file in sorted((folder / "orders").iterdir()):
        file.write_text(file.read_text().splitlines()[0] + "\n")


def empty_catalogue(folder: Path) -> None:
    shop.write_csv(folder / "articles.csv", [], ["article", "name", "grp"])


def unknown_products(folder: Path) -> None:
    shop.rewrite(folder, TODAY, {"article": lambda row: f"new-{row['article']}"})


def a_hundredth_of_the_orders(folder: Path) -> None:
    shop.write_csv(shop.orders_file(folder, TODAY), shop.lines_of(TODAY)[:1])


def nothing_for_ten_days(folder: Path) -> None:
    for age in range(10):
        shop.orders_file(folder, TODAY - timedelta(days=age)).unlink()


def missing_catalogue(folder: Path) -> None:
    (folder / "articles.csv").unlink()


# What the message must say: table, column or expectation, observed, expected.
BROKEN: list[tuple[Break, list[str]]] = [
    (dropped_column, ["order_lines: the files differ in their columns", 'column "qty" is missing',
                      f"{TODAY}.csv"]),
    (dropped_column_everywhere, ["order_lines: column 'qty' is not in the data",
                                 "line 6: qty AS quantity",
                                 "orders has order_no, line, customer, article, quantity"]),
    (doubled_file, ["order_lines", f"observed {A_DAY} of {2 * A_DAY}", "expected at most 30%",
                    f"{A_DAY} duplicate key"]),
    (shifted_currency, ["order_lines.unit_price", "distribution", "observed_median",
                        "expected median price of the newest day between 0.3333 and 3 times"]),
    (half_the_stores_missing, ["order_lines.location_id", "volume", "observed_locations 4",
                               f"usual_locations {shop.STORES}", "expected at least 0.7"]),
    (schema_drift, ["order_lines", f"observed {A_DAY} of {A_DAY}", "expected at most 30%",
                    f"{A_DAY} wrong type: quantity", "quantity: '3 pcs'"]),
    (future_dates, ["order_lines", f"observed {A_DAY} of {A_DAY} rows of a usual day",
                    "expected at most 30%", f"{A_DAY} in the future", "ordered_at='2924-03-31 "]),
    (empty_files, ["order_lines", f"observed 0 rows up to {TODAY}", "expected at least 1"]),
    (empty_catalogue, ["products", f"observed 0 rows up to {TODAY}", "expected at least 1"]),
    (unknown_products, ["order_lines", f"observed {A_DAY} of {A_DAY}", "unknown product",
                        "product_id='new-a"]),
    (a_hundredth_of_the_orders, ["order_lines.ordered_at", "volume", "observed_rows 1",
                                 f"usual_rows {A_DAY}.0", "expected rows of the newest day"]),
    (nothing_for_ten_days, ["order_lines.ordered_at", "freshness", "observed 2024-03-21",
                            "expected an order within 7 days before 2024-03-31"]),
    (missing_catalogue, ["'articles'", "articles.csv"]),
]  # fmt: skip


@pytest.mark.parametrize(("broken", "told"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_a_broken_day_fails_with_its_reason_and_yesterday_stays(
    broken: Break, told: list[str], today: Run, yesterday: Run
) -> None:
    broken(Path(today.source_data))
    with pytest.raises(DataContractError) as caught:
        run_locally(flow, today)
    message = str(caught.value)
    for part in told:
        assert part in message
    assert len(caught.value.examples) <= MAX_EXAMPLES
    assert "example.org" not in message
    with pytest.raises(DataContractError, match="No lake/all for 2024-03-31"):
        dataset.find(today, "lake/all")
    lines = dataset.input_named(dataset.find(yesterday, "lake/all"), "lake/order_lines")
    kept = dataset.scan(lines, "by_customer/*").collect()
    assert kept.height == (shop.DAYS - 1) * A_DAY


def test_rows_of_a_refused_delivery_can_be_looked_at(today: Run) -> None:
    unknown_products(Path(today.source_data))
    with pytest.raises(DataContractError, match="unknown product"):
        run_locally(flow, today)
    kept = dataset.scan(dataset.find(today, "quarantine/order_lines")).collect()
    assert kept["reason"].value_counts().rows() == [("unknown product", A_DAY)]


def test_the_report_of_a_refused_day_is_published(today: Run) -> None:
    half_the_stores_missing(Path(today.source_data))
    with pytest.raises(DataContractError) as caught:
        run_locally(flow, today)
    docs = dataset.find(today, "lake/data_docs")
    assert docs.replace("_manifest.json", "report.html") in caught.value.hint
    assert dataset.manifest(docs).metrics["critical_failures"] == 1
    assert {"report.html", "data_docs/index.html"} <= set(dataset.paths(docs, "*"))


def test_a_good_day_stays_when_it_is_delivered_again_broken(today: Run, tmp_path: Path) -> None:
    run = replace(today, root=(tmp_path / "store").as_uri())
    good = run_locally(flow, run)
    unknown_products(Path(run.source_data))
    with pytest.raises(DataContractError):
        run_locally(flow, run)
    assert dataset.find(run, "lake/all") == good
    lines = dataset.scan(dataset.input_named(good, "lake/order_lines"), "by_product/*")
    assert lines.collect().height == shop.DAYS * A_DAY


def test_a_threshold_can_be_lifted_for_a_day_that_is_right(today: Run) -> None:
    shifted_currency(Path(today.source_data))
    allowed = replace(today, overrides={"ingestion": {"highest_price_ratio": 200}})
    lake = run_locally(flow, allowed)
    assert dataset.has_rows(dataset.input_named(lake, "lake/order_lines"))
