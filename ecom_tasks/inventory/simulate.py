"""A policy played day by day against demand: what it would have served, held, wasted and cost.

Vectorised over products and drawn lead times. Rivals meet the same demand and the same lead times
(common random numbers), so that their difference is theirs and not chance's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ecom_tasks.inventory.levels import DAYS_A_YEAR
from ecom_tasks.metrics.forecast import Array

DAYS_A_WEEK = 7


@dataclass(frozen=True)
class Levels:
    """A policy: at each review, order where the stock position is below the reorder point.

    (R, s, S) with `order_up_to`; (R, S) where both are the same; (s, Q) with a review every day
    and `order_up_to` a quantity above the reorder point.

    Attributes
    ----------
    reorder_point, order_up_to : (products, reviews), units.
    """

    reorder_point: Array
    order_up_to: Array


@dataclass(frozen=True)
class Terms:
    """What rules every policy alike.

    Attributes
    ----------
    unit_cost, margin : (products,), currency a unit.
    holding_cost_rate : (products,), share of the cost a year.
    order_cost : currency an order of a product.
    pack_size, minimum_order_quantity : (products,), units.
    shelf_life_days : (products,), days from receipt until waste; infinite where it keeps.
    review_days : days from one review to the next.
    backorders : customers wait for what is missing; else the sale is lost.
    """

    unit_cost: Array
    margin: Array
    holding_cost_rate: Array
    order_cost: float
    pack_size: Array
    minimum_order_quantity: Array
    shelf_life_days: Array
    review_days: int = 7
    backorders: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a policy did, over all products; costs in currency, the mean of all drawn paths.

    Attributes
    ----------
    fill_rate : share of units demanded that were met at once.
    cycle_service_level : share of review periods with demand and without a stock-out.
    stock_out_days : share of product days on which demand was not met in full.
    average_stock_value : at cost.
    waste_units, orders : totals.
    holding_cost, ordering_cost, shortage_cost, waste_cost, total_cost : see `Terms`; a unit short
        costs its margin.
    """

    fill_rate: float
    cycle_service_level: float
    stock_out_days: float
    average_stock_value: float
    waste_units: float
    orders: float
    holding_cost: float
    ordering_cost: float
    shortage_cost: float
    waste_cost: float
    total_cost: float

    def to_dict(self) -> dict[str, float]:
        return {each.name: float(getattr(self, each.name)) for each in fields(self)}


