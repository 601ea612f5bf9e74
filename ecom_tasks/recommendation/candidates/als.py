"""Similar customers: implicit-feedback matrix factorisation by alternating least squares."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import polars as pl
from implicit import als
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ecom_tasks import device
from ecom_tasks.device import Attempt
from ecom_tasks.recommendation.candidates.kept import Kept
from ecom_tasks.recommendation.candidates.matrix import (
    FloatMatrix,
    Interactions,
    encode,
    encode_among,
    inner_products,
    own_and_best_of_all,
)
from ecom_tasks.recommendation.config import RecommendationConfig

NAME = "als"


def factorise(known: Interactions, config: RecommendationConfig) -> tuple[FloatMatrix, FloatMatrix]:
    """Return the factors of customers and of products, shapes (rows, factors), (columns, factors).

    On a GPU (see `device`) the last bits are others.

    References
    ----------
    Hu, Koren and Volinsky (2008), "Collaborative filtering for implicit feedback datasets", ICDM.
    """

    def learn(*, on_gpu: bool) -> Any:
        # One thread in BLAS: the solver runs its own threads, and two pools fight for the cores.
        with threadpool_limits(1, "blas"):
            model = als.AlternatingLeastSquares(**_dials(config), use_gpu=on_gpu)
            model.fit(known.orders, show_progress=False)
        return model.to_cpu() if on_gpu else model

    attempts = [Attempt("cpu", "the CPU", partial(learn, on_gpu=False))]
    if device.choose("factors", known.orders.nnz) == "cuda":
        attempts.insert(0, Attempt("cuda", "the GPU", partial(learn, on_gpu=True)))
    model = device.first_that_fits("factors of customers and products", attempts)
    return np.asarray(model.user_factors), np.asarray(model.item_factors)


def _dials(config: RecommendationConfig) -> dict[str, Any]:
    return {
        "factors": config.als_factors,
        "regularization": config.als_regularization,
        "alpha": config.als_alpha,
        "iterations": config.als_iterations,
        "random_state": config.seed,
    }


def customers_of(
    known: Interactions, products: FloatMatrix, config: RecommendationConfig
) -> FloatMatrix:
    """Return the factors of customers that go best with those of products, shape (rows, factors).

    Each follows from the customer's own row alone.
    """
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(**_dials(config))
        model.item_factors = products
        return np.asarray(model.recalculate_user(np.arange(known.customers.height), known.orders))


def fit(known: Interactions, config: RecommendationConfig) -> Kept:
    """Learn the factors of products; `factors` of the result, shape (products, factors)."""
    return Kept(known.products, {"factors": factorise(known, config)[1]})


def propose(kept: Kept, interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose to the customers of these interactions."""
    known = encode_among([interactions], kept.products)
    products = kept.arrays["factors"]
    score = inner_products(customers_of(known, products, config), products)
    return own_and_best_of_all(known, score, config.als_candidates, NAME)


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose products by the inner product of customer and product factors.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator: own products and the best new ones
    """
    known = encode([interactions], config.matrix_products)
    return propose(fit(known, config), interactions, config)
