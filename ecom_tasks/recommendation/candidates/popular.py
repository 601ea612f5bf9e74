"""Popular now: what most customers bought in the last four weeks; the fallback for everyone."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from ecom_tasks import texts
from ecom_tasks.metrics.ranking import rank_within
from ecom_tasks.recommendation.candidates.kept import Kept
from ecom_tasks.recommendation.config import RecommendationConfig

NAME = "popular"


def popularity(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return product_id and score: customers of the last 28 days, all customers as tie-break.

    Parameters
    ----------
    parts : customer_id, product_id, orders_28d; a pair once in all of them
    """
    recent = (pl.col("orders_28d") > 0).sum().alias("recent")
    counts = pl.concat(
        texts.own(part.group_by("product_id").agg(recent, pl.len().alias("ever"))) for part in parts
    )
    ever = pl.col("ever").sum()
    return (
        counts
        .group_by("product_id")
        .agg((pl.col("recent").sum() + ever / (ever + 1)).alias("score"))
        .sort(["score", "product_id"], descending=[True, False])
    )


def fit(parts: Iterable[pl.DataFrame], config: RecommendationConfig) -> Kept:
    """Keep the most popular products; `score` of the result, shape (products,)."""
    # Customers own some of the most popular products: four times as many leave enough.
    top = popularity(parts).head(4 * config.popular_candidates).sort("product_id")
    products = top.select("product_id").with_row_index("column")
    return Kept(products, {"score": top["score"].to_numpy()})


def propose(kept: Kept, interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose to the customers of these interactions."""
    top = kept.products.select("product_id", pl.Series("score", kept.arrays["score"]))
    everyone = interactions.select("customer_id").unique()
    own = interactions.select("customer_id", "product_id")
    new = everyone.join(top, how="cross").join(own, on=["customer_id", "product_id"], how="anti")
    return rank_within(new, config.popular_candidates).select(
        "customer_id", "product_id", "score", pl.lit(NAME).alias("generator")
    )


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose to each customer the most popular products that are new to them.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator
    """
    return propose(fit([interactions], config), interactions, config)
