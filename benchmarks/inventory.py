"""Demand forecasts on public series with known targets, and their speed beside others.

    python -m benchmarks.inventory accuracy --data ../shared/data --folder FOLDER [--only m3 ...]
    python -m benchmarks.inventory speed --series 1000 10000 [--peers PYTHON] [--json FILE]

`accuracy` builds each table in FOLDER and judges it by `python -m ecom_tasks backtest inventory`,
with the defaults. `speed` generates weekly series and forecasts them beside mlforecast with
LightGBM and statsforecast's AutoETS. Each contender runs in a process of its own, forecasts the
same last weeks of the same series, and is judged by the same metrics; rivals that are not installed
(for the interpreter PYTHON) are left out and said so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.measure import machine, measure_one

CONTENDERS = ("ours", "mlforecast", "statsforecast")
WEEKS, HORIZON, SEASON = 104, 8, 52


@dataclass(frozen=True)
class Task:
    """A table of series, how the backtest is asked about it, and what it must reach."""

    arguments: str
    targets: dict[str, float]


WEEKLY = "--id unique_id --time t --target y --freq W --season 1 --horizon 13"
MONTHLY = "--id unique_id --time t --target y --freq M --season 12 --horizon 18"
SALES = (
    "--id Store Dept --time Date --target Weekly_Sales --freq W --season 52 --horizon 39 "
    "--weights w --known IsHoliday"
)
TASKS = {
    "m4-weekly": Task(WEEKLY, {"smape": 7.3, "mase": 2.2}),
    "m3": Task(MONTHLY, {"smape": 13.6}),
    "walmart-store-sales": Task(SALES, {"wmae": 1550}),
}
HOLIDAY_WEIGHT = 5.0


def table(name: str, folder: Path) -> pl.DataFrame:
    """Read a data set as one row a series and period; weeks with a holiday weigh five times."""
    if name == "walmart-store-sales":
        weight = pl.when("IsHoliday").then(HOLIDAY_WEIGHT).otherwise(1.0)
        return pl.read_parquet(folder / "train.parquet").with_columns(weight.alias("w"))
    series = pl.read_parquet(folder / "series.parquet").with_columns(
        pl.col("unique_id").cast(pl.String)
    )
    if name == "m3":
        meta = pl.read_parquet(folder / "meta.parquet").filter(
            pl.col("period").str.to_lowercase() == "monthly"
        )
        series = series.join(meta, on="unique_id", how="semi")
    return series


def accuracy(options: argparse.Namespace) -> None:
    """Judge each data set, and print each figure beside its target and the plain methods'."""
    options.folder.mkdir(parents=True, exist_ok=True)
    print(machine())
    for name in options.only:
        path, found = options.folder / f"{name}.parquet", options.folder / f"{name}.json"
        table(name, options.data / name).write_parquet(path)
        task = TASKS[name]
        command = ["-m", "ecom_tasks", "backtest", "inventory", "--series", str(path)]
        measure_one([*command, *task.arguments.split(), "--json", str(found)])
        figures = json.loads(found.read_text())
        for metric, target in task.targets.items():
            own = figures["model"][metric]
            rivals = {rival: each[metric] for rival, each in figures["baselines"].items()}
            print(f"{name}: {metric} {own:.5g}, target {target:g}; {rivals}")
        print(f"{name}: {figures['seconds']} s, {figures['peak_memory_bytes'] / 2**30:.2f} GiB")


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
    """Forecast with the flow's own module, mean and quantiles, calibrated on one window.

    Without the network, whose cost does not grow with the series.
    """
    from ecom_tasks.inventory import ensemble, forecast, table
    from ecom_tasks.inventory.config import InventoryConfig
    from ecom_tasks.inventory.table import Columns, Setting

    known = pl.read_parquet(path).filter(pl.col("ds") < WEEKS - HORIZON)
    known = known.with_columns(pl.col("unique_id").cast(pl.String).str.zfill(9))
    setting = Setting("W", SEASON, HORIZON, "zero")
    panel = table.read(known, Columns(["unique_id"], "ds", "y"), setting)
    config = InventoryConfig(
        horizon=HORIZON, season=SEASON, calibration_windows=1, history=26, network=False
    )
    rows = forecast.training_rows(panel, config)
    some = ensemble.learners(panel, config)
    before = ensemble.members(panel, rows, [panel.periods - HORIZON], config, chosen=some)
    learnt = ensemble.learn(panel.take(some), before, config)
    [made] = ensemble.members(panel, rows, [panel.periods], config)
    return np.asarray(ensemble.combined(panel, made, learnt, config).mean, np.float64)


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


