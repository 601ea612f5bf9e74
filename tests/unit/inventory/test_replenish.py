"""Stock levels and orders whose right answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecom_tasks.inventory import replenish
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.metrics import inventory as textbook

STEPS = 4
CONFIG = InventoryConfig(samples=4000, service_target="cycle_service", order_cost=0.0)


def terms(**columns: Sequence[float]) -> pl.DataFrame:
    defaults = {
        "lead_time_days": 7.0, "lead_time_days_std": 0.0, "pack_size": 1.0,
        "minimum_order_quantity": 0.0, "unit_cost": 2.0, "holding_cost_rate": 0.25,
        "shelf_life_days": None, "unit_margin": 1.0,
    }  # fmt: skip
    rows = max((len(values) for values in columns.values()), default=1)
    return pl.DataFrame(
        {
            "product_id": [f"p{row}" for row in range(rows)],
            "location_id": ["all"] * rows,
            "title": [f"article {row}" for row in range(rows)],
        }
        | {name: columns.get(name, [value] * rows) for name, value in defaults.items()}
        | {"assumed": ["review_days"] * rows}
    ).with_columns(pl.col(pl.Int64, pl.Null).cast(pl.Float64))


def normal(mean: float, deviation: float, rows: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and quantiles of normal weekly demand."""
    z = np.array([NormalDist().inv_cdf(level) for level in CONFIG.quantiles])
    means = np.full((rows, STEPS), mean, dtype=np.float32)
    return means, np.asarray(means[..., None] + deviation * z, dtype=np.float32)


def level(terms_: pl.DataFrame, mean: float, deviation: float, config: InventoryConfig = CONFIG,
          correlation: float = 0.0) -> dict[str, float]:  # fmt: skip
    made = replenish.policy(*normal(mean, deviation), terms_, correlation, config)
    return made.row(0, named=True)


def test_constant_demand_has_a_known_reorder_point() -> None:
    found = level(terms(lead_time_days=[10.0]), 21.0, 0.0)  # 3 a day
    assert found["continuous_reorder_point"] == pytest.approx(3 * 10)
    assert found["base_stock_level"] == pytest.approx(3 * (10 + 7))
    assert found["safety_stock"] == pytest.approx(0, abs=1e-6)
    assert found["weekly_demand"] == 21


def test_normal_demand_has_the_textbooks_safety_stock() -> None:
    found = level(terms(lead_time_days=[14.0]), 700.0, 70.0)
    weeks = (14 + 7) / 7
    expected = textbook.safety_stock(0.95, 100.0, 70 / np.sqrt(7), 7 * weeks)
    assert float(expected) == pytest.approx(NormalDist().inv_cdf(0.95) * 70 * np.sqrt(3))
    assert found["safety_stock"] == pytest.approx(float(expected), rel=0.03)
    at_order = textbook.reorder_point(
        100.0, 14.0, textbook.safety_stock(0.95, 100.0, 70 / np.sqrt(7), 14)
    )
    assert found["continuous_reorder_point"] == pytest.approx(float(at_order), rel=0.01)


def test_random_lead_times_are_in_the_textbooks_safety_stock() -> None:
    # Nearly constant demand: what varies is the lead time, gamma and close to normal.
    found = level(terms(lead_time_days=[14.0], lead_time_days_std=[1.4]), 700.0, 1.0)
    expected = textbook.safety_stock(0.95, 100.0, 1 / np.sqrt(7), 21.0, 1.4)
    assert found["safety_stock"] == pytest.approx(float(expected), rel=0.05)


@pytest.mark.parametrize("correlation", [0.0, 0.25, 1.0])
def test_errors_that_go_together_need_more_safety(correlation: float) -> None:
    found = level(terms(), 700.0, 70.0, correlation=correlation)
    # Two weeks: var(x + y) = var x + var y + 2 cov(x, y).
    deviation = 70 * np.sqrt(1 + 1 + 2 * correlation)
    assert found["safety_stock"] == pytest.approx(NormalDist().inv_cdf(0.95) * deviation, rel=0.03)


