"""Lists that a planner works by: ABC by value, XYZ by regularity, slow movers, overstock."""

from __future__ import annotations

import numpy as np
import polars as pl

from ecom_tasks.inventory.panel import Floats, Panel
from ecom_tasks.inventory.replenish import DAYS
from ecom_tasks.inventory.series import KEY
from ecom_tasks.metrics.forecast import Array

_VALUE_SHARES = (0.8, 0.95)
_VARIATIONS = (0.5, 1.0)
_WEEKS = 26
SLOW_WEEKS = 8
COVER_WEEKS = 12


def classify(panel: Panel) -> pl.DataFrame:
    """Sort the series by what they sold in the last 26 weeks.

    Returns
    -------
    A row per series, in the panel's order: product_id, location_id, value (paid), `abc` (A: the
    largest that make up 80% of value, B: up to 95%, C: the rest), variation (standard deviation
    by mean of units a week), `xyz` (X: variation up to 0.5, Y: up to 1, Z: above, or nothing
    sold), periods_without_sale (since the last one), slow (none in the last 8 weeks).
    """
    units = _by_week(panel, panel.units)[:, -_WEEKS:]
    value = _by_week(panel, panel.sales)[:, -_WEEKS:].sum(axis=1)
    order = np.argsort(-value, kind="stable")
    before = np.empty(len(value))
    before[order] = np.cumsum(value[order]) - value[order]
    share = before / max(float(value.sum()), 1e-9)
    abc = np.select([(value > 0) & (share < limit) for limit in _VALUE_SHARES], ["A", "B"], "C")
    mean = units.mean(axis=1)
    variation = np.where(mean > 0, units.std(axis=1) / np.where(mean > 0, mean, 1), np.inf)
    xyz = np.select([variation <= limit for limit in _VARIATIONS], ["X", "Y"], "Z")
    sold = panel.units > 0
    since = np.where(sold.any(axis=1), np.argmax(sold[:, ::-1], axis=1), panel.periods)
    return panel.keys.select(KEY).with_columns(
        value=pl.Series(value),
        abc=pl.Series(abc.tolist(), dtype=pl.String),
        variation=pl.Series(np.where(np.isfinite(variation), variation, np.nan)).fill_nan(None),
        xyz=pl.Series(xyz.tolist(), dtype=pl.String),
        periods_without_sale=pl.Series(since.astype(np.int64)),
        slow=pl.Series(since >= SLOW_WEEKS * (DAYS if panel.frequency == "D" else 1)),
    )


def _by_week(panel: Panel, values: Floats) -> Array:
    """Sum days to whole weeks, the last one ending with the last day; other periods stay."""
    if panel.frequency != "D" or panel.periods < DAYS:
        return values.astype(np.float64)
    whole = values[:, panel.periods % DAYS :].astype(np.float64)
    return np.asarray(whole.reshape(len(values), -1, DAYS).sum(axis=2))


def with_stock(classes: pl.DataFrame, policy: pl.DataFrame, stock: pl.DataFrame) -> pl.DataFrame:
    """Add how long the stock on hand lasts, and where it is too much.

    Parameters
    ----------
    classes : of `classify`
    policy : of `replenish.policy`: weekly_demand, base_stock_level, unit_cost
    stock : product_id, location_id, on_hand; series without a row have no known stock

    Returns
    -------
    `classes` and weeks_of_cover (null where stock or demand is unknown or zero), overstock_units
    (on hand above 12 weeks of demand and above the base stock level) and overstock_value at cost.
    """
    enough = pl.max_horizontal(COVER_WEEKS * pl.col("weekly_demand"), "base_stock_level")
    excess = (pl.col("on_hand") - enough).clip(lower_bound=0)
    joined = classes.join(
        policy.select(*KEY, "weekly_demand", "base_stock_level", "unit_cost"),
        on=KEY, how="left", maintain_order="left",
    ).join(stock.select(*KEY, "on_hand"), on=KEY, how="left", maintain_order="left")  # fmt: skip
    return joined.select(
        *classes.columns,
        pl
        .when(pl.col("weekly_demand") > 0)
        .then(pl.col("on_hand") / pl.col("weekly_demand"))
        .alias("weeks_of_cover"),
        excess.alias("overstock_units"),
        (excess * pl.col("unit_cost")).alias("overstock_value"),
    )
