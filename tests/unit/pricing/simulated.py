"""A small shop whose elasticities are known, and whose prices answer to its demand."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from ecom_tasks.pricing import controls, elasticity, nuisance, placebo, pooling
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import fill_quiet_weeks

START = date(2016, 1, 4)


def panel(
    seed: int,
    *,
    products: int = 24,
    weeks: int = 52,
    elasticity: float = -1.5,
    spread: float = 0.0,
    units: float = 12.0,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Simulate the weekly panel of two categories of one department.

    Each category has a season that lifts demand; the shop sees it coming and raises prices with it
    (confounding: plain regression finds demand too insensitive). Mailers lift demand and go with
    reductions (confounding the other way). Units are Poisson counts around a mean with lasting
    shocks.

    Parameters
    ----------
    elasticity, spread : mean and standard deviation of the products' elasticities
    units : usual units in a week; products vary around it

    Returns
    -------
    panel : as of `panel.weekly`, with category and department; weeks without sale are missing
    truth : product_id, elasticity
    """
    rng = np.random.default_rng(seed)
    category = np.arange(products) % 2
    true = elasticity + spread * rng.standard_normal(products)
    level = np.log(units) + 0.5 * rng.standard_normal(products)
    season = 0.3 * _autoregressive(rng, (2, weeks), 0.8)[category]
    mailer = rng.random((products, weeks)) < 0.15
    deal = mailer | (rng.random((products, weeks)) < 0.15)
    log_price = (
        np.log(3.0)
        + 0.3 * season
        - deal * rng.uniform(0.1, 0.35, (products, weeks))
        + 0.02 * rng.standard_normal((products, weeks))
    )
    shock = 0.3 * _autoregressive(rng, (products, weeks), 0.3)
    mean = np.exp(
        level[:, None]
        + true[:, None] * (log_price - np.log(3.0))
        + season
        + 0.4 * mailer
        + shock
        - 0.045
    )
    names = [f"p{number:03d}" for number in range(products)]
    rows = pl.DataFrame({
        "product_id": np.repeat(names, weeks),
        "location_id": "all",
        "week_starts_on": [START + timedelta(weeks=w) for w in range(weeks)] * products,
        "units": rng.poisson(mean).ravel().astype(float),
        "price": np.exp(log_price).ravel(),
        "regular_price": pl.Series([None] * (products * weeks), dtype=pl.Float64),
        "price_locations": 1.0,
        "price_mixed": 0.0,
        "price_spread": pl.Series([None] * (products * weeks), dtype=pl.Float64),
        "display": 0.0,
        "mailer": mailer.ravel().astype(float),
        "price_cut": 0.0,
        "coupon": 0.0,
        "category": np.repeat([f"food/c{c}" for c in category], weeks),
        "department": "food",
    })
    truth = pl.DataFrame({"product_id": names, "elasticity": true})
    return rows.filter(pl.col("units") > 0), truth


def _autoregressive(
    rng: np.random.Generator, shape: tuple[int, int], memory: float
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Stationary series of variance 1 whose neighbours correlate by `memory`."""
    noise = rng.standard_normal(shape)
    for week in range(1, shape[1]):
        noise[:, week] = memory * noise[:, week - 1] + np.sqrt(1 - memory**2) * noise[:, week]
    return noise


def fitted_rows(rows: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Bring a simulated panel to where elasticities are estimated from."""
    filled = fill_quiet_weeks(rows, config.longest_quiet)
    prepared = controls.prepare(filled, START + timedelta(weeks=1000), config)
    return nuisance.partial_out(prepared, config)[0]


def exact_rows(slopes: dict[str, float], weeks: int = 30, seed: int = 0) -> pl.DataFrame:
    """Return rows as of `nuisance.partial_out` in which price explains all: nothing is noise.

    Parameters
    ----------
    slopes : product to elasticity; products whose names share the first letter share a category
    """
    rng = np.random.default_rng(seed)
    parts = []
    for product, slope in slopes.items():
        price = rng.normal(0, 0.2, weeks)
        price -= price.mean()
        parts.append(
            pl.DataFrame({
                "product_id": product,
                "location_id": "all",
                "category": product[0],
                "department": "d",
                "week_starts_on": [START + timedelta(weeks=w) for w in range(weeks)],
                "weight": 1.0,
                "sold": True,
                "price_left": price,
                "demand_ratio": np.exp(slope * price),
            })
        )
    return pl.concat(parts)


def pooled(rows: pl.DataFrame, by: list[str], confidence: float = 0.95) -> pl.DataFrame:
    """Solve and pool, see `pooling.pooled`."""
    return pooling.pooled(elasticity.solve(rows, by), by, confidence)


def placebo_of(rows: pl.DataFrame, by: list[str], confidence: float = 0.95) -> pl.DataFrame:
    """Solve, and pool the slope on next week's price, see `placebo.ahead`."""
    following = placebo.ahead(elasticity.solve(rows, by), by)
    return pooling.pooled(following, by, confidence)


def by_product(rows: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Solve by product, see `elasticity.by_product`."""
    return elasticity.by_product(elasticity.solve(rows, ["product_id"]), config)
