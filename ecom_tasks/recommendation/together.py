"""Frequently bought together: pairs of products that share more orders than chance would give.

Order lines in, a ranked table of pairs out. A pair is judged by its lift, and ranked by what the
lift is at least: of rare products a single shared order makes a lift of hundreds, and proves
nothing. Each product is compared with all others, and the luckiest of thousands would lead its
list; so the interval holds for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import gammaincinv

from ecom_tasks.recommendation.candidates.matrix import blocks

LEVEL = 0.95
"""Share of products none of whose lifts lies below its `lift_low`."""
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def together(
    parts: Iterable[pl.LazyFrame],
    k: int,
    *,
    min_orders: int = 10,
    min_together: int = 3,
    largest_order: int = 100,
) -> pl.DataFrame:
    """Return the products that each product is bought together with, the surest first.

    Left out are orders with more than `largest_order` products, from every count, also from the
    number of all orders; products in fewer than `min_orders` of the orders left; and pairs that
    share fewer than `min_together` orders, or whose `lift_low` is not above 1. A product that
    nothing is surely bought with has no row. Where orders differ much in size, any two products
    meet in the large ones, and the lift of strangers is itself above 1.

    Memory: one part, some 30 bytes for each distinct pair of order and product, and one block of
    products times all products in whole numbers; the table of all pairs is never held.

    Parameters
    ----------
    parts : order_id, product_id; bought only, returns left out; all of an order in one of them
    k : products per product, at most
    min_orders : that a product needs; bounds the table
    min_together : orders that a pair needs; of the many pairs of rare products some meet by chance
    largest_order : products; an order of n products has n squared pairs, so that a few orders of
        a whole range would take all the time, and say little of what goes together

    Returns
    -------
    DataFrame
        product_id, with_product_id, rank (from 1), orders_together, support (share of all orders
        that have both), confidence (share of the orders with product_id that have
        with_product_id too), lift, lift_low (see `lift_at_least`); sorted by product_id and rank.

    References
    ----------
    Brin, Motwani, Ullman and Tsur (1997), "Dynamic itemset counting and implication rules for
    market basket data", SIGMOD (lift, there called interest).
    """
    orders, products, all_orders = _encode(parts, min_orders, largest_order)
    counts = products["orders"].to_numpy().astype(np.int64)
    by_product = orders.T.tocsr()
    found = [_nothing()]
    for part in blocks(products.height):
        both = (by_product[part] @ orders).tocoo()
        keep = (both.data >= min_together) & (both.row + part.start != both.col)
        row, column = both.row[keep] + part.start, both.col[keep]
        pairs = _judged(row, column, both.data[keep], counts, all_orders)
        found.append(_best(pairs, k))
    return _named(pl.concat(found), products)


def lift_at_least(shared: IntArray, expected: FloatArray, compared: int = 1) -> FloatArray:
    """Return the lower end of the one-sided 95% interval of the lift.

    The orders that share a pair are counted as Poisson around a known expected number. This holds
    for few orders, where the normal approximation of the logarithm of the lift promises too much:
    of one shared order that says 0.19 of the lift at the least, and this says 0.05. It is never
    above that approximation: the delta method's variance of the logarithm, 1/shared - 1/a - 1/b +
    (2 lift - 1)/all with a and b the orders of either product, is at most 1/shared, since a pair
    shares at most the orders of the rarer one.

    Parameters
    ----------
    shared : orders that have both products, at least 1
    expected : number of them if the two were independent, above 0; same shape
    compared : pairs for which the interval holds at once (Bonferroni), at least 1

    References
    ----------
    Garwood (1936), "Fiducial limits for the Poisson distribution", Biometrika 28.
    """
    # The quantile depends on the count alone, and few counts differ.
    values, place = np.unique(shared, return_inverse=True)
    low = gammaincinv(values.astype(np.float64), (1 - LEVEL) / compared)
    return np.asarray(low[place] / expected, dtype=np.float64)


def _encode(
    parts: Iterable[pl.LazyFrame], min_orders: int, largest_order: int
) -> tuple[sparse.csr_matrix, pl.DataFrame, int]:
    """Return orders x products (1 where bought), the products, and the number of all orders.

    The products are product_id and orders, ascending by id.
    """
    ids = pl.DataFrame(schema={"product_id": pl.String, "number": pl.UInt32})
    rows, numbers, all_orders = [np.zeros(0, np.uint32)], [np.zeros(0, np.uint32)], 0
    for part in parts:
        baskets = part.select("order_id", "product_id").unique().collect()
        baskets = baskets.filter(pl.len().over("order_id") <= largest_order)
        others = baskets.select("product_id").unique().join(ids, on="product_id", how="anti")
        ids = pl.concat([
            ids,
            others.with_row_index("number", offset=ids.height).select(ids.columns),
        ])
        orders = baskets.select("order_id").unique().with_row_index("row", offset=all_orders)
        held = baskets.join(orders, on="order_id").join(ids, on="product_id")
        rows.append(held["row"].to_numpy())
        numbers.append(held["number"].to_numpy())
        all_orders += orders.height
    row, number = np.concatenate(rows), np.concatenate(numbers)
    counts = np.bincount(number, minlength=ids.height)
    products = (
        ids
        .with_columns(pl.Series("orders", counts, dtype=pl.Int64))
        .filter(pl.col("orders") >= min_orders)
        .sort("product_id")
    )
    column = np.full(ids.height, -1, dtype=np.int32)
    column[products["number"].to_numpy()] = np.arange(products.height)
    kept = column[number] >= 0
    at = (row[kept], column[number[kept]])
    ones = np.ones(len(at[0]), dtype=np.int32)
    matrix = sparse.csr_matrix((ones, at), shape=(all_orders, products.height))
    return matrix, products.drop("number"), all_orders


def _judged(
    row: IntArray, column: IntArray, shared: IntArray, counts: IntArray, all_orders: int
) -> pl.DataFrame:
    """Return row, column and the measures of each pair, rows and columns as products' numbers."""
    expected = counts[row] * counts[column] / all_orders
    low = lift_at_least(shared, expected, compared=max(len(counts) - 1, 1))
    return pl.DataFrame({
        "row": row.astype(np.int64),
        "column": column.astype(np.int64),
        "orders_together": shared.astype(np.int64),
        "support": shared / all_orders,
        "confidence": shared / counts[row],
        "lift": shared / expected,
        # An iteration finds it, whose last bits may differ from machine to machine.
        "lift_low": low.round(6),
    })


def _best(pairs: pl.DataFrame, k: int) -> pl.DataFrame:
    """Keep the `k` surest of each row; of equal ones the smaller product id goes first."""
    rank = pl.int_range(1, pl.len() + 1).over("row").cast(pl.Int64).alias("rank")
    return (
        pairs
        .filter(pl.col("lift_low") > 1)
        .sort(["row", "lift_low", "column"], descending=[False, True, False])
        .with_columns(rank)
        .filter(pl.col("rank") <= k)
    )


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema={
        "row": pl.Int64, "column": pl.Int64, "orders_together": pl.Int64, "support": pl.Float64,
        "confidence": pl.Float64, "lift": pl.Float64, "lift_low": pl.Float64, "rank": pl.Int64,
    })  # fmt: skip


def _named(pairs: pl.DataFrame, products: pl.DataFrame) -> pl.DataFrame:
    ids = products["product_id"]
    return pairs.select(
        ids.gather(pairs["row"]).alias("product_id"),
        ids.gather(pairs["column"]).alias("with_product_id"),
        "rank", "orders_together", "support", "confidence", "lift", "lift_low",
    )  # fmt: skip
