"""Orders under shared limits: worth most, whole, and honest about what does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecom_tasks.errors import DataContractError
from ecom_tasks.inventory import limits
from ecom_tasks.inventory.limits import Limits, Wanted

WANTED = Wanted(
    units=np.array([10.0, 10.0, 10.0]),
    must=np.zeros(3),
    benefit=np.array([3.0, 2.0, 1.0]),
    unit_cost=np.array([1.0, 1.0, 1.0]),
    volume=np.array([1.0, 2.0, 1.0]),
    pack_size=np.ones(3),
    minimum_order_quantity=np.zeros(3),
    supplier=np.array(["north", "north", "south"]),
)


def test_without_limits_all_is_ordered_in_whole_packs() -> None:
    assert limits.fit(WANTED, Limits()).units.tolist() == [10, 10, 10]
    packs = replace(WANTED, pack_size=np.array([4.0, 10.0, 3.0]))
    assert limits.fit(packs, Limits()).units.tolist() == [12, 10, 12]
    least = replace(WANTED, minimum_order_quantity=np.array([25.0, 0.0, 0.0]))
    assert limits.fit(least, Limits()).units.tolist() == [25, 10, 10]


def test_a_budget_goes_where_a_unit_is_missed_most() -> None:
    found = limits.fit(WANTED, Limits(budget=9.0)).units
    assert found.sum() == 9
    assert found[0] > found[1] >= found[2]
    # The first quarter of the second product is worth more than the last of the first.
    assert found[1] > 0


def test_space_is_a_limit_too() -> None:
    found = limits.fit(WANTED, Limits(capacity=12.0))
    assert float(found.units @ WANTED.volume) <= 12
    assert found.units[0] == 10 or found.units[2] > 0


def test_a_product_below_its_minimum_is_not_ordered() -> None:
    least = replace(WANTED, minimum_order_quantity=np.array([8.0, 8.0, 8.0]))
    found = limits.fit(least, Limits(budget=15.0)).units
    assert sorted(found.tolist()) == [0, 0, 10]


def test_a_supplier_gets_its_minimum_or_nothing() -> None:
    small = Limits(supplier_minimum={"south": 8.0})
    assert limits.fit(WANTED, small).units[2] == 10
    few = replace(WANTED, units=np.array([10.0, 10.0, 5.0]))
    found = limits.fit(few, small)
    assert found.units[2] == 8  # more than is missing, to reach the minimum
    poor = limits.fit(few, Limits(budget=20.0, supplier_minimum={"south": 18.0}))
    assert poor.units.tolist() == [10, 10, 0]
    assert poor.skipped == ["south"]


def test_what_must_be_ordered_comes_first() -> None:
    must = replace(WANTED, must=np.array([0.0, 0.0, 7.0]))
    found = limits.fit(must, Limits(budget=9.0)).units
    assert found[2] >= 7
    assert found.sum() == 9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Limits(budget=5.0), r"budget 5\.00, needed 7\.00, 2\.00 short"),
        (Limits(capacity=6.5), r"capacity 6\.50, needed 7\.00, 0\.50 short"),
        (
            Limits(budget=9.0, supplier_minimum={"south": 12.0}),
            r"budget 9\.00, needed 12\.00, 3\.00 short",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_amount(given: Limits, message: str) -> None:
    must = replace(WANTED, must=np.array([0.0, 0.0, 7.0]))
    with pytest.raises(DataContractError, match=message):
        limits.fit(must, given)
