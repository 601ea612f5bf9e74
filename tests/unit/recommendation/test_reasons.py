"""Which products are near to each other is found once, for lists and for their reasons."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import polars as pl
from scipy import sparse

from ecom_tasks.recommendation import reasons
from ecom_tasks.recommendation.candidates import matrix
from ecom_tasks.recommendation.config import RecommendationConfig

CONFIG = RecommendationConfig(similar_k=2)


def similar(snapshot: Any = None) -> reasons.Similar:
    """Return one customer who bought a, of three products with these cosines."""
    near = sparse.csr_matrix(
        np.array([[0, 0.5, 0.25], [0.5, 0, 0], [0.25, 0, 0]], dtype=np.float32)
    )
    bought = sparse.csr_matrix(np.array([[1, 0, 0]], dtype=np.float32))
    known = matrix.Interactions(
        customers=pl.DataFrame({"customer_id": ["c"]}).with_row_index("row"),
        products=pl.DataFrame({"product_id": ["a", "b", "d"]}).with_row_index("column"),
        orders=bought,
        recent=bought,
    )
    return reasons.Similar(cast("Any", snapshot), known, near)


def test_similar_products_come_in_the_order_of_their_cosine() -> None:
    shown = pl.DataFrame({"product_id": ["a", "b", "d"]})
    found = reasons.similar_products(similar(), shown, CONFIG)
    assert found.filter(pl.col("product_id") == "a").rows() == [
        ("a", "b", 0.5, 1), ("a", "d", 0.25, 2),
    ]  # fmt: skip


def test_what_may_not_be_shown_is_similar_to_nothing() -> None:
    found = reasons.similar_products(similar(), pl.DataFrame({"product_id": ["d"]}), CONFIG)
    assert found.rows() == [("a", "d", 0.25, 1)]


def test_the_reason_names_the_own_product_that_is_near() -> None:
    class Day:
        products = pl.DataFrame({"product_id": ["a"], "title": ["Apples"]})

    pairs = pl.DataFrame({"customer_id": ["c", "c"], "product_id": ["b", "d"]})
    told = reasons._because(pairs, similar(Day()))
    assert set(told["because"]) == {"Apples"}
