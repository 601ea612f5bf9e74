"""The shop as a weekly panel: a row a product, store and week, and the truth beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from ecom_tasks.sample_store.weeks import Week, live
from ecom_tasks.sample_store.world import MECHANICS, World


def rows(world: World) -> Iterator[pl.DataFrame]:
    """Yield the panel, one frame a week.

    Returns
    -------
    Frames with product, store, week (its Monday), category, price, regular_price, unit_cost (store
    currency per unit), units (sold), sold_out (whether more was wanted), price_cut, display, mailer
    (0, 1).
    """
    for week in live(world):
        yield of_week(world, week)


def of_week(world: World, week: Week) -> pl.DataFrame:
    """Return a week's rows of the panel, see `rows`."""
    stores = world.scale.stores
    categories = np.array(world.category_names)[world.category]
    frame = pl.DataFrame({
        "product": np.repeat(world.product_ids, stores),
        "store": np.tile(world.store_ids, world.scale.products),
        "category": np.repeat(categories, stores),
        "price": week.price.ravel(),
        "regular_price": week.regular_price.ravel(),
        "unit_cost": week.unit_cost.ravel(),
        "units": week.sold.ravel(),
        "sold_out": (week.wanted > week.sold).ravel(),
        **{
            name: week.promoted[..., place].ravel().astype(np.int8)
            for place, name in enumerate(MECHANICS)
        },
    })
    return frame.insert_column(2, pl.lit(week.starts_on).alias("week"))


def simulate(world: World) -> pl.DataFrame:
    """Return the whole panel in memory, sorted by product, store and week."""
    return pl.concat(rows(world)).sort("product", "store", "week")


def write(world: World, path: Path) -> int:
    """Write the panel week by week and return its rows; memory holds one week."""
    import pyarrow.parquet as pq

    count = 0
    writer = None
    for frame in rows(world):
        table = frame.to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
        count += frame.height
    if writer:
        writer.close()
    return count


def own_truth(world: World) -> pl.DataFrame:
    """Return product, category, elasticity, base_price, unit_cost."""
    return pl.DataFrame({
        "product": world.product_ids,
        "category": np.array(world.category_names)[world.category],
        "elasticity": world.elasticity.diagonal(),
        "base_price": world.base_price,
        "unit_cost": world.cost,
    })


def cross_truth(world: World) -> pl.DataFrame:
    """Return product, other, elasticity (of product's units on other's price) where not zero."""
    off = world.elasticity - np.diag(world.elasticity.diagonal())
    first, second = np.nonzero(off)
    names = np.array(world.product_ids)
    return pl.DataFrame({
        "product": names[first],
        "other": names[second],
        "elasticity": off[first, second],
    })
