"""What the forecaster sees: never the future, and the right thing of the past."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from ecom_tasks.errors import ConfigError
from ecom_tasks.inventory.features import (
    history,
    last_known,
    level,
    planned,
    plans_reach,
    week_ahead,
)
from ecom_tasks.inventory.panel import Panel
from tests.builders import MONDAY
from tests.unit.inventory import shop

WEEKS, ORIGIN = 70, 66
RANDOM = np.random.default_rng(3)
UNITS = RANDOM.poisson(6, size=(6, WEEKS)).astype(float)
# Announced on the Monday before the week starts, so that of product 1 is known only after the
# origin; that of product 2 for the same week was announced long before.
SHOWN = [(0, 20), (0, 40), (1, 30), (0, ORIGIN), (1, ORIGIN + 1), (2, ORIGIN + 1)]
ANNOUNCED = [MONDAY + timedelta(weeks=week - 1) for _, week in SHOWN[:-1]]
ANNOUNCED.append(MONDAY + timedelta(weeks=60))
CONFIG = shop.small()


def panel(units: np.ndarray = UNITS) -> Panel:
    return shop.panel(units, CONFIG, shop.displays(SHOWN, ANNOUNCED))


def seen(panel: Panel, step: int) -> dict[str, np.ndarray]:
    return history(panel, ORIGIN) | week_ahead(panel, ORIGIN, step, "US")


@pytest.mark.parametrize("step", [1, 2])
def test_what_comes_after_the_origin_changes_nothing(step: int) -> None:
    before = panel()
    later = {
        name: getattr(before, name).copy()
        for name in ("units", "sales", "orders", "locations", "price", "discount_depth")
    }
    for values in later.values():
        values[:, ORIGIN:] = 99
    hidden = before.plans["display"].copy()
    # A plan that is announced later, and everything beyond the week asked for.
    hidden[1, ORIGIN + 1] = 0
    hidden[:, ORIGIN + step :] = 0
    after = replace(before, **later, plans={"display": hidden})
    expected, found = seen(before, step), seen(after, step)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_the_past_does_change_it() -> None:
    other = UNITS.copy()
    other[:, ORIGIN - 1] += 5
    assert not np.array_equal(
        history(panel(other), ORIGIN)["lag_1"], history(panel(), ORIGIN)["lag_1"]
    )


def test_lags_and_means_by_hand() -> None:
    weeks = np.arange(1.0, WEEKS + 1)[None, :]
    found = shop.panel(weeks, CONFIG)
    base = 0.7 * np.mean(range(59, 67)) + 0.3 * np.mean(range(41, 67)) + 0.1
    assert level(found, ORIGIN)[0] == pytest.approx(base)
    past = history(found, ORIGIN)
    assert past["lag_1"][0] == pytest.approx(66 / base)
    assert past["lag_8"][0] == pytest.approx(59 / base)
    assert past["mean_4"][0] == pytest.approx(np.mean([63, 64, 65, 66]) / base)
    assert past["weeks_since_first_sale"][0] == ORIGIN
    assert past["weeks_since_last_sale"][0] == 0
    # Week 67 (column 66) a year ago: column 14 by the mean of columns 8 to 20.
    assert week_ahead(found, ORIGIN, 1, "US")["year_ago"][0] == pytest.approx(
        15 / (np.mean(range(9, 22)) + 0.1)
    )


def test_a_plan_counts_from_its_announcement_on() -> None:
    found = panel()
    rows = found.keys["product_id"].to_list()
    late, early = rows.index("p001"), rows.index("p002")
    before = planned(found, ORIGIN, ORIGIN + 1)["display"]
    after = planned(found, ORIGIN + 1, ORIGIN + 1)["display"]
    assert (before[late], before[early]) == (0, 1)
    assert (after[late], after[early]) == (1, 1)
    assert plans_reach(found, ORIGIN) == ORIGIN + 1
    assert plans_reach(found, 60) == 40


def test_beyond_every_plan_promotion_is_taken_to_be_as_usual() -> None:
    found = panel()
    rows = found.keys["product_id"].to_list()
    at = 44  # the last plan known then is for week 40, within the 8 weeks before
    assert planned(found, at, at)["display"][rows.index("p000")] == 1 / 8
    assert planned(found, at, at)["display"][rows.index("p001")] == 0


def test_holidays_of_the_country_are_counted() -> None:
    # Monday 2024-01-01 plus 51 weeks is 2024-12-23.
    found = shop.panel(np.ones((1, 60)), CONFIG)
    american = week_ahead(found, 51, 1, "US")
    assert american["holidays"][0] == 1
    assert american["holidays_after"][0] == 1  # New Year's Day 2025
    british = week_ahead(found, 51, 1, "GB")
    assert british["holidays"][0] == 2  # and Boxing Day
    # Maundy Thursday, Good Friday and Easter Sunday, 2024-03-31.
    assert week_ahead(found, 12, 1, "NO")["holidays"][0] == 3


def test_an_unknown_country_is_named() -> None:
    with pytest.raises(ConfigError, match="country='XX'"):
        week_ahead(shop.panel(np.ones((1, 60)), CONFIG), 51, 1, "XX")


def test_gifts_have_no_price_to_compare_with() -> None:
    free = panel()
    past = history(replace(free, price=np.zeros_like(free.price)), ORIGIN)
    assert past["price_last"].tolist() == [0.0] * len(UNITS)


@pytest.mark.parametrize(
    "sold",
    [
        {},  # nothing before the origin
        {3: 1.0},  # one point
        dict.fromkeys(range(WEEKS), 5.0),  # never varies
    ],
)
def test_degenerate_series_have_finite_features(sold: dict[int, float]) -> None:
    units = np.vstack([np.zeros(WEEKS), np.full(WEEKS, 2.0)])
    for week, count in sold.items():
        units[0, week] = count
    units[0, ORIGIN] = 1  # so that it is chosen at all
    found = shop.panel(units, shop.small(test_windows=1), shop.displays(SHOWN[:1], ANNOUNCED[:1]))
    features = seen(found, 1)
    unknown = {name for name, values in features.items() if np.isnan(values).any()}
    # XGBoost takes NaN as unknown; only what needs a price or a sale may be so.
    assert {name.split("_")[0] for name in unknown} <= {"price", "discount", "log", "year"}
    assert not any(np.isinf(values).any() for values in features.values())


def test_the_last_known_value_is_found() -> None:
    nan = float("nan")
    values = np.array([[1, nan, 3], [4, nan, nan], [nan, nan, nan]], dtype=np.float32)
    assert last_known(values).tolist()[:2] == [3, 4]
    assert np.isnan(last_known(values)[2])
