"""Any table of series (one row per series and period) -> a panel."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import NoReturn

import numpy as np
import polars as pl

from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.inventory.panel import SEASONS, Booleans, Floats, Frequency, Panel

log = logging.getLogger(__name__)
_EVERY: dict[Frequency, str] = {"D": "1d", "W": "1w", "M": "1mo"}
_START = 8
"""First periods known whose mean stands for what lies before them."""


@dataclass(frozen=True)
class Columns:
    """Which columns of the table are what.

    Attributes
    ----------
    ids : identify a series.
    time : a date, or a whole number that counts periods.
    target : what is forecast.
    weights : value of a row; empty: none.
    known : known ahead, numbers or booleans.
    """

    ids: Sequence[str]
    time: str
    target: str
    weights: str = ""
    known: Sequence[str] = ()


@dataclass(frozen=True)
class Setting:
    """How periods follow each other, and how many are forecast.

    Attributes
    ----------
    frequency : of dates; with whole numbers it says what repeats by nature.
    season : of the naive forecast and of the scale of MASE.
    horizon : periods forecast.
    gaps : a period without a row after the first row of its series: `unknown`, `zero` demand, or
        `auto`: zero where the table looks like a list of sales, in which no target is zero.
    """

    frequency: Frequency
    season: int
    horizon: int
    gaps: str = "auto"


def read(table: pl.DataFrame, columns: Columns, setting: Setting) -> Panel:
    """Lay the table out, one row per series and one column per period.

    Dates stand under each other; whole numbers only count, so there the last values of all series
    do. What lies before the first value of a series is supposed to have been like its first
    values, gaps are filled in a straight line, and neither is observed. A known column that is the
    same for all series has that value everywhere; others are 0 where they have none if they are
    flags, and else keep their last value, also after the last period.

    Returns
    -------
    Panel with the columns `ids` as keys, in ascending order. `sales` are the weights, else the
    target; `weights` the weights, else none.

    Raises
    ------
    ConfigError
        A column is not there.
    DataContractError
        A column has the wrong type, a date is there twice, or there is nothing to forecast.
    """
    rows = _rows(table, columns, setting)
    keys = rows.select(columns.ids).unique().sort(columns.ids)
    rows = rows.join(
        keys.with_row_index("row"), on=list(columns.ids), how="left", maintain_order="left"
    )
    first, place = _places(rows, setting)
    shape = (keys.height, int(place.max()) + 1)  # type: ignore[arg-type]
    row, column = rows["row"].to_numpy(), place.to_numpy()
    taken = np.zeros(shape, np.bool_)
    taken[row, column] = True
    if taken.sum() < rows.height:
        _refuse_doubles(rows, columns)
    units = _spread(rows["target"], row, column, shape)
    observed = np.isfinite(units)
    if setting.gaps == "zero" or (setting.gaps == "auto" and _lists_sales(units, observed)):
        log.info("Periods without a row count as zero demand")
        observed = _from_first_on(observed)
        units = np.where(observed & np.isnan(units), np.float32(0), units)
    weights = _spread(rows["weights"], row, column, shape) if columns.weights else None
    plans = {
        name: _ahead(_spread(rows[f"known_{name}"], row, column, shape), setting.horizon)
        for name in columns.known
    }
    negative = int((units[observed] < 0).sum())
    if negative:
        log.warning("%s of %s values are negative; no forecast is", negative, observed.sum())
    filled = _filled(units)
    return Panel(
        keys,
        first,
        filled,
        np.nan_to_num(weights) if weights is not None else np.where(observed, filled, 0),
        orders=None,
        locations=None,
        price=None,
        discount_depth=None,
        plans=plans,
        announced=np.zeros((keys.height, shape[1] + setting.horizon), np.float32),
        planned_to=shape[1] + setting.horizon,
        observed=observed,
        weights=np.nan_to_num(weights) if weights is not None else None,
        frequency=setting.frequency,
        season=setting.season if setting.season > 1 else SEASONS[setting.frequency],
    )


def _rows(table: pl.DataFrame, columns: Columns, setting: Setting) -> pl.DataFrame:
    """Pick the columns, in the types that they need, rows without a target left out."""
    wanted = [*columns.ids, columns.time, columns.target, *columns.known]
    wanted += [columns.weights] if columns.weights else []
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise ConfigError(
            f"The table has no column {', '.join(missing)}", f"It has: {', '.join(table.columns)}"
        )
    kind = table.schema[columns.time]
    if not (kind.is_integer() or kind in {pl.Date, pl.Datetime}):
        raise DataContractError(
            f"Column {columns.time} is of type {kind}", "Deliver dates, or whole numbers that count"
        )
    numbers = [columns.target, *columns.known, *([columns.weights] if columns.weights else [])]
    for name in numbers:
        if not (table.schema[name].is_numeric() or table.schema[name] == pl.Boolean):
            raise DataContractError(
                f"Column {name} is of type {table.schema[name]}", "Deliver numbers"
            )
    time = pl.col(columns.time)
    if not kind.is_integer():
        time = time.cast(pl.Date)
        if setting.frequency != "D":
            time = time.dt.truncate(_EVERY[setting.frequency])
    number = {name: pl.col(name).cast(pl.Float64) for name in numbers}
    rows = table.select(
        *(pl.col(name).cast(pl.String) for name in columns.ids),
        time.alias("time"),
        number[columns.target].alias("target"),
        *(number[name].alias(f"known_{name}") for name in columns.known),
        *([number[columns.weights].alias("weights")] if columns.weights else []),
    ).filter(pl.col("target").is_finite())
    if rows.is_empty():
        raise DataContractError(
            f"No row has a number in {columns.target}", "Deliver series with at least one value"
        )
    return rows


def _refuse_doubles(rows: pl.DataFrame, columns: Columns) -> NoReturn:
    doubled = rows.group_by("row", "time").len().filter(pl.col("len") > 1)
    examples = (
        rows
        .join(doubled, on=["row", "time"], how="semi")
        .select(*columns.ids, "time", "target")
        .sort(*columns.ids, "time")
    )
    raise DataContractError(
        f"{doubled.height:,} periods stand twice for the same {', '.join(columns.ids)}",
        "Sum them up, or name further columns with --id",
        examples.head(5).to_dicts(),
    )


def _places(rows: pl.DataFrame, setting: Setting) -> tuple[date, pl.Series]:
    """Return the day of column 0, and the column of each row."""
    time = rows["time"]
    if time.dtype.is_integer():
        last = rows.select(pl.col("time").max().over("row"))["time"]
        back = last - time
        # No calendar: any Monday will do, from which every frequency counts.
        return date(2001, 1, 1), (back - back.max()).abs()
    first = time.min()
    assert isinstance(first, date)
    if setting.frequency == "M":
        return first, time.dt.year().cast(pl.Int64) * 12 + time.dt.month() - (
            first.year * 12 + first.month
        )
    return first, (time - first).dt.total_days() // (7 if setting.frequency == "W" else 1)


def _spread(values: pl.Series, row: Floats, column: Floats, shape: tuple[int, int]) -> Floats:
    matrix = np.full(shape, np.nan, np.float32)
    matrix[row, column] = values.to_numpy()
    return matrix


def _lists_sales(units: Floats, observed: Booleans) -> bool:
    """Tell whether zeros were left out: none is there, all are counts, and periods are missing."""
    values = units[observed]
    missing = _from_first_on(observed).sum() - observed.sum()
    counts = bool((values != 0).all() and (values == np.round(values)).all())
    return counts and missing > 0


def _from_first_on(observed: Booleans) -> Booleans:
    return np.asarray(np.logical_or.accumulate(observed, axis=1))


def _filled(units: Floats) -> Floats:
    """Put a number everywhere: lines over gaps, first values before, the last value after."""
    found = units.copy()
    every = np.arange(units.shape[1])
    for row in np.flatnonzero(np.isnan(units).any(axis=1)).tolist():
        known = np.flatnonzero(np.isfinite(units[row]))
        found[row] = np.interp(every, known, units[row, known])
        found[row, : known[0]] = units[row, known[:_START]].mean()
    return found


def _ahead(values: Floats, horizon: int) -> Floats:
    """Fill a known column, and lay it out to the end of the horizon."""
    longer = np.pad(values, ((0, 0), (0, horizon)), constant_values=np.nan)
    known = np.isfinite(longer)
    largest = np.where(known, longer, -np.inf).max(axis=0)
    least = np.where(known, longer, np.inf).min(axis=0)
    if (least == largest)[known.any(axis=0)].all():
        longer = np.where(known.any(axis=0), largest, np.nan)[None, :].repeat(len(longer), axis=0)
        known = np.isfinite(longer)
    if not set(np.unique(values[np.isfinite(values)]).tolist()) <= {0.0, 1.0}:
        last = np.maximum.accumulate(np.where(known, np.arange(longer.shape[1]), 0), axis=1)
        longer = np.take_along_axis(longer, last, axis=1)
    return np.asarray(np.nan_to_num(longer), np.float32)
