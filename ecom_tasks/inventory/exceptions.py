"""What to look at first: stock that runs out, stock that stays, forecasts that failed.

Each exception has a value in the store's currency, by which those of a kind are ordered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from ecom_tasks.inventory import replenish
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.evaluate import Window, actual
from ecom_tasks.inventory.forecast import Quantiles
from ecom_tasks.inventory.panel import Panel
from ecom_tasks.inventory.series import KEY
from ecom_tasks.metrics.forecast import Array

STOCK_OUT, OVERSTOCK, MISS = "stock-out", "overstock", "forecast missed"
COLUMNS = ("exception", *KEY, "title", "units", "value", "reason")
_LEAST_UNITS = 0.5


def stock_outs(
    levels: pl.DataFrame,
    stock: pl.DataFrame,
    quantiles: Quantiles,
    correlation: float,
    config: InventoryConfig,
) -> pl.DataFrame:
    """List what will be missed before an order placed now can arrive.

    Parameters
    ----------
    levels : of `replenish.policy`
    stock : product_id, location_id, on_hand, on_order; series without a row have no known stock
    quantiles, correlation : as `replenish.policy` takes them

    Returns
    -------
    `COLUMNS`; units: expected demand over the lead time above the stock position; value: its
    margin. Series of unknown stock are not listed, since nothing can be told of them.
    """
    found = levels.join(stock, on=KEY, how="left", maintain_order="left").with_row_index("row")
    found = found.filter(pl.col("on_hand").is_not_null())
    rows = found["row"].to_numpy()
    position = (found["on_hand"] + found["on_order"].fill_null(0.0)).to_numpy()
    draws = replenish.draw(quantiles.shape[1], correlation, config)
    days = replenish.lead_times(
        found["lead_time_days"].to_numpy(), found["lead_time_days_std"].to_numpy(), draws
    )
    demand = np.empty(days.shape)
    for start in range(0, len(rows), replenish.CHUNK):
        part = slice(start, start + replenish.CHUNK)
        paths = replenish.demand_paths(quantiles[rows[part]], config.quantiles, draws.normal)
        demand[part] = replenish.demand_over(paths, days[part], config.period_days)
    short = np.maximum(demand - position[:, None], 0).mean(axis=1)
    return _listed(
        found.with_columns(
            units=pl.Series(short),
            value=pl.Series(short) * pl.col("unit_margin"),
            reason=pl.format(
                "{} on hand and on order, {} expected to sell before an order placed now arrives",
                pl.Series(position).round(1),
                pl.Series(demand.mean(axis=1)).round(1),
            ),
        ),
        STOCK_OUT,
    )


def overstocks(levels: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """List what lies there for much longer than it takes to sell, `COLUMNS`; value at cost.

    Parameters
    ----------
    levels : of `replenish.policy`
    classes : of `classes.with_stock`
    """
    titled = classes.drop("value").join(
        levels.select(*KEY, "title"), on=KEY, how="left", maintain_order="left"
    )
    cover = pl.format("{} weeks of demand on hand", pl.col("weeks_of_cover").round(1))
    return _listed(
        titled.with_columns(
            units=pl.col("overstock_units"),
            value=pl.col("overstock_value"),
            reason=pl.coalesce(cover, pl.lit("on hand, and no demand expected")),
        ),
        OVERSTOCK,
    )


def misses(
    panel: Panel, tests: Sequence[Window], levels: pl.DataFrame, config: InventoryConfig
) -> pl.DataFrame:
    """List where what sold in the test windows was farthest from what was forecast, `COLUMNS`.

    Units: the sum over the windows of how far each one's sales were from the forecast; value: at
    the price. Weeks without a count tell nothing.
    """
    sold, made, units = (np.zeros(panel.series) for _ in range(3))
    for window in tests:
        counted = panel.known()[:, window.origin : window.origin + config.horizon]
        came = _sum(actual(panel, window.origin, config), counted)
        expected = _sum(window.mean, counted)
        sold, made, units = sold + came, made + expected, units + np.abs(came - expected)
    price = pl.col("unit_cost") + pl.col("unit_margin")
    since = panel.day(min(window.origin for window in tests))
    return _listed(
        levels.with_columns(
            units=pl.Series(units),
            value=pl.Series(units) * price,
            reason=pl.format(
                "{} sold since {}, {} forecast",
                pl.Series(sold).round(1), pl.lit(since.isoformat()), pl.Series(made).round(1),
            ),
        ),
        MISS,
    )  # fmt: skip


def _sum(units: Array, counted: np.ndarray) -> Array:
    return np.asarray(np.where(counted, units, 0).sum(axis=1, dtype=np.float64))


def _listed(found: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Keep what has at least half a unit and a value, the dearest first."""
    return (
        found
        .filter((pl.col("units") >= _LEAST_UNITS) & (pl.col("value") > 0))
        .with_columns(pl.lit(kind).alias("exception"))
        .sort("value", *KEY, descending=[True, False, False])
        .select(COLUMNS)
    )
