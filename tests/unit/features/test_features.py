"""Feature tables: derivable figures, and no look past the cutoff."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable
from datetime import date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecom_tasks.features import customers, demand, interactions, prices, products, tables
from ecom_tasks.features.config import FeaturesConfig
from ecom_tasks.features.lines import DTYPES, last_complete_week, numbered
from ecom_tasks.tables import Table
from tests import builders
from tests.builders import day, line, promotion

CATALOGUE = builders.products(["milk", "tea", "fuel"], sellable=[True, None, False])
HALF_LIFE = 42.0


def one(frame: pl.DataFrame, **key: object) -> dict[str, object]:
    rows = frame.filter(pl.all_horizontal(pl.col(name) == value for name, value in key.items()))
    assert rows.height == 1, f"{key}: {rows.height} rows"
    return rows.to_dicts()[0]


def built(
    table: Table,
    lines: pl.DataFrame,
    cutoff: date,
    promotions: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Build any of the feature tables from whole frames, as one bucket."""
    known, goods = lines.lazy(), CATALOGUE.lazy()
    planned = (builders.promotions([]) if promotions is None else promotions).lazy()
    builds: dict[str, Callable[[], pl.LazyFrame]] = {
        "customers": lambda: customers.build(known, goods, cutoff),
        "products": lambda: products.build(known, goods, cutoff),
        "customer_products": lambda: interactions.build(known, goods, cutoff, HALF_LIFE),
        "demand": lambda: demand.build(known, planned, goods, cutoff),
        "promotion_calendar": lambda: demand.promotion_calendar(planned, goods, cutoff, 4),
        "price_history": lambda: prices.build(known, goods, cutoff),
    }
    return builds[table.name]().collect()


HISTORY = builders.order_lines([
    line("ann", "milk", day(0), 2, 1.0, regular_price=1.5, discount=1.0),
    line("ann", "tea", day(0), 1, 4.0),
    line("ann", "milk", day(10), 1, 2.0, regular_price=2.0),
    line("ann", "milk", day(11), 1, 2.0, returned=True),
    line("ann", "fuel", day(10), 50, 1.5),
    line("bob", "milk", day(12), 3, 1.0),
    line(None, "milk", day(12), 4, 1.0, order_id="guest"),
])


def test_customer_by_hand() -> None:
    row = one(built(tables.CUSTOMERS, HISTORY, day(20)), customer_id="ann")
    assert row == {
        "cutoff": day(20),
        "customer_id": "ann",
        "orders": 2,  # the return is no order, and fuel is no goods
        "units": 2 + 1 + 1 - 1,
        "spend": 2 * 1.0 + 4.0 + 2.0 - 2.0,
        "distinct_products": 2,
        "days_since_first_order": 20,
        "days_since_last_order": 20 - 10,
        "mean_days_between_orders": 10 / 1,
        "mean_basket_spend": 6.0 / 2,
        "mean_basket_products": 3 / 2,
        "discount_share": round(1.0 / (1.0 + 8.0), 6),
        "orders_28d": 2,
    }


def test_product_by_hand() -> None:
    row = one(built(tables.PRODUCTS, HISTORY, day(12)), product_id="milk")
    assert row == {
        "cutoff": day(12),
        "product_id": "milk",
        "title": "milk",
        "category": "all",
        "brand": None,
        "customers": 2,  # the guest is nobody in particular
        "orders": 4,
        "units": 2 + 1 - 1 + 3 + 4,
        "sales": 2.0 + 2.0 - 2.0 + 3.0 + 4.0,
        "units_28d": 9,
        "customers_28d": 2,
        "repeat_customer_share": 1 / 2,
        "mean_price": 11.0 / 10,
        "last_price": round((2.0 + 3.0 + 4.0) / (1 + 3 + 4), 6),  # week of day 7 to 13
        "regular_price": (1.5 + 2.0) / 2,
        "days_since_first_sale": 12,
        "days_since_last_sale": 0,
        "mean_days_between_purchases": 10,  # of ann alone
        "again_share": 0,
        "discounted_share": 1 / 4,
    }


