"""Levels come off exactly, and slopes that only they confound come out exactly."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from ecom_tasks.pricing import absorb, elasticity, layout, placebo
from ecom_tasks.pricing.config import PricingConfig
from tests.unit.pricing import simulated
from tests.unit.pricing.simulated import START

CONFIG = PricingConfig()


def chain(slopes: list[float], *, stores: int = 10, weeks: int = 20, seed: int = 0) -> pl.DataFrame:
    """Return rows in which shocks to a product everywhere, and to a store, move price and demand.

    Nothing is noise: once both levels are off, the slopes are exact.
    """
    rng = np.random.default_rng(seed)
    store_shock = rng.normal(0, 0.3, (stores, weeks))
    parts = []
    for number, slope in enumerate(slopes):
        product_shock = rng.normal(0, 0.4, weeks)
        shock = product_shock[None, :] + store_shock
        price = 0.5 * shock + 0.2 * rng.standard_normal((stores, weeks))
        demand = np.exp(slope * price + shock)
        parts.append(
            pl.DataFrame({
                "product_id": f"p{number}",
                "location_id": np.repeat([f"s{store:02d}" for store in range(stores)], weeks),
                "category": "c",
                "department": "d",
                "week_starts_on": [START + timedelta(weeks=week) for week in range(weeks)] * stores,
                "weight": 1.0,
                "sold": True,
                "log_price": price.ravel(),
                "price_level": 0.0,
                "demand": demand.ravel(),
            })
        )
    rows = pl.concat(parts).with_columns(
        pl.col("demand").alias("demand_ratio"), pl.col("log_price").alias("price_left")
    )
    return absorb.choose(rows)


def groups(*levels: layout.Codes) -> list[layout.Level]:
    return [layout.Groups(level) for level in levels]


def test_means_of_all_levels_are_zero_afterwards() -> None:
    rng = np.random.default_rng(1)
    levels = [rng.integers(7, size=500), rng.integers(11, size=500)]
    weight = rng.uniform(0.5, 2.0, 500)
    left = absorb.demean(rng.normal(3.0, 2.0, 500), weight, groups(*levels))
    for level in levels:
        assert np.bincount(level, weight * left) == pytest.approx(0.0, abs=1e-5)


def test_what_levels_explain_is_gone_and_the_rest_is_not() -> None:
    rng = np.random.default_rng(2)
    first, second = np.repeat(np.arange(6), 8), np.tile(np.arange(8), 6)
    other = rng.standard_normal((6, 8))
    other -= other.mean(axis=0)
    other -= other.mean(axis=1, keepdims=True)
    values = 5.0 * first + second**2 + other.ravel()
    left = absorb.demean(values, np.ones(48), groups(first, second))
    assert left == pytest.approx(other.ravel(), abs=1e-6)


def test_ratios_have_mean_one_in_every_level() -> None:
    rng = np.random.default_rng(3)
    levels = [np.repeat(np.arange(5), 12), np.tile(np.arange(12), 5)]
    weight = np.repeat(rng.uniform(0.5, 2.0, 5), 12)
    demand = rng.poisson(4.0, 60).astype(float)
    ratio = absorb.Ratios(weight, groups(*levels)).of(demand, 200)
    for level in levels:
        mean = np.bincount(level, weight * ratio) / np.bincount(level, weight)
        assert mean == pytest.approx(1.0, abs=1e-6)
    assert (ratio[demand == 0] == 0).all()


def test_a_level_that_sold_nothing_stays_at_zero() -> None:
    level = np.array([0, 0, 1, 1])
    ratio = absorb.Ratios(np.ones(4), groups(level)).of(np.array([0.0, 0.0, 1.0, 3.0]))
    assert ratio.tolist() == [0.0, 0.0, 0.5, 1.5]


def test_confounding_that_levels_hold_is_gone() -> None:
    truth = [-3.0, -2.0, -1.0, -0.5, -2.5, -1.5, -4.0, -2.2]
    rows = chain(truth)
    assert len(layout.levels(rows)) == 3
    found = simulated.by_product(rows, CONFIG)
    assert found["own_estimate"].to_list() == pytest.approx(truth, abs=0.01)
    # Without levels of weeks the same rows tell another story.
    plain = simulated.by_product(rows.drop(layout.PRODUCT_WEEK, layout.STORE_WEEK), CONFIG)
    assert (plain["own_estimate"].to_numpy() - np.array(truth)).mean() > 0.5


def test_few_products_share_the_level_of_the_whole_store() -> None:
    two_categories = chain([-2.0] * 8).with_columns(
        pl.when(pl.col("product_id") < "p4").then(pl.lit("a")).otherwise(pl.lit("b"))
        .alias("category")
    )  # fmt: skip
    rows = absorb.choose(two_categories.drop(layout.BOTH))
    assert rows.n_unique([layout.STORE_WEEK, "week_starts_on"]) == 10 * 20


def test_stores_whose_prices_move_together_keep_their_weeks() -> None:
    apart = chain([-2.0] * 8).drop(layout.BOTH)
    together = pl.col("log_price").mean().over("product_id", "week_starts_on")
    rows = absorb.choose(apart.with_columns(pl.col("log_price") * 0.2 + together * 0.8))
    # Of the price's variance, (.2 ** 2) * within lies between stores, under a quarter of all.
    assert len(layout.levels(rows)) == 1
    one_store = rows.filter(pl.col("location_id") == "s00").drop(layout.BOTH)
    assert len(layout.levels(absorb.choose(one_store))) == 1


def test_a_promotion_of_its_own_is_told_from_the_price() -> None:
    truth, lifts = [-3.0, -2.0, -1.0, -1.5, -2.5, -2.0, -2.0, -2.0], np.linspace(-0.4, 1.0, 8)
    rng = np.random.default_rng(5)
    rows = chain(truth)
    shown = (rng.random(rows.height) < 0.3).astype(float)
    lift = lifts[rows["product_id"].str.slice(1).cast(pl.Int64).to_numpy()] * shown
    cut = 0.2 * shown  # the display goes with a cut
    rows = rows.with_columns(
        pl.Series("display", shown),
        pl.col("price_left") - pl.Series(cut),
        pl.col("demand_ratio")
        * pl.Series(np.exp(lift))
        * pl.Series(np.exp(-np.array(truth)[rows["product_id"].str.slice(1).cast(int)] * cut)),
    )
    found = simulated.by_product(rows, CONFIG)
    assert found["own_estimate"].to_list() == pytest.approx(truth, abs=0.01)
    blind = simulated.by_product(rows.drop("display"), CONFIG)
    assert np.abs(blind["own_estimate"].to_numpy() - np.array(truth)).max() > 0.3


def test_rotated_prices_explain_nothing() -> None:
    rows = chain([-2.0] * 8 + [0.0])
    solved = elasticity.solve(rows, ["product_id"])
    found = placebo.permutation(solved, ["product_id"], 19, 1)
    p_value = dict(found.select("product_id", "p_value").rows())
    assert [p_value[f"p{number}"] for number in range(8)] == [0.05] * 8
    assert placebo.permutation(solved, ["product_id"], 19, 1).equals(found)


def test_rotated_prices_of_the_whole_shop_explain_nothing() -> None:
    solved = elasticity.solve(chain([-2.0] * 8), [])
    found = placebo.permutation(solved, [], 19, 1)
    assert found.rows(named=True) == [{"shop": "shop", "p_value": 1 / (19 + 1)}]