def test_no_lead_time_leaves_the_review_period() -> None:
    found = level(terms(lead_time_days=[0.0], lead_time_days_std=[3.0]), 70.0, 0.0)
    assert found["continuous_reorder_point"] == 0
    assert found["base_stock_level"] == pytest.approx(70)


def test_beyond_the_horizon_the_last_week_repeats() -> None:
    weekly = np.array([7.0, 14.0])
    assert replenish.demand_over(weekly, np.array(0.0)) == 0
    assert replenish.demand_over(weekly, np.array(10.0)) == 7 + 14 * 3 / 7
    assert replenish.demand_over(weekly, np.array(28.0)) == 7 + 3 * 14


def test_lead_times_have_the_moments_asked_for() -> None:
    draws = replenish.draw(STEPS, 0.0, CONFIG)
    mean, deviation = np.array([7.0, 7.0, 0.0, 20.0]), np.array([2.0, 0.0, 2.0, 5.0])
    days = replenish.lead_times(mean, deviation, draws)
    assert days.mean(axis=1) == pytest.approx(mean, rel=0.01)
    assert days.std(axis=1) == pytest.approx([2.0, 0.0, 0.0, 5.0], rel=0.03)
    assert days.min() >= 0


@settings(max_examples=30)
@given(st.floats(0.6, 0.98), st.floats(0, 1), st.floats(0, 20), st.floats(0, 10))
def test_more_service_or_time_never_needs_less_stock(
    service: float, stricter: float, days: float, longer: float
) -> None:
    config = CONFIG.model_copy(update={"samples": 200, "service_level": service})
    above = config.model_copy(update={"service_level": service + stricter * (0.99 - service)})
    base = level(terms(lead_time_days=[days]), 50.0, 10.0, config)
    strict = level(terms(lead_time_days=[days]), 50.0, 10.0, above)
    slow = level(terms(lead_time_days=[days + longer]), 50.0, 10.0, config)
    for name in ("continuous_reorder_point", "base_stock_level"):
        assert strict[name] >= base[name]
        assert slow[name] >= base[name]
    assert base["base_stock_level"] > base["continuous_reorder_point"]


@settings(max_examples=30)
@given(st.floats(0, 60), st.floats(0, 60))
def test_any_lead_time_gives_finite_levels(days: float, spread: float) -> None:
    found = level(terms(lead_time_days=[days], lead_time_days_std=[spread]), 50.0, 10.0,
                  InventoryConfig(samples=100))  # fmt: skip
    assert 0 <= found["continuous_reorder_point"] <= found["base_stock_level"] < float("inf")


def levels(base: Sequence[float], **columns: Sequence[float]) -> pl.DataFrame:
    columns.setdefault("pack_size", [1.0] * len(base))
    level = pl.Series(base, dtype=pl.Float64)
    return terms(**columns).with_columns(reorder_point=level, order_up_to=level)


def stock(rows: Sequence[tuple[str, float, float | None]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(product, "all", on_hand, on_order) for product, on_hand, on_order in rows],
        schema={"product_id": pl.String, "location_id": pl.String, "on_hand": pl.Float64,
                "on_order": pl.Float64},
        orient="row",
    )  # fmt: skip


def test_a_fill_rate_needs_less_than_the_same_cycle_service() -> None:
    fill = CONFIG.model_copy(update={"service_target": "fill_rate"})
    by_fill, by_cycle = (level(terms(), 700.0, 70.0, config) for config in (fill, CONFIG))
    assert by_fill["base_stock_level"] < by_cycle["base_stock_level"]
    # Shortage a cycle: deviation of two weeks times the unit loss; 5% of what is sold and missed.
    deviation = 70 * np.sqrt(2)
    z = (by_fill["base_stock_level"] - 1400) / deviation
    loss = NormalDist().pdf(z) - z * (1 - NormalDist().cdf(z))
    assert deviation * loss == pytest.approx(0.05 * 700 / 0.95, rel=0.03)


