"""What the ranker knows about a candidate pair: generators, pair, customer, product, shelf.

Everything comes from one snapshot, so from before its cutoff. Promotions of the coming weeks are
used as far as they were announced by the cutoff.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

import polars as pl

from ecom_tasks.features import tables
from ecom_tasks.recommendation.candidates import SCORES, VIEWED
from ecom_tasks.recommendation.snapshots import PAIR, Snapshot
from ecom_tasks.tables import Table

_WEEKS = timedelta(days=28)
_MECHANICS = ("display", "mailer", "price_cut", "coupon")
_GROUPS = ("category", "aisle", "brand")
_OF_GROUP = (
    "orders", "recent_orders", "best_product", "products", "orders_28d", "days_since_last_order",
    "market_28d", "market_orders", "market_products", "product_share", "own_share",
)  # fmt: skip


def _measures(table: Table, prefix: str) -> list[str]:
    return [f"{prefix}{column.name}" for column in table.columns if column.type == "float"]


NAMES: tuple[str, ...] = (
    "is_new",
    *SCORES,
    *_measures(tables.CUSTOMER_PRODUCTS, ""),
    "overdue", "overdue_for_product", "overdue_for_median", "overdue_deviation", "order_share",
    "price_change",
    *_measures(tables.CUSTOMERS, "customer_"),
    *_measures(tables.PRODUCTS, "product_"),
    "product_trend", "product_last_discount",
    *(f"{when}_{mechanic}" for when in ("next", "past") for mechanic in _MECHANICS),
    *(f"{group}_{what}" for group in _GROUPS for what in _OF_GROUP),
)  # fmt: skip
"""The ranker's columns, in its order."""
ALL = (*NAMES, *VIEWED)
"""The same, for a shop that knows what was viewed."""


def names(columns: Collection[str]) -> list[str]:
    """Return the ranker's columns for a shop whose candidates have these columns."""
    return list(ALL if set(VIEWED) <= set(columns) else NAMES)


def build(candidates: pl.DataFrame, snapshot: Snapshot) -> pl.DataFrame:
    """Add the ranker's features to candidate pairs.

    Parameters
    ----------
    candidates : of `candidates.propose` on the same snapshot

    Returns
    -------
    DataFrame with customer_id, product_id and the columns of `names` (float32, null where
    unknown), sorted by pair; as many rows as `candidates`.
    """
    groups = _groups(snapshot.products)
    frame = (
        candidates
        .lazy()
        .join(snapshot.pairs.lazy().drop("cutoff"), on=PAIR, how="left")
        .join(_prefixed(snapshot.customers, "customer_"), on="customer_id", how="left")
        .join(_prefixed(snapshot.products, "product_"), on="product_id", how="left")
        .join(_promotions(snapshot), on="product_id", how="left")
        .join(groups.lazy(), on="product_id", how="left")
    )
    for group in _GROUPS:
        frame = frame.join(_of_customer(snapshot, groups, group), on=["customer_id", group],
                           how="left")  # fmt: skip
        frame = frame.join(_of_market(snapshot, groups, group), on=group, how="left")
    promoted = [name for name in NAMES if name.startswith(("next_", "past_"))]
    return (
        frame
        .with_columns(pl.col(promoted).fill_null(0))
        .with_columns(_ratios())
        .select(*PAIR, pl.col(names(candidates.columns)).cast(pl.Float32))
        .sort(PAIR)
        .collect()
    )


def _prefixed(table: pl.DataFrame, prefix: str) -> pl.LazyFrame:
    """Name the measures after what they measure; leave out names and texts."""
    measures = [name for name, dtype in table.schema.items() if dtype.is_float()]
    key = f"{prefix}id"
    return table.lazy().select(key, pl.col(measures).name.prefix(prefix))


def _groups(products: pl.DataFrame) -> pl.DataFrame:
    """Return the groups of each product: full category path, its first two levels, brand."""
    path = pl.col("category").str.split("/")
    aisle = path.list.head(2).list.join("/").alias("aisle")
    return products.select("product_id", "category", aisle, "brand")


