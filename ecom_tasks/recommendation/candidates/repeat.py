"""Buy again: the customer's own past products, the most and most recently bought first."""

from __future__ import annotations

import polars as pl

from ecom_tasks.metrics.ranking import rank_within
from ecom_tasks.recommendation.config import RecommendationConfig

NAME = "repeat"


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose each customer's own products; the score is the recency-weighted orders.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator
    """
    own = interactions.select(
        "customer_id", "product_id", pl.col("recency_weighted_orders").alias("score")
    )
    return rank_within(own, config.repeat_candidates).select(
        "customer_id", "product_id", "score", pl.lit(NAME).alias("generator")
    )


def typical_interval(interactions: pl.DataFrame, products: pl.DataFrame) -> pl.DataFrame:
    """Return how many days usually pass between two orders of a product by a customer.

    The customer's own mean, drawn towards the mean of all buyers of the product as if two of
    its gaps had been seen; null where neither is known.

    Parameters
    ----------
    interactions : customer_id, product_id, orders, mean_days_between_orders
    products : product_id, mean_days_between_purchases

    Returns
    -------
    DataFrame with customer_id, product_id, interval_days
    """
    prior_gaps = 2
    gaps = pl.col("orders") - 1
    own, usual = pl.col("mean_days_between_orders"), pl.col("mean_days_between_purchases")
    drawn = (gaps * own + prior_gaps * usual) / (gaps + prior_gaps)
    return interactions.join(products, on="product_id", how="left").select(
        "customer_id", "product_id", pl.coalesce(drawn, own, usual).alias("interval_days")
    )


def due(interactions: pl.DataFrame, products: pl.DataFrame) -> pl.DataFrame:
    """Return in how many days each customer is likely to need each own product again.

    Parameters
    ----------
    interactions : customer_id, product_id, orders, mean_days_between_orders,
        days_since_last_order
    products : product_id, mean_days_between_purchases

    Returns
    -------
    DataFrame
        customer_id, product_id, due_in_days: the typical interval, in whole days as the reason
        of a list states it, less the days since the last order; negative: overdue; null where
        no interval is known. Rows as in `interactions`.
    """
    pair = ["customer_id", "product_id"]
    passed = interactions.select(*pair, "days_since_last_order")
    left = pl.col("interval_days").round(0) - pl.col("days_since_last_order")
    return passed.join(
        typical_interval(interactions, products), on=pair, how="left", maintain_order="left"
    ).select(*pair, left.cast(pl.Int64).alias("due_in_days"))
