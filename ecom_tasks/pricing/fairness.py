"""What groups of customers paid, compared: a report, never an input of a price.

Prices are the same for everybody. Groups still pay differently: they buy other goods, in other
weeks, with other coupons. What is left when product, place and week are the same is shown beside.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

_DECIMALS = 6
UNKNOWN = "unknown"


def sums(lines: pl.LazyFrame, customers: pl.LazyFrame | None, as_of: date) -> pl.DataFrame:
    """Add up what each group paid, over whole products (a bucket by product).

    Parameters
    ----------
    lines : order_lines of the data contract
    customers : customer_id, segment; None where the shop has none
    as_of : last day known, inclusive

    Returns
    -------
    DataFrame
        segment, paid, regular (the same goods at regular prices), usual (at what all buyers of the
        product paid in that place and week, on average), known (paid for goods whose regular price
        is known); store currency.
    """
    paid = pl.col("quantity") * pl.col("unit_price")
    bought = lines.filter(
        ~pl.col("returned").fill_null(value=False)
        & (pl.col("unit_price") > 0)
        & (pl.col("ordered_at") < as_of + timedelta(days=1))
    ).select(
        "customer_id",
        "product_id",
        "location_id",
        pl.col("ordered_at").dt.truncate("1w").alias("week"),
        "quantity",
        "regular_price",
        paid.alias("paid"),
    )
    here = ["product_id", "location_id", "week"]
    mean = pl.col("paid").sum().over(here) / pl.col("quantity").sum().over(here)
    # A gift or a coupon may lie above the regular price of the table: then nothing was taken off.
    known = pl.col("regular_price").is_not_null()
    regular = pl.max_horizontal("paid", pl.col("regular_price") * pl.col("quantity"))
    each = bought.with_columns((mean * pl.col("quantity")).alias("usual"))
    if customers is None:
        each = each.with_columns(pl.lit(UNKNOWN).alias("segment"))
    else:
        each = each.join(
            customers.select("customer_id", "segment"), on="customer_id", how="left"
        ).with_columns(pl.col("segment").fill_null(UNKNOWN))
    return (
        each
        .group_by("segment")
        .agg(
            pl.col("paid").sum(),
            regular.filter(known).sum().alias("regular"),
            pl.col("usual").sum(),
            pl.col("paid").filter(known).sum().alias("known"),
        )
        .sort("segment")
        .collect()
    )


def compare(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Compare groups over all products.

    Parameters
    ----------
    parts : see `sums`, one a bucket

    Returns
    -------
    DataFrame
        segment, paid (store currency), discount (share off regular prices; null if unknown) and
        beside_others (paid over what all paid for the same product, place and week, less 1).
    """
    total = pl.concat(parts).group_by("segment").agg(pl.exclude("segment").sum()).sort("segment")
    return total.select(
        "segment",
        pl.col("paid").round(2),
        pl
        .when(pl.col("regular") > 0)
        .then(1 - pl.col("known") / pl.col("regular"))
        .round(_DECIMALS)
        .alias("discount"),
        (pl.col("paid") / pl.col("usual") - 1).round(_DECIMALS).alias("beside_others"),
    )
