"""What the policy would have served and cost in the test windows, beside what else could be done.

Played day by day with what really sold, forecasts as they were made in each period, and the same
drawn lead times for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from ecom_tasks.inventory import simulate
from ecom_tasks.inventory.baselines import AVERAGE_WEEKS
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.evaluate import Window
from ecom_tasks.inventory.panel import Panel
from ecom_tasks.inventory.replenish import DAYS, policy
from ecom_tasks.inventory.simulate import Levels, Terms
from ecom_tasks.metrics import inventory as metrics
from ecom_tasks.metrics.forecast import Array

MODEL, TEXTBOOK, SEASONAL, CLAIRVOYANT = (
    "model", "textbook", "seasonal naive and textbook", "clairvoyant"
)  # fmt: skip
WARM_UP_DAYS = 28
_DAYS_LOOKED_AT = 28


def judge(
    panel: Panel, reviews: Sequence[Window], terms: pl.DataFrame, config: InventoryConfig
) -> dict[str, dict[str, float]]:
    """Play the policies over the periods of the test windows.

    A warm-up of four weeks before them, with the levels of the first review, lets each find its
    own stock; it counts in no figure. Weekly sales are spread over days at random.

    Parameters
    ----------
    reviews : forecasts of consecutive periods, as made then; see `evaluate.Backtest`
    terms : as `supply.supply_terms` returns them

    Returns
    -------
    Policy -> `simulate.Outcome` as a dictionary: `model`; `textbook`, the level of mean and
    deviation of the last 8 weeks (28 days) for normal demand; `seasonal naive and textbook`, the
    same around last season's, where a season is known; `clairvoyant` with the lower bound of cost
    alone.
    Empty where the days between orders are no whole periods.
    """
    period = config.period_days
    between, odd = divmod(config.review_days, period)
    if odd or not between:
        return {}
    first, last = reviews[0].origin, reviews[-1].origin + 1
    reviews = reviews[:: int(between)]
    early = min(WARM_UP_DAYS // period, first) // int(between)
    start_at = first - early * int(between)
    sold = np.maximum(panel.units[:, start_at:last], 0).astype(np.float64)
    demand = simulate.daily(sold, config.seed) if period == DAYS else sold
    warm_up = period * (first - start_at)
    lead = terms["lead_time_days"].to_numpy()
    spread = terms["lead_time_days_std"].to_numpy()
    days = simulate.lead_days(lead, spread, config.simulated_paths, demand.shape[1], config.seed)
    rules = rules_of(terms, config)
    found: dict[str, dict[str, float]] = {}
    for name, levels in _policies(panel, reviews, terms, config).items():
        before = [np.repeat(each[:, :1], early, axis=1) for each in levels]
        held = Levels(*(np.hstack([a, b]) for a, b in zip(before, levels, strict=True)))
        start = held.order_up_to[:, 0]
        outcome = simulate.run(demand, held, days, rules, start, warm_up)
        found[name] = outcome.to_dict()
    bound = simulate.clairvoyant_cost(demand[:, warm_up:], rules)
    return found | {CLAIRVOYANT: {"total_cost": bound}}


def rules_of(terms: pl.DataFrame, config: InventoryConfig) -> Terms:
    """Return the terms of a simulation; what has no price costs and earns nothing."""

    def known(name: str, otherwise: float) -> Array:
        return np.asarray(terms[name].fill_null(otherwise).to_numpy(), np.float64)

    return Terms(
        unit_cost=known("unit_cost", 0),
        margin=known("unit_margin", 0),
        holding_cost_rate=known("holding_cost_rate", config.holding_cost_rate),
        order_cost=config.order_cost,
        pack_size=known("pack_size", config.pack_size),
        minimum_order_quantity=known("minimum_order_quantity", 0),
        shelf_life_days=known("shelf_life_days", np.inf),
        review_days=int(config.review_days),
    )


def _policies(
    panel: Panel, reviews: Sequence[Window], terms: pl.DataFrame, config: InventoryConfig
) -> dict[str, tuple[Array, Array]]:
    """Return reorder point and order-up-to level of each policy, (series, reviews) each."""
    own = []
    for each in reviews:
        assert each.calibration is not None
        correlation = each.calibration.error_correlation
        made = policy(each.mean, each.quantiles, terms, correlation, config)
        own.append((made["reorder_point"].to_numpy(), made["order_up_to"].to_numpy()))
    points, tops = (np.column_stack(each) for each in zip(*own, strict=True))
    found = {MODEL: (points, tops)}
    rivals: dict[str, Callable[[int], Array]] = {
        TEXTBOOK: lambda origin: textbook(panel, origin, terms, config)
    }
    if reviews[0].origin > config.season + _looked_at(config):
        rivals[SEASONAL] = lambda origin: textbook(panel, origin, terms, config, seasonal=True)
    for name, level in rivals.items():
        up_to = np.column_stack([level(each.origin) for each in reviews])
        found[name] = (up_to, up_to)
    return found


def textbook(
    panel: Panel,
    origin: int,
    terms: pl.DataFrame,
    config: InventoryConfig,
    *,
    seasonal: bool = False,
) -> Array:
    """Return the textbook's order-up-to level, mean + z deviations of demand, (series,).

    Of the last 8 weeks, or 28 days.

    Parameters
    ----------
    seasonal : expect last season's periods instead of the mean of the last, and take the deviation
        of what such a forecast missed in the last
    """
    count, period = _looked_at(config), config.period_days
    recent = panel.units[:, origin - count : origin].astype(np.float64)
    expected, missed = recent.mean(axis=1), recent
    if seasonal:
        ago = panel.units[:, origin - config.season :].astype(np.float64)
        expected = ago[:, : config.horizon].mean(axis=1)
        missed = recent - panel.units[:, origin - config.season - count :][:, :count].astype(
            np.float64
        )
    deviation = missed.std(axis=1, ddof=1) / np.sqrt(period)
    lead = terms["lead_time_days"].to_numpy()
    spread = terms["lead_time_days_std"].to_numpy()
    protection = lead + config.review_days
    safety = metrics.safety_stock(
        config.service_level, expected / period, deviation, protection, spread
    )
    return metrics.base_stock_level(expected / period, lead, config.review_days, safety)


def _looked_at(config: InventoryConfig) -> int:
    return _DAYS_LOOKED_AT if config.frequency == "daily" else AVERAGE_WEEKS
