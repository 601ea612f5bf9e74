"""Which products are priced together, and what they are priced with: from tables to problems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecom_tasks.pricing import category, optimise, rules, situation
from ecom_tasks.pricing.category import Problem
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.evidence import CANNOT_TELL
from ecom_tasks.pricing.guardrails import Guardrails

Array = NDArray[np.float64]
# Prices of one product that a category tries; more of them are thinned out evenly.
_OPTIONS = 12


@dataclass(frozen=True)
class Chosen:
    """Prices of products that were priced together, and what they are worth a week.

    Attributes
    ----------
    prices : product_id -> price, current or new
    value, value_today : the aim summed over categories, at chosen and at current prices
    """

    prices: dict[str, float]
    value: float
    value_today: float


def choose(
    rows: pl.DataFrame,
    pairs: pl.DataFrame,
    guardrails: Guardrails,
    config: PricingConfig,
    seed: int,
) -> Chosen:
    """Choose the prices of all categories that have cross effects, or rules of products together.

    Parameters
    ----------
    rows : see `optimise.at_current_prices`, with shared_error, and `situation.add`
    pairs : see `cross.estimate`
    guardrails : rules of products together
    seed : of the draws of elasticities

    Raises
    ------
    ConfigError
        Rules collide, with their names.
    """
    prices: dict[str, float] = {}
    value = today = 0.0
    for problem in problems(rows, pairs, guardrails, config, seed):
        plan = category.solve(problem, seed=seed)
        prices |= dict(zip(problem.products, map(float, plan.prices), strict=True))
        value += plan.value
        today += plan.value_today
    return Chosen(prices, value, today)


def problems(
    rows: pl.DataFrame,
    pairs: pl.DataFrame,
    guardrails: Guardrails,
    config: PricingConfig,
    seed: int,
) -> Iterator[Problem]:
    """Yield one problem for each category; one for all where a rule adds up over categories."""
    told = pairs.filter("found")
    ruled = guardrails != Guardrails()
    everything = guardrails.most_changes is not None or guardrails.markdown_budget is not None
    across = everything or guardrails.aim.objective == "revenue_at_margin"
    parts = [rows] if across else rows.partition_by("category", maintain_order=True)
    if ruled and not across:
        parts = _merged(parts, guardrails)
    rng = np.random.default_rng(seed)
    for part in parts:
        part = part.sort("product_id")
        inside = told.join(part.select("product_id"), on="product_id", how="semi")
        if not ruled:
            # The others are chosen best by themselves.
            tied = pl.concat([inside["product_id"], inside["other_id"]]).unique()
            part = part.filter(pl.col("product_id").is_in(tied.implode()))
        if part.height:
            yield _problem(part, inside, guardrails, config, rng)


def _merged(parts: list[pl.DataFrame], guardrails: Guardrails) -> list[pl.DataFrame]:
    """Join categories that a ladder or a zone ties together."""
    groups = [*({ladder.lower, ladder.higher} for ladder in guardrails.ladders),
              *(set(group) for group in guardrails.same_price)]  # fmt: skip
    for group in groups:
        touched = [part for part in parts if group & set(part["product_id"])]
        if len(touched) > 1:
            parts = [part for part in parts if not group & set(part["product_id"])]
            parts.append(pl.concat(touched))
    return parts


def _problem(
    rows: pl.DataFrame,
    pairs: pl.DataFrame,
    guardrails: Guardrails,
    config: PricingConfig,
    rng: np.random.Generator,
) -> Problem:
    products = rows["product_id"].to_list()
    place = {name: number for number, name in enumerate(products)}
    cross = np.zeros((len(products), len(products)))
    for first, second, estimate in pairs.select("product_id", "other_id", "estimate").iter_rows():
        if second in place:
            cross[place[first], place[second]] = estimate
    draws = config.elasticity_draws
    error, shared = rows["error"].to_numpy()[:, None], rows["shared_error"].to_numpy()[:, None]
    alone = np.sqrt(np.maximum(error**2 - shared**2, 0.0))
    together = rng.standard_normal(draws)
    elasticity = rows["estimate"].to_numpy()[:, None] + shared * together
    elasticity = np.minimum(elasticity + alone * rng.standard_normal((len(products), draws)), 0.0)
    problem = Problem(
        products=products,
        prices=[rows["current_price"].to_numpy()[number : number + 1] for number in place.values()],
        current=rows["current_price"].to_numpy().copy(),
        cost=rows["unit_cost"].to_numpy().copy(),
        units=rows["weekly_units"].to_numpy().copy(),
        elasticity=elasticity,
        cross=cross,
        guardrails=guardrails,
        largest_response=config.largest_response,
        stock=_column(rows, "on_hand"),
        clear_weeks=_column(rows, "clear_weeks"),
        reach=rows.with_columns(situation.reach(rows).alias("reach"))["reach"].to_numpy(),
        locked=_locked(rows, guardrails),
    )
    for number, row in enumerate(rows.iter_rows(named=True)):
        problem.prices[number] = _options(row, problem, number, config)
    return problem


def _column(rows: pl.DataFrame, name: str) -> Array | None:
    if name not in rows.columns:
        return None
    return rows[name].cast(pl.Float64).fill_null(np.inf).to_numpy()


def _locked(rows: pl.DataFrame, guardrails: Guardrails) -> NDArray[np.bool_] | None:
    if not guardrails.weeks_between or "weeks_since_change" not in rows.columns:
        return None
    since = rows["weeks_since_change"].fill_null(1_000_000).to_numpy()
    return np.asarray(since < guardrails.weeks_between)


def _options(row: dict[str, object], problem: Problem, place: int, config: PricingConfig) -> Array:
    """Return the prices a product may take: those allowed that are worth it surely enough."""
    current = float(problem.current[place])
    stay = np.array([current])
    if row["grade"] == CANNOT_TELL:
        return stay
    band = None
    rule, rival = problem.guardrails.competitor, row.get("competitor_price")
    if rule is not None and row.get("key_value") and isinstance(rival, float):
        band = (rule.low * rival, rule.high * rival)
    regular, cost = float(row["regular_price"]), float(row["unit_cost"])  # type: ignore[arg-type]
    room = rules.room(current, regular, cost, config, band)
    if room.collision:
        return stay
    prices = optimise.allowed_prices(room, config.endings)
    prices = prices[prices != current]
    if len(prices) > _OPTIONS:
        prices = prices[np.unique(np.linspace(0, len(prices) - 1, _OPTIONS).astype(int))]
    if problem.guardrails == Guardrails():
        prices = prices[_sure(problem, place, prices) >= config.sure_enough]
    return np.sort(np.append(prices, current))


def _sure(problem: Problem, place: int, prices: Array) -> Array:
    """Return for each price of one product how surely it earns more, its neighbours counted."""
    margin = (problem.current - problem.cost)[:, None]
    today = (category.units_at(problem, problem.current) * margin).sum(axis=0)
    sure = np.empty(len(prices))
    for number, price in enumerate(prices):
        tried = problem.current.copy()
        tried[place] = price
        earned = (category.units_at(problem, tried) * (tried - problem.cost)[:, None]).sum(axis=0)
        sure[number] = (earned > today).mean()
    return sure
