"""Exponential smoothing and its kin for intermittent demand, over all series at once.

As statsforecast defines them, a period at a time for every series together: a shop's many short
series take a second where one fit after the other takes half a minute.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ecom_tasks.metrics.forecast import Array

LEAST, MOST = 0.01, 0.99
"""Bounds of the smoothing that is searched."""
PACE = 0.1
"""Smoothing of sizes, intervals and probabilities (Croston, 1972)."""
_GOLDEN = (5**0.5 - 1) / 2
_SEARCHES = 20
Starts = npt.NDArray[np.integer]


def simple(units: Array, start: Starts) -> Array:
    """Return the last level of simple exponential smoothing, (series,).

    The smoothing of each series is the one with the least squared errors a step ahead, by golden
    section between `LEAST` and `MOST`; the level begins at the first value.

    Parameters
    ----------
    units : (series, periods)
    start : (series,), first period of each
    """
    columns = np.arange(units.shape[1])
    first = np.take_along_axis(units, start[:, None], axis=1)
    # What lies before the start repeats its value, so that it adds no error.
    values = np.ascontiguousarray(np.where(columns < start[:, None], first, units).T, np.float64)
    low, high = np.full(len(units), LEAST), np.full(len(units), MOST)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    of_left, of_right = _smooth(values, left)[1], _smooth(values, right)[1]
    for _ in range(_SEARCHES):
        keep = of_left < of_right
        low, high = np.where(keep, low, left), np.where(keep, right, high)
        new = np.where(keep, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        of_new = _smooth(values, new)[1]
        left, right = np.where(keep, new, right), np.where(keep, left, new)
        of_left, of_right = np.where(keep, of_new, of_right), np.where(keep, of_left, of_new)
    return _smooth(values, (low + high) / 2)[0]


def _smooth(values: Array, pace: Array) -> tuple[Array, Array]:
    """Return last level and sum of squared errors of (periods, series) values."""
    level = values[0].copy()
    squares = np.zeros_like(level)
    for value in values[1:]:
        error = value - level
        squares += error**2
        level += pace * error
    return level, squares


def intermittent(units: Array, start: Starts) -> tuple[Array, Array]:
    """Return Croston's forecast corrected by Syntetos and Boylan, and that of TSB, (series,) each.

    Both smooth the sizes of demand. Croston divides by the smoothed interval between demands and
    takes off the half of `PACE` by which that is too much (Syntetos and Boylan, 2005); TSB
    multiplies by the smoothed probability of demand, which also falls while nothing sells
    (Teunter, Syntetos and Babai, 2011). Nothing ever sold is forecast as zero.

    Parameters
    ----------
    units, start : see `simple`
    """
    count = len(units)
    size, interval, since, probability = (np.zeros(count) for _ in range(4))
    seen = np.zeros(count, np.bool_)
    for period, value in enumerate(np.ascontiguousarray(units.T, np.float64)):
        begun = period >= start
        sold = begun & (value > 0)
        since += begun
        probability += np.where(period == start, 1.0, PACE) * begun * (sold - probability)
        pace = np.where(seen, PACE, 1.0) * sold
        size += pace * (value - size)
        interval += pace * (since - interval)
        since[sold] = 0
        seen |= sold
    croston = size / np.where(seen, interval, 1)
    return croston * (1 - PACE / 2), size * probability
