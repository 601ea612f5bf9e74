"""Deviance of counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from ecom_tasks.metrics.pricing import poisson_deviance

counts = st.lists(st.integers(0, 50), min_size=1, max_size=20)


def test_by_hand() -> None:
    actual, expected = np.array([0.0, 4.0]), np.array([1.5, 2.0])
    weight = np.array([1.0, 3.0])
    first = 2 * (0 - (0 - 1.5))
    second = 2 * (4 * math.log(4 / 2) - (4 - 2))
    assert poisson_deviance(actual, expected, weight) == pytest.approx(
        (1 * first + 3 * second) / (1 + 3)
    )


@settings(deadline=None)
@given(counts, st.floats(0.1, 60))
def test_against_another_formula(values: list[int], mean: float) -> None:
    actual = np.array(values, dtype=float)
    expected = np.full(len(values), mean)
    twin = 2 * special.kl_div(actual, expected)
    found = poisson_deviance(actual, expected, np.ones(len(values)))
    assert found == pytest.approx(twin.mean(), abs=1e-9)


@settings(deadline=None)
@given(counts.filter(any), st.floats(0.5, 2.0))
def test_the_mean_is_the_best_constant(values: list[int], factor: float) -> None:
    actual = np.array(values, dtype=float)
    weight = np.ones(len(values))
    best = poisson_deviance(actual, np.full(len(values), actual.mean()), weight)
    other = poisson_deviance(actual, np.full(len(values), actual.mean() * factor), weight)
    assert best <= other + 1e-9


@pytest.mark.parametrize(
    ("actual", "expected"),
    [([], []), ([-1.0], [1.0]), ([1.0], [0.0]), ([1.0], [-2.0]), ([1.0], [float("nan")])],
)
def test_nonsense_is_refused(actual: list[float], expected: list[float]) -> None:
    with pytest.raises(ValueError, match="deviance needs rows"):
        poisson_deviance(np.array(actual), np.array(expected), np.ones(len(actual)))
