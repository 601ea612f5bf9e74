"""Metrics of demand forecasts, as plain functions of arrays.

Everywhere `actual` and `forecast` have one row per series and one column per week forecast, and
`train` one row per series and one column per week known, oldest first. A series is judged against
its own `train`: errors are divided by what a seasonal naive forecast would have missed there.
A series without such a scale (constant in `train`) has no scaled error: its value is NaN.

NaN in `actual` or `train` is a period without a count: it counts neither above nor below.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


def seasonal_scale(
    train: Array, season: int = 1, error: Literal["squared", "absolute"] = "squared"
) -> Array:
    """Return the mean error of the seasonal naive forecast within `train`, per series.

    Parameters
    ----------
    train : (series, weeks)
    season : weeks after which a value repeats; 1 is the one-step naive forecast
    error : `squared` (scale of RMSSE) or `absolute` (scale of MASE)

    Returns
    -------
    (series,); NaN where the error is zero, or no two values lie a season apart.

    Raises
    ------
    ValueError
        `train` is not longer than one season.

    Examples
    --------
    >>> seasonal_scale(np.array([[1.0, 3.0, 2.0]]))  # steps of +2 and -1: (4 + 1) / 2
    array([2.5])
    """
    if train.shape[1] <= season:
        raise ValueError(f"a scale needs more than {season} weeks of train, got {train.shape[1]}")
    steps = train[:, season:] - train[:, :-season]
    scale = _mean_of_known(steps**2 if error == "squared" else np.abs(steps))
    return np.where(scale > 0, scale, np.nan)


def rmsse(actual: Array, forecast: Array, train: Array, season: int = 1) -> Array:
    """Root mean squared scaled error of each series (Makridakis et al., M5 competition, 2022).

    `sqrt(mean((actual - forecast)^2) / seasonal_scale(train))`; 1 is as bad as the naive forecast
    one step ahead in `train`.

    Returns
    -------
    (series,); NaN where the series has no scale.
    """
    _same_shape(actual, forecast)
    mean_square = _mean_of_known((actual - forecast) ** 2)
    return np.asarray(np.sqrt(mean_square / seasonal_scale(train, season)))


def wrmsse(actual: Array, forecast: Array, train: Array, weights: Array) -> float:
    """Mean of `rmsse` over the series, weighted.

    Parameters
    ----------
    weights : (series,), not negative; customarily the sales value of the last four weeks of
        `train`. They need not sum to one. Series without scale count neither above nor below.

    Returns
    -------
    float; NaN where no series with a scale has weight.
    """
    return weighted_mean(rmsse(actual, forecast, train), weights)


def mase(actual: Array, forecast: Array, train: Array, season: int = 1) -> Array:
    """Mean absolute scaled error of each series (Hyndman and Koehler, 2006).

    Returns
    -------
    (series,); NaN where the series has no scale.
    """
    _same_shape(actual, forecast)
    absolute = _mean_of_known(np.abs(actual - forecast))
    return np.asarray(absolute / seasonal_scale(train, season, "absolute"))


def wape(actual: Array, forecast: Array) -> float:
    """Sum of absolute errors over the sum of actuals, over everything; NaN where all are zero."""
    _same_shape(actual, forecast)
    total = float(np.nansum(np.abs(actual)))
    return float(np.nansum(np.abs(actual - forecast)) / total) if total > 0 else float("nan")


def wmae(actual: Array, forecast: Array, weights: Array) -> float:
    """Mean absolute error, each value weighted; NaN where nothing known has weight.

    Parameters
    ----------
    weights : as `actual`, not negative, for example 5 in a week with a holiday and 1 in others

    Examples
    --------
    >>> wmae(np.array([[4.0, 6.0]]), np.array([[5.0, 4.0]]), np.array([[1.0, 5.0]]))  # 11 / 6
    1.8333333333333333
    """
    _same_shape(actual, forecast)
    _same_shape(actual, weights)
    return weighted_mean(np.abs(actual - forecast), weights)


def smape(actual: Array, forecast: Array) -> float:
    """Symmetric mean absolute percentage error, 0 to 200 (Makridakis, 1993; M3, M4 competitions).

    The mean over series of each one's mean of `200 * |actual - forecast| / (|actual| +
    |forecast|)`; where both are zero the error is zero.

    Examples
    --------
    >>> smape(np.array([[100.0]]), np.array([[300.0]]))  # 200 * 200 / 400
    100.0
    """
    _same_shape(actual, forecast)
    size = np.abs(actual) + np.abs(forecast)
    each = np.where(size == 0, 0, 200 * np.abs(actual - forecast) / np.where(size == 0, 1, size))
    of_series = _mean_of_known(each)
    return weighted_mean(of_series, np.ones(len(of_series)))


def bias(actual: Array, forecast: Array) -> float:
    """Sum of (forecast - actual) over the sum of actuals: over-forecasting is positive.

    Returns
    -------
    float, a share; NaN where all actuals are zero.
    """
    _same_shape(actual, forecast)
    total = float(np.nansum(np.abs(actual)))
    return float(np.nansum(forecast - actual) / total) if total > 0 else float("nan")


def pinball_loss(actual: Array, forecast: Array, level: float) -> float:
    """Mean loss of a quantile forecast (Koenker and Bassett, 1978), without a factor of 2.

    Each unit missed below costs `level`, each unit forecast too much `1 - level`; the true
    quantile has the least expected loss. Same unit as `actual`.

    Examples
    --------
    >>> pinball_loss(np.array([[10.0]]), np.array([[8.0]]), level=0.9)  # 2 too low: 0.9 * 2
    1.8
    """
    _same_shape(actual, forecast)
    if not 0 < level < 1:
        raise ValueError(f"a quantile level lies between 0 and 1, got {level}")
    missed = actual - forecast
    loss = np.maximum(level * missed, (level - 1) * missed)
    return weighted_mean(loss, np.ones(loss.shape))


def interval_coverage(actual: Array, lower: Array, upper: Array) -> float:
    """Share of actuals within [lower, upper], both ends included."""
    _same_shape(actual, lower)
    _same_shape(actual, upper)
    inside = np.where(np.isnan(actual), np.nan, (lower <= actual) & (actual <= upper))
    return weighted_mean(inside, np.ones(inside.shape))


def _mean_of_known(values: Array) -> Array:
    """Return the mean of each row over what is not NaN; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def weighted_mean(values: Array, weights: Array) -> float:
    """Mean of the values that are not NaN, weighted; NaN where these have no weight."""
    if np.any(weights < 0):
        raise ValueError("weights must not be negative")
    known = np.isfinite(values)
    total = float(weights[known].sum())
    return float((values[known] * weights[known]).sum() / total) if total > 0 else float("nan")


def _same_shape(left: Array, right: Array) -> None:
    if left.shape != right.shape:
        raise ValueError(f"shapes differ: {left.shape} and {right.shape}")
