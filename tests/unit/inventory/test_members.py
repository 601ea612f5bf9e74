"""Single forecasts on series whose continuation is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from ecom_tasks.inventory import ensemble, pooled, seasonal, statistical
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.panel import Panel
from tests.unit.inventory import shop

CONFIG = shop.small()


def made(units: np.ndarray, season: int = 52) -> Panel:
    return replace(shop.panel(units, CONFIG), season=season)


def test_plain_methods_repeat() -> None:
    found = statistical.plain(made(np.arange(1.0, 31)[None, :]), 20, 3, 2)
    assert found[statistical.NAIVE].tolist() == [[20, 20, 20]]
    assert found[statistical.AVERAGE].tolist() == [[16.5] * 3]  # mean of 13 to 20
    assert found[statistical.SEASONAL].tolist() == [[19, 20, 19]]


@pytest.mark.parametrize("name", statistical.QUICK)
def test_constant_demand_goes_on(name: str) -> None:
    panel = made(np.full((3, 30), 6.0))
    found = statistical.fit(panel, 30, 2, 52, [name])[name]
    # Croston's estimate is corrected by 1 - alpha / 2 (Syntetos and Boylan, 2005).
    expected = 6 * (1 - 0.1 / 2) if name == statistical.SBA else 6
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_methods_see_nothing_right_of_the_origin() -> None:
    units = np.random.default_rng(0).poisson(6, size=(3, 30)) + 1.0
    spoilt = units.copy()
    spoilt[:, 28:] += 50
    for forecast in (
        lambda panel: statistical.fit(panel, 28, 2, 52, statistical.QUICK),
        lambda panel: pooled.forecast(replace(panel, season=4), 28, 2, 1),
        lambda panel: seasonal.forecast(replace(panel, season=14), 28, 2),
    ):
        first, second = forecast(made(units)), forecast(made(spoilt))
        assert first.keys() == second.keys() != set()
        for name, each in first.items():
            np.testing.assert_array_equal(each, second[name])


def test_pooled_regression_learns_a_shared_rule() -> None:
    # Every series repeats after 4 periods, each with a pattern and a size of its own.
    random = np.random.default_rng(1)
    pattern = random.uniform(5, 50, size=(40, 4))
    units = np.tile(pattern, (1, 12))
    panel = made(units, season=4)
    for found in pooled.forecast(panel, 44, 4, 1).values():
        np.testing.assert_allclose(found, panel.units[:, 44:48], atol=0.5)  # the ridge


def test_pooled_regression_of_logs_does_not_depend_on_the_unit() -> None:
    units = np.random.default_rng(4).lognormal(3, 0.3, size=(20, 40))
    small, large = (
        pooled.forecast(replace(made(units), units=(factor * units).astype(np.float32), season=4),
                        40, 4, 1)[pooled.LOGS]
        for factor in (1, 1000)
    )  # fmt: skip
    np.testing.assert_allclose(large, 1000 * small, rtol=1e-3)


def test_pooled_regression_needs_something_to_learn_from() -> None:
    assert pooled.forecast(made(np.full((3, 20), 2.0)), 4, 4, 1) == {}


def test_last_season_over_again_and_grown() -> None:
    year = 10 + np.arange(52.0)
    panel = made(np.hstack([year, 2 * year])[None, :].repeat(3, axis=0))
    found = seasonal.forecast(panel, 78, 4)
    np.testing.assert_allclose(found[seasonal.ALIGNED][0], panel.units[0, 26:30])
    # Twice as much as a year before in the last quarter; three quarters of a growth last.
    growth = min(1 + (2 - 1) * 0.75, 1.5)
    np.testing.assert_allclose(found[seasonal.GROWN][0], growth * panel.units[0, 26:30], rtol=1e-3)
    assert seasonal.forecast(panel, 60, 4) == {}


def test_easter_moves_with_the_year() -> None:
    # From Monday 2023-01-02; Easter 2023 is April 9 (week 13), in 2024 March 31 (week 64).
    panel = replace(made(np.ones((1, 70))), first=date(2023, 1, 2))
    columns = seasonal.source_columns(panel, 62, 6).tolist()
    assert panel.day(64) == date(2024, 3, 25)
    assert columns[1:3] == [12, 13]  # the week before Easter and Easter week
    assert columns[3] == 15  # an ordinary week now; a year ago it was Easter week
    assert columns[4:] == [14, 15]


def test_what_stores_do_together_is_kept_and_noise_is_not() -> None:
    random = np.random.default_rng(2)
    truth = np.outer(random.uniform(50, 200, 120), 1 + 0.3 * np.sin(np.arange(70) / 4))
    panel = made(truth + random.normal(0, 8, truth.shape))
    order = [int(each[1:]) for each in panel.keys["product_id"]]
    smooth = seasonal.smoothed(panel, 70)
    missed = np.abs(smooth - truth[order]).mean(), np.abs(panel.units - truth[order]).mean()
    assert missed[0] < 0.7 * missed[1]


def test_quantiles_follow_a_moved_median() -> None:
    config = InventoryConfig(quantiles=(0.1, 0.5, 0.9))
    quantiles = np.array([[[8.0, 10.0, 14.0], [0.0, 0.0, 2.0], [8.0, 10.0, 14.0]]], np.float32)
    found = ensemble.moved_to(quantiles, np.array([[15.0, 3.0, 40.0]], np.float32), config)
    assert found[0, 0].tolist() == [12, 15, 21]  # half as much again, also in width
    assert found[0, 1].tolist() == [3, 3, 5]  # nothing to stretch
    assert found[0, 2].tolist() == [2 * 8 + 20, 40, 2 * 14 + 20]  # twice, then shifted


def test_a_method_that_an_earlier_window_lacks_gets_no_weight() -> None:
    """A little more than a year of the past: only the last window has a season before it."""
    panel, steps = made(np.full((3, 30), 6.0)), CONFIG.horizon
    flat = np.full((3, steps), 6, np.float32)
    windows = []
    for origin, names in ((10, ("a", "b")), (20, ("a", "season", "b"))):
        centres = dict.fromkeys(names, flat)
        spread = ensemble.plain_quantiles(panel, origin, centres, CONFIG)
        windows.append(ensemble.Members(origin, centres, spread))
    found = ensemble.learn(panel, windows, CONFIG)
    assert set(found.combination.mean["smooth"]) == {"a", "b"}
    combined = ensemble.combined(panel, windows[1], found, CONFIG)
    np.testing.assert_allclose(combined.mean, flat, rtol=1e-5)
