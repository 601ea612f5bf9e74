"""Tables of all nine kinds that pass every suite, to be spoilt one by one."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from ecom_tasks.ingestion.quarantine import schema_of
from ecom_tasks.tables import TABLES

AS_OF = date(2024, 3, 31)
DAYS = 36
LINES_A_DAY = 60
STORES = ("s0", "s1", "s2", "s3", "s4")
Rows = list[dict[str, Any]]


def person(number: int) -> str:
    return f"{number:032x}"


def at(age: int) -> datetime:
    """Return noon of the day that lies `age` days before `AS_OF`."""
    return datetime.combine(AS_OF - timedelta(days=age), time(12))


def order_lines() -> Rows:
    return [
        {
            "order_id": f"{age}-{line}", "line_number": 1, "customer_id": person(line % 20),
            "product_id": f"p{line % 10}", "quantity": 1.0, "unit_price": 2.0 + line % 3,
            "ordered_at": at(age), "location_id": STORES[line % 5], "discount": 0.0,
        }
        for age in range(DAYS)
        for line in range(LINES_A_DAY)
    ]  # fmt: skip


def products() -> Rows:
    return [
        {"product_id": f"p{n}", "title": f"P {n}", "category": f"Food/{n % 3}",
         "regular_price": 5.0, "unit_cost": 3.0}
        for n in range(10)
    ]  # fmt: skip


def events() -> Rows:
    return [
        {"event_id": f"{age}-{n}", "customer_id": person(n % 20), "product_id": f"p{n % 10}",
         "event_type": ("view", "add_to_cart")[n % 2], "occurred_at": at(age)}
        for age in range(DAYS)
        for n in range(LINES_A_DAY)
    ]  # fmt: skip


def customers() -> Rows:
    return [{"customer_id": person(n), "region": "north"} for n in range(20)]


def exclusions() -> Rows:
    return [{"customer_id": person(n), "product_id": f"p{n % 10}"} for n in range(20)]


def promotions() -> Rows:
    return [
        {"product_id": f"p{n % 10}", "location_id": STORES[n % 5],
         "starts_on": AS_OF - timedelta(days=7 * week + n // 10 % 7), "mechanic": "display",
         "ends_on": AS_OF + timedelta(days=7), "depth": 0.2,
         "announced_on": AS_OF - timedelta(days=40)}
        for week in range(5)
        for n in range(70)
    ]  # fmt: skip


def prices() -> Rows:
    return [
        {"product_id": f"p{n}", "location_id": location, "regular_price": 5.0,
         "competitor_price": 4.0, "unit_cost": 3.0, "valid_from": AS_OF - timedelta(days=age)}
        for n in range(10)
        for location in STORES
        for age in (1, 40)
    ]  # fmt: skip


def stock() -> Rows:
    return [
        {"product_id": f"p{n}", "location_id": f"s{location}", "on_hand": 10.0,
         "on_order": 1.0, "snapshot_on": AS_OF - timedelta(days=age)}
        for n in range(10)
        for location in range(6)
        for age in range(6)
    ]  # fmt: skip


def supply() -> Rows:
    return [
        {"product_id": f"p{n}", "location_id": "all", "lead_time_days": 7.0,
         "lead_time_days_std": 1.0, "unit_cost": 3.0, "holding_cost_rate": 0.2,
         "minimum_order_quantity": 1.0}
        for n in range(10)
    ]  # fmt: skip


GOOD = {
    "order_lines": order_lines, "products": products, "events": events, "customers": customers,
    "exclusions": exclusions,
    "promotions": promotions, "prices": prices, "stock": stock, "supply": supply,
}  # fmt: skip


def write_lake(folder: Path, tables: dict[str, Rows]) -> dict[str, Path]:
    """Write each table that has rows to a folder of its own."""
    for name, rows in tables.items():
        (folder / name).mkdir(parents=True)
        frame = pl.DataFrame(rows, schema=schema_of(TABLES[name]))
        frame.write_parquet(folder / name / "rows.parquet")
    return {name: folder / name for name in tables}
