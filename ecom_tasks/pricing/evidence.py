"""How far each elasticity can be trusted: strong, weak, or cannot tell."""

from __future__ import annotations

import polars as pl

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.variation import ENOUGH

STRONG, WEAK, CANNOT_TELL = "strong", "weak", "cannot tell"


def of_categories(
    judged: pl.DataFrame, pooled: pl.DataFrame, placebo: pl.DataFrame
) -> pl.DataFrame:
    """Grade the elasticity of each category.

    Strong: prices moved enough, the interval lies below zero, and next week's price does not
    explain this week's demand. Weak: the same, but the placebo fails. Else: cannot tell.

    Parameters
    ----------
    judged : see `variation.categories`, with the columns of `shrinkage.shrink`
    pooled, placebo : see `elasticity.pooled` and `elasticity.placebo`, by category

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
    products: pl.DataFrame, categories: pl.DataFrame, config: PricingConfig
) -> pl.DataFrame:
    """Grade the elasticity of each product.

    Cannot tell: its own price moved too little, whatever its category does, or the interval does
    not lie below zero. Strong: mostly from its own weeks, in a category that passed the placebo.
    Else weak.

    Parameters
    ----------
    products : see `shrinkage.shrink`, with variation
    categories : see `of_categories`

    Returns
    -------
    `products` with grade and why.
    """
    moved = pl.col("variation") == ENOUGH
    below = pl.col("upper") < 0
    own = pl.col("weight_borrowed") <= 1 - config.strong_own_weight
    passed = pl.col("placebo_passed")
    return (
        products
        .join(
            categories.select("category", "placebo_passed"),
            on="category",
            how="left",
            maintain_order="left",
        )
        .with_columns(
            pl
            .when(~moved)
            .then(pl.col("variation"))
            .when(~below)
            .then(pl.lit("the interval does not lie below zero"))
            .when(~own)
            .then(pl.lit("mostly borrowed from its category"))
            .when(~passed)
            .then(pl.lit("its category fails the placebo"))
            .otherwise(pl.lit("mostly from its own weeks"))
            .alias("why"),
            pl
            .when(~moved | ~below)
            .then(pl.lit(CANNOT_TELL))
            .when(own & passed)
            .then(pl.lit(STRONG))
            .otherwise(pl.lit(WEAK))
            .alias("grade"),
        )
        .drop("placebo_passed")
    )
