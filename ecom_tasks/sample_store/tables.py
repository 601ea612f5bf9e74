"""The shop as a source: the tables of the data contract as Parquet files, streamed.

Order lines are written week by week, so that a hundred million of them need the memory of one week.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from ecom_tasks.sample_store import panel
from ecom_tasks.sample_store.weeks import START, Week, live
from ecom_tasks.sample_store.world import MECHANICS, Array, Ints, World

# Weeks between counts of the stock; the last week is always counted.
_STOCK_EVERY = 4


def write(world: World, folder: Path) -> int:
    """Write every table below `folder` and return the number of order lines.

    `truth/` holds what no shop knows: own.parquet and cross.parquet.
    """
    for name in ("order_lines", "promotions", "prices", "stock", "truth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _products(world).write_parquet(folder / "products.parquet")
    _customers(world).write_parquet(folder / "customers.parquet")
    _supply(world).write_parquet(folder / "supply.parquet")
    panel.own_truth(world).write_parquet(folder / "truth" / "own.parquet")
    panel.cross_truth(world).write_parquet(folder / "truth" / "cross.parquet")
    buyers = Buyers(world)
    count = 0
    before: Array | None = None
    for week in live(world):
        part = f"week={week.number:04d}.parquet"
        lines = buyers.lines(week)
        lines.write_parquet(folder / "order_lines" / part)
        count += lines.height
        _promotions(world, week).write_parquet(folder / "promotions" / part)
        _prices(world, week, before).write_parquet(folder / "prices" / part)
        before = week.regular_price
        if (world.scale.weeks - 1 - week.number) % _STOCK_EVERY == 0:
            _stock(world, week).write_parquet(folder / "stock" / part)
    return count


class Buyers:
    """Who buys: a unit goes to a customer of the store, the likelier the more he likes its kind."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._of_store = [
            np.flatnonzero(world.home == store) for store in range(world.scale.stores)
        ]
        # Favourites within a category, so that customers come back to the same products.
        rng = np.random.default_rng([world.scale.seed, 4])
        self._cumulative = [
            np.cumsum(world.affinity[members], axis=0) for members in self._of_store
        ]
        self._salt = rng.integers(1 << 30, size=world.scale.products)
        self._ids = pl.Series(world.customer_ids)

    def lines(self, week: Week) -> pl.DataFrame:
        """Return the week's order lines; their units add up to `week.sold`."""
        world = self._world
        rng = np.random.default_rng([world.scale.seed, 5, week.number])
        parts = [
            self._store(rng, week, store) for store in range(world.scale.stores)
        ]  # fmt: skip
        product = np.concatenate([part[0] for part in parts])
        customer = np.concatenate([part[1] for part in parts])
        store = world.home[customer]
        day = (customer * 7919 + week.number * 104729) % 7
        lines = (
            pl
            .DataFrame({"product": product, "customer": customer, "store": store, "day": day})
            .group_by("customer", "product", maintain_order=False)
            .agg(pl.len().cast(pl.Float64).alias("quantity"), pl.first("store", "day"))
            .sort("customer", "product")
        )
        return self._named(lines, week)

    def _store(self, rng: np.random.Generator, week: Week, store: int) -> tuple[Ints, Ints]:
        """Hand out the units of a store, one buyer each."""
        world, members = self._world, self._of_store[store]
        units = week.sold[:, store].astype(np.int64)
        product = np.repeat(np.arange(len(units)), units)
        # Two draws, of which the one nearer to a product's own place wins: buyers have favourites.
        draw = rng.random(len(product))
        own = (self._salt[product] % 997) / 997
        spread = rng.beta(0.35, 1.0, len(product)) * 0.5 * np.where(draw < 0.5, -1, 1)
        place = (own + spread) % 1.0
        customer = np.empty(len(product), dtype=np.int64)
        for category in np.unique(world.category[product]):
            rows = world.category[product] == category
            total = self._cumulative[store][:, category]
            at = np.searchsorted(total, place[rows] * total[-1], side="right")
            customer[rows] = members[np.minimum(at, len(members) - 1)]
        return product, customer

    def _named(self, lines: pl.DataFrame, week: Week) -> pl.DataFrame:
        world = self._world
        product, store = lines["product"].to_numpy(), lines["store"].to_numpy()
        price, regular = week.price[product, store], week.regular_price[product, store]
        hour = pl.duration(days=pl.col("day"), hours=9 + pl.col("customer") % 11)
        return lines.select(
            pl.format("{}-{}", pl.lit(week.number), "customer").alias("order_id"),
            pl.int_range(1, pl.len() + 1).over("customer").alias("line_number"),
            self._ids.gather(lines["customer"]).alias("customer_id"),
            pl.Series("product_id", np.array(world.product_ids)[product]),
            "quantity",
            pl.Series("unit_price", price),
            (pl.lit(week.starts_on).cast(pl.Datetime("us")) + hour).alias("ordered_at"),
            pl.Series("location_id", np.array(world.store_ids)[store]),
            ((pl.Series(regular) - pl.Series(price)) * pl.col("quantity"))
            .round(2)
            .alias("discount"),
            pl.Series("regular_price", regular),
        )


