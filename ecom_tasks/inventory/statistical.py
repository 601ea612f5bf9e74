"""Classical methods, one model a series: statsforecast, exponential smoothing, and plain means.

Each takes what is known at an origin, from the first observed period of the series on.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ecom_tasks import compute
from ecom_tasks.inventory import smoothing
from ecom_tasks.inventory.panel import Floats, Panel

Integers = npt.NDArray[np.intp]
NAIVE, AVERAGE, SEASONAL = "naive", "moving average", "seasonal naive"
ETS, THETA, CES, MSTL = "AutoETS", "DynamicOptimizedTheta", "AutoCES", "MSTL"
SES, TSB, SBA = "SES", "TSB", "CrostonSBA"
PLAIN = (NAIVE, AVERAGE, SEASONAL)
SMOOTH = (ETS, THETA, CES, MSTL)
QUICK = (SES, TSB, SBA)
AVERAGE_PERIODS = 8
LONGEST_SEASON = 24
_PERIODS_AT_MOST = 260
_FEW_SERIES = 200


def plain(panel: Panel, origin: int, steps: int, season: int) -> dict[str, Floats]:
    """Forecast by repeating the last period, the mean of the last 8, and the last season.

    Returns
    -------
    Name -> (series, steps). `seasonal naive` only where a whole season is known; a series that
    began later repeats what it had of it.
    """
    past = panel.units[:, :origin]
    found = {
        NAIVE: np.repeat(past[:, -1:], steps, axis=1),
        AVERAGE: np.repeat(past[:, -AVERAGE_PERIODS:].mean(axis=1, keepdims=True), steps, axis=1),
    }
    if origin >= season:
        found[SEASONAL] = past[:, origin - season :][:, np.arange(steps) % season]
    return found


def fit(
    panel: Panel, origin: int, steps: int, season: int, names: Sequence[str]
) -> dict[str, Floats]:
    """Fit classical methods to every series as known at `origin`.

    `QUICK` ones are those of `smoothing`, the others of statsforecast.

    A season of more than 24 periods is too long for the state of ETS, Theta and CES: they go
    without, and MSTL takes the season out first. At most the last five seasons (and 260 periods)
    are read: older ones tell little, and time grows with them.

    Parameters
    ----------
    names : of `SMOOTH` and `QUICK`

    Returns
    -------
    Name -> (series, steps), not negative. Where a method fails on a series (too short, constant)
    it is the naive forecast.
    """
    quick = [name for name in names if name in QUICK]
    slow = [name for name in names if name in SMOOTH]
    if not LONGEST_SEASON < season <= origin // 2:
        slow = [name for name in slow if name != MSTL]
    start = _starts(panel, origin, season)
    return _quick(panel, start, origin, steps, quick) | _slow(
        panel, start, origin, steps, season, slow
    )


def _starts(panel: Panel, origin: int, season: int) -> Integers:
    """Return the first period of each series that is read, (series,)."""
    first = np.argmax(panel.known()[:, :origin], axis=1)
    return np.asarray(np.maximum(first, origin - max(5 * season, _PERIODS_AT_MOST)))


def _quick(
    panel: Panel, start: Integers, origin: int, steps: int, names: Sequence[str]
) -> dict[str, Floats]:
    past = panel.units[:, :origin]
    made = {SES: smoothing.simple(past, start)} if SES in names else {}
    if {TSB, SBA} & set(names):
        made |= dict(zip((SBA, TSB), smoothing.intermittent(past, start), strict=True))
    return {
        name: np.repeat(np.maximum(made[name], 0).astype(np.float32)[:, None], steps, axis=1)
        for name in names
    }


def _slow(
    panel: Panel, start: Integers, origin: int, steps: int, season: int, names: Sequence[str]
) -> dict[str, Floats]:
    if not names:
        return {}
    # Compiling its loops takes longer than running them: keep them for the next process.
    os.environ.setdefault("NIXTLA_NUMBA_CACHE", "1")
    from statsforecast import StatsForecast
    from statsforecast.models import Naive

    logging.getLogger("statsforecast").setLevel(logging.ERROR)
    models = [_model(name, season) for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jobs = compute.workers() if panel.series > _FEW_SERIES else 1
        made = StatsForecast(models, freq=1, n_jobs=jobs, fallback_model=Naive()).forecast(
            df=_long(panel, start, origin), h=steps
        )
    made = made.sort("unique_id", "ds")
    last = panel.units[:, origin - 1 : origin]
    found = {}
    for name in names:
        values = made[name].to_numpy().reshape(panel.series, steps)
        values = np.where(np.isfinite(values), values, last)
        found[name] = np.asarray(np.maximum(values, 0), np.float32)
    return found


def _model(name: str, season: int) -> Any:
    from statsforecast import models

    short = season if season <= LONGEST_SEASON else 1
    if name == ETS:
        return models.AutoETS(season_length=short, alias=name)
    if name == THETA:
        return models.DynamicOptimizedTheta(season_length=short, alias=name)
    if name == CES:
        return models.AutoCES(season_length=short, alias=name)
    trend = models.AutoETS(model="ZZN")
    return models.MSTL(season_length=season, trend_forecaster=trend, alias=name)


def _long(panel: Panel, start: Integers, origin: int) -> pl.DataFrame:
    length = origin - start
    row = np.repeat(np.arange(panel.series), length)
    column = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
    column += np.repeat(start, length)
    values = panel.units[row, column].astype(np.float64)
    return pl.DataFrame({"unique_id": row, "ds": column, "y": values})
