"""Ranking metrics: plain functions of which ranks were hits and how many hits were possible.

Two steps. `hits` lines a ranking up with what was right: one row per customer, one column per
rank. Each metric then turns the rows into one value per customer, so that means, intervals and
paired comparisons are all taken over customers.

Ties are broken before ranking: of equal scores the smaller product id goes first (`rank_within`).
A customer without positives has no defined value and is left out by `hits`; a customer with
positives but without any ranked product gets 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Hits:
    """What a ranking got right.

    Attributes
    ----------
    customers : ids of the customers with at least one positive, ascending, shape (n,)
    at_rank : whether the product at this rank was a positive, shape (n, depth); False past the
        end of a shorter list
    positives : number of positives of each customer, ranked or not, at least 1, shape (n,)
    """

    customers: list[str]
    at_rank: BoolArray
    positives: IntArray


def rank_within(scored: pl.DataFrame, k: int) -> pl.DataFrame:
    """Keep each customer's `k` best products and add `rank`, from 1.

    Parameters
    ----------
    scored : customer_id, product_id, score (higher is better, no nulls) and any further columns
    k : length of the lists

    Returns
    -------
    DataFrame sorted by customer_id and rank. Of equal scores the smaller product id goes first.
    """
    order = ["customer_id", "score", "product_id"]
    rank = pl.int_range(1, pl.len() + 1).over("customer_id").cast(pl.Int64)
    return (
        scored
        .sort(order, descending=[False, True, False])
        .with_columns(rank.alias("rank"))
        .filter(pl.col("rank") <= k)
    )


def hits(ranked: pl.DataFrame, positives: pl.DataFrame, customers: pl.Series, depth: int) -> Hits:
    """Line a ranking up with the products that were right.

    Parameters
    ----------
    ranked : customer_id, product_id, rank (from 1, unique within a customer)
    positives : customer_id, product_id, each pair once
    customers : who is judged; those without positives are left out
    depth : ranks that are looked at
    """
    who = customers.unique().sort().to_frame("customer_id")
    counts = who.join(positives.group_by("customer_id").len("positives"), on="customer_id")
    counts = counts.sort("customer_id").with_row_index("row")
    found = (
        ranked
        .filter(pl.col("rank") <= depth)
        .join(positives, on=["customer_id", "product_id"], how="semi")
        .join(counts, on="customer_id")
    )
    at_rank = np.zeros((counts.height, depth), dtype=bool)
    at_rank[found["row"].to_numpy(), found["rank"].to_numpy() - 1] = True
    return Hits(
        counts["customer_id"].to_list(), at_rank, counts["positives"].to_numpy().astype(np.int64)
    )


def ndcg_at_k(at_rank: BoolArray, positives: IntArray, k: int) -> FloatArray:
    """Normalised discounted cumulative gain: gain 1 for a hit, discount 1 / log2(rank + 1).

    The ideal list has min(positives, k) hits at its top, so that 1 can be reached by everyone.

    Parameters
    ----------
    at_rank : shape (n, depth), depth >= k
    positives : shape (n,), each at least 1

    Returns
    -------
    float array, shape (n,), each in [0, 1]

    Examples
    --------
    >>> hit = np.array([[False, True]])  # the second of two products was right
    >>> ndcg_at_k(hit, np.array([1]), 2).round(4)  # 1 / log2(3)
    array([0.6309])

    References
    ----------
    Jarvelin and Kekalainen (2002), "Cumulated gain-based evaluation of IR techniques", ACM TOIS.
    """
    discount = 1 / np.log2(np.arange(2, _checked(at_rank, k) + 2))
    ideal = np.cumsum(discount)[np.minimum(positives, k) - 1]
    return np.asarray(at_rank[:, :k] @ discount / ideal, dtype=np.float64)


def recall_at_k(at_rank: BoolArray, positives: IntArray, k: int) -> FloatArray:
    """Share of the positives that stand in the first k; the denominator is not cut at k."""
    return np.asarray(at_rank[:, : _checked(at_rank, k)].sum(axis=1) / positives, dtype=np.float64)


def mrr_at_k(at_rank: BoolArray, k: int) -> FloatArray:
    """Reciprocal of the rank of the first hit, 0 if there is none in the first k."""
    first_k = at_rank[:, : _checked(at_rank, k)]
    reciprocal = np.asarray(1 / (first_k.argmax(axis=1) + 1), dtype=np.float64)
    return np.asarray(np.where(first_k.any(axis=1), reciprocal, 0.0), dtype=np.float64)


def hit_rate_at_k(at_rank: BoolArray, k: int) -> FloatArray:
    """1 for a customer with at least one hit in the first k, else 0."""
    first_k = at_rank[:, : _checked(at_rank, k)]
    return np.asarray(np.any(first_k, axis=1), dtype=np.float64)


def map_at_k(at_rank: BoolArray, positives: IntArray, k: int) -> FloatArray:
    """Average precision: mean of the precision at each hit, over min(positives, k)."""
    first_k = at_rank[:, : _checked(at_rank, k)]
    precision = np.cumsum(first_k, axis=1) / np.arange(1, k + 1)
    total = (precision * first_k).sum(axis=1)
    return np.asarray(total / np.minimum(positives, k), dtype=np.float64)


def coverage(ranked: pl.DataFrame, products: int, k: int) -> float:
    """Share of the `products` in the catalogue that stand in anyone's first k."""
    return ranked.filter(pl.col("rank") <= k)["product_id"].n_unique() / products


def novelty(ranked: pl.DataFrame, popularity: pl.DataFrame, customers: int, k: int) -> float:
    """Mean surprise of the first k, -log2 of the share of customers who have the product, in bits.

    Parameters
    ----------
    ranked : customer_id, product_id, rank
    popularity : product_id, customers (who had it before); products without any are left out
    customers : all of them
    """
    surprise = -(pl.col("customers") / customers).log(2)
    shown = ranked.filter(pl.col("rank") <= k).join(popularity, on="product_id")
    value = shown.filter(pl.col("customers") > 0).select(surprise.mean()).item()
    return float(value) if value is not None else float("nan")


def bootstrap_interval(
    values: FloatArray, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over customers.

    For a paired comparison pass the differences of the two models, customer by customer.

    Parameters
    ----------
    values : one value per customer, shape (n,), n >= 1
    level : share of the resampled means that lie inside, in (0, 1)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    random = np.random.default_rng(seed)
    # A resample is a count of how often each customer was drawn.
    drawn = random.multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    means = drawn @ values / len(values)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _checked(at_rank: BoolArray, k: int) -> int:
    if not 1 <= k <= at_rank.shape[1]:
        raise ValueError(f"k must lie in 1..{at_rank.shape[1]} (the depth of the hits), got {k}")
    return k
