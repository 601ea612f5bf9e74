"""Rules inside top-k, never after it: a list has k products whenever k eligible ones exist."""

from __future__ import annotations

import polars as pl

from ecom_tasks.metrics.ranking import rank_within
from ecom_tasks.recommendation.config import RecommendationConfig

FILL = "popular"


def eligible(
    products: pl.DataFrame, stock: pl.DataFrame | None, config: RecommendationConfig
) -> pl.DataFrame:
    """Return product_id of what may be recommended.

    Parameters
    ----------
    products : product_id, category, days_since_last_sale
    stock : lake table stock, or None where the shop has none; a product that its latest count
        finds nowhere is left out
    """
    allowed = products.filter(
        (pl.col("days_since_last_sale") <= config.stale_days)
        & ~pl.col("product_id").is_in(list(config.excluded_products))
    )
    for path in config.excluded_categories:
        category = pl.col("category").fill_null("")
        allowed = allowed.filter((category != path) & ~category.str.starts_with(f"{path}/"))
    if stock is not None:
        latest = stock.filter(
            pl.col("snapshot_on") == pl.col("snapshot_on").max().over("product_id", "location_id")
        )
        gone = latest.group_by("product_id").agg(pl.col("on_hand").sum()).filter(
            pl.col("on_hand") <= 0
        )  # fmt: skip
        allowed = allowed.join(gone, on="product_id", how="anti")
    return allowed.select("product_id").sort("product_id")


def top_k(
    scored: pl.DataFrame, allowed: pl.DataFrame, popular: pl.DataFrame, k: int
) -> pl.DataFrame:
    """Take the best eligible products of each customer, filled up with popular ones.

    Parameters
    ----------
    scored : customer_id, product_id, score, generator; each pair once
    allowed : product_id
    popular : product_id, score, best first, for lists that would be short
    k : length of the lists

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator, rank (from 1). What fills a list
    stands behind what was ranked, whatever its score.
    """
    columns = ["customer_id", "product_id", "score", "generator"]
    ranked = rank_within(scored.join(allowed, on="product_id", how="semi").select(columns), k)
    short = (
        scored
        .select("customer_id")
        .unique()
        .join(ranked.group_by("customer_id").len("have"), on="customer_id", how="left")
        .with_columns(pl.col("have").fill_null(0).cast(pl.Int64))
        .filter(pl.col("have") < k)
    )
    if short.is_empty():
        return ranked
    # A list lacks at most k products, and at most k of the fill stand in it already.
    fill = popular.join(allowed, on="product_id", how="semi", maintain_order="left").head(2 * k)
    behind = (
        short
        .join(fill.select("product_id", pl.col("score").alias("popularity")), how="cross")
        .join(ranked, on=["customer_id", "product_id"], how="anti")
        .with_columns(pl.col("popularity").alias("score"), pl.lit(FILL).alias("generator"))
    )
    more = rank_within(behind.select(*columns, "have"), k).filter(
        pl.col("rank") + pl.col("have") <= k
    )
    united = pl.concat([
        ranked,
        more.select(*columns, (pl.col("rank") + pl.col("have")).alias("rank")),
    ])
    return united.sort("customer_id", "rank")
