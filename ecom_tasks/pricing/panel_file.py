"""A panel from any Parquet file: a row a product, location and period, with price and units."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.pricing.panel import ALL_LOCATIONS, MECHANICS, PROMOTION, SERIES, WEEK
from ecom_tasks.pricing.promotions import refuse_collinear

_FIRST = date(2001, 1, 1)
_WEEK_DAYS = 7
_MONTH_DAYS = 27


@dataclass(frozen=True)
class Columns:
    """What the file's columns mean; `location` and `category` may be empty: there is only one."""

    product: str
    time: str
    price: str
    units: str
    location: str = ""
    category: str = ""
    promotions: tuple[str, ...] = ()

    def named(self) -> list[str]:
        each = [self.product, self.location, self.time, self.price, self.units, self.category]
        return [name for name in (*each, *self.promotions) if name]


@dataclass(frozen=True)
class Read:
    """A panel as of `panel.weekly`, with category and department.

    Attributes
    ----------
    weeks : rows; periods that are no weeks are numbered as if they were
    period_days : days from one period to the next
    assumptions : what was assumed
    """

    weeks: pl.DataFrame
    period_days: int
    assumptions: list[str]


def read(path: Path, columns: Columns) -> Read:
    """Read and check a panel.

    Raises
    ------
    ConfigError
        There is no such file or column.
    DataContractError
        A price that is not above zero, units below zero, a null, two rows of the same product,
        location and period, or promotions of which one is another, with up to five rows.
    """
    if not path.is_file():
        raise ConfigError(f"There is no file {path}", "Give a Parquet file with --panel")
    try:
        frame = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{path} is no Parquet: {error}", "Give a Parquet file") from error
    return check(frame, columns)


def check(frame: pl.DataFrame, columns: Columns) -> Read:
    """Bring rows to the panel's form; see `read` for what is refused."""
    missing = [name for name in columns.named() if name not in frame.columns]
    if missing:
        raise ConfigError(
            f"The panel has no column {', '.join(missing)}",
            f"It has: {', '.join(frame.columns)}",
        )
    if frame.is_empty():
        raise DataContractError("The panel has no rows", "Give a panel with sales")
    periods, days = _periods(frame[columns.time])
    text = pl.String
    rows = frame.select(
        pl.col(columns.product).cast(text).alias("product_id"),
        (pl.col(columns.location).cast(text) if columns.location else pl.lit(ALL_LOCATIONS)).alias(
            "location_id"
        ),
        periods.alias(WEEK),
        pl.col(columns.units).cast(pl.Float64).alias("units"),
        pl.col(columns.price).cast(pl.Float64).alias("price"),
        (pl.col(columns.category).cast(text) if columns.category else pl.lit("all")).alias(
            "category"
        ),
        *[
            pl.col(name).cast(pl.Float64).fill_null(0.0).alias(f"{PROMOTION}{name}")
            for name in columns.promotions
        ],
    )
    _refuse(rows)
    promotions, assumptions = _told_apart(rows)
    if days != _WEEK_DAYS:
        assumptions.append(f"periods are {days} days apart; lags and seasons count periods")
    return Read(
        rows
        .drop([name for name in rows.columns if name.startswith(PROMOTION)])
        .with_columns(promotions)
        .with_columns(
            pl.lit(None, dtype=pl.Float64).alias("regular_price"),
            pl.lit(1.0).alias("price_locations"),
            pl.lit(0.0).alias("price_mixed"),
            pl.lit(None, dtype=pl.Float64).alias("price_spread"),
            *[pl.lit(0.0).alias(name) for name in MECHANICS],
            pl.col("category").str.split("/").list.first().alias("department"),
        )
        .sort(*SERIES, WEEK),
        days,
        assumptions,
    )


def _periods(times: pl.Series) -> tuple[pl.Series, int]:
    """Return the period of each row as a Monday, and the days between periods.

    Numbers count periods. Days are kept if they are weeks apart; else the distinct days are
    numbered, since a season of months or days is not one of weeks.
    """
    if times.null_count():
        raise DataContractError(
            f"{times.null_count()} rows have no {times.name}", "Every row needs its period"
        )
    if times.dtype == pl.String:
        try:
            times = times.str.to_date()
        except pl.exceptions.PolarsError as error:
            raise DataContractError(
                f"{times.name} is text that is no day: {times[0]!r}", "Give days, or numbers"
            ) from error
    if times.dtype.is_numeric():
        number = times.cast(pl.Int64)
        return _monday(number - int(number.min() or 0)), _WEEK_DAYS  # type: ignore[arg-type]
    if not times.dtype.is_temporal():
        raise DataContractError(
            f"{times.name} is {times.dtype}, no time", "Give days, or numbers that count periods"
        )
    day = times.cast(pl.Date)
    distinct = day.unique().sort()
    gaps = distinct.diff().drop_nulls().dt.total_days()
    step = int(gaps.median() or _WEEK_DAYS) if len(gaps) else _WEEK_DAYS  # type: ignore[arg-type]
    if step == _WEEK_DAYS:
        return day.dt.truncate("1w"), step
    if step > _MONTH_DAYS:
        month = day.dt.year() * 12 + day.dt.month()
        return _monday(month.cast(pl.Int64) - int(month.min() or 0)), step  # type: ignore[arg-type]
    return _monday((day - distinct[0]).dt.total_days() // step), step


def _monday(number: pl.Series) -> pl.Series:
    days = pl.Series([_FIRST]).new_from_index(0, len(number))
    return days + number.cast(pl.Int64) * timedelta(weeks=1)


def _refuse(rows: pl.DataFrame) -> None:
    nothing = pl.any_horizontal(pl.col("product_id", "location_id", "units", "price").is_null())
    price, units = pl.col("price"), pl.col("units")
    faults = {
        "rows lack product, location, price or units": nothing,
        "prices are not above zero": ~(price > 0) | price.is_infinite() | price.is_nan(),
        "units are below zero": (units < 0) | units.is_nan() | units.is_infinite(),
    }
    for what, fault in faults.items():
        broken = rows.filter(fault)
        if broken.height:
            raise DataContractError(
                f"{broken.height} of {rows.height} {what}",
                "Leave these rows out or correct them; a week without a sale has its price and "
                "zero units. Nothing was estimated",
                broken.head(5).to_dicts(),
            )
    twice = rows.filter(pl.struct(*SERIES, WEEK).is_duplicated())
    if twice.height:
        raise DataContractError(
            f"{twice.height} rows share product, location and period with another",
            "Add them up first, or name the column that tells them apart with --location",
            twice.sort(*SERIES, WEEK).head(5).to_dicts(),
        )
    if not rows["units"].sum() > 0:
        raise DataContractError("Nothing was sold: all units are zero", "Check --units")


def _told_apart(rows: pl.DataFrame) -> tuple[list[pl.Series], list[str]]:
    """Return promotions that can be told apart; refuse those that say the same.

    A promotion that never changes says nothing, and is left out.
    """
    names = [name for name in rows.columns if name.startswith(PROMOTION)]
    kept: list[pl.Series] = []
    assumptions = []
    for name in names:
        column = rows[name]
        plain = name.removeprefix(PROMOTION)
        if column.std() == 0:
            assumptions.append(f"promotion {plain} is the same in all rows and says nothing")
            continue
        kept.append(column)
    refuse_collinear(rows.select(kept), "Leave one of them out")
    return kept, assumptions
