"""The weekly panel and the judgement on its prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecom_tasks.features.tables import DEMAND
from ecom_tasks.pricing import controls, nuisance, panel, variation
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.tables import PRICES
from tests import builders
from tests.unit.pricing import simulated

CONFIG = PricingConfig()
LATE = date(2100, 1, 1)


def week(number: int) -> date:
    return builders.day(7 * number)


def demand(rows: Sequence[Mapping[str, object]]) -> pl.LazyFrame:
    usual: dict[str, object] = {
        "product_id": "p", "location_id": "a", "week_starts_on": week(0), "units": 1.0,
        "unit_price": 1.0, "median_price": 1.0,
        "display": 0.0, "mailer": 0.0, "price_cut": 0.0, "coupon": 0.0,
    }  # fmt: skip
    return builders.table(DEMAND, [usual | dict(row) for row in rows]).lazy()


def weekly(rows: Sequence[Mapping[str, object]], level: str = "product") -> pl.DataFrame:
    return panel.weekly(demand(rows), level, LATE)


def prices(values: Sequence[float | None], **other: object) -> pl.DataFrame:
    """A panel of one product with these prices, one a week; None is a week without sale."""
    rows = pl.DataFrame({
        "product_id": "p",
        "location_id": "all",
        "week_starts_on": [week(number) for number in range(len(values))],
        "price": pl.Series(values, dtype=pl.Float64),
        "units": 2.0,
        "price_locations": 1.0,
        "price_spread": pl.Series([None] * len(values), dtype=pl.Float64),
        "price_mixed": 0.0,
        "mailer": 0.0,
    }).with_columns(**{name: pl.lit(value) for name, value in other.items()})
    return rows.drop_nulls("price")


def test_a_week_costs_what_was_told_by_its_monday() -> None:
    costs = builders.table(PRICES, [
        {"product_id": "p", "location_id": place, "valid_from": day, "regular_price": 3.0,
         "unit_cost": cost}
        for place, day, cost in (
            ("a", week(0), 2.0), ("a", week(2), 2.5), ("b", week(1), 3.0),
            ("b", week(2) + timedelta(days=1), 4.0), ("b", week(3), None),
        )
    ]).lazy()  # fmt: skip
    rows = demand([{"location_id": place, "week_starts_on": week(n)}
                   for place in ("a", "b", "c") for n in range(4)])  # fmt: skip
    each = panel.with_costs(panel.weekly(rows, "product_location", LATE), costs)
    told = {place: each.filter(pl.col("location_id") == place)["unit_cost"].to_list()
            for place in ("a", "b", "c")}  # fmt: skip
    assert told["a"] == [2.0, 2.0, 2.5, 2.5]
    assert told["b"] == [None, 3.0, 3.0, 4.0]
    assert told["c"] == [None] * 4
    # Of all locations together: the mean of those known.
    whole = panel.with_costs(panel.weekly(rows, "product", LATE), costs)
    assert whole["unit_cost"].to_list() == [2.0, (2 + 3) / 2, (2.5 + 3) / 2, (2.5 + 4) / 2]
    newest = {day: panel.newest_costs(costs, day).collect().rows() for day in (week(2), week(3))}
    assert newest == {week(2): [("p", (2.5 + 3) / 2)], week(3): [("p", (2.5 + 4) / 2)]}


def test_the_price_is_the_median_of_locations_whatever_each_sells() -> None:
    [row] = weekly([
        {"location_id": "a", "units": 90.0, "median_price": 1.0, "unit_price": 0.5},
        {"location_id": "b", "units": 1.0, "median_price": 4.0, "unit_price": 4.0},
        {"location_id": "c", "units": 1.0, "median_price": 2.0, "unit_price": 2.0},
    ]).to_dicts()
    assert row["price"] == 2.0
    assert row["units"] == 90.0 + 1.0 + 1.0
    assert row["location_id"] == "all"
    # In one of three locations the mean price paid is not the median one.
    assert row["price_mixed"] == pytest.approx(1 / 3, abs=1e-6)
    logs = np.log([1.0, 4.0, 2.0])
    assert row["price_spread"] == pytest.approx(logs.var(ddof=1), abs=1e-6)


def test_promotion_counts_by_usual_units_also_where_nothing_sold() -> None:
    rows = [
        {"location_id": "a", "units": 3.0},
        {"location_id": "b", "units": 1.0},
        {"location_id": "b", "week_starts_on": week(1), "units": 1.0},
        {"location_id": "a", "week_starts_on": week(1), "units": 0.0, "median_price": None,
         "unit_price": None, "mailer": 1.0},
    ]  # fmt: skip
    second = weekly(rows).filter(pl.col("week_starts_on") == week(1))
    # a sold 3 of the 5 units, b 2; only a ran the mailer.
    assert second["mailer"].to_list() == [pytest.approx(3 / 5)]
    assert second["units"].to_list() == [1.0]


def test_what_is_held_out_does_not_weigh_locations() -> None:
    before = [{"location_id": "a", "units": 3.0}, {"location_id": "b", "units": 1.0}]
    after = [
        {"location_id": name, "week_starts_on": week(1), "units": units, "mailer": mailer}
        for name, units, mailer in (("a", 1.0, 1.0), ("b", 50.0, 0.0))
    ]
    rows = panel.weekly(demand(before + after), "product", week(1))
    assert rows["mailer"].to_list() == [0.0, pytest.approx(3 / 4)]


@pytest.mark.parametrize("price", [0.0, -2.0, None])
@pytest.mark.parametrize("units", [0.0, -1.0])
def test_rows_without_price_or_sale_are_left_out_and_counted(
    price: float | None, units: float
) -> None:
    rows = demand([
        {"units": 5.0},
        {"location_id": "b", "units": 4.0, "median_price": price},
        {"location_id": "c", "units": units},
    ])
    [kept] = panel.weekly(rows, "product", LATE).to_dicts()
    assert (kept["units"], kept["price"]) == (5.0, 1.0)
    assert panel.broken(rows) == {
        "more returned than sold": int(units < 0),
        "sold without a price above zero": 1,
    }


def test_a_series_can_be_a_product_at_a_location() -> None:
    rows = weekly(
        [{"location_id": "a", "units": 2.0, "mailer": 1.0}, {"location_id": "b", "units": 3.0}],
        "product_location",
    )
    assert rows.select("location_id", "units", "mailer").rows() == [
        ("a", 2.0, 1.0),
        ("b", 3.0, 0.0),
    ]


@pytest.mark.parametrize(("steady", "level"), [(6, "product_location"), (2, "product")])
def test_parts_of_products_decide_the_level_together(steady: int, level: str) -> None:
    """Of 12 products in five places, `steady` sell in every week, the others in every second."""
    rows = [
        {"product_id": f"p{number}", "location_id": place, "week_starts_on": week(n), "units": 4.0}
        for number in range(12) for place in "abcde"
        for n in range(0, 20, 1 if number < steady else 2)
    ]  # fmt: skip
    # Of each part alone the answer would be another than of the next.
    parts = [[row for row in rows if int(str(row["product_id"])[1:]) // 4 == part]
             for part in range(3)]  # fmt: skip
    assert panel.level_of([demand(rows)]) == level
    assert panel.level_of([demand(each) for each in parts]) == level
    # Four places are too few, whatever is sold there.
    few = [demand([row for row in each if row["location_id"] != "e"]) for each in parts]
    assert panel.level_of(few) == "product"


def test_nothing_sold_has_a_level_too() -> None:
    returned = demand([{"units": -1.0}])
    assert panel.level_of([]) == panel.level_of([returned]) == "product"


def test_a_first_week_covered_in_part_is_dropped() -> None:
    full = prices([1.0] * 6)
    first = pl.col("week_starts_on") == week(0)
    half = full.with_columns(pl.when(first).then(0.9).otherwise(pl.col("units")).alias("units"))
    assert panel.first_whole_week(full.select("week_starts_on", "units")) == week(0)
    assert panel.first_whole_week(half.select("week_starts_on", "units")) == week(1)


def test_quiet_weeks_count_as_zero_only_where_the_price_is_beyond_doubt() -> None:
    same, other, long = [2.0, None, None, 2.0], [2.0, None, 3.0], [2.0, *[None] * 4, 2.0]
    filled = panel.fill_quiet_weeks(prices(same), longest=3)
    assert filled["units"].to_list() == [2.0, 0.0, 0.0, 2.0]
    assert filled["price"].to_list() == [2.0] * 4
    assert filled["week_starts_on"].to_list() == [week(number) for number in range(4)]
    assert filled["sold"].to_list() == [True, False, False, True]
    assert panel.fill_quiet_weeks(prices(other), longest=3).height == 2
    assert panel.fill_quiet_weeks(prices(long), longest=3).height == 2
    assert panel.fill_quiet_weeks(prices(long), longest=4).height == 6
    assert panel.fill_quiet_weeks(prices(same), longest=0)["sold"].all()


@pytest.mark.parametrize(
    ("path", "category", "department"),
    [
        ("GROCERY/YOGURT/GREEK", "GROCERY/YOGURT", "GROCERY"),
        ("Bag", "Bag", "Bag"),
        (None, "unknown", "unknown"),
    ],
)
def test_a_category_is_the_second_level(path: str | None, category: str, department: str) -> None:
    catalogue = pl.DataFrame({"product_id": ["p"], "category": pl.Series([path], dtype=pl.String)})
    [row] = panel.with_catalogue(prices([1.0]), catalogue).to_dicts()
    assert (row["category"], row["department"]) == (category, department)


def test_windows_are_the_last_weeks() -> None:
    last = panel.last_complete_week(date(2017, 12, 24))
    assert last == date(2017, 12, 18)
    assert panel.last_complete_week(date(2017, 12, 23)) == date(2017, 12, 11)
    assert panel.cutoffs(last, 2, 4) == [date(2017, 10, 30), date(2017, 11, 27)]


MOVING = [2.0, 2.0, 2.0, 1.5] * 8  # 8 of 32 weeks off the median, by 29%


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (prices(MOVING), "enough"),
        (prices(MOVING[:24]), "fewer than 26 weeks"),
        (prices([*MOVING[:-1], *[None] * 20, 2.0]), "less than 75%"),
        (prices([2.0] * 32), "moved in fewer than 6 weeks"),
        (prices([2.0, 2.0, 2.0, 2.0 * 1.04] * 8), "moved in fewer than 6 weeks"),
        (prices([2.0, 2.0, 2.0, 2.0 * 1.06] * 8), "enough"),
        (prices(MOVING, price_mixed=0.51), "different prices in the same week"),
        (prices(MOVING, price_spread=0.1), "locations disagree"),
        (prices(MOVING, price_spread=0.1, price_locations=20.0), "enough"),
    ],
    ids=["enough", "short", "gaps", "one", "4%", "6%", "mixed", "spread", "many"],
)
def test_variation_is_judged_from_prices(rows: pl.DataFrame, expected: str) -> None:
    [judged] = variation.products(rows, CONFIG)["variation"].to_list()
    assert expected in judged


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.5, 100), min_size=32, max_size=32))
def test_variation_never_looks_at_units(units: list[float]) -> None:
    rows = prices(MOVING)
    other = rows.with_columns(pl.Series("units", units))
    assert variation.products(rows, CONFIG).equals(variation.products(other, CONFIG))


def test_a_category_needs_three_products_that_moved() -> None:
    judged = pl.DataFrame({"product_id": list("abcde"), "variation": ["enough"] * 5})
    catalogue = pl.DataFrame({
        "product_id": list("abcde"), "category": ["x", "x", "x", "y", "y"], "department": "d",
    })  # fmt: skip
    found = variation.categories(judged, catalogue, CONFIG)
    assert found["variation"].to_list()[0] == "enough"
    assert "fewer than 3 products" in found["variation"].to_list()[1]


def test_a_price_that_nothing_foretells_is_not_foretold() -> None:
    rng = np.random.default_rng(0)
    rows, _ = simulated.panel(0, products=12, weeks=60)
    noise = np.exp(rng.normal(0, 0.2, rows.height))
    unforeseeable = rows.with_columns(pl.Series("price", noise), mailer=0.0)
    fitted = simulated.fitted_rows(unforeseeable, CONFIG)
    # The mean of six products has a sixth of each in it, and no more may be found.
    told = nuisance.explained(nuisance.moments(fitted))
    assert told["price"] < 1 / 6
    halves = [nuisance.moments(part) for part in (fitted[:100], fitted[100:])]
    assert nuisance.explained(pl.concat(halves)) == pytest.approx(told)


def test_neighbours_do_not_give_the_own_price_away() -> None:
    """A mean that leaves the row out differs within a week by that row alone.

    A model that also knows the week would read the own price off it, with the sign turned.
    """
    rows, _ = simulated.panel(0, products=12, weeks=20)
    before = simulated.START + timedelta(weeks=16)
    prepared = controls.prepare(panel.fill_quiet_weeks(rows, 3), before, CONFIG)
    taught = prepared.filter(pl.col("week_starts_on") < before)
    for name in ("category_price", "category_demand", "department_demand"):
        each = taught.group_by("category", "week_starts_on").agg(pl.col(name).n_unique())
        assert each[name].to_list() == [1] * (2 * 16)


def test_what_neighbours_sell_is_taken_at_their_usual_price() -> None:
    """Siblings reduced together sell more; that must not pass for a good season."""
    values = [2.0, 2.0, 1.5, 2.0, 1.6] * 6
    parts = [
        prices(values, product_id=name, category="c", department="d", regular_price=2.0,
               display=0.0, price_cut=0.0, coupon=0.0)
        for name in ("p", "q", "r")
    ]  # fmt: skip
    rows = pl.concat(parts).with_columns((100 * pl.col("price") ** -1.5).alias("units"))
    prepared = controls.prepare(panel.fill_quiet_weeks(rows, 3), LATE, CONFIG)
    told = prepared["category_demand"]
    assert told.max() - told.min() < 1e-5  # type: ignore[operator]
    assert prepared["demand"].max() / prepared["demand"].min() == pytest.approx((2 / 1.5) ** 1.5)  # type: ignore[operator]


def test_held_out_rows_are_not_told_their_own_units() -> None:
    rows, _ = simulated.panel(3, products=6, weeks=20)
    before = simulated.START + timedelta(weeks=16)
    chosen = (pl.col("product_id") == "p000") & (pl.col("week_starts_on") == before)
    busier = rows.with_columns(pl.when(chosen).then(1000.0).otherwise("units").alias("units"))
    names = ["category_demand", "category_price", "department_demand"]

    def told(frame: pl.DataFrame, product: str) -> list[object]:
        prepared = controls.prepare(panel.fill_quiet_weeks(frame, 3), before, CONFIG)
        at = (pl.col("product_id") == product) & (pl.col("week_starts_on") == before)
        return list(prepared.filter(at).select(names).row(0))

    assert told(busier, "p000") == told(rows, "p000")
    assert told(busier, "p002") != told(rows, "p002")  # a neighbour in the same category


def test_levels_come_from_before_the_cutoff_only() -> None:
    rows, _ = simulated.panel(4, products=6, weeks=20)
    before = simulated.START + timedelta(weeks=16)
    later = pl.col("week_starts_on") >= before
    other = rows.with_columns(
        pl.when(later).then(pl.col("units") * 7).otherwise("units").alias("units")
    )
    levels = ["product_id", "week_starts_on", "usual_units", "weight", "price_level", "log_price"]
    first, second = (
        controls.prepare(panel.fill_quiet_weeks(frame, 3), before, CONFIG).select(levels)
        for frame in (rows, other)
    )
    assert first.equals(second)


@pytest.mark.parametrize("by", ["product", "time"])
def test_folds_part_what_they_say(by: str) -> None:
    rows, _ = simulated.panel(5, products=10, weeks=30)
    config = PricingConfig(cross_fit_by=by)  # type: ignore[arg-type]
    parted = rows.with_columns(pl.Series("fold", nuisance.folds(rows, config)))
    together = "product_id" if by == "product" else "week_starts_on"
    assert parted.group_by(together).agg(pl.col("fold").n_unique())["fold"].max() == 1
    assert sorted(parted["fold"].unique()) == [0, 1, 2]
    if by == "time":
        week_of = pl.col("week_starts_on")
        spans = parted.group_by("fold").agg(
            week_of.min().alias("first"), week_of.max().alias("last")
        )
        spans = spans.sort("fold")
        assert (spans["last"].shift(1).drop_nulls() < spans["first"][1:]).all()
