"""One warehouse and its stores, where the right levels follow from arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import poisson

from ecom_tasks.inventory import echelon
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.echelon import Chain

SAMPLES = 1000
STORES = 9
CHAIN = Chain(
    warehouse_days=np.full(SAMPLES, 14.0),
    store_days=np.full(STORES, 2.0),
    review_days=7.0,
    warehouse_holding=1.0,
    store_holding=1.0,
    fill_rate=0.95,
)


def constant(weekly: float) -> np.ndarray:
    return np.full((STORES, SAMPLES, 4), weekly)


def normal(mean: float, deviation: float) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.maximum(random.normal(mean, deviation, (STORES, SAMPLES, 4)), 0)


def test_an_empty_warehouse_hands_its_whole_lead_time_on() -> None:
    found = echelon.at_level(normal(70, 20), CHAIN, 0.0)
    # Half a review period until it orders, and its lead time.
    assert found.wait_days == pytest.approx(7 / 2 + 14, rel=0.01)
    # What the stores would hold if their own supplier took that much longer.
    direct = replace(CHAIN, store_days=CHAIN.store_days + found.wait_days)
    full = echelon.at_level(normal(70, 20), direct, 1e9)
    assert full.wait_days == 0
    np.testing.assert_allclose(found.store_levels, full.store_levels)


def test_constant_demand_waits_for_nothing() -> None:
    found = echelon.at_level(constant(7), CHAIN, STORES * (14.0 + 7))
    assert found.wait_days == 0
    # A unit a day for 2 + 7 days, less the 5% of a week's demand that may be missed.
    np.testing.assert_allclose(found.store_levels, 9 - 7 * (1 / 0.95 - 1), rtol=1e-6)
    half = echelon.at_level(constant(7), CHAIN, STORES * 14.0 / 2)
    # Short of 7 days of demand after an order has come, of 14 before the next one does.
    assert half.wait_days == pytest.approx((7 + 14) / 2)
    np.testing.assert_allclose(half.store_levels, found.store_levels + 10.5)


def test_the_wait_is_what_poisson_demand_leaves_open() -> None:
    random = np.random.default_rng(1)
    mean, level = 20.0, 18
    supplied = random.poisson(mean, 200_000).astype(float)
    # E[(D - s)+] = mean (1 - F(s - 1)) - s (1 - F(s))
    missing = mean * poisson.sf(level - 1, mean) - level * poisson.sf(level, mean)
    assert echelon.wait_days(supplied, level, mean / 14) == pytest.approx(
        missing / (mean / 14), rel=0.02
    )


def test_stock_that_costs_nothing_at_the_warehouse_stands_there() -> None:
    cheap = echelon.plan(normal(70, 20), replace(CHAIN, warehouse_holding=0.0))
    dear = echelon.plan(normal(70, 20), replace(CHAIN, warehouse_holding=10.0))
    assert cheap.wait_days == 0
    assert dear.warehouse_level < cheap.warehouse_level
    assert dear.wait_days > 1
    assert (dear.store_levels > cheap.store_levels).all()


def test_the_plan_is_the_cheapest_of_those_it_looks_at() -> None:
    demand = normal(70, 20)
    found = echelon.plan(demand, CHAIN)
    supplied = demand[..., :2].sum(axis=(0, 2))
    for share in (0.1, 0.5, 0.9, 0.99):
        other = echelon.at_level(demand, CHAIN, float(np.quantile(supplied, share)))
        assert found.holding_cost <= other.holding_cost * 1.001


def test_products_are_planned_apart_and_their_locations_wait() -> None:
    config = InventoryConfig(
        by_location=True, warehouse_lead_time_days=14, warehouse_lead_time_days_std=0, samples=200
    )
    terms = pl.DataFrame({
        "product_id": ["b", "a", "a"],
        "location_id": ["x", "x", "y"],
        "lead_time_days": [2.0, 2.0, 3.0],
        "unit_cost": [None, 1.0, 3.0],
        "holding_cost_rate": [0.5, 0.5, 0.5],
    })
    weekly = np.array([7.0, 14.0, 21.0])
    quantiles = np.broadcast_to(weekly[:, None, None], (3, 4, 9)).astype(np.float32)
    found = echelon.plans(quantiles, terms, 0.0, config)
    assert found["product_id"].to_list() == ["a", "b"]
    assert found["locations"].to_list() == [2, 1]
    assert found["weekly_demand"].to_list() == pytest.approx([14 + 21, 7])
    # Demand that is known needs no stock at all: what arrives goes on to the stores at once.
    assert found["warehouse_level"].to_list() == [0, 0]
    assert found["wait_days"].to_list() == pytest.approx([7 / 2 + 14] * 2)
    assert found["holding_cost_per_year"][1] is None
    waiting = echelon.with_wait(terms, found)
    assert waiting["lead_time_days"].to_list() == pytest.approx([19.5, 19.5, 20.5])
    assert waiting["location_id"].to_list() == ["x", "x", "y"]


def test_a_warehouse_asks_for_locations() -> None:
    with pytest.raises(ValueError, match="by_location"):
        InventoryConfig(warehouse_lead_time_days=14)
