"""Bought together: products near to what the customer buys, by shrunk cosine over customers."""

from __future__ import annotations

import numpy as np
import polars as pl
from implicit.nearest_neighbours import bm25_weight, tfidf_weight
from scipy import sparse

from ecom_tasks.recommendation.candidates.kept import Kept, flat, sparse_of
from ecom_tasks.recommendation.candidates.matrix import (
    Interactions,
    best_new,
    blocks,
    encode,
    encode_among,
    in_threads,
    own_and_best_of_all,
)
from ecom_tasks.recommendation.config import RecommendationConfig

NAME = "neighbours"
_PAIRS = 20_000


WEIGHTS = {"bm25": bm25_weight, "tf-idf": tfidf_weight}


def weighted(orders: sparse.csr_matrix, weighting: str) -> sparse.csr_matrix:
    """Weigh who buys many products less, and with bm25 the purchases of popular products too.

    Parameters
    ----------
    orders : shape (customers, products); a product is a text, its customers are the words
    weighting : of `WEIGHTS`, or plain: as they are
    """
    if weighting == "plain":
        return orders
    return sparse.csr_matrix(WEIGHTS[weighting](orders.T).T, dtype=np.float32)


def similarity(orders: sparse.csr_matrix, neighbours: int, shrinkage: float) -> sparse.csr_matrix:
    """Return the cosine of each product with its nearest ones.

    Memory stays at one block of rows times the number of products a core, whatever the number of
    customers.

    Parameters
    ----------
    orders : shape (customers, products)
    neighbours : kept per product
    shrinkage : added to the product of the norms, so that one shared customer proves little

    Returns
    -------
    sparse matrix, shape (products, products); row: the product, columns: its neighbours
    """
    norm = np.sqrt(np.asarray(orders.multiply(orders).sum(axis=0)).ravel())
    products = orders.shape[1]
    by_product = orders.T.tocsr()

    def nearest(part: slice) -> sparse.csr_matrix:
        cosine = (by_product[part] @ orders).toarray()
        cosine /= norm[part, None] * norm[None, :] + max(shrinkage, 1e-9)
        itself = np.arange(part.start, part.stop)
        column, value = best_new(cosine, (itself - part.start, itself), neighbours)
        row, nth = np.nonzero(column >= 0)
        entries = value[row, nth].astype(np.float32), (row, column[row, nth])
        return sparse.csr_matrix(entries, shape=cosine.shape)

    return sparse.vstack(in_threads(nearest, blocks(products, products)), format="csr")


def fit(known: Interactions, config: RecommendationConfig) -> Kept:
    """Learn how near products are: `similarity`, with rows and columns exchanged."""
    orders = weighted(known.orders, config.neighbour_weighting)
    near = similarity(orders, config.neighbours, config.neighbour_shrinkage)
    return Kept(known.products, flat(near.T.tocsr()))


def propose(kept: Kept, interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose to the customers of these interactions."""
    known, towards = encode_among([interactions], kept.products), sparse_of(kept)
    return own_and_best_of_all(
        known,
        lambda part: (known.recent[part] @ towards).toarray(),
        config.neighbour_candidates,
        NAME,
    )


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose products by the sum of their similarities to what the customer bought lately.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator: own products and the best new ones
    """
    known = encode([interactions], config.matrix_products)
    return propose(fit(known, config), interactions, config)


def strongest(pairs: pl.DataFrame, known: Interactions, near: sparse.csr_matrix) -> pl.DataFrame:
    """Name the own product that speaks most for each recommended one.

    Parameters
    ----------
    pairs : customer_id, product_id
    known : the matrices that `near` was made from
    near : of `similarity`

    Returns
    -------
    DataFrame with customer_id, product_id, because_of (a product id), for pairs that have one
    """
    at = pairs.join(known.customers, on="customer_id").join(known.products, on="product_id")
    found = [at.head(0).select("customer_id", "product_id", pl.lit("").alias("because_of"))]
    # Each pair is weighed by all that its customer has: of all pairs at once that is a multiple of
    # the matrices.
    for part in at.iter_slices(_PAIRS):
        own, goes_with = (part[name].to_numpy() for name in ("row", "column"))
        weight = known.recent[own].multiply(near[goes_with]).tocsr()
        best = np.asarray(weight.argmax(axis=1)).ravel()
        is_any = np.asarray(weight.max(axis=1).todense()).ravel() > 0
        names = known.products["product_id"].gather(best)
        told = part.select("customer_id", "product_id", names.alias("because_of"))
        found.append(told.filter(pl.Series(is_any)))
    return pl.concat(found)
