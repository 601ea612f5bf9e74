"""Ranking metrics: by hand, beside an independent twin, by property."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecom_tasks.metrics import ranking


def frame(lists: dict[str, list[str]]) -> pl.DataFrame:
    rows = [
        {"customer_id": customer, "product_id": product, "rank": rank}
        for customer, products in lists.items()
        for rank, product in enumerate(products, 1)
    ]
    schema = {"customer_id": pl.String, "product_id": pl.String, "rank": pl.Int64}
    return pl.DataFrame(rows, schema=schema)


def hits(ranked: dict[str, list[str]], right: dict[str, list[str]], depth: int) -> ranking.Hits:
    customers = pl.Series(sorted({*ranked, *right}), dtype=pl.String)
    return ranking.hits(frame(ranked), frame(right).drop("rank"), customers, depth)


def test_by_hand() -> None:
    found = hits(
        {"ann": ["a", "b", "c"], "bob": ["a", "b", "c"]}, {"ann": ["a", "c"], "bob": ["z"]}, 3
    )
    assert found.customers == ["ann", "bob"]
    ideal = 1 + 1 / math.log2(3)
    ndcg = ranking.ndcg_at_k(found.at_rank, found.positives, 3)
    assert ndcg == pytest.approx([(1 + 1 / math.log2(4)) / ideal, 0])
    assert ranking.recall_at_k(found.at_rank, found.positives, 2) == pytest.approx([1 / 2, 0])
    assert ranking.mrr_at_k(found.at_rank, 3) == pytest.approx([1, 0])
    assert ranking.hit_rate_at_k(found.at_rank, 3) == pytest.approx([1, 0])


def test_customers_without_positives_are_left_out_and_without_list_get_zero() -> None:
    found = hits({"ann": ["a"], "bob": ["a"]}, {"bob": ["a"], "cid": ["a"]}, 1)
    assert found.customers == ["bob", "cid"]
    assert ranking.ndcg_at_k(found.at_rank, found.positives, 1) == pytest.approx([1, 0])


def test_of_equal_scores_the_smaller_id_goes_first() -> None:
    scored = pl.DataFrame({
        "customer_id": ["ann"] * 3, "product_id": ["c", "a", "b"], "score": [1.0, 1.0, 2.0],
    })  # fmt: skip
    ranked = ranking.rank_within(scored, 2)
    assert ranked["product_id"].to_list() == ["b", "a"]
    assert ranked["rank"].to_list() == [1, 2]


ids = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


@given(listed=ids, right=ids.filter(bool), k=st.integers(1, 8))
def test_as_an_independent_twin_says(listed: list[str], right: list[str], k: int) -> None:
    found = hits({"ann": listed}, {"ann": right}, 8)
    gained = sum(1 / math.log2(i + 2) for i, p in enumerate(listed[:k]) if p in right)
    ideal = sum(1 / math.log2(i + 2) for i in range(min(k, len(right))))
    first = next((i for i, p in enumerate(listed[:k], 1) if p in right), None)
    assert ranking.ndcg_at_k(found.at_rank, found.positives, k)[0] == pytest.approx(gained / ideal)
    assert ranking.mrr_at_k(found.at_rank, k)[0] == pytest.approx(1 / first if first else 0)
    share = len(set(listed[:k]) & set(right)) / len(right)
    assert ranking.recall_at_k(found.at_rank, found.positives, k)[0] == pytest.approx(share)


def test_k_beyond_the_depth_is_refused() -> None:
    found = hits({"ann": ["a"]}, {"ann": ["a"]}, 3)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.3 .* got 4"):
        ranking.ndcg_at_k(found.at_rank, found.positives, 4)


def test_bootstrap_interval_is_that_of_the_normal_for_many_customers() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 2000)
    low, high = ranking.bootstrap_interval(values, resamples=4000)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert ranking.bootstrap_interval(np.full(10, 3.0)) == (3.0, 3.0)
