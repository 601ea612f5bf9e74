"""Judge the forecasts on any panel by rolling origin, beside plain and classical methods."""

from __future__ import annotations

import logging
import math
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ecom_tasks.errors import DataContractError
from ecom_tasks.inventory import ensemble, evaluate, features, forecast, statistical
from ecom_tasks.inventory.config import METHODS, InventoryConfig
from ecom_tasks.inventory.ensemble import Forecast, Learnt, Members
from ecom_tasks.inventory.forecast import Rows
from ecom_tasks.inventory.panel import VALUE_PERIODS, Floats, Panel
from ecom_tasks.metrics import forecast as metrics

log = logging.getLogger(__name__)
LEVELS = (0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99)
INTERVALS = ((0.25, 0.75), (0.1, 0.9), (0.05, 0.95), (0.01, 0.99))
SEASONAL, ETS = statistical.SEASONAL, statistical.ETS
BEST = "best of statsforecast"
_SHORTEST_PAST = 8
_SEASONS, _PERIODS = 5, 260
_ETS_SERIES_AT_MOST = 20_000
_CES_SERIES_AT_MOST = 2000


@dataclass(frozen=True)
class Judged:
    """Figures of a backtest, and what they were computed from.

    Attributes
    ----------
    figures : as the command writes them to JSON.
    panel : what was judged.
    forecasts : one a test window, oldest first.
    """

    figures: dict[str, Any]
    panel: Panel
    forecasts: list[Forecast]


def run(panel: Panel, windows: int, config: InventoryConfig) -> Judged:
    """Forecast the last windows, each from what was known before it.

    Weights and calibration of a test window come from the windows before it, which themselves are
    forecast from earlier periods only.

    Parameters
    ----------
    windows : test windows of one horizon each, at the end of the panel
    config : horizon, season, validation windows (`calibration_windows`), methods

    Returns
    -------
    Judged, with `model` and each of `baselines`: metric -> mean over the windows (None where it
    cannot be told); `coverage`: level -> share inside; `windows`: the same for each; `seconds` and
    `peak_memory_bytes`. Metrics of absolute errors judge the median, of squares and bias the mean.

    Raises
    ------
    DataContractError
        The horizon is not shorter than the history.
    """
    started = time.monotonic()
    # Older periods tell little and take time. Scales of errors still come from all of them.
    whole, windows_back = panel, windows + config.calibration_windows
    panel = panel.last(max(_SEASONS * panel.season, _PERIODS) + windows_back * config.horizon)
    older = whole.periods - panel.periods
    tests, before = _origins(panel, windows, config)
    config = config.model_copy(update={"methods": _methods(panel, config)})
    every = sorted({*before, *tests})
    rows = _training_rows(panel, every[0], config)
    some = ensemble.learners(panel, config)
    earlier = [origin for origin in every if origin not in tests]
    made = {each.origin: each for each in ensemble.members(panel, rows, tests, config)}
    learning = ensemble.members(panel, rows, earlier, config, chosen=some)
    learning += [each.take(some) for each in made.values()]
    part = panel.take(some)
    learnt = [_learnt(part, learning, origin, config) for origin in tests]
    forecasts = [
        ensemble.combined(panel, made[origin], each, config)
        for origin, each in zip(tests, learnt, strict=True)
    ]
    seconds = time.monotonic() - started
    forecasts = [replace(each, origin=each.origin + older) for each in forecasts]
    made = {origin + older: replace(each, origin=origin + older) for origin, each in made.items()}
    panel = whole
    scored = [_score(panel, made[each.origin], each, config) for each in forecasts]
    baselines = {
        name: _mean([each["baselines"][name] for each in scored]) for name in scored[0]["baselines"]
    }
    model = _mean([each["model"] for each in scored])
    figures = {
        "model": model,
        "baselines": baselines,
        "coverage": _mean([each["coverage"] for each in scored]),
        "windows": scored,
        "series": panel.series,
        "periods": panel.periods,
        "horizon": config.horizon,
        "forecast_value_added": evaluate.value_added(model, baselines[SEASONAL]),
        "seconds": round(time.monotonic() - started, 2),
        "seconds_of_forecasts": round(seconds, 2),
        "peak_memory_bytes": peak_memory(),
    }
    return Judged(figures, panel, forecasts)


