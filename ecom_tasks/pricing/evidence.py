"""How far each elasticity can be trusted: strong, weak, or cannot tell."""

from __future__ import annotations

import polars as pl

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.variation import ENOUGH

STRONG, WEAK, CANNOT_TELL = "strong", "weak", "cannot tell"
# Share of an elasticity below which a placebo does not matter.
_MATERIAL = 0.25
# Share of the price's variance that must be left once season and promotions are off.
_LEAST_LEFT = 0.02
_RARE = 0.05


def of_categories(
    judged: pl.DataFrame, pooled: pl.DataFrame, placebo: pl.DataFrame
) -> pl.DataFrame:
    """Grade the elasticity of each category.

    Strong: prices moved enough, the interval lies below zero, and next week's price does not
    explain this week's demand. Weak: the same, but the placebo fails. Else: cannot tell.

    Parameters
    ----------
    judged : see `variation.categories`, with the columns of `shrinkage.shrink`
    pooled, placebo : see `pooling.pooled` and `placebo.ahead`, by category

    Returns
    -------
    DataFrame
        `judged` with estimate, standard_error, lower, upper (from the category's own products),
        placebo, placebo_lower, placebo_upper, placebo_passed, grade and why.
    """
    below = (pl.col("upper") < 0).fill_null(value=False)
    enough = pl.col("variation") == ENOUGH
    around = (pl.col("placebo_lower") <= 0) & (pl.col("placebo_upper") >= 0)
    failed = ~around.fill_null(value=True)
    return (
        judged
        .join(
            pooled.select("category", "estimate", "standard_error", "lower", "upper"),
            on="category",
            how="left",
        )
        .join(
            placebo.select(
                "category",
                pl.col("estimate").alias("placebo"),
                pl.col("lower").alias("placebo_lower"),
                pl.col("upper").alias("placebo_upper"),
            ),
            on="category",
            how="left",
        )
        .with_columns(
            around.fill_null(value=True).alias("placebo_passed"),
            pl
            .when(~enough)
            .then(pl.col("variation"))
            .when(~below)
            .then(pl.lit("the interval does not lie below zero"))
            .when(failed)
            .then(pl.lit("next week's price seems to explain this week's demand"))
            .otherwise(pl.lit("negative beyond chance"))
            .alias("why"),
            pl
            .when(~enough | ~below)
            .then(pl.lit(CANNOT_TELL))
            .when(failed)
            .then(pl.lit(WEAK))
            .otherwise(pl.lit(STRONG))
            .alias("grade"),
        )
        .sort("category")
    )


def of_products(
    products: pl.DataFrame, categories: pl.DataFrame, config: PricingConfig, places: int = 1
) -> pl.DataFrame:
    """Grade the elasticity of each product.

    Cannot tell: its own price moved too little, whatever its category does; or season and
    promotions foretell it; or the interval does not lie below zero. Strong: mostly from its own
    weeks, placebo passed (its own with several locations, else its category's), and no rotation of
    its prices in time explains demand as well. Else weak.

    Parameters
    ----------
    products : see `shrinkage.shrink`, with variation
    categories : see `of_categories`
    places : locations of the panel; with several, each product is tested by itself

    Returns
    -------
    `products` with placebo_passed, grade and why.
    """
    moved = pl.col("variation") == ENOUGH
    below = pl.col("upper") < 0
    own = pl.col("weight_borrowed") <= 1 - config.strong_own_weight
    joined = products.join(
        categories.select("category", pl.col("placebo_passed").alias("category_passed")),
        on="category",
        how="left",
        maintain_order="left",
    )
    passed = pl.col("category_passed")
    if "placebo" in products.columns and places > 1:
        # A product at many locations is tested by itself. A placebo beyond chance that is small
        # beside the elasticity leaves the answer as it is.
        small = pl.col("placebo").abs() <= _MATERIAL * pl.col("estimate").abs()
        around = (pl.col("placebo_lower") <= 0) & (pl.col("placebo_upper") >= 0)
        passed = (small | around).fill_null(value=True)
    left = (
        pl.col("price_left_share") >= _LEAST_LEFT
        if "price_left_share" in products.columns
        else pl.lit(True)
    ).fill_null(value=True)
    real = (
        pl.col("p_value") <= _RARE if "p_value" in products.columns and places > 1 else pl.lit(True)
    ).fill_null(value=True)
    return joined.with_columns(
        passed.alias("placebo_passed"),
        pl
        .when(~moved)
        .then(pl.col("variation"))
        .when(~left)
        .then(pl.lit("season and promotions foretell its price: nothing is left to learn from"))
        .when(~below)
        .then(pl.lit("the interval does not lie below zero"))
        .when(~own)
        .then(pl.lit("mostly borrowed from its category"))
        .when(~passed)
        .then(pl.lit("next week's price seems to explain this week's demand"))
        .when(~real)
        .then(pl.lit("prices of other weeks explain demand as well"))
        .otherwise(pl.lit("mostly from its own weeks"))
        .alias("why"),
        pl
        .when(~moved | ~left | ~below)
        .then(pl.lit(CANNOT_TELL))
        .when(own & passed & real)
        .then(pl.lit(STRONG))
        .otherwise(pl.lit(WEAK))
        .alias("grade"),
    ).drop("category_passed")
