"""The network learns what was planted, sees the plan, and nothing right of the origin."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecom_tasks.inventory import ensemble, forecast, neural
from ecom_tasks.inventory.panel import Panel
from ecom_tasks.training import demand_network
from tests.builders import MONDAY
from tests.unit.inventory import shop

CONFIG = shop.small(
    history=8, network=True, network_rows=2000, network_epochs=12, network_places=16
)
WEEKS, SERIES, EVERY = 36, 60, 5
EVERYTHING = slice(None)


@pytest.fixture(scope="module")
def promoted() -> Panel:
    """Return a shop that sells 10 a week, 30 while on display, every fifth week by turns."""
    random = np.random.default_rng(0)
    shown = [(row, week) for row in range(SERIES) for week in range(row % EVERY, WEEKS + 2, EVERY)]
    units = random.poisson(10, size=(SERIES, WEEKS)).astype(float)
    for row, week in shown:
        if week < WEEKS:
            units[row, week] += 20
    early = [MONDAY + timedelta(weeks=week - 5) for _, week in shown]
    return shop.panel(np.maximum(units, 1), CONFIG, shop.displays(shown, early))


@pytest.fixture(scope="module")
def made(promoted: Panel) -> tuple[Any, Any, Any]:
    network = neural.fit(promoted, WEEKS, CONFIG)
    assert network is not None
    return network, *neural.predict(network, promoted, WEEKS, CONFIG, EVERYTHING)


def test_a_planned_promotion_is_forecast(promoted: Panel, made: tuple[Any, Any, Any]) -> None:
    _, mean, quantiles = made
    shown = promoted.plans["display"][:, WEEKS:] > 0
    assert mean[shown].mean() == pytest.approx(30, rel=0.1)
    assert mean[~shown].mean() == pytest.approx(10, rel=0.15)
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    wide = quantiles[..., CONFIG.quantiles.index(0.9)] - quantiles[..., CONFIG.quantiles.index(0.1)]
    assert 0 < np.median(wide) < 20


def test_the_same_seed_gives_the_same_forecast(promoted: Panel, made: tuple[Any, Any, Any]) -> None:
    again = neural.fit(promoted, WEEKS, CONFIG)
    assert again is not None
    mean, quantiles = neural.predict(again, promoted, WEEKS, CONFIG, EVERYTHING)
    np.testing.assert_array_equal(mean, made[1])
    np.testing.assert_array_equal(quantiles, made[2])


def test_a_network_is_kept_as_arrays(
    promoted: Panel, made: tuple[Any, Any, Any], tmp_path: Path
) -> None:
    for name in ("first.npz", "second.npz"):
        demand_network.save(made[0], tmp_path / name)
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
    again = demand_network.load(tmp_path / "first.npz")
    mean, quantiles = neural.predict(again, promoted, WEEKS, CONFIG, EVERYTHING)
    np.testing.assert_array_equal(mean, made[1])
    np.testing.assert_array_equal(quantiles, made[2])


def test_some_series_are_forecast_as_all_are(promoted: Panel, made: tuple[Any, Any, Any]) -> None:
    some = np.array([3, 17])
    mean, _ = neural.predict(made[0], promoted, WEEKS, CONFIG, some)
    np.testing.assert_allclose(mean, made[1][some], rtol=1e-5)


def test_nothing_right_of_the_origin_is_seen(promoted: Panel) -> None:
    origin = WEEKS - 2
    units = promoted.units.copy()
    units[:, origin:] += 1000
    config = CONFIG.model_copy(update={"network_epochs": 1})
    found = []
    for panel in (promoted, replace(promoted, units=units)):
        network = neural.fit(panel, origin, config)
        assert network is not None
        found.append(neural.predict(network, panel, origin, config, EVERYTHING)[0])
    np.testing.assert_array_equal(*found)


def test_a_past_too_short_has_no_network() -> None:
    panel = shop.panel(np.full((3, 16), 5.0), CONFIG)
    assert neural.fit(panel, 16, CONFIG) is None


def test_it_is_among_what_is_combined_unless_switched_off(promoted: Panel) -> None:
    origin = WEEKS - 2
    for network in (True, False):
        config = CONFIG.model_copy(update={"network": network, "network_epochs": 1})
        rows = forecast.training_rows(promoted, config)
        [found] = ensemble.members(promoted, rows, [origin], config)
        assert (neural.MEDIAN in found.centres) is network


@pytest.mark.parametrize("places", [12, 7])
def test_places_are_a_power_of_two(places: int) -> None:
    with pytest.raises(ValueError, match="network_places"):
        shop.small(network_places=places)
