"""What a planner would do without a model; the forecaster must beat the best of these."""

from __future__ import annotations

from ecom_tasks.inventory import statistical
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.panel import Floats, Panel

AVERAGE_WEEKS = statistical.AVERAGE_PERIODS


def forecast(panel: Panel, origin: int, config: InventoryConfig) -> dict[str, Floats]:
    """Forecast the weeks after `origin` by each plain method that the history allows.

    Returns
    -------
    Name -> (series, steps), units; see `statistical.plain`.
    """
    plain = statistical.plain(panel, origin, config.horizon, config.season)
    plain[f"moving average of {AVERAGE_WEEKS} weeks"] = plain.pop(statistical.AVERAGE)
    return plain
