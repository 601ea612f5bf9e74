"""The plain model that textbooks start from: least squares of log units on log price.

A yardstick, with nothing against confounding. Weeks without a sale are left out, since they have no
logarithm.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Sum of squares of log prices from which they have moved.
_STILL = 1e-12


def log_log(rows: pl.DataFrame, levels: list[str], by: list[str]) -> pl.DataFrame:
    """Return the slope of log units on log price within levels, one for each group.

    Parameters
    ----------
    rows : units, price, and the columns of levels and groups
    levels : columns of the fixed effects, an intercept for each combination
    by : columns that share a slope; empty: one for all

    Returns
    -------
    DataFrame with `by`, estimate (null where the price never moves) and rows.

    Examples
    --------
    >>> sold = pl.DataFrame({"p": ["a"] * 3, "price": [1.0, 2.0, 4.0], "units": [16.0, 4.0, 1.0]})
    >>> round(log_log(sold, ["p"], [])["estimate"][0], 6)
    -2.0
    """
    off = within(rows, levels)
    squares = (pl.col("x") ** 2).sum()
    slope = [
        pl
        .when(squares > _STILL)
        .then((pl.col("x") * pl.col("y")).sum() / squares)
        .alias("estimate"),
        pl.len().alias("rows"),
    ]
    return off.group_by(by).agg(slope).sort(by) if by else off.select(slope)


def within(rows: pl.DataFrame, levels: list[str]) -> pl.DataFrame:
    """Return rows with a sale, with y, x: log units and log price off their means of the levels."""
    y, x = pl.col("units").log(), pl.col("price").log()
    return rows.filter((pl.col("units") > 0) & (pl.col("price") > 0)).with_columns(
        (y - y.mean().over(levels)).alias("y"), (x - x.mean().over(levels)).alias("x")
    )


def sums(rows: pl.DataFrame, levels: list[str]) -> Array:
    """Return the two sums whose quotient is the slope of all rows; sums of parts add up.

    Shape (2,), see `log_log` and `slope`.
    """
    off = within(rows, levels).select(
        (pl.col("x") * pl.col("y")).sum().alias("both"), (pl.col("x") ** 2).sum().alias("squares")
    )
    return np.array(off.row(0), dtype=np.float64)


def slope(parts: list[Array]) -> float | None:
    """Return the slope that the sums of all parts give; None where no price ever moved."""
    both, squares = np.sum(parts, axis=0)
    return float(both / squares) if squares > _STILL else None
