"""A panel from any Parquet file: a row a product, location and period, with price and units."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.pricing.instruments import COST
from ecom_tasks.pricing.panel import ALL_LOCATIONS, MECHANICS, PROMOTION, SERIES, WEEK
from ecom_tasks.pricing.promotions import refuse_collinear

_FIRST = date(2001, 1, 1)
_WEEK_DAYS = 7
_MONTH_DAYS = 27
# Rows of which it is asked at once whether two are the same.
_AT_ONCE = 2_000_000
# Figures of all rows are made batch by batch: no column is in memory as a whole.
_STREAMING: Any = "streaming"


@dataclass(frozen=True)
class Columns:
    """What the file's columns mean; `location` and `category` may be empty: there is only one.

    So may `cost`, the purchase cost of a unit in the period: nothing is known of it.
    """

    product: str
    time: str
    price: str
    units: str
    location: str = ""
    category: str = ""
    promotions: tuple[str, ...] = ()
    cost: str = ""

    def named(self) -> list[str]:
        each = [self.product, self.location, self.time, self.price, self.units, self.category]
        return [name for name in (*each, *self.promotions, self.cost) if name]


@dataclass(frozen=True)
class Read:
    """A panel as of `panel.weekly`, with category and department; read when asked for.

    Attributes
    ----------
    weeks : rows; periods that are no weeks are numbered as if they were
    sizes : product_id, category, department, rows
    last_week : Monday of the last period
    period_days : days from one period to the next
    assumptions : what was assumed
    """

    weeks: pl.LazyFrame
    sizes: pl.DataFrame
    last_week: date
    period_days: int
    assumptions: list[str]

    def of(self, products: list[str]) -> pl.DataFrame:
        """Return the rows of some products, sorted by series and week."""
        return self.weeks.filter(pl.col("product_id").is_in(products)).collect().sort(*SERIES, WEEK)


def read(path: Path, columns: Columns) -> Read:
    """Check a panel without holding it in memory, and say how to read parts of it.

    Raises
    ------
    ConfigError
        There is no such file or column.
    DataContractError
        A price that is not above zero, units below zero, a null, two rows of the same product,
        location and period, a product of two categories, or promotions of which one is another,
        with up to five rows.
    """
    if not path.is_file():
        raise ConfigError(f"There is no file {path}", "Give a Parquet file with --panel")
    try:
        frame = pl.scan_parquet(path)
        frame.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{path} is no Parquet: {error}", "Give a Parquet file") from error
    return check(frame, columns)


def check(frame: pl.LazyFrame | pl.DataFrame, columns: Columns) -> Read:
    """Bring rows to the panel's form; see `read` for what is refused."""
    frame = frame.lazy()
    names = frame.collect_schema().names()
    missing = [name for name in columns.named() if name not in names]
    if missing:
        raise ConfigError(
            f"The panel has no column {', '.join(missing)}",
            f"It has: {', '.join(names)}",
        )
    times = (
        frame.select(pl.col(columns.time).unique()).collect(engine=_STREAMING)[columns.time].sort()
    )
    if times.is_empty():
        raise DataContractError("The panel has no rows", "Give a panel with sales")
    if times.null_count():
        unknown = frame.select(pl.col(columns.time).null_count()).collect().item()
        raise DataContractError(
            f"{unknown} rows have no {columns.time}", "Every row needs its period"
        )
    periods, days = _periods(times)
    text = pl.String
    rows = frame.with_columns(
        pl.col(columns.time).replace_strict(times, periods, return_dtype=pl.Date).alias(WEEK)
    ).select(
        pl.col(columns.product).cast(text).alias("product_id"),
        (pl.col(columns.location).cast(text) if columns.location else pl.lit(ALL_LOCATIONS)).alias(
            "location_id"
        ),
        WEEK,
        pl.col(columns.units).cast(pl.Float64).alias("units"),
        pl.col(columns.price).cast(pl.Float64).alias("price"),
        (pl.col(columns.category).cast(text) if columns.category else pl.lit("all")).alias(
            "category"
        ),
        *[
            pl.col(name).cast(pl.Float64).fill_null(0.0).alias(f"{PROMOTION}{name}")
            for name in columns.promotions
        ],
        *[pl.col(name).cast(pl.Float64).alias(COST) for name in [columns.cost] if name],
    )
    _refuse(rows)
    idle, assumptions = _told_apart(rows)
    if days != _WEEK_DAYS:
        assumptions.append(f"periods are {days} days apart; lags and seasons count periods")
    weeks = rows.drop(idle).with_columns(
        pl.lit(None, dtype=pl.Float64).alias("regular_price"),
        pl.lit(1.0).alias("price_locations"),
        pl.lit(0.0).alias("price_mixed"),
        pl.lit(None, dtype=pl.Float64).alias("price_spread"),
        *[pl.lit(0.0).alias(name) for name in MECHANICS],
        pl.col("category").str.split("/").list.first().alias("department"),
    )
    sizes = _sizes(weeks)
    _refuse_twice(rows, sizes)
    last = periods.max()
    assert isinstance(last, date)
    return Read(weeks, sizes, last, days, assumptions)


