"""The forecaster learns what was planted, from the past alone, and survives odd series."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecom_tasks.inventory import forecast, whatif
from ecom_tasks.inventory.panel import Panel
from tests.builders import MONDAY
from tests.unit.inventory import shop

CONFIG = shop.small(history=8)
WEEKS, SERIES = 40, 60
EVERY = 5


def promoted_shop() -> Panel:
    """Return a shop that sells 10 a week, 30 while on display, every fifth week by turns."""
    random = np.random.default_rng(0)
    shown = [(row, week) for row in range(SERIES) for week in range(row % EVERY, WEEKS + 2, EVERY)]
    units = random.poisson(10, size=(SERIES, WEEKS)).astype(float) + 0.0
    for row, week in shown:
        if week < WEEKS:
            units[row, week] += 20
    early = [MONDAY + timedelta(weeks=week - 5) for _, week in shown]
    return shop.panel(np.maximum(units, 1), CONFIG, shop.displays(shown, early))


@pytest.fixture(scope="module")
def promoted() -> Panel:
    return promoted_shop()


def test_a_planned_promotion_is_forecast_with_its_effect(promoted: Panel) -> None:
    models = forecast.fit(promoted, CONFIG)
    ahead = forecast.rows_ahead(promoted, WEEKS, CONFIG)
    mean = forecast.predict_mean(models.mean, ahead, 2)
    quantiles = forecast.predict_quantiles(models.quantiles, ahead, 2)
    shown = promoted.plans["display"][:, WEEKS:] > 0
    assert mean[shown].mean() == pytest.approx(10 + 20, rel=0.1)
    assert mean[~shown].mean() == pytest.approx(10, rel=0.1)
    median = quantiles[..., CONFIG.quantiles.index(0.5)]
    assert median[shown].min() > median[~shown].max()
    assert (np.diff(quantiles, axis=-1) >= 0).all()


def test_what_a_promotion_would_add_is_forecast_with_its_interval(promoted: Panel) -> None:
    models = forecast.fit(promoted, CONFIG)
    found = whatif.table(promoted, models, CONFIG)
    assert found.height == SERIES
    assert found["promotion"].unique().to_list() == ["display"]
    # Also of products that are asked for off their rhythm of five weeks.
    by_turn = found.group_by(pl.col("product_id").str.tail(3).cast(pl.Int64) % EVERY)
    assert by_turn.agg(pl.col("uplift").mean())["uplift"].to_list() == pytest.approx(
        [20] * EVERY, rel=0.1
    )
    assert found["units_without"].mean() == pytest.approx(10, rel=0.05)
    assert (found["uplift_q10"] < found["uplift"]).mean() > 0.9  # type: ignore[operator]
    assert (found["uplift_q90"] > found["uplift"]).mean() > 0.9  # type: ignore[operator]
    assert set(found["weeks_promoted"]) == {WEEKS // EVERY}
    plain = replace(promoted, plans={})
    rows = forecast.fit(plain, CONFIG)
    assert whatif.table(plain, rows, CONFIG).is_empty()


def test_the_same_seed_gives_the_same_model(promoted: Panel) -> None:
    first, second = (forecast.fit(promoted, CONFIG) for _ in range(2))
    assert first.mean.save_raw() == second.mean.save_raw()
    assert first.quantiles.save_raw() == second.quantiles.save_raw()


def test_rows_are_what_was_known_and_what_came(promoted: Panel) -> None:
    rows = forecast.training_rows(promoted, CONFIG)
    pairs = (WEEKS - 8) + (WEEKS - 8 - 1)  # origins 8..39 for step 1, 8..38 for step 2
    assert len(rows.target) == pairs * SERIES
    assert rows.weeks_known.min() == 8 + 1
    assert rows.weeks_known.max() == WEEKS
    np.testing.assert_array_equal(rows.target, promoted.units[rows.series, rows.weeks_known - 1])
    steps = rows.features[:, rows.names.index("step")].astype(int)
    last = promoted.units[rows.series, rows.weeks_known - steps - 1]
    lag = rows.features[:, rows.names.index("lag_1")]
    np.testing.assert_allclose(lag * rows.level, last, rtol=1e-5)


def test_rows_are_sampled_to_the_limit(promoted: Panel) -> None:
    few = forecast.training_rows(promoted, shop.small(training_rows=1000, history=8))
    assert 1000 * 0.85 < len(few.target) < 1000 * 1.15


def test_what_comes_after_the_origin_trains_nothing(promoted: Panel) -> None:
    origin = WEEKS - 2
    rows = forecast.training_rows(promoted, CONFIG)
    spoilt = forecast.training_rows(promoted, CONFIG)
    spoilt.target[spoilt.weeks_known > origin] = 1e6
    for fit in (forecast.fit_mean, forecast.fit_quantiles):
        expected = fit(promoted, rows, origin, CONFIG).save_raw()
        assert fit(promoted, spoilt, origin, CONFIG).save_raw() == expected


def test_odd_series_get_finite_forecasts() -> None:
    units = np.random.default_rng(1).poisson(5, size=(20, WEEKS)).astype(float)
    units[0] = 0
    units[0, 3] = 1  # one point, then nothing
    units[1] = 7  # never varies
    units[2, :-2] = 0
    units[2, 5] = 100_000  # one lump
    panel = shop.panel(units, CONFIG)
    models = forecast.fit(panel, CONFIG)
    ahead = forecast.rows_ahead(panel, WEEKS, CONFIG)
    mean = forecast.predict_mean(models.mean, ahead, 2)
    quantiles = forecast.predict_quantiles(models.quantiles, ahead, 2)
    assert np.isfinite(mean).all()
    assert np.isfinite(quantiles).all()
    rows = panel.keys["product_id"].to_list()
    assert mean[rows.index(shop.product(0))].max() < 1
    assert mean[rows.index(shop.product(1))] == pytest.approx(7, rel=0.25)


@given(arrays(np.float32, (3, 2, 5), elements=st.floats(-100, 100, width=32)))
def test_quantiles_never_cross(quantiles: forecast.Quantiles) -> None:
    found = forecast.never_crossing(quantiles)
    assert (np.diff(found, axis=-1) >= 0).all()
    assert (found >= 0).all()
    kept = np.sort(np.maximum(quantiles, 0), axis=-1)
    np.testing.assert_array_equal(found, kept)


@pytest.mark.parametrize("objective", ["poisson", "tweedie"])
def test_other_objectives_of_the_mean(promoted: Panel, objective: str) -> None:
    config = shop.small(history=8, mean_objective=objective)
    units = promoted.units.copy()
    units[0, 20] = -3  # more came back than went out
    models = forecast.fit(replace(promoted, units=units), config)
    said = json.loads(models.mean.save_config())["learner"]["objective"]["name"]
    assert said == {"poisson": "count:poisson", "tweedie": "reg:tweedie"}[objective]
    mean = forecast.predict_mean(models.mean, forecast.rows_ahead(promoted, WEEKS, config), 2)
    shown = promoted.plans["display"][:, WEEKS:] > 0
    assert mean[shown].mean() == pytest.approx(10 + 20, rel=0.1)
    assert mean[~shown].mean() == pytest.approx(10, rel=0.1)


def test_on_a_cluster_forecasts_are_as_on_one_machine() -> None:
    # An interpreter of its own: worker processes import what started them.
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.inventory.apart"],
        env=os.environ | {"ECOM_DASK": "processes", "ECOM_WORKERS": "2"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["equal"]  # it was trained elsewhere
    assert found["mean"] < 0.05
    assert abs(found["bias"]) < 0.03
    assert found["quantiles"] < 0.1
    assert found["ascending"]
