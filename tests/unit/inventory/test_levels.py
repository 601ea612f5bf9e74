"""Stock levels from samples, against the formulas that they generalise."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from ecom_tasks.inventory import levels

NORMAL = NormalDist()


def normal(mean: float, deviation: float, samples: int = 20_000) -> np.ndarray:
    z = np.array([NORMAL.inv_cdf((i + 0.5) / samples) for i in range(samples)])
    return mean + deviation * z[None, :]


@pytest.mark.parametrize("probability", [0.5, 0.9, 0.975])
def test_cycle_service_is_a_quantile(probability: float) -> None:
    found = levels.for_cycle_service(normal(100, 20), probability)
    assert found[0] == pytest.approx(100 + 20 * NORMAL.inv_cdf(probability), abs=0.05)
    each = levels.for_cycle_service(normal(100, 20), np.array([probability]))
    assert each[0] == pytest.approx(found[0])


def test_fill_rate_by_hand() -> None:
    demand = np.array([[0.0, 10.0, 20.0, 30.0]])
    # At level 20: (30 - 20) / 4 = 2.5 short a cycle, a tenth of 25.
    assert levels.for_fill_rate(demand, np.array([25.0]), 0.9) == pytest.approx([20])
    # At level 15: (15 + 5) / 4 = 5.
    assert levels.for_fill_rate(demand, np.array([50.0]), 0.9) == pytest.approx([15])
    # Whatever is short may be short.
    assert levels.for_fill_rate(demand, np.array([1000.0]), 0.9) == [0]
    assert levels.for_fill_rate(demand, np.array([25.0]), 1.0) == [30]


def test_fill_rate_of_normal_demand_follows_the_unit_loss() -> None:
    level = levels.for_fill_rate(normal(100, 20), np.array([100.0]), 0.98)[0]
    z = (level - 100) / 20
    loss = NORMAL.pdf(z) - z * (1 - NORMAL.cdf(z))  # expected shortage in deviations
    assert 20 * loss == pytest.approx(0.02 * 100, rel=0.01)


def test_more_at_once_needs_less_safety() -> None:
    found = levels.for_fill_rate(normal(100, 20).repeat(2, axis=0), np.array([100.0, 400.0]), 0.98)
    assert found[1] < found[0]


def test_the_newsvendor_orders_up_to_the_critical_ratio() -> None:
    # A paper for 1.00 sold at 4.00 and worth nothing the day after: 3 / (3 + 1).
    ratio = levels.critical_ratio(np.array([3.0]), np.array([1.0]))
    assert ratio == [0.75]
    found = levels.for_cycle_service(normal(100, 20), ratio)
    assert found[0] == pytest.approx(100 + 20 * NORMAL.inv_cdf(0.75), abs=0.05)
    assert levels.critical_ratio(np.array([0.0, 0.0]), np.array([0.0, 2.0])).tolist() == [0, 0]


def test_the_economic_quantity_balances_its_two_costs() -> None:
    found = levels.economic_order_quantity(
        np.array([2.0, 2.0, 2.0]), 5.0, np.array([4.0, 4.0, np.nan]), np.array([0.25, 0.0, 0.25])
    )
    assert found[0] == pytest.approx(np.sqrt(2 * 2 * 365 * 5 / (4 * 0.25)))
    ordering, holding = 2 * 365 / found[0] * 5, found[0] / 2 * 4 * 0.25
    assert ordering == pytest.approx(holding)
    assert found[1:].tolist() == [0, 0]
