"""Does the price explain what it cannot have caused? Next week's price, prices of other weeks."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from ecom_tasks.pricing import elasticity, layout
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import SERIES, WEEK


def ahead(solved: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Ask whether next week's price explains this week's demand, given this week's price.

    It should not: customers do not know it. Where its interval excludes zero, demand shocks and
    prices move together in a way that the controls miss, or customers wait for announced offers.
    Only weeks with a sale are asked, whose price was seen and not inferred from the next one.

    Parameters
    ----------
    solved : see `elasticity.solve`, by the same columns

    Returns
    -------
    Rows as of `elasticity.solve`, of a regression of what is left of demand on the price of the
    next week, for `pooling` and `by_product`.
    """
    follows = pl.col(WEEK).shift(-1).over(SERIES) - pl.col(WEEK) == pl.duration(weeks=1)
    weight, shock, following = pl.col("weight"), pl.col("lever"), pl.col("next")
    names = dict.fromkeys([*by, *SERIES, "category", "department", WEEK, "weight", "lever", "rest"])
    both = (
        solved
        .filter("sold")
        .select(name for name in names if name in solved.columns)
        .sort(*SERIES, WEEK)
        .with_columns(pl.when(follows).then(shock.shift(-1).over(SERIES)).alias("next"))
        .drop_nulls("next")
        .with_columns(
            pl.col("rest") - pl.col("rest").mean().over(SERIES),
            following - following.mean().over(SERIES),
        )
        .with_columns(pl.lit("shop").alias("everything"))
    )
    group = by or ["everything"]
    # Frisch-Waugh: what of next week's price is not this week's, against what is left of demand.
    for target in ("next", "rest"):
        on_price = (weight * shock * pl.col(target)).sum() / (weight * shock**2).sum()
        both = both.with_columns(pl.col(target) - on_price.over(group) * shock)
    slope = (weight * following * pl.col("rest")).sum() / (weight * following**2).sum()
    return (
        both
        .with_columns(slope.over(group).alias("slope"))
        .with_columns(
            (pl.col("rest") - pl.col("slope") * following).alias("rest"),
            following.alias("shock"),
            following.alias("lever"),
        )
        .drop("everything")
    )


def by_product(solved: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Ask the same of each product alone.

    Parameters
    ----------
    solved : see `elasticity.solve`, by product

    Returns
    -------
    DataFrame with product_id, placebo, placebo_lower, placebo_upper; null where nothing follows.
    """
    found = elasticity.by_product(ahead(solved, ["product_id"]), config)
    half = pl.col("own_error") * float(stats.norm.ppf((1 + config.confidence) / 2))
    return found.select(
        "product_id",
        pl.col("own_estimate").alias("placebo"),
        (pl.col("own_estimate") - half).alias("placebo_lower"),
        (pl.col("own_estimate") + half).alias("placebo_upper"),
    )


def permutation(solved: pl.DataFrame, by: list[str], draws: int, seed: int) -> pl.DataFrame:
    """Ask how often prices of other weeks explain demand as well as those of the week itself.

    All series of a product are turned round in time by the same number of weeks, so that seasons of
    prices, and what stores share, stay as they are; only their place beside demand is lost.

    Parameters
    ----------
    solved : see `elasticity.solve`, by the same columns
    draws : rotations

    Returns
    -------
    DataFrame
        `by` (none: shop), p_value: share of rotations, the real one counted, whose slope lies at
        least as far from zero.
    """
    named = dict.fromkeys([*by, *SERIES, WEEK, "weight", "lever", "rest", "slope"])
    solved = solved.select(list(named)).sort(*SERIES, WEEK)
    weight, shock = solved["weight"].to_numpy(), solved["lever"].to_numpy()
    group, series = layout.codes(solved, by), layout.codes(solved, SERIES)
    # What demand leaves when no price answers: of the first order, slope * shock put back.
    rest = solved["rest"].to_numpy() + solved["slope"].to_numpy() * shock
    length = np.bincount(series)
    first = np.concatenate([[0], np.cumsum(length)[:-1]])
    row, whole = np.arange(len(series)), length[series]
    left = whole - (row - first[series])
    product = np.zeros(len(length), dtype=np.int64)
    product[series] = layout.codes(solved, ["product_id"])
    rng = np.random.default_rng(seed)
    pull, of_series = weight * rest, group[first]

    def add(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(of_series, np.add.reduceat(values, first)), dtype=np.float64)

    def slopes(turned: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(add(pull * turned) / np.maximum(add(weight * turned**2), 1e-12))

    real, beaten = np.abs(slopes(shock)), np.ones(group.max() + 1)
    for _ in range(draws):
        turn = rng.uniform(0.1, 0.9, product.max() + 1)[product]
        weeks = np.maximum((turn * length).astype(np.int64), 1)[series]
        # Beyond the end of its series a row goes on at the beginning.
        beaten += np.abs(slopes(shock[row + weeks - whole * (weeks >= left)])) >= real
    return (
        solved
        .with_columns(pl.Series("group", group), pl.lit("shop").alias("shop"))
        .select("group", *(by or ["shop"]))
        .unique("group")
        .sort("group")
        .with_columns(pl.Series("p_value", beaten / (draws + 1)))
        .drop("group")
    )