def _products(world: World) -> pl.DataFrame:
    names = np.array(world.category_names)[world.category]
    return pl.DataFrame({
        "product_id": world.product_ids,
        "title": [f"{name.split('/')[1]} article {number}" for number, name in enumerate(names)],
        "category": names,
        "brand": [f"Brand {letter}" for letter in np.array(list("ABCDEF"))[world.brand]],
        "size": [["250 g", "500 g", "1 kg"][number % 3] for number in range(len(names))],
        "regular_price": world.base_price,
        "unit_cost": world.cost,
        "launched_on": [START] * len(names),
    })


def _customers(world: World) -> pl.DataFrame:
    return pl.DataFrame({
        "customer_id": world.customer_ids,
        "region": np.array(world.store_ids)[world.home],
        "segment": world.segment_names,
        "signed_up_on": [START] * world.scale.customers,
    })


def _supply(world: World) -> pl.DataFrame:
    stores = world.scale.stores
    return pl.DataFrame({
        "product_id": np.repeat(world.product_ids, stores),
        "location_id": np.tile(world.store_ids, world.scale.products),
        "lead_time_days": np.repeat(world.lead_time * 7.0, stores),
        "unit_cost": np.repeat(world.cost, stores),
    })


def _keys(world: World) -> pl.DataFrame:
    return pl.DataFrame({
        "product_id": np.repeat(world.product_ids, world.scale.stores),
        "location_id": np.tile(world.store_ids, world.scale.products),
    })


def _promotions(world: World, week: Week) -> pl.DataFrame:
    depth = 1 - week.price / week.regular_price
    parts = [
        _keys(world).with_columns(
            pl.lit(week.starts_on).alias("starts_on"),
            pl.lit(name).alias("mechanic"),
            pl.lit(week.starts_on).dt.offset_by("6d").alias("ends_on"),
            pl.lit(week.starts_on).dt.offset_by("-28d").alias("announced_on"),
            pl.Series("depth", depth.ravel().clip(0.0, 1.0)),
        ).filter(pl.Series(week.promoted[..., place].ravel()))
        for place, name in enumerate(MECHANICS)
    ]  # fmt: skip
    return pl.concat(parts)


def _prices(world: World, week: Week, before: Array | None) -> pl.DataFrame:
    """Return the regular prices that are new this week, each with what a unit costs then."""
    frame = _keys(world).with_columns(
        pl.lit(week.starts_on).alias("valid_from"),
        pl.Series("regular_price", week.regular_price.ravel()),
        pl.Series("unit_cost", week.unit_cost.ravel()),
    )
    if before is None:
        return frame
    return frame.filter(pl.Series((week.regular_price != before).ravel()))


def _stock(world: World, week: Week) -> pl.DataFrame:
    return _keys(world).with_columns(
        pl.lit(week.starts_on).dt.offset_by("6d").alias("snapshot_on"),
        pl.Series("on_hand", week.on_hand.ravel()),
        pl.Series("on_order", week.on_order.ravel()),
    )