def test_customer_product_by_hand() -> None:
    row = one(built(tables.CUSTOMER_PRODUCTS, HISTORY, day(38)), customer_id="ann",
              product_id="milk")  # fmt: skip
    assert row == {
        "cutoff": day(38),
        "customer_id": "ann",
        "product_id": "milk",
        "orders": 2,
        "units": 2 + 1 - 1,
        "spend": 2.0 + 2.0 - 2.0,
        "days_since_first_order": 38,
        "days_since_last_order": 28,
        "mean_days_between_orders": 10,
        "orders_28d": 0,  # 28 days up to and with day 38 begin on day 11
        "orders_84d": 2,
        "recency_weighted_orders": round(0.5 ** (38 / 42) + 0.5 ** (28 / 42), 6),
        "fast_weighted_orders": round(0.5 ** (38 / 14) + 0.5 ** (28 / 14), 6),
        "slow_weighted_orders": round(0.5 ** (38 / 84) + 0.5 ** (28 / 84), 6),
        "median_days_between_orders": 10,  # the return ends no gap
        "longest_days_between_orders": 10,
        "std_days_between_orders": None,
        "discounted_share": 1 / 2,
    }


def test_gaps_and_returning_customers_by_hand() -> None:
    days = {"ann": (0, 10, 14, 40), "bob": (1,), "cat": (59,)}
    lines = builders.order_lines([
        line(who, what, day(on)) for who, on_days in days.items() for on in on_days
        for what in ("tea", "milk")
    ])  # fmt: skip
    row = one(built(tables.CUSTOMER_PRODUCTS, lines, day(60)), customer_id="ann", product_id="milk")
    gaps = [10, 4, 26]
    assert row["median_days_between_orders"] == 10
    assert row["longest_days_between_orders"] == 26
    assert row["std_days_between_orders"] == pytest.approx(statistics.stdev(gaps), abs=1e-6)
    milk = one(built(tables.PRODUCTS, lines, day(60)), product_id="milk")
    # Of ann and bob only ann came back in the last 28 days, which began on day 33.
    assert milk["again_share"] == pytest.approx(1 / (2 + 5), abs=1e-6)


def test_two_lines_of_one_order_are_one_order() -> None:
    twice = builders.order_lines([line("ann", "milk", day(0)), line("ann", "milk", day(0))])
    row = one(built(tables.CUSTOMER_PRODUCTS, twice, day(0)), customer_id="ann")
    assert (row["orders"], row["units"], row["orders_28d"]) == (1, 2, 1)
    assert row["mean_days_between_orders"] is None


def test_a_customer_or_product_with_returns_only_has_no_row() -> None:
    back = builders.order_lines([line("ann", "milk", day(0), returned=True)])
    for table in (tables.CUSTOMERS, tables.PRODUCTS, tables.CUSTOMER_PRODUCTS):
        assert built(table, back, day(1)).is_empty()
    assert one(built(tables.DEMAND, back, day(6)), product_id="milk")["units"] == -1


def test_demand_by_hand() -> None:
    lines = builders.order_lines([
        line("ann", "milk", day(0), 2, 1.0, location_id="north", regular_price=1.25),
        line("bob", "milk", day(6), 2, 1.0, location_id="north", regular_price=1.25),
        line("bob", "milk", day(6), 1, 1.0, location_id="south", regular_price=None),
        line("ann", "milk", day(20), 7, 1.0, location_id="north"),
        line("ann", "milk", day(21), 7, 1.0, location_id="north"),
    ])
    plan = builders.promotions([
        promotion("milk", day(5), day(8), mechanic="mailer"),  # everywhere, weeks 0 and 1
        promotion("milk", day(7), day(13), location_id="south"),
        promotion("milk", day(7), day(13), location_id="west"),  # never sold there
    ])
    frame = built(tables.DEMAND, lines, day(26), plan)  # day 26 is a Saturday
    weeks = frame.select("location_id", "week_starts_on", "units", "display", "mailer").rows()
    assert weeks == [
        ("north", day(0), 4, 0, 1),
        ("north", day(7), 0, 0, 1),
        ("north", day(14), 7, 0, 0),
        ("south", day(0), 1, 0, 1),
        ("south", day(7), 0, 1, 1),
    ]
    first = frame.row(0, named=True)
    assert first["sales"] == 4.0
    assert first["orders"] == 2
    assert first["discount_depth"] == round(1 - 1.0 / 1.25, 6)
    empty_week = frame.row(1, named=True)
    assert (empty_week["unit_price"], empty_week["discount_depth"]) == (None, None)
    assert frame.row(3, named=True)["regular_price"] is None