def _sizes(weeks: pl.LazyFrame) -> pl.DataFrame:
    """Count the rows of each product, which must be of one category."""
    key = ["product_id", "category", "department"]
    sizes = weeks.group_by(key).agg(pl.len().alias("rows")).collect(engine=_STREAMING).sort(key)
    torn = sizes.filter(pl.col("product_id").is_duplicated())
    if torn.height:
        raise DataContractError(
            f"{torn['product_id'].n_unique()} products are of more than one category",
            "Give each product the category that it is of today",
            torn.head(5).to_dicts(),
        )
    return sizes


def _periods(times: pl.Series) -> tuple[pl.Series, int]:
    """Return the period of each time as a Monday, and the days between periods.

    Numbers count periods. Days are kept if they are weeks apart; else the distinct days are
    numbered, since a season of months or days is not one of weeks.
    """
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


def _refuse(rows: pl.LazyFrame) -> None:
    """Refuse rows that no elasticity can be learnt from."""
    nothing = pl.any_horizontal(pl.col("product_id", "location_id", "units", "price").is_null())
    price, units = pl.col("price"), pl.col("units")
    faults = {
        "rows lack product, location, price or units": nothing,
        "prices are not above zero": ~(price > 0) | price.is_infinite() | price.is_nan(),
        "units are below zero": (units < 0) | units.is_nan() | units.is_infinite(),
    }
    counts = [fault.sum().alias(what) for what, fault in faults.items()]
    asked = rows.select(pl.len().alias("rows"), units.sum(), *counts)
    found = asked.collect(engine=_STREAMING).row(0, named=True)
    for what, fault in faults.items():
        if found[what]:
            raise DataContractError(
                f"{found[what]} of {found['rows']} {what}",
                "Leave these rows out or correct them; a week without a sale has its price and "
                "zero units. Nothing was estimated",
                rows.filter(fault).head(5).collect().to_dicts(),
            )
    if not found["units"] > 0:
        raise DataContractError("Nothing was sold: all units are zero", "Check --units")


def _refuse_twice(rows: pl.LazyFrame, sizes: pl.DataFrame) -> None:
    """Refuse two rows of the same series and period, looking at some products at a time."""
    key = [*SERIES, WEEK]
    # Neighbours in name: where the file is sorted by product, the rest of it is not read.
    turn = pl.col("rows").cum_sum() // _AT_ONCE
    for some in sizes.sort("product_id").with_columns(turn).partition_by("rows"):
        first, last = some["product_id"][0], some["product_id"][-1]
        asked = pl.col("product_id").is_between(pl.lit(first), pl.lit(last))
        seen = rows.select(key).filter(asked).collect()
        if not seen.is_duplicated().any():
            continue
        twice = seen.filter(seen.is_duplicated()).unique().sort(key)
        shown = rows.join(twice.head(5).lazy(), on=key, how="semi").collect()
        raise DataContractError(
            f"{seen.is_duplicated().sum()} rows share product, location and period with another",
            "Add them up first, or name the column that tells them apart with --location",
            shown.sort(key).head(5).to_dicts(),
        )


def _told_apart(rows: pl.LazyFrame) -> tuple[list[str], list[str]]:
    """Refuse promotions that say the same; return those that say nothing, and words for them."""
    names = [name for name in rows.collect_schema().names() if name.startswith(PROMOTION)]
    if not names:
        return [], []
    columns = {name: pl.col(name) for name in names}
    asked = rows.select(column.std() for column in columns.values())
    spread = asked.collect(engine=_STREAMING).row(0, named=True)
    idle = [name for name in names if not spread[name]]
    kept = [name for name in names if spread[name]]
    off = {name: columns[name] - columns[name].mean() for name in kept}
    products = [
        (off[one] * off[other]).sum().alias(f"{one} {other}") for one in kept for other in kept
    ]
    if kept:
        summed = rows.select(pl.len().alias("rows"), *products).collect(engine=_STREAMING)
        count, *each = summed.row(0)
        squares = np.array(each).reshape(len(kept), len(kept))
        refuse_collinear(kept, squares, count, "Leave one of them out")
    assumptions = [
        f"promotion {name.removeprefix(PROMOTION)} is the same in all rows and says nothing"
        for name in idle
    ]
    return idle, assumptions
