"""Products bought together: measures of a planted pair, and counts against plain enumeration."""

from __future__ import annotations

from itertools import permutations
from math import exp, log, sqrt

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecom_tasks.recommendation import together as pairs
from ecom_tasks.recommendation.together import LEVEL, lift_at_least

ALL = {"min_orders": 1, "min_together": 1}
Z = 1.6448536269514722
"""Quantile 0.95 of the standard normal distribution."""


def together(rows: pl.DataFrame | pl.LazyFrame, k: int, **limits: int) -> pl.DataFrame:
    return pairs.together([rows.lazy()], k, **limits)


def lines(baskets: list[str]) -> pl.DataFrame:
    """One order per basket, one product per letter."""
    rows = [(f"order {number}", letter) for number, held in enumerate(baskets) for letter in held]
    return pl.DataFrame(rows, schema={"order_id": pl.String, "product_id": pl.String}, orient="row")


PLANTED = ["ab"] * 20 + ["a"] * 5 + ["b"] * 15 + ["c"] * 60


def test_orders_may_come_in_parts() -> None:
    rows = lines(PLANTED + ["abx"] * 30 + ["x"] * 40)
    order = rows["order_id"].hash(seed=1) % 4
    parts = [rows.filter(order == number).lazy() for number in (2, 0, 3, 1)]
    assert pairs.together(parts, 5).equals(together(rows, 5))
    assert pairs.together([], 5).equals(together(rows.clear(), 5))


def test_the_measures_of_a_planted_pair() -> None:
    found = together(lines(PLANTED), 5)
    assert found.columns == [
        "product_id", "with_product_id", "rank", "orders_together", "support", "confidence",
        "lift", "lift_low",
    ]  # fmt: skip
    assert found.select("product_id", "with_product_id", "rank", "orders_together").rows() == [
        ("a", "b", 1, 20), ("b", "a", 1, 20),
    ]  # fmt: skip
    assert found["support"].to_list() == [20 / 100, 20 / 100]
    assert found["confidence"].to_list() == [20 / 25, 20 / 35]
    lift = (20 / 100) / (25 / 100 * 35 / 100)
    assert found["lift"].to_list() == pytest.approx([lift, lift])
    # Each product is compared with two: half the quantile 0.05 / 2 of chi-squared with 2 * 20
    # degrees of freedom (24.433), over 25 * 35 / 100 expected orders.
    assert found["lift_low"].to_list() == pytest.approx([24.433 / 2 / 8.75] * 2, abs=1e-4)


def test_a_scan_gives_what_a_frame_gives_whatever_the_order_of_rows() -> None:
    rows = lines(PLANTED)
    repeated = pl.concat([rows, rows.head(30)]).sample(fraction=1, shuffle=True, seed=1)
    assert together(repeated.lazy(), 5).equals(together(rows, 5))


def test_a_rare_pair_stands_behind_a_sure_one_of_smaller_lift() -> None:
    baskets = ["ab"] * 30 + ["a"] * 10 + ["ac"] + ["b"] * 20 + ["d"] * 139
    found = together(lines(baskets), 5, **ALL).filter(product_id="a")
    lifts = {"b": 30 * 200 / (41 * 50), "c": 1 * 200 / (41 * 1)}
    assert lifts["c"] > lifts["b"]
    # One shared order: 5% of Poisson counts of mean -log(0.95) are above 0.
    assert lifts["c"] * -log(LEVEL) < 1
    assert found["with_product_id"].to_list() == ["b"]


def test_products_that_meet_as_often_as_chance_has_it_are_not_named() -> None:
    # a in half of the orders, b in half of those with a and in half of those without.
    assert together(lines(["ab", "a", "b", "c"] * 100), 5).is_empty()


def test_rare_products_rare_pairs_and_orders_of_the_whole_range_are_left_out() -> None:
    baskets = ["ab"] * 4 + ["cd"] * 3 + ["ef"] * 2 + ["x"] * 40
    pairs = {"ab", "cd", "ef"}

    def named(**limits: int) -> set[str]:
        found = together(lines(baskets), 5, **(ALL | limits))
        return {a + b for a, b in found.select("product_id", "with_product_id").rows() if a < b}

    assert named() == pairs
    assert named(min_orders=3) == pairs - {"ef"}
    assert named(min_together=4) == {"ab"}
    whole = [*baskets, "abcdef"]
    found = together(lines(whole), 5, **ALL, largest_order=5)
    assert found.equals(together(lines(baskets), 5, **ALL))  # also the number of all orders
    assert together(lines(baskets), 5, **ALL, largest_order=1).is_empty()


