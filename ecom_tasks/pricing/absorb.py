"""Levels that come off before any slope: of a series, of a product's week, of a store's week.

Where a chain's stores differ in price within a week, the product's week can have a level of its
own: whatever lifts a product everywhere at once, and what the manager made of it, is then gone (as
with two-way fixed effects), and so is what lifts all products of a store in a week. What remains is
how stores that were dearer that week sold beside those that were cheaper.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecom_tasks.pricing.layout import BOTH, PRODUCT_WEEK, STORE_WEEK, Level, codes
from ecom_tasks.pricing.panel import WEEK

Array = NDArray[np.float64]

# A product's week gets a level where at least this share of its price varies between
# its stores, which must be this many. Below, stores move together, and their differences are mostly
# averages over days and rounding, which pull every slope towards zero.
_LEAST_BETWEEN_STORES = 0.25
_LEAST_STORES = 5
# Products of a store and week that a level needs, so that none is compared with itself.
_LEAST_PRODUCTS = 8
_SWEEPS = 30
_CLOSE = 1e-7
# Units that stand for none, where a logarithm or a quotient is taken.
_NOTHING = 1e-9


def chosen(rows: pl.DataFrame) -> pl.DataFrame:
    """Say of each product whether its week can have a level of its own, from its prices alone.

    Parameters
    ----------
    rows : product_id, location_id, week_starts_on, log_price

    Returns
    -------
    product_id, absorbed
    """
    within = pl.col("log_price") - pl.col("log_price").mean().over("product_id", WEEK)
    return (
        rows
        .with_columns(within.alias("within"))
        .group_by("product_id")
        .agg(
            (pl.col("within").var() / pl.col("log_price").var()).alias("share"),
            pl.col("location_id").n_unique().alias("stores"),
        )
        .select(
            "product_id",
            ((pl.col("share") >= _LEAST_BETWEEN_STORES) & (pl.col("stores") >= _LEAST_STORES))
            .fill_null(value=False)
            .alias("absorbed"),
        )
    )


def choose(rows: pl.DataFrame) -> pl.DataFrame:
    """Decide for each product which levels come off.

    Parameters
    ----------
    rows : product_id, location_id, category, week_starts_on, weight, log_price

    Returns
    -------
    rows with product_week and store_week: numbers of what has a level in that week; null where
    nothing but the series has.
    """
    rows = rows.join(chosen(rows), on="product_id", how="left", maintain_order="left")
    together = pl.col("product_id").filter("absorbed").n_unique()
    # A category too small for a level of its own shares that of the whole store.
    shelf = (
        pl
        .when(together.over("category") >= _LEAST_PRODUCTS)
        .then(pl.col("category").rank("dense"))
        .otherwise(0)
    )
    rows = rows.with_columns(shelf.alias("shelf"))
    rows = rows.with_columns(
        pl.Series(PRODUCT_WEEK, codes(rows, ["product_id"])),
        pl.Series(STORE_WEEK, codes(rows, ["shelf", "location_id"])),
    )
    peers = pl.len().over(STORE_WEEK, WEEK) >= _LEAST_PRODUCTS
    return rows.with_columns(
        pl.when("absorbed").then(PRODUCT_WEEK).alias(PRODUCT_WEEK),
        pl.when(pl.col("absorbed") & peers).then(STORE_WEEK).alias(STORE_WEEK),
    ).drop("absorbed", "shelf")


def any_chosen(rows: pl.DataFrame) -> bool:
    """Say whether anything has a level beside the series, see `choose`."""
    return any(name in rows.columns and rows[name].null_count() < rows.height for name in BOTH)


def demean(values: Array, weight: Array, levels: list[Level]) -> Array:
    """Take weighted means of all levels off, in turn, until nothing moves.

    Parameters
    ----------
    values : a number a cell
    weight : at least 0, of the same shape
    levels : see `layout.levels` and `layout.Lattice`
    """
    totals = [level.totals(weight) for level in levels]
    left = values.copy()
    scale = float(np.sqrt(np.mean(values**2))) or 1.0
    for _ in range(_SWEEPS):
        moved = 0.0
        for level, total in zip(levels, totals, strict=True):
            mean = level.sum(weight * left) / total
            left -= level.spread(mean)
            moved = max(moved, float(np.abs(mean).max()))
        if len(levels) == 1 or moved < _CLOSE * scale:
            break
    return left


def shared_out(expected: Array, actual: Array, levels: list[Level]) -> Array:
    """Rescale expectations to the actual totals of all levels, in turn, until nothing moves.

    Iterative proportional fitting (Deming and Stephan 1940). What is left to judge is how a level's
    total was shared between its rows.

    Parameters
    ----------
    expected : above 0, shape (rows,)
    actual : at least 0, shape (rows,)
    levels : see `layout.levels`; of a level that sold nothing, next to nothing is expected
    """
    left = expected.copy()
    for _ in range(_SWEEPS):
        moved = 0.0
        for level in levels:
            total, told = level.sum(actual), level.sum(left)
            ratio = np.maximum(total, _NOTHING) / np.maximum(told, _NOTHING)
            left *= level.spread(ratio)
            moved = max(moved, float(np.abs(ratio - 1).max()))
        if len(levels) <= 1 or moved < _CLOSE:
            break
    return left


class Ratios:
    """Demand over its levels: the weighted mean of each level's ratios becomes 1.

    Keeps the levels found last, from which the next search starts (the first one `near` others):
    in Newton's method demand changes little from step to step.
    """

    def __init__(self, weight: Array, levels: list[Level], near: Array | None = None) -> None:
        self._weight = weight
        self._levels = levels
        self._totals = [level.totals(weight) for level in levels]
        self._level = np.ones(weight.shape) if near is None else near.copy()

    def of(self, demand: Array, sweeps: int = 1) -> Array:
        """Return demand over levels, of its shape; a level that sold nothing stays 0."""
        if len(self._levels) == 1:
            self._level = np.ones(demand.shape)
            sweeps = 1
        left = self._weight * demand
        left /= self._level
        for _ in range(sweeps):
            for level, total in zip(self._levels, self._totals, strict=True):
                mean = level.sum(left) / total
                moved = level.spread(np.where(mean > 0, mean, 1.0))
                left /= moved
                self._level *= moved
        return np.asarray(demand / self._level)

    @property
    def level(self) -> Array:
        """What `of` divided by last, of the demand's shape."""
        return self._level
