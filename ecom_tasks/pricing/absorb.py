"""Levels that come off before any slope: of a series, of a product's week, of a store's week.

Where a chain's stores differ in price within a week, the product's week can have a level of its
own: whatever lifts a product everywhere at once, and what the manager made of it, is then gone (as
with two-way fixed effects), and so is what lifts all products of a store in a week. What remains is
how stores that were dearer that week sold beside those that were cheaper.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecom_tasks.pricing.panel import SERIES, WEEK

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

PRODUCT_WEEK, STORE_WEEK = "product_week", "store_week"
BOTH = (PRODUCT_WEEK, STORE_WEEK)
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
    rows with product_week and store_week: numbers of the levels; a product that has none of its own
    gets the number of its series there, which takes nothing more away.
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
    series = pl.struct(SERIES).rank("dense").cast(pl.Int64)
    rows = rows.with_columns(shelf.alias("shelf"))
    peers = pl.len().over("shelf", "location_id", WEEK) >= _LEAST_PRODUCTS
    offset = rows.height + 1
    return rows.with_columns(
        pl
        .when("absorbed")
        .then(pl.struct("product_id", WEEK).rank("dense").cast(pl.Int64) + offset)
        .otherwise(series)
        .alias(PRODUCT_WEEK),
        pl
        .when(pl.col("absorbed") & peers)
        .then(pl.struct("shelf", "location_id", WEEK).rank("dense").cast(pl.Int64) + offset)
        .otherwise(series)
        .alias(STORE_WEEK),
    ).drop("absorbed", "shelf")


def codes(rows: pl.DataFrame, by: list[str]) -> Codes:
    """Number the groups of `by` from 0, shape (rows,); no column: all are one group."""
    if not by:
        return np.zeros(rows.height, dtype=np.int64)
    key = pl.struct(by) if len(by) > 1 else pl.col(by[0])
    return rows.select(key.rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()


def levels(rows: pl.DataFrame, further: tuple[str, ...] = BOTH) -> list[Codes]:
    """Return the levels of series and, where chosen, of a product's and of a store's week."""
    found = [codes(rows, SERIES)]
    for name in further:
        if name in rows.columns:
            level = codes(rows, [name])
            # Where nothing was chosen the level repeats the series.
            if level.max() != found[0].max() or (level != found[0]).any():
                found.append(level)
    return found


def summing(level: Codes) -> Callable[[Array], Array]:
    """Return what adds values up by level; where rows of a level lie together, it is faster."""
    count = int(level.max()) + 1 if len(level) else 0
    starts = np.flatnonzero(np.diff(level, prepend=-1))
    if len(starts) == count and count and (np.diff(level) >= 0).all():
        return lambda values: np.asarray(np.add.reduceat(values, starts))
    return lambda values: np.asarray(np.bincount(level, values, count), dtype=np.float64)


def demean(values: Array, weight: Array, levels: list[Codes]) -> Array:
    """Take weighted means of all levels off, in turn, until nothing moves.

    Parameters
    ----------
    values : shape (rows,) or (rows, columns)
    weight : at least 0, shape (rows,)
    levels : see `levels`
    """
    if values.ndim == 2:
        return np.column_stack([demean(column, weight, levels) for column in values.T])
    adding = [summing(level) for level in levels]
    totals = [_total(add, weight) for add in adding]
    left = values.copy()
    scale = float(np.sqrt(np.mean(values**2))) or 1.0
    for _ in range(_SWEEPS):
        moved = 0.0
        for level, add, total in zip(levels, adding, totals, strict=True):
            mean = add(weight * left) / total
            left -= mean[level]
            moved = max(moved, float(np.abs(mean).max()))
        if len(levels) == 1 or moved < _CLOSE * scale:
            break
    return left


def shared_out(expected: Array, actual: Array, levels: list[Codes]) -> Array:
    """Rescale expectations to the actual totals of all levels, in turn, until nothing moves.

    Iterative proportional fitting (Deming and Stephan 1940). What is left to judge is how a level's
    total was shared between its rows.

    Parameters
    ----------
    expected : above 0, shape (rows,)
    actual : at least 0, shape (rows,)
    levels : see `levels`; of a level that sold nothing, next to nothing is expected
    """
    left = expected.copy()
    for _ in range(_SWEEPS):
        moved = 0.0
        for level in levels:
            total, told = np.bincount(level, actual), np.bincount(level, left)
            ratio = np.maximum(total, _NOTHING) / np.maximum(told, _NOTHING)
            left *= ratio[level]
            moved = max(moved, float(np.abs(ratio - 1).max()))
        if len(levels) <= 1 or moved < _CLOSE:
            break
    return left


def _total(add: Callable[[Array], Array], weight: Array) -> Array:
    total = add(weight)
    return np.where(total > 0, total, 1.0)


class Ratios:
    """Demand over its levels: the weighted mean of each level's ratios becomes 1.

    Keeps the levels found last, from which the next search starts (the first one `near` others):
    in Newton's method demand changes little from step to step.
    """

    def __init__(self, weight: Array, levels: list[Codes], near: Array | None = None) -> None:
        self._weight = weight
        self._levels = levels
        self._adding = [summing(level) for level in levels]
        self._totals = [_total(add, weight) for add in self._adding]
        self._level = np.ones(len(weight)) if near is None else near

    def of(self, demand: Array, sweeps: int = 1) -> Array:
        """Return demand over levels, shape (rows,); a level that sold nothing stays 0."""
        if len(self._levels) == 1:
            self._level = np.ones(len(demand))
        left = self._weight * demand / self._level
        for _ in range(sweeps if len(self._levels) > 1 else 1):
            for level, add, total in zip(self._levels, self._adding, self._totals, strict=True):
                mean = add(left) / total
                moved = np.where(mean > 0, mean, 1.0)[level]
                left /= moved
                self._level = self._level * moved
        return np.asarray(demand / self._level)

    @property
    def level(self) -> Array:
        """What `of` divided by last, shape (rows,)."""
        return self._level
