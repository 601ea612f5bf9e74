"""Would the stock levels have sufficed? Judged on the test windows, beside the textbook."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from ecom_tasks.inventory.baselines import AVERAGE_WEEKS
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.evaluate import Window, actual
from ecom_tasks.inventory.panel import Panel
from ecom_tasks.inventory.replenish import DAYS, demand_over, draw, lead_times, policy
from ecom_tasks.metrics import inventory as metrics
from ecom_tasks.metrics.forecast import Array


def judge(
    panel: Panel, tests: Sequence[Window], terms: pl.DataFrame, config: InventoryConfig
) -> dict[str, dict[str, float]]:
    """Set the stock levels as of each test window and count what its demand left uncovered.

    Each series starts the window at its base stock level and must meet what really sold in the
    protection interval, over many drawn lead times. The rival is the textbook's level for normal
    demand, from mean and deviation of the last 8 weeks.

    Parameters
    ----------
    terms : as `supply.supply_terms` returns them

    Returns
    -------
    `{"model": {..}, "textbook": {..}}` with cycle_service_level (share of cycles without
    stock-out), fill_rate (share of units met) and stock_value (sum of the levels at cost), each
    the mean of the windows. Empty where an order must last longer than a window.
    """
    if (terms["lead_time_days"] + config.review_days).max() > DAYS * config.horizon:  # type: ignore[operator]
        return {}
    found: dict[str, list[dict[str, float]]] = {"model": [], "textbook": []}
    days = lead_times(
        terms["lead_time_days"].to_numpy(),
        terms["lead_time_days_std"].to_numpy(),
        draw(config.horizon, 0.0, config),
    )
    cost = terms["unit_cost"].fill_null(0.0).to_numpy()
    for window in tests:
        assert window.calibration is not None
        correlation = window.calibration.error_correlation
        own = policy(window.mean, window.quantiles, terms, correlation, config)
        sold = actual(panel, window.origin, config).astype(np.float64)
        demand = demand_over(sold[:, None, :], days + config.review_days)
        levels = {
            "model": own["base_stock_level"].to_numpy(),
            "textbook": _textbook(panel, window.origin, terms, config),
        }
        for name, level in levels.items():
            found[name].append({
                "cycle_service_level": metrics.cycle_service_level(demand, level),
                "fill_rate": metrics.fill_rate(demand, level),
                "stock_value": float((level * cost).sum()),
            })
    return {
        name: {figure: float(np.mean([each[figure] for each in windows])) for figure in windows[0]}
        for name, windows in found.items()
    }


def _textbook(panel: Panel, origin: int, terms: pl.DataFrame, config: InventoryConfig) -> Array:
    recent = panel.units[:, origin - AVERAGE_WEEKS : origin].astype(np.float64)
    daily, deviation = recent.mean(axis=1) / DAYS, recent.std(axis=1, ddof=1) / np.sqrt(DAYS)
    lead = terms["lead_time_days"].to_numpy()
    spread = terms["lead_time_days_std"].to_numpy()
    protection = lead + config.review_days
    safety = metrics.safety_stock(config.service_level, daily, deviation, protection, spread)
    return metrics.base_stock_level(daily, lead, config.review_days, safety)