def peak_memory() -> int:
    """Return the largest resident set of this process or of one that it started, bytes."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) * 1024


def _origins(panel: Panel, windows: int, config: InventoryConfig) -> tuple[list[int], list[int]]:
    """Return origins of test windows, and those of windows to learn from that the past allows."""
    steps = config.horizon
    tests = [panel.periods - steps * back for back in range(windows, 0, -1)]
    if tests[0] < 1:
        raise DataContractError(
            f"{windows} windows of {steps} periods need more than {windows * steps} periods of "
            f"history, got {panel.periods}",
            "Give a smaller --horizon or fewer --windows, or deliver a longer history",
        )
    # At a long horizon a method needs a season and a quarter to say anything.
    least = panel.season + panel.season // 4 if steps > features.FAR else _SHORTEST_PAST
    first = np.argmax(panel.known(), axis=1)
    found = []
    for back in range(1, config.calibration_windows + 1):
        origin = tests[0] - steps * back
        if float(np.mean(origin - first >= min(least, panel.season + 1))) >= 1 / 2:
            found.append(origin)
    return tests, [each for each in found if each >= _SHORTEST_PAST]


def _methods(panel: Panel, config: InventoryConfig) -> tuple[str, ...]:
    """Return the methods to combine: those asked for, else all that the number of series allows."""
    if "methods" in config.model_fields_set:
        return config.methods
    slow = panel.series > _CES_SERIES_AT_MOST
    # Far ahead a method without the season says little.
    blind = panel.season > statistical.LONGEST_SEASON
    if slow and blind and config.horizon > features.FAR:
        return (statistical.SES,)
    names = [name for name in statistical.SMOOTH if not (slow and name == statistical.CES)]
    if panel.series > _ETS_SERIES_AT_MOST:
        names = []
    return (*names, *statistical.QUICK)


def _with_ets(panel: Panel, made: Members, config: InventoryConfig) -> dict[str, Floats]:
    """Return the classical forecasts, with AutoETS where it is not too much to ask for."""
    found = {name: each for name, each in made.centres.items() if name in METHODS}
    if statistical.ETS in found:
        return found
    if panel.series > _ETS_SERIES_AT_MOST:
        log.warning("AutoETS is left out: %s series would take hours", panel.series)
        return found
    return found | statistical.fit(
        panel, made.origin, config.horizon, panel.season, (statistical.ETS,)
    )


def _training_rows(panel: Panel, earliest: int, config: InventoryConfig) -> Rows | None:
    """Lay out rows for the global model, or none where the earliest origin could learn nothing."""
    if earliest < config.history + config.horizon:
        log.warning("The history is too short for the global model: classical methods only")
        return None
    return forecast.training_rows(panel, config)


def _learnt(panel: Panel, made: Sequence[Members], origin: int, config: InventoryConfig) -> Learnt:
    """Learn from the windows right before an origin."""
    earlier = range(origin - config.horizon * config.calibration_windows, origin)
    windows = [each for each in made if each.origin in earlier]
    return ensemble.learn(panel, sorted(windows, key=lambda each: each.origin), config)


def _score(panel: Panel, made: Members, final: Forecast, config: InventoryConfig) -> dict[str, Any]:
    window = slice(final.origin, final.origin + config.horizon)
    actual = np.where(panel.known()[:, window], panel.units[:, window], np.nan).astype(np.float64)
    level = {each: final.quantiles[..., at] for at, each in enumerate(config.quantiles)}
    pinball = {
        f"pinball_{each:g}": metrics.pinball_loss(actual, values.astype(np.float64), each)
        for each, values in level.items()
    }
    plain = statistical.plain(panel, final.origin, config.horizon, config.season)
    rivals = {SEASONAL: _last_season(panel, final.origin, config)} | plain
    rivals |= _with_ets(panel, made, config)
    baselines = {
        name: point_metrics(panel, final.origin, actual, each, each, config)
        for name, each in rivals.items()
    }
    return {
        "origin": final.origin,
        "first": panel.day(final.origin).isoformat(),
        "model": point_metrics(panel, final.origin, actual, final.mean, level[0.5], config)
        | {name: _number(value) for name, value in pinball.items()},
        "baselines": baselines | {BEST: _best(baselines)},
        "coverage": {
            f"{high - low:g}": _number(
                metrics.interval_coverage(actual, level[low], level[high])
            )
            for low, high in INTERVALS
        },
    }  # fmt: skip


def _last_season(panel: Panel, origin: int, config: InventoryConfig) -> Floats:
    """Repeat the last season, or where it is not known, the mean of the last 8 periods."""
    known, past = panel.known()[:, :origin], panel.units[:, :origin]
    season = min(config.season, origin)
    columns = origin - season + np.arange(config.horizon) % season
    first = np.argmax(known, axis=1)
    mean = past[:, -statistical.AVERAGE_PERIODS :].mean(axis=1)
    return np.where(columns >= first[:, None], past[:, columns], mean[:, None])


def point_metrics(
    panel: Panel,
    origin: int,
    actual: metrics.Array,
    mean: Floats,
    median: Floats,
    config: InventoryConfig,
) -> dict[str, float | None]:
    """Return every point metric: of the mean where errors are squared or summed, else the median.

    `mase` is scaled by the naive error of the season asked for, `mase_1` by that of one step; a
    series with too short a past for a scale is left out of the scaled metrics.
    """
    train = np.where(panel.known(), panel.units, np.nan)[:, :origin].astype(np.float64)
    centre, middle = mean.astype(np.float64), median.astype(np.float64)
    value = panel.sales[:, max(0, origin - VALUE_PERIODS[panel.frequency]) : origin]
    weights = np.maximum(value.sum(axis=1, dtype=np.float64), 0)
    of_rows = np.ones(actual.shape)
    if panel.weights is not None:
        of_rows = panel.weights[:, origin : origin + config.horizon].astype(np.float64)
    equal = np.ones(panel.series)
    found = {
        "smape": metrics.smape(actual, middle),
        "wape": metrics.wape(actual, middle),
        "wmae": metrics.wmae(actual, middle, of_rows),
        "bias": metrics.bias(actual, centre),
    }
    if origin > 1:
        found["rmsse"] = metrics.weighted_mean(metrics.rmsse(actual, centre, train), equal)
        found["wrmsse"] = metrics.wrmsse(actual, centre, train, weights)
        found["mase_1"] = metrics.weighted_mean(metrics.mase(actual, middle, train), equal)
    if origin > config.season:
        found["mase"] = metrics.weighted_mean(
            metrics.mase(actual, middle, train, config.season), equal
        )
    names = ("mase", "mase_1", "rmsse", "wrmsse", "smape", "wape", "wmae", "bias")
    return {name: _number(found.get(name, math.nan)) for name in names}


def _best(baselines: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the least figure of any method of statsforecast, metric by metric."""
    names = [name for name in METHODS if name in baselines]
    found: dict[str, float | None] = {}
    for metric in baselines[SEASONAL]:
        values = [v for name in names if (v := baselines[name][metric]) is not None]
        found[metric] = min(values, key=abs) if values else None
    return found


def _mean(windows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each figure over the windows; None where one window cannot tell it."""
    found: dict[str, float | None] = {}
    for name in windows[0]:
        told = [value for each in windows if (value := each.get(name)) is not None]
        found[name] = round(float(np.mean(told)), 6) if len(told) == len(windows) else None
    return found


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
