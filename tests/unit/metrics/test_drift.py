"""Drift figures: known values, symmetry, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ecom_tasks.metrics.drift import (
    jensen_shannon_divergence,
    population_stability_index,
    stability_by_chance,
)

BOTH = [population_stability_index, jensen_shannon_divergence]


def test_population_stability_index_by_hand() -> None:
    reference, recent = np.array([20.0, 30.0, 50.0]), np.array([2.0, 5.0, 3.0])
    by_hand = (
        (0.2 - 0.2) * math.log(1) + (0.5 - 0.3) * math.log(0.5 / 0.3)
        + (0.3 - 0.5) * math.log(0.3 / 0.5)
    )  # fmt: skip
    assert population_stability_index(reference, recent) == pytest.approx(by_hand)


def test_an_empty_class_counts_as_a_tiny_share() -> None:
    moved = population_stability_index(np.array([1.0, 0.0]), np.array([1.0, 1.0]))
    by_hand = (0.5 - 1) * math.log(0.5 / 1) + (0.5 - 1e-4) * math.log(0.5 / 1e-4)
    assert moved == pytest.approx(by_hand)


def test_jensen_shannon_divergence_by_hand() -> None:
    # Midpoint (3/4, 1/4): 1 * log2(4/3) on one side, 1/2 log2(2/3) + 1/2 log2(2) on the other.
    by_hand = (math.log2(4 / 3) + 0.5 * math.log2(2 / 3) + 0.5 * math.log2(2)) / 2
    found = jensen_shannon_divergence(np.array([7.0, 0.0]), np.array([4.0, 4.0]))
    assert found == pytest.approx(by_hand)


@pytest.mark.parametrize("figure", BOTH)
def test_both_are_symmetric_and_do_not_count_heads(figure: object) -> None:
    assert callable(figure)
    one, other = np.array([5.0, 3.0, 2.0]), np.array([1.0, 1.0, 6.0])
    assert figure(one, other) == pytest.approx(figure(other, one))
    assert figure(10 * one, other) == pytest.approx(figure(one, other))
    assert figure(one, 7 * one) == pytest.approx(0)
    assert figure(one, other) > 0


@pytest.mark.parametrize("figure", BOTH)
@pytest.mark.parametrize(
    ("reference", "recent"), [([1.0], [1.0, 1.0]), ([0.0, 0.0], [1.0, 1.0]), ([1.0], [0.0])]
)
def test_what_cannot_be_compared(
    figure: object, reference: list[float], recent: list[float]
) -> None:
    assert callable(figure)
    with pytest.raises(ValueError, match="same classes"):
        figure(np.array(reference), np.array(recent))


def test_chance_stays_below_its_level_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    shares = np.full(10, 0.1)
    sides = [random.multinomial(rows, shares, 4000).astype(float) for rows in (2000, 3000)]
    above = [
        population_stability_index(a, b) > stability_by_chance(a, b, 0.95)
        for a, b in zip(*sides, strict=True)
    ]
    # Standard error of the share: sqrt(.05 * .95 / 4000) = .0034.
    assert np.mean(above) == pytest.approx(0.05, abs=0.011)
    assert stability_by_chance(np.array([5.0, 0.0]), np.array([9.0, 0.0]), 0.95) == 0.0
    with pytest.raises(ValueError, match="same classes"):
        stability_by_chance(np.array([0.0]), np.array([1.0]), 0.95)
