"""Supply terms: the shop's own first, then what is assumed, and always marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from ecom_tasks import tables
from ecom_tasks.errors import ConfigError
from ecom_tasks.inventory import supply
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.run import Run
from tests import builders
from tests.builders import MONDAY
from tests.unit.inventory import shop

CONFIG = InventoryConfig()
SERIES = pl.DataFrame({
    "product_id": ["a", "b"], "location_id": ["all", "all"], "price": [10.0, None],
})  # fmt: skip
CATALOGUE = builders.products(["a", "b"]).lazy()


def said(rows: Sequence[Mapping[str, object]]) -> pl.LazyFrame:
    return builders.table(tables.SUPPLY, rows).lazy()


def counts(rows: Sequence[tuple[str, str, date, float]]) -> pl.LazyFrame:
    names = ("product_id", "location_id", "snapshot_on", "on_hand")
    return builders.table(tables.STOCK, [dict(zip(names, row, strict=True)) for row in rows]).lazy()


def test_without_a_supply_table_every_term_is_assumed_and_marked() -> None:
    found = supply.supply_terms(SERIES, None, CATALOGUE, CONFIG)
    first, second = found.iter_rows(named=True)
    assert first["lead_time_days"] == CONFIG.lead_time_days
    assert first["unit_cost"] == pytest.approx(10 * (1 - CONFIG.margin))
    assert second["unit_cost"] is None  # neither price nor cost
    assert first["assumed"].split(", ") == [*supply.TERMS, "review_days", "service_level"]
    told = " ".join(supply.assumptions(found, pl.DataFrame(), CONFIG))
    for name in supply.TERMS:
        assert f"2 of 2 series, whose {name}" in told
    assert "The stock of 2 of 2 series is unknown" in told


def test_what_the_shop_says_is_taken_and_not_marked() -> None:
    rows = [{"product_id": "a", "location_id": "all", "lead_time_days": 3.0, "pack_size": 12.0,
             "unit_cost": 4.0}]  # fmt: skip
    found = supply.supply_terms(SERIES, said(rows), CATALOGUE, CONFIG)
    first, second = found.iter_rows(named=True)
    assert (first["lead_time_days"], first["pack_size"], first["unit_cost"]) == (3, 12, 4)
    assert "lead_time_days_std" in first["assumed"].split(", ")
    assert not {"lead_time_days", "pack_size", "unit_cost"} & set(first["assumed"].split(", "))
    assert "lead_time_days" in second["assumed"].split(", ")


def test_the_catalogues_cost_is_no_assumption() -> None:
    catalogue = builders.products(["a", "b"], unit_cost=[6.5, None]).lazy()
    first, _ = supply.supply_terms(SERIES, None, catalogue, CONFIG).iter_rows(named=True)
    assert first["unit_cost"] == 6.5
    assert "unit_cost" not in first["assumed"].split(", ")


def test_over_all_locations_the_slowest_counts() -> None:
    rows = [
        {"product_id": "a", "location_id": place, "lead_time_days": days, "unit_cost": cost}
        for place, days, cost in (("north", 3.0, 4.0), ("south", 9.0, 6.0))
    ]
    found = supply.supply_terms(SERIES, said(rows), CATALOGUE, CONFIG).row(0, named=True)
    assert (found["lead_time_days"], found["unit_cost"]) == (9, (4 + 6) / 2)
    apart = SERIES.head(1).with_columns(location_id=pl.lit("north"))
    found = supply.supply_terms(apart, said(rows), CATALOGUE, CONFIG).row(0, named=True)
    assert found["lead_time_days"] == 3


def test_stock_is_the_newest_fresh_count_of_each_location() -> None:
    day = MONDAY + timedelta(days=30)
    rows = [
        ("a", "north", day - timedelta(days=1), 5.0),
        ("a", "north", day - timedelta(days=3), 50.0),  # counted again since
        ("a", "south", day, 7.0),
        ("a", "west", day - timedelta(days=8), 70.0),  # too old
        ("b", "north", day + timedelta(days=1), 9.0),  # not yet known
    ]
    found = supply.stock_of(SERIES, counts(rows), day, CONFIG)
    assert found.select("product_id", "on_hand").rows() == [("a", 5 + 7)]
    apart = SERIES.head(1).with_columns(location_id=pl.lit("south"))
    per_place = supply.stock_of(apart, counts(rows), day, CONFIG)
    assert per_place.filter(location_id="south")["on_hand"].to_list() == [7]


def test_no_stock_table_is_no_stock_known() -> None:
    assert supply.stock_of(SERIES, None, MONDAY, CONFIG).is_empty()


def test_orders_that_must_last_beyond_the_forecast_are_told() -> None:
    rows = [{"product_id": "a", "location_id": "all", "lead_time_days": 22.0}]
    found = supply.supply_terms(SERIES, said(rows), CATALOGUE, CONFIG)
    told = " ".join(supply.assumptions(found, pl.DataFrame(), CONFIG))
    assert "For 1 series an order must last longer than the 4 weeks" in told


def test_weeks_beyond_the_plans_are_told() -> None:
    weeks = shop.small().periods_needed
    units = np.full((1, weeks), 3.0)
    config = shop.small(country="GB")
    blind = shop.panel(units, config, shop.displays([(0, weeks)], [MONDAY]))
    holidays, told = supply.forecast_assumptions(blind, config)
    assert "holidays are those of GB" in holidays
    assert str(blind.day(weeks + 1)) in told
    full = shop.panel(units, config, shop.displays([(0, weeks + 1)], [MONDAY]))
    assert supply.forecast_assumptions(full, config) == [holidays]
    _, none = supply.forecast_assumptions(shop.panel(units, config), config)
    assert "No promotions are known" in none


def test_last_prices() -> None:
    weeks = shop.small().periods_needed
    units = np.zeros((1, weeks))
    units[0, 0] = 3
    panel = shop.panel(units, shop.small())
    assert supply.last_price(panel) == [2.0]
    assert supply.last_price(replace(panel, price=np.full_like(panel.price, np.nan))) == [None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"service_level": 1.0},
        {"lead_time_days": -1},
        {"quantiles": (0.9, 0.1, 0.5)},
        {"quantiles": (0.1, 0.9)},
        {"lead_time": 7},
    ],
)
def test_wrong_settings_are_named(run: Run, wrong: dict[str, object]) -> None:
    overridden = Run("test", run.as_of, run.root, overrides={"inventory": wrong})
    with pytest.raises(ConfigError, match=f"inventory.{next(iter(wrong))}"):
        InventoryConfig.of(overridden)


def test_supply_settings_do_not_touch_the_forecasts() -> None:
    other = InventoryConfig(lead_time_days=30, service_level=0.8, products=10)
    assert other.for_forecasts() == InventoryConfig(products=10)
