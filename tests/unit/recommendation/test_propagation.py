"""Propagation on graphs small enough to be walked by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ecom_tasks.recommendation import candidates
from ecom_tasks.recommendation.candidates import propagation
from ecom_tasks.recommendation.candidates.matrix import Interactions
from ecom_tasks.recommendation.config import RecommendationConfig
from tests.unit.recommendation import shops

CONFIG = RecommendationConfig(propagation_candidates=9)


def bought(text: str) -> pl.DataFrame:
    """`ann:milk ann:tea` as interactions, one order each."""
    names = ["customer_id", "product_id"]
    rows = [pair.split(":") for pair in text.split()]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(
        orders=pl.lit(1.0), recency_weighted_orders=pl.lit(1.0), orders_28d=pl.lit(1.0)
    )


def visits(*seen: str) -> pl.DataFrame:
    """Return one visit for each text of products."""
    rows = [(f"s{number}", product) for number, each in enumerate(seen) for product in each.split()]
    return pl.DataFrame(rows, schema=propagation.VIEWS, orient="row")


def new(found: pl.DataFrame, own: pl.DataFrame, customer: str) -> list[str]:
    """Products proposed to a customer who does not have them, best first."""
    pair = ["customer_id", "product_id"]
    rest = found.filter(customer_id=customer).join(own, on=pair, how="anti")
    return rest.sort("score", descending=True)["product_id"].to_list()


def test_what_nobody_bought_is_proposed_beside_what_it_was_viewed_with() -> None:
    own = bought("ann:milk bob:nails")
    assert new(propagation.generate(own, CONFIG), own, "ann") == []
    found = propagation.generate(own, CONFIG, visits("milk oats", "nails glue", "pen ink"))
    assert new(found, own, "ann") == ["oats"]
    assert new(found, own, "bob") == ["glue"]
    # Nothing joins pen and ink with what anyone bought.
    assert not {"pen", "ink"} & set(found["product_id"])


def test_a_second_common_visit_joins_more_than_one_alone() -> None:
    own = bought("ann:milk")
    found = propagation.generate(own, CONFIG, visits("milk tea", "milk oats", "milk oats"))
    assert new(found, own, "ann") == ["oats", "tea"]


def test_a_view_repeated_within_a_visit_counts_once() -> None:
    own, seen = bought("ann:milk"), visits("milk tea", "milk oats")
    once = propagation.generate(own, CONFIG, seen)
    assert propagation.generate(own, CONFIG, pl.concat([seen, seen])).equals(once)


def test_a_visit_to_the_whole_range_says_nothing() -> None:
    own = bought("ann:milk")
    range_of = (f"p{number}" for number in range(CONFIG.propagation_largest_session))
    robot = " ".join(["milk", *range_of])
    found = propagation.generate(own, CONFIG, visits(robot, "milk oats"))
    assert new(found, own, "ann") == ["oats"]
    nameless = visits("milk oats").with_columns(session_id=pl.lit(None, dtype=pl.String))
    assert new(propagation.generate(own, CONFIG, nameless), own, "ann") == []


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_the_signal_is_the_powers_of_the_whole_normalised_graph(layers: int) -> None:
    random = np.random.default_rng(4)
    orders = (random.random((7, 5)) < 0.5) * random.random((7, 5))
    views = np.triu((random.random((5, 5)) < 0.5) * random.random((5, 5)), 1)
    views += views.T
    orders[0] = 0
    whole = np.block([[np.zeros((7, 7)), orders], [orders.T, views]])
    root = np.sqrt(np.maximum(whole.sum(axis=0), 1e-12))
    normal = whole / root[:, None] / root[None, :]
    expected = sum(np.linalg.matrix_power(normal, power) for power in range(1, layers + 1))
    sparse = propagation.sparse.csr_matrix
    nobody = pl.DataFrame()
    known = Interactions(nobody, nobody, sparse(orders), sparse(orders))
    graph = propagation.normalise(known, sparse(views))
    found = propagation.propagate(graph, graph.purchases[2:6], layers)
    assert found == pytest.approx(expected[2:6, 7:], abs=1e-5)
    assert propagation.propagate(graph, graph.purchases[:1], layers).max() == 0


def test_products_that_were_only_viewed_get_a_column_in_the_order_of_ids() -> None:
    known = propagation.encode([bought("ann:milk ann:tea bob:milk")], 9)
    wider = propagation.with_products(known, pl.Series(["oats", "milk", "zest"]))
    assert wider.products.rows() == [(0, "milk"), (1, "oats"), (2, "tea"), (3, "zest")]
    once = np.log(2)
    assert wider.orders.toarray() == pytest.approx(np.array([[once, 0, once, 0], [once, 0, 0, 0]]))


def test_views_are_evidence_for_the_ranker_only_where_there_are_any() -> None:
    own = bought("ann:milk bob:milk bob:tea")
    config = CONFIG.model_copy(update={"als_factors": 2})
    without = candidates.propose(own, shops.NOTHING, config)
    assert not set(candidates.VIEWED) & set(without.columns)
    graph = propagation.fit(propagation.encode([own], 9), visits("milk oats"), config)
    united = candidates.propose(own, shops.NOTHING, config, graph=graph)
    assert united.columns == [*without.columns, *candidates.VIEWED]
    oats = united.filter(product_id="oats")
    assert oats["customer_id"].to_list() == ["ann", "bob"]
    assert oats["is_new"].to_list() == [1.0, 1.0]
    assert oats["neighbours_rank"].to_list() == [None, None]
    assert (oats["propagation_score"] > 0).all()
    # Nothing else has changed.
    pair = ["customer_id", "product_id"]
    assert (
        united
        .filter(pl.col("product_id") != "oats")
        .select(without.columns)
        .equals(without.join(united, on=pair, how="semi"))
    )
