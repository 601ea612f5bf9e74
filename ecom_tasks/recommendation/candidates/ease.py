"""EASE: each product as a linear mixture of all others, in closed form."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy import linalg, sparse

from ecom_tasks.recommendation.candidates.matrix import (
    FloatMatrix,
    encode,
    own_and_best_of_all,
)
from ecom_tasks.recommendation.config import RecommendationConfig

NAME = "ease"


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


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose products by the mixture of what the customer bought.

    Only the `ease_products` products with the most customers take part, which bounds memory.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator: own products and the best new ones
    """
    known = encode(interactions, min(config.ease_products, config.matrix_products))
    mixture = weights(known.orders, config.ease_l2)
    return own_and_best_of_all(
        known,
        lambda part: np.asarray(known.recent[part] @ mixture),
        config.ease_candidates,
        NAME,
    )