def _of_customer(snapshot: Snapshot, groups: pl.DataFrame, group: str) -> pl.LazyFrame:
    """How much of a group the customer buys."""
    return (
        snapshot.pairs
        .lazy()
        .join(groups.lazy(), on="product_id")
        .filter(pl.col(group).is_not_null())
        .group_by("customer_id", group)
        .agg(
            pl.col("orders").sum().alias(f"{group}_orders"),
            pl.col("recency_weighted_orders").sum().alias(f"{group}_recent_orders"),
            pl.col("recency_weighted_orders").max().alias(f"{group}_best_product"),
            pl.len().alias(f"{group}_products"),
            pl.col("orders_28d").sum().alias(f"{group}_orders_28d"),
            pl.col("days_since_last_order").min().alias(f"{group}_days_since_last_order"),
        )
    )


def _of_market(snapshot: Snapshot, groups: pl.DataFrame, group: str) -> pl.LazyFrame:
    """How much of a group everyone buys."""
    return (
        snapshot.products
        .lazy()
        .select("product_id", "customers_28d", "orders")
        .join(groups.lazy(), on="product_id")
        .filter(pl.col(group).is_not_null())
        .group_by(group)
        .agg(
            pl.col("customers_28d").sum().alias(f"{group}_market_28d"),
            pl.col("orders").sum().alias(f"{group}_market_orders"),
            pl.len().alias(f"{group}_market_products"),
        )
    )


def _promotions(snapshot: Snapshot) -> pl.LazyFrame:
    """Count the promoting locations x weeks of the four weeks after and before the cutoff."""
    week, cutoff = pl.col("week_starts_on"), snapshot.cutoff
    periods = {
        "next": (week > cutoff) & (week <= cutoff + _WEEKS),
        "past": (week > cutoff - _WEEKS) & (week <= cutoff),
    }
    known = snapshot.calendar.lazy().filter(pl.col("announced_on") <= cutoff)
    return known.group_by("product_id").agg(
        pl.col(f"{mechanic}_locations").filter(period).sum().alias(f"{when}_{mechanic}")
        for when, period in periods.items()
        for mechanic in _MECHANICS
    )


def _ratio(above: str, below: str) -> pl.Expr:
    return pl.when(pl.col(below) > 0).then(pl.col(above) / pl.col(below))


def _ratios() -> list[pl.Expr]:
    weeks_on_sale = pl.min_horizontal(pl.col("product_days_since_first_sale") + 1, pl.lit(365)) / 28
    usual = pl.col("product_units") / weeks_on_sale
    return [
        _ratio("days_since_last_order", "mean_days_between_orders").alias("overdue"),
        _ratio("days_since_last_order", "product_mean_days_between_purchases")
        .alias("overdue_for_product"),
        _ratio("days_since_last_order", "median_days_between_orders").alias("overdue_for_median"),
        # Three days of slack: gaps that happen to be equal are not that certain.
        (
            (pl.col("days_since_last_order") - pl.col("mean_days_between_orders"))
            / (pl.col("std_days_between_orders") + 3)
        ).alias("overdue_deviation"),
        _ratio("orders", "customer_orders").alias("order_share"),
        pl
        .when((pl.col("spend") > 0) & (pl.col("units") > 0))
        .then(pl.col("product_last_price") * pl.col("units") / pl.col("spend"))
        .alias("price_change"),
        pl.when(usual > 0).then(pl.col("product_units_28d") / usual).alias("product_trend"),
        _ratio("product_last_price", "product_regular_price").alias("product_last_discount"),
        *(
            _ratio("product_customers_28d", f"{group}_market_28d").alias(f"{group}_product_share")
            for group in _GROUPS
        ),
        *(
            _ratio("recency_weighted_orders", f"{group}_recent_orders").alias(f"{group}_own_share")
            for group in _GROUPS
        ),
    ]  # fmt: skip
