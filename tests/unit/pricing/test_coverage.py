"""On shops whose truth is known: intervals cover it, and no response is told as none."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from scipy import stats

from ecom_tasks.pricing import shrinkage
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import SERIES
from ecom_tasks.pricing.plain import log_log
from tests.unit.pricing import simulated

CONFIG = PricingConfig()
SEEDS = 40
CATEGORIES = 2
TRUE = -1.5
# One run in a thousand may fail by chance alone.
CHANCE = 0.001


def least_covered(intervals: int) -> int:
    """How many of independent 95% intervals cover the truth at least."""
    return int(stats.binom.ppf(CHANCE, intervals, CONFIG.confidence))


@pytest.fixture(scope="module", params=[TRUE, 0.0], ids=["responsive", "indifferent"])
def truth(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture(scope="module")
def fitted(truth: float) -> list[pl.DataFrame]:
    def fit(seed: int) -> pl.DataFrame:
        panel, _ = simulated.panel(seed, elasticity=truth)
        return simulated.fitted_rows(panel, CONFIG)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(fit, range(SEEDS)))


def test_category_intervals_cover_the_truth(fitted: list[pl.DataFrame], truth: float) -> None:
    found = pl.concat(simulated.pooled(rows, ["category"], CONFIG.confidence) for rows in fitted)
    covered = found.filter((pl.col("lower") <= truth) & (truth <= pl.col("upper")))
    assert found.height == SEEDS * CATEGORIES
    assert covered.height >= least_covered(found.height)
    # Intervals that cover everything would pass above: these must be able to tell.
    assert found["standard_error"].mean() < 0.3  # type: ignore[operator]


def test_confounding_is_real_and_is_removed(fitted: list[pl.DataFrame], truth: float) -> None:
    slopes = [log_log(rows, SERIES, [])["estimate"][0] for rows in fitted]
    plain = sum(slopes) / SEEDS
    estimates = [simulated.pooled(rows, [], 0.95)["estimate"][0] for rows in fitted]
    double = sum(estimates) / SEEDS
    # Prices follow the season, so that least squares finds demand too insensitive.
    assert plain - truth > 0.4
    assert abs(double - truth) < abs(plain - truth) / 4


def test_negative_is_told_only_where_it_is(fitted: list[pl.DataFrame], truth: float) -> None:
    found = pl.concat(simulated.pooled(rows, ["category"], CONFIG.confidence) for rows in fitted)
    negative = found.filter(pl.col("upper") < 0).height
    if truth == 0.0:
        allowed = stats.binom.ppf(1 - CHANCE, found.height, (1 - CONFIG.confidence) / 2)
        assert negative <= allowed
    else:
        assert negative == found.height


def test_product_intervals_cover_before_and_after_shrinkage(
    fitted: list[pl.DataFrame], truth: float
) -> None:
    own = [simulated.by_product(rows, CONFIG) for rows in fitted]
    pooled = [simulated.pooled(rows, ["category"], 0.95) for rows in fitted]
    shrunk = pl.concat(
        shrinkage.shrink(products, categories, 0.95)[0]
        for products, categories in zip(own, pooled, strict=True)
    ).drop_nulls("own_estimate")
    off = (pl.col("own_estimate") - truth).abs() / pl.col("own_error")
    # Products of one shop share its shocks: what is independent is a shop, not a product. A tenth
    # outside is double the nominal rate.
    assert shrunk.select((off < stats.norm.ppf(0.975)).mean()).item() > 0.90
    inside = (pl.col("lower") <= truth) & (truth <= pl.col("upper"))
    assert shrunk.select(inside.mean()).item() > 0.90
    # All products are alike here, so borrowing must help.
    errors = shrunk.select(
        ((pl.col("estimate") - truth) ** 2).mean().sqrt().alias("shrunk"),
        ((pl.col("own_estimate") - truth) ** 2).mean().sqrt().alias("own"),
    ).row(0, named=True)
    assert errors["shrunk"] < errors["own"] / 2


def test_placebo_finds_nothing_where_there_is_nothing(fitted: list[pl.DataFrame]) -> None:
    found = pl.concat(simulated.placebo_of(rows, ["category"], 0.95) for rows in fitted)
    clean = found.filter((pl.col("lower") <= 0) & (pl.col("upper") >= 0))
    assert clean.height >= least_covered(found.height)
