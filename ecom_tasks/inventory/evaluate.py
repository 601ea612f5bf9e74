"""Rolling-origin judgement: forecast each held-out window from what was known before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ecom_tasks import compute
from ecom_tasks.errors import ModelRejectedError
from ecom_tasks.inventory import baselines, calibrate
from ecom_tasks.inventory import forecast as forecaster
from ecom_tasks.inventory.calibrate import Calibration
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.forecast import Quantiles
from ecom_tasks.inventory.series import Floats, Panel
from ecom_tasks.logs import track
from ecom_tasks.metrics import forecast as metrics

INTERVALS = ((0.1, 0.9), (0.05, 0.95), (0.01, 0.99))
WEIGHT_WEEKS = 4
HEADLINE = "wrmsse"


@dataclass(frozen=True)
class Window:
    """One held-out window.

    Attributes
    ----------
    origin : weeks known.
    mean : (series, steps), expected units; None in a window that only calibrates.
    quantiles : (series, steps, levels), units; calibrated in a test window, else as the model
        gave them.
    calibration : from the windows before it; None in a window that only calibrates.
    """

    origin: int
    mean: Floats | None
    quantiles: Quantiles
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Backtest:
    """Test windows, oldest first, and what the last windows teach the forecast of the release."""

    tests: list[Window]
    calibration: Calibration


def actual(panel: Panel, origin: int, config: InventoryConfig) -> Floats:
    """Return what sold in the window after `origin`, (series, steps)."""
    return panel.units[:, origin : origin + config.horizon_weeks]


def backtest(panel: Panel, config: InventoryConfig) -> Backtest:
    """Forecast the test windows, each calibrated on the windows before it.

    Nothing of a window is seen by the model that forecasts it, nor by its calibration.
    """
    raw = _forecast_windows(panel, config)
    before = config.calibration_windows
    tests = []
    for number in range(before, len(raw)):
        found = _learn(panel, raw[number - before : number], config)
        quantiles = calibrate.apply(raw[number].quantiles, found.shift, config.quantiles)
        tests.append(replace(raw[number], quantiles=quantiles, calibration=found))
    return Backtest(tests, _learn(panel, raw[len(raw) - before :], config))


def _learn(panel: Panel, windows: Sequence[Window], config: InventoryConfig) -> Calibration:
    # A series that had not sold yet is among the chosen only for what it sold later: its window
    # says nothing about the error of forecasts.
    sold = [panel.sold_before(each.origin) for each in windows]
    return calibrate.learn(
        np.concatenate([
            actual(panel, each.origin, config)[known]
            for each, known in zip(windows, sold, strict=True)
        ]),
        np.concatenate([each.quantiles[known] for each, known in zip(windows, sold, strict=True)]),
        config.quantiles,
    )


def _forecast_windows(panel: Panel, config: InventoryConfig) -> list[Window]:
    """Fit and forecast at every origin, oldest first; fits run side by side."""
    steps = config.horizon_weeks
    origins = [panel.weeks - steps * back for back in range(config.windows, 0, -1)]
    rows = forecaster.training_rows(panel, config)
    ahead = {origin: forecaster.rows_ahead(panel, origin, config) for origin in origins}

    def mean(origin: int) -> Any:
        model = forecaster.fit_mean(panel, rows, origin, config)
        return forecaster.predict_mean(model, ahead[origin], steps)

    def quantiles(origin: int) -> Any:
        model = forecaster.fit_quantiles(panel, rows, origin, config)
        return forecaster.predict_quantiles(model, ahead[origin], steps)

    tests = origins[config.calibration_windows :]
    jobs: list[tuple[Callable[[int], Any], int]] = [(mean, origin) for origin in tests]
    jobs += [(quantiles, origin) for origin in origins]
    with ThreadPoolExecutor(compute.workers()) as pool:
        done = pool.map(lambda job: job[0](job[1]), jobs)
        made = list(track(done, "backtest of inventory forecasts", total=len(jobs)))
    means: dict[int, Floats] = dict(zip(tests, made[: len(tests)], strict=True))
    spreads = made[len(tests) :]
    return [
        Window(origin, means.get(origin), spread)
        for origin, spread in zip(origins, spreads, strict=True)
    ]


def score(panel: Panel, tests: Sequence[Window], config: InventoryConfig) -> dict[str, Any]:
    """Judge model and baselines on the test windows, each figure the mean of the windows.

    Returns
    -------
    `{"model": {metric: value}, "baselines": {name: {metric: value}}, "coverage": {interval:
    value}, "windows": [{"origin": Monday, "model": .., "baselines": ..}]}`. A figure that cannot
    be told (no series with a scale) is None.
    """
    per_window = [_score_window(panel, window, config) for window in tests]
    model, plain, coverage = (
        [each[part] for each in per_window] for part in ("model", "baselines", "coverage")
    )
    # A season ago may be known for the last window only: then it cannot be judged over all.
    common = set.intersection(*(set(each) for each in plain))
    return {
        "model": _mean(model),
        "baselines": {name: _mean([each[name] for each in plain]) for name in sorted(common)},
        "coverage": _mean(coverage),
        "windows": per_window,
    }


def _score_window(panel: Panel, window: Window, config: InventoryConfig) -> dict[str, Any]:
    assert window.mean is not None
    sold = actual(panel, window.origin, config).astype(np.float64)
    level = {each: window.quantiles[..., number] for number, each in enumerate(config.quantiles)}
    pinball = {
        f"pinball_{each:g}": metrics.pinball_loss(sold, forecast, each)
        for each, forecast in level.items()
    }
    plain = baselines.forecast(panel, window.origin, config)
    return {
        "origin": panel.monday(window.origin).isoformat(),
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
    value = panel.sales[:, origin - WEIGHT_WEEKS : origin].sum(axis=1, dtype=np.float64)
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
        recent = panel.sales[:, window.origin - WEIGHT_WEEKS : window.origin]
        value = recent.sum(axis=1, dtype=np.float64)
        other = baselines.forecast(panel, window.origin, config)[plain]
        parts.append(panel.keys.select(
            pl.lit(panel.monday(window.origin).isoformat()).alias("window"),
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
        "backtest; a longer history (inventory.test_windows, inventory.horizon_weeks lower) or "
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
