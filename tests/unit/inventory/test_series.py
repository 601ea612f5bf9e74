"""From sparse weekly sales to a dense panel."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from ecom_tasks.errors import DataContractError
from ecom_tasks.inventory import series
from ecom_tasks.inventory.config import InventoryConfig
from tests.builders import MONDAY
from tests.unit.inventory import shop

WEEKS = shop.small().periods_needed
STEADY = np.full((1, WEEKS), 3.0)


def test_weeks_without_sales_are_zero() -> None:
    units = np.zeros((2, WEEKS))
    units[0], units[1, 3] = 5, 7
    found = shop.panel(units, shop.small())
    assert found.periods == WEEKS
    assert found.first == MONDAY
    assert found.units.tolist() == units.tolist()
    assert found.sales.tolist() == (2 * units).tolist()
    assert np.isnan(found.price[1]).sum() == WEEKS - 1
    assert found.price[1, 3] == 2


def test_a_week_with_more_returns_than_sales_is_no_demand() -> None:
    units = STEADY.copy()
    units[0, 5] = -4
    found = shop.panel(units, shop.small())
    assert found.units[0, 5] == 0
    assert found.units.sum() == 3 * (WEEKS - 1)
    assert found.sales[0, 5] == 0


def test_what_is_paid_back_elsewhere_leaves_nothing_of_what_was_paid() -> None:
    one = np.ones((1, WEEKS))
    sold = pl.concat([
        shop.demand(one, 1.1, "a"), shop.demand(one, 2.2, "b"), shop.demand(-one, 3.3, "c"),
    ]).lazy()  # fmt: skip
    goods, day = shop.catalogue(1).lazy(), shop.last_day(WEEKS)
    assert series.build([sold], [], goods, day, shop.small()).sales.tolist() == [[0.0] * WEEKS]


def test_a_shop_that_sold_nothing_is_told_so() -> None:
    goods, day = shop.catalogue(1).lazy(), shop.last_day(WEEKS)
    for nothing in ([], [shop.demand(0 * STEADY).lazy()]):
        with pytest.raises(DataContractError, match="got 0"):
            series.build(nothing, [], goods, day, shop.small())


def test_the_week_that_is_not_over_is_left_out() -> None:
    friday = shop.last_day(WEEKS + 1) - timedelta(days=2)
    units = np.full((1, WEEKS + 1), 3.0)
    found = series.build(
        [shop.demand(units).lazy()], [], shop.catalogue(1).lazy(), friday, shop.small()
    )
    assert found.periods == WEEKS


def test_weeks_go_on_to_the_day_of_the_run_where_nothing_sells_any_more() -> None:
    found = series.build(
        [shop.demand(STEADY).lazy()], [], shop.catalogue(1).lazy(), shop.last_day(WEEKS + 3),
        shop.small(),
    )  # fmt: skip
    assert found.units[0].tolist() == [3.0] * WEEKS + [0.0] * 3


def test_too_short_a_history_says_how_many_weeks_are_needed() -> None:
    with pytest.raises(DataContractError, match=f"needs {WEEKS} complete weeks.*got {WEEKS - 1}"):
        shop.panel(STEADY[:, :-1], shop.small())
    # (test + calibration + 1) windows of 2 weeks, and 8 to look back upon
    assert WEEKS == (1 + 1 + 1) * 2 + 8


def test_locations_are_summed_unless_asked_for() -> None:
    both = pl.concat([
        shop.demand(STEADY, location="north"),
        shop.demand(4 * STEADY, location="south", price=1.0),
    ]).lazy()
    products, day = shop.catalogue(1).lazy(), shop.last_day(WEEKS)
    summed = series.build([both], [], products, day, shop.small())
    assert summed.keys["location_id"].to_list() == ["all"]
    assert summed.units[0].tolist() == [3 + 12] * WEEKS
    assert summed.locations[0].tolist() == [2] * WEEKS
    # Weighted by units: 3 at 2.00 and 12 at 1.00.
    assert summed.price[0, 0] == pytest.approx((3 * 2 + 12 * 1) / 15)
    apart = series.build([both], [], products, day, shop.small(by_location=True))
    assert apart.keys["location_id"].to_list() == ["south", "north"]
    assert apart.units[:, 0].tolist() == [12, 3]


def test_parts_of_products_lay_out_what_the_whole_does() -> None:
    random = np.random.default_rng(0)
    units = random.poisson(2.0, size=(2, 9, WEEKS)).astype(float)
    units[0, 0] = 0  # sold in one place only
    units[:, 3::4, :2] = 0  # the last part begins later
    sold = pl.concat(
        shop.demand(each, location=place)
        for each, place in zip(units, ("north", "south"), strict=True)
    )
    plans = shop.displays([(row, 4) for row in range(9)], [MONDAY] * 9)
    for settings in (shop.small(products=5), shop.small(products=5, by_location=True)):

        def found(
            parts: int, settings: InventoryConfig = settings
        ) -> tuple[pl.DataFrame, pl.DataFrame]:
            here = pl.col("product_id").str.slice(1).cast(pl.Int64) % parts
            dealt = [[table.lazy().filter(here == part) for part in range(parts)]
                     for table in (sold, plans)]  # fmt: skip
            goods, day = shop.catalogue(9).lazy(), shop.last_day(WEEKS)
            return series.to_frames(series.build(*dealt, goods, day, settings))

        (keys, cells), (keys_apart, cells_apart) = found(1), found(4)
        assert keys["product_id"].n_unique() == 5
        assert keys_apart.equals(keys)
        assert cells_apart.equals(cells)


def test_best_sellers_are_chosen_without_sight_of_the_test_window() -> None:
    units = np.zeros((3, WEEKS))
    units[0], units[1, :3] = 1, 2
    units[2, -2:] = 1000  # sells in the test window only
    assert shop.panel(units, shop.small()).keys["product_id"].to_list() == ["p000", "p001"]
    best = shop.panel(units, shop.small(products=1))
    assert best.keys["product_id"].to_list() == ["p000"]


def test_products_ordered_too_rarely_are_left_out() -> None:
    units = np.zeros((2, WEEKS))
    units[0], units[1, 2] = 1, 500  # one order of 500 units
    assert shop.panel(units, shop.small(minimum_orders=2)).keys["product_id"].to_list() == ["p000"]
    with pytest.raises(DataContractError, match=f"ordered {WEEKS} times"):
        shop.panel(units, shop.small(minimum_orders=WEEKS))


def test_plans_ahead_are_laid_out_with_the_week_they_become_known() -> None:
    sunday = shop.last_day(3)  # closes week 2: known to who knows 3 weeks
    plan = shop.displays(
        [(0, 4), (0, WEEKS + 1), (0, WEEKS + 2)], [sunday, sunday + timedelta(days=1), sunday]
    )
    found = shop.panel(STEADY, shop.small(), plan)
    assert found.plans["display"][0].nonzero()[0].tolist() == [4, WEEKS + 1]
    assert found.plans.keys() == {"display"}
    assert found.announced[0, [4, WEEKS + 1]].tolist() == [3, 4]


def test_the_panel_survives_being_stored() -> None:
    units = np.arange(2.0 * WEEKS).reshape(2, WEEKS)
    before = shop.panel(units, shop.small(), shop.displays([(1, 2)], [MONDAY]))
    after = series.from_frames(*series.to_frames(before), shop.small())
    assert after.keys.equals(before.keys)
    assert (after.first, after.periods) == (before.first, before.periods)
    for name in (*series.MEASURES, "announced"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    np.testing.assert_array_equal(after.plans["display"], before.plans["display"])


def test_a_stored_panel_need_not_be_in_order() -> None:
    before = shop.panel(np.arange(2.0 * WEEKS).reshape(2, WEEKS), shop.small())
    keys, weeks = series.to_frames(before)
    after = series.from_frames(keys, weeks.reverse(), shop.small())
    np.testing.assert_array_equal(after.units, before.units)


@pytest.mark.parametrize(("weekday", "complete"), [(0, -1), (5, -1), (6, 0)])
def test_a_week_is_complete_on_its_sunday(weekday: int, complete: int) -> None:
    day = MONDAY + timedelta(weeks=3, days=weekday)
    assert series.last_complete_week(day) == MONDAY + timedelta(weeks=3 + complete)
