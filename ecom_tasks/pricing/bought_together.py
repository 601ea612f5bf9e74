"""Products of a category that share more orders than chance would give: likely complements.

A large category has more pairs than can be measured, and those that go together are no more alike
in price than others. Orders say which they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from ecom_tasks.pricing.panel import with_catalogue

# Products of a category in an order; beyond, it is a range that was bought and not a basket.
_LARGEST = 50
_LEAST_ORDERS = 5
# Standard deviations beyond chance from which a pair counts.
_BEYOND = 3.0


@dataclass(frozen=True)
class Counts:
    """What the orders of some customers tell; whole orders, so that counts add up.

    Attributes
    ----------
    pairs : first, second, orders (that have both); first < second
    products : product_id, orders
    categories : category, orders (that have anything of it)
    """

    pairs: pl.DataFrame
    products: pl.DataFrame
    categories: pl.DataFrame


def count(lines: pl.LazyFrame, catalogue: pl.DataFrame, as_of: date) -> Counts:
    """Count the orders of products and of pairs of a category.

    Parameters
    ----------
    lines : order_lines of the data contract, whole orders (a bucket by customer)
    catalogue : product_id, category (path)
    as_of : last day known, inclusive
    """
    bought = lines.filter(
        ~pl.col("returned").fill_null(value=False)
        & (pl.col("ordered_at") < as_of + timedelta(days=1))
        & (pl.col("quantity") > 0)
    )
    sold = bought.select("order_id", "product_id").collect()
    names = with_catalogue(sold.select(pl.col("product_id").unique().sort()), catalogue)
    known = pl.Enum(names["product_id"])
    # Numbers in place of names: joining and counting by text takes four times the time.
    baskets = (
        sold
        .select(
            pl.col("order_id").cast(pl.Categorical).to_physical().alias("order"),
            pl.col("product_id").cast(known).to_physical().cast(pl.UInt32).alias("product"),
        )
        .unique()
        .join(
            names.select(
                pl.row_index("product").cast(pl.UInt32),
                pl.col("category").rank("dense").alias("shelf"),
            ),
            on="product",
        )
    )
    here = ["order", "shelf"]
    baskets = baskets.filter(pl.len().over(here) <= _LARGEST)
    both = baskets.filter(pl.len().over(here) > 1)
    orders = pl.len().cast(pl.Int64).alias("orders")
    pairs = (
        both
        .rename({"product": "first"})
        .join(both.rename({"product": "second"}), on=here)
        .filter(pl.col("first") < pl.col("second"))
        .group_by("first", "second")
        .agg(orders)
    )

    def named(frame: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
        number = names.select(name, pl.row_index(column).cast(pl.UInt32))
        return frame.join(number, on=column).drop(column).rename({name: column})

    shelves = names.select("category", pl.col("category").rank("dense").alias("shelf")).unique()
    return Counts(
        named(named(pairs, "first", "product_id"), "second", "product_id").select(
            "first", "second", "orders"
        ),
        named(baskets.group_by("product").agg(orders), "product", "product_id").select(
            pl.col("product").alias("product_id"), "orders"
        ),
        baskets
        .select(here)
        .unique()
        .group_by("shelf")
        .agg(orders)
        .join(shelves, on="shelf")
        .select("category", "orders"),
    )


def pairs(counts: Iterable[Counts], catalogue: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs that chance does not explain, both ways.

    Among the orders that have anything of the category, both products of a pair would meet by
    chance in expected = (orders of one) * (of the other) / (all of these).

    Parameters
    ----------
    counts : see `count`; all customers. One after the other is added to the sum of all

    Returns
    -------
    DataFrame
        product_id, other_id, orders, expected, score: (orders - expected) / root of expected, which
        is taken to be at least 1. Pairs of at least 5 orders and a score above 3, for
        `cross.candidates`.
    """
    total = _total(counts)
    products = with_catalogue(total.products, catalogue)
    products = products.join(total.categories.rename({"orders": "all"}), on="category")
    expected = (pl.col("orders_first") * pl.col("orders_second") / pl.col("all")).alias("expected")
    beyond = (pl.col("orders") - pl.col("expected")) / pl.col("expected").clip(lower_bound=1).sqrt()
    known = (
        total.pairs
        .filter(pl.col("orders") >= _LEAST_ORDERS)
        .join(
            products.select(
                pl.col("product_id").alias("first"), pl.col("orders").alias("orders_first"), "all"
            ),
            on="first",
        )
        .join(
            products.select(
                pl.col("product_id").alias("second"), pl.col("orders").alias("orders_second")
            ),
            on="second",
        )
        .with_columns(expected)
        .with_columns(beyond.round(6).alias("score"), pl.col("expected").round(6))
        .filter(pl.col("score") > _BEYOND)
    )
    ways = [
        known.select(
            pl.col(one).alias("product_id"), pl.col(other).alias("other_id"), "orders", "expected",
            "score",
        )
        for one, other in (("first", "second"), ("second", "first"))
    ]  # fmt: skip
    return pl.concat(ways).sort("product_id", "other_id").select(empty().columns)


def _total(counts: Iterable[Counts]) -> Counts:
    """Add up what all customers tell. Memory: the sum, and as much again that waits for it."""
    total, waiting = _nothing(), list[Counts]()
    for each in counts:
        waiting.append(each)
        if sum(one.pairs.height for one in waiting) > total.pairs.height:
            total, waiting = _sum([total, *waiting]), []
    return _sum([total, *waiting])


def _sum(counts: Sequence[Counts]) -> Counts:
    """Add counts up."""

    def added(frames: list[pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(frames).group_by(pl.exclude("orders")).agg(pl.col("orders").sum())

    return Counts(
        added([each.pairs for each in counts]),
        added([each.products for each in counts]),
        added([each.categories for each in counts]),
    )


def _nothing() -> Counts:
    """Return the counts of no orders."""

    def no_rows(*names: str) -> pl.DataFrame:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String) | {"orders": pl.Int64()})

    return Counts(no_rows("first", "second"), no_rows("product_id"), no_rows("category"))


def empty() -> pl.DataFrame:
    """Return no pairs."""
    return pl.DataFrame(schema={
        "product_id": pl.String, "other_id": pl.String, "orders": pl.Int64, "expected": pl.Float64,
        "score": pl.Float64,
    })  # fmt: skip
