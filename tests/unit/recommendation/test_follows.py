"""What follows what: distances and weights by hand, and an order that must be found."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ecom_tasks.recommendation.candidates import follows, matrix
from ecom_tasks.recommendation.config import RecommendationConfig

CONFIG = RecommendationConfig(
    follows_candidates=2, follows_reach=2, follows_backward=0.25, follows_shrinkage=2.0,
    follows_fading=0.5,
)  # fmt: skip


def pairs(bought: dict[str, str]) -> pl.DataFrame:
    """Return pairs of customers who bought one product (a letter) a day, the last one today."""
    rows = [
        (who, what, 1.0, 1.0, float(len(goods) - 1 - day))
        for who, goods in bought.items()
        for day, what in enumerate(goods)
    ]
    schema = ["customer_id", "product_id", "orders", "recency_weighted_orders",
              "days_since_last_order"]  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_nearness_by_hand() -> None:
    interactions = pairs({"ann": "abcd", "bob": "ac"})
    known = matrix.encode([interactions], 10)
    row, column = follows.in_order(interactions, known)
    assert row.tolist() == [0, 0, 0, 0, 1, 1]
    assert column.tolist() == [0, 1, 2, 3, 0, 2]
    found = follows.steps(row, column, 4, CONFIG).toarray()
    # c came after a two places on (ann) and at once (bob); both were had twice. d is three on.
    forward = 1 / 2 + 1
    divisor = (2 * 2) ** 0.5 + 2.0
    assert found[0, 2] == pytest.approx(forward / divisor)
    assert found[2, 0] == pytest.approx(0.25 * forward / divisor)
    assert found[0, 3] == 0
    # Nothing leads from ann's last product to bob's first.
    assert found[3, 0] == 0
    assert found[2, 3] == pytest.approx(1 / ((2 * 1) ** 0.5 + 2.0))


def test_newer_products_speak_louder() -> None:
    interactions = pairs({"ann": "abc", "bob": "b"})
    known = matrix.encode([interactions], 10)
    weight = follows.recent(*follows.in_order(interactions, known), known.orders.shape, 0.5)
    assert weight.toarray().tolist() == [[0.25, 0.5, 1.0], [0.0, 1.0, 0.0]]
    # With 0 the newest counts alone.
    only = follows.recent(*follows.in_order(interactions, known), known.orders.shape, 0.0)
    assert only.toarray().tolist() == [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


def test_what_comes_next_on_a_ring_is_proposed_first() -> None:
    ring = "abcdefgh"
    bought = {f"c{n:02}": (2 * ring)[n % 8 : n % 8 + 5] for n in range(64)}
    found = follows.generate(pairs(bought), CONFIG)
    new = found.join(pairs(bought), on=["customer_id", "product_id"], how="anti")
    first = new.sort("customer_id", "score", descending=[False, True]).unique(
        "customer_id", keep="first", maintain_order=True
    )
    expected = {who: ring[(int(who[1:]) + 5) % 8] for who in bought}
    assert dict(first.select("customer_id", "product_id").iter_rows()) == expected
    assert set(found["generator"]) == {"follows"}


def test_histories_of_one_product_propose_nothing() -> None:
    found = follows.generate(pairs({"ann": "a", "bob": "b"}), CONFIG)
    assert found.is_empty()
    assert np.isfinite(found["score"].to_numpy()).all()