def test_least_cost_is_the_newsvendor() -> None:
    cost = CONFIG.model_copy(update={"service_target": "cost"})
    found = level(terms(holding_cost_rate=[10.0]), 700.0, 70.0, cost)
    # A unit short costs 1, one held for a week 2 * 10 * 7 / 365.
    ratio = 1 / (1 + 2 * 10 * 7 / 365)
    expected = 1400 + 70 * np.sqrt(2) * NormalDist().inv_cdf(ratio)
    assert found["base_stock_level"] == pytest.approx(expected, rel=0.003)


def test_dear_orders_are_rarer_and_larger() -> None:
    dear = CONFIG.model_copy(update={"order_cost": 50.0})
    found = level(terms(), 70.0, 0.0, dear)
    lot = np.sqrt(2 * 10 * 365 * 50 / (2 * 0.25))  # above eight weeks of 70
    assert lot > 8 * 70
    assert found["order_quantity_economic"] == pytest.approx(8 * 70)
    # Two weeks of demand, less what was left above the point at the last of the seven reviews in
    # eight that order nothing: in 95% of the cycles at least a twentieth of a week.
    point = 140 - 7 / 8 * 70 * 0.05
    assert found["reorder_point"] == pytest.approx(point, rel=1e-3)
    # What the review takes itself is not ordered beyond the point.
    assert found["order_up_to"] == pytest.approx(point + 8 * 70 - 70, rel=1e-3)
    cheap = level(terms(), 70.0, 0.0)
    assert cheap["reorder_point"] == cheap["order_up_to"] == cheap["base_stock_level"]


def test_a_level_is_passed_by_what_renewal_theory_says() -> None:
    between = np.tile([10.0, 30.0], 500)[None, :].repeat(3, axis=0) * np.array([[1.0], [2.0], [0]])
    draws = replenish.draw(1, 0.0, CONFIG.model_copy(update={"samples": 1000}))
    found = replenish.undershoot(between, draws)
    # E[D^2] / (2 E[D]) of 10 and 30
    expected = (10**2 + 30**2) / (10 + 30) / 2
    assert found.mean(axis=1) == pytest.approx([expected, 2 * expected, 0], rel=0.01)
    assert found.max() <= 60


def test_perishable_goods_are_held_up_to_the_newsvendors_quantity() -> None:
    keeps, perishes = (level(terms(shelf_life_days=[life]), 700.0, 70.0) for life in (1000.0, 4.0))
    assert keeps["base_stock_level"] == level(terms(), 700.0, 70.0)["base_stock_level"]
    # Sells over lead time and shelf life: 11 days, of which four of the second week vary alike.
    ratio = 1.0 / (1.0 + 2.0)
    deviation = np.sqrt(70**2 + (70 * 4 / 7) ** 2)
    expected = 100 * 11 + deviation * NormalDist().inv_cdf(ratio)
    assert perishes["base_stock_level"] == pytest.approx(expected, rel=0.01)


def test_nothing_is_ordered_at_or_above_the_reorder_point() -> None:
    lots = levels([100.0, 100.0]).with_columns(reorder_point=pl.lit(50.0))
    made = replenish.propose(lots, stock([("p0", 49, 0), ("p1", 51, 0)]))
    assert made.select("product_id", "order_quantity").rows() == [("p0", 51)]