def test_equal_pairs_go_by_product_id_and_end_at_k() -> None:
    found = together(lines(["abcd"] * 20 + ["x"] * 80), 2)
    assert found.filter(product_id="b")["with_product_id"].to_list() == ["a", "c"]
    assert found.group_by("product_id").len()["len"].to_list() == [2] * 4


def test_more_products_than_a_block_holds() -> None:
    count = 1500
    order = np.repeat(np.arange(count // 2), 2 * 5)
    product = np.tile(np.arange(count).reshape(-1, 2), 5).ravel()
    rows = pl.DataFrame({
        "order_id": [f"{o}-{visit}" for o, visit in zip(order, np.arange(len(order)) // 2 % 5,
                                                         strict=True)],
        "product_id": [f"{p:04d}" for p in product],
    })  # fmt: skip
    found = together(rows, 3, min_orders=5)
    assert found["product_id"].to_list() == [f"{p:04d}" for p in range(count)]
    assert found["with_product_id"].to_list() == [f"{p ^ 1:04d}" for p in range(count)]
    assert found["lift"].to_list() == pytest.approx([count / 2] * count)


@given(baskets=st.lists(st.text("abcdef", min_size=1, max_size=6), min_size=1, max_size=30))
def test_counts_are_those_of_plain_enumeration(baskets: list[str]) -> None:
    orders = [set(held) for held in baskets]
    found = together(lines(baskets), 9, **ALL)
    for a, b, _, shared, support, confidence, lift, low in found.iter_rows():
        both = sum({a, b} <= held for held in orders)
        of_a, of_b = (sum(each in held for held in orders) for each in (a, b))
        assert shared == both
        assert support == both / len(orders)
        assert confidence == both / of_a
        assert lift == pytest.approx(both * len(orders) / (of_a * of_b))
        assert 1 < low < lift
    named = set(found.select("product_id", "with_product_id").rows())
    assert named == {(b, a) for a, b in named}
    for a, b in set(permutations("abcdef", 2)) - named:
        both = sum({a, b} <= held for held in orders)
        of_a, of_b = (sum(each in held for held in orders) for each in (a, b))
        if both:
            expected = np.array([of_a * of_b / len(orders)])
            compared = len(set().union(*orders)) - 1
            assert lift_at_least(np.array([both]), expected, compared)[0] <= 1 + 1e-6


@given(
    shared=st.integers(1, 5000), only_a=st.integers(0, 5000), only_b=st.integers(0, 5000),
    neither=st.integers(0, 100_000),
)  # fmt: skip
def test_the_bound_is_never_above_the_normal_approximation(
    shared: int, only_a: int, only_b: int, neither: int
) -> None:
    a, b, orders = shared + only_a, shared + only_b, shared + only_a + only_b + neither
    lift = shared * orders / (a * b)
    variance = max(1 / shared - 1 / a - 1 / b + (2 * lift - 1) / orders, 0)
    low = lift_at_least(np.array([shared]), np.array([a * b / orders]))[0]
    assert low <= lift * exp(-Z * sqrt(variance)) * (1 + 1e-9)


@pytest.mark.parametrize("mean", [0.5, 3.0, 40.0])
@pytest.mark.parametrize("compared", [1, 10])
def test_a_list_has_a_bound_above_the_truth_in_at_most_one_case_of_twenty(
    mean: float, compared: int
) -> None:
    shared = np.random.default_rng(11).poisson(mean, (20_000, compared))
    low = lift_at_least(np.maximum(shared, 1).ravel(), np.full(shared.size, mean), compared)
    wrong = ((low.reshape(shared.shape) > 1) & (shared > 0)).any(axis=1)
    spread = sqrt((1 - LEVEL) * LEVEL / len(wrong))
    assert wrong.mean() <= 1 - LEVEL + 4 * spread


def test_the_luckiest_of_many_strangers_does_not_lead_a_list() -> None:
    # A fifth of the orders hold "ham", two fifths "egg", half of "ham" with "egg"; all hold two
    # of 3,000 others at random, each about 20 times, so that some meet "ham" far too often.
    orders = 30_000
    random = np.random.default_rng(2).integers(0, 3_000, 2 * orders).astype(str)
    ham, egg = range(orders // 5), range(orders // 10, orders // 2)
    rows = pl.DataFrame({
        "order_id": [str(order) for order in [*range(orders), *range(orders), *ham, *egg]],
        "product_id": [*random, *["ham"] * len(ham), *["egg"] * len(egg)],
    })
    best = together(rows, 5, min_orders=5).filter(product_id="ham").row(0, named=True)
    assert best["with_product_id"] == "egg"
    assert best["lift"] == pytest.approx((1 / 10) / (1 / 5 * 2 / 5))
