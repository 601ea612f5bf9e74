"""What every feature table starts from: order lines that were known, of goods that are sold.

The cutoff is applied here, first and once, so that no feature can see past it.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from ecom_tasks.tables import Table, Type

ALL_LOCATIONS = "all"
DECIMALS = 6
DTYPES: dict[Type, type[pl.DataType]] = {
    "string": pl.String,
    "float": pl.Float64,
    "int": pl.Int64,
    "bool": pl.Boolean,
    "date": pl.Date,
    "datetime": pl.Datetime,
}


def goods(lines: pl.LazyFrame, products: pl.LazyFrame, cutoff: date) -> pl.LazyFrame:
    """Keep the lines known at `cutoff` whose product is sellable, with signed amounts.

    Parameters
    ----------
    lines : order_lines of the data contract
    products : products of the data contract
    cutoff : last day known, inclusive

    Returns
    -------
    LazyFrame
        customer_id, product_id, order_id, location_id (`all` where unknown), day, week_starts_on
        (Monday), bought (false: a return), quantity, sales, discount (all three above zero),
        regular_price, units and spend (returns negative).
    """
    bought = ~pl.col("returned").fill_null(value=False)
    sign = pl.when(bought).then(1.0).otherwise(-1.0)
    day = pl.col("ordered_at").dt.date()
    unsellable = products.filter(~pl.col("sellable").fill_null(value=True)).select("product_id")
    return (
        lines
        .filter(pl.col("ordered_at") < cutoff + timedelta(days=1))
        .join(unsellable, on="product_id", how="anti")
        .select(
            "customer_id",
            "product_id",
            "order_id",
            pl.col("location_id").fill_null(ALL_LOCATIONS),
            day.alias("day"),
            day.dt.truncate("1w").alias("week_starts_on"),
            bought.alias("bought"),
            "quantity",
            (pl.col("quantity") * pl.col("unit_price")).alias("sales"),
            pl.col("discount").fill_null(0.0),
            "regular_price",
            (sign * pl.col("quantity")).alias("units"),
            (sign * pl.col("quantity") * pl.col("unit_price")).alias("spend"),
        )
    )


def numbered(lines: pl.LazyFrame, *identifiers: str) -> pl.LazyFrame:
    """Read the lines once for several tables, with numbers for identifiers that are only counted.

    Distinct numbers are counted in a third of the time that texts take; null stays null.
    """
    read = lines.collect()
    return read.with_columns(
        read[name].cast(pl.Enum(read[name].unique().drop_nulls())).to_physical()
        for name in identifiers
    ).lazy()


def conform(frame: pl.LazyFrame, table: Table) -> pl.LazyFrame:
    """Bring `frame` to the columns, types and row order of `table`.

    Measures are rounded to six decimals: sums of floats differ in their last bits with the order
    of addition, and the same rows must give the same bytes.
    """
    return typed(frame, table).sort(table.key)


def typed(frame: pl.LazyFrame, table: Table) -> pl.LazyFrame:
    """Do what `conform` does, for rows that stand in the order of the key already."""
    columns = [
        pl.col(column.name).cast(DTYPES[column.type]).round(DECIMALS)
        if column.type == "float"
        else pl.col(column.name).cast(DTYPES[column.type])
        for column in table.columns
    ]
    return frame.select(columns)


def empty(table: Table) -> pl.LazyFrame:
    """Return `table` without rows, for a table that the shop lacks."""
    return pl.LazyFrame(schema={column.name: DTYPES[column.type] for column in table.columns})


def last_complete_week(as_of: date) -> date:
    """Return the Monday of the last week whose Sunday is not after `as_of`."""
    monday = as_of - timedelta(days=as_of.weekday())
    return monday if as_of.weekday() == 6 else monday - timedelta(days=7)


def days_before(cutoff: date, day: pl.Expr) -> pl.Expr:
    """Return the whole days from `day` to `cutoff`."""
    return (pl.lit(cutoff) - day).dt.total_days()


def within(days: int, cutoff: date) -> pl.Expr:
    """Say whether `day` is one of the last `days` days up to and with `cutoff`."""
    return pl.col("day") > cutoff - timedelta(days=days)


def mean_interval(first: str, last: str, order_days: str) -> pl.Expr:
    """Return the mean days between order days, null where there is only one."""
    gaps = pl.col(order_days).cast(pl.Int64) - 1
    return pl.when(gaps > 0).then((pl.col(last) - pl.col(first)).dt.total_days() / gaps)
