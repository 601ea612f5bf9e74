"""Stock formulas: the textbook's own numbers and what must always hold."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecom_tasks.metrics import inventory as metrics

Z95 = NormalDist().inv_cdf(0.95)


def test_safety_stock_by_hand() -> None:
    found = metrics.safety_stock(0.95, 10.0, 4.0, protection_days=9.0, lead_time_days_std=2.0)
    assert float(found) == pytest.approx(Z95 * math.sqrt(9 * 4**2 + 10**2 * 2**2))


def test_constant_demand_and_lead_time_need_no_safety() -> None:
    assert float(metrics.safety_stock(0.99, 10.0, 0.0, 14.0)) == 0
    assert float(metrics.reorder_point(10.0, 7.0, 0.0)) == 10 * 7
    assert float(metrics.base_stock_level(10.0, 7.0, 14.0, 3.0)) == 10 * (7 + 14) + 3


def test_no_lead_time_leaves_only_the_review_period() -> None:
    assert float(metrics.reorder_point(10.0, 0.0, 5.0)) == 5
    assert float(metrics.base_stock_level(10.0, 0.0, 7.0, 5.0)) == 10 * 7 + 5


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_service_level_is_a_probability(level: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        metrics.safety_stock(level, 1.0, 1.0, 1.0)


def test_service_by_hand() -> None:
    demand = np.array([[1.0, 3.0], [5.0, 0.0]])
    stock = np.array([3.0, 4.0])
    assert metrics.cycle_service_level(demand, stock) == 3 / 4
    assert metrics.fill_rate(demand, stock) == 1 - (5 - 4) / (1 + 3 + 5 + 0)


def test_without_demand_all_of_it_is_met() -> None:
    assert metrics.fill_rate(np.zeros((2, 3)), np.zeros(2)) == 1
    assert metrics.cycle_service_level(np.zeros((2, 3)), np.zeros(2)) == 1


@given(
    st.floats(0.5, 0.99),
    st.floats(0, 100),
    st.floats(0, 50),
    st.floats(0, 60),
    st.floats(0, 10),
    st.floats(1, 3),
)
def test_more_of_any_risk_needs_no_less_safety(
    level: float, mean: float, spread: float, days: float, late: float, more: float
) -> None:
    base = metrics.safety_stock(level, mean, spread, days, late)
    assert base >= 0
    assert metrics.safety_stock(level, mean, spread * more, days, late) >= base
    assert metrics.safety_stock(level, mean, spread, days * more, late) >= base
    assert metrics.safety_stock(level, mean, spread, days, late * more) >= base
    assert metrics.safety_stock(min(level * more, 0.999), mean, spread, days, late) >= base


def test_normal_demand_is_served_as_often_as_asked() -> None:
    days, count = 9, 20_000
    demand = np.random.default_rng(0).normal(10, 4, size=(1, count, days)).sum(axis=-1)
    safety = metrics.safety_stock(0.95, 10.0, 4.0, float(days))
    stock = metrics.reorder_point(10.0, float(days), safety)
    # Four standard errors of a share of 0.95.
    assert metrics.cycle_service_level(demand, stock.reshape(1)) == pytest.approx(
        0.95, abs=4 * math.sqrt(0.95 * 0.05 / count)
    )
