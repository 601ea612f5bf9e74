"""Forecast metrics: sums done by hand, independent twins, and another library's opinion."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from utilsforecast import losses

from ecom_tasks.metrics import forecast as metrics

SERIES, WEEKS, STEPS = 3, 6, 2
units = st.floats(0, 1000, width=32)


def matrix(columns: int) -> st.SearchStrategy[metrics.Array]:
    return arrays(np.float64, (SERIES, columns), elements=units)


def long(actual: metrics.Array, forecast: metrics.Array) -> pl.DataFrame:
    return pl.DataFrame({
        "unique_id": np.repeat(np.arange(SERIES), actual.shape[1]),
        "ds": np.tile(np.arange(actual.shape[1]), SERIES),
        "y": actual.ravel(),
        "model": forecast.ravel(),
    })


def history(train: metrics.Array) -> pl.DataFrame:
    return long(train, train).drop("model")


def test_scale_by_hand() -> None:
    train = np.array([[1.0, 3.0, 2.0, 2.0]])
    assert metrics.seasonal_scale(train).tolist() == [(2**2 + 1**2 + 0) / 3]
    assert metrics.seasonal_scale(train, error="absolute").tolist() == [(2 + 1 + 0) / 3]
    assert metrics.seasonal_scale(train, season=2).tolist() == [((2 - 1) ** 2 + (2 - 3) ** 2) / 2]


def test_scale_needs_more_than_a_season() -> None:
    with pytest.raises(ValueError, match="more than 4 weeks of train, got 4"):
        metrics.seasonal_scale(np.ones((1, 4)), season=4)


def test_wrmsse_by_hand() -> None:
    train = np.array([[0.0, 2.0, 0.0], [5.0, 5.0, 6.0]])  # scales: (4 + 4) / 2 and (0 + 1) / 2
    actual = np.array([[1.0, 1.0], [6.0, 8.0]])
    forecast = np.array([[3.0, 1.0], [6.0, 7.0]])  # squares: (4 + 0) / 2 and (0 + 1) / 2
    first, second = math.sqrt(2 / 4), math.sqrt(0.5 / 0.5)
    assert metrics.rmsse(actual, forecast, train) == pytest.approx([first, second])
    weighted = (30 * first + 10 * second) / (30 + 10)
    assert metrics.wrmsse(actual, forecast, train, np.array([30.0, 10.0])) == pytest.approx(
        weighted
    )


def test_naive_forecast_of_a_line_has_rmsse_of_its_slope() -> None:
    train = np.array([[1.0, 2.0, 3.0]])
    assert metrics.rmsse(np.array([[4.0]]), np.array([[3.0]]), train).tolist() == [1.0]


def test_series_without_scale_count_nowhere() -> None:
    train = np.array([[5.0, 5.0, 5.0], [0.0, 1.0, 0.0]])
    actual, forecast = np.array([[100.0], [1.0]]), np.array([[0.0], [3.0]])
    assert np.isnan(metrics.rmsse(actual, forecast, train)[0])
    assert np.isnan(metrics.mase(actual, forecast, train)[0])
    assert metrics.wrmsse(actual, forecast, train, np.array([1000.0, 1.0])) == 2 / 1
    assert math.isnan(metrics.wrmsse(actual, forecast, train, np.array([1.0, 0.0])))


def test_over_forecasting_is_positive_bias() -> None:
    actual, forecast = np.array([[4.0, 6.0]]), np.array([[6.0, 5.0]])
    assert metrics.bias(actual, forecast) == (2 - 1) / (4 + 6)
    assert metrics.wape(actual, forecast) == (2 + 1) / (4 + 6)
    assert math.isnan(metrics.bias(np.zeros((1, 2)), forecast))
    assert math.isnan(metrics.wape(np.zeros((1, 2)), forecast))


def test_pinball_by_hand() -> None:
    actual, forecast = np.array([[10.0, 10.0]]), np.array([[8.0, 13.0]])
    assert metrics.pinball_loss(actual, forecast, 0.9) == pytest.approx((0.9 * 2 + 0.1 * 3) / 2)


def test_pinball_refuses_a_level_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1"):
        metrics.pinball_loss(np.ones((1, 1)), np.ones((1, 1)), 1)


def test_both_ends_of_an_interval_are_inside() -> None:
    actual = np.array([[1.0, 2.0, 3.0, 4.0]])
    low, high = np.full((1, 4), 2.0), np.full((1, 4), 3.0)
    assert metrics.interval_coverage(actual, low, high) == 2 / 4


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(1, 3\)"):
        metrics.wape(np.ones((1, 2)), np.ones((1, 3)))


def test_weights_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        metrics.weighted_mean(np.ones(2), np.array([1.0, -1.0]))


@given(matrix(STEPS), matrix(STEPS), matrix(WEEKS), st.integers(1, 3))
def test_scaled_errors_agree_with_utilsforecast(
    actual: metrics.Array, forecast: metrics.Array, train: metrics.Array, season: int
) -> None:
    frame, known = long(actual, forecast), history(train)
    for ours, theirs in ((metrics.rmsse, losses.rmsse), (metrics.mase, losses.mase)):
        found = ours(actual, forecast, train, season)
        expected = theirs(frame, ["model"], season, known).sort("unique_id")["model"].to_numpy()
        judged = np.isfinite(found)
        assert found[judged] == pytest.approx(expected[judged], rel=1e-9)


@given(matrix(STEPS), matrix(STEPS), st.sampled_from([0.01, 0.1, 0.5, 0.9]))
def test_errors_agree_with_utilsforecast(
    actual: metrics.Array, forecast: metrics.Array, level: float
) -> None:
    frame = long(actual, forecast)
    loss = losses.quantile_loss(frame, {"model": "model"}, level)["model"].mean()
    assert metrics.pinball_loss(actual, forecast, level) == pytest.approx(loss, abs=1e-9)
    covered = losses.coverage(
        frame.with_columns(low=pl.col("model"), high=pl.col("model") * 2)
        .rename({"low": "model-lo-80", "high": "model-hi-80"}),
        ["model"], 80,
    )["model"].mean()  # fmt: skip
    assert metrics.interval_coverage(actual, forecast, 2 * forecast) == pytest.approx(covered)
    if actual.sum() > 0:
        one = frame.with_columns(unique_id=pl.lit(0))
        assert metrics.wape(actual, forecast) == pytest.approx(
            losses.nd(one, ["model"])["model"].item()
        )


@given(matrix(STEPS), matrix(STEPS), matrix(WEEKS))
def test_rmsse_and_mase_agree_with_plain_loops(
    actual: metrics.Array, forecast: metrics.Array, train: metrics.Array
) -> None:
    for row in range(SERIES):
        steps = [b - a for a, b in zip(train[row][:-1], train[row][1:], strict=True)]
        missed = [a - f for a, f in zip(actual[row], forecast[row], strict=True)]
        square = sum(s * s for s in steps) / len(steps)
        if square == 0:
            continue
        rmsse = math.sqrt(sum(m * m for m in missed) / len(missed) / square)
        assert metrics.rmsse(actual, forecast, train)[row] == pytest.approx(rmsse)
        absolute = sum(map(abs, steps)) / len(steps)
        mase = sum(map(abs, missed)) / len(missed) / absolute
        assert metrics.mase(actual, forecast, train)[row] == pytest.approx(mase)


@given(matrix(STEPS), matrix(STEPS), matrix(WEEKS), st.floats(0.01, 100))
def test_scaled_errors_do_not_depend_on_the_unit(
    actual: metrics.Array, forecast: metrics.Array, train: metrics.Array, factor: float
) -> None:
    weights = np.array([1.0, 2.0, 3.0])
    before = metrics.wrmsse(actual, forecast, train, weights)
    after = metrics.wrmsse(factor * actual, factor * forecast, factor * train, 5 * weights)
    assert after == pytest.approx(before, rel=1e-6, nan_ok=True)


@given(
    arrays(np.float64, 41, elements=st.floats(0, 100)),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.floats(0, 100),
)
def test_no_forecast_has_less_pinball_loss_than_the_quantile(
    demand: metrics.Array, level: float, other: float
) -> None:
    actual = demand[None, :]
    # 41 values and these levels: the quantile is one of the values, without interpolation.
    best = np.sort(demand)[math.ceil(level * 41) - 1]
    loss = metrics.pinball_loss(actual, np.full_like(actual, best), level)
    assert loss <= metrics.pinball_loss(actual, np.full_like(actual, other), level) + 1e-9


def test_wmae_and_smape_by_hand() -> None:
    actual, forecast = np.array([[4.0, 6.0]]), np.array([[5.0, 4.0]])
    assert metrics.wmae(actual, forecast, np.array([[1.0, 5.0]])) == (1 * 1 + 5 * 2) / (1 + 5)
    assert metrics.smape(actual, forecast) == pytest.approx((200 * 1 / 9 + 200 * 2 / 10) / 2)
    assert metrics.smape(np.zeros((1, 2)), np.array([[0.0, 1.0]])) == (0 + 200) / 2
    # The mean over series of means: a series with one count weighs as much as one with two.
    uneven = np.array([[10.0, np.nan], [10.0, 10.0]])
    made = np.array([[30.0, 0.0], [10.0, 10.0]])
    assert metrics.smape(uneven, made) == pytest.approx((200 * 20 / 40 + 0) / 2)


def test_periods_without_a_count_count_nowhere() -> None:
    nan = float("nan")
    train = np.array([[nan, 1.0, 3.0, nan, 7.0, 6.0]])  # steps between neighbours: +2 and -1
    assert metrics.seasonal_scale(train).tolist() == [(4 + 1) / 2]
    actual, forecast = np.array([[4.0, nan]]), np.array([[6.0, 100.0]])
    assert metrics.rmsse(actual, forecast, train) == pytest.approx([math.sqrt(4 / 2.5)])
    assert metrics.mase(actual, forecast, train) == pytest.approx([2 / 1.5])
    assert metrics.wape(actual, forecast) == 2 / 4
    assert metrics.bias(actual, forecast) == 2 / 4
    assert metrics.pinball_loss(actual, forecast, 0.9) == pytest.approx(0.1 * 2)
    assert metrics.wmae(actual, forecast, np.ones((1, 2))) == 2
    assert metrics.interval_coverage(actual, forecast - 3, forecast) == 1
