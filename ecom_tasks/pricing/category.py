"""The best prices of a whole category: cross effects, ladders, zones, stock and budgets at once.

Which allowed price each product takes is a mixed-integer program (HiGHS): its constraints are
linear in the choice, and so is the aim as long as products do not feel each other. With cross
effects it is made linear around the prices at hand and solved again from where it came to, as long
as the true aim rises; then a local search on the true aim changes one price, or two at once, from
several starts. Without cross effects the answer is exact.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from ecom_tasks.errors import ConfigError
from ecom_tasks.pricing.guardrails import Guardrails

Array = NDArray[np.float64]
Choice = NDArray[np.int64]

_TOLERANCE = 1e-7
_SEVERAL = 6
_MOST_PAIRS = 4000


@dataclass(frozen=True)
class Problem:
    """Products that are priced together; P products, D draws of elasticities.

    Attributes
    ----------
    products : ids, P
    prices : what each may cost, the current price among them, rising; P arrays
    current, cost, units : store currency and weekly units at current prices, (P,)
    elasticity : own, (P, D), not above 0; cross : (P, P) or (P, P, D), units of the row on the
        price of the column, 0 on the diagonal
    largest_response : units may grow or shrink by this factor at most
    stock : units on hand and on order, (P,), infinite where unknown
    clear_weeks : weeks by which the stock must be sold, (P,), infinite: no such date
    reach : units a week that there are until more can be had, (P,), infinite where unknown
    locked : products whose price was changed too recently, (P,)
    """

    products: list[str]
    prices: list[Array]
    current: Array
    cost: Array
    units: Array
    elasticity: Array
    cross: Array
    guardrails: Guardrails = field(default_factory=Guardrails)
    largest_response: float = 3.0
    stock: Array | None = None
    clear_weeks: Array | None = None
    reach: Array | None = None
    locked: NDArray[np.bool_] | None = None

    @property
    def count(self) -> int:
        return len(self.products)

    def grid(self) -> list[Array]:
        """Return the allowed prices: one only, where a price may not be changed."""
        if self.locked is None:
            return self.prices
        return [
            self.current[place : place + 1] if locked else self.prices[place]
            for place, locked in enumerate(self.locked)
        ]


@dataclass(frozen=True)
class Plan:
    """Chosen prices, (P,); expected units, (P,); the aim's value, and that of today's prices."""

    prices: Array
    units: Array
    value: float
    value_today: float
    exact: bool


def units_at(problem: Problem, prices: Array) -> Array:
    """Return weekly units at prices, shape (P, D), with cross effects and scarcity.

    Parameters
    ----------
    prices : store currency, shape (P,)
    """
    ratio = np.log(prices / problem.current)
    answer = problem.elasticity * ratio[:, None]
    if problem.cross.ndim == 3:
        answer = answer + np.einsum("pqd,q->pd", problem.cross, ratio)
    else:
        answer = answer + (problem.cross @ ratio)[:, None]
    bound = np.log(problem.largest_response)
    units = problem.units[:, None] * np.exp(np.clip(answer, -bound, bound))
    if problem.reach is not None:
        units = np.minimum(units, problem.reach[:, None])
    return np.asarray(units)


def value_of(problem: Problem, prices: Array) -> float:
    """Return the aim at prices: its mean over draws, or a lower quantile."""
    profit, revenue, sold = problem.guardrails.aim.weights
    units = units_at(problem, prices)
    each = profit * (prices - problem.cost) + revenue * prices + sold
    total = (units * each[:, None]).sum(axis=0)
    quantile = problem.guardrails.aim.quantile
    return float(np.quantile(total, quantile) if quantile else total.mean())


def broken(problem: Problem, prices: Array) -> list[str]:
    """Name the rules of products together that prices break."""
    return [*_out_of_line(problem, prices), *_beyond(problem, prices)]


def _out_of_line(problem: Problem, prices: Array) -> list[str]:
    """Name ladders and zones that prices break."""
    rules, place = problem.guardrails, {name: n for n, name in enumerate(problem.products)}
    found = []
    for ladder in rules.ladders:
        if ladder.lower in place and ladder.higher in place:
            low, high = prices[place[ladder.lower]], prices[place[ladder.higher]]
            over = ladder.at_most is not None and high > ladder.at_most * low + _TOLERANCE
            if high < ladder.at_least * low - _TOLERANCE or over:
                found.append(ladder.name)
    for group in rules.same_price:
        same = [prices[place[name]] for name in group if name in place]
        if len(same) > 1 and max(same) - min(same) > _TOLERANCE:
            found.append(f"same price {', '.join(group)}")
    return found


def _beyond(problem: Problem, prices: Array) -> list[str]:
    """Name limits on sums, and stocks that are not cleared in time, that prices break."""
    rules = problem.guardrails
    units = units_at(problem, prices).mean(axis=1)
    changed = int((np.abs(prices - problem.current) > _TOLERANCE).sum())
    cut = float((np.maximum(problem.current - prices, 0.0) * units).sum())
    margin = float((units * (prices - problem.cost - rules.aim.margin * prices)).sum())
    limits = {
        f"most_changes {rules.most_changes}": rules.most_changes is not None
        and changed > rules.most_changes,
        f"markdown_budget {rules.markdown_budget}": rules.markdown_budget is not None
        and cut > rules.markdown_budget + _TOLERANCE,
        f"margin {rules.aim.margin:g}": rules.aim.objective == "revenue_at_margin"
        and margin < -_TOLERANCE,
    }
    slow = [n for n in _to_clear(problem) if units[n] < _pace(problem)[n]]
    broken_limits = [name for name, exceeded in limits.items() if exceeded]
    return [*broken_limits, *(f"clear {problem.products[n]}" for n in slow)]


def _to_clear(problem: Problem) -> NDArray[np.int64]:
    if problem.clear_weeks is None or problem.stock is None:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(np.isfinite(problem.clear_weeks) & np.isfinite(problem.stock))


def _pace(problem: Problem) -> Array:
    assert problem.stock is not None
    assert problem.clear_weeks is not None
    with np.errstate(invalid="ignore"):
        return np.asarray(problem.stock / problem.clear_weeks - _TOLERANCE)


def solve(problem: Problem, *, seed: int = 0) -> Plan:
    """Find the best prices.

    Raises
    ------
    ConfigError
        No prices keep all rules; the rules that collide are named.
    """
    separable = not problem.cross.any() and problem.guardrails.aim.quantile is None
    today = problem.current.copy()
    best = _program(problem, today)
    if best is None:
        raise ConfigError(
            f"No prices keep all rules: {' and '.join(collision(problem))} collide",
            "Loosen one of them, or allow a larger step",
        )
    if not separable:
        best = _refined(problem, best, seed)
    return Plan(
        prices=best,
        units=units_at(problem, best).mean(axis=1),
        value=value_of(problem, best),
        value_today=value_of(problem, today),
        exact=separable,
    )


def _refined(problem: Problem, first: Array, seed: int) -> Array:
    """Solve again around each answer, then search locally from several starts."""
    starts = [first]
    here = first
    for _ in range(_SEVERAL):
        following = _program(problem, here)
        if following is None or value_of(problem, following) <= value_of(problem, here) + 1e-9:
            break
        here = following
        starts.append(here)
    if not broken(problem, problem.current):
        starts.append(problem.current.copy())
    rng = np.random.default_rng(seed)
    for _ in range(2):
        draw = np.array([rng.choice(options) for options in problem.grid()])
        around = _program(problem, draw)
        if around is not None:
            starts.append(around)
    kept = [_local(problem, start) for start in starts if not broken(problem, start)]
    if not kept:  # the linear picture broke a rule that bends, as a budget does
        return _local(problem, first)
    return max(kept, key=lambda prices: value_of(problem, prices))


def _local(problem: Problem, prices: Array) -> Array:
    """Change one price, or two at once, as long as the aim rises and no rule breaks."""
    grid = problem.grid()
    moves = [*((place,) for place in range(problem.count)), *_linked(problem)]
    best, value = prices.copy(), value_of(problem, prices)
    improved = True
    while improved:
        improved = False
        for move in moves:
            tried, reached = _moved(problem, best, value, move, grid)
            improved |= reached > value
            best, value = tried, reached
    return best


def _moved(
    problem: Problem, best: Array, value: float, move: tuple[int, ...], grid: list[Array]
) -> tuple[Array, float]:
    """Return the best prices that differ at some places only, and their value."""
    for option in itertools.product(*(grid[place] for place in move)):
        tried = best.copy()
        tried[list(move)] = option
        reached = value_of(problem, tried)
        if reached > value + 1e-9 and not broken(problem, tried):
            best, value = tried, reached
    return best, value


def _linked(problem: Problem) -> list[tuple[int, ...]]:
    """Return pairs that feel each other or stand in one rule: those move together."""
    place = {name: n for n, name in enumerate(problem.products)}
    felt = problem.cross if problem.cross.ndim == 2 else np.abs(problem.cross).max(axis=2)
    pairs = {tuple(sorted(map(int, pair))) for pair in np.argwhere(felt != 0)}
    for ladder in problem.guardrails.ladders:
        if ladder.lower in place and ladder.higher in place:
            pairs.add(tuple(sorted((place[ladder.lower], place[ladder.higher]))))
    groups = [
        tuple(sorted(place[name] for name in group if name in place))
        for group in problem.guardrails.same_price
    ]
    pairs |= {pair for group in groups for pair in itertools.combinations(group, 2)}
    if problem.guardrails.most_changes is not None:
        pairs |= set(itertools.combinations(range(problem.count), 2))
    size = [len(options) for options in problem.grid()]
    chosen, work = [], 0
    for pair in sorted(pairs):
        work += size[pair[0]] * size[pair[1]]
        if work > _MOST_PAIRS * 10:
            break
        chosen.append(pair)
    return chosen


@dataclass(frozen=True)
class _Row:
    """One linear constraint on the choice: low <= coefficients @ x <= high."""

    name: str
    coefficients: Array
    low: float
    high: float


def _program(problem: Problem, around: Array) -> Array | None:
    """Solve the program that is linear around prices; None where nothing keeps the rules."""
    grid = problem.grid()
    sizes = [len(options) for options in grid]
    owner = np.repeat(np.arange(problem.count), sizes)
    price = np.concatenate(grid)
    return _milp(problem, owner, price, _constraints(problem, owner, price, around), around)


def _milp(
    problem: Problem, owner: Choice, price: Array, rows: list[_Row], around: Array
) -> Array | None:
    count = len(price)
    one_each = sparse.csr_matrix(
        (np.ones(count), (owner, np.arange(count))), shape=(problem.count, count)
    )
    constraints = [optimize.LinearConstraint(one_each, 1, 1)]
    if rows:
        matrix = sparse.csr_matrix(np.array([row.coefficients for row in rows]))
        low, high = (np.array([getattr(row, end) for row in rows]) for end in ("low", "high"))
        constraints.append(optimize.LinearConstraint(matrix, low, high))
    gain = _gains(problem, owner, price, around)
    # Of equal aims the price at hand: nothing changes without a reason.
    gain = gain - 1e-9 * (np.abs(price - problem.current[owner]) > _TOLERANCE)
    answer = optimize.milp(
        -gain, constraints=constraints, integrality=np.ones(count), bounds=optimize.Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )  # fmt: skip
    if answer.x is None:
        return None
    chosen = np.zeros(problem.count)
    for place in range(problem.count):
        mine = np.flatnonzero(owner == place)
        chosen[place] = price[mine[np.argmax(answer.x[mine])]]
    return chosen


def _gains(problem: Problem, owner: Choice, price: Array, around: Array) -> Array:
    """Return what the aim is worth with one price changed, the others as they are around."""
    if not problem.cross.any() and problem.guardrails.aim.quantile is None:
        profit, revenue, sold = problem.guardrails.aim.weights
        units = _own_units(problem, owner, price)
        return np.asarray(units * (profit * (price - problem.cost[owner]) + revenue * price + sold))
    base = value_of(problem, around)
    gain = np.empty(len(price))
    for number, (place, value) in enumerate(zip(owner, price, strict=True)):
        tried = around.copy()
        tried[place] = value
        gain[number] = value_of(problem, tried) - base
    return gain


def _own_units(problem: Problem, owner: Choice, price: Array) -> Array:
    """Return mean units of each product at each of its prices, the others at today's."""
    bound = np.log(problem.largest_response)
    ratio = np.log(price / problem.current[owner])
    answer = np.exp(np.clip(problem.elasticity[owner] * ratio[:, None], -bound, bound))
    units = problem.units[owner][:, None] * answer
    if problem.reach is not None:
        units = np.minimum(units, problem.reach[owner][:, None])
    return np.asarray(units.mean(axis=1))


