"""Exceptions of a planner, valued by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ecom_tasks.inventory import exceptions
from ecom_tasks.inventory.evaluate import Window
from tests.unit.inventory import shop

CONFIG = shop.small()
WEEKS = 20


def levels(count: int) -> pl.DataFrame:
    """Return a policy: goods that cost 3, earn 2, and come exactly a week after the order."""
    return pl.DataFrame({
        "product_id": [shop.product(row) for row in range(count)],
        "location_id": ["all"] * count,
        "title": [f"article {row}" for row in range(count)],
        "unit_cost": [3.0] * count,
        "unit_margin": [2.0] * count,
        "lead_time_days": [7.0] * count,
        "lead_time_days_std": [0.0] * count,
    })


def stock(*on_hand: float) -> pl.DataFrame:
    key = levels(len(on_hand)).select("product_id", "location_id")
    return key.with_columns(
        on_hand=pl.Series(on_hand), on_order=pl.lit(None, pl.Float64)
    )  # fmt: skip


def test_what_runs_out_is_valued_at_its_margin() -> None:
    weekly = np.array([7.0, 7.0, 20.0, 7.0])
    quantiles = np.broadcast_to(weekly[:, None, None], (4, 2, len(CONFIG.quantiles)))
    found = exceptions.stock_outs(
        levels(4), stock(3, 8, 1), quantiles.astype(np.float32), 0.0, CONFIG
    )
    # The fourth has no known stock, the second enough of it; the dearest comes first.
    assert found["product_id"].to_list() == ["p002", "p000"]
    assert found["units"].to_list() == pytest.approx([20 - 1, 7 - 3])
    assert found["value"].to_list() == pytest.approx([19 * 2, 4 * 2])
    assert found["reason"][1].startswith("3.0 on hand and on order, 7.0 expected to sell")


def test_what_stays_is_valued_at_cost() -> None:
    classes = levels(3).select("product_id", "location_id").with_columns(
        value=pl.lit(1000.0), weeks_of_cover=pl.Series([15.0, 20.0, None]),
        overstock_units=pl.Series([30.0, 0.0, 50.0]),
        overstock_value=pl.Series([90.0, 0.0, 150.0]),
    )  # fmt: skip
    found = exceptions.overstocks(levels(3), classes)
    assert found.select("product_id", "value").rows() == [("p002", 150), ("p000", 90)]
    assert found["reason"].to_list() == [
        "on hand, and no demand expected",
        "15.0 weeks of demand on hand",
    ]


def test_misses_of_each_window_add_up_whichever_way_they_went() -> None:
    units = np.full((2, WEEKS), 10.0)
    panel = shop.panel(units, CONFIG)
    few, many = np.full((2, 2), 4.0, np.float32), np.full((2, 2), 11.0, np.float32)
    few[1] = many[1] = 10
    empty = np.zeros((2, 2, 9), np.float32)
    tests = [Window(16, few, empty), Window(18, many, empty)]
    found = exceptions.misses(panel, tests, levels(2), CONFIG)
    assert found["product_id"].to_list() == ["p000"]
    assert found["units"].to_list() == [2 * (10 - 4) + 2 * (11 - 10)]
    assert found["value"].to_list() == [14 * (3 + 2)]
    assert found["reason"][0] == f"40.0 sold since {panel.day(16)}, 30.0 forecast"
