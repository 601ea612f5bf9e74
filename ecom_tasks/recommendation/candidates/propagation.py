"""Propagation: what a customer bought, carried on over one graph of purchases and common views.

Customers and products are the nodes; a purchase joins a customer and a product, a visit in which
two products were seen joins these. From a customer's own node a signal takes a few steps and
arrives also at products that nobody bought yet, if they were viewed beside bought ones. This is
LightGCN with nothing trained: the nodes themselves stand for their embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from ecom_tasks.recommendation.candidates.matrix import (
    FloatMatrix,
    Interactions,
    encode,
    own_and_best_of_all,
)
from ecom_tasks.recommendation.config import RecommendationConfig

NAME = "propagation"
VIEWS: dict[str, type[pl.DataType]] = {"session_id": pl.String, "product_id": pl.String}


@dataclass(frozen=True)
class Graph:
    """The two kinds of edges, each over the square roots of its nodes' degrees.

    Attributes
    ----------
    known : the same purchases, as they are
    purchases : shape (customers, products)
    turned : the same, shape (products, customers)
    views : shape (products, products), symmetric
    """

    known: Interactions
    purchases: sparse.csr_matrix
    turned: sparse.csr_matrix
    views: sparse.csr_matrix


def generate(
    interactions: pl.DataFrame, config: RecommendationConfig, views: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Propose the products that most of the signal of a customer arrives at.

    Parameters
    ----------
    views : session_id, product_id: what was seen in which visit; None: the shop does not know

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator: own products and the best new ones
    """
    known = encode([interactions], config.matrix_products)
    seen = pl.DataFrame(schema=VIEWS) if views is None else views
    return propose(fit(known, seen, config), known.customers, config)


def fit(known: Interactions, views: pl.DataFrame, config: RecommendationConfig) -> Graph:
    """Lay out the graph of all purchases and views.

    Parameters
    ----------
    views : session_id, product_id
    """
    seen = _told(views, config)
    whole = with_products(known, seen["product_id"])
    return normalise(whole, viewed_together(seen, whole.products))


def propose(graph: Graph, customers: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose to some of the customers of the graph; those who bought nothing get nothing.

    Parameters
    ----------
    customers : customer_id
    """
    known = graph.known
    asked = known.customers.join(customers, on="customer_id", how="semi").sort("row")
    row = asked["row"].to_numpy()
    own = Interactions(
        asked.select("customer_id").with_row_index("row"),
        known.products,
        orders=known.orders[row],
        recent=known.recent[row],
    )
    return own_and_best_of_all(
        own,
        lambda part: propagate(graph, graph.purchases[row[part]], config.propagation_layers),
        config.propagation_candidates,
        NAME,
    )


def _told(views: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Keep what a visit says: nothing if all of the range was seen in it, by a robot perhaps."""
    once = views.select(list(VIEWS)).drop_nulls().unique()
    return once.filter(pl.len().over("session_id") <= config.propagation_largest_session)


def with_products(known: Interactions, further: pl.Series) -> Interactions:
    """Give products that nobody bought a column too, without purchases."""
    ids = pl.concat([known.products["product_id"], further]).unique().sort()
    products = ids.to_frame("product_id").with_row_index("column")
    # Ascending as before, so that the places within a row stay sorted.
    place = products.join(known.products, on="product_id", how="semi")["column"].to_numpy()

    def widened(orders: sparse.csr_matrix) -> sparse.csr_matrix:
        at = (orders.data, place[orders.indices].astype(np.int32), orders.indptr)
        return sparse.csr_matrix(at, shape=(orders.shape[0], len(ids)))

    return Interactions(known.customers, products, widened(known.orders), widened(known.recent))


def viewed_together(seen: pl.DataFrame, products: pl.DataFrame) -> sparse.csr_matrix:
    """Return log(1 + visits in which both were seen), shape (products, products).

    Memory: one entry for each pair of products that any visit joins, 8 bytes.

    Parameters
    ----------
    seen : session_id, product_id, each pair once
    products : product_id, column
    """
    visits = seen.select("session_id").unique().sort("session_id").with_row_index("row")
    at = seen.join(visits, on="session_id").join(products, on="product_id")
    places = (at["row"].to_numpy(), at["column"].to_numpy())
    ones = np.ones(at.height, dtype=np.float32)
    visited = sparse.csr_matrix((ones, places), shape=(visits.height, products.height))
    together = (visited.T @ visited).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    return together.log1p()


def normalise(known: Interactions, views: sparse.csr_matrix) -> Graph:
    """Divide each edge by the square roots of the degrees of both its nodes, over all edges."""
    orders = known.orders
    by_customer = _inverse_root(orders.sum(axis=1))
    by_product = _inverse_root(orders.sum(axis=0).T + views.sum(axis=1))
    purchases = sparse.csr_matrix(by_customer @ orders @ by_product)
    weighed = sparse.csr_matrix(by_product @ views @ by_product)
    return Graph(known, purchases, purchases.T.tocsr(), weighed)


def _inverse_root(degrees: np.matrix) -> sparse.dia_array:
    values = np.asarray(degrees, dtype=np.float32).ravel()
    inverse = np.zeros_like(values)
    np.divide(1, np.sqrt(values), out=inverse, where=values > 0)
    return sparse.diags_array(inverse)


def propagate(graph: Graph, bought: sparse.csr_matrix, layers: int) -> FloatMatrix:
    """Carry the signal of some customers on, and add up what arrives at products in each step.

    Parameters
    ----------
    bought : some rows of the graph's purchases
    layers : steps; 1 reaches what was bought, 2 what was viewed with it, 3 what was bought by
        the same customers

    Returns
    -------
    shape (rows of bought, products)

    References
    ----------
    He et al. (2020), "LightGCN: simplifying and powering graph convolution network for
    recommendation", SIGIR.
    """
    at_products = arrived = bought
    at_customers = sparse.csr_matrix((bought.shape[0], graph.purchases.shape[0]))
    for _ in range(layers - 1):
        at_products, at_customers = (
            at_customers @ graph.purchases + at_products @ graph.views,
            at_products @ graph.turned,
        )
        arrived = arrived + at_products
    return np.asarray(arrived.toarray(), dtype=np.float32)
