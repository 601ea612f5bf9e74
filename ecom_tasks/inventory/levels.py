"""Sampled demand -> the level that meets a service target, and the quantity to order at once.

Every function takes samples, not moments, so that skew, lumps and random lead times count.
"""

from __future__ import annotations

import numpy as np

from ecom_tasks.metrics.forecast import Array

DAYS_A_YEAR = 365


def for_cycle_service(demand: Array, probability: float | Array) -> Array:
    """Return the level that demand stays within with this probability, (series,).

    Parameters
    ----------
    demand : (series, samples), units over the interval that the level must last
    probability : of no stock-out in a cycle; one, or (series,)
    """
    if np.ndim(probability) == 0:
        return np.asarray(np.quantile(demand, probability, axis=1))
    ordered = np.sort(demand, axis=1)
    place = np.asarray(probability) * (demand.shape[1] - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, demand.shape[1] - 1)
    rows = np.arange(len(demand))
    share = place - low
    return np.asarray(ordered[rows, low] * (1 - share) + ordered[rows, high] * share)


def for_fill_rate(demand: Array, quantity: Array, fill_rate: float) -> Array:
    """Return the least level whose expected shortage a cycle is what the fill rate allows.

    `E[(demand - level)+] = (1 - fill_rate) * quantity` (Silver, Pyke and Thomas, 4th ed., 6.8):
    the more is ordered at once, the rarer the cycles and the lower the level.

    Parameters
    ----------
    demand : (series, samples), units over the interval that the level must last
    quantity : (series,), units ordered in a cycle on average

    Returns
    -------
    (series,), not negative.
    """
    samples = demand.shape[1]
    ordered = -np.sort(-demand, axis=1)
    # Shortage at the k-th largest sample: those above it, less as many times itself.
    above = np.cumsum(ordered, axis=1) - ordered
    shortage = (above - ordered * np.arange(samples)) / samples
    allowed = (1 - fill_rate) * np.asarray(quantity)
    k = (shortage <= allowed[:, None]).sum(axis=1)  # samples that lie above the level
    total = np.take_along_axis(np.cumsum(ordered, axis=1), k[:, None] - 1, axis=1)[:, 0]
    return np.asarray(np.maximum((total - allowed * samples) / k, 0))


def critical_ratio(underage: Array, overage: Array) -> Array:
    """Return the newsvendor's probability, `underage / (underage + overage)`.

    Parameters
    ----------
    underage : cost of a unit short (lost margin)
    overage : cost of a unit left over (holding, or for perishable goods the unit itself)

    Returns
    -------
    Between 0 and 1; 0 where a unit short costs nothing.
    """
    total = np.asarray(underage) + np.asarray(overage)
    ratio = np.where(total > 0, underage / np.where(total > 0, total, 1), 0)
    return np.clip(ratio, 0, 1)


def economic_order_quantity(
    daily_demand: Array, order_cost: float | Array, unit_cost: Array, holding_cost_rate: Array
) -> Array:
    """Return the quantity that balances ordering against holding (Harris, 1913), (series,).

    `sqrt(2 * yearly demand * order_cost / (unit_cost * holding_cost_rate))`; 0 where holding costs
    nothing or is unknown.
    """
    holding = unit_cost * holding_cost_rate
    yearly = 2 * daily_demand * DAYS_A_YEAR * order_cost
    known = np.isfinite(holding) & (holding > 0)
    return np.asarray(np.where(known, np.sqrt(yearly / np.where(known, holding, 1)), 0))
