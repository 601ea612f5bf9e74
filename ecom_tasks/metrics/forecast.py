"""Metrics of demand forecasts, as plain functions of arrays.

Everywhere `actual` and `forecast` have one row per series and one column per week forecast, and
`train` one row per series and one column per week known, oldest first. A series is judged against
its own `train`: errors are divided by what a seasonal naive forecast would have missed there.
A series without such a scale (constant in `train`) has no scaled error: its value is NaN.
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
    (series,); NaN where the error is zero.

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
    scale = np.mean(steps**2 if error == "squared" else np.abs(steps), axis=1)
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
    mean_square = np.mean((actual - forecast) ** 2, axis=1)
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
    absolute = np.mean(np.abs(actual - forecast), axis=1)
    return np.asarray(absolute / seasonal_scale(train, season, "absolute"))


def wape(actual: Array, forecast: Array) -> float:
    """Sum of absolute errors over the sum of actuals, over everything; NaN where all are zero."""
    _same_shape(actual, forecast)
    total = float(np.abs(actual).sum())
    return float(np.abs(actual - forecast).sum() / total) if total > 0 else float("nan")


def bias(actual: Array, forecast: Array) -> float:
    """Sum of (forecast - actual) over the sum of actuals: over-forecasting is positive.

    Returns
    -------
    float, a share; NaN where all actuals are zero.
    """
    _same_shape(actual, forecast)
    total = float(np.abs(actual).sum())
    return float((forecast - actual).sum() / total) if total > 0 else float("nan")


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
    return float(np.mean(np.maximum(level * missed, (level - 1) * missed)))


def interval_coverage(actual: Array, lower: Array, upper: Array) -> float:
    """Share of actuals within [lower, upper], both ends included."""
    _same_shape(actual, lower)
    _same_shape(actual, upper)
    return float(np.mean((lower <= actual) & (actual <= upper)))


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
