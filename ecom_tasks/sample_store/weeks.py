"""The shop's life, week by week: prices that follow demand, demand that follows prices, stock.

Memory holds one week: state is products x stores, whatever the number of weeks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from ecom_tasks.sample_store.world import Array, World

START = date(2024, 1, 1)
"""Monday of the first week."""
# Memory from week to week and standard deviation of the shocks to log demand.
_PRODUCT_SHOCK, _STORE_SHOCK, _CATEGORY_SHOCK = (0.6, 0.22), (0.5, 0.12), (0.7, 0.10)
# Variance of relative demand beyond chance: units are negative-binomial.
_OVERDISPERSION = 0.08
_PROMOTED = 0.12
_CHAIN_WIDE = 0.03
_REVIEW_MARGIN = 4.0


@dataclass(frozen=True)
class Week:
    """One week; arrays are products x stores unless said otherwise.

    Attributes
    ----------
    number : from 0; starts_on : its Monday
    regular_price, price, unit_cost : store currency per unit
    promoted : products x stores x mechanics (price_cut, display, mailer)
    expected : mean units wanted, given all that happened
    wanted, sold : units; sold is less where stock ran out
    on_hand, on_order : units at the week's end
    """

    number: int
    starts_on: date
    regular_price: Array
    price: Array
    unit_cost: Array
    promoted: NDArray[np.bool_]
    expected: Array
    wanted: Array
    sold: Array
    on_hand: Array
    on_order: Array


@dataclass
class _State:
    """What one week leaves to the next."""

    product: Array
    store: Array
    category: Array
    drift: Array
    zone: Array
    promoted_before: NDArray[np.bool_]
    on_hand: Array
    pipeline: Array


def live(world: World) -> Iterator[Week]:
    """Yield the weeks of the shop; each depends on seed and number only through its own draws."""
    scale = world.scale
    shape = (scale.products, scale.stores)
    start = np.random.default_rng([scale.seed, 2])
    usual = np.exp(world.level[:, None] + world.size + world.taste.T[world.category])
    state = _State(
        product=_PRODUCT_SHOCK[1] * start.standard_normal(scale.products),
        store=_STORE_SHOCK[1] * start.standard_normal(scale.stores),
        category=_CATEGORY_SHOCK[1] * start.standard_normal((world.taste.shape[1],)),
        drift=np.zeros(shape),
        zone=0.03 * start.standard_normal(shape),
        promoted_before=np.zeros(shape, dtype=bool),
        on_hand=np.ceil(usual * (world.lead_time[:, None] + _REVIEW_MARGIN)),
        pipeline=np.zeros((int(world.lead_time.max()) + 1, *shape)),
    )
    for number in range(scale.weeks):
        yield _next(world, state, usual, number)


def _next(world: World, state: _State, usual: Array, number: int) -> Week:
    scale = world.scale
    shape = (scale.products, scale.stores)
    rng = np.random.default_rng([scale.seed, 3, number])
    category = world.category
    for shock, (memory, deviation) in (
        (state.product, _PRODUCT_SHOCK), (state.store, _STORE_SHOCK),
        (state.category, _CATEGORY_SHOCK),
    ):  # fmt: skip
        fresh = deviation * np.sqrt(1 - memory**2) * rng.standard_normal(shock.shape)
        shock *= memory
        shock += fresh
    season = world.amplitude * np.sin(2 * np.pi * number / 52.18 + world.phase)
    shift = state.product[:, None] + (season + state.category)[category][:, None] + state.store
    # Costs move regular prices now and then, for a store or for all.
    moved = rng.random(shape) < 0.03
    state.drift += np.where(moved, 0.06 * rng.standard_normal(shape), 0.0)
    everywhere = rng.random(scale.products) < 0.03
    state.drift += np.where(everywhere, 0.04 * rng.standard_normal(scale.products), 0.0)[:, None]
    state.drift *= 0.98
    promoted, depth = _promotions(rng, world, shift)
    log_regular = np.log(world.base_price)[:, None] + state.zone + state.drift
    # The manager sees what sells well, and charges more for it: what confounds the history.
    log_regular = log_regular + scale.confounding * shift
    regular = np.maximum(np.round(np.exp(log_regular), 2), 0.05)
    price = np.maximum(np.round(regular * (1 - depth), 2), 0.05)
    answer = world.elasticity @ np.log(price / world.base_price[:, None])
    promotion = (promoted * world.lift[:, None, :]).sum(axis=2)
    dip = np.where(state.promoted_before & ~promoted[..., 0], world.dip[:, None], 0.0)
    expected = usual * np.exp(answer + shift + promotion + dip)
    noisy = expected * rng.gamma(1 / _OVERDISPERSION, _OVERDISPERSION, shape)
    wanted = rng.poisson(noisy).astype(np.float64)
    sold = _serve(world, state, wanted, expected)
    state.promoted_before = promoted[..., 0]
    return Week(
        number=number,
        starts_on=START + timedelta(weeks=number),
        regular_price=regular,
        price=price,
        unit_cost=np.round(world.cost[:, None] * np.exp(state.drift), 4),
        promoted=promoted,
        expected=expected,
        wanted=wanted,
        sold=sold,
        on_hand=state.on_hand.copy(),
        on_order=state.pipeline.sum(axis=0),
    )


def _promotions(
    rng: np.random.Generator, world: World, shift: Array
) -> tuple[NDArray[np.bool_], Array]:
    """Choose what is promoted and how deep, more often where demand runs high."""
    shape = shift.shape
    lean = np.exp(2 * world.scale.confounding * shift)
    local = rng.random(shape) < _PROMOTED * lean
    chain = rng.random(shape[0]) < _CHAIN_WIDE * lean.mean(axis=1)
    cut = local | chain[:, None]
    display = cut & (rng.random(shape) < 0.4)
    mailer = cut & (chain[:, None] | (rng.random(shape) < 0.1))
    depth = np.where(cut, rng.choice([0.1, 0.15, 0.2, 0.25, 0.3], shape), 0.0)
    together = rng.choice([0.1, 0.15, 0.2, 0.25, 0.3], shape[0])
    depth = np.where(chain[:, None], together[:, None], depth)
    return np.stack([cut, display, mailer], axis=2), depth


def _serve(world: World, state: _State, wanted: Array, expected: Array) -> Array:
    """Receive what was ordered, sell what is there, and order up to cover the lead time."""
    state.on_hand += state.pipeline[0]
    state.pipeline = np.roll(state.pipeline, -1, axis=0)
    state.pipeline[-1] = 0.0
    sold = np.minimum(wanted, state.on_hand)
    state.on_hand = state.on_hand - sold
    cover = np.maximum(expected, 1.0) * (world.lead_time[:, None] + _REVIEW_MARGIN)
    order = np.maximum(np.ceil(cover - state.on_hand - state.pipeline.sum(axis=0)), 0.0)
    for lead in np.unique(world.lead_time):
        rows = world.lead_time == lead
        state.pipeline[lead - 1, rows] += order[rows]
    return sold
