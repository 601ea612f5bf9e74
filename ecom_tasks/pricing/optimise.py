"""The price of each product that earns most, among those that the rules allow.

Demand at price p is `units * (p / current) ** elasticity`, within `largest_response` times up or
down. The elasticity is not known but as a distribution: what counts is the profit expected over it,
and a change is proposed only if more profit is `sure_enough`. The search is over every allowed
price, so it is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from ecom_tasks.pricing import rules, situation
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.evidence import CANNOT_TELL

Array = NDArray[np.float64]

_QUANTILES = (np.arange(99) + 0.5) / 99
_SCORES = stats.norm.ppf(_QUANTILES)
# Above this many allowed prices (a yacht under a 10% step), every n-th is tried.
_MOST_CANDIDATES = 2000
_BEYOND = 1.01
_DRAWS, _DRAWN_AT_ONCE = 1000, 1000
"""Draws of the total, and products that are drawn together."""
# What is known of a product beside its price and sales, see `situation.add`.
_SITUATION = ("units_from", "on_hand", "competitor_price", "weeks_since_change")
_FOR_ALL = "; chosen together with its neighbours in the category"
_NO_CHANGE = {
    f"{name}_change{end}": 0.0
    for name in ("units", "revenue", "profit")
    for end in ("", "_lower", "_upper")
} | {"break_even_cost": None}


@dataclass(frozen=True)
class Product:
    """One product as the optimiser sees it; prices and cost in store currency per unit.

    `reach` are the units a week that there are until more can be had.
    """

    current: float
    regular: float
    cost: float
    units: float
    elasticity: float
    error: float
    grade: str
    why: str
    assumed: bool
    reach: float = math.inf


def demand_factor(ratio: Array, elasticity: Array, largest: float) -> Array:
    """Return units over today's units, shape (prices, elasticities).

    Nobody buys more because it got dearer: an elasticity above zero counts as zero.

    Parameters
    ----------
    ratio : price over current price, shape (prices,)
    elasticity : shape (elasticities,)
    largest : bound of the factor, and of its inverse
    """
    exponent = np.log(ratio)[:, None] * np.minimum(elasticity, 0.0)
    bound = math.log(largest)
    return np.asarray(np.exp(np.clip(exponent, -bound, bound)))


def allowed_prices(room: rules.Room, endings: tuple[float, ...]) -> Array:
    """Return the prices from `room.lowest` to `room.highest` that end as allowed, rising."""
    low, high = room.lowest.price, room.highest.price
    whole = np.arange(math.floor(low), math.floor(high) + 1)
    grid = np.sort(np.round((whole[:, None] + np.array(endings)).ravel(), 2))
    inside = grid[(grid >= low - 1e-9) & (grid <= high + 1e-9) & (grid > 0)]
    every = -(-len(inside) // _MOST_CANDIDATES) or 1
    return np.asarray(inside[::every])


def propose(product: Product, config: PricingConfig, chosen: float | None = None) -> dict[str, Any]:
    """Propose a price for one product.

    Parameters
    ----------
    chosen : the price that is best for its whole category, see `joint`; None: its own best

    Returns
    -------
    dict
        proposed_price, binding (the rule that stops a better price; empty if none), reason (in
        words), the expected weekly changes of units, revenue and profit, each with the lower and
        upper end of its interval, and break_even_cost (null if kept): a raise pays while a unit
        costs more than that, a reduction while it costs less.
    """
    keep = {"proposed_price": product.current, "binding": ""} | _NO_CHANGE
    if product.grade == CANNOT_TELL:
        return keep | {"reason": f"keep: cannot tell how buyers answer ({product.why})"}
    if chosen == product.current:
        return keep | {"reason": "keep: no allowed price is better for its category"}
    room = rules.room(product.current, product.regular, product.cost, config)
    if room.collision:
        return keep | {"binding": room.collision, "reason": "keep: two rules collide"}
    prices = allowed_prices(room, config.endings)
    prices = prices[prices != product.current]
    if not len(prices):
        return keep | {
            "binding": "allowed endings",
            "reason": "keep: no allowed ending within the other rules",
        }
    gain = _profit(product, prices, config) - _profit(product, np.array([product.current]), config)
    expected, sure = gain.mean(axis=1), (gain > 0).mean(axis=1)
    worth = np.where((sure >= config.sure_enough) & (expected > 0), expected, -np.inf)
    best = int(np.argmax(worth))
    if chosen is not None:
        best = int(np.argmin(np.abs(prices - chosen)))
    elif not np.isfinite(worth[best]):
        return keep | {
            "reason": f"keep: no allowed price earns more with {config.sure_enough:.0%} probability"
        }
    price = float(prices[best])
    return (
        {"proposed_price": price, "binding": _binding(product, prices, best, room, config)}
        | _changes(product, price, config)
        | {"reason": _words(product, price) + (_FOR_ALL if chosen is not None else "")}
    )


def _profit(product: Product, prices: Array, config: PricingConfig) -> Array:
    """Return weekly profit, shape (prices, elasticities), over the distribution's quantiles."""
    elasticity = product.elasticity + product.error * _SCORES
    factor = demand_factor(prices / product.current, elasticity, config.largest_response)
    units = np.minimum(product.units * factor, product.reach)
    return np.asarray(units * (prices - product.cost)[:, None])