def _around_units(problem: Problem, owner: Choice, price: Array, around: Array) -> Array:
    """The same with the others' prices as they are around."""
    if not problem.cross.any():
        return _own_units(problem, owner, price)
    units = np.empty(len(price))
    for number, (place, value) in enumerate(zip(owner, price, strict=True)):
        tried = around.copy()
        tried[place] = value
        units[number] = units_at(problem, tried)[place].mean()
    return units


def _constraints(problem: Problem, owner: Choice, price: Array, around: Array) -> list[_Row]:
    return [*_lines(problem, owner, price), *_sums(problem, owner, price, around)]


def _lines(problem: Problem, owner: Choice, price: Array) -> list[_Row]:
    rules, place = problem.guardrails, {name: n for n, name in enumerate(problem.products)}
    rows = []

    def of(name: str) -> Array:
        return np.where(owner == place[name], price, 0.0)

    for ladder in rules.ladders:
        if ladder.lower in place and ladder.higher in place:
            low, high = of(ladder.lower), of(ladder.higher)
            rows.append(_Row(ladder.name, high - ladder.at_least * low, -_TOLERANCE, np.inf))
            if ladder.at_most is not None:
                rows.append(_Row(ladder.name, high - ladder.at_most * low, -np.inf, _TOLERANCE))
    for group in rules.same_price:
        known = [name for name in group if name in place]
        rows += [
            _Row(f"same price {', '.join(group)}", of(first) - of(second), -_TOLERANCE, _TOLERANCE)
            for first, second in itertools.pairwise(known)
        ]
    return rows


