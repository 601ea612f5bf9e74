"""Forecast distribution and lead-time distribution -> stock levels and order proposals.

Under periodic review an order placed today must last until the next one arrives: review period
plus lead time, the protection interval. Demand over it is sampled: quantiles give each
period's distribution, errors of neighbouring periods go together as they did in the backtest, and
the lead time is drawn from a gamma distribution. The same random numbers serve every series, so
that two series differ only in what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import gamma, norm, qmc

from ecom_tasks.inventory import levels as levels_of
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.forecast import Quantiles
from ecom_tasks.inventory.levels import DAYS_A_YEAR
from ecom_tasks.inventory.limits import Limits, Wanted, fit
from ecom_tasks.inventory.panel import Floats
from ecom_tasks.metrics.forecast import Array

DAYS = 7
CHUNK = 5000
_MINUTE = 1 / (24 * 60)
_SMALL = 1e-9
UNKNOWN = "before subtracting stock on hand"
KNOWN = "order_up_to - on_hand - on_order"
ORDER_COLUMNS = (
    "product_id", "location_id", "title", "order_quantity", "quantity_before_stock", "order_up_to",
    "on_hand", "on_order", "pack_size", "minimum_order_quantity", "unit_cost", "value",
    "lead_time_days", "basis", "assumed",
)  # fmt: skip


_ONE = "all"


@dataclass(frozen=True)
class Limited:
    """Orders within the limits, and a sentence that says what that changed (empty: nothing)."""

    orders: pl.DataFrame
    said: str


@dataclass(frozen=True)
class Draws:
    """Common random numbers: standard normal per period, uniform for the lead time.

    Attributes
    ----------
    normal : (samples, steps), correlated between steps.
    uniform : (samples,), for the lead time.
    review, moment : (samples,), uniform, for the review period in which a level is passed and for
        how much of it lies beyond.
    """

    normal: Array
    uniform: Array
    review: Array
    moment: Array


def draw(steps: int, correlation: float, config: InventoryConfig) -> Draws:
    """Draw evenly spread samples (Latin hypercube), the same for the same seed."""
    sampler = qmc.LatinHypercube(steps + 4, rng=config.seed)
    uniform = sampler.random(config.samples)
    independent = norm.ppf(uniform[:, :steps])
    shared = norm.ppf(uniform[:, [steps]])
    normal = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * independent
    return Draws(normal, *uniform[:, -3:].T)


def demand_paths(quantiles: Quantiles, levels: Sequence[float], normal: Array) -> Array:
    """Sample demand from its quantiles, (series, samples, steps), units.

    Between two levels, and beyond the outermost, a quantile is taken to be linear in the standard
    normal value of its level, so the quantiles of a normal distribution give that distribution.
    """
    z = norm.ppf(np.asarray(levels))
    at = np.clip(np.searchsorted(z, normal) - 1, 0, len(z) - 2)
    share = (normal - z[at]) / (z[at + 1] - z[at])
    paths = np.empty((quantiles.shape[0], *normal.shape))
    for step in range(quantiles.shape[1]):
        below, above = quantiles[:, step, at[:, step]], quantiles[:, step, at[:, step] + 1]
        paths[..., step] = below + share[:, step] * (above - below)
    return np.maximum(paths, 0)


def lead_times(mean: Array, deviation: Array, draws: Draws) -> Array:
    """Sample lead times in days, (series, samples); constant where they vary by no minute."""
    found = np.repeat(mean[:, None], len(draws.uniform), axis=1)
    terms, which = np.unique(np.column_stack([mean, deviation]), axis=0, return_inverse=True)
    for number, (days, spread) in enumerate(terms):
        if min(days, spread) > _MINUTE:
            shape = (days / spread) ** 2
            found[which == number] = gamma.ppf(draws.uniform, shape, scale=spread**2 / days)
    return found


def undershoot(between: Array, draws: Draws) -> Array:
    """Sample how far below the reorder point the position is when it is looked at.

    Where several reviews pass before an order, a level is passed at any moment of a period's
    demand alike, and in periods of large demand more often: the equilibrium distribution of renewal
    theory, whose mean is `E[D^2] / (2 E[D])` (Silver, Pyke and Thomas, 4th ed., 6.7).

    Parameters
    ----------
    between : (series, samples), demand between two reviews

    Returns
    -------
    (series, samples), units.
    """
    ordered = np.sort(between, axis=1)
    share = np.cumsum(ordered, axis=1) / np.maximum(ordered.sum(axis=1), _SMALL)[:, None]
    # One ascending line of all rows, so that one search finds the places in each.
    rows = np.arange(len(share))[:, None]
    places = np.searchsorted((share + 2 * rows).ravel(), (draws.review + 2 * rows).ravel())
    at = np.minimum(places.reshape(between.shape) - rows * share.shape[1], share.shape[1] - 1)
    return np.asarray(np.take_along_axis(ordered, at, axis=1) * draws.moment)


def demand_over(demand: Array, days: Array, period: int = DAYS) -> Array:
    """Sum demand over the first `days`, that of each period spread evenly over its days.

    Parameters
    ----------
    demand : (..., steps), units a period
    days : (...), broadcastable; beyond the last step its period is taken to repeat
    period : days of a period

    Returns
    -------
    (...), units.
    """
    steps = demand.shape[-1]
    found = np.maximum(days - period * steps, 0) / period * demand[..., -1]
    for step in range(steps):
        found = found + np.clip(days - period * step, 0, period) / period * demand[..., step]
    return np.asarray(found)


def policy(
    mean: Floats,
    quantiles: Quantiles,
    terms: pl.DataFrame,
    correlation: float,
    config: InventoryConfig,
) -> pl.DataFrame:
    """Return the stock levels of every series, in units.

    The levels are those of periodic review: an order must last over review period and lead time.
    Where ordering costs more than holding, (R, s, S): only below `reorder_point` is ordered, up to
    `order_up_to`; else both are the `base_stock_level` of (R, S).

    Parameters
    ----------
    mean : (series, steps), expected units a period
    quantiles : (series, steps, levels), calibrated, never crossing
    terms : a row per series, see `supply.supply_terms`
    correlation : between errors of different steps, 0 to 1

    Returns
    -------
    `terms` and weekly_demand (expected), continuous_reorder_point (review every day: the level
    over the lead time alone), reorder_point, base_stock_level and order_up_to (see above),
    safety_stock (base_stock_level above expected demand), order_quantity_economic, and
    safety_stock_cost_per_year.
    """
    draws = draw(quantiles.shape[1], correlation, config)
    lead = terms["lead_time_days"].to_numpy()
    spread = terms["lead_time_days_std"].to_numpy()
    life = terms["shelf_life_days"].fill_null(np.inf).to_numpy()
    period = config.period_days
    weekly = mean.mean(axis=1, dtype=np.float64) * (DAYS / period)
    lot = _lot(weekly, terms, config)
    levels: dict[str, list[Array]] = {name: [] for name in (_CONTINUOUS, _BASE, _POINT, _LIFE)}
    for start in range(0, len(lead), CHUNK):
        part = slice(start, start + CHUNK)
        paths = demand_paths(quantiles[part], config.quantiles, draws.normal)
        days = lead_times(lead[part], spread[part], draws)
        review = weekly[part] * config.review_days / DAYS
        protection = demand_over(paths, days + config.review_days, period)
        between = demand_over(paths, np.full(days.shape, config.review_days), period)
        # Where a review passed without an order, of what sold since then only what lies below the
        # reorder point counts. The share of such reviews:
        passed = 1 - review / np.maximum(np.maximum(lot[part], review), _SMALL)
        below = protection - passed[:, None] * (between - undershoot(between, draws))
        rows = terms[part]
        levels[_CONTINUOUS].append(
            _level(demand_over(paths, days, period), lot[part], rows, config)
        )
        levels[_BASE].append(_level(protection, review, rows, config))
        levels[_POINT].append(_level(below, np.maximum(lot[part], review), rows, config))
        levels[_LIFE].append(_sellable(paths, days, life[part], rows, period))
    found = {name: np.concatenate(each) for name, each in levels.items()}
    base = np.minimum(found[_BASE], found[_LIFE])
    point = np.minimum(found[_POINT], found[_LIFE])
    beyond = np.maximum(lot - weekly * config.review_days / DAYS, 0)
    expected = demand_over(mean.astype(np.float64), lead + config.review_days, period)
    return terms.with_columns(
        weekly_demand=pl.Series(weekly),
        safety_stock=pl.Series(base - expected),
        continuous_reorder_point=pl.Series(found[_CONTINUOUS]),
        reorder_point=pl.Series(np.where(beyond > 0, point, base)),
        base_stock_level=pl.Series(base),
        order_up_to=pl.Series(np.where(beyond > 0, np.minimum(point + beyond, found[_LIFE]), base)),
        order_quantity_economic=pl.Series(lot),
    ).with_columns(
        safety_stock_cost_per_year=pl.max_horizontal("safety_stock", 0.0)
        * pl.col("unit_cost")
        * pl.col("holding_cost_rate")
    )


_CONTINUOUS, _BASE, _POINT, _LIFE = "continuous", "base", "point", "life"


def _lot(weekly: Array, terms: pl.DataFrame, config: InventoryConfig) -> Array:
    """Return what to order at once: the economic quantity within the most and the least allowed."""
    cost = terms["unit_cost"].fill_null(np.nan).to_numpy()
    rate = terms["holding_cost_rate"].to_numpy()
    lot = levels_of.economic_order_quantity(weekly / DAYS, config.order_cost, cost, rate)
    lot = np.minimum(lot, config.cover_weeks * weekly)
    return np.asarray(np.maximum(lot, terms["minimum_order_quantity"].to_numpy()))


def _level(demand: Array, lot: Array, terms: pl.DataFrame, config: InventoryConfig) -> Array:
    """Return the level that the service target asks for, given demand over its interval."""
    if config.service_target == "fill_rate":
        # Sales are lost: a cycle's demand is what is ordered and what is missed.
        return levels_of.for_fill_rate(demand, lot / config.service_level, config.service_level)
    if config.service_target == "cycle_service":
        return levels_of.for_cycle_service(demand, config.service_level)
    cost = terms["unit_cost"].fill_null(0.0).to_numpy()
    margin = terms["unit_margin"].fill_null(0.0).to_numpy()
    holding = cost * terms["holding_cost_rate"].to_numpy() * config.review_days / DAYS_A_YEAR
    return levels_of.for_cycle_service(demand, levels_of.critical_ratio(margin, holding))


def _sellable(paths: Array, days: Array, life: Array, terms: pl.DataFrame, period: int) -> Array:
    """Return up to how much may be there of goods that perish, infinite of others, (series,).

    The newsvendor's answer: a unit short loses its margin, one left over its cost, and what sells
    from now on until the next order is too old is demand over lead time and shelf life.
    """
    found = np.full(len(life), np.inf)
    perishes = np.isfinite(life)
    if perishes.any():
        sells = demand_over(paths[perishes], days[perishes] + life[perishes, None], period)
        margin, cost = (
            terms[name].fill_null(0.0).to_numpy()[perishes] for name in ("unit_margin", "unit_cost")
        )
        found[perishes] = levels_of.for_cycle_service(sells, levels_of.critical_ratio(margin, cost))
    return found


def propose(levels: pl.DataFrame, stock: pl.DataFrame) -> pl.DataFrame:
    """Propose an order per series at this review: what is missing where the position is low.

    Parameters
    ----------
    levels : as `policy` returns them
    stock : product_id, location_id, on_hand, on_order; series without a row have no known stock

    Returns
    -------
    `ORDER_COLUMNS`, a row per series that needs stock, dearest first: `value` is the order at
    cost, `assumed` the terms that the shop did not say.
    Quantities are whole packs of `pack_size`, and at least `minimum_order_quantity`.
    `order_quantity` is null where the stock is unknown: there only `quantity_before_stock` can
    be told, from which the buyer subtracts what is on hand and on order.
    """
    position = pl.col("on_hand") + pl.col("on_order").fill_null(0.0)
    found = levels.join(stock, on=["product_id", "location_id"], how="left", maintain_order="left")
    missing = pl.when(position < pl.col("reorder_point") + _SMALL).then(
        pl.col("order_up_to") - position
    )
    found = found.with_columns(
        quantity_before_stock=_in_packs(pl.col("order_up_to")),
        order_quantity=_in_packs(
            pl.when(position.is_not_null()).then(pl.coalesce(missing, pl.lit(0.0)))
        ),
        basis=pl.when(position.is_not_null()).then(pl.lit(KNOWN)).otherwise(pl.lit(UNKNOWN)),
    )
    units = pl.coalesce("order_quantity", "quantity_before_stock")
    return (
        found
        .with_columns(value=units * pl.col("unit_cost"))
        .filter(units > 0)
        .sort(
            "value", "product_id", "location_id", descending=[True, False, False], nulls_last=True
        )
        .select(ORDER_COLUMNS)
    )


def within_limits(orders: pl.DataFrame, levels: pl.DataFrame, config: InventoryConfig) -> Limited:
    """Fit the orders of a day into the shop's budget, space and least order.

    Orders of unknown stock or without a cost cannot be weighed and stay as they are.

    Parameters
    ----------
    orders : of `propose`
    levels : of `policy`

    Returns
    -------
    Limited; unchanged where no limit is configured.
    """
    limits = Limits(
        config.order_budget or np.inf,
        config.order_capacity or np.inf,
        {_ONE: config.supplier_minimum} if config.supplier_minimum else {},
    )
    weighed = orders.filter(
        pl.col("order_quantity").is_not_null() & pl.col("unit_cost").is_not_null()
    )
    if limits == Limits() or weighed.is_empty():
        return Limited(orders, "")
    key = ["product_id", "location_id"]
    margins = weighed.join(
        levels.select(*key, "unit_margin"), on=key, how="left", maintain_order="left"
    )["unit_margin"]
    units = weighed["order_quantity"].to_numpy()
    wanted = Wanted(
        units=units,
        must=np.zeros(len(units)),
        benefit=margins.fill_null(0.0).to_numpy(),
        unit_cost=weighed["unit_cost"].to_numpy(),
        volume=np.ones(len(units)),
        pack_size=weighed["pack_size"].to_numpy(),
        minimum_order_quantity=weighed["minimum_order_quantity"].to_numpy(),
        supplier=np.full(len(units), _ONE),
    )
    found = fit(wanted, limits).units
    changed = weighed.with_columns(
        order_quantity=pl.Series(found), value=pl.Series(found) * pl.col("unit_cost")
    ).filter(pl.col("order_quantity") > 0)
    rest = orders.join(weighed.select(key), on=key, how="anti", maintain_order="left")
    said = (
        f"Orders were fitted into the limits of the day: {found.sum():,.0f} of {units.sum():,.0f} "
        f"units, {changed.height:,} of {weighed.height:,} products"
    )
    merged = pl.concat([changed, rest]).sort(
        "value", *key, descending=[True, False, False], nulls_last=True
    )
    return Limited(merged, said)


def _in_packs(units: pl.Expr) -> pl.Expr:
    """Round up to whole packs and to the least order; nothing where nothing is missing."""
    # What floating point adds to a whole number of packs must not buy another one.
    packs = (units / pl.col("pack_size") - 1e-6).ceil() * pl.col("pack_size")
    least = (pl.col("minimum_order_quantity") / pl.col("pack_size")).ceil() * pl.col("pack_size")
    return (
        pl.when(packs > 0).then(pl.max_horizontal(packs, least)).when(units.is_not_null()).then(0.0)
    )


def weeks_of_demand(orders: pl.DataFrame, levels: pl.DataFrame) -> float:
    """Return how many weeks of expected demand the orders cost, at what the units cost.

    Parameters
    ----------
    orders : value (store currency), see `within_limits`
    levels : weekly_demand (units), unit_cost (store currency a unit), see `policy`
    """
    week = levels.select((pl.col("weekly_demand") * pl.col("unit_cost")).sum()).item()
    return float(orders["value"].sum() / week) if week else 0.0


def buyers_csv(orders: pl.DataFrame) -> str:
    """Return the proposals as CSV for a spreadsheet: two decimals, and no text that is a formula.

    The byte order mark makes Excel read it as UTF-8.
    """
    text = pl.col(pl.String)
    risky = text.str.contains(r"^[=+\-@\t\r]")
    harmless = orders.with_columns(pl.when(risky).then("'" + text).otherwise(text).name.keep())
    return harmless.write_csv(include_bom=True, float_precision=2)
