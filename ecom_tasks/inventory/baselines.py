"""What a planner would do without a model; the forecaster must beat the best of these."""

from __future__ import annotations

import numpy as np

from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.panel import Floats, Panel

AVERAGE_WEEKS = 8


def forecast(panel: Panel, origin: int, config: InventoryConfig) -> dict[str, Floats]:
    """Forecast the weeks after `origin` by each plain method that the history allows.

    Returns
    -------
    Name -> (series, steps), units. `seasonal naive` only where the panel reaches a whole season
    and a horizon back; in a season with fewer weeks than the horizon it is repeated.
    """
    steps = config.horizon
    past = panel.units[:, :origin]
    found = {
        "naive": np.repeat(past[:, -1:], steps, axis=1),
        f"moving average of {AVERAGE_WEEKS} weeks": np.repeat(
            past[:, -AVERAGE_WEEKS:].mean(axis=1, keepdims=True), steps, axis=1
        ),
    }
    season = config.season
    if origin >= season:
        last_season = past[:, origin - season :]
        found["seasonal naive"] = last_season[:, np.arange(steps) % season]
    return found
