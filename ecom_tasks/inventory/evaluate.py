"""Rolling-origin judgement: forecast each held-out window from what was known before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecom_tasks.errors import ModelRejectedError
from ecom_tasks.inventory import baselines, ensemble, statistical
from ecom_tasks.inventory import forecast as forecaster
from ecom_tasks.inventory.calibrate import Calibration
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.ensemble import Learnt
from ecom_tasks.inventory.forecast import Quantiles
from ecom_tasks.inventory.panel import VALUE_PERIODS, Floats, Panel
from ecom_tasks.metrics import forecast as metrics

INTERVALS = ((0.1, 0.9), (0.05, 0.95), (0.01, 0.99))
HEADLINE = "wrmsse"


@dataclass(frozen=True)
class Window:
    """One held-out window, or the weeks of the release.

    Attributes
    ----------
    origin : weeks known.
    mean : (series, steps), expected units.
    quantiles : (series, steps, levels), units, calibrated.
    calibration : from the windows before it; None for the weeks of the release.
    """

    origin: int
    mean: Floats
    quantiles: Quantiles
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Backtest:
    """How the model did on the last windows, and what they teach the forecast of the release.

    Attributes
    ----------
    tests : windows, oldest first.
    reviews : forecasts of every week of the test windows, as made in that week: models as fitted
        at the window's origin, sales as known by then.
    learnt : from the last windows.
    """

    tests: list[Window]
    reviews: list[Window]
    learnt: Learnt

    @property
    def calibration(self) -> Calibration:
        assert self.learnt.calibration is not None
        return self.learnt.calibration


def actual(panel: Panel, origin: int, config: InventoryConfig) -> Floats:
    """Return what sold in the window after `origin`, (series, steps)."""
    return panel.units[:, origin : origin + config.horizon]


def backtest(panel: Panel, config: InventoryConfig) -> Backtest:
    """Forecast the test windows, each calibrated on the windows before it.

    Nothing of a window is seen by the model that forecasts it, nor by its calibration.
    """
    steps, before = config.horizon, config.calibration_windows
    origins = [panel.periods - steps * back for back in range(config.windows, 0, -1)]
    rows = forecaster.training_rows(panel, config)
    some = ensemble.learners(panel, config)
    part = panel.take(some)
    made = ensemble.members(panel, rows, origins[:before], config, chosen=some)
    every = ensemble.members(panel, rows, origins[before:], config, following=steps - 1)
    made += [each.take(some) for each in every[::steps]]
    reviews = []
    for number in range(config.test_windows):
        learnt = ensemble.learn(part, made[number : number + before], config)
        for each in every[number * steps : (number + 1) * steps]:
            found = ensemble.combined(panel, each, learnt, config)
            reviews.append(Window(found.origin, found.mean, found.quantiles, learnt.calibration))
    learnt = ensemble.learn(part, made[config.test_windows :], config)
    return Backtest(reviews[::steps], reviews, learnt)


def score(panel: Panel, tests: Sequence[Window], config: InventoryConfig) -> dict[str, Any]:
    """Judge model and baselines on the test windows, each figure the mean of the windows.

    Returns
    -------
    `{"model": {metric: value}, "baselines": {name: {metric: value}}, "forecast_value_added":
    {"over": seasonal naive or naive, metric: share by which it is less}, "coverage": {interval:
    value}, "windows": [{"origin": Monday, "model": .., "baselines": ..}]}`. A figure that cannot
    be told (no series with a scale) is None.
    """
    per_window = [_score_window(panel, window, config) for window in tests]
    model, plain, coverage = (
        [each[part] for each in per_window] for part in ("model", "baselines", "coverage")
    )
    # A season ago may be known for the last window only: then it cannot be judged over all.
    common = set.intersection(*(set(each) for each in plain))
    means = {name: _mean([each[name] for each in plain]) for name in sorted(common)}
    # Without a whole season known, the last period repeated is all that is naive.
    naive = statistical.SEASONAL if statistical.SEASONAL in means else statistical.NAIVE
    return {
        "model": _mean(model),
        "baselines": means,
        "forecast_value_added": {"over": naive} | value_added(_mean(model), means.get(naive, {})),
        "coverage": _mean(coverage),
        "windows": per_window,
    }


def _score_window(panel: Panel, window: Window, config: InventoryConfig) -> dict[str, Any]:
    sold = np.where(
        panel.known()[:, window.origin : window.origin + config.horizon],
        actual(panel, window.origin, config), np.nan,
    ).astype(np.float64)  # fmt: skip
    level = {each: window.quantiles[..., number] for number, each in enumerate(config.quantiles)}
    pinball = {
        f"pinball_{each:g}": metrics.pinball_loss(sold, forecast, each)
        for each, forecast in level.items()
    }
    plain = baselines.forecast(panel, window.origin, config)
    return {
        "origin": panel.day(window.origin).isoformat(),
        "model": _point_metrics(panel, window.origin, sold, window.mean) | pinball,
        "baselines": {
            name: _point_metrics(panel, window.origin, sold, forecast)
            for name, forecast in plain.items()
        },
        "coverage": {
            f"{high - low:g}": metrics.interval_coverage(sold, level[low], level[high])
            for low, high in INTERVALS
            if {low, high} <= set(level)
        },
    }


def _point_metrics(
    panel: Panel, origin: int, sold: metrics.Array, forecast: Floats
) -> dict[str, float | None]:
    train = panel.units[:, :origin].astype(np.float64)
    made = forecast.astype(np.float64)
    value = panel.sales[:, origin - VALUE_PERIODS[panel.frequency] : origin].sum(
        axis=1, dtype=np.float64
    )
    figures = {
        HEADLINE: metrics.wrmsse(sold, made, train, value),
        "rmsse": _mean_known(metrics.rmsse(sold, made, train)),
        "mase": _mean_known(metrics.mase(sold, made, train)),
        "wape": metrics.wape(sold, made),
        "bias": metrics.bias(sold, made),
    }
    return {name: figure if np.isfinite(figure) else None for name, figure in figures.items()}


def _mean_known(values: metrics.Array) -> float:
    return metrics.weighted_mean(values, np.ones(len(values)))


def _mean(windows: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each figure over the windows; None where one window cannot tell it."""
    means: dict[str, float | None] = {}
    for name in windows[0]:
        told = [value for each in windows if (value := each[name]) is not None]
        means[name] = float(np.mean(told)) if len(told) == len(windows) else None
    return means


