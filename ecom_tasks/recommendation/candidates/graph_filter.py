"""Graph filter: what a customer bought, smoothed over the graph of customers and products.

Closed form, nothing is trained. Blurring carries a purchase to products that the same customers
buy; sharpening takes back a part of what is common to all, so that the particular comes forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds

from ecom_tasks.recommendation.candidates.matrix import (
    FloatMatrix,
    Interactions,
    encode,
    own_and_best_of_all,
)
from ecom_tasks.recommendation.config import RecommendationConfig

NAME = "graph_filter"


@dataclass(frozen=True)
class Filter:
    """The graph, ready to filter with.

    Attributes
    ----------
    normalised : purchases over powers of both degrees, shape (customers, products)
    turned : the same, shape (products, customers)
    smooth : products as the smoothest signals of the graph, shape (products, dimensions)
    product_scale : degree of each product to the same power, 0 where it has none
    """

    normalised: sparse.csr_matrix
    turned: sparse.csr_matrix
    smooth: FloatMatrix
    product_scale: FloatMatrix


def fit(orders: sparse.csr_matrix, config: RecommendationConfig) -> Filter:
    """Normalise the graph and find its smoothest signals.

    Memory: the matrix itself, twice, and `graph_dimensions` floats a customer and a product.

    Parameters
    ----------
    orders : shape (customers, products), above 0 where bought

    References
    ----------
    Shen et al. (2021), "How powerful is graph convolution for recommendation?", CIKM (GF-CF).
    """
    by_customer = np.asarray(orders.sum(axis=1), dtype=np.float64).ravel()
    by_product = np.asarray(orders.sum(axis=0), dtype=np.float64).ravel()
    scale = by_product**config.graph_product_power
    normalised = sparse.csr_matrix(
        sparse.diags_array(_inverse(by_customer**config.graph_customer_power))
        @ orders
        @ sparse.diags_array(_inverse(scale)),
        dtype=np.float32,
    )
    dimensions = min(config.graph_dimensions, min(normalised.shape) - 1)
    if dimensions < 1:
        smooth = np.zeros((orders.shape[1], 0), dtype=np.float32)
    else:
        start = np.random.default_rng(config.seed).standard_normal(min(normalised.shape))
        # In double precision, so that the last bits of a float32 do not depend on the start.
        _, _, vectors = svds(normalised.astype(np.float64), k=dimensions, v0=start)
        smooth = vectors.T.astype(np.float32)
    return Filter(normalised, normalised.T.tocsr(), smooth, scale.astype(np.float32))


def _inverse(values: NDArray[np.floating]) -> NDArray[np.floating]:
    inverse = np.zeros_like(values)
    np.divide(1.0, values, out=inverse, where=values > 0)
    return inverse


def score(signal: sparse.csr_matrix, graph: Filter, config: RecommendationConfig) -> FloatMatrix:
    """Filter the purchases of some customers.

    Parameters
    ----------
    signal : shape (rows, products)

    Returns
    -------
    shape (rows, products), higher is better

    References
    ----------
    Choi et al. (2023), "Blurring-sharpening process models for collaborative filtering", SIGIR.
    """
    across = graph.normalised
    blurred = ((signal @ graph.turned) @ across).toarray()
    inverse = _inverse(graph.product_scale)
    lasting = (signal.multiply(inverse[None, :]).tocsr() @ graph.smooth) @ graph.smooth.T
    blurred += config.graph_smooth_weight * lasting * graph.product_scale[None, :]
    if config.graph_sharpening:
        # One step of Euler's method backwards in time.
        again = (graph.turned @ (across @ blurred.T)).T
        blurred = blurred - config.graph_sharpening * again
    return np.asarray(blurred, dtype=np.float32)


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose products by the filtered signal of what the customer bought.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator: own products and the best new ones
    """
    known: Interactions = encode(interactions, config.matrix_products)
    graph = fit(known.orders, config)

    def above_zero(part: slice) -> FloatMatrix:
        scores = score(known.orders[part], graph, config)
        # Sharpening can push all below 0; only the order counts, and 0 means not proposed.
        scores -= scores.min(axis=1, keepdims=True) - 1e-6
        return scores

    return own_and_best_of_all(known, above_zero, config.graph_candidates, NAME)