def test_orders_fill_up_to_the_level_in_whole_packs() -> None:
    made = replenish.propose(
        levels([100.0, 100.0, 100.0, 100.0], pack_size=[12.0, 12.0, 1.0, 1.0],
               minimum_order_quantity=[0.0, 30.0, 0.0, 0.0]),
        stock([("p0", 60, 10), ("p1", 95, None), ("p2", 99.5, 0), ("p3", 90, 10)]),
    )  # fmt: skip
    found = dict(made.select("product_id", "order_quantity").iter_rows())
    assert found == {
        "p0": 3 * 12,  # 100 - 60 - 10 = 30
        "p1": 3 * 12,  # 5 are missing, at least 30 must be ordered, in dozens
        "p2": 1,  # half a unit is missing
    }  # nothing is missing of p3
    assert made["basis"].unique().to_list() == [replenish.KNOWN]
    assert made["value"].to_list() == sorted((2 * 36, 2 * 36, 2 * 1), reverse=True)


def test_without_a_stock_count_no_order_quantity_is_claimed() -> None:
    made = replenish.propose(levels([99.2, 50.0]), stock([("p1", 45, 0)]))
    unknown, known = made.sort("product_id").iter_rows(named=True)
    assert unknown["order_quantity"] is None
    assert unknown["quantity_before_stock"] == 100
    assert unknown["basis"] == replenish.UNKNOWN
    assert (known["order_quantity"], known["quantity_before_stock"]) == (5, 50)


def test_backlog_is_ordered_too_and_nothing_for_no_demand() -> None:
    made = replenish.propose(levels([10.0, 0.0]), stock([("p0", -3, 0)]))
    assert made.select("product_id", "order_quantity").rows() == [("p0", 13)]


def test_rounding_errors_buy_no_further_pack() -> None:
    made = replenish.propose(levels([0.1 + 0.2], pack_size=[0.1]), stock([]))
    assert made["quantity_before_stock"].to_list() == pytest.approx([0.3])


def test_a_product_without_cost_is_proposed_last_and_without_value() -> None:
    made = replenish.propose(
        levels([10.0, 20.0]).with_columns(unit_cost=pl.Series([None, 1.0])), stock([])
    )
    assert made.select("product_id", "value").rows() == [("p1", 20), ("p0", None)]


def test_the_buyers_file_opens_in_a_spreadsheet_and_runs_nothing() -> None:
    orders = replenish.propose(
        levels([10.0]).with_columns(title=pl.lit('=HYPERLINK("http://x")')), stock([])
    )
    text = replenish.buyers_csv(orders)
    assert text.startswith("\ufeffproduct_id,")
    assert "\"'=HYPERLINK" in text
    back = pl.read_csv(text.encode(), schema_overrides={"product_id": pl.String})
    assert back.columns == list(replenish.ORDER_COLUMNS)
    assert back["quantity_before_stock"].to_list() == [10]


def test_a_budget_cuts_orders_whose_stock_is_known() -> None:
    made = levels([100.0, 100.0, 100.0]).with_columns(unit_margin=pl.Series([3.0, 1.0, 1.0]))
    orders = replenish.propose(made, stock([("p0", 0, 0), ("p1", 0, 0)]))
    same = replenish.within_limits(orders, made, CONFIG)
    assert same.orders.equals(orders)
    assert same.said == ""
    poor = CONFIG.model_copy(update={"order_budget": 250.0})
    found = replenish.within_limits(orders, made, poor)
    units = dict(found.orders.select("product_id", "order_quantity").iter_rows())
    assert 2 * (units["p0"] + units["p1"]) <= 250
    assert units["p0"] > units["p1"]  # each of its units earns three times as much
    assert units["p2"] is None  # cannot be weighed, stays
    assert "125 of 200 units" in found.said


def test_orders_are_weighed_in_weeks_of_what_demand_costs() -> None:
    levels = pl.DataFrame({"weekly_demand": [10.0, 4.0, 7.0], "unit_cost": [2.0, 5.0, None]})
    orders = pl.DataFrame({"value": [60.0, 40.0, None]})  # a week of demand costs 20 + 20
    assert replenish.weeks_of_demand(orders, levels) == pytest.approx(2.5)
    assert replenish.weeks_of_demand(orders, levels.clear()) == 0.0
