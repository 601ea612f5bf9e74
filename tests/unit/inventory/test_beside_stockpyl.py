"""The same answers as stockpyl 1.0.2 (Snyder) gives, whose figures were computed once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, poisson, qmc

from ecom_tasks.inventory import echelon, levels

EVEN = qmc.LatinHypercube(1, rng=0).random(200_000)[:, 0]


def test_newsvendor() -> None:
    # newsvendor_normal(holding 0.18, stockout 0.70, mean 50, deviation 8), newsvendor_poisson(1, 4,
    # 50)
    for demand, costs, expected in (
        (norm.ppf(EVEN, 50, 8), (0.70, 0.18), 56.60396),
        (poisson.ppf(EVEN, 50), (4.0, 1.0), 56.0),
    ):
        ratio = levels.critical_ratio(np.array([costs[0]]), np.array([costs[1]]))
        found = levels.for_cycle_service(demand[None, :], ratio)
        assert found[0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("demand", "level", "short"),
    [(norm.ppf(EVEN, 50, 8), 60.0, 0.404695), (poisson.ppf(EVEN, 15), 18.0, 0.517610)],
)
def test_fill_rate_level(demand: np.ndarray, level: float, short: float) -> None:
    # normal_loss(60, 50, 8) and poisson_loss(18, 15): what is short on average at these levels
    quantity = 100.0
    found = levels.for_fill_rate(demand[None, :], np.array([quantity]), 1 - short / quantity)
    assert found[0] == pytest.approx(level, rel=2e-3)


@pytest.mark.parametrize(("level", "backorders"), [(130.0, 11.4568), (150.0, 1.2522)])
def test_a_warehouse_owes_its_store(level: float, backorders: float) -> None:
    # simulation of serial_system: daily demand N(10, 3), 14 days to the warehouse, 2 to the store,
    # base stock at both, 20,000 days of which 200 are not counted: backorders of the warehouse
    supplied = norm.ppf(EVEN, 140, 3 * np.sqrt(14))
    wait = echelon.wait_days(supplied, level, 10.0)
    # 20,000 days hold some 1,400 lead times that tell different things.
    assert wait * 10 == pytest.approx(backorders, rel=0.1)
