"""One warehouse and its stores: how much stock stands where, at the least cost of holding it.

METRIC (Sherbrooke, METRIC: a multi-echelon technique for recoverable item control, 1968): stores
order from the warehouse what they sell, the warehouse orders that from its supplier. What the
warehouse lacks on average makes every store wait, by Little's law the same mean time, which adds to
its lead time. More stock at the warehouse shortens the wait and with it the stock of all stores;
for each level of the warehouse the stores' levels follow, and the cheapest level is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from ecom_tasks.inventory import levels, reconcile, replenish
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.forecast import Quantiles
from ecom_tasks.inventory.replenish import DAYS, demand_over
from ecom_tasks.metrics.forecast import Array

_MOMENTS = (1 / 8, 3 / 8, 5 / 8, 7 / 8)
"""Moments of the warehouse's review period at which its stock is looked at."""
_CANDIDATES, _ROUNDS = 9, 3


@dataclass(frozen=True)
class Chain:
    """Terms of one product in one warehouse and its stores.

    Attributes
    ----------
    warehouse_days : (samples,), from its order to its receipt.
    store_days : (stores,), from an order to its receipt where the warehouse has the goods.
    review_days : from one order to the next, of either.
    warehouse_holding, store_holding : currency to hold a unit for a year.
    fill_rate : share of the stores' demand to be met at once.
    """

    warehouse_days: Array
    store_days: Array
    review_days: float
    warehouse_holding: float
    store_holding: float
    fill_rate: float
    period_days: int = DAYS


@dataclass(frozen=True)
class Plan:
    """Levels of both echelons.

    Attributes
    ----------
    warehouse_level : units, up to which the warehouse orders.
    store_levels : (stores,), units, up to which each store orders.
    wait_days : by which an order of a store is late on average.
    holding_cost : currency a year, both echelons together.
    """

    warehouse_level: float
    store_levels: Array
    wait_days: float
    holding_cost: float


def plan(demand: Array, chain: Chain) -> Plan:
    """Return the levels with the least cost of holding at the stores' fill rate.

    Parameters
    ----------
    demand : (stores, samples, steps), sampled units a period; sample k of every store belongs
        to the same future, so that their sum is one of the warehouse

    Returns
    -------
    Plan. The level is searched between an empty warehouse and one that is never short, three times
    more closely; of several as cheap as each other it is the least.
    """
    lasting = demand_over(
        demand.sum(axis=0), chain.warehouse_days + chain.review_days, chain.period_days
    )
    low, high = 0.0, float(lasting.max())
    for _ in range(_ROUNDS):
        plans = [
            at_level(demand, chain, level) for level in np.linspace(low, high, _CANDIDATES).tolist()
        ]
        best = min(plans, key=lambda each: (round(each.holding_cost, 9), each.warehouse_level))
        step = (high - low) / (_CANDIDATES - 1)
        low, high = max(0.0, best.warehouse_level - step), best.warehouse_level + step
    return best


def at_level(demand: Array, chain: Chain, warehouse_level: float) -> Plan:
    """Return what follows from a level of the warehouse; arguments as of `plan`."""
    total, review = demand.sum(axis=0), chain.review_days
    supplied = np.stack([
        demand_over(total, chain.warehouse_days + moment * review, chain.period_days)
        for moment in _MOMENTS
    ])
    wait = wait_days(supplied, warehouse_level, float(total.mean()) / chain.period_days)
    lot = demand.mean(axis=(1, 2)) / chain.period_days * review
    lasting = demand_over(demand, (chain.store_days + review + wait)[:, None], chain.period_days)
    held = levels.for_fill_rate(lasting, lot / chain.fill_rate, chain.fill_rate)
    # Half a review period's demand has gone when stock is looked at on an average day.
    usual = demand_over(demand, (chain.store_days + review / 2 + wait)[:, None], chain.period_days)
    at_stores = float(np.maximum(held[:, None] - usual, 0).mean(axis=1).sum())
    at_warehouse = float(np.maximum(warehouse_level - supplied, 0).mean())
    cost = at_stores * chain.store_holding + at_warehouse * chain.warehouse_holding
    return Plan(warehouse_level, held, wait, cost)


def wait_days(supplied: Array, level: float, daily_demand: float) -> float:
    """Return by how much orders of the stores are late on average, days.

    Parameters
    ----------
    supplied : demand since the last order that has arrived at the warehouse, units; any shape
    level : units, up to which the warehouse orders
    daily_demand : of all stores, units
    """
    missing = float(np.maximum(supplied - level, 0).mean())
    return missing / daily_demand if daily_demand > 0 else 0.0


def plans(
    quantiles: Quantiles, terms: pl.DataFrame, shared: float, config: InventoryConfig
) -> pl.DataFrame:
    """Plan every product whose locations order from the warehouse.

    Parameters
    ----------
    quantiles : (series, steps, levels), a series a product and location
    terms : a row a series, see `supply.supply_terms`; lead times are those from the warehouse
    shared : correlation between the demand of two locations in the same week

    Returns
    -------
    A row a product, in ascending order: product_id, locations (number), weekly_demand,
    warehouse_level, wait_days and holding_cost_per_year (see `Plan`). A product without a cost is
    planned as if a unit cost 1, and its holding cost is null.
    """
    draws = replenish.draw(1, 0.0, config)
    mean, spread = config.warehouse_lead_time_days, config.warehouse_lead_time_days_std
    days = replenish.lead_times(np.array([mean]), np.array([spread]), draws)[0]
    rows = []
    for (product,), of_product in terms.with_row_index("row").group_by(
        ["product_id"], maintain_order=True
    ):
        at = of_product["row"].to_numpy()
        demand = reconcile.paths_of(
            quantiles[at], config.quantiles, shared, config.samples, config.seed
        ).astype(np.float64)
        cost = of_product["unit_cost"].mean()
        yearly = float(cost if isinstance(cost, float) else 1.0)
        yearly *= float(of_product["holding_cost_rate"].to_numpy().mean())
        chain = Chain(
            warehouse_days=days,
            store_days=of_product["lead_time_days"].to_numpy(),
            review_days=config.review_days,
            warehouse_holding=yearly,
            store_holding=yearly,
            fill_rate=config.service_level,
            period_days=config.period_days,
        )
        found = plan(demand, chain)
        rows.append({
            "product_id": product,
            "locations": len(at),
            "weekly_demand": float(demand.mean(axis=(1, 2)).sum()) * DAYS / config.period_days,
            "warehouse_level": found.warehouse_level,
            "wait_days": found.wait_days,
            "holding_cost_per_year": found.holding_cost if cost is not None else None,
        })
    return pl.DataFrame(rows, infer_schema_length=None).sort("product_id")


def with_wait(terms: pl.DataFrame, warehouse: pl.DataFrame) -> pl.DataFrame:
    """Return the terms with what each location waits for the warehouse in its lead time."""
    waits = warehouse.select("product_id", "wait_days")
    return (
        terms
        .join(waits, on="product_id", how="left", maintain_order="left")
        .with_columns(lead_time_days=pl.col("lead_time_days") + pl.col("wait_days"))
        .drop("wait_days")
    )
