"""What came true, on orders made by hand."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from ecom_tasks import tables
from ecom_tasks.monitoring import realised
from ecom_tasks.monitoring.config import MonitoringConfig
from tests.builders import day, line, order_lines, table

CONFIG = MonitoringConfig(resamples=50)
SUNDAY = day(6)


def promised(
    rows: list[tuple[str, str, date, float]], period: str = "week_starts_on"
) -> pl.LazyFrame:
    made = pl.DataFrame(
        rows, schema=["product_id", "location_id", period, "mean"], orient="row"
    )  # fmt: skip
    return made.lazy().with_columns(q10=pl.col("mean") - 1, q90=pl.col("mean") + 1)


def test_weeks_that_are_not_over_are_not_judged_and_no_sale_is_zero() -> None:
    demand = pl.LazyFrame({
        "product_id": ["milk", "milk", "tea"], "location_id": ["north", "south", "north"],
        "week_starts_on": [day(7), day(7), day(0)], "units": [3.0, 2.0, 9.0],
    })  # fmt: skip
    forecasts = promised([
        ("milk", "all", day(7), 4.0), ("milk", "all", day(14), 4.0), ("tea", "all", day(7), 1.0),
        ("of another bucket", "all", day(7), 1.0),
    ])  # fmt: skip
    found = realised.forecasts_of_bucket(demand, forecasts, day(13))
    assert found.select("product_id", "units", "mean").rows() == [
        ("milk", 3.0 + 2.0, 4.0), ("tea", 0.0, 1.0),
    ]  # fmt: skip
    assert realised.forecasts_of_bucket(demand, forecasts, day(12)).is_empty()


def test_forecasts_of_places_are_judged_by_place() -> None:
    demand = pl.LazyFrame({
        "product_id": ["milk", "milk"], "location_id": ["north", "south"],
        "week_starts_on": [day(7), day(7)], "units": [3.0, 2.0],
    })  # fmt: skip
    forecasts = promised([("milk", "north", day(7), 3.0), ("milk", "south", day(7), 2.0)])
    found = realised.forecasts_of_bucket(demand, forecasts, day(13))
    judged = realised.judge_forecasts(
        found, pl.DataFrame({"product_id": ["milk"], "category": ["a/b"]})
    )
    assert judged.filter(part="all").select("wape", "coverage").rows() == [(0.0, 1.0)]
    assert judged.filter(part="department")["of"].to_list() == ["a"]


def test_days_are_judged_by_lines_with_returns_taken_off() -> None:
    lines = order_lines([
        line("ann", "milk", day(7), 5), line("ann", "milk", day(8), 2, returned=True),
    ]).lazy()  # fmt: skip
    forecasts = promised([("milk", "all", day(n), 1.0) for n in (7, 8, 9)], "day")
    found = realised.forecasts_of_bucket(realised.daily(lines), forecasts, day(8))
    assert found["units"].sort().to_list() == [-2.0, 5.0]
    assert set(found["week_starts_on"]) == {day(7)}


def lists(rows: list[tuple[str, str, int]]) -> pl.LazyFrame:
    made = pl.DataFrame(rows, schema=["customer_id", "product_id", "rank"], orient="row")
    return made.lazy().with_columns(generator=pl.lit("repeat"))


def test_who_and_what_no_list_could_know_is_counted_and_left_out() -> None:
    lines = order_lines([
        line("ann", "milk", day(7)), line("ann", "new", day(8)), line("bob", "tea", day(9)),
        line("newcomer", "milk", day(9)), line("cat", "new", day(9)),
        line(None, "milk", day(9), order_id="guest"),
        line("ann", "tea", SUNDAY), line("bob", "milk", day(14)),
        line("bob", "milk", day(10), returned=True),
    ])  # fmt: skip
    shown = lists([("ann", "tea", 1), ("ann", "milk", 2), ("bob", "milk", 1), ("cat", "milk", 1)])
    known = pl.LazyFrame({"product_id": ["milk", "tea"]})
    found = realised.lists_of_bucket(lines.lazy(), shown, known, SUNDAY, day(13))
    # Ann's milk is a hit at 2; bob bought tea; cat and the newcomer cannot be judged.
    assert found.hit.tolist() == [1.0, 0.0]
    assert found.ndcg[0] == pytest.approx(0.6309, abs=1e-4)  # 1 / log2(3)
    assert (found.new_customers, found.left_out) == (1, 2)
    told, facts = realised.judge_lists([found, found], CONFIG)
    assert told.filter(part="place").select("of", "shown", "bought", "share").rows() == [
        ("01", 4, 0, 0.0), ("02", 2, 2, 1.0),
    ]  # fmt: skip
    assert (facts["customers"], facts["hit_rate"], facts["new_customers"]) == (4, 0.5, 2)
    assert facts["hit_rate_lower"] <= 0.5 <= facts["hit_rate_upper"]


def test_a_bucket_in_which_nobody_bought_says_so() -> None:
    nothing = table(tables.ORDER_LINES, []).lazy()
    found = realised.lists_of_bucket(
        nothing, lists([("ann", "tea", 1)]), pl.LazyFrame({"product_id": ["tea"]}), SUNDAY, day(13)
    )
    told, facts = realised.judge_lists([found], CONFIG)
    assert told.is_empty()
    assert facts == {"customers": 0, "new_customers": 0, "left_out": 0}


def test_a_lower_share_by_chance() -> None:
    # z = -.1 / sqrt(.45 * .55 * (1/100 + 1/100)) = -1.4213
    assert realised.lower_by_chance(0.4, 100, 0.5, 100) == pytest.approx(0.0776, abs=1e-4)
    assert realised.lower_by_chance(0.6, 100, 0.5, 100) > 0.5
    assert realised.lower_by_chance(1.0, 10, 1.0, 10) == 0.5


def test_weeks_are_whole() -> None:
    assert realised.whole_weeks(SUNDAY, day(13)) == 1
    assert realised.whole_weeks(SUNDAY, day(12)) == 0
    assert realised.whole_weeks(day(7), day(20)) == 1
    assert realised.whole_weeks(SUNDAY, day(6 + 28)) == 4


def proposal(
    name: str, current: float, proposed: float, weekly: float, change: float
) -> dict[str, Any]:
    return {
        "product_id": name, "current_price": current, "proposed_price": proposed,
        "change": proposed / current - 1, "weekly_units": weekly, "units_change": change,
        "units_change_lower": change - 1, "units_change_upper": change + 1,
    }  # fmt: skip


def test_prices_followed_are_judged_at_the_level_of_those_kept() -> None:
    proposals = pl.DataFrame([
        proposal("kept", 1.0, 1.0, 100.0, 0.0),
        proposal("as expected", 1.0, 0.9, 100.0, 20.0),
        proposal("far below", 1.0, 0.9, 100.0, 20.0),
        proposal("stayed", 1.0, 1.1, 100.0, -10.0),
        proposal("elsewhere", 1.0, 1.1, 100.0, -10.0),
        proposal("unsold", 1.0, 1.1, 100.0, -10.0),
        # Old and new price are nearer to each other than prices are told apart.
        proposal("hair", 1.0, 1.012, 100.0, -50.0),
        proposal("hair kept", 1.0, 1.012, 100.0, -50.0),
    ])  # fmt: skip
    sold = pl.DataFrame({
        "product_id": [
            "kept", "as expected", "far below", "stayed", "elsewhere", "hair", "hair kept",
        ],
        "units": [400.0, 480.0, 100.0, 400.0, 400.0, 200.0, 400.0],
        "price": [1.0, 0.9, 0.905, 1.005, 1.3, 1.009, 1.004],
    })  # fmt: skip
    found, facts = realised.judge_prices(proposals, sold, 2, CONFIG)
    # Over two weeks the kept sold 400 each instead of 200: twice the level.
    assert (facts["level"], facts["spread"], facts["kept"]) == (2.0, 1.0, 3)
    assert (facts["proposed"], facts["followed"], facts["not_followed"]) == (7, 3, 4)
    rows = {row["product_id"]: row for row in found.to_dicts()}
    assert set(rows) == {"as expected", "far below", "hair"}
    right = rows["as expected"]
    assert right["expected"] == 2 * 2 * (100 + 20)
    # Ends of the elasticity's interval, and 1.96 standard deviations of a count beyond them.
    assert right["lower"] == pytest.approx(476 - 1.959964 * 476**0.5, abs=1e-3)
    assert right["upper"] == pytest.approx(484 + 1.959964 * 484**0.5, abs=1e-3)
    assert [rows[name]["outside"] for name in ("as expected", "far below")] == [False, True]
    assert facts["outside"] == pytest.approx(1 / 3, abs=1e-6)


def test_units_that_spread_more_than_counts_widen_the_interval() -> None:
    proposals = pl.DataFrame([
        proposal("a", 1.0, 1.0, 100.0, 0.0), proposal("b", 1.0, 1.0, 100.0, 0.0),
        proposal("c", 1.0, 0.9, 100.0, 0.0),
    ])  # fmt: skip
    sold = pl.DataFrame({
        "product_id": ["a", "b", "c"], "units": [60.0, 140.0, 150.0], "price": [1.0, 1.0, 0.9],
    })  # fmt: skip
    found, facts = realised.judge_prices(proposals, sold, 1, CONFIG)
    assert facts["spread"] == 40**2 / 100
    assert found["upper"][0] == pytest.approx(101 + 1.959964 * (16 * 101) ** 0.5, abs=1e-3)
    assert not found["outside"][0]


def test_the_price_since_is_the_upper_median_of_the_last_five_weeks() -> None:
    weeks = [day(7 * n) for n in range(8)]
    demand = pl.LazyFrame({
        "product_id": ["milk"] * 8 + ["tea"] * 2, "location_id": ["north"] * 10,
        "week_starts_on": weeks + weeks[1:3], "units": [1.0] * 10,
        "median_price": [9.0, 9.0, 1.0, 1.0, 2.0, 5.0, None, 5.0, 1.0, 3.0],
    })  # fmt: skip
    found = realised.prices_of_bucket(demand, SUNDAY, day(7 * 7 + 6))
    # Week 0 began before; of 9, 1, 1, 2, 5, 5 the last five count.
    assert found.rows() == [("milk", 7.0, 2.0), ("tea", 2.0, 3.0)]
    assert realised.prices_of_bucket(demand, SUNDAY, day(7 * 7 + 5))["units"].to_list() == [
        6.0,
        2.0,
    ]