def _binding(
    product: Product, prices: Array, best: int, room: rules.Room, config: PricingConfig
) -> str:
    """Name the rule behind the end of the grid, if profit would still rise beyond it."""
    if 0 < best < len(prices) - 1:
        return ""
    end = room.lowest if prices[best] < product.current else room.highest
    step = 1 / _BEYOND if prices[best] < product.current else _BEYOND
    around = np.array([prices[best], prices[best] * step])
    here, beyond = _profit(product, around, config).mean(axis=1)
    return end.rule if beyond > here else ""


def _changes(product: Product, price: float, config: PricingConfig) -> dict[str, float | None]:
    """Return expected change and interval of weekly units, revenue and profit.

    All three move one way with the elasticity, so the ends of their intervals are what they are at
    the ends of the elasticity's.
    """
    tail = (1 - config.confidence) / 2
    ends = stats.norm.ppf([tail, 1 - tail])
    scores = np.concatenate([ends, _SCORES])
    elasticity = product.elasticity + product.error * scores
    ratio = np.array([price / product.current])
    wanted = product.units * demand_factor(ratio, elasticity, config.largest_response)[0]
    units, today = np.minimum(wanted, product.reach), min(product.units, product.reach)
    figures = {
        "units": units - today,
        "revenue": units * price - today * product.current,
        "profit": units * (price - product.cost) - today * (product.current - product.cost),
    }
    # Where profit at both prices is the same: q (p - c) = q0 (p0 - c).
    mean = float(units[2:].mean())
    changes: dict[str, float | None] = {"break_even_cost": None}
    if mean != today:
        spent = mean * price - today * product.current
        changes["break_even_cost"] = spent / (mean - today)
    for name, change in figures.items():
        changes[f"{name}_change"] = float(change[2:].mean())
        changes[f"{name}_change_lower"] = float(change[:2].min())
        changes[f"{name}_change_upper"] = float(change[:2].max())
    return changes


def _words(product: Product, price: float) -> str:
    change = price / product.current - 1
    verb = "raise" if change > 0 else "lower"
    answer = abs(product.elasticity)
    loss = "lose" if change > 0 else "gain"
    return (
        f"{verb} by {abs(change):.1%}: each percent is expected to {loss} {answer:.1f}% of units "
        f"({product.grade} evidence), at {'an assumed' if product.assumed else 'a'} margin of "
        f"{1 - product.cost / product.current:.0%}"
        + (f"; more is wanted than the {product.reach:.0f} a week there are until more comes"
           if product.units > product.reach else "")
    )  # fmt: skip


def at_current_prices(
    positions: pl.DataFrame, elasticities: pl.DataFrame, config: PricingConfig
) -> pl.DataFrame:
    """Join positions and answers; weekly_units become what today's price would have sold.

    Units were sold at the prices of their weeks.
    """
    rows = positions.join(elasticities, on="product_id", how="inner").sort("product_id")
    bound = math.log(config.largest_response)
    at_current = (-pl.col("price_ratio") * pl.col("estimate").clip(upper_bound=0.0)).clip(
        -bound, bound
    )
    return rows.with_columns(
        pl
        .when(pl.col("grade") == CANNOT_TELL)
        .then(pl.col("weekly_units"))
        .otherwise(pl.col("weekly_units") * at_current.exp())
    )


