"""Why a product stands in a list, in words that can be shown to a customer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from ecom_tasks import texts
from ecom_tasks.recommendation import cold, selection
from ecom_tasks.recommendation.candidates import (
    COLD,
    als,
    ease,
    neighbours,
    popular,
    propagation,
    rank_name,
    repeat,
    sequence,
)
from ecom_tasks.recommendation.candidates.matrix import Interactions, encode
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.snapshots import PAIR, Overview, among, warm

_NEW = (
    neighbours.NAME, sequence.NAME, als.NAME, ease.NAME, propagation.NAME, popular.NAME,
)  # fmt: skip


def generator_of(candidates: pl.DataFrame) -> pl.DataFrame:
    """Name the generator that puts each pair highest.

    Parameters
    ----------
    candidates : customer_id, product_id, is_new and the generators' ranks

    Returns
    -------
    DataFrame with customer_id, product_id, generator
    """
    there = [name for name in _NEW if rank_name(name) in candidates.columns]
    ranks = [pl.col(rank_name(name)).fill_null(float("inf")) for name in there]
    best = pl.concat_list(ranks).list.arg_min()
    return candidates.select(
        *PAIR,
        pl
        .when(pl.col("is_new") > 0)
        .then(best.replace_strict(dict(enumerate(there)), return_dtype=pl.String))
        .otherwise(pl.lit(repeat.NAME))
        .alias("generator"),
    )


@dataclass(frozen=True)
class Similar:
    """What a day knows, who bought what, and which products are near to each other by that."""

    overview: Overview
    known: Interactions
    near: sparse.csr_matrix


def explain(lists: pl.DataFrame, similar: Similar) -> pl.DataFrame:
    """Add the column `reason`.

    Parameters
    ----------
    lists : customer_id, product_id, generator and any further columns
    similar : of `similar_of`
    """
    overview = similar.overview
    usual = overview.products.select(
        "product_id", pl.col("mean_days_between_purchases").cast(pl.Float64)
    )
    again = lists.filter(pl.col("generator") == repeat.NAME).select(PAIR)
    interval = pl.concat(
        texts.own(repeat.typical_interval(part.join(again, on=PAIR, how="semi"), usual))
        for part in overview.pairs
    )
    bought_with = _because(lists.filter(pl.col("generator") == neighbours.NAME), similar)
    days = pl.col("interval_days").round(0).cast(pl.Int64)
    buy_again = (
        pl.when(days.is_null() | (days < 1)).then(pl.lit("buy again"))
        .when(days == 1).then(pl.lit("buy again: every day"))
        .otherwise(pl.format("buy again: every {} days", days.fill_null(0)))
    )  # fmt: skip
    together = pl.format("bought together with {}", pl.col("because"))
    by_generator = {
        repeat.NAME: buy_again,
        neighbours.NAME: pl.coalesce(together, pl.lit("goes with what you buy")),
        sequence.NAME: pl.lit("often follows what you bought last"),
        als.NAME: pl.lit("liked by customers with a similar taste"),
        ease.NAME: pl.lit("goes with what you buy"),
        propagation.NAME: pl.lit("viewed together with what you buy"),
        popular.NAME: pl.lit("popular now"),
        COLD: pl.lit("new, and like what you buy"),
        cold.CATEGORY: pl.lit("new, in a category that you buy"),
        cold.POPULAR: pl.lit("new, and already liked"),
        selection.PINNED: pl.lit("chosen by the shop"),
    }
    reason = pl.lit("")
    for name, text in by_generator.items():
        reason = pl.when(pl.col("generator") == name).then(text).otherwise(reason)
    return (
        lists
        .join(interval, on=PAIR, how="left", maintain_order="left")
        .join(bought_with, on=PAIR, how="left", maintain_order="left")
        .with_columns(reason.alias("reason"))
        .drop("interval_days", "because")
    )


def _because(pairs: pl.DataFrame, similar: Similar) -> pl.DataFrame:
    """Return customer_id, product_id, because: title of the own product that speaks most for it."""
    titles = similar.overview.products.select(
        pl.col("product_id").alias("because_of"),
        pl.coalesce("title", "product_id").alias("because"),
    )
    found = neighbours.strongest(pairs.select(PAIR), similar.known, similar.near)
    return found.join(titles, on="because_of", how="left").select(*PAIR, "because")


def similar_of(overview: Overview, config: RecommendationConfig) -> Similar:
    """Find which products are near to each other on that day."""
    ranked = among(overview.pairs, warm(overview.products, config.min_customers))
    known = encode(ranked, config.matrix_products)
    near = neighbours.similarity(known.orders, config.neighbours, config.neighbour_shrinkage)
    return Similar(overview, known, near)


def similar_products(
    similar: Similar, shown: pl.DataFrame, config: RecommendationConfig
) -> pl.DataFrame:
    """Return product_id, similar_product_id, rank, score (shrunk cosine over customers).

    Parameters
    ----------
    similar : of `similar_of`
    shown : product_id of what may be named as similar
    """
    entries = similar.near.tocoo()
    names = similar.known.products["product_id"]
    pairs = pl.DataFrame({
        "product_id": names.gather(entries.row),
        "similar_product_id": names.gather(entries.col),
        "score": entries.data.astype(np.float64).round(6),
    })
    may = shown.select(pl.col("product_id").alias("similar_product_id"))
    ordered = pairs.join(may, on="similar_product_id", how="semi").sort(
        ["product_id", "score", "similar_product_id"], descending=[False, True, False]
    )
    rank = pl.int_range(1, pl.len() + 1).over("product_id").cast(pl.Int64).alias("rank")
    return ordered.with_columns(rank).filter(pl.col("rank") <= config.similar_k)
