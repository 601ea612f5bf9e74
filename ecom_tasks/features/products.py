"""Products: how much, to how many, how regularly and at what price each one sells."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from ecom_tasks.features import tables
from ecom_tasks.features.lines import conform, days_before, goods, within


def _repeats(known: pl.LazyFrame, cutoff: date) -> pl.LazyFrame:
    """How regularly the same customer comes back for it; guests cannot be recognised."""
    recent = within(28, cutoff)
    before = within(84, cutoff) & ~recent
    pairs = (
        known
        .filter(pl.col("bought") & pl.col("customer_id").is_not_null())
        .group_by("product_id", "customer_id")
        .agg(
            pl.col("order_id").n_unique().alias("pair_orders"),
            (pl.col("day").max() - pl.col("day").min()).dt.total_days().alias("span"),
            (pl.col("day").n_unique().cast(pl.Int64) - 1).alias("gaps"),
            before.any().alias("before"),
            recent.any().alias("recent"),
        )
    )
    gaps = pl.col("gaps").sum()
    return pairs.group_by("product_id").agg(
        pl.len().alias("customers"),
        (pl.col("pair_orders") >= 2).mean().alias("repeat_customer_share"),
        pl.when(gaps > 0).then(pl.col("span").sum() / gaps).alias("mean_days_between_purchases"),
        ((pl.col("before") & pl.col("recent")).sum() / (pl.col("before").sum() + 5)).alias(
            "again_share"
        ),
    )


def build(lines: pl.LazyFrame, products: pl.LazyFrame, cutoff: date) -> pl.LazyFrame:
    """Return one row per sellable product sold at least once by `cutoff`.

    Parameters
    ----------
    lines : order_lines of whole products (a bucket by product_id)
    products : products of the data contract; title, category and brand come from there
    cutoff : last day known, inclusive

    Returns
    -------
    LazyFrame with the columns of `features.tables.PRODUCTS`, in store currency and days.
    """
    known = goods(lines, products, cutoff)
    bought, recent = pl.col("bought"), within(28, cutoff)
    in_last_week = bought & (pl.col("week_starts_on") == pl.col("last").dt.truncate("1w"))
    in_last_28d = bought & (pl.col("day") > pl.col("last") - timedelta(days=28))

    def price(rows: pl.Expr) -> pl.Expr:
        return pl.col("sales").filter(rows).sum() / pl.col("quantity").filter(rows).sum()

    totals = (
        known
        .with_columns(pl.col("day").filter(bought).max().over("product_id").alias("last"))
        .group_by("product_id")
        .agg(
            pl.col("order_id").filter(bought).n_unique().alias("orders"),
            pl.col("units").sum(),
            pl.col("spend").sum().alias("sales"),
            pl.col("units").filter(recent).sum().alias("units_28d"),
            pl
            .col("customer_id")
            .filter(bought & recent)
            .drop_nulls()
            .n_unique()
            .alias("customers_28d"),
            (pl.col("discount") > 0).filter(bought).mean().alias("discounted_share"),
            price(bought).alias("mean_price"),
            price(in_last_week).alias("last_price"),
            pl.col("regular_price").filter(in_last_28d).median(),
            pl.col("day").filter(bought).min().alias("first"),
            pl.col("last").first(),
        )
        .filter(pl.col("orders") > 0)
    )
    catalogue = products.select("product_id", "title", "category", "brand")
    return conform(
        totals
        .join(_repeats(known, cutoff), on="product_id", how="left")
        .join(catalogue, on="product_id", how="left")
        .with_columns(
            pl.lit(cutoff).alias("cutoff"),
            pl.col("customers", "repeat_customer_share", "again_share").fill_null(0),
            days_before(cutoff, pl.col("first")).alias("days_since_first_sale"),
            days_before(cutoff, pl.col("last")).alias("days_since_last_sale"),
        ),
        tables.PRODUCTS,
    )
