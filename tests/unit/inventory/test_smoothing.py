"""Smoothing of all series at once gives what statsforecast gives one after the other."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest

from ecom_tasks.inventory import smoothing

SERIES, PERIODS = 90, 60


@pytest.fixture(scope="module")
def shop() -> tuple[np.ndarray, np.ndarray, pl.DataFrame]:
    """Return intermittent and steady series that begin at different times, and the peers'."""
    from statsforecast import StatsForecast, models

    random = np.random.default_rng(3)
    units = random.negative_binomial(1, 0.3, (SERIES, PERIODS)).astype(float)
    units[::3] = np.abs(random.normal(0, 3, (SERIES // 3, PERIODS)).cumsum(axis=1) + 50)
    units[1], units[2] = 0, 5
    start = random.integers(0, 30, SERIES)
    units[4, start[4]] = 0  # observed, and nothing sold
    rows = [(row, at, units[row, at]) for row in range(SERIES) for at in range(start[row], PERIODS)]
    made = [
        models.SimpleExponentialSmoothingOptimized(alias="SES"),
        models.TSB(alpha_d=0.1, alpha_p=0.1, alias="TSB"),
        models.CrostonSBA(alias="SBA"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = pl.DataFrame(rows, schema=["unique_id", "ds", "y"], orient="row")
        peers = StatsForecast(made, freq=1).forecast(df=frame, h=1).sort("unique_id")
    return units, start, peers


def test_simple_smoothing_finds_the_same_level(
    shop: tuple[np.ndarray, np.ndarray, pl.DataFrame],
) -> None:
    units, start, peers = shop
    found = smoothing.simple(units, start)
    np.testing.assert_allclose(found, peers["SES"].to_numpy(), rtol=2e-3, atol=1e-6)


def test_intermittent_methods_are_the_same(
    shop: tuple[np.ndarray, np.ndarray, pl.DataFrame],
) -> None:
    units, start, peers = shop
    croston, tsb = smoothing.intermittent(units, start)
    np.testing.assert_allclose(croston, peers["SBA"].to_numpy(), rtol=1e-9)
    np.testing.assert_allclose(tsb, peers["TSB"].to_numpy(), rtol=1e-9)
