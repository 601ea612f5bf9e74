"""What comes after: products near to the newest ones of a history, by what followed what, how soon.

Two products belong together the more, the nearer they stood to each other in histories; what came
after counts more than what came before. The newest products of a customer speak loudest. Cheap,
and strong where much is rare: no vector has to be learnt for a product that few had.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from ecom_tasks.recommendation.candidates.matrix import (
    Interactions,
    encode,
    own_and_best_of_all,
)
from ecom_tasks.recommendation.config import RecommendationConfig

NAME = "follows"


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose what followed, in other histories, on what the customer bought last.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator: own products and the best new ones
    """
    known = encode([interactions], config.matrix_products)
    row, column = in_order(interactions, known)
    towards = steps(row, column, known.products.height, config)
    newest = recent(row, column, known.orders.shape, config.follows_fading)
    return own_and_best_of_all(
        known, lambda part: (newest[part] @ towards).toarray(), config.follows_candidates, NAME
    )


def in_order(
    interactions: pl.DataFrame, known: Interactions
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of `known`, customer by customer, oldest first."""
    ordered = (
        interactions
        .join(known.products, on="product_id")
        .join(known.customers, on="customer_id")
        .sort(["row", "days_since_last_order", "column"], descending=[False, True, False])
    )
    return ordered["row"].to_numpy().astype(np.int64), ordered["column"].to_numpy().astype(np.int64)


def steps(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    products: int,
    config: RecommendationConfig,
) -> sparse.csr_matrix:
    """Return how much each product (row) speaks for each other one (column).

    The sum of 1 / distance over all histories, up to `follows_reach` places on, plus
    `follows_backward` of that for the way back; divided by the root of how often both stood in any
    history, and a shrinkage, so that neither rare nor popular products win for that alone.

    Parameters
    ----------
    row, column : of `in_order`
    """
    shape = (products, products)
    forward = sparse.csr_matrix(shape, dtype=np.float32)
    for distance in range(1, config.follows_reach + 1):
        same = row[distance:] == row[:-distance]
        at = column[:-distance][same], column[distance:][same]
        value = np.full(int(same.sum()), 1 / distance, dtype=np.float32)
        forward = forward + sparse.csr_matrix((value, at), shape=shape)
    both = (forward + config.follows_backward * forward.T).tocoo()
    root = np.sqrt(np.bincount(column, minlength=products)).astype(np.float32)
    divisor = root[both.row] * root[both.col] + np.float32(config.follows_shrinkage)
    return sparse.csr_matrix((both.data / divisor, (both.row, both.col)), shape=shape)


def recent(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    shape: tuple[int, int],
    fading: float,
) -> sparse.csr_matrix:
    """Return the weight of each product of a history: 1 for the newest, times `fading` a place."""
    ends = np.searchsorted(row, np.arange(shape[0]), side="right")
    weight = np.power(np.float32(fading), ends[row] - 1 - np.arange(len(row)))
    return sparse.csr_matrix((weight.astype(np.float32), (row, column)), shape=shape)
