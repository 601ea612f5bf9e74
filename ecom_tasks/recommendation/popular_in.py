"""Popular lists by group: for all, within a category, within a segment of customers.

For pages that show a category, and for visitors of whom no more is known than their segment.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from ecom_tasks import texts
from ecom_tasks.recommendation import segments
from ecom_tasks.recommendation.candidates.matrix import by_customers

ALL = "all"
CATEGORY = "category"
SEGMENT = "segment"
PAIR = ("customer_id", "product_id")
SEGMENT_LIST = "popular with new customers"
ALL_LIST = "popular with all"
EVER_LIST = "most customers ever"
"""Ways to serve a customer of whom nothing is known."""


def popular_in(
    parts: Iterable[pl.DataFrame],
    groups: pl.DataFrame,
    k: int,
    *,
    half_life_days: float = 28.0,
    min_customers: int = 3,
) -> pl.DataFrame:
    """Return the most popular products of each group.

    The score adds up the customers who bought the product, each once: 1 for an order on the day
    of the cutoff, half for every `half_life_days` since the customer's last order of it.

    Parameters
    ----------
    parts : customer_id, product_id, days_since_last_order; a pair once in all of them
    groups : scope, name, and product_id or customer_id: what or who belongs to the group; each
        may belong to several, as of `everyone`, `categories` and `of_segments`
    k : products per group, at most
    min_customers : of the group who bought a product; fewer are no crowd, and would show what
        one person bought

    Returns
    -------
    DataFrame with scope, name, rank (from 1), product_id, score; sorted by scope, name and rank.
    Of equal scores the smaller product id goes first.
    """
    group = ["scope", "name"]
    by = next(name for name in PAIR if name in groups.columns)
    weight = 0.5 ** (pl.col("days_since_last_order") / half_life_days)
    counted = pl.concat(
        texts.own(
            part
            .join(groups, on=by)
            .group_by(*group, "product_id")
            .agg(weight.sum().alias("score"), pl.len().alias("customers"))
        )
        for part in parts
    )
    # Rounded, as sums of floats differ in their last bits with the order of addition.
    scored = (
        counted
        .group_by(*group, "product_id")
        .agg(pl.col("score").sum().round(6), pl.col("customers").sum())
        .filter(pl.col("customers") >= min_customers)
    )
    rank = pl.int_range(1, pl.len() + 1).over(group).cast(pl.Int64).alias("rank")
    return (
        scored
        .sort([*group, "score", "product_id"], descending=[False, False, True, False])
        .with_columns(rank)
        .filter(pl.col("rank") <= k)
        .select(*group, "rank", "product_id", "score")
    )


def everyone(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return scope, name and customer_id of the one group of all customers.

    Parameters
    ----------
    parts : customer_id; a customer in one of them
    """
    customers = pl.concat(texts.own(part.select("customer_id").unique()) for part in parts)
    return customers.select(pl.lit(ALL).alias("scope"), pl.lit(ALL).alias("name"), "customer_id")


def categories(products: pl.DataFrame) -> pl.DataFrame:
    """Return scope, name (category path) and product_id of each category and all above it.

    A product of `drinks/beer` belongs to `drinks/beer` and to `drinks`.

    Parameters
    ----------
    products : product_id, category (path, separated by /; a null belongs nowhere)
    """
    rows = [
        (path, path.rsplit("/", up)[0])
        for path in products["category"].drop_nulls().unique()
        for up in range(path.count("/") + 1)
    ]
    above = pl.DataFrame(rows, schema={"category": pl.String, "name": pl.String}, orient="row")
    return products.join(above, on="category").select(
        pl.lit(CATEGORY).alias("scope"), "name", "product_id"
    )


def of_segments(named: pl.DataFrame) -> pl.DataFrame:
    """Return scope, name and customer_id of each segment.

    Parameters
    ----------
    named : customer_id, segment
    """
    return named.select(
        pl.lit(SEGMENT).alias("scope"), pl.col("segment").alias("name"), "customer_id"
    )


def popular(
    parts: Iterable[pl.DataFrame],
    products: pl.DataFrame,
    named: pl.DataFrame,
    k: int,
    *,
    half_life_days: float = 28.0,
    min_customers: int = 3,
) -> pl.DataFrame:
    """Return the lists of all scopes in one table, as `popular_in` does for one.

    A new customer is served by the segment `new` (or the shop's own), and where that has no
    list, by scope `all`.

    Parameters
    ----------
    parts : customer_id, product_id, days_since_last_order, of what may be shown; gone through
        several times
    products : product_id, category
    named : customer_id, segment
    """
    return pl.concat([
        popular_in(parts, groups, k, half_life_days=half_life_days, min_customers=min_customers)
        for groups in (everyone(parts), categories(products), of_segments(named))
    ])


def for_newcomers(
    parts: Iterable[pl.DataFrame], customers: pl.DataFrame, k: int, half_life_days: float
) -> dict[str, pl.DataFrame]:
    """Return what may be shown to a customer of whom nothing is known, by name of the way.

    Parameters
    ----------
    parts : customer_id, product_id, days_since_last_order, of products that may be ranked; gone
        through several times
    customers : the feature table, for the segment of new customers

    Returns
    -------
    product_id, rank of: what new customers buy, then what all buy (as is published); what all buy;
    and as the plain baseline what most customers ever bought
    """
    young = segments.segments(customers).filter(pl.col("segment") == segments.NEW)
    ways = {"new customers": of_segments(young), "all": everyone(parts)}
    lists = {
        name: popular_in(parts, groups, k, half_life_days=half_life_days)
        for name, groups in ways.items()
    }
    served = pl.concat([each.select("product_id") for each in lists.values()])
    in_order = {
        SEGMENT_LIST: served.unique(maintain_order=True),
        ALL_LIST: lists["all"],
        EVER_LIST: by_customers(parts),
    }
    return {
        name: each.select("product_id", (pl.int_range(pl.len()) + 1).alias("rank")).head(k)
        for name, each in in_order.items()
    }


def filling(lists: pl.DataFrame) -> pl.DataFrame:
    """Return segment (null: for all), product_id, score of the lists that fill up others.

    Parameters
    ----------
    lists : of `popular`
    """
    segment = pl.when(pl.col("scope") == SEGMENT).then("name").alias("segment")
    whole = pl.col("scope").is_in([ALL, SEGMENT])
    return lists.filter(whole).select(segment, "product_id", "score")