def test_promotion_calendar_counts_locations_and_stops_at_the_horizon() -> None:
    plan = builders.promotions([
        promotion("milk", day(7), day(20), location_id="north", announced_on=day(1)),
        promotion("milk", day(14), day(14), location_id="south", announced_on=day(3)),
        promotion("milk", day(14), day(999), location_id="west", mechanic="coupon"),
        promotion("milk", day(28), day(34), location_id="north"),  # announced when it starts
        promotion("fuel", day(7), day(7)),
    ])
    rows = built(tables.PROMOTION_CALENDAR, HISTORY, day(20), plan)
    assert rows.select(
        "week_starts_on", "display_locations", "coupon_locations", "announced_on"
    ).rows() == [
        (day(7), 1, 0, day(1)),
        (day(14), 2, 1, day(14)),
        (day(21), 0, 1, day(14)),
        (day(28), 0, 1, day(14)),
        (day(35), 0, 1, day(14)),
        (day(42), 0, 1, day(14)),  # four weeks after the last complete one
    ]


def test_price_history_compares_locations_and_leaves_returns_out() -> None:
    lines = builders.order_lines([
        line("ann", "milk", day(0), 1, 1.0, location_id="north", regular_price=2.0),
        line("bob", "milk", day(1), 3, 3.0, location_id="north", regular_price=4.0),
        line("bob", "milk", day(2), 4, 1.0, location_id="south"),
        line("bob", "milk", day(3), 4, 9.0, location_id="south", returned=True),
    ])
    row = one(built(tables.PRICE_HISTORY, lines, day(6)), product_id="milk")
    assert row["units"] == 8
    assert row["unit_price"] == (1 * 1 + 3 * 3 + 4 * 1) / 8
    assert row["regular_price"] == (1 * 2 + 3 * 4) / 4
    assert (row["lowest_price"], row["highest_price"]) == (1.0, (1 * 1 + 3 * 3) / 4)


@pytest.mark.parametrize(
    ("as_of", "monday"),
    [(day(6), day(0)), (day(7), day(0)), (day(12), day(0)), (day(13), day(7))],
)
def test_last_complete_week(as_of: date, monday: date) -> None:
    assert last_complete_week(as_of) == monday


def test_cutoffs_start_at_as_of() -> None:
    config = FeaturesConfig(snapshots=3, snapshot_days=28)
    assert config.cutoffs(day(56)) == [day(56), day(28), day(0)]


ALL = list(tables.FEATURES.values())
shopping = st.lists(
    st.builds(
        line,
        customer=st.sampled_from(["ann", "bob", None]),
        product=st.sampled_from(["milk", "tea", "fuel"]),
        on=st.integers(0, 60).map(day),
        quantity=st.integers(1, 5),
        unit_price=st.sampled_from([0.0, 0.1, 0.7, 1.3, 2.9]),
        returned=st.sampled_from([None, False, True]),
        location_id=st.sampled_from([None, "north", "south"]),
        regular_price=st.sampled_from([None, 3.1]),
        discount=st.sampled_from([None, 0.3]),
    ),
    max_size=30,
)
plans = st.lists(
    st.builds(
        lambda product, first, days, lead, **other: promotion(
            product, day(first), day(first + days), announced_on=day(first - lead), **other
        ),
        product=st.sampled_from(["milk", "tea", "fuel"]),
        first=st.integers(0, 60),
        days=st.integers(0, 20),
        lead=st.integers(0, 28),
        mechanic=st.sampled_from(demand.MECHANICS),
        location_id=st.sampled_from(["all", "north"]),
    ),
    max_size=8,
    unique_by=lambda row: tuple(row[column] for column in builders.tables.PROMOTIONS.key),
)


def written(frame: pl.DataFrame) -> bytes:
    target = io.BytesIO()
    frame.write_parquet(target)
    return target.getvalue()


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
@settings(max_examples=25, deadline=None)
@given(rows=shopping, plan=plans, cut=st.integers(0, 60))
def test_the_future_does_not_change_a_byte(
    table: Table, rows: list[dict[str, object]], plan: list[dict[str, object]], cut: int
) -> None:
    lines, planned = builders.order_lines(rows), builders.promotions(plan)
    midnight = datetime.combine(day(cut + 1), datetime.min.time())
    past = lines.filter(pl.col("ordered_at") < midnight)
    announced = planned.filter(pl.col("announced_on") <= day(cut))
    with_future = built(table, lines, day(cut), planned)
    assert written(with_future) == written(built(table, past, day(cut), announced))


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
@settings(max_examples=25, deadline=None)
@given(rows=shopping, plan=plans, shuffle=st.randoms(use_true_random=False))
def test_columns_types_keys_and_bytes_follow_the_contract(
    table: Table, rows: list[dict[str, object]], plan: list[dict[str, object]], shuffle: object
) -> None:
    lines, planned = builders.order_lines(rows), builders.promotions(plan)
    frame = built(table, lines, day(60), planned)
    expected = {column.name: DTYPES[column.type]() for column in table.columns}
    assert dict(frame.schema) == expected
    assert not frame.select(table.key).is_duplicated().any()
    for column in table.columns:
        assert column.nullable or frame[column.name].null_count() == 0, column.name
        assert column.type != "float" or not frame[column.name].is_nan().any(), column.name
    assert "fuel" not in frame.get_column("product_id", default=pl.Series(["none"]))
    shuffle.shuffle(rows)  # type: ignore[attr-defined]
    again = built(table, builders.order_lines(rows), day(60), planned)
    assert written(frame) == written(again)


