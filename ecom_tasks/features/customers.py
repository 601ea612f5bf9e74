"""Customers: how often, how recently and how much each one buys."""

from __future__ import annotations

from datetime import date

import polars as pl

from ecom_tasks.features import tables
from ecom_tasks.features.lines import conform, days_before, goods, mean_interval, within


def build(lines: pl.LazyFrame, products: pl.LazyFrame, cutoff: date) -> pl.LazyFrame:
    """Return one row per customer with at least one purchase by `cutoff`.

    Parameters
    ----------
    lines : order_lines of whole customers (a bucket by customer_id)
    products : products of the data contract
    cutoff : last day known, inclusive

    Returns
    -------
    LazyFrame with the columns of `features.tables.CUSTOMERS`, in store currency and days.
    """
    known = goods(lines, products, cutoff).filter(pl.col("customer_id").is_not_null())
    bought = pl.col("bought")
    discount = pl.col("discount").filter(bought).sum()
    paid = pl.col("sales").filter(bought).sum()
    order_ids = pl.col("order_id").filter(bought)
    return conform(
        known
        .group_by("customer_id")
        .agg(
            order_ids.n_unique().alias("orders"),
            pl.col("units").sum(),
            pl.col("spend").sum(),
            pl.col("product_id").filter(bought).n_unique().alias("distinct_products"),
            pl.col("day").filter(bought).min().alias("first"),
            pl.col("day").filter(bought).max().alias("last"),
            pl.col("day").filter(bought).n_unique().alias("order_days"),
            bought.sum().alias("order_lines"),
            pl
            .when(discount + paid > 0)
            .then(discount / (discount + paid))
            .otherwise(0.0)
            .alias("discount_share"),
            pl.col("order_id").filter(bought & within(28, cutoff)).n_unique().alias("orders_28d"),
        )
        .filter(pl.col("orders") > 0)
        .with_columns(
            pl.lit(cutoff).alias("cutoff"),
            days_before(cutoff, pl.col("first")).alias("days_since_first_order"),
            days_before(cutoff, pl.col("last")).alias("days_since_last_order"),
            mean_interval("first", "last", "order_days").alias("mean_days_between_orders"),
            (pl.col("spend") / pl.col("orders")).alias("mean_basket_spend"),
            (pl.col("order_lines") / pl.col("orders")).alias("mean_basket_products"),
        ),
        tables.CUSTOMERS,
    )
