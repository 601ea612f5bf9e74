"""Similar customers: implicit-feedback matrix factorisation by alternating least squares."""

from __future__ import annotations

import numpy as np
import polars as pl
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ecom_tasks.recommendation.candidates.matrix import (
    FloatMatrix,
    Interactions,
    encode,
    inner_products,
    own_and_best_of_all,
)
from ecom_tasks.recommendation.config import RecommendationConfig

NAME = "als"


def factorise(known: Interactions, config: RecommendationConfig) -> tuple[FloatMatrix, FloatMatrix]:
    """Return the factors of customers and of products, shapes (rows, factors), (columns, factors).

    References
    ----------
    Hu, Koren and Volinsky (2008), "Collaborative filtering for implicit feedback datasets", ICDM.
    """
    # One thread in BLAS: the solver runs its own threads, and two pools fight for the cores.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=config.als_factors,
            regularization=config.als_regularization,
            alpha=config.als_alpha,
            iterations=config.als_iterations,
            random_state=config.seed,
        )
        model.fit(known.orders, show_progress=False)
    return np.asarray(model.user_factors), np.asarray(model.item_factors)


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose products by the inner product of customer and product factors.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator: own products and the best new ones
    """
    known = encode(interactions, config.matrix_products)
    customers, products = factorise(known, config)
    score = inner_products(customers, products)
    return own_and_best_of_all(known, score, config.als_candidates, NAME)
