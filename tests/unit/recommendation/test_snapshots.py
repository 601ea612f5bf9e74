"""Windows between snapshots: which serve for what, and what was bought in them."""

from __future__ import annotations

import pytest

from ecom_tasks.errors import DataContractError
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.snapshots import (
    Window,
    apart,
    bought,
    learn_and_validate,
    plan,
)
from tests import builders
from tests.builders import Shop, day, line
from tests.unit.recommendation.shops import snapshot

CONFIG = RecommendationConfig(test_windows=2, train_windows=2)


def test_windows_follow_each_other_and_the_last_are_for_testing() -> None:
    laid = plan([day(84), day(0), day(28), day(56), day(112)], CONFIG)
    assert laid.serve == day(112)
    assert laid.test == [Window(day(56), day(84)), Window(day(84), day(112))]


def test_no_label_of_a_training_window_is_later_than_the_tests_cutoff() -> None:
    laid = plan([day(28 * n) for n in range(6)], CONFIG)
    for window in laid.test:
        before = laid.train_before(window.cutoff, 2)
        assert len(before) == 2
        assert max(each.until for each in before) == window.cutoff
    assert laid.train_before(laid.serve, 2) == laid.test


def test_overlapping_windows_give_more_to_learn_from_and_none_to_test_twice() -> None:
    two = CONFIG.model_copy(update={"window_cutoffs": 2})
    laid = plan([day(14 * n) for n in range(9)], two)
    assert laid.windows == [Window(day(14 * n), day(14 * n + 28)) for n in range(7)]
    assert laid.test == [Window(day(56), day(84)), Window(day(84), day(112))]
    assert apart(laid.windows)[-2:] == laid.test
    early = laid.train_before(laid.test[0].cutoff, 9)
    assert early == [Window(day(0), day(28)), Window(day(14), day(42)), Window(day(28), day(56))]
    # Of the two windows before the newest, one still runs when it begins.
    assert learn_and_validate(early) == (early[:1], early[2])


def test_a_short_history_has_fewer_tests_and_at_last_none_to_train_on() -> None:
    laid = plan([day(0), day(28), day(56)], CONFIG)
    assert laid.test == [Window(day(28), day(56))]
    assert laid.train_before(day(28), 2) == [Window(day(0), day(28))]
    laid = plan([day(0), day(28)], CONFIG)
    assert laid.test == [Window(day(0), day(28))]
    assert laid.train_before(day(0), 2) == []


def test_a_history_without_a_window_says_what_is_needed() -> None:
    with pytest.raises(DataContractError, match="known at 1 cutoffs, and 2 are needed"):
        plan([day(0)], CONFIG)


def test_bought_is_what_the_later_snapshot_has_and_the_earlier_has_not() -> None:
    lines = [
        line("ann", "milk", day(0)), line("ann", "tea", day(0)), line("ann", "milk", day(27)),
        line("ann", "milk", day(28)), line("ann", "milk", day(30)), line("ann", "jam", day(31)),
    ]  # fmt: skip
    shop = Shop(
        builders.order_lines(lines),
        builders.products(["milk", "tea", "jam"]),
        builders.promotions([]),
        day(60),
    )
    found = bought(snapshot(shop, day(27)).pairs, snapshot(shop, day(55)).pairs)
    assert found.rows() == [("ann", "jam", 1.0, True), ("ann", "milk", 2.0, False)]
