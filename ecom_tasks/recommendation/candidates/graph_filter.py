"""Graph filter: what a customer bought, smoothed over the graph of customers and products.

Closed form, nothing is trained. Blurring carries a purchase to products that the same customers
buy; sharpening takes back a part of what is common to many, so that the particular comes forward;
of products that then stand alike, the popular one goes first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from ecom_tasks.recommendation.candidates.matrix import (
    FloatMatrix,
    Interactions,
    directions,
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
    strength : what blurring leaves of each of them, shape (dimensions,)
    strongest : what it leaves of any other signal at most
    product_scale : degree of each product to the power that divides, shape (products,)
    popularity : the same to the power that multiplies, shape (products,)
    """

    normalised: sparse.csr_matrix
    turned: sparse.csr_matrix
    smooth: FloatMatrix
    strength: FloatMatrix
    strongest: float
    product_scale: FloatMatrix
    popularity: FloatMatrix


def fit(orders: sparse.csr_matrix, config: RecommendationConfig) -> Filter:
    """Normalise the graph and find its smoothest signals.

    Memory: the matrix itself, twice, and `graph_dimensions` floats a customer and a product.

    Parameters
    ----------
    orders : shape (customers, products), above 0 where bought

    References
    ----------
    Shen et al. (2021), "How powerful is graph convolution for recommendation?", CIKM (GF-CF).
    Peng et al. (2024), "How powerful is graph filtering for recommendation", KDD (other powers of
    the degrees than one half).
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
    values, smooth = directions(normalised, config.graph_dimensions, config.seed)
    strength = (values**2).astype(np.float32)
    # A graph of rank one has no other signal than the one that is left out.
    strongest = float(strength[-1]) if len(strength) else float(normalised.power(2).sum())
    return Filter(
        normalised, normalised.T.tocsr(), smooth, strength, strongest, scale.astype(np.float32),
        (by_product**config.graph_popularity).astype(np.float32),
    )  # fmt: skip


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
    """
    filtered = ((signal @ graph.turned) @ graph.normalised).toarray()
    if config.graph_smooth_weight:
        evenly = signal.multiply(_inverse(graph.product_scale)[None, :]).tocsr()
        lasting = (evenly @ graph.smooth) @ (graph.smooth.T * graph.product_scale)
        filtered += config.graph_smooth_weight * lasting
    if config.graph_sharpening:
        filtered = sharpen(filtered, graph, config.graph_sharpening)
    filtered *= graph.popularity
    return np.asarray(filtered, dtype=np.float32)


def sharpen(signals: FloatMatrix, graph: Filter, time: float) -> FloatMatrix:
    """Run blurring backwards: d(signal)/dt = -blurred signal, by one step of Runge and Kutta.

    What blurring leaves a share p of is kept to `_kept(time * p)`. Along the smoothest signals
    this is computed from their shares; for all others, with p from 0 to `strongest`, the straight
    line between the values at both ends stands for it, off by at most (time * strongest)^2 / 8.

    Parameters
    ----------
    signals : shape (rows, products)
    time : length of the step

    References
    ----------
    Choi et al. (2023), "Blurring-sharpening process models for collaborative filtering", SIGIR.
    """
    end = _kept(np.array(time * graph.strongest))
    slope = (end - 1) / graph.strongest if graph.strongest else 0.0
    again = (graph.turned @ (graph.normalised @ signals.T)).T
    beyond_the_line = _kept(time * graph.strength) - 1 - slope * graph.strength
    sharp = ((signals @ graph.smooth) * beyond_the_line) @ graph.smooth.T
    sharp += signals
    sharp += np.float32(slope) * again
    return np.asarray(sharp, dtype=np.float32)


def _kept(z: NDArray[np.floating]) -> NDArray[np.floating]:
    """One classic step of fourth order for exp(-z); of long steps it leaves more on purpose.

    At z = 2.5 that is 0.65, where exp would leave 0.08: what lasts longest is never taken away.
    """
    return 1 - z + z**2 / 2 - z**3 / 6 + z**4 / 24


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose products by the filtered signal of what the customer bought.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator: own products and the best new ones
    """
    known: Interactions = encode([interactions], config.matrix_products)
    graph = fit(known.orders, config)

    def above_zero(part: slice) -> FloatMatrix:
        scores = score(known.orders[part], graph, config)
        # Sharpening can push all below 0; only the order counts, and 0 means not proposed.
        scores -= scores.min(axis=1, keepdims=True) - 1e-6
        return scores

    return own_and_best_of_all(known, above_zero, config.graph_candidates, NAME)
