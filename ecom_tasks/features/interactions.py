"""Customers x products: what each customer bought, how often and how recently."""

from __future__ import annotations

from datetime import date

import polars as pl

from ecom_tasks.features import tables
from ecom_tasks.features.lines import conform, days_before, goods, mean_interval, within


def _gaps(orders: pl.LazyFrame) -> pl.LazyFrame:
    """Say how the days from one order to the next are spread, where there is a next one."""
    pair = ["customer_id", "product_id"]
    days = orders.select(*pair, "day").unique().sort(*pair, "day")
    same = pl.all_horizontal((pl.col(pair) == pl.col(pair).shift()).fill_null(value=False))
    gap = pl.when(same).then(pl.col("day").diff().dt.total_days()).alias("gap")
    return (
        days
        .select(*pair, gap)
        .drop_nulls()
        .group_by(pair)
        .agg(
            pl.col("gap").median().alias("median_days_between_orders"),
            pl.col("gap").max().alias("longest_days_between_orders"),
            pl.col("gap").std().alias("std_days_between_orders"),
        )
    )


def build(
    lines: pl.LazyFrame, products: pl.LazyFrame, cutoff: date, half_life_days: float
) -> pl.LazyFrame:
    """Return one row per customer and product with at least one purchase by `cutoff`.

    Parameters
    ----------
    lines : order_lines of whole customers (a bucket by customer_id)
    products : products of the data contract
    cutoff : last day known, inclusive
    half_life_days : age at which an order counts half in `recency_weighted_orders`

    Returns
    -------
    LazyFrame with the columns of `features.tables.CUSTOMER_PRODUCTS`, in store currency and days.
    """
    pair = ["customer_id", "product_id"]
    known = goods(lines, products, cutoff).filter(pl.col("customer_id").is_not_null())
    # An order that holds the product on several lines is one order.
    orders = known.group_by(*pair, "order_id").agg(
        pl.col("units").sum(),
        pl.col("spend").sum(),
        pl.col("bought").any(),
        (pl.col("discount") > 0).any().alias("discounted"),
        pl.col("day").min(),
    )
    bought = pl.col("bought")
    age = days_before(cutoff, pl.col("day"))

    def weighted(half_life: float) -> pl.Expr:
        return (0.5 ** (age / half_life)).filter(bought).sum()

    return conform(
        orders
        .group_by(pair)
        .agg(
            bought.sum().alias("orders"),
            pl.col("units").sum(),
            pl.col("spend").sum(),
            pl.col("day").filter(bought).min().alias("first"),
            pl.col("day").filter(bought).max().alias("last"),
            pl.col("day").filter(bought).n_unique().alias("order_days"),
            (bought & within(28, cutoff)).sum().alias("orders_28d"),
            (bought & within(84, cutoff)).sum().alias("orders_84d"),
            weighted(half_life_days).alias("recency_weighted_orders"),
            weighted(half_life_days / 3).alias("fast_weighted_orders"),
            weighted(half_life_days * 2).alias("slow_weighted_orders"),
            pl.col("discounted").filter(bought).mean().alias("discounted_share"),
        )
        .filter(pl.col("orders") > 0)
        .join(_gaps(orders.filter(bought)), on=pair, how="left")
        .with_columns(
            pl.lit(cutoff).alias("cutoff"),
            days_before(cutoff, pl.col("first")).alias("days_since_first_order"),
            days_before(cutoff, pl.col("last")).alias("days_since_last_order"),
            mean_interval("first", "last", "order_days").alias("mean_days_between_orders"),
        ),
        tables.CUSTOMER_PRODUCTS,
    )
