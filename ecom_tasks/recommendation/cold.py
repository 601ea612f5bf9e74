"""Products with little history: offered by what they are, not by who bought them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ecom_tasks.metrics.ranking import rank_within
from ecom_tasks.recommendation.candidates import COLD
from ecom_tasks.recommendation.candidates.matrix import blocks
from ecom_tasks.recommendation.candidates.popular import popularity
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.snapshots import Snapshot

if TYPE_CHECKING:
    from ecom_tasks.training import two_tower

POPULAR, CATEGORY = "new_popular", "new_in_category"
"""Ways to offer products with little history, beside the two towers."""


def content(snapshot: Snapshot, catalogue: pl.DataFrame) -> pl.DataFrame:
    """Return product_id, title, category, brand, price of what was sold or has a day of launch.

    Also of launches to come: what a product is, is known before.

    Parameters
    ----------
    catalogue : lake table products
    """
    sold = snapshot.products.select(
        "product_id", "title", "category", "brand", pl.col("mean_price").alias("price")
    )
    launched = catalogue.filter(
        pl.col("sellable").fill_null(value=True) & pl.col("launched_on").is_not_null()
    ).select(
        "product_id", "title", "category", "brand",
        pl.col("regular_price").cast(pl.Float64).alias("price"),
    )  # fmt: skip
    return pl.concat([sold, launched.join(sold, on="product_id", how="anti")])


def cold_products(
    snapshot: Snapshot, catalogue: pl.DataFrame, config: RecommendationConfig
) -> pl.Series:
    """Return the ids of fresh products that too few customers bought to be ranked."""
    warm = snapshot.warm(config.min_customers)
    sold = snapshot.products.filter(pl.col("days_since_last_sale") < config.fresh_days)
    age = (pl.lit(snapshot.cutoff) - pl.col("launched_on")).dt.total_days()
    launched = catalogue.filter(
        pl.col("sellable").fill_null(value=True) & age.is_between(0, config.fresh_days - 1)
    )
    fresh = pl.concat([sold.select("product_id"), launched.select("product_id")]).unique()
    return fresh.join(warm, on="product_id", how="anti").sort("product_id")["product_id"]


def dials(config: RecommendationConfig) -> two_tower.Dials:
    # Many import this file for the names above, and need no TensorFlow.
    from ecom_tasks.training import two_tower

    return two_tower.Dials(
        embedding_size=config.embedding_size,
        vocabulary=config.vocabulary,
        epochs=config.epochs,
        batch_size=config.batch_size,
        largest_sample=config.largest_sample,
        seed=config.seed,
    )


def plainly(
    snapshot: Snapshot, content: pl.DataFrame, cold: pl.Series, k: int
) -> dict[str, pl.DataFrame]:
    """Offer cold products without a model: the best sold, and those of the customer's categories.

    Parameters
    ----------
    content : product_id, category (path) of all products
    cold : ids of the cold products

    Returns
    -------
    by name, DataFrame with customer_id, product_id, score, generator, rank
    """
    few = content.filter(pl.col("product_id").is_in(cold.implode()))
    sold = popularity(snapshot.pairs.join(few, on="product_id", how="semi"))
    liked = (
        few
        .join(sold, on="product_id", how="left")
        .with_columns(pl.col("score").fill_null(0.0))
        .sort(["score", "product_id"], descending=[True, False])
    )
    everyone = snapshot.customers.select("customer_id")
    # Customers own a few of them: more than k leave enough.
    best = everyone.join(liked.select("product_id", "score").head(4 * k), how="cross")
    share = pl.col("recency_weighted_orders").sum()
    taste = (
        snapshot.pairs
        .join(content.select("product_id", "category"), on="product_id")
        .group_by("customer_id", "category")
        .agg(share.alias("taste"))
    )
    within = (
        taste
        .join(
            liked.group_by("category", maintain_order=True).head(2 * k).rename({"score": "sold"}),
            on="category",
        )
        .with_columns((pl.col("taste") * (1 + pl.col("sold"))).alias("score"))
        .select("customer_id", "product_id", "score")
    )
    return {
        POPULAR: _new(best, snapshot, k, POPULAR),
        CATEGORY: _new(within, snapshot, k, CATEGORY),
    }


def _new(offered: pl.DataFrame, snapshot: Snapshot, k: int, name: str) -> pl.DataFrame:
    """Keep the best k that are new to each customer."""
    own = snapshot.pairs.select("customer_id", "product_id")
    new = offered.join(own, on=["customer_id", "product_id"], how="anti")
    return rank_within(new, k).select(
        "customer_id", "product_id", "score", pl.lit(name).alias("generator"), "rank"
    )


def propose(
    towers: two_tower.TwoTower,
    known: two_tower.Catalogue,
    snapshot: Snapshot,
    cold: pl.Series,
    k: int,
) -> pl.DataFrame:
    """Propose cold products that are new to the customer, nearest first.

    Returns
    -------
    DataFrame with customer_id, product_id, score (cosine), generator, rank
    """
    from ecom_tasks.training import two_tower

    customers, words = two_tower.histories(snapshot.pairs, known)
    chosen = known.product_ids.is_in(cold.implode()).to_numpy()
    ids = known.product_ids.filter(pl.Series(chosen))
    if ids.is_empty() or customers.is_empty():
        return _nothing()
    products = two_tower.embed(towers.product, known.words[chosen])
    vectors = two_tower.embed(towers.customer, words)
    most = min(2 * k, len(ids))
    parts = []
    for part in blocks(len(customers)):
        scores = vectors[part] @ products.T
        top = np.argpartition(-scores, most - 1, axis=1)[:, :most]
        row = np.repeat(np.arange(scores.shape[0]), most)
        parts.append(
            pl.DataFrame({
                "customer_id": customers.gather(row + part.start),
                "product_id": ids.gather(top.ravel()),
                "score": scores[row, top.ravel()].astype(np.float64),
            })
        )
    return _new(pl.concat(parts), snapshot, k, COLD)


def customer_embeddings(
    towers: two_tower.TwoTower, known: two_tower.Catalogue, snapshot: Snapshot
) -> pl.DataFrame:
    """Return customer_id, embedding (length 1, to compare with the products' embeddings).

    Customers stand in ascending order. A customer who bought nothing that `known` holds has no
    row.
    """
    from ecom_tasks.training import two_tower

    customers, words = two_tower.histories(snapshot.pairs, known)
    size = towers.customer.output_shape[-1]
    vectors = np.zeros((0, size), dtype=np.float32)
    if len(customers):
        vectors = two_tower.embed(towers.customer, words).round(6)
    return pl.DataFrame({
        "customer_id": customers,
        "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, size)),
    })


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema={"customer_id": pl.String, "product_id": pl.String,
                                "score": pl.Float64, "generator": pl.String,
                                "rank": pl.Int64})  # fmt: skip
