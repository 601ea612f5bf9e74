"""Products with little history: offered by what they are, not by who bought them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ecom_tasks import texts
from ecom_tasks.metrics.ranking import rank_within
from ecom_tasks.recommendation.candidates import COLD
from ecom_tasks.recommendation.candidates.matrix import blocks
from ecom_tasks.recommendation.candidates.popular import popularity
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.snapshots import Overview, warm

if TYPE_CHECKING:
    from ecom_tasks.training import two_tower

POPULAR, CATEGORY = "new_popular", "new_in_category"
"""Ways to offer products with little history, beside the two towers."""


def content(overview: Overview, catalogue: pl.DataFrame) -> pl.DataFrame:
    """Return product_id, title, category, brand, price of what was sold or has a day of launch.

    Also of launches to come: what a product is, is known before.

    Parameters
    ----------
    catalogue : lake table products
    """
    sold = overview.products.select(
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
    overview: Overview, catalogue: pl.DataFrame, config: RecommendationConfig
) -> pl.Series:
    """Return the ids of fresh products that too few customers bought to be ranked."""
    known = warm(overview.products, config.min_customers)
    sold = overview.products.filter(pl.col("days_since_last_sale") < config.fresh_days)
    age = (pl.lit(overview.cutoff) - pl.col("launched_on")).dt.total_days()
    launched = catalogue.filter(
        pl.col("sellable").fill_null(value=True) & age.is_between(0, config.fresh_days - 1)
    )
    fresh = pl.concat([sold.select("product_id"), launched.select("product_id")]).unique()
    return fresh.join(known, on="product_id", how="anti").sort("product_id")["product_id"]


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


@dataclass(frozen=True)
class Fitted:
    """What was learnt to offer products with little history by.

    Attributes
    ----------
    towers : trained
    known : all products as words
    content : product_id, category (path), of all products
    fresh : ids of the products to offer
    liked : product_id, category and score (`popularity`) of these; the best sold first
    """

    towers: two_tower.TwoTower
    known: two_tower.Catalogue
    content: pl.DataFrame
    fresh: pl.Series
    liked: pl.DataFrame


def fit(overview: Overview, catalogue: pl.DataFrame, config: RecommendationConfig) -> Fitted:
    """Train the towers on all pairs, and count what is sold of the fresh products.

    Parameters
    ----------
    catalogue : lake table products
    """
    from ecom_tasks.training import two_tower

    products = content(overview, catalogue)
    known = two_tower.catalogue(products, config.vocabulary)
    towers = two_tower.train(overview.pairs, known, dials(config))
    fresh = cold_products(overview, catalogue, config)
    return Fitted(towers, known, products, fresh, liked(products, fresh, overview.pairs))


def liked(content: pl.DataFrame, fresh: pl.Series, parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return product_id, category, score of fresh products, the best sold first."""
    few = content.filter(pl.col("product_id").is_in(fresh.implode()))
    sold = popularity(part.join(few, on="product_id", how="semi") for part in parts)
    return (
        few
        .select("product_id", "category")
        .join(sold, on="product_id", how="left")
        .with_columns(pl.col("score").fill_null(0.0))
        .sort(["score", "product_id"], descending=[True, False])
    )


def offers(
    fitted: Fitted, parts: Iterable[pl.DataFrame], k: int, ways: Iterable[str] | None = None
) -> dict[str, pl.DataFrame]:
    """Offer cold products that are new to the customer, in different ways.

    Parameters
    ----------
    parts : customer_id, product_id, recency_weighted_orders: all pairs of those who are offered to,
        all of a customer in one part
    ways : by two towers (`COLD`), the best sold (`POPULAR`), the best sold in the categories of the
        customer (`CATEGORY`); None: all of them

    Returns
    -------
    by way, DataFrame with customer_id, product_id, score, generator, rank; sorted
    """
    made: dict[str, list[pl.DataFrame]] = {name: [] for name in ways or _WAYS}
    for part in parts:
        for name, found in made.items():
            found.append(texts.own(_WAYS[name](fitted, part, k)))
    return {name: pl.concat(found).sort("customer_id", "rank") for name, found in made.items()}


def _best_sold(fitted: Fitted, pairs: pl.DataFrame, k: int) -> pl.DataFrame:
    everyone = pairs.select("customer_id").unique()
    # Customers own a few of them: more than k leave enough.
    best = everyone.join(fitted.liked.select("product_id", "score").head(4 * k), how="cross")
    return _new(best, pairs, k, POPULAR)


def _in_own_categories(fitted: Fitted, pairs: pl.DataFrame, k: int) -> pl.DataFrame:
    taste = (
        pairs
        .join(fitted.content.select("product_id", "category"), on="product_id")
        .group_by("customer_id", "category")
        .agg(pl.col("recency_weighted_orders").sum().alias("taste"))
    )
    best = fitted.liked.group_by("category", maintain_order=True).head(2 * k)
    within = taste.join(best.rename({"score": "sold"}), on="category").select(
        "customer_id", "product_id", (pl.col("taste") * (1 + pl.col("sold"))).alias("score")
    )
    return _new(within, pairs, k, CATEGORY)


def _by_towers(fitted: Fitted, pairs: pl.DataFrame, k: int) -> pl.DataFrame:
    """Offer the nearest; the score is the cosine."""
    from ecom_tasks.training import two_tower

    towers, known = fitted.towers, fitted.known
    customers, words = two_tower.histories([pairs], known)
    chosen = known.product_ids.is_in(fitted.fresh.implode()).to_numpy()
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
    return _new(pl.concat(parts), pairs, k, COLD)


_WAYS: dict[str, Callable[[Fitted, pl.DataFrame, int], pl.DataFrame]] = {
    POPULAR: _best_sold, CATEGORY: _in_own_categories, COLD: _by_towers,
}  # fmt: skip


def _new(offered: pl.DataFrame, pairs: pl.DataFrame, k: int, name: str) -> pl.DataFrame:
    """Keep the best k that are new to each customer."""
    new = offered.join(pairs, on=["customer_id", "product_id"], how="anti")
    return rank_within(new, k).select(
        "customer_id", "product_id", "score", pl.lit(name).alias("generator"), "rank"
    )


def customer_embeddings(fitted: Fitted, parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return customer_id, embedding (length 1, to compare with the products' embeddings).

    Customers stand in ascending order. A customer who bought nothing that `known` holds has no
    row.
    """
    from ecom_tasks.training import two_tower

    tower = fitted.towers.customer
    customers, words = two_tower.histories(parts, fitted.known)
    size = tower.output_shape[-1]
    vectors = np.zeros((0, size), dtype=np.float32)
    if len(customers):
        vectors = two_tower.embed(tower, words).round(6)
    return pl.DataFrame({
        "customer_id": customers,
        "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, size)),
    })


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema={"customer_id": pl.String, "product_id": pl.String,
                                "score": pl.Float64, "generator": pl.String,
                                "rank": pl.Int64})  # fmt: skip
