"""Price history: what each product cost in each week that it sold."""

from __future__ import annotations

from datetime import date

import polars as pl

from ecom_tasks.features import tables
from ecom_tasks.features.lines import conform, goods, last_complete_week


def shelf_price() -> pl.Expr:
    """Return the units-weighted shelf price of what a group bought, null where none is known."""
    known = pl.col("bought") & pl.col("regular_price").is_not_null()
    quantity = pl.col("quantity").filter(known).sum()
    worth = (pl.col("regular_price") * pl.col("quantity")).filter(known).sum()
    return pl.when(quantity > 0).then(worth / quantity)


def build(lines: pl.LazyFrame, products: pl.LazyFrame, as_of: date) -> pl.LazyFrame:
    """Return one row per product and complete week in which it sold.

    Returns do not count: a price is what was paid at the till. The lowest and the highest price
    compare the weekly mean prices of the locations.

    Parameters
    ----------
    lines : order_lines of whole products (a bucket by product_id)
    products : products of the data contract
    as_of : last day known, inclusive

    Returns
    -------
    LazyFrame with the columns of `features.tables.PRICE_HISTORY`, in store currency.
    """
    week = ["product_id", "week_starts_on"]
    sold = goods(lines, products, as_of).filter(
        pl.col("bought") & (pl.col("week_starts_on") <= last_complete_week(as_of))
    )
    by_location = (
        sold
        .group_by(*week, "location_id")
        .agg(pl.col("sales").sum() / pl.col("quantity").sum())
        .group_by(week)
        .agg(
            pl.col("sales").min().alias("lowest_price"),
            pl.col("sales").max().alias("highest_price"),
        )
    )
    overall = sold.group_by(week).agg(
        pl.col("quantity").sum().alias("units"),
        (pl.col("sales").sum() / pl.col("quantity").sum()).alias("unit_price"),
        shelf_price().alias("regular_price"),
    )
    return conform(overall.join(by_location, on=week), tables.PRICE_HISTORY)
