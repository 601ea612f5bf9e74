"""Ranking metrics: by hand, beside an independent twin, and by property."""

from __future__ import annotations

import doctest
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecom_tasks.metrics import ranking

DEPTH = 8
rows = st.lists(
    st.tuples(st.lists(st.booleans(), min_size=DEPTH, max_size=DEPTH), st.integers(0, 6)).filter(
        lambda row: sum(row[0]) + row[1] > 0
    ),
    min_size=1,
    max_size=12,
)
depths = st.integers(1, DEPTH)


def arrays(given_rows: list[tuple[list[bool], int]]) -> tuple[np.ndarray, np.ndarray]:
    """Hits at each rank, and positives: those ranked and some that were not."""
    at_rank = np.array([row for row, _ in given_rows], dtype=bool)
    return at_rank, at_rank.sum(axis=1) + np.array([missed for _, missed in given_rows])


def test_ndcg_by_hand() -> None:
    at_rank = np.array([[True, False, True], [False, False, False]])
    found = ranking.ndcg_at_k(at_rank, np.array([2, 1]), 3)
    best = 1 / math.log2(2) + 1 / math.log2(3)
    assert found == pytest.approx([(1 / math.log2(2) + 1 / math.log2(4)) / best, 0])


def test_the_ideal_of_ndcg_is_cut_at_k_and_the_positives_of_recall_are_not() -> None:
    at_rank, positives = np.array([[True, True, False]]), np.array([5])
    assert ranking.ndcg_at_k(at_rank, positives, 2) == pytest.approx([1.0])
    assert ranking.recall_at_k(at_rank, positives, 2) == pytest.approx([2 / 5])


def test_mrr_and_hit_rate_look_no_deeper_than_k() -> None:
    at_rank = np.array([[False, False, True], [False, True, True]])
    assert ranking.mrr_at_k(at_rank, 2) == pytest.approx([0, 1 / 2])
    assert ranking.mrr_at_k(at_rank, 3) == pytest.approx([1 / 3, 1 / 2])
    assert ranking.hit_rate_at_k(at_rank, 2) == pytest.approx([0, 1])


def twin(hit: list[bool], positives: int, k: int) -> dict[str, float]:
    """The textbook formulas for one customer, one rank at a time."""
    gain, first = 0.0, 0.0
    for rank in range(1, k + 1):
        if hit[rank - 1]:
            gain += math.log(2) / math.log(rank + 1)
            first = first or 1 / rank
    ideal = sum(math.log(2) / math.log(rank + 1) for rank in range(1, min(k, positives) + 1))
    return {"ndcg": gain / ideal, "recall": sum(hit[:k]) / positives, "mrr": first,
            "hit_rate": float(first > 0)}  # fmt: skip


@given(given_rows=rows, k=depths)
def test_the_twin_agrees(given_rows: list[tuple[list[bool], int]], k: int) -> None:
    at_rank, positives = arrays(given_rows)
    expected = [twin(hit, int(n), k) for (hit, _), n in zip(given_rows, positives, strict=True)]
    found = {
        "ndcg": ranking.ndcg_at_k(at_rank, positives, k),
        "recall": ranking.recall_at_k(at_rank, positives, k),
        "mrr": ranking.mrr_at_k(at_rank, k),
        "hit_rate": ranking.hit_rate_at_k(at_rank, k),
    }
    for name, values in found.items():
        assert values == pytest.approx([each[name] for each in expected]), name


@given(given_rows=rows, k=depths, rank=st.integers(0, DEPTH - 2))
def test_moving_a_hit_up_never_lowers_ndcg(
    given_rows: list[tuple[list[bool], int]], k: int, rank: int
) -> None:
    at_rank, positives = arrays(given_rows)
    better = at_rank.copy()
    better[:, rank] |= at_rank[:, rank + 1]
    better[:, rank + 1] = at_rank[:, rank] & at_rank[:, rank + 1]
    before = ranking.ndcg_at_k(at_rank, positives, k)
    after = ranking.ndcg_at_k(better, positives, k)
    assert (after >= before - 1e-12).all()
    assert ((after >= 0) & (after <= 1 + 1e-12)).all()


