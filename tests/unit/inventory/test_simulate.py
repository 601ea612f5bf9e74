"""Policies played on demand whose outcome can be told by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecom_tasks.inventory import simulate
from ecom_tasks.inventory.simulate import Levels, Terms

TERMS = Terms(
    unit_cost=np.array([2.0]), margin=np.array([1.0]), holding_cost_rate=np.array([0.365]),
    order_cost=10.0, pack_size=np.array([1.0]), minimum_order_quantity=np.array([0.0]),
    shelf_life_days=np.array([np.inf]), review_days=7,
)  # fmt: skip
WEEKS = 10


def up_to(level: float, below: float | None = None) -> Levels:
    return Levels(np.array([[level if below is None else below]]), np.array([[level]]))


def played(
    demand: np.ndarray, level: Levels, lead: int = 3, start: float = 50, **changes: object
) -> simulate.Outcome:
    days = demand.shape[1]
    lead_days = np.full((1, 2, days), lead)
    warm_up = int(changes.pop("warm_up_days", 0))  # type: ignore[call-overload]
    terms = replace(TERMS, **changes)
    return simulate.run(demand, level, lead_days, terms, np.array([start]), warm_up)


def steady(units: float = 5.0, days: int = 7 * WEEKS) -> np.ndarray:
    return np.full((1, days), units)


def test_enough_stock_serves_all_and_one_unit_less_does_not() -> None:
    # Review and lead time: ten days of five.
    assert played(steady(), up_to(50)).fill_rate == 1
    # Each order comes when its ten days' 50 are one more than there is: a unit short in every
    # cycle but the first, if customers wait. A lost sale leaves one more for the next cycle.
    late = played(steady(), up_to(49), start=49, backorders=True)
    assert late.fill_rate == pytest.approx(1 - (WEEKS - 1) / (5 * 7 * WEEKS))
    lost = played(steady(), up_to(49), start=49)
    assert lost.fill_rate == pytest.approx(1 - WEEKS / 2 / (5 * 7 * WEEKS))
    assert lost.cycle_service_level == pytest.approx(1 / 2)
    assert lost.stock_out_days == pytest.approx(WEEKS / 2 / (7 * WEEKS))


def test_costs_by_hand() -> None:
    found = played(steady(), up_to(50), lead=0)
    assert found.orders == WEEKS - 1  # on day 0 the shelf is full
    assert found.ordering_cost == 10 * (WEEKS - 1)
    # An order of the day of review is on the shelf the next morning. A cycle's evenings hold
    # 45 after day 0 of the first, then 40, 35, ..., 15, 10 on the day of review, then 50 - 10 = ..
    evenings, stock = [], 50.0
    for day in range(7 * WEEKS):
        if day % 7 == 1 and day > 1:
            stock += 35
        stock -= 5
        evenings.append(stock)
    assert found.average_stock_value == pytest.approx(2 * np.mean(evenings))
    assert found.holding_cost == pytest.approx(sum(evenings) * 2 * 0.365 / 365)
    assert found.shortage_cost == found.waste_cost == 0
    assert found.total_cost == pytest.approx(found.holding_cost + found.ordering_cost)


def test_lost_sales_are_lost_and_backorders_are_served_later() -> None:
    demand = np.zeros((1, 21))
    demand[0, 0] = 30
    lost = played(demand, up_to(20), start=20)
    late = played(demand, up_to(20), start=20, backorders=True)
    assert lost.fill_rate == late.fill_rate == pytest.approx(20 / 30)
    assert lost.shortage_cost == 10 * 1.0
    # Ten wait, so that the next order is of 30 instead of 20; the shelf then holds 20 in both.
    assert late.average_stock_value == pytest.approx(lost.average_stock_value)
    assert lost.orders == late.orders == 1


def test_nothing_is_ordered_above_the_reorder_point() -> None:
    often, seldom = played(steady(), up_to(120)), played(steady(), up_to(120, below=51))
    assert seldom.orders < often.orders
    assert seldom.fill_rate == often.fill_rate == 1
    assert seldom.average_stock_value < often.average_stock_value


def test_packs_and_least_orders_hold() -> None:
    demand = steady(5, 28)
    # Missing 35 a week: packs of 20 make 40; then the next week lacks 30, which is 40 again.
    packs = played(demand, up_to(50), pack_size=np.array([20.0]))
    least = played(demand, up_to(50), minimum_order_quantity=np.array([100.0]))
    assert least.orders < packs.orders <= 3
    assert packs.fill_rate == least.fill_rate == 1


def test_old_goods_are_thrown_away_oldest_sold_first() -> None:
    demand = steady(1.0, 14)
    found = played(demand, up_to(20, below=-1), start=10, shelf_life_days=np.array([3.0]))
    # Ten fresh ones: three are sold within their three days, seven go.
    assert found.waste_units == 7
    assert found.waste_cost == 7 * 2.0
    keeps = played(demand, up_to(20, below=-1), start=10, shelf_life_days=np.array([100.0]))
    assert keeps.waste_units == 0
    # Goods of two ages: two old, and from day 1 ten fresh; the old ones are sold first.
    both = played(
        np.array([[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]), up_to(12), lead=1, start=2,
        shelf_life_days=np.array([2.0]), review_days=7,
    )  # fmt: skip
    assert both.waste_units == 10


def test_a_shelf_life_shorter_than_the_lead_time_counts_from_receipt() -> None:
    found = played(steady(5.0), up_to(50), lead=5, shelf_life_days=np.array([2.0]))
    assert 0 < found.fill_rate < 1
    assert found.waste_units > 0


def test_the_warm_up_counts_nowhere() -> None:
    demand = steady()
    demand[0, :14] = 1000
    assert played(demand, up_to(50)).fill_rate < 0.5
    later = played(demand, up_to(50), warm_up_days=28)
    assert later.fill_rate == 1
    assert later.orders == WEEKS - 4


def test_the_clairvoyant_is_never_dearer() -> None:
    random = np.random.default_rng(0)
    demand = random.poisson(3, size=(1, 7 * WEEKS)).astype(float)
    best = simulate.clairvoyant_cost(demand, TERMS)
    for level in (0.0, 20.0, 35.0, 60.0, 100.0):
        assert best <= played(demand, up_to(level), start=0.0).total_cost


def test_the_clairvoyant_by_hand() -> None:
    # One week's holding of a unit costs 2 * 0.365 * 7 / 365 = 0.014, an order 10, a unit short 1.
    week = steady(1.0, 14)
    # 14 units: one order and a week's holding of seven.
    assert simulate.clairvoyant_cost(week, TERMS) == pytest.approx(10 + 7 * 0.014)
    # Nine units are not worth an order.
    assert simulate.clairvoyant_cost(steady(1.0, 9), TERMS) == pytest.approx(9)


def test_days_add_up_to_their_weeks() -> None:
    weekly = np.array([[7.0, 0.5, 20.0], [0.0, 3.25, 1.0]])
    days = simulate.daily(weekly, seed=1)
    assert days.shape == (2, 21)
    np.testing.assert_allclose(days.reshape(2, 3, 7).sum(axis=2), weekly)
    np.testing.assert_array_equal(days, simulate.daily(weekly, seed=1))


def test_lead_times_are_common_and_have_the_moments_asked_for() -> None:
    mean, deviation = np.array([7.0, 7.0, 0.0]), np.array([2.0, 0.0, 2.0])
    days = simulate.lead_days(mean, deviation, 20, 300, seed=1)
    assert days[0].mean() == pytest.approx(7, abs=0.1)
    assert days[0].std() == pytest.approx(2, abs=0.1)
    assert (days[1] == 7).all()
    assert (days[2] == 0).all()
    np.testing.assert_array_equal(days, simulate.lead_days(mean, deviation, 20, 300, seed=1))
