"""Lists of a planner, from numbers that can be added up by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ecom_tasks.inventory import classes
from tests.unit.inventory import shop

WEEKS = 30


def test_abc_by_value_and_xyz_by_regularity() -> None:
    units = np.zeros((5, WEEKS))
    units[0] = 80  # 80% of value
    units[1] = np.resize([16, 4], WEEKS)  # up to 90%; deviates by 6 from 10
    units[2] = 6  # 90% to 96%
    units[3, ::2] = 8  # 96% to 100%; deviates by 4 from 4
    units[4, :4] = 1  # sold long ago
    found = classes.classify(shop.panel(units, shop.small()))
    by = {row["product_id"]: row for row in found.iter_rows(named=True)}
    assert [by[shop.product(row)]["abc"] for row in range(5)] == ["A", "B", "B", "C", "C"]
    assert [by[shop.product(row)]["xyz"] for row in range(5)] == ["X", "Y", "X", "Y", "Z"]
    assert by["p001"]["variation"] == pytest.approx(0.6)
    assert [by[shop.product(row)]["slow"] for row in range(5)] == [False] * 4 + [True]
    assert by["p004"]["periods_without_sale"] == WEEKS - 4
    assert by["p004"]["variation"] is None


def test_stock_beyond_twelve_weeks_is_too_much() -> None:
    listed = classes.classify(shop.panel(np.full((3, WEEKS), 2.0), shop.small()))
    key = listed.select("product_id", "location_id")
    policy = key.with_columns(
        weekly_demand=pl.Series([2.0, 2.0, 0.0]), base_stock_level=pl.Series([6.0, 40.0, 3.0]),
        unit_cost=pl.Series([1.5, 1.5, None]),
    )  # fmt: skip
    stock = key.with_columns(on_hand=pl.Series([30.0, 30.0, 5.0]))
    found = classes.with_stock(listed, policy, stock)
    assert found["weeks_of_cover"].to_list() == [15, 15, None]
    assert found["overstock_units"].to_list() == [30 - 24, 0, 5 - 3]
    assert found["overstock_value"].to_list() == [9, 0, None]
    unknown = classes.with_stock(listed, policy, stock.head(0))
    assert unknown["overstock_units"].null_count() == 3