@pytest.mark.parametrize("k", [0, 4])
def test_k_outside_the_depth_is_named(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k must lie in 1\.\.3 .* got {k}"):
        ranking.mrr_at_k(np.zeros((1, 3), dtype=bool), k)


def pairs(text: str) -> pl.DataFrame:
    """`ann:milk ann:tea` as customer_id, product_id."""
    schema = {"customer_id": pl.String, "product_id": pl.String}
    return pl.DataFrame([pair.split(":") for pair in text.split()], schema=schema, orient="row")


def test_of_equal_scores_the_smaller_product_goes_first() -> None:
    scored = pairs("ann:tea ann:milk ann:jam bob:tea").with_columns(
        pl.Series("score", [1.0, 1.0, 2.0, 0.0])
    )
    ranked = ranking.rank_within(scored, 2)
    assert ranked.select("customer_id", "product_id", "rank").rows() == [
        ("ann", "jam", 1),
        ("ann", "milk", 2),
        ("bob", "tea", 1),
    ]


def test_hits_leave_out_customers_without_positives_and_keep_those_without_lists() -> None:
    ranked = pairs("ann:tea ann:milk eve:tea").with_columns(pl.Series("rank", [1, 2, 1]))
    right = pairs("ann:milk ann:jam bob:tea zoe:tea")
    found = ranking.hits(ranked, right, pl.Series(["ann", "bob", "eve"]), 3)
    assert found.customers == ["ann", "bob"]  # eve bought nothing; nobody asked for zoe
    assert found.at_rank.tolist() == [[False, True, False], [False, False, False]]
    assert found.positives.tolist() == [2, 1]


def test_bootstrap_of_a_constant_is_that_constant() -> None:
    assert ranking.bootstrap_interval(np.full(30, 0.25)) == pytest.approx((0.25, 0.25))


def test_bootstrap_is_as_wide_as_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(size=400)
    low, high = ranking.bootstrap_interval(values, level=0.9, resamples=4000, seed=2)
    error = values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.645 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.645 * error, abs=0.15 * error)


def test_level_outside_the_open_interval_is_named() -> None:
    with pytest.raises(ValueError, match=r"level must lie in \(0, 1\), got 1"):
        ranking.bootstrap_interval(np.zeros(2), level=1)


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(ranking).failed == 0
    assert doctest.testmod(ranking).attempted > 0


def test_map_is_the_mean_precision_at_hits_over_what_could_be_hit() -> None:
    at = np.array([[True, False, True], [False, False, False]])
    found = ranking.map_at_k(at, np.array([3, 1]), 3)
    assert found.tolist() == pytest.approx([(1 / 1 + 2 / 3) / 3, 0])
    assert ranking.map_at_k(at, np.array([3, 1]), 1).tolist() == [1, 0]


def test_coverage_and_novelty_look_at_the_first_k_only() -> None:
    ranked = pl.DataFrame({
        "customer_id": ["ann", "ann", "bob", "bob"],
        "product_id": ["a", "b", "a", "c"],
        "rank": [1, 2, 1, 2],
    })
    assert ranking.coverage(ranked, 4, 1) == 1 / 4
    assert ranking.coverage(ranked, 4, 2) == 3 / 4
    had = pl.DataFrame({"product_id": ["a", "b", "c"], "customers": [4, 1, 2]})
    # -log2 of 4/8 twice, of 1/8 and of 2/8
    assert ranking.novelty(ranked, had, 8, 2) == pytest.approx((1 + 3 + 1 + 2) / 4)
    assert ranking.novelty(ranked, had, 8, 1) == pytest.approx(1)


def ranks(text: str) -> pl.DataFrame:
    """`ann:milk ann:tea` as customer_id, product_id, rank: first milk, then tea."""
    place = pl.int_range(1, pl.len() + 1).over("customer_id")
    return pairs(text).with_columns(place.alias("rank"))


def test_a_list_is_as_diverse_as_its_products_have_different_customers() -> None:
    own = pairs("ann:a ann:b ann:c bob:a bob:b bob:d eve:d zoe:d")
    # a, b: the same two customers. a, c: one shared of 2 and 1. a, d: one shared of 2 and 3.
    assert ranking.intra_list_diversity(ranks("ann:a ann:b"), own, 2) == pytest.approx(0)
    assert ranking.intra_list_diversity(ranks("ann:c ann:d"), own, 2) == pytest.approx(1)
    ac, ad, cd = 1 / math.sqrt(2 * 1), 1 / math.sqrt(2 * 3), 0
    three = ranking.intra_list_diversity(ranks("eve:a eve:c eve:d"), own, 3)
    assert three == pytest.approx(1 - (ac + ad + cd) / 3)
    both = ranking.intra_list_diversity(ranks("ann:a ann:b ann:d eve:c eve:d eve:a"), own, 2)
    assert both == pytest.approx((0 + 1) / 2)  # the third of each list is past k


def test_diversity_needs_two_known_products_in_a_list() -> None:
    own = pairs("ann:a ann:b bob:a bob:c")
    short = "bob:a eve:a eve:unknown"
    assert math.isnan(ranking.intra_list_diversity(ranks(short), own, 2))
    with_one = ranking.intra_list_diversity(ranks(f"{short} ann:a ann:b"), own, 2)
    assert with_one == pytest.approx(1 - 1 / math.sqrt(2 * 1))


