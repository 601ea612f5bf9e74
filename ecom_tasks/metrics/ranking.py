"""Ranking metrics: plain functions of which ranks were hits and how many hits were possible.

Two steps. `hits` lines a ranking up with what was right: one row per customer, one column per
rank. Each metric then turns the rows into one value per customer, so that means, intervals and
paired comparisons are all taken over customers.

Ties are broken before ranking: of equal scores the smaller product id goes first (`rank_within`).
A customer without positives has no defined value and is left out by `hits`; a customer with
positives but without any ranked product gets 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
_PAIR = ["customer_id", "product_id"]
_BLOCK = 2048


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


def joined(parts: Sequence[Hits]) -> Hits:
    """Put together what was found of some customers at a time.

    Parameters
    ----------
    parts : at least one; a customer in one of them
    """
    customers = np.concatenate([np.array(part.customers, dtype=object) for part in parts])
    order = np.argsort(customers, kind="stable")
    return Hits(
        customers[order].tolist(),
        np.concatenate([part.at_rank for part in parts])[order],
        np.concatenate([part.positives for part in parts])[order],
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


def intra_list_diversity(ranked: pl.DataFrame, own: pl.DataFrame, k: int) -> float:
    """Mean over customers of 1 - the mean cosine between two different products of the first k.

    A product is the set of customers who have it, so that no content is needed: 0 when the same
    customers have all products of a list, 1 when nobody has two of them. Lists with fewer than two
    products that anyone has are left out; without any other list the value is NaN.

    Parameters
    ----------
    ranked : customer_id, product_id, rank
    own : customer_id, product_id, each pair once: what everyone has

    References
    ----------
    Ziegler et al. (2005), "Improving recommendation lists through topic diversification", WWW.
    """
    shown = ranked.filter(pl.col("rank") <= k).join(own, on="product_id", how="semi")
    shown = shown.filter(pl.len().over("customer_id") > 1)
    if shown.is_empty():
        return float("nan")
    vectors, products = _unit_vectors(own.join(shown, on="product_id", how="semi"))
    columns = shown.join(products, on="product_id", how="left", maintain_order="left")["column"]
    rows = shown["customer_id"].rank("dense").to_numpy() - 1
    lists = sparse.csr_array((np.ones(shown.height), (rows, columns.to_numpy())))
    length = np.asarray(lists.sum(axis=1), dtype=np.float64)
    share = 1 / (length * (length - 1))
    # The cosine of two products is needed once, however many lists they share: what it counts in
    # all of them is summed first. A product's cosine with itself, 1, is taken out at the end.
    counts = (lists.T @ sparse.diags_array(share) @ lists).tocsr()
    others = vectors.T.tocsr()
    total = sum(
        float(counts[part].multiply(vectors[part] @ others).sum())
        for start in range(0, products.height, _BLOCK)
        for part in [slice(start, start + _BLOCK)]
    )
    return float(1 - (total - (length * share).sum()) / len(length))


def _unit_vectors(own: pl.DataFrame) -> tuple[sparse.csr_array, pl.DataFrame]:
    """Return products x customers with rows of length 1, and the row of each product_id."""
    products = own.select(pl.col("product_id").unique().sort()).with_row_index("column")
    customers = own["customer_id"].rank("dense").to_numpy() - 1
    rows = own.join(products, on="product_id", how="left", maintain_order="left")["column"]
    sizes = np.bincount(rows.to_numpy(), minlength=products.height)
    values = 1 / np.sqrt(sizes[rows.to_numpy()])
    shape = products.height, int(customers.max()) + 1
    return sparse.csr_array((values, (rows.to_numpy(), customers)), shape=shape), products


def popularity_bias(ranked: pl.DataFrame, own: pl.DataFrame, k: int) -> float:
    """Popularity of what is shown over popularity of what the same customers have.

    A product's popularity is the number of customers who have it; it is averaged within each
    customer's first k (or own products), then over customers. 1: shown products are as popular as
    those that the customers chose themselves. NaN when nothing is shown to anyone who has anything.

    Parameters
    ----------
    ranked : customer_id, product_id, rank; products that nobody has count 0
    own : customer_id, product_id, each pair once: what everyone has

    References
    ----------
    Abdollahpouri et al. (2019), "The unfairness of popularity bias in recommendation", RMSE at
    RecSys: the ratio of the group average popularity (GAP) of recommendations and of profiles.
    """
    popularity = own.group_by("product_id").len("customers")
    shown = ranked.filter(pl.col("rank") <= k).join(own, on="customer_id", how="semi")
    had = own.join(shown, on="customer_id", how="semi")
    if shown.is_empty():
        return float("nan")
    return _mean_popularity(shown, popularity) / _mean_popularity(had, popularity)


def _mean_popularity(pairs: pl.DataFrame, popularity: pl.DataFrame) -> float:
    """Mean over customers of the mean number of customers of their products."""
    joined = pairs.join(popularity, on="product_id", how="left").with_columns(
        pl.col("customers").fill_null(0)
    )
    means = joined.group_by("customer_id").agg(pl.col("customers").mean())
    return float(means.select(pl.col("customers").mean()).item())


def inverse_propensity(
    positives: pl.DataFrame, popularity: pl.DataFrame, *, power: float = 0.5
) -> pl.DataFrame:
    """Add `weight`: 1 / propensity that such a positive is observed at all.

    The propensity is (customers of the product / customers of the most popular one) ** power: the
    more popular a product, the more likely that a liking for it was seen. A product that nobody had
    before counts as if one customer had it.

    Parameters
    ----------
    positives : customer_id, product_id, each pair once
    popularity : product_id, customers (who had it before); at least one row
    power : 0 weighs all alike; 0.5 is halfway, in the logarithm, to weighing by popularity itself

    References
    ----------
    Yang et al. (2018), "Unbiased offline recommender evaluation for missing-not-at-random implicit
    feedback", RecSys.
    """
    customers = pl.col("customers").fill_null(1).clip(lower_bound=1)
    most = max(popularity.select(pl.col("customers").max()).item(), 1)
    return positives.join(
        popularity, on="product_id", how="left", maintain_order="left"
    ).select(*_PAIR, ((most / customers) ** power).alias("weight"))  # fmt: skip


def ips_recall_at_k(ranked: pl.DataFrame, positives: pl.DataFrame, k: int) -> float:
    """Recall in which each positive counts 1 / propensity: self-normalised, one overall value.

    The weights of the positives found over the weights of all positives, summed over all customers
    together. Yang et al. (2018) normalise within each customer instead; the weight of a customer's
    only positive would cancel then, and leave-one-out would correct nothing.

    Parameters
    ----------
    ranked : customer_id, product_id, rank
    positives : customer_id, product_id, weight (above 0) of everyone who is judged; at least one

    References
    ----------
    Schnabel et al. (2016), "Recommendations as treatments: debiasing learning and evaluation",
    ICML (the self-normalised estimator).
    """
    found = ranked.filter(pl.col("rank") <= k).join(positives, on=_PAIR)
    weight = pl.col("weight").sum()
    return float(found.select(weight).item() / positives.select(weight).item())


def ips_ndcg_at_k(ranked: pl.DataFrame, positives: pl.DataFrame, k: int) -> float:
    """NDCG in which each positive's gain is 1 / propensity: self-normalised, one overall value.

    As `ips_recall_at_k`, with the discount 1 / log2(rank + 1); what is divided by is the gain of
    the ideal lists, which have each customer's heaviest positives first, so that 1 can be reached.

    Parameters
    ----------
    ranked : customer_id, product_id, rank
    positives : customer_id, product_id, weight (above 0) of everyone who is judged; at least one
    """
    gain = (pl.col("weight") / (pl.col("rank") + 1).log(2)).sum()
    found = ranked.filter(pl.col("rank") <= k).join(positives, on=_PAIR)
    ideal = rank_within(positives.with_columns(pl.col("weight").alias("score")), k)
    return float(found.select(gain).item() / ideal.select(gain).item())


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
