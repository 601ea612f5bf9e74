"""Formulas of stock control: textbook stock levels, and what service a stock level gave.

Units: demand in units per day, times in days. Symbols in the sources: z the standard normal
quantile, L the lead time, R the review period.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Number = float | Array


def safety_stock(
    service_level: float,
    daily_demand: Number,
    daily_demand_std: Number,
    protection_days: Number,
    lead_time_days_std: Number = 0.0,
) -> Array:
    """Return the textbook safety stock for normal demand and a random lead time.

    `z * sqrt(protection_days * daily_demand_std^2 + daily_demand^2 * lead_time_days_std^2)`
    (Silver, Pyke and Thomas, Inventory and Production Management in Supply Chains, 4th ed., 6.10).

    Parameters
    ----------
    service_level : cycle service level, the probability of no stock-out in a cycle
    daily_demand, daily_demand_std : units per day
    protection_days : days that an order must last: the lead time under continuous review, lead
        time plus review period under periodic review
    lead_time_days_std : standard deviation of the lead time

    Returns
    -------
    Units; negative for a service level below one half.
    """
    from scipy.stats import norm

    variance = np.asarray(protection_days) * np.square(daily_demand_std) + np.square(
        daily_demand
    ) * np.square(lead_time_days_std)
    return np.asarray(norm.ppf(_probability(service_level)) * np.sqrt(variance))


def reorder_point(daily_demand: Number, lead_time_days: Number, safety: Number) -> Array:
    """Return the stock position at which to order under continuous review, in units.

    Examples
    --------
    >>> float(reorder_point(daily_demand=3.0, lead_time_days=7.0, safety=4.0))  # 3 * 7 + 4
    25.0
    """
    level = np.asarray(daily_demand) * np.asarray(lead_time_days) + np.asarray(safety)
    return np.asarray(level)


def base_stock_level(
    daily_demand: Number, lead_time_days: Number, review_days: Number, safety: Number
) -> Array:
    """Return the stock position up to which to order at each periodic review, in units."""
    protection_days = np.asarray(lead_time_days) + np.asarray(review_days)
    return reorder_point(daily_demand, protection_days, safety)


def cycle_service_level(demand: Array, stock: Array) -> float:
    """Share of cycles without a stock-out: demand is not above the stock that it starts with.

    Parameters
    ----------
    demand : (series, ...), units demanded in each cycle
    stock : (series,), units available in each cycle
    """
    return float(np.mean(demand <= _beside(stock, demand)))


def fill_rate(demand: Array, stock: Array) -> float:
    """Share of all units demanded that the stock of their cycle meets; 1 without demand.

    Parameters
    ----------
    demand : (series, ...), units demanded in each cycle
    stock : (series,), units available in each cycle
    """
    total = float(demand.sum())
    short = float(np.maximum(demand - _beside(stock, demand), 0).sum())
    return 1 - short / total if total > 0 else 1.0


def _beside(stock: Array, demand: Array) -> Array:
    return np.asarray(stock.reshape(-1, *[1] * (demand.ndim - 1)))


def _probability(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"a service level lies between 0 and 1, got {value}")
    return value