def test_diversity_is_the_same_across_the_borders_of_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranking, "_BLOCK", 3)
    random = np.random.default_rng(11)
    held = random.random((60, 7)) < 0.4
    own = pairs(" ".join(f"c{c}:p{p}" for c, p in zip(*np.nonzero(held), strict=True)))
    lists = [random.permutation(7)[:3] for _ in range(60)]
    shown = ranks(" ".join(f"c{c}:p{p}" for c, products in enumerate(lists) for p in products))
    size = held.sum(axis=0)
    cosine = (held.T.astype(float) @ held) / np.sqrt(np.outer(size, size))
    expected = [1 - (cosine[a, b] + cosine[a, c] + cosine[b, c]) / 3 for a, b, c in lists]
    assert ranking.intra_list_diversity(shown, own, 3) == pytest.approx(np.mean(expected))


def test_popularity_bias_compares_what_is_shown_with_what_the_same_customers_have() -> None:
    own = pairs("ann:a ann:b bob:a eve:a eve:c")  # a has 3 customers, b and c have 1
    shown = ranks("ann:c ann:a bob:b")
    # Shown: ann (1 + 3) / 2, bob 1. Had: ann (3 + 1) / 2, bob 3. Eve is shown nothing.
    assert ranking.popularity_bias(shown, own, 2) == pytest.approx((2 + 1) / (2 + 3))
    assert ranking.popularity_bias(shown, own, 1) == pytest.approx((1 + 1) / (2 + 3))
    mirror = own.with_columns(pl.lit(1).alias("rank"))
    assert ranking.popularity_bias(mirror, own, 1) == pytest.approx(1)


def test_popularity_bias_of_nothing_is_undefined_and_of_unknown_products_0() -> None:
    own = pairs("ann:a bob:a")
    assert math.isnan(ranking.popularity_bias(ranks("zoe:a"), own, 5))
    assert ranking.popularity_bias(ranks("ann:new"), own, 5) == 0


HAD = pl.DataFrame({"product_id": ["hit", "rare"], "customers": [16, 4]})


def test_a_positive_weighs_the_inverse_of_its_propensity() -> None:
    right = pairs("ann:hit ann:rare ann:new")
    found = ranking.inverse_propensity(right, HAD)["weight"]
    assert found.to_list() == pytest.approx([1, math.sqrt(16 / 4), math.sqrt(16 / 1)])
    straight = ranking.inverse_propensity(right, HAD, power=1)["weight"]
    assert straight.to_list() == pytest.approx([1, 16 / 4, 16 / 1])
    assert ranking.inverse_propensity(right, HAD, power=0)["weight"].to_list() == [1, 1, 1]


def test_what_is_rare_counts_more_when_weighed() -> None:
    right = ranking.inverse_propensity(pairs("ann:hit bob:rare bob:hit"), HAD)  # 1, 2, 1
    shown = ranks("ann:hit bob:x bob:rare")
    assert ranking.ips_recall_at_k(shown, right, 1) == pytest.approx(1 / 4)
    assert ranking.ips_recall_at_k(shown, right, 2) == pytest.approx((1 + 2) / 4)
    second = 1 / math.log2(3)
    # The ideal of bob has what is rare first.
    expected = (1 + 2 * second) / (1 + 2 + 1 * second)
    assert ranking.ips_ndcg_at_k(shown, right, 2) == pytest.approx(expected)
    assert ranking.ips_ndcg_at_k(shown, right, 1) == pytest.approx(1 / (1 + 2))
    ideal = ranks("ann:hit bob:rare bob:hit")
    assert ranking.ips_ndcg_at_k(ideal, right, 5) == pytest.approx(1)


def test_equal_weights_give_the_plain_metrics_when_everyone_has_one_positive() -> None:
    right = pairs("ann:a bob:b eve:c")
    shown = ranks("ann:x ann:a bob:b eve:x eve:y eve:c")
    hit = ranking.hits(shown, right, right["customer_id"], 3)
    weighed = right.with_columns(pl.lit(2.5).alias("weight"))
    for k in (1, 2, 3):
        plain = ranking.recall_at_k(hit.at_rank, hit.positives, k).mean()
        assert ranking.ips_recall_at_k(shown, weighed, k) == pytest.approx(plain)
        plain = ranking.ndcg_at_k(hit.at_rank, hit.positives, k).mean()
        assert ranking.ips_ndcg_at_k(shown, weighed, k) == pytest.approx(plain)


def test_weighing_takes_back_that_popular_products_are_seen_more_often() -> None:
    # Everyone likes both products; the popular one is always seen, the rare one half of the time
    # (propensity 1 and (4 / 16) ** 0.5). A list of the popular product finds half of the likings.
    rows = [f"c{c}:hit" for c in range(40)] + [f"c{c}:rare" for c in range(0, 40, 2)]
    seen = pairs(" ".join(rows))
    shown = ranks(" ".join(f"c{c}:hit" for c in range(40)))
    plain = ranking.hits(shown, seen, seen["customer_id"], 1)
    naive = ranking.recall_at_k(plain.at_rank, plain.positives, 1).mean()
    assert naive == pytest.approx((20 * 1 + 20 / 2) / 40)
    weighed = ranking.inverse_propensity(seen, HAD)
    assert ranking.ips_recall_at_k(shown, weighed, 1) == pytest.approx(1 / 2)
