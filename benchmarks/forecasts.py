"""Forecast many weekly series beside mlforecast with LightGBM and statsforecast's AutoETS.

`python -m benchmarks.forecasts --series 10000`; rivals that are not installed are left out and said
so. Each contender runs in a process of its own, forecasts the same last weeks of the same generated
series, and is judged by the same metrics.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.measure import measure_one

CONTENDERS = ("ours", "mlforecast", "statsforecast")
WEEKS, HORIZON, SEASON = 104, 8, 52


def generate(path: Path, series: int, seed: int = 1) -> None:
    """Write weekly counts with a year's season, a trend, and a level of their own."""
    random = np.random.default_rng(seed)
    week = np.arange(WEEKS)
    level = random.lognormal(2.5, 1.0, series)[:, None]
    season = 0.4 * np.sin(2 * np.pi * (week / SEASON + random.random((series, 1)) * 0.2))
    trend = 1 + random.normal(0, 0.3, (series, 1)) * week / WEEKS
    mean = np.maximum(level * (1 + season) * np.maximum(trend, 0.1), 0.05)
    units = random.negative_binomial(4, 4 / (4 + mean))
    pl.DataFrame({
        "unique_id": np.repeat(np.arange(series), WEEKS),
        "ds": np.tile(week, series),
        "y": units.ravel().astype(np.float64),
    }).write_parquet(path)


def ours(path: Path) -> np.ndarray:
    """Forecast with the flow's own module, mean and quantiles, calibrated on one window."""
    from ecom_tasks.inventory import ensemble, forecast, table
    from ecom_tasks.inventory.config import InventoryConfig
    from ecom_tasks.inventory.table import Columns, Setting

    known = pl.read_parquet(path).filter(pl.col("ds") < WEEKS - HORIZON)
    known = known.with_columns(pl.col("unique_id").cast(pl.String).str.zfill(9))
    setting = Setting("W", SEASON, HORIZON, "zero")
    panel = table.read(known, Columns(["unique_id"], "ds", "y"), setting)
    config = InventoryConfig(horizon=HORIZON, season=SEASON, calibration_windows=1, history=26)
    rows = forecast.training_rows(panel, config)
    origins = [panel.periods - HORIZON, panel.periods]
    made = ensemble.members(panel, rows, origins, config)
    learnt = ensemble.learn(panel, made[:1], config)
    return np.asarray(ensemble.combined(panel, made[1], learnt, config).mean, np.float64)


def mlforecast(path: Path) -> np.ndarray:
    import lightgbm
    from mlforecast import MLForecast
    from mlforecast.lag_transforms import RollingMean

    known = pl.read_parquet(path).filter(pl.col("ds") < WEEKS - HORIZON)
    model = MLForecast(
        models={"model": lightgbm.LGBMRegressor(n_estimators=200, num_leaves=63, verbosity=-1)},
        freq=1,
        lags=[1, 2, 3, 4, 8, 13, 26, 52],
        lag_transforms={1: [RollingMean(4), RollingMean(13)]},
    )
    model.fit(known)
    made = model.predict(HORIZON).sort("unique_id", "ds")
    return np.asarray(np.maximum(made["model"].to_numpy().reshape(-1, HORIZON), 0))


def statsforecast(path: Path) -> np.ndarray:
    import os

    from statsforecast import StatsForecast
    from statsforecast.models import AutoETS

    known = pl.read_parquet(path).filter(pl.col("ds") < WEEKS - HORIZON)
    model = StatsForecast([AutoETS(season_length=1)], freq=1, n_jobs=os.cpu_count() or 1)
    made = model.forecast(df=known, h=HORIZON).sort("unique_id", "ds")
    return np.asarray(np.maximum(made["AutoETS"].to_numpy().reshape(-1, HORIZON), 0))


def judge(path: Path, made: np.ndarray) -> dict[str, float]:
    from ecom_tasks.metrics import forecast as metrics

    units = pl.read_parquet(path)["y"].to_numpy().reshape(-1, WEEKS)
    train, actual = units[:, :-HORIZON], units[:, -HORIZON:]
    return {
        "wrmsse": metrics.wrmsse(actual, made, train, train[:, -4:].sum(axis=1)),
        "wape": metrics.wape(actual, made),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--scratch", type=Path, default=Path("/tmp"))  # noqa: S108
    parser.add_argument("--json", type=Path)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        _one(options.one[0], Path(options.one[1]))
        return
    found: dict[str, Any] = {}
    for series in options.series:
        path = options.scratch / f"series-{series}.parquet"
        generate(path, series)
        found[str(series)] = {name: _measured(name, path) for name in options.contenders}
        for name, figures in found[str(series)].items():
            print(f"{series:,} series, {name}: {figures}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")


def _one(name: str, path: Path) -> None:
    started = time.monotonic()
    try:
        made = globals()[name](path)
    except ImportError:
        print(json.dumps({"failed": "not installed"}))
        return
    seconds = time.monotonic() - started
    print(json.dumps({"seconds": round(seconds, 1)} | judge(path, made)))


def _measured(name: str, path: Path) -> dict[str, Any]:
    done = measure_one(["-m", "benchmarks.forecasts", "--one", name, str(path)])
    figures: dict[str, Any] = json.loads(done.output.strip().splitlines()[-1])
    return figures | {"peak_bytes": done.peak_bytes}


if __name__ == "__main__":
    main(sys.argv[1:])