@settings(max_examples=25, deadline=None)
@given(rows=shopping)
def test_units_are_the_same_in_every_table(rows: list[dict[str, object]]) -> None:
    lines = builders.order_lines(rows)
    weekly = built(tables.DEMAND, lines, day(62))  # a Sunday: all weeks are complete
    total = built(tables.PRODUCTS, lines, day(62))
    sold = total.join(weekly, on="product_id", suffix="_weekly")
    assert sold["units_weekly"].sum() == pytest.approx(total["units"].sum())
    assert sold["sales_weekly"].sum() == pytest.approx(total["sales"].sum())


def test_the_last_second_of_the_cutoff_counts_and_midnight_does_not() -> None:
    last = datetime.combine(day(6), datetime.max.time())
    midnight = datetime.combine(day(7), datetime.min.time())
    rows = [
        line("ann", "milk", day(6), ordered_at=last, order_id="a"),
        line("ann", "milk", day(6), ordered_at=midnight, order_id="b"),
    ]
    found = built(tables.CUSTOMERS, builders.order_lines(rows), day(6))
    assert one(found, customer_id="ann")["orders"] == 1


@pytest.mark.parametrize(("announced", "weeks"), [(day(13), 1), (day(14), 0)])
def test_a_promotion_is_known_from_the_day_of_its_announcement(announced: date, weeks: int) -> None:
    plan = builders.promotions([promotion("milk", day(14), day(20), announced_on=announced)])
    assert built(tables.PROMOTION_CALENDAR, HISTORY, day(13), plan).height == weeks


def test_orders_gathered_once_serve_every_earlier_cutoff() -> None:
    # One order was added to on the next day, another was returned in part.
    lines = builders.order_lines([
        line("ann", "milk", day(0), 1, 2.0, order_id="a"),
        line("ann", "milk", day(1), 2, 3.0, order_id="a", discount=1.0),
        line("ann", "tea", day(1), 1, 4.0, order_id="a"),
        line("ann", "milk", day(5), 1, 2.0, order_id="b"),
        line("ann", "milk", day(5), 1, 2.0, order_id="c"),
        line("ann", "milk", day(6), 1, 2.0, order_id="b", returned=True),
        line("bob", "milk", day(3), 1, 2.0, order_id="d", returned=True),
        line(None, "milk", day(3), 1, 2.0, order_id="e"),
    ])
    gathered = interactions.orders(lines.lazy(), CATALOGUE.lazy(), day(9))
    for cutoff in map(day, range(-1, 10)):
        at = interactions.build_at(gathered, cutoff, HALF_LIFE).collect()
        assert at.equals(built(tables.CUSTOMER_PRODUCTS, lines, cutoff))
        assert at.equals(at.sort(tables.CUSTOMER_PRODUCTS.key))
    at = {cutoff: interactions.build_at(gathered, day(cutoff), HALF_LIFE).collect()
          for cutoff in (0, 1, 9)}  # fmt: skip
    milk = {cutoff: one(rows, product_id="milk") for cutoff, rows in at.items()}
    assert (milk[0]["units"], milk[0]["discounted_share"]) == (1, 0.0)
    assert (milk[1]["units"], milk[1]["discounted_share"]) == (1 + 2, 1.0)
    assert (milk[1]["orders"], milk[1]["days_since_last_order"]) == (1, 1)  # of the first day
    assert (milk[9]["orders"], milk[9]["units"]) == (3, 1 + 2 + 1 + 1 - 1)
    assert milk[9]["mean_days_between_orders"] == 5 / 1  # two orders of one day are one gap
    assert milk[9]["median_days_between_orders"] == 5


@pytest.mark.parametrize("table", [tables.CUSTOMERS, tables.PRODUCTS])
def test_numbers_are_counted_as_identifiers_are(table: Table) -> None:
    names = ["order_id"] if table == tables.CUSTOMERS else ["order_id", "customer_id"]
    counted = numbered(HISTORY.lazy(), *names).collect()
    assert counted.select(names).null_count().equals(HISTORY.select(names).null_count())
    assert built(table, counted, day(20)).equals(built(table, HISTORY, day(20)))
