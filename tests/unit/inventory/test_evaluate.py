"""The judgement: held-out windows stay unseen, and only what beats plain methods passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ecom_tasks.errors import ModelRejectedError
from ecom_tasks.inventory import baselines, evaluate
from tests.unit.inventory import shop

CONFIG = shop.small(history=8, test_windows=2, calibration_windows=2)
WEEKS = 30
UNITS = np.random.default_rng(5).poisson(8, size=(30, WEEKS)) + 1.0


def scores(own: float | None, plain: dict[str, float | None]) -> dict[str, Any]:
    return {
        "model": {"wrmsse": own},
        "baselines": {name: {"wrmsse": value} for name, value in plain.items()},
        "windows": [{}, {}],
    }


def test_a_test_window_is_forecast_without_sight_of_it() -> None:
    spoilt = UNITS.copy()
    spoilt[:, -2:] = 500
    # The choice and order of series rest on weeks before the first test window: the same in both.
    judged, other = (
        evaluate.backtest(shop.panel(units, CONFIG), CONFIG) for units in (UNITS, spoilt)
    )
    assert [each.origin for each in judged.tests] == [WEEKS - 4, WEEKS - 2]
    for each, same in zip(judged.tests, other.tests, strict=True):
        np.testing.assert_array_equal(each.mean, same.mean)
        np.testing.assert_array_equal(each.quantiles, same.quantiles)
    # What the release learns from the last windows does change.
    assert judged.calibration != other.calibration


def test_the_weeks_before_do_change_a_forecast() -> None:
    other = UNITS.copy()
    other[:, WEEKS - 3] += 30
    judged, changed = (
        evaluate.backtest(shop.panel(units, CONFIG), CONFIG) for units in (UNITS, other)
    )
    np.testing.assert_array_equal(judged.tests[0].mean, changed.tests[0].mean)
    assert not np.array_equal(judged.tests[1].mean, changed.tests[1].mean)


def test_figures_are_means_of_the_windows() -> None:
    panel = shop.panel(UNITS, CONFIG)
    sold = [evaluate.actual(panel, origin, CONFIG) for origin in (26, 28)]
    levels = len(CONFIG.quantiles)
    perfect = evaluate.Window(26, sold[0], np.repeat(sold[0][..., None], levels, axis=2))
    above = evaluate.Window(28, sold[1] + 1, np.repeat(sold[1][..., None] + 1, levels, axis=2))
    found = evaluate.score(panel, [perfect, above], CONFIG)
    first, second = found["windows"]
    assert first["model"]["wrmsse"] == 0
    assert second["model"]["wape"] == pytest.approx(60 / sold[1].sum())
    assert second["model"]["bias"] == pytest.approx(60 / sold[1].sum())
    assert found["model"]["wape"] == pytest.approx((0 + 60 / sold[1].sum()) / 2)
    assert found["model"]["pinball_0.9"] == pytest.approx((0 + 0.1 * 1) / 2)
    assert found["coverage"] == {"0.8": 0.5, "0.9": 0.5, "0.98": 0.5}
    assert set(found["baselines"]) == {"naive", "moving average of 8 weeks"}


def test_what_cannot_be_told_is_none() -> None:
    panel = shop.panel(np.full((2, WEEKS), 4.0), CONFIG)
    tests = [
        evaluate.Window(
            origin, np.full((2, 2), 4.0, np.float32),
            np.full((2, 2, len(CONFIG.quantiles)), 4.0, np.float32),
        )
        for origin in (26, 28)
    ]  # fmt: skip
    found = evaluate.score(panel, tests, CONFIG)
    assert found["model"]["wrmsse"] is None
    assert found["model"]["wape"] == 0
    with pytest.raises(ModelRejectedError, match="no series that sold"):
        evaluate.gate(found)


def test_the_gate_names_the_best_plain_method() -> None:
    plain = {"naive": 0.9, "moving average": 0.7, "seasonal naive": None}
    assert evaluate.best_baseline(scores(0.6, plain)) == ("moving average", 0.7)
    evaluate.gate(scores(0.6999, plain))
    for own in (0.7, 0.8):
        with pytest.raises(
            ModelRejectedError, match=r"does not beat 0\.7000 of the moving average"
        ):
            evaluate.gate(scores(own, plain))


def test_plain_methods_by_hand() -> None:
    panel = shop.panel(np.arange(1.0, WEEKS + 1)[None, :], CONFIG)
    found = baselines.forecast(panel, 20, shop.small(season=10))
    assert found["naive"].tolist() == [[20, 20]]
    assert found["moving average of 8 weeks"].tolist() == [[16.5, 16.5]]  # mean of 13 to 20
    assert found["seasonal naive"].tolist() == [[11, 12]]
    assert "seasonal naive" not in baselines.forecast(panel, 20, shop.small(season=21))


def test_a_season_shorter_than_the_horizon_repeats() -> None:
    panel = shop.panel(np.arange(1.0, WEEKS + 1)[None, :], CONFIG)
    found = baselines.forecast(panel, 20, shop.small(season=2, horizon=3))
    assert found["seasonal naive"].tolist() == [[19, 20, 19]]
