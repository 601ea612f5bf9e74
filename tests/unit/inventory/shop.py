"""Weekly sales made by hand, laid out as the features' tables are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ecom_tasks.features import tables
from ecom_tasks.inventory import series
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.panel import Panel
from tests.builders import MONDAY, table

WEEK = timedelta(weeks=1)
NONE = {"display": 0.0, "mailer": 0.0, "price_cut": 0.0, "coupon": 0.0}


def small(**settings: Any) -> InventoryConfig:
    """Return settings for short histories: 2 weeks ahead, a window to test, one to calibrate."""
    defaults: dict[str, Any] = {
        "horizon": 2, "test_windows": 1, "calibration_windows": 1,
        "minimum_orders": 1, "samples": 200, "network": False,
    }  # fmt: skip
    return InventoryConfig(**defaults | settings)


def product(row: int) -> str:
    return f"p{row:03d}"


def demand(
    units: npt.ArrayLike, price: float = 2.0, location: str = "all", **columns: Any
) -> pl.DataFrame:
    """Return `features/demand`: units[row, week]; weeks without units are absent."""
    rows = [
        {
            "product_id": product(row),
            "location_id": location,
            "week_starts_on": MONDAY + week * WEEK,
            "units": float(count),
            "sales": float(count) * price,
            "orders": 1.0,
            "unit_price": price,
            "regular_price": price,
            "discount_depth": 0.0,
            **NONE,
            **columns,
        }
        for row, weeks in enumerate(np.asarray(units, dtype=float).tolist())
        for week, count in enumerate(weeks)
        if count
    ]
    return table(tables.DEMAND, rows)


def displays(weeks: Sequence[tuple[int, int]], announced: Sequence[date]) -> pl.DataFrame:
    """Return `features/promotion_calendar`: (row, week) pairs on display at one location."""
    rows = [
        {
            "product_id": product(row),
            "week_starts_on": MONDAY + week * WEEK,
            "announced_on": known,
            **{f"{name}_locations": 0.0 for name in NONE},
            "display_locations": 1.0,
        }
        for (row, week), known in zip(weeks, announced, strict=True)
    ]
    return table(tables.PROMOTION_CALENDAR, rows)


def catalogue(count: int) -> pl.DataFrame:
    """Return `lake/products`; even and odd rows are of different categories."""
    return pl.DataFrame({
        "product_id": [product(row) for row in range(count)],
        "title": [f"article {row}" for row in range(count)],
        "category": [f"shelf {row % 2}/board" for row in range(count)],
        "unit_cost": [None] * count,
    }).with_columns(pl.col("unit_cost").cast(pl.Float64))


def last_day(weeks: int) -> date:
    """Return the Sunday that ends a history of `weeks`."""
    return MONDAY + weeks * WEEK - timedelta(days=1)


def panel(
    units: npt.ArrayLike, config: InventoryConfig, calendar: pl.DataFrame | None = None
) -> Panel:
    """Build a panel straight from units[row, week]; every row must have sold something."""
    matrix = np.asarray(units, dtype=float)
    return series.build(
        [demand(matrix).lazy()],
        [] if calendar is None else [calendar.lazy()],
        catalogue(len(matrix)).lazy(),
        last_day(matrix.shape[1]),
        config,
    )
