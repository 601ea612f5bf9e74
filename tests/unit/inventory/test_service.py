"""The policy played on the test windows, beside its rivals."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest

from ecom_tasks.inventory import service, supply
from ecom_tasks.inventory.calibrate import Calibration
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.evaluate import Window
from ecom_tasks.inventory.panel import Panel
from tests.unit.inventory import shop

WEEKS = 20
SETTINGS = {
    "lead_time_days": 7.0, "lead_time_days_std": 0.0, "margin": 0.5, "order_cost": 0.0,
    "simulated_paths": 2,
}  # fmt: skip


def judged(
    expected: float, config: InventoryConfig, swing: float = 0.0, odd: float | None = None
) -> dict[str, dict[str, float]]:
    """Judge levels from a certain forecast of `expected` where 7 a week are sold at 2.00.

    Odd weeks sell `swing` more, even ones as much less. Every second forecast says `odd`.
    """
    units = 7.0 + swing * np.where(np.arange(WEEKS) % 2, 1, -1)
    panel = shop.panel(np.tile(units, (3, 1)), config)
    mean = np.full((3, config.horizon), expected, np.float32)
    quantiles = np.repeat(mean[..., None], len(config.quantiles), axis=2)
    learnt = Calibration((0.0,) * len(config.quantiles), 0.0)
    windows = [Window(week, mean, quantiles, learnt) for week in range(WEEKS - 4, WEEKS)]
    if odd is not None:
        wrong = (np.full_like(mean, odd), np.full_like(quantiles, odd))
        windows[1::2] = [Window(each.origin, *wrong, learnt) for each in windows[1::2]]
    priced = panel.keys.with_columns(pl.Series("price", supply.last_price(panel)))
    terms = supply.supply_terms(priced, None, shop.catalogue(3).lazy(), config)
    return service.judge(panel, windows, terms, config)


def small(**settings: Any) -> InventoryConfig:
    return shop.small(**SETTINGS | settings)


def test_a_forecast_that_is_right_serves_and_one_that_is_too_low_does_not() -> None:
    enough, short = (judged(expected, small())["model"] for expected in (9.0, 3.0))
    assert enough["fill_rate"] == 1
    assert short["fill_rate"] < 0.75
    assert short["shortage_cost"] > 0
    assert short["average_stock_value"] < enough["average_stock_value"]


def test_the_rivals_meet_the_same_weeks() -> None:
    found = judged(8.0, small())
    assert set(found) == {"model", "textbook", "clairvoyant"}
    # Demand that never varied has no deviation: the textbook holds two weeks of it.
    assert found["textbook"]["fill_rate"] > 0.95
    bound = found["clairvoyant"]["total_cost"]
    assert bound <= min(found[name]["total_cost"] for name in ("model", "textbook"))


def test_last_season_is_a_rival_where_it_is_known() -> None:
    assert "seasonal naive and textbook" in judged(8.0, small(season=6))


def test_the_textbooks_level_by_hand() -> None:
    config = small()
    units = 7.0 + 6.0 * np.where(np.arange(WEEKS) % 2, 1, -1)
    panel = shop.panel(np.tile(units, (3, 1)), config)
    priced = panel.keys.with_columns(pl.Series("price", supply.last_price(panel)))
    terms = supply.supply_terms(priced, None, shop.catalogue(3).lazy(), config)
    deviation = 6 * np.sqrt(8 / 7)  # of a sample of 8 weeks that are all 6 off
    found = service.textbook(panel, WEEKS, terms, config)
    assert found == pytest.approx([2 * 7 + 1.644854 * deviation * np.sqrt(2)] * 3)
    last = service.textbook(panel, WEEKS, terms, config.model_copy(update={"season": 2}),
                            seasonal=True)  # fmt: skip
    assert last == pytest.approx([2 * 7] * 3)  # a season of two weeks tells everything


def test_rarer_reviews_hold_more_and_odd_ones_are_not_played() -> None:
    weekly, fortnightly = (
        judged(7.0, small(review_days=days, lead_time_days=1.0))["model"] for days in (7.0, 14.0)
    )
    assert fortnightly["average_stock_value"] > weekly["average_stock_value"]
    assert fortnightly["fill_rate"] > 0.9
    assert fortnightly["orders"] == weekly["orders"] / 2
    # Of the forecasts made every week those of a week without a review move nothing.
    assert judged(7.0, small(review_days=14.0, lead_time_days=1.0), odd=0)["model"] == fortnightly
    assert judged(8.0, small(review_days=10.0)) == {}


def test_days_are_played_as_they_were() -> None:
    config = shop.small(**SETTINGS | {"frequency": "daily", "review_days": 1.0, "horizon": 7})
    days = 84
    units = np.tile([0.0, 0, 0, 0, 0, 14, 14], (3, days // 7))
    panel = Panel(
        pl.DataFrame({"product_id": ["a", "b", "c"], "location_id": "all", "category": ""}),
        date(2024, 1, 1), units.astype(np.float32), units.astype(np.float32), None, None,
        np.full(units.shape, 2.0, np.float32), None, plans={},
        announced=np.zeros((3, days + 7), np.float32), frequency="D", season=7,
    )  # fmt: skip
    learnt = Calibration((0.0,) * len(config.quantiles), 0.0)
    windows = []
    for origin in range(days - 14, days):
        ahead = np.tile([0, 0, 0, 0, 0, 14, 14], 3)[origin % 7 :][:7].astype(np.float32)
        mean = np.tile(ahead, (3, 1))
        quantiles = np.repeat(mean[..., None], len(config.quantiles), axis=2)
        windows.append(Window(origin, mean, quantiles, learnt))
    priced = panel.keys.with_columns(pl.lit(2.0).alias("price"))
    terms = supply.supply_terms(priced, None, shop.catalogue(3).lazy(), config)
    found = service.judge(panel, windows, terms.with_columns(lead_time_days=2.0), config)
    # Who knows each day's demand has it there in time, and holds less than who knows the mean.
    assert found["model"]["fill_rate"] > 0.99
    assert found["model"]["average_stock_value"] < found["textbook"]["average_stock_value"]
    assert found["model"]["total_cost"] < found["textbook"]["total_cost"]
