"""Forecast arrays <-> tables with one row per series and period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from ecom_tasks.inventory.forecast import Quantiles
from ecom_tasks.inventory.panel import Floats, Panel
from ecom_tasks.inventory.series import KEY


def quantile_column(level: float) -> str:
    """Name the column of a level: `q05` for 0.05, `q02.5` for 0.025."""
    percent = round(level * 100, 4)
    return f"q{percent:02.0f}" if percent == int(percent) else f"q{percent:04.4g}"


def forecast_frame(
    panel: Panel, origin: int, mean: Floats, quantiles: Quantiles, levels: Sequence[float]
) -> pl.DataFrame:
    """Return product_id, location_id, `panel.time_column`, mean and a column per level, units."""
    steps = mean.shape[1]
    days = [panel.day(origin + step) for step in range(steps)]
    index = panel.keys.select(KEY).join(
        pl.DataFrame({panel.time_column: days}), how="cross", maintain_order="left_right"
    )
    columns = {"mean": mean.ravel()} | {
        quantile_column(level): quantiles[..., number].ravel()
        for number, level in enumerate(levels)
    }
    return index.with_columns(pl.Series(name, values) for name, values in columns.items())


def centres_frame(panel: Panel, origin: int, centres: Mapping[str, Floats]) -> pl.DataFrame:
    """Return a row per series and period with a column per forecast."""
    steps = next(iter(centres.values())).shape[1]
    days = [panel.day(origin + step) for step in range(steps)]
    index = panel.keys.select(KEY).join(
        pl.DataFrame({panel.time_column: days}), how="cross", maintain_order="left_right"
    )
    return index.with_columns(pl.Series(name, made.ravel()) for name, made in centres.items())


def centres_arrays(frame: pl.DataFrame, series: int) -> dict[str, Floats]:
    """Return the forecasts of a `centres_frame`, name -> (series, steps)."""
    names = [name for name in frame.columns if name not in {*KEY, "week_starts_on", "day"}]
    return {
        name: np.asarray(frame[name].to_numpy().reshape(series, -1), np.float32) for name in names
    }


def forecast_arrays(
    frame: pl.DataFrame, series: int, levels: Sequence[float]
) -> tuple[Floats, Quantiles]:
    """Return mean (series, steps) and quantiles (series, steps, levels) of a `forecast_frame`."""
    names = [quantile_column(level) for level in levels]
    values = np.ascontiguousarray(frame.select("mean", *names).to_numpy(), dtype=np.float32)
    cube = values.reshape(series, -1, values.shape[1])
    return cube[..., 0], cube[..., 1:]
