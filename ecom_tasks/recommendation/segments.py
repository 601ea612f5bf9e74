"""Segments: the shop's own where it names them, else a plain rule on how customers buy."""

from __future__ import annotations

import polars as pl

NEW, LAPSING, LOYAL, OCCASIONAL = "new", "lapsing", "loyal", "occasional"
NEW_DAYS = 28
"""Days since the first order within which a customer is new; the time between two cutoffs."""


def segments(customers: pl.DataFrame, named: pl.DataFrame | None = None) -> pl.DataFrame:
    """Put each customer into one segment.

    The shop's own name goes first. Customers whom it does not name are told apart by recency,
    frequency and spend, each cut where two thirds of the customers who are not new lie below:

    - `new`: first order less than 28 days ago, or none yet
    - `lapsing`: last order longer ago than that of two thirds
    - `loyal`: more orders than two thirds, and more spend than two thirds
    - `occasional`: all others

    The first that fits counts. As ties lie on the same side of a cut, a third may be smaller.

    Parameters
    ----------
    customers : customer_id, orders, spend, days_since_first_order, days_since_last_order
    named : customer_id, segment (may be null), of the data contract's customers, also of
        customers who have not ordered; None where the shop has no such table

    Returns
    -------
    DataFrame with customer_id, segment; sorted by customer_id

    References
    ----------
    Hughes (2005), "Strategic database marketing", 3rd ed., McGraw-Hill (recency, frequency,
    monetary value by quantiles).
    """
    ruled = customers.select("customer_id", _rule().alias("ruled"))
    if named is None:
        named = customers.clear().select("customer_id", pl.lit("").alias("segment"))
    return (
        ruled
        .join(named.select("customer_id", "segment"), on="customer_id", how="full", coalesce=True)
        .select("customer_id", pl.coalesce("segment", "ruled", pl.lit(NEW)).alias("segment"))
        .sort("customer_id")
    )


def _rule() -> pl.Expr:
    fresh = pl.col("days_since_first_order") < NEW_DAYS

    def above_two_thirds(name: str) -> pl.Expr:
        below = pl.col(name).rank("min").over(fresh) - 1
        return 3 * below.cast(pl.Int64) >= 2 * pl.len().over(fresh).cast(pl.Int64)

    return (
        pl.when(fresh).then(pl.lit(NEW))
        .when(above_two_thirds("days_since_last_order")).then(pl.lit(LAPSING))
        .when(above_two_thirds("orders") & above_two_thirds("spend")).then(pl.lit(LOYAL))
        .otherwise(pl.lit(OCCASIONAL))
    )  # fmt: skip
