"""EASE: each product as a linear mixture of all others, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import linalg, sparse

from ecom_tasks.recommendation.candidates.kept import Kept
from ecom_tasks.recommendation.candidates.matrix import (
    FloatMatrix,
    Interactions,
    directions,
    encode,
    encode_among,
    narrowed,
    own_and_best_of_all,
)
from ecom_tasks.recommendation.config import RecommendationConfig

NAME = "ease"


@dataclass(frozen=True)
class Truncated:
    """The mixture without the directions in which purchases hardly vary.

    Attributes
    ----------
    vectors : the directions that are kept, shape (products, directions)
    kept : the share of each of them that the ridge leaves, shape (directions,)
    own : the share of each product that the directions explain by itself, shape (products,)
    """

    vectors: FloatMatrix
    kept: FloatMatrix
    own: FloatMatrix

    def __call__(self, signal: sparse.csr_matrix) -> FloatMatrix:
        """Return the scores of some customers, shape (rows, products)."""
        scores = ((signal @ self.vectors) * self.kept) @ self.vectors.T
        row = np.repeat(np.arange(signal.shape[0]), np.diff(signal.indptr))
        # No product speaks for itself.
        scores[row, signal.indices] -= signal.data * self.own[signal.indices]
        scores /= 1 - self.own
        return np.asarray(scores, dtype=np.float32)


def weights(orders: sparse.csr_matrix, l2: float) -> FloatMatrix:
    """Return how much each product (row) speaks for each other one (column).

    Memory: two dense matrices of products x products in float32, 8 bytes a pair of products:
    0.5 GiB for 8,000, 12 GiB for 40,000.

    Parameters
    ----------
    orders : shape (customers, products)
    l2 : weight of the ridge; larger where data is thin

    References
    ----------
    Steck (2019), "Embarrassingly shallow autoencoders for sparse data", WWW.
    """
    gram = (orders.T @ orders).toarray().astype(np.float32, copy=False)
    gram[np.diag_indices_from(gram)] += l2
    inverse = linalg.inv(gram, overwrite_a=True, check_finite=False)
    inverse /= -np.diag(inverse)[None, :].copy()
    np.fill_diagonal(inverse, 0)
    return np.asarray(inverse, dtype=np.float32)


def truncate(orders: sparse.csr_matrix, l2: float, most: int, seed: int) -> Truncated:
    """Solve the same ridge along the `most` strongest directions, without the matrix of pairs.

    With V and s the right singular vectors and the singular values of the orders, the inverse is
    (I - V diag(s^2 / (s^2 + l2)) V') / l2: exact if all directions are there, and for the weakest
    ones, which are left out, the ridge leaves little anyway.

    Memory: about 24 bytes a direction and product while they are searched (2.3 GiB for 512
    directions of 200,000 products), less where customers are fewer than products.

    Parameters
    ----------
    orders : shape (customers, products)
    """
    values, vectors = directions(orders, most, seed)
    kept = (values**2 / (values**2 + l2)).astype(np.float32)
    return Truncated(vectors, kept, (vectors**2) @ kept)


def mixture(orders: sparse.csr_matrix, config: RecommendationConfig) -> dict[str, FloatMatrix]:
    """Learn the mixture: exact up to `ease_exact` products, truncated above.

    Returns
    -------
    `exact` of `weights`, or the fields of `Truncated`
    """
    if orders.shape[1] <= config.ease_exact:
        return {"exact": weights(orders, config.ease_l2)}
    found = truncate(orders, config.ease_l2, config.ease_dimensions, config.seed)
    return {"vectors": found.vectors, "kept": found.kept, "own": found.own}


def mixer(learnt: Mapping[str, FloatMatrix]) -> Callable[[sparse.csr_matrix], FloatMatrix]:
    """Return what scores purchases by the result of `mixture`."""
    if "exact" not in learnt:
        return Truncated(**learnt)
    exact = learnt["exact"]
    return lambda signal: np.asarray(signal @ exact)


def fit(known: Interactions, config: RecommendationConfig) -> Kept:
    """Learn the mixture of the `ease_products` products with the most customers."""
    most = narrowed(known, config.ease_products)
    return Kept(most.products, mixture(most.orders, config))


def propose(kept: Kept, interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose to the customers of these interactions."""
    known, score = encode_among([interactions], kept.products), mixer(kept.arrays)
    return own_and_best_of_all(
        known, lambda part: score(known.recent[part]), config.ease_candidates, NAME
    )


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose products by the mixture of what the customer bought.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator: own products and the best new ones
    """
    known = encode([interactions], config.matrix_products)
    return propose(fit(known, config), interactions, config)
