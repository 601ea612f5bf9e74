"""Calibration: quantiles that were wrong on earlier windows are right on later ones."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from ecom_tasks.inventory import calibrate

LEVELS = (0.1, 0.5, 0.9)
Z90 = NormalDist().inv_cdf(0.9)


def forecasts(mean: np.ndarray, deviation: float) -> np.ndarray:
    """Return the quantiles of a normal distribution around each mean."""
    z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    return np.asarray(mean[..., None] + deviation * z, dtype=np.float32)


@pytest.mark.parametrize(
    ("believed", "offset"),
    [(1.0, 0.0), (4.0, 0.0), (20.0, 0.0), (10.0, 25.0), (10.0, -25.0)],
    ids=["far too narrow", "too narrow", "too wide", "too low", "too high"],
)
def test_new_windows_are_covered_as_often_as_said(believed: float, offset: float) -> None:
    random = np.random.default_rng(0)
    mean = random.uniform(200, 400, size=(5000, 4))
    earlier, later = (mean + offset + random.normal(0, 10, mean.shape) for _ in range(2))
    raw = forecasts(mean, believed)
    shift = calibrate.shifts(earlier, raw, LEVELS)
    moved = calibrate.apply(raw, shift, LEVELS)
    below = (later[..., None] <= moved).mean(axis=(0, 1))
    # 20,000 points earlier and later: four standard errors of each, added.
    assert below == pytest.approx(LEVELS, abs=4 * np.sqrt(0.25 / 20_000) * np.sqrt(2))


def test_shift_by_hand() -> None:
    # Spread 10; errors against the upper level, in spreads: -2.0, -1.9, ..., -0.1 (20 of them).
    quantiles = np.tile(np.array([40.0, 45.0, 50.0], dtype=np.float32), (20, 1, 1))
    actual = 50 - np.arange(1.0, 21.0)[:, None]
    found = calibrate.shifts(actual, quantiles, LEVELS)
    assert found[2] == pytest.approx(-(20 - 19 + 1) / 10)  # the ceil(21 * 0.9) = 19th smallest
    assert found[0] == pytest.approx((31 - 40) / 10)  # the floor(21 * 0.1) = 2nd smallest
    assert calibrate.apply(quantiles[:1], found, LEVELS)[0, 0, 2] == pytest.approx(50 - 0.2 * 10)


def test_forecasts_without_spread_are_moved_in_units() -> None:
    quantiles = np.zeros((30, 1, 3), dtype=np.float32)
    shift = calibrate.shifts(np.full((30, 1), 5.0), quantiles, LEVELS)
    assert shift == pytest.approx([5, 5, 5])
    assert calibrate.apply(quantiles, shift, LEVELS).max() == 5


def test_without_series_nothing_is_moved() -> None:
    nothing = calibrate.learn(np.zeros((0, 4)), np.zeros((0, 4, 3), dtype=np.float32), LEVELS)
    assert nothing == calibrate.Calibration((0.0, 0.0, 0.0), 0.0)


@pytest.mark.parametrize("planted", [0.0, 0.3, 0.8])
def test_correlation_of_errors_is_recovered(planted: float) -> None:
    random = np.random.default_rng(1)
    mean = np.full((20_000, 4), 300.0)
    shared, own = random.normal(size=(20_000, 1)), random.normal(size=(20_000, 4))
    actual = mean + 10 * (np.sqrt(planted) * shared + np.sqrt(1 - planted) * own)
    levels = (0.01, 0.1, 0.5, 0.9, 0.99)
    z = np.array([NormalDist().inv_cdf(level) for level in levels])
    quantiles = np.asarray(mean[..., None] + 10 * z, dtype=np.float32)
    assert calibrate.error_correlation(actual, quantiles, levels) == pytest.approx(
        planted, abs=0.03
    )


def test_one_step_has_no_correlation() -> None:
    quantiles = np.tile(np.array([1.0, 2.0, 3.0], dtype=np.float32), (5, 1, 1))
    assert calibrate.error_correlation(np.full((5, 1), 2.5), quantiles, LEVELS) == 0


def test_the_same_series_is_wrong_the_same_way() -> None:
    quantiles = np.tile(np.array([10.0, 20.0, 30.0], dtype=np.float32), (40, 3, 1))
    actual = np.where(np.arange(40)[:, None] % 2 == 0, 14.0, 26.0) * np.ones((1, 3))
    assert calibrate.error_correlation(actual, quantiles, LEVELS) == pytest.approx(1)