def _sums(problem: Problem, owner: Choice, price: Array, around: Array) -> list[_Row]:
    rules, rows = problem.guardrails, []
    if rules.most_changes is not None:
        changed = (np.abs(price - problem.current[owner]) > _TOLERANCE).astype(np.float64)
        name = f"most_changes {rules.most_changes}"
        rows.append(_Row(name, changed, -np.inf, float(rules.most_changes)))
    adds_up = rules.markdown_budget is not None or rules.aim.objective == "revenue_at_margin"
    if not adds_up and not len(_to_clear(problem)):
        return rows
    units = _around_units(problem, owner, price, around)
    if rules.markdown_budget is not None:
        cut = np.maximum(problem.current[owner] - price, 0.0) * units
        name = f"markdown_budget {rules.markdown_budget}"
        rows.append(_Row(name, cut, -np.inf, rules.markdown_budget))
    if rules.aim.objective == "revenue_at_margin":
        over = units * (price - problem.cost[owner]) - rules.aim.margin * units * price
        rows.append(_Row(f"margin {rules.aim.margin:g}", over, -_TOLERANCE, np.inf))
    for each in _to_clear(problem):
        sold = np.where(owner == each, units, 0.0)
        rows.append(
            _Row(f"clear {problem.products[each]}", sold, float(_pace(problem)[each]), np.inf)
        )
    return rows


def collision(problem: Problem) -> list[str]:
    """Return the fewest rules that no prices keep together, by leaving each out in turn.

    A rule that a single price of the grid can never keep stands with what binds the grid: "the
    prices that step, margin, floor and ceiling allow".
    """
    grid = problem.grid()
    owner = np.repeat(np.arange(problem.count), [len(options) for options in grid])
    price = np.concatenate(grid)
    rows = _constraints(problem, owner, price, problem.current)
    names = list(dict.fromkeys(row.name for row in rows))
    for name in list(names):
        fewer = [each for each in names if each != name]
        left = [row for row in rows if row.name in fewer]
        if _milp(problem, owner, price, left, problem.current) is None:
            names = fewer
    if len(names) == 1:
        names.append("the prices that step, margin, floor, ceiling and endings allow")
    return names
