"""Generators blended by rank: sums that can be added up by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ecom_tasks.recommendation import blend, candidates


def test_the_share_of_repeats() -> None:
    pairs = pl.DataFrame({
        "customer_id": ["a", "a", "b"], "product_id": ["x", "y", "x"], "orders": [4.0, 1.0, 3.0],
    })  # fmt: skip
    # Eight orders, of which three are the first of their pair.
    assert blend.repeat_share([pairs.head(1), pairs.slice(1)]) == (8 - 3) / 8
    assert blend.repeat_share([pairs.clear()]) == 0


def row(product: str, is_new: float, **ranks: float | None) -> dict[str, object]:
    names = {candidates.rank_name(name): None for name in candidates.NAMES}
    given = {candidates.rank_name(name): rank for name, rank in ranks.items()}
    return {"customer_id": "ann", "product_id": product, "is_new": is_new} | names | given


def test_new_ranks_are_fused_own_ones_stand_and_repeats_count_by_their_odds() -> None:
    rows = pl.DataFrame([
        row("own", 0.0, repeat=1, als=4), row("new", 1.0, als=1, popular=2), row("odd", 1.0),
    ])  # fmt: skip
    found = blend.score(rows, repeats=0.75)
    places = np.exp(found["score"].to_numpy())
    assert places[0] == pytest.approx(3 / (60 + 1))  # odds of .75 are 3 to 1
    others = len(candidates.NAMES) - 1
    assert places[1] == pytest.approx((1 / (60 + 1) + 1 / (60 + 2)) / others)
    assert places[2] == pytest.approx(1e-6)
    assert found["is_new"].to_list() == [False, True, True]
    assert np.isfinite(blend.score(rows, repeats=1.0)["score"].to_numpy()).all()


def test_views_count_where_there_are_any() -> None:
    rows = pl.DataFrame([row("new", 1.0, als=1)])
    viewed = rows.with_columns(propagation_score=pl.lit(0.5), propagation_rank=pl.lit(3.0))
    one, both = (np.exp(blend.score(each, 0.5)["score"].item()) for each in (rows, viewed))
    others = len(candidates.NAMES) - 1
    assert one == pytest.approx(1 / (60 + 1) / others)
    assert both == pytest.approx((1 / (60 + 1) + 1 / (60 + 3)) / (others + 1))
