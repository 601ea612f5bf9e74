"""Weights find the forecast that is right, for each kind of demand."""

from __future__ import annotations

import numpy as np
import pytest

from ecom_tasks.inventory import combine
from tests.unit.inventory import shop

WEEKS, STEPS = 40, 4
CONFIG = shop.small()


def test_demand_is_sorted_by_interval_and_variation() -> None:
    units = np.zeros((4, WEEKS))
    units[0] = 5  # every week
    units[1, ::3] = 4  # every third week, always 4
    units[2, ::3] = np.resize([1, 20], 14)  # every third week; squares: (10.5^2 + 9.5^2), cv2 .82
    units[3, -5:] = 3  # five weeks old
    panel = shop.panel(units, CONFIG)
    kinds = dict(zip(panel.keys["product_id"], combine.segments(panel, WEEKS), strict=True))
    assert [kinds[shop.product(row)] for row in range(4)] == [
        combine.SMOOTH, combine.INTERMITTENT, combine.LUMPY, combine.NEW,
    ]  # fmt: skip
    # At week 36 the new one has a single week behind it, and at week 30 none.
    assert combine.segments(panel, 36)[panel.keys["product_id"].to_list().index("p003")] == "new"


def right_and_wrong(kind: str) -> tuple[combine.Combination, np.ndarray]:
    """Fit on a truth, a copy of it that is 5 too high, and noise around it."""
    random = np.random.default_rng(0)
    units = random.poisson(30, size=(200, WEEKS)).astype(float)
    panel = shop.panel(units, CONFIG)
    origin = WEEKS - STEPS
    actual = panel.units[:, origin:]
    made = {
        "noise": actual + random.normal(0, 10, actual.shape).astype(np.float32),
        "high": actual + 5,
        "right": actual + random.normal(0, 0.01, actual.shape).astype(np.float32),
    }
    if kind == "opposite":
        made["right"] = actual - 5
    return combine.fit(panel, [(origin, made)], shrinkage=1e-4), actual


@pytest.mark.parametrize("centre", ["mean", "median"])
def test_the_right_forecast_takes_the_weight(centre: str) -> None:
    found, _ = right_and_wrong("exact")
    weights = getattr(found, centre)[combine.SMOOTH]
    assert weights["right"] > 0.98
    assert sum(weights.values()) == pytest.approx(1, abs=1e-5)
    assert min(weights.values()) >= 0


def test_opposite_errors_cancel() -> None:
    found, actual = right_and_wrong("opposite")
    weights = found.mean[combine.SMOOTH]
    assert weights["high"] == pytest.approx(weights["right"], abs=0.02)
    made = {"noise": actual, "high": actual + 5, "right": actual - 5}
    combined = combine.apply(found.mean, made, np.full(len(actual), combine.SMOOTH))
    np.testing.assert_allclose(combined, actual, atol=0.2)


def test_a_small_segment_takes_the_weights_of_all() -> None:
    found, _ = right_and_wrong("exact")
    assert found.mean[combine.LUMPY] == found.mean[combine.NEW]


def test_a_method_that_is_missing_leaves_its_share_to_the_others() -> None:
    weights = {segment: {"a": 0.5, "b": 0.25, "c": 0.25} for segment in combine.SEGMENTS}
    found = combine.among(combine.Combination(weights, weights), ["a", "c"])
    assert found.mean[combine.SMOOTH] == {"a": pytest.approx(2 / 3), "c": pytest.approx(1 / 3)}
    unknown = combine.among(combine.equal([]), ["x", "y"])
    assert unknown.median[combine.NEW] == {"x": 0.5, "y": 0.5}


def test_nothing_observed_gives_equal_weights() -> None:
    panel = shop.panel(np.full((2, WEEKS), 3.0), CONFIG)
    made = {"a": np.ones((2, STEPS), np.float32), "b": np.ones((2, STEPS), np.float32)}
    from dataclasses import replace

    blind = replace(panel, observed=np.zeros(panel.units.shape, np.bool_))
    found = combine.fit(blind, [(WEEKS - STEPS, made)], 0.1)
    assert found.mean[combine.SMOOTH] == {"a": 0.5, "b": 0.5}
