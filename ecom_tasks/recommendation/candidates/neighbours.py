"""Bought together: products near to what the customer buys, by shrunk cosine over customers."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy import sparse

from ecom_tasks.recommendation.candidates.matrix import (
    FloatMatrix,
    Interactions,
    blocks,
    encode,
    own_and_best,
)
from ecom_tasks.recommendation.config import RecommendationConfig

NAME = "neighbours"


def similarity(orders: sparse.csr_matrix, neighbours: int, shrinkage: float) -> sparse.csr_matrix:
    """Return the cosine of each product with its nearest ones.

    Memory stays at one block of rows times the number of products, whatever the number of
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
    keep = min(neighbours, products)
    by_product = orders.T.tocsr()
    parts = []
    for part in blocks(products):
        cosine = (by_product[part] @ orders).toarray()
        cosine /= norm[part, None] * norm[None, :] + max(shrinkage, 1e-9)
        cosine[np.arange(cosine.shape[0]), np.arange(part.start, part.stop)] = 0
        top = np.argpartition(-cosine, keep - 1, axis=1)[:, :keep]
        mask = np.zeros_like(cosine, dtype=bool)
        np.put_along_axis(mask, top, values=True, axis=1)
        parts.append(sparse.csr_matrix(np.where(mask, cosine, 0).astype(np.float32)))
    return sparse.vstack(parts, format="csr")


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose products by the sum of their similarities to what the customer bought lately.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator: own products and the best new ones
    """
    known = encode(interactions, config.matrix_products)
    near = similarity(known.orders, config.neighbours, config.neighbour_shrinkage)
    towards = near.T.tocsr()
    parts = []
    for part in blocks(known.customers.height):
        scores: FloatMatrix = (known.recent[part] @ towards).toarray()
        parts.append(own_and_best(known, part, scores, config.neighbour_candidates, NAME))
    return pl.concat(parts)


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
    weight = known.recent[at["row"].to_numpy()].multiply(near[at["column"].to_numpy()]).tocsr()
    if at.is_empty():
        return at.select("customer_id", "product_id", pl.lit("").alias("because_of"))
    best = np.asarray(weight.argmax(axis=1)).ravel()
    # Adding zero turns the sparse maximum into a plain array.
    found = np.asarray(weight.max(axis=1).todense()).ravel() > 0
    names = known.products["product_id"].gather(best)
    return (
        at
        .select("customer_id", "product_id")
        .with_columns(names.alias("because_of"))
        .filter(pl.Series(found))
    )
