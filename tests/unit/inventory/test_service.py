"""What the stock levels would have achieved in the test windows."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import polars as pl
import pytest

from ecom_tasks.inventory import service, supply
from ecom_tasks.inventory.calibrate import Calibration
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.evaluate import Window
from tests.unit.inventory import shop

WEEKS = 20
SETTINGS = {"lead_time_days": 7.0, "lead_time_days_std": 0.0, "review_days": 7.0, "margin": 0.5}


def judged(
    expected: float, config: InventoryConfig, swing: float = 0.0
) -> dict[str, dict[str, float]]:
    """Judge levels from a certain forecast of `expected` where 7 a week are sold at 2.00.

    Odd weeks sell `swing` more, even ones as much less.
    """
    units = 7.0 + swing * np.where(np.arange(WEEKS) % 2, 1, -1)
    panel = shop.panel(np.tile(units, (3, 1)), config)
    mean = np.full((3, config.horizon), expected, np.float32)
    quantiles = np.repeat(mean[..., None], len(config.quantiles), axis=2)
    learnt = Calibration((0.0,) * len(config.quantiles), 0.0)
    window = Window(WEEKS - config.horizon, mean, quantiles, learnt)
    priced = panel.keys.with_columns(pl.Series("price", supply.last_price(panel)))
    terms = supply.supply_terms(priced, None, shop.catalogue(3).lazy(), config)
    return service.judge(panel, [window], terms, config)


@pytest.mark.parametrize(("expected", "level", "rate"), [(8.0, 1.0, 1.0), (6.0, 0.0, 6 / 7)])
def test_levels_are_held_against_what_sold(expected: float, level: float, rate: float) -> None:
    found = judged(expected, shop.small(**SETTINGS))["model"]
    assert found["cycle_service_level"] == level
    assert found["fill_rate"] == pytest.approx(rate)
    # 3 series, two weeks of the forecast, at half the price of 2.00.
    assert found["stock_value"] == pytest.approx(3 * 2 * expected * 1)


def test_the_textbook_stands_beside_it() -> None:
    # Demand that never varied has no deviation: the textbook holds exactly two weeks of it.
    found = judged(8.0, shop.small(**SETTINGS))["textbook"]
    assert found["stock_value"] == pytest.approx(3 * 2 * 7 * 1)
    assert found["fill_rate"] == pytest.approx(1)


def test_the_textbook_takes_its_deviation_from_the_last_8_weeks() -> None:
    config = shop.small(**SETTINGS)
    found = judged(8.0, config, swing=6.0)["textbook"]
    weekly = 6 * np.sqrt(8 / 7)  # of a sample of 8 that are all 6 off
    level = 2 * 7 + NormalDist().inv_cdf(config.service_level) * weekly * np.sqrt(2)
    assert found["stock_value"] == pytest.approx(3 * level * 1)


def test_what_must_last_beyond_a_window_is_not_judged() -> None:
    assert judged(8.0, shop.small(**SETTINGS | {"lead_time_days": 8.0})) == {}
