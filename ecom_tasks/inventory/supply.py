"""Supply terms and stock of every series: what the shop says, else what is assumed and marked."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.features import last_known, plans_reach
from ecom_tasks.inventory.panel import Panel
from ecom_tasks.inventory.series import ALL_LOCATIONS, KEY

TERMS = (
    "lead_time_days", "lead_time_days_std", "pack_size", "minimum_order_quantity", "unit_cost",
    "holding_cost_rate",
)  # fmt: skip
_AIMS = {
    "fill_rate": "a share of demand met at once",
    "cycle_service": "a probability of no stock-out in each cycle",
    "cost": "the least cost of lost margin and holding, whatever the service level",
}


def supply_terms(
    series: pl.DataFrame,
    supply: pl.LazyFrame | None,
    products: pl.LazyFrame,
    config: InventoryConfig,
) -> pl.DataFrame:
    """Return the supply terms of every series.

    Parameters
    ----------
    series : product_id, location_id and `price`, the last price paid per unit (null if unknown)
    supply : `lake/supply`, None where the shop has none
    products : `lake/products`, for unit_cost and title

    Returns
    -------
    A row per series, in its order: product_id, location_id, title, the `TERMS`, review_days,
    service_level, and `assumed`: the terms that came from the configuration, comma-separated.
    Where a series covers all locations, the longest lead time, the largest pack and the shortest
    shelf life of any location hold, and the mean of costs. `shelf_life_days` is null of goods that
    keep; `unit_margin` is what a unit sold earns.
    """
    own = _of_series(supply, series)
    catalogue = products.select("product_id", "title", pl.col("unit_cost").alias("listed_cost"))
    found = (
        series
        .join(own, on=KEY, how="left", maintain_order="left")
        .join(
            catalogue.unique("product_id", keep="first").collect(),
            on="product_id", how="left", maintain_order="left",
        )
        .with_columns(pl.coalesce("unit_cost", "listed_cost"))
    )  # fmt: skip
    defaults = {
        "lead_time_days": pl.lit(config.lead_time_days),
        "lead_time_days_std": pl.lit(config.lead_time_days_std),
        "pack_size": pl.lit(config.pack_size),
        "minimum_order_quantity": pl.lit(0.0),
        "unit_cost": pl.col("price") * (1 - config.margin),
        "holding_cost_rate": pl.lit(config.holding_cost_rate),
    }
    missing = [pl.when(pl.col(name).is_null()).then(pl.lit(name)) for name in TERMS]
    # The review period and the service level are the shop's own choice, never in a table.
    return found.with_columns(
        assumed=pl.concat_str(
            [*missing, pl.lit("review_days"), pl.lit("service_level")],
            separator=", ", ignore_nulls=True,
        ),
    ).select(
        *KEY,
        "title",
        *(pl.coalesce(name, default).alias(name) for name, default in defaults.items()),
        "shelf_life_days",
        _margin(config).alias("unit_margin"),
        pl.lit(config.review_days).alias("review_days"),
        pl.lit(config.service_level).alias("service_level"),
        "assumed",
    )  # fmt: skip


def _margin(config: InventoryConfig) -> pl.Expr:
    """Return what a unit sold earns: price less cost, else the assumed share of either."""
    price, cost = pl.col("price"), pl.col("unit_cost")
    known = pl.max_horizontal(price - cost, pl.lit(0.0))
    return (
        pl
        .when(price.is_not_null() & cost.is_not_null())
        .then(known)
        .otherwise(pl.coalesce(price * config.margin, cost * config.margin / (1 - config.margin)))
    )


def _of_series(supply: pl.LazyFrame | None, series: pl.DataFrame) -> pl.DataFrame:
    if supply is None:
        return _empty((*TERMS, "shelf_life_days"))
    rows = supply.join(series.lazy().select("product_id").unique(), on="product_id", how="semi")
    if (series["location_id"] == ALL_LOCATIONS).all():
        rows = rows.with_columns(pl.lit(ALL_LOCATIONS).alias("location_id"))
    longest = ("lead_time_days", "lead_time_days_std", "pack_size", "minimum_order_quantity")
    return (
        rows
        .group_by(KEY)
        .agg(
            *(pl.col(name).max() if name in longest else pl.col(name).mean() for name in TERMS),
            pl.col("shelf_life_days").min(),
        )
        .collect()
    )


def _empty(measures: tuple[str, ...]) -> pl.DataFrame:
    columns: dict[str, pl.DataType] = {name: pl.String() for name in KEY}
    return pl.DataFrame(schema=columns | {name: pl.Float64() for name in measures})


def stock_of(
    series: pl.DataFrame, stock: pl.LazyFrame | None, as_of: date, config: InventoryConfig
) -> pl.DataFrame:
    """Return the newest count of each series not older than `config.stock_age_days`.

    Where a series covers all locations, the counts of its locations are summed.

    Returns
    -------
    product_id, location_id, on_hand, on_order; no row for a series without a fresh count.
    """
    if stock is None:
        return _empty(("on_hand", "on_order"))
    oldest = as_of - timedelta(days=config.stock_age_days)
    newest = (
        stock
        .filter(pl.col("snapshot_on").is_between(oldest, as_of))
        .join(series.lazy().select("product_id").unique(), on="product_id", how="semi")
        .sort(*KEY, "snapshot_on")
        .group_by(KEY, maintain_order=True)
        .agg(pl.col("on_hand", "on_order").last())
    )
    if (series["location_id"] == ALL_LOCATIONS).all():
        newest = newest.with_columns(pl.lit(ALL_LOCATIONS).alias("location_id"))
    return newest.group_by(KEY).agg(pl.col("on_hand", "on_order").sum()).sort(KEY).collect()


def assumptions(terms: pl.DataFrame, stock: pl.DataFrame, config: InventoryConfig) -> list[str]:
    """Say in plain sentences what stands in the proposals without the shop having said it."""
    said = {
        "lead_time_days": f"a lead time of {config.lead_time_days:g} days",
        "lead_time_days_std": f"a lead time that deviates by {config.lead_time_days_std:g} days",
        "pack_size": f"packs of {config.pack_size:g}",
        "minimum_order_quantity": "no least order",
        "unit_cost": f"a unit cost of {1 - config.margin:.0%} of the price",
        "holding_cost_rate": f"holding costs of {config.holding_cost_rate:.0%} of the cost a year",
    }
    found = []
    for name, text in said.items():
        count = int(terms["assumed"].str.split(", ").list.contains(name).sum())
        if count:
            found.append(
                f"Assumed for {count:,} of {terms.height:,} series, whose {name} the source does "
                f"not say: {text}"
            )
    found.append(
        f"Orders are placed every {config.review_days:g} days for {_AIMS[config.service_target]}, "
        f"as configured: {config.service_level:.0%}"
    )
    short = terms.filter(pl.col("shelf_life_days") < pl.col("lead_time_days")).height
    if short:
        found.append(
            f"Of {short} series the shelf life is shorter than the lead time: it is taken to begin "
            "at receipt, and stock runs out before the next order comes"
        )
    if config.warehouse_lead_time_days:
        found.append(
            f"Locations order from one warehouse, which is {config.warehouse_lead_time_days:g} "
            "days from its suppliers, as configured; their mean wait for it is in their lead time"
        )
    found.append(f"An order of one product costs {config.order_cost:g}, as configured")
    reach = config.horizon * config.period_days - config.review_days
    late = terms.filter(pl.col("lead_time_days") > reach).height
    if late:
        found.append(
            f"For {late} series an order must last longer than the {config.horizon} "
            f"{config.period}s forecast: their last {config.period} is taken to repeat"
        )
    unknown = terms.height - stock.height
    if unknown:
        found.append(
            f"The stock of {unknown:,} of {terms.height:,} series is unknown: their orders stand "
            "before subtracting stock on hand and on order, and order_quantity is empty"
        )
    return found


def forecast_assumptions(panel: Panel, config: InventoryConfig) -> list[str]:
    """Say what the forecasts take for granted: holidays, and weeks beyond every plan."""
    if config.country:
        found = [f"Public holidays are those of {config.country}"]
    else:
        found = ["No public holidays are known: neither the source nor the settings name a country"]
    hidden = int((~panel.known()).sum())
    if hidden:
        found.append(
            f"In {hidden:,} of {panel.units.size:,} product {config.period}s the shelf was empty, "
            "or sold nothing so long that it must have been: there demand is supposed to have been "
            "as usual"
        )
    if not panel.plans:
        return [*found, "No promotions are known: forecasts go by sales, price and calendar alone"]
    ahead = range(panel.periods, panel.announced.shape[1])
    blind = [panel.day(week) for week in ahead if week > plans_reach(panel, panel.periods)]
    if not blind:
        return found
    return [
        *found,
        f"No promotion plan reaches the {config.period}s from {blind[0]} on: there each product is "
        f"taken to be promoted as usual in its last 8 {config.period}s",
    ]


def last_price(panel: Panel) -> list[float | None]:
    """Return the last price paid per unit of each series; None where nothing was ever paid."""
    if panel.price is None:
        return [None] * panel.series
    prices = last_known(panel.price).astype(np.float64)
    return [None if np.isnan(price) else float(price) for price in prices]