def run(
    demand: Array,
    levels: Levels,
    lead_days: npt.NDArray[np.integer],
    terms: Terms,
    start: Array,
    warm_up_days: int = 0,
) -> Outcome:
    """Play a policy.

    In the morning what has arrived is put on the shelf, oldest sold first; then customers come; in
    the evening what is too old is thrown away, and on a day of review orders are placed. Day 0 is a
    day of review, before its customers.

    Parameters
    ----------
    demand : (products, days), units
    levels : of reviews on day 0, `review_days`, ...
    lead_days : (products, paths, days), whole days from an order placed on that day to its receipt
    terms : costs and constraints
    start : (products,), units on the shelf at the beginning, fresh
    warm_up_days : days at the beginning that count in no figure

    Returns
    -------
    Outcome of the days after the warm-up.
    """
    demand = demand.astype(np.float64)
    products, days = demand.shape
    paths = lead_days.shape[1]
    ages = _ages(terms.shelf_life_days)
    stock = np.zeros((ages, products, paths))
    stock[0] = start[:, None]
    arriving = np.zeros((days + int(lead_days.max()) + 2, products, paths))
    on_order = np.zeros((products, paths))
    waiting = np.zeros((products, paths))
    tally = _Tally(products, paths)
    row, path = np.indices((products, paths))
    expires = _expiry(terms.shelf_life_days, ages)
    for day in range(days):
        counted = day >= warm_up_days
        received = arriving[day]
        on_order -= received
        served_late = np.minimum(waiting, received)
        waiting -= served_late
        stock[0] += received - served_late
        if day % terms.review_days == 0:
            position = stock.sum(axis=0) + on_order - waiting
            placed = _orders(position, levels, day // terms.review_days, terms)
            arrival = day + np.maximum(lead_days[:, :, day], 0)
            # What is ordered now is not there this morning, however short the way.
            arrival = np.maximum(arrival, day + 1)
            arriving[arrival, row, path] += placed
            on_order += placed
            tally.order(placed, counted=counted)
            tally.review(counted=counted)
        wanted = np.repeat(demand[:, day][:, None], paths, axis=1)
        short = _sell(stock, wanted)
        if terms.backorders:
            waiting += short
        spoilt = _grow_older(stock, expires)
        tally.day(wanted, short, stock.sum(axis=0), spoilt, counted=counted)
    return tally.outcome(terms)


def _ages(shelf_life_days: Array) -> int:
    perishable = shelf_life_days[np.isfinite(shelf_life_days)]
    return int(np.ceil(perishable.max())) + 1 if len(perishable) else 1


def _expiry(shelf_life_days: Array, ages: int) -> npt.NDArray[np.bool_]:
    """Tell at which age in days a product has passed its shelf life, (ages, products)."""
    age = np.arange(1, ages + 1)[:, None]
    return np.asarray(age >= np.maximum(shelf_life_days, 1)[None, :])


def _sell(stock: Array, wanted: Array) -> Array:
    """Take what is wanted off the shelf, oldest first; return what was short."""
    open_ = wanted.copy()
    for age in range(len(stock) - 1, -1, -1):
        taken = np.minimum(stock[age], open_)
        stock[age] -= taken
        open_ -= taken
    return open_


def _grow_older(stock: Array, expires: npt.NDArray[np.bool_]) -> Array:
    """Throw away what is too old this evening, and let the rest grow a day older."""
    if len(stock) == 1:
        return np.zeros(stock.shape[1:])
    spoilt = np.where(expires[:, :, None], stock, 0)
    stock -= spoilt
    # What keeps for ever stays in the last age.
    last = stock[-1] + stock[-2]
    stock[1:-1] = stock[:-2].copy()
    stock[-1] = last
    stock[0] = 0
    return np.asarray(spoilt.sum(axis=0))


def _orders(position: Array, levels: Levels, review: int, terms: Terms) -> Array:
    at = min(review, levels.reorder_point.shape[1] - 1)
    missing = levels.order_up_to[:, at][:, None] - position
    needed = (position < levels.reorder_point[:, at][:, None] + 1e-9) & (missing > 1e-9)
    pack = terms.pack_size[:, None]
    units = np.ceil(missing / pack - 1e-6) * pack
    least = np.ceil(terms.minimum_order_quantity[:, None] / pack) * pack
    return np.where(needed, np.maximum(units, least), 0)


class _Tally:
    """Sums of the days that count."""

    def __init__(self, products: int, paths: int) -> None:
        shape = (products, paths)
        self.wanted, self.short, self.stock, self.spoilt, self.orders = (
            np.zeros(shape) for _ in range(5)
        )
        self.short_days = 0.0
        self.days = 0
        self.cycles = self.good_cycles = 0.0
        self._cycle_short, self._cycle_wanted = np.zeros(shape), np.zeros(shape)

    def order(self, placed: Array, *, counted: bool) -> None:
        if counted:
            self.orders += placed > 0

    def review(self, *, counted: bool) -> None:
        """Close the review period before, which customers begin anew."""
        if counted:
            busy = self._cycle_wanted > 0
            self.cycles += busy.sum()
            self.good_cycles += (busy & (self._cycle_short <= 0)).sum()
        self._cycle_short[:] = 0
        self._cycle_wanted[:] = 0

    def day(
        self, wanted: Array, short: Array, stock: Array, spoilt: Array, *, counted: bool
    ) -> None:
        if not counted:
            return
        self.days += 1
        self.wanted += wanted
        self.short += short
        self.stock += stock
        self.spoilt += spoilt
        self.short_days += (short > 0).sum()
        self._cycle_short += short
        self._cycle_wanted += wanted

    def outcome(self, terms: Terms) -> Outcome:
        self.review(counted=True)
        paths = self.wanted.shape[1]
        cost, margin = terms.unit_cost[:, None], terms.margin[:, None]
        rate = terms.holding_cost_rate[:, None]
        wanted = self.wanted.sum()
        holding = float((self.stock * cost * rate).sum()) / DAYS_A_YEAR / paths
        ordering = float(self.orders.sum()) * terms.order_cost / paths
        shortage = float((self.short * margin).sum()) / paths
        waste = float((self.spoilt * cost).sum()) / paths
        return Outcome(
            fill_rate=1 - float(self.short.sum() / wanted) if wanted > 0 else 1.0,
            cycle_service_level=self.good_cycles / self.cycles if self.cycles else 1.0,
            stock_out_days=self.short_days / (self.short.size * max(self.days, 1)),
            average_stock_value=float((self.stock * cost).sum()) / max(self.days, 1) / paths,
            waste_units=float(self.spoilt.sum()) / paths,
            orders=float(self.orders.sum()) / paths,
            holding_cost=holding,
            ordering_cost=ordering,
            shortage_cost=shortage,
            waste_cost=waste,
            total_cost=holding + ordering + shortage + waste,
        )


def clairvoyant_cost(demand: Array, terms: Terms) -> float:
    """Return a lower bound of the cost of any policy, for one who knows all demand in advance.

    Goods arrive on the first day of the review period in which they are needed, or earlier to save
    an order; or a sale is given up where that is cheaper. The least cost over all such plans, by
    dynamic programming over review periods (Wagner and Whitin, 1958, with lost sales), leaving out
    packs, least orders and holding within a period, all of which only add cost.

    Parameters
    ----------
    demand : (products, days), units
    """
    products, days = demand.shape
    periods = -(-days // terms.review_days)
    padded = np.pad(demand, ((0, 0), (0, periods * terms.review_days - days)))
    units = padded.reshape(products, periods, terms.review_days).sum(axis=2)
    holding = terms.unit_cost * terms.holding_cost_rate * terms.review_days / DAYS_A_YEAR
    best = np.zeros((products, periods + 1))
    for end in range(1, periods + 1):
        choices = [best[:, end - 1] + terms.margin * units[:, end - 1]]
        held = np.zeros(products)
        for begin in range(end - 1, -1, -1):
            wait = np.arange(end - begin)
            each = np.minimum(holding[:, None] * wait, terms.margin[:, None])
            held = (units[:, begin:end] * each).sum(axis=1)
            choices.append(best[:, begin] + terms.order_cost + held)
        best[:, end] = np.min(choices, axis=0)
    return float(best[:, -1].sum())


def daily(weekly: Array, seed: int) -> Array:
    """Spread whole units of each week over its days at random, evenly, (products, 7 x weeks).

    What is left of a unit goes to the first day.
    """
    random = np.random.default_rng(seed)
    whole = np.floor(np.maximum(weekly, 0))
    share = np.full(DAYS_A_WEEK, 1 / DAYS_A_WEEK)
    days = random.multinomial(whole.astype(np.int64), share).astype(np.float64)
    days[..., 0] += np.maximum(weekly, 0) - whole
    return days.reshape(len(weekly), -1)


def lead_days(
    mean: Array, deviation: Array, paths: int, days: int, seed: int
) -> npt.NDArray[np.int64]:
    """Draw whole lead times for an order of every product on every day, (products, paths, days).

    Gamma, rounded; the same seed gives every policy the same draws.
    """
    from scipy.stats import gamma

    random = np.random.default_rng(seed)
    uniform = random.random((len(mean), paths, days))
    varies = (mean > 0) & (deviation > 0)
    shape = np.where(varies, (mean / np.where(varies, deviation, 1)) ** 2, 1)
    scale = np.where(varies, deviation**2 / np.where(varies, mean, 1), 1)
    drawn = gamma.ppf(uniform, shape[:, None, None], scale=scale[:, None, None])
    found = np.where(varies[:, None, None], drawn, mean[:, None, None])
    return np.asarray(np.round(found), np.int64)
