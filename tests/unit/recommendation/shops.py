"""Snapshots of small shops, made with the feature tables themselves."""

from __future__ import annotations

from datetime import date

import polars as pl

from ecom_tasks.features import customers, demand, interactions, products
from ecom_tasks.recommendation.snapshots import Overview, Snapshot
from tests.builders import Shop


def snapshot(shop: Shop, cutoff: date) -> Snapshot:
    """What was known of `shop` at `cutoff`; orders count half after 84 days."""
    lines, goods, plans = (
        table.lazy() for table in (shop.order_lines, shop.products, shop.promotions)
    )
    return Snapshot(
        cutoff=cutoff,
        customers=customers.build(lines, goods, cutoff).collect(),
        products=products.build(lines, goods, cutoff).collect(),
        pairs=interactions.build(lines, goods, cutoff, 84.0).collect(),
        calendar=demand.promotion_calendar(plans, goods, shop.as_of, 8).collect(),
    )


def overview(known: Snapshot) -> Overview:
    """The same of all customers, their pairs in three parts."""
    parts = pl.col("customer_id").hash(seed=1) % 3
    pairs = [known.pairs.filter(parts == part) for part in range(3)]
    return Overview(known.cutoff, known.customers, known.products, pairs)


def block_of(name: str) -> pl.Expr:
    """Block that a customer or product of `block_shop` belongs to."""
    return pl.col(name).str.head(2)


NOTHING = pl.DataFrame(
    schema={"customer_id": pl.String, "product_id": pl.String, "score": pl.Float64,
            "generator": pl.String}
)  # fmt: skip
"""What a generator proposes that knows nobody."""
