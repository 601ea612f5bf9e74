"""Interactions as a sparse matrix, for the generators that look across customers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

_BLOCK = 1024
FloatMatrix = NDArray[np.float32]


@dataclass(frozen=True)
class Interactions:
    """Who bought what, as rows and columns.

    Attributes
    ----------
    customers, products : ids, ascending; their positions are the rows and columns
    orders : log(1 + orders), shape (customers, products)
    recent : log(1 + 3 * recency-weighted orders), same shape
    """

    customers: pl.DataFrame
    products: pl.DataFrame
    orders: sparse.csr_matrix
    recent: sparse.csr_matrix


def encode(interactions: pl.DataFrame, most_products: int) -> Interactions:
    """Build the matrices over the `most_products` products with the most customers.

    Every customer keeps a row, also one who bought none of these products.

    Parameters
    ----------
    interactions : customer_id, product_id, orders, recency_weighted_orders; a pair once
    """
    popular = (
        interactions
        .group_by("product_id")
        .len()
        .sort(["len", "product_id"], descending=[True, False])
        .head(most_products)
    )
    products = popular.select("product_id").sort("product_id").with_row_index("column")
    customers = interactions.select("customer_id").unique().sort("customer_id")
    customers = customers.with_row_index("row")
    pairs = interactions.join(products, on="product_id").join(customers, on="customer_id")
    pairs = pairs.sort("row", "column")
    at = (pairs["row"].to_numpy(), pairs["column"].to_numpy())
    shape = (customers.height, products.height)

    def matrix(values: pl.Series) -> sparse.csr_matrix:
        return sparse.csr_matrix((np.log1p(values.to_numpy()).astype(np.float32), at), shape=shape)

    return Interactions(
        customers,
        products,
        orders=matrix(pairs["orders"]),
        recent=matrix(3 * pairs["recency_weighted_orders"]),
    )


def blocks(rows: int) -> Iterator[slice]:
    """Cut rows into slices whose dense scores fit in memory."""
    for start in range(0, rows, _BLOCK):
        yield slice(start, min(start + _BLOCK, rows))


def own_and_best(
    known: Interactions, part: slice, scores: FloatMatrix, best: int, generator: str
) -> pl.DataFrame:
    """Return the scores of products the customers own, and of the `best` new ones of each.

    Parameters
    ----------
    part : rows of `known` that `scores` is about
    scores : shape (rows of part, products), higher is better; below or at 0: not proposed

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator
    """
    owned = known.orders[part].toarray() > 0
    best = min(best, scores.shape[1])
    new = np.where(owned, -np.inf, scores)
    top = np.argpartition(-new, best - 1, axis=1)[:, :best]
    keep = owned.copy()
    np.put_along_axis(keep, top, values=True, axis=1)
    row, column = np.nonzero(keep & (scores > 0))
    found = pl.DataFrame({
        "row": (row + part.start).astype(np.uint32),
        "column": column.astype(np.uint32),
        "score": scores[row, column].astype(np.float64),
    })
    return (
        found
        .join(known.customers, on="row")
        .join(known.products, on="column")
        .select("customer_id", "product_id", "score", pl.lit(generator).alias("generator"))
    )
