"""Whether prices moved enough to learn from, decided from prices alone, before any estimate.

A product has enough price variation if

1. its price is known in at least `min_weeks` weeks (26),
2. and in at least `min_coverage` of the weeks from its first to its last sale (three quarters);
3. in at least `min_moved_weeks` weeks (6) the price lay `move` (5%) or more off its median;
4. buyers mostly pay one price: in at most `max_mixed` (half) of the weeks and locations is the mean
   price paid 5% or more off the median. Elsewhere (quantity discounts, trade customers) the weekly
   price moves with who buys, which is no answer to a price;
5. and its weekly price is reliable: at least `min_reliability` (half) of its variance over weeks is
   no mere disagreement of the locations in the same week. This leaves out goods without a shelf
   price (weighed meat, flowers, photo prints).

A category has enough if at least `min_products` (3) of its products do: an interval over fewer
clusters would be a guess.
"""

from __future__ import annotations

import polars as pl

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import SERIES, WEEK

ENOUGH = "enough"


def products(panel: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Judge the price variation of each product.

    Parameters
    ----------
    panel : see `panel.weekly`; only its prices are read

    Returns
    -------
    DataFrame
        product_id, weeks, coverage (0 to 1), moved_weeks, price_deviation (standard deviation of
        the log price), mixed (0 to 1), reliability (0 to 1; null where no week has two locations)
        and variation (`enough`, or in words what is missing).
    """
    panel = panel.sort(*SERIES, WEEK)
    span = (pl.col(WEEK).max() - pl.col(WEEK).min()).dt.total_days() / 7 + 1
    off = pl.col("price").log() - pl.col("price").log().median()
    # By series first: stores that change their prices in turn leave the chain's median as it is.
    series = panel.group_by(SERIES, maintain_order=True).agg(
        pl.len().alias("known"),
        span.alias("span"),
        (off.abs() >= config.move).sum().alias("moved_weeks"),
        ((pl.col("price").log() - pl.col("price").log().mean()) ** 2).sum().alias("squares"),
        (pl.col("price_spread") / pl.col("price_locations")).mean().alias("noise"),
        pl.col("price_mixed").mean(),
    )
    weeks = panel.group_by("product_id").agg(pl.col(WEEK).n_unique().alias("weeks"))
    known = pl.col("known").sum()
    # A standard deviation over series: each has a mean of its own.
    variance = pl.col("squares").sum() / (known - pl.len()).cast(pl.Float64)
    measured = (
        series
        .group_by("product_id", maintain_order=True)
        .agg(
            (known / pl.col("span").sum()).alias("coverage"),
            pl.col("moved_weeks").sum(),
            variance.sqrt().alias("price_deviation"),
            pl.col("price_mixed").mean().alias("mixed"),
            pl
            .when(variance > 0)
            .then((1 - pl.col("noise").mean() / variance).clip(0, 1))
            .alias("reliability"),
        )
        .join(weeks, on="product_id")
        .select(
            "product_id", "weeks", "coverage", "moved_weeks", "price_deviation", "mixed",
            "reliability",
        )
    )  # fmt: skip
    missing = (
        pl
        .when(pl.col("weeks") < config.min_weeks)
        .then(pl.lit(f"price known in fewer than {config.min_weeks} weeks"))
        .when(pl.col("coverage") < config.min_coverage)
        .then(pl.lit(f"price known in less than {config.min_coverage:.0%} of its weeks"))
        .when(pl.col("moved_weeks") < config.min_moved_weeks)
        .then(pl.lit(f"price moved in fewer than {config.min_moved_weeks} weeks"))
        .when(pl.col("mixed") > config.max_mixed)
        .then(pl.lit("buyers pay different prices in the same week"))
        .when(pl.col("reliability") < config.min_reliability)
        .then(pl.lit("locations disagree on the price as much as weeks do"))
        .otherwise(pl.lit(ENOUGH))
    )
    return measured.with_columns(missing.alias("variation")).sort("product_id")


def categories(
    judged: pl.DataFrame, catalogue: pl.DataFrame, config: PricingConfig
) -> pl.DataFrame:
    """Judge the price variation of each category.

    Parameters
    ----------
    judged : see `products`
    catalogue : product_id, category, department; one row a product

    Returns
    -------
    DataFrame
        category, department, products, products_enough, variation (`enough` or what is missing).
    """
    too_few = f"fewer than {config.min_products} products whose price moved enough"
    enough = (pl.col("variation") == ENOUGH).sum()
    return (
        judged
        .join(catalogue, on="product_id")
        .group_by("category", "department")
        .agg(pl.len().alias("products"), enough.alias("products_enough"))
        .with_columns(
            pl
            .when(pl.col("products_enough") >= config.min_products)
            .then(pl.lit(ENOUGH))
            .otherwise(pl.lit(too_few))
            .alias("variation")
        )
        .sort("category")
    )
