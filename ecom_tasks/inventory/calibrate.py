"""Conformal calibration: quantiles moved so that they held in earlier windows.

The forecaster's own quantiles follow the shape of demand but not always its frequency. In windows
that the model had not seen, each level's error is measured in units of the forecast's own spread;
moving the level by the matching quantile of these errors makes it hold there (Romano, Patterson
and Candes, Conformalized quantile regression, 2019, one-sided and for each level).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecom_tasks.inventory.forecast import Quantiles, never_crossing

Array = npt.NDArray[np.floating]
_Z_LIMIT = 3.0


@dataclass(frozen=True)
class Calibration:
    """What earlier windows teach a later forecast.

    Attributes
    ----------
    shift : per level, shares of the forecast's spread by which it is moved.
    error_correlation : between the errors of two steps of one forecast, 0 to 1.
    """

    shift: tuple[float, ...]
    error_correlation: float


def learn(actual: Array, quantiles: Quantiles, levels: Sequence[float]) -> Calibration:
    """Compare forecasts with what came; for shapes see `shifts`."""
    return Calibration(
        tuple(shifts(actual, quantiles, levels).tolist()),
        error_correlation(actual, quantiles, levels),
    )


def shifts(actual: Array, quantiles: Quantiles, levels: Sequence[float]) -> Array:
    """Return by how much of its spread each level must be moved to hold on these windows.

    Parameters
    ----------
    actual : (series, steps), units; NaN where there was no count
    quantiles : (series, steps, levels), units, forecast without sight of `actual`
    levels : ascending, with 0.1 and 0.9

    Returns
    -------
    (levels,); zeros where there is no series. If new windows are exchangeable with these,
    P(actual <= moved quantile) is at least the level above one half, and at most it below.
    """
    counted = np.isfinite(actual)
    count = int(counted.sum())
    if count == 0:
        return np.zeros(len(levels))
    scores = (actual[..., None] - quantiles) / _spread(quantiles, levels)[..., None]
    scores = np.sort(scores[counted], axis=0)
    found = []
    for column, level in enumerate(levels):
        rank = np.ceil if level >= 0.5 else np.floor
        place = int(np.clip(rank((count + 1) * level), 1, count)) - 1
        found.append(scores[place, column])
    return np.array(found)


def apply(quantiles: Quantiles, shift: Sequence[float], levels: Sequence[float]) -> Quantiles:
    """Move each level by its share of the forecast's spread; never crossing, not negative."""
    spread = _spread(quantiles, levels)
    moved = quantiles + spread[..., None] * np.asarray(shift, np.float32)
    return never_crossing(np.asarray(moved, np.float32))


def _spread(quantiles: Quantiles, levels: Sequence[float]) -> Array:
    """Return the width of the central 80% interval, at least one unit, (series, steps)."""
    width = quantiles[..., levels.index(0.9)] - quantiles[..., levels.index(0.1)]
    return np.asarray(np.maximum(width, 1.0))


def error_correlation(actual: Array, quantiles: Quantiles, levels: Sequence[float]) -> float:
    """Return how errors of different steps of the same forecast go together, 0 to 1.

    A forecast that is too low in one week is often too low in the next, and stock must last
    several weeks. Each actual is turned into the standard normal value of its place within its
    forecast; the mean product of two steps' values over the mean square is their correlation.
    """
    from scipy.stats import norm

    whole = np.isfinite(actual).all(axis=1)
    actual, quantiles = actual[whole], quantiles[whole]
    steps = actual.shape[1]
    if steps == 1 or actual.size == 0:
        return 0.0
    z = norm.ppf(np.asarray(levels))
    at = np.clip((quantiles <= actual[..., None]).sum(axis=-1) - 1, 0, len(z) - 2)
    below, above = (
        np.take_along_axis(quantiles, at[..., None] + offset, axis=-1)[..., 0] for offset in (0, 1)
    )
    wide = above > below
    share = np.where(wide, (actual - below) / np.where(wide, above - below, 1), 0)
    places = z[at] + np.clip(share, 0, 1) * (z[at + 1] - z[at])
    places = np.clip(places - places.mean(), -_Z_LIMIT, _Z_LIMIT)
    square = float(np.mean(places**2))
    total = float(np.mean(places.sum(axis=1) ** 2))
    between = (total - steps * square) / (steps * (steps - 1))
    return float(np.clip(between / square, 0.0, 1.0)) if square > 0 else 0.0