def speed(options: argparse.Namespace) -> None:
    """Forecast generated series of every size with every contender."""
    print(machine())
    found: dict[str, Any] = {}
    for series in options.series:
        path = options.scratch / f"series-{series}.parquet"
        generate(path, series)
        found[str(series)] = {
            name: _measured(name, path, options.peers) for name in options.contenders
        }
        for name, figures in found[str(series)].items():
            print(f"{series:,} series, {name}: {figures}")
        if options.json:
            options.json.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    if options.plot:
        plot(found, options.plot)


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw seconds, and peak memory, over the number of series."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "inventory"
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    sizes = sorted(map(int, found))
    for axes, name, label in zip(
        figure.subplots(1, 2), ("seconds", "peak_gib"), ("seconds", "peak memory, GiB"), strict=True
    ):
        for contender, (title, colour) in LABELS.items():
            known = [(size, found[str(size)].get(contender, {})) for size in sizes]
            points = [(size, each[name]) for size, each in known if name in each]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=title)
        axes.set(xscale="log", yscale="log", xlabel="series", ylabel=label)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


LABELS = {
    "ours": ("ours: mean and 9 quantiles, validated", "#1f5fa8"),
    "mlforecast": ("mlforecast + LightGBM: mean", "#d9822b"),
    "statsforecast": ("statsforecast AutoETS", "#7a7a7a"),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    judged = commands.add_parser("accuracy")
    judged.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    judged.add_argument("--folder", type=Path, required=True, help="for tables and figures")
    judged.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    judged.set_defaults(run=accuracy)
    timed = commands.add_parser("speed")
    timed.add_argument("--series", type=int, nargs="+", default=[1000, 10_000])
    timed.add_argument("--scratch", type=Path, default=Path("/tmp"))  # noqa: S108
    timed.add_argument("--json", type=Path)
    timed.add_argument("--plot", type=Path, help="SVG of how cost grows")
    timed.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    timed.add_argument("--peers", default=sys.executable, help="interpreter that has the rivals")
    timed.set_defaults(run=speed)
    one = commands.add_parser("one")
    one.add_argument("contender", choices=CONTENDERS)
    one.add_argument("file", type=Path)
    one.set_defaults(run=_one)
    options = parser.parse_args(arguments)
    options.run(options)


def _one(options: argparse.Namespace) -> None:
    """Forecast one file in this process, and print figures as JSON."""
    started = time.monotonic()
    try:
        made = globals()[options.contender](options.file)
    except ImportError:
        print(json.dumps({"failed": "not installed"}))
        return
    seconds = time.monotonic() - started
    print(json.dumps({"seconds": round(seconds, 1)} | judge(options.file, made)))


def _measured(name: str, path: Path, peers: str) -> dict[str, Any]:
    python = sys.executable if name == CONTENDERS[0] else peers
    done = measure_one(["-m", "benchmarks.inventory", "one", name, str(path)], python)
    figures: dict[str, Any] = json.loads(done.output.strip().splitlines()[-1])
    return figures | {"peak_gib": round(done.peak_bytes / 2**30, 2)}


if __name__ == "__main__":
    main(sys.argv[1:])
