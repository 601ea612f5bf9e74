"""Orders under limits that many products share: budget, space, least orders of suppliers.

A mixed-integer programme, solved by HiGHS. Where money or space is short, it goes where a unit is
missed most; where what must be ordered does not fit, it is said which limit gives way, by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from ecom_tasks.errors import DataContractError
from ecom_tasks.metrics.forecast import Array

_STEPS = 4
_TIME_LIMIT_S = 30
_GAP = 1e-3
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Limits:
    """What all orders of a day must keep to.

    Attributes
    ----------
    budget : currency at cost; infinite where there is none.
    capacity : space or weight, in the unit of `Wanted.volume`; infinite where there is none.
    supplier_minimum : supplier -> least value of an order placed there, currency at cost.
    """

    budget: float = np.inf
    capacity: float = np.inf
    supplier_minimum: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """Orders that would be placed without limits, an entry per product.

    Attributes
    ----------
    units : what is missing up to the level.
    must : units that have to come whatever it costs, at most `units`.
    benefit : currency that the first unit is worth; it falls to nothing at the last.
    unit_cost, volume : of a unit.
    pack_size, minimum_order_quantity : units.
    supplier : where it is bought.
    """

    units: Array
    must: Array
    benefit: Array
    unit_cost: Array
    volume: Array
    pack_size: Array
    minimum_order_quantity: Array
    supplier: npt.NDArray[np.str_]


@dataclass(frozen=True)
class Order:
    """What is ordered.

    Attributes
    ----------
    units : whole packs, per product.
    skipped : suppliers whose least order is not reached, so that nothing is ordered there.
    """

    units: Array
    skipped: list[str]


def fit(wanted: Wanted, limits: Limits) -> Order:
    """Choose the orders that are worth most within the limits.

    Each product's packs are worth less one after another, so that a little of each goes before all
    of one. A product is ordered in whole packs, at least its minimum, or not at all; a supplier
    gets at least its minimum, reached by more than is missing where need be, or nothing.

    Raises
    ------
    DataContractError
        What must be ordered does not fit; it names each limit and by how much it is exceeded.
    """
    exceeded = _exceeded(wanted, limits)
    if exceeded:
        raise DataContractError(
            f"What must be ordered does not fit: {'; '.join(exceeded)}",
            "Raise the limit by that much, or lower what must be ordered",
        )
    problem = _Problem(wanted, limits)
    solved = problem.solve()
    return Order(problem.units(solved), problem.skipped(solved))


def _packs(units: Array, pack: Array) -> Array:
    return np.asarray(np.ceil(units / pack - _TOLERANCE))


def _least(wanted: Wanted) -> Array:
    """Return the fewest packs of which an order may be."""
    return np.maximum(_packs(wanted.minimum_order_quantity, wanted.pack_size), 1)


def _exceeded(wanted: Wanted, limits: Limits) -> list[str]:
    """Name the limits that what must be ordered exceeds, with supplier minima reached."""
    packs = _packs(wanted.must, wanted.pack_size)
    packs = np.where(packs > 0, np.maximum(packs, _least(wanted)), 0)
    units = packs * wanted.pack_size
    cost = float((units * wanted.unit_cost).sum())
    for supplier, least in limits.supplier_minimum.items():
        own = float((units * wanted.unit_cost)[wanted.supplier == supplier].sum())
        if 0 < own < least:
            cost += least - own
    found = []
    if cost > limits.budget + _TOLERANCE:
        found.append(
            f"budget {limits.budget:,.2f}, needed {cost:,.2f}, {cost - limits.budget:,.2f} short"
        )
    space = float((units * wanted.volume).sum())
    if space > limits.capacity + _TOLERANCE:
        found.append(
            f"capacity {limits.capacity:,.2f}, needed {space:,.2f}, "
            f"{space - limits.capacity:,.2f} short"
        )
    return found


class _Problem:
    """The programme in matrix form.

    Variables, each a block over products: packs in `_STEPS` steps of falling worth, packs beyond
    what is missing, and whether the product is ordered; then whether a supplier is ordered from.
    """

    def __init__(self, wanted: Wanted, limits: Limits) -> None:
        self.wanted, self.limits = wanted, limits
        self.products = len(wanted.units)
        self.suppliers = sorted(limits.supplier_minimum)
        self.packs = _packs(wanted.units, wanted.pack_size)
        must = _packs(wanted.must, wanted.pack_size)
        self.must = np.where(must > 0, np.maximum(must, _least(wanted)), 0)
        self.steps = np.array([
            np.floor(self.packs * (step + 1) / _STEPS) - np.floor(self.packs * step / _STEPS)
            for step in range(_STEPS)
        ])
        self.count = self.products * (_STEPS + 2) + len(self.suppliers)

    def _index(self, block: int) -> npt.NDArray[np.intp]:
        return np.arange(self.products) + block * self.products

    def solve(self) -> Array:
        wanted, limits = self.wanted, self.limits
        most = np.maximum(_least(wanted), self.packs) * 2 + 10
        worth = np.array([
            (1 - (step + 0.5) / _STEPS) * wanted.benefit * wanted.pack_size
            for step in range(_STEPS)
        ])
        # More than is missing is worth nothing and is only bought to reach a minimum.
        beyond = -1e-3 * wanted.unit_cost * wanted.pack_size - 1e-9
        ties = np.zeros(self.products + len(self.suppliers))
        objective = -np.concatenate([worth.ravel(), beyond, ties])
        upper = np.concatenate([self.steps.ravel(), most, np.ones(len(ties))])
        found = milp(
            objective,
            constraints=self._constraints(most, limits),
            bounds=Bounds(0, upper),
            integrality=np.ones(self.count),
            options={"time_limit": _TIME_LIMIT_S, "mip_rel_gap": _GAP},
        )
        if found.x is None:
            raise DataContractError(
                f"No order keeps to the limits: {found.message}",
                "Raise the budget or the capacity, or lower the minima of suppliers",
            )
        return np.asarray(np.round(found.x))

    def _constraints(self, most: Array, limits: Limits) -> list[LinearConstraint]:
        wanted, found = self.wanted, []
        blocks = range(_STEPS + 1)
        ordered = self._index(_STEPS + 1)
        rows = np.arange(self.products)

        def per_product(of_ordered: Array) -> coo_array:
            columns = np.concatenate([*(self._index(block) for block in blocks), ordered])
            values = np.concatenate([*(np.ones(self.products) for _ in blocks), of_ordered])
            each = np.tile(rows, _STEPS + 2)
            return coo_array((values, (each, columns)), shape=(self.products, self.count))

        # Nothing, or at least the minimum; and what must be there in any case.
        found.append(LinearConstraint(per_product(-_least(wanted)), 0, np.inf))
        found.append(LinearConstraint(per_product(-(most + self.packs)), -np.inf, 0))
        found.append(LinearConstraint(per_product(np.zeros(self.products)), self.must, np.inf))
        for value, limit in ((wanted.unit_cost, limits.budget), (wanted.volume, limits.capacity)):
            if np.isfinite(limit):
                found.append(self._shared(value * wanted.pack_size, None, -np.inf, limit))
        for number, supplier in enumerate(self.suppliers):
            own = np.where(wanted.supplier == supplier, wanted.unit_cost * wanted.pack_size, 0)
            least = limits.supplier_minimum[supplier]
            found.append(self._shared(own, (number, -least), 0, np.inf))
            large = float((own * (most + self.packs)).sum())
            found.append(self._shared(own, (number, -large), -np.inf, 0))
        return found

    def _shared(
        self, value: Array, supplier: tuple[int, float] | None, low: float, high: float
    ) -> LinearConstraint:
        row = np.zeros(self.count)
        for block in range(_STEPS + 1):
            row[self._index(block)] = value
        if supplier is not None:
            row[self.products * (_STEPS + 2) + supplier[0]] = supplier[1]
        return LinearConstraint(row[None, :], low, high)

    def units(self, solved: Array) -> Array:
        packs = np.sum([solved[self._index(block)] for block in range(_STEPS + 1)], axis=0)
        return np.asarray(packs * self.wanted.pack_size)

    def skipped(self, solved: Array) -> list[str]:
        missed = self.wanted.units > 0
        units = self.units(solved)
        return [
            each
            for each in self.suppliers
            if (missed & (self.wanted.supplier == each)).any()
            and not units[self.wanted.supplier == each].any()
        ]