def propose_all(
    positions: pl.DataFrame,
    elasticities: pl.DataFrame,
    config: PricingConfig,
    chosen: dict[str, float] | None = None,
) -> pl.DataFrame:
    """Propose a price for each product on sale.

    Parameters
    ----------
    positions : see `today.positions`
    elasticities : product_id, estimate, error, lower, upper, grade, why
    chosen : prices that were found for products together, see `joint.choose`

    Returns
    -------
    DataFrame
        A row a product: positions, current_price, proposed_price, change (relative), reason,
        binding, expected weekly changes with intervals, grade. Weekly units are those expected at
        the current price.
    """
    rows = at_current_prices(positions, elasticities, config)
    chosen = chosen or {}
    products = (
        Product(*values)
        for values in rows.select(
            "current_price", "regular_price", "unit_cost", "weekly_units", "estimate", "error",
            "grade", "why", "assumed", situation.reach(rows).alias("reach"),
        ).iter_rows()
    )  # fmt: skip
    proposals = pl.DataFrame(
        [
            propose(product, config, chosen.get(name))
            for product, name in zip(products, rows["product_id"], strict=True)
        ],
        infer_schema_length=None,
    ).with_columns(pl.col("break_even_cost").cast(pl.Float64))
    change = pl.col("proposed_price") / pl.col("current_price") - 1
    return pl.concat([rows, proposals], how="horizontal").select(
        "product_id",
        "category",
        "current_price",
        "proposed_price",
        change.alias("change"),
        "reason",
        pl.col("binding").alias("binding_guardrail"),
        *_NO_CHANGE.keys(),
        "weekly_units",
        *(name for name in _SITUATION if name in rows.columns),
        pl.when(situation.reach(rows).is_finite()).then(situation.reach(rows))
        .alias("weekly_units_available"),
        "regular_price",
        "unit_cost",
        "assumed",
        pl.col("estimate").alias("elasticity"),
        "grade",
    ).with_columns(pl.col(pl.Float64).round(4))  # fmt: skip


def total(
    prices: pl.DataFrame, elasticities: pl.DataFrame, config: PricingConfig, seed: int
) -> dict[str, float]:
    """Add up the expected weekly profit change of all proposals, with an interval.

    Products that borrow from the same category err together: the part of a product's error that is
    its category's is drawn once for the category. An assumed margin may be wrong by `margin_doubt`,
    then for all products alike. Memory: the draws of some products.

    Parameters
    ----------
    prices : see `propose_all`
    elasticities : product_id, category, estimate, error, shared_error (the category's part)

    Returns
    -------
    dict
        expected, lower, upper (store currency a week), products (number changed).
    """
    changed = prices.filter(pl.col("change") != 0).join(
        elasticities.select("product_id", "estimate", "error", "shared_error"), on="product_id"
    )
    if changed.is_empty():
        return {"expected": 0.0, "lower": 0.0, "upper": 0.0, "products": 0}
    rng = np.random.default_rng(seed)
    number = changed["category"].rank("dense").cast(pl.Int64) - 1
    changed = changed.with_columns(number.alias("category"))
    together = rng.standard_normal((number.n_unique(), _DRAWS))
    gain, assumed = np.zeros((2, _DRAWS))
    for some in changed.iter_slices(_DRAWN_AT_ONCE):
        more, more_assumed = _drawn(some, together, config, rng)
        gain += more
        assumed += more_assumed
    off = config.margin_doubt * rng.uniform(-1.0, 1.0, _DRAWS)
    dearer = (1 - config.assumed_margin + off) / (1 - config.assumed_margin)
    gain -= dearer * assumed
    tail = (1 - config.confidence) / 2
    lower, upper = np.quantile(gain, [tail, 1 - tail])
    return {
        "expected": round(float(gain.mean()), 2),
        "lower": round(float(lower), 2),
        "upper": round(float(upper), 2),
        "products": changed.height,
    }


def _drawn(
    changed: pl.DataFrame, together: Array, config: PricingConfig, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw what changed prices gain a week, (draws,), but for costs assumed; and these."""
    error, shared, estimate, current, price, cost, units = (
        changed[name].to_numpy()[:, None]
        for name in (
            "error", "shared_error", "estimate", "current_price", "proposed_price", "unit_cost",
            "weekly_units",
        )
    )  # fmt: skip
    own = np.sqrt(np.maximum(error**2 - shared**2, 0.0))
    alone = rng.standard_normal((changed.height, _DRAWS))
    elasticity = estimate + shared * together[changed["category"].to_numpy()] + own * alone
    bound = math.log(config.largest_response)
    exponent = np.log(price / current) * np.minimum(elasticity, 0.0)
    reach = changed["weekly_units_available"].fill_null(np.inf).to_numpy()[:, None]
    sold = np.minimum(units * np.exp(np.clip(exponent, -bound, bound)), reach)
    today = np.minimum(units, reach)
    costs, assumed = (sold - today) * cost, changed["assumed"].to_numpy()
    gain = (sold * price - today * current).sum(axis=0) - costs[~assumed].sum(axis=0)
    return gain, costs[assumed].sum(axis=0)
