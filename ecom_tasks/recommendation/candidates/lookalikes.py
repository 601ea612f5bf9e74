"""What customers with the same purchases bought lately: nearest customers, not nearest products.

A product that is new in the shop, or back in season, spreads among customers who are alike before
any table of products tells what it goes with.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from ecom_tasks.recommendation.candidates.kept import Kept, flat
from ecom_tasks.recommendation.candidates.matrix import (
    FloatMatrix,
    Interactions,
    best_new,
    encode,
    encode_among,
    own_and_best_of_all,
)
from ecom_tasks.recommendation.config import RecommendationConfig

NAME = "lookalikes"
_LEAST_WEIGHT = 0.1
"""Of a product that everybody buys: it still tells a little."""


def rarity(orders: sparse.csr_matrix) -> NDArray[np.float32]:
    """Return how much a shared product says of two customers: log(customers / its customers).

    Parameters
    ----------
    orders : shape (customers, products)

    Returns
    -------
    shape (products,), at least 0.1
    """
    buyers = np.bincount(orders.indices, minlength=orders.shape[1])
    weight = np.log(orders.shape[0] / (1 + buyers))
    return np.asarray(np.maximum(weight, _LEAST_WEIGHT), dtype=np.float32)


def tastes(recent: sparse.csr_matrix, weight: NDArray[np.float32]) -> sparse.csr_matrix:
    """Return the customers as directions: recency-weighted purchases, by rarity, of length 1.

    Parameters
    ----------
    recent : log(1 + 3 * recency-weighted orders), shape (customers, products)
    weight : of `rarity`
    """
    weighed = recent @ sparse.diags(weight)
    length = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1)).ravel())
    turned = sparse.diags(1 / np.maximum(length, 1e-9)) @ weighed
    return sparse.csr_matrix(turned, dtype=np.float32)


def fit(interactions: pl.DataFrame, config: RecommendationConfig) -> Kept:
    """Keep the customers whom others are held against: all, or a fixed number drawn at random.

    Memory: what they bought, as often as it stands in `interactions`, twice.

    Parameters
    ----------
    interactions : customer_id, product_id, orders, recency_weighted_orders, orders_28d

    Returns
    -------
    Kept
        `customers` (ids), `weight` of `rarity`, and the parts of the sparse matrices `taste_...` of
        `tastes` and `lately_...` (1 where bought in the last 28 days), customers x products
    """
    known = encode([interactions], config.matrix_products)
    weight = rarity(known.orders)
    lately = _lately(interactions, known)
    rows = np.arange(known.customers.height)
    if len(rows) > config.lookalike_customers:
        drawn = np.random.default_rng(config.seed).permutation(len(rows))
        rows = np.sort(drawn[: config.lookalike_customers])
    ids = known.customers["customer_id"].gather(rows).to_list()
    return Kept(
        known.products,
        {
            "customers": np.array(ids, dtype=np.str_),
            "weight": weight,
            **_parts("taste", tastes(known.recent[rows], weight)),
            **_parts("lately", lately[rows]),
        },
    )


def _lately(interactions: pl.DataFrame, known: Interactions) -> sparse.csr_matrix:
    bought = (
        interactions
        .filter(pl.col("orders_28d") > 0)
        .join(known.products, on="product_id")
        .join(known.customers, on="customer_id")
        .sort("row", "column")
    )
    at = (bought["row"].to_numpy(), bought["column"].to_numpy())
    ones = np.ones(bought.height, dtype=np.float32)
    return sparse.csr_matrix((ones, at), shape=known.orders.shape)


def _parts(name: str, matrix: sparse.csr_matrix) -> dict[str, NDArray[np.generic]]:
    return {f"{name}_{part}": values for part, values in flat(matrix).items()}


def _matrix(kept: Kept, name: str) -> sparse.csr_matrix:
    parts = tuple(kept.arrays[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    return sparse.csr_matrix(parts, shape=(len(kept.arrays["customers"]), kept.products.height))


def propose(kept: Kept, interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose to the customers of these interactions; nobody is his own lookalike."""
    known = encode_among([interactions], kept.products)
    score = share_of_lookalikes(kept, known, config.lookalikes)
    return own_and_best_of_all(known, score, config.lookalike_candidates, NAME)


def share_of_lookalikes(
    kept: Kept, known: Interactions, most: int
) -> Callable[[slice], FloatMatrix]:
    """Return what gives, for some rows of `known`, the share of lookalikes who bought lately.

    Parameters
    ----------
    kept : of `fit`
    most : lookalikes of a customer; each counts by the cosine of both tastes

    Returns
    -------
    rows -> shape (rows, products), 0 to 1
    """
    mine = tastes(known.recent, kept.arrays["weight"])
    others, lately = _matrix(kept, "taste").T.tocsr(), _matrix(kept, "lately")
    held = pl.DataFrame({"customer_id": kept.arrays["customers"].tolist()})
    itself = (
        known.customers
        .join(held.with_row_index("held"), on="customer_id", how="left", maintain_order="left")
        .get_column("held")
        .fill_null(-1)
        .to_numpy()
    )

    def score(part: slice) -> FloatMatrix:
        near = (mine[part] @ others).toarray()
        row = np.flatnonzero(itself[part] >= 0)
        column, value = best_new(near, (row, itself[part][row]), most)
        at, nth = np.nonzero(column >= 0)
        weights = sparse.csr_matrix((value[at, nth], (at, column[at, nth])), shape=near.shape)
        total = np.maximum(np.asarray(weights.sum(axis=1)), 1e-9)
        return np.asarray((weights @ lately).toarray() / total, dtype=np.float32)

    return score


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose what customers with similar purchases bought in the last 28 days.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator: own products and the best new ones

    References
    ----------
    Hu et al. (2020), "Modeling Personalized Item Frequency Information for Next-basket
    Recommendation", SIGIR: nearest customers by decayed frequencies.
    """
    return propose(fit(interactions, config), interactions, config)
