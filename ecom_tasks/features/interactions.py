"""Customers x products: what each customer bought, how often and how recently.

Identifiers are numbered once for all cutoffs, in their own order: grouping and sorting by numbers
takes a fraction of what it takes by texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

from ecom_tasks.features import tables
from ecom_tasks.features.lines import days_before, goods, mean_interval, typed, within

_BITS = 32
"""A pair is one number: the customer's, then as many bits with the product's."""


@dataclass(frozen=True)
class Orders:
    """What was ordered of each product by each customer.

    Attributes
    ----------
    rows : pair, order, day, units, spend, bought, discounted and `several` (the order has lines of
        several days); one row for each pair, order and day.
    customers : customer, customer_id.
    products : product, product_id.
    """

    rows: pl.DataFrame
    customers: pl.DataFrame
    products: pl.DataFrame


def orders(lines: pl.LazyFrame, products: pl.LazyFrame, cutoff: date) -> Orders:
    """Gather the lines known at `cutoff` into orders, for `build_at` of this and earlier cutoffs.

    Parameters
    ----------
    lines : order_lines of whole customers (a bucket by customer_id)
    products : products of the data contract
    cutoff : last day known, inclusive
    """
    known = goods(lines, products, cutoff).filter(pl.col("customer_id").is_not_null())
    frame = known.select(
        "customer_id", "product_id", "order_id", "day", "bought", "units", "spend",
        (pl.col("discount") > 0).alias("discounted"),
    ).collect()  # fmt: skip
    customer, customers = _numbered(frame["customer_id"])
    product, sold = _numbered(frame["product_id"])
    order, _ = _numbered(frame["order_id"])
    rows = (
        frame
        .drop("customer_id", "product_id", "order_id")
        .with_columns((customer * 2**_BITS + product).alias("pair"), order.alias("order"))
        .with_columns((pl.col("day").min() != pl.col("day").max()).over("order").alias("several"))
        .group_by("pair", "order", "day", maintain_order=True)
        .agg(*_ORDER, pl.col("several").first())
        .sort(_IN_ORDER)
    )
    return Orders(
        rows,
        customers.to_frame().with_row_index("customer").cast({"customer": pl.Int64}),
        sold.to_frame().with_row_index("product").cast({"product": pl.Int64}),
    )


_ORDER = (
    pl.col("units", "spend").sum(), pl.col("bought").any(), pl.col("discounted").any(),
)  # fmt: skip
"""An order that holds the product on several lines is one order."""
_IN_ORDER = ("pair", ~pl.col("bought"), "day", "order")
"""Purchases of a pair first, so that each one stands below the one before."""


def _numbered(identifiers: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return the number of each identifier, and the identifiers by their numbers, sorted."""
    known = identifiers.unique().sort()
    return identifiers.cast(pl.Enum(known)).to_physical().cast(pl.Int64), known


def build(
    lines: pl.LazyFrame, products: pl.LazyFrame, cutoff: date, half_life_days: float
) -> pl.LazyFrame:
    """Return one row per customer and product with at least one purchase by `cutoff`.

    Parameters
    ----------
    lines, products, cutoff : as of `orders`
    half_life_days : age at which an order counts half in `recency_weighted_orders`

    Returns
    -------
    LazyFrame with the columns of `features.tables.CUSTOMER_PRODUCTS`, in store currency and days.
    """
    return build_at(orders(lines, products, cutoff), cutoff, half_life_days)


def build_at(known: Orders, cutoff: date, half_life_days: float) -> pl.LazyFrame:
    """Return what `build` does, of orders gathered for a cutoff that is not earlier."""
    bought = pl.col("bought")
    age = days_before(cutoff, pl.col("day"))
    paired = (pl.col("pair") == pl.col("pair").shift()) & bought & bought.shift()
    gap = pl.when(paired).then(pl.col("day").diff().dt.total_days())

    def weighted(half_life: float) -> pl.Expr:
        return pl.when(bought).then(0.5 ** (age / half_life)).otherwise(0.0).sum()

    day = pl.when(bought).then(pl.col("day"))
    rows = _known_by(known.rows, cutoff).with_columns(gap.alias("gap"))
    pairs = rows.group_by("pair").agg(
        bought.sum().alias("orders"),
        pl.col("units", "spend").sum(),
        day.min().alias("first"),
        day.max().alias("last"),
        (bought & (pl.col("gap").fill_null(1) > 0)).sum().alias("order_days"),
        (bought & within(28, cutoff)).sum().alias("orders_28d"),
        (bought & within(84, cutoff)).sum().alias("orders_84d"),
        weighted(half_life_days).alias("recency_weighted_orders"),
        weighted(half_life_days / 3).alias("fast_weighted_orders"),
        weighted(half_life_days * 2).alias("slow_weighted_orders"),
        (bought & pl.col("discounted")).sum().alias("discounted"),
    )
    return typed(
        pairs
        .filter(pl.col("orders") > 0)
        .join(_gaps(rows), on="pair", how="left")
        .with_columns(
            (pl.col("pair") // 2**_BITS).alias("customer"),
            (pl.col("pair") % 2**_BITS).alias("product"),
        )
        .join(known.customers.lazy(), on="customer")
        .join(known.products.lazy(), on="product")
        .sort("pair")
        .with_columns(
            pl.lit(cutoff).alias("cutoff"),
            days_before(cutoff, pl.col("first")).alias("days_since_first_order"),
            days_before(cutoff, pl.col("last")).alias("days_since_last_order"),
            mean_interval("first", "last", "order_days").alias("mean_days_between_orders"),
            (pl.col("discounted") / pl.col("orders")).alias("discounted_share"),
        ),
        tables.CUSTOMER_PRODUCTS,
    )


def _known_by(rows: pl.DataFrame, cutoff: date) -> pl.LazyFrame:
    """Return the orders as they were known, each in one row."""
    known = rows.lazy().filter(pl.col("day") <= cutoff)
    if not rows["several"].any():
        return known
    # Of an order whose lines have several days, the first counts, with the lines up to the cutoff.
    bound = (
        known
        .filter("several")
        .group_by("pair", "order", maintain_order=True)
        .agg(*_ORDER, pl.col("day").min(), pl.col("several").first())
    )
    once = known.filter(~pl.col("several"))
    return pl.concat([once, bound.select(rows.columns)]).sort(_IN_ORDER)


def _gaps(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Say how the days from one order to the next are spread, where there is a next one."""
    gap = pl.col("gap")
    return (
        rows
        .filter(gap > 0)
        .group_by("pair")
        .agg(
            gap.median().alias("median_days_between_orders"),
            gap.max().alias("longest_days_between_orders"),
            gap.std().alias("std_days_between_orders"),
        )
    )