def value_added(
    model: Mapping[str, float | None], plain: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Return the share by which each error of the model is less than that of a plain method."""
    found: dict[str, float | None] = {}
    for metric, error in plain.items():
        own = model[metric]
        if metric != "bias":
            found[metric] = None if own is None or not error else round(1 - own / error, 6)
    return found


def best_baseline(scores: dict[str, Any]) -> tuple[str, float]:
    """Return the plain method with the least WRMSSE, and that figure."""
    known = {
        name: figures[HEADLINE]
        for name, figures in scores["baselines"].items()
        if figures[HEADLINE] is not None
    }
    if not known:
        return "none", float("nan")
    name = min(sorted(known), key=known.__getitem__)
    return name, known[name]


def evidence(panel: Panel, tests: Sequence[Window], plain: str, config: InventoryConfig) -> Any:
    """Return what the release's gate is told: RMSSE of each series, weighted by its sales value.

    Parameters
    ----------
    plain : name of the best baseline

    Returns
    -------
    DataFrame: window (Monday), unit (product and place), weight, model, baseline; series that
    have no scale or no weight are left out.
    """
    import polars as pl

    parts = []
    for window in tests:
        assert window.mean is not None
        sold = actual(panel, window.origin, config).astype(np.float64)
        train = panel.units[:, : window.origin].astype(np.float64)
        recent = panel.sales[:, window.origin - VALUE_PERIODS[panel.frequency] : window.origin]
        value = recent.sum(axis=1, dtype=np.float64)
        other = baselines.forecast(panel, window.origin, config)[plain]
        parts.append(panel.keys.select(
            pl.lit(panel.day(window.origin).isoformat()).alias("window"),
            pl.concat_str(pl.col("product_id"), pl.col("location_id").fill_null(""), separator="@")
            .alias("unit"),
            pl.Series("weight", value / value.sum() if value.sum() > 0 else value),
            pl.Series("model", metrics.rmsse(sold, window.mean.astype(np.float64), train)),
            pl.Series("baseline", metrics.rmsse(sold, other.astype(np.float64), train)),
        ))  # fmt: skip
    found = pl.concat(parts).filter(pl.col("model").is_not_nan(), pl.col("weight") > 0)
    return found.with_columns(pl.col(pl.Float64).round(6))


def gate(scores: dict[str, Any]) -> None:
    """Let a model pass that beats every plain method on the test windows.

    Raises
    ------
    ModelRejectedError
        It does not, or nothing can be judged because no series with sales varies.
    """
    own, (name, plain) = scores["model"][HEADLINE], best_baseline(scores)
    hint = (
        "The forecasts in service stay. Look at the windows in the metrics of work/inventory/"
        "backtest; a longer history (inventory.test_windows, inventory.horizon lower) or "
        "more series (inventory.products) help most"
    )
    if own is None or not np.isfinite(plain):
        raise ModelRejectedError(
            "WRMSSE cannot be told: no series that sold in the last 4 weeks varies", hint
        )
    if own >= plain:
        raise ModelRejectedError(
            f"WRMSSE {own:.4f} does not beat {plain:.4f} of the {name} over "
            f"{len(scores['windows'])} test windows",
            hint,
        )
