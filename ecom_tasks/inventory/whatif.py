"""What if it were promoted? The forecast with a planned promotion beside the one without.

One product at a time: that the rest of its category is not promoted is part of the question.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from ecom_tasks.inventory import forecast
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.features import groups, plans_reach
from ecom_tasks.inventory.forecast import Models, Quantiles, Rows
from ecom_tasks.inventory.panel import Floats, Panel
from ecom_tasks.inventory.series import KEY

_LOW, _HIGH = 0.1, 0.9


def planned(panel: Panel, name: str | None, step: int) -> Panel:
    """Return the panel with one plan for one week ahead and no other there.

    A promotion is as large as the series's promotions of its kind were in the past, on average, or
    as those of all series where it had none. The week is planned for: nothing is taken to go on
    as usual.

    Parameters
    ----------
    name : of `panel.plans`; None for a week without any promotion
    step : weeks after the last known one, from 1
    """
    week = panel.periods + step - 1
    plans = {}
    for each, places in panel.plans.items():
        changed = places.copy()
        changed[:, week] = usual_size(panel, each) if each == name else 0
        plans[each] = changed
    announced = panel.announced.copy()
    announced[:, week] = panel.periods
    reach = max(week, plans_reach(panel, panel.periods))
    return replace(panel, plans=plans, announced=announced, planned_to=reach)


def usual_size(panel: Panel, name: str) -> Floats:
    """Return how large a promotion of the series is where there is one, (series,)."""
    past = panel.plans[name][:, : panel.periods]
    promoted = past > 0
    overall = float(past[promoted].mean()) if promoted.any() else 1.0
    total, count = np.where(promoted, past, 0).sum(axis=1), promoted.sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), overall), np.float32)


def table(panel: Panel, models: Models, config: InventoryConfig) -> pl.DataFrame:
    """Return what each kind of promotion would add in the first week ahead.

    Returns
    -------
    product_id, location_id, promotion, weeks_promoted (of its kind, in the past), units_without,
    units_with (expected), uplift (their difference), uplift_q10 and uplift_q90 (central 80%: what
    sells with the promotion, less what is expected without). A row per series and kind; none where
    the shop has no promotions. It is what the model takes promotions to do, which is not proof
    that they caused it.
    """
    frames = []
    bare = forecast.rows_ahead(planned(panel, None, 1), panel.periods, config)
    without, _ = _first_week(bare, models, config)
    for name, places in panel.plans.items():
        rows = forecast.rows_ahead(planned(panel, name, 1), panel.periods, config)
        mean, quantiles = _first_week(_alone(panel, name, rows, bare), models, config)
        low, high = (quantiles[:, config.quantiles.index(level)] for level in (_LOW, _HIGH))
        frames.append(
            panel.keys.select(KEY).with_columns(
                promotion=pl.lit(name),
                weeks_promoted=pl.Series((places[:, : panel.periods] > 0).sum(axis=1)),
                units_without=pl.Series(without),
                units_with=pl.Series(mean),
                uplift=pl.Series(mean - without),
                uplift_q10=pl.Series(low - without),
                uplift_q90=pl.Series(high - without),
            )
        )
    if not frames:
        return pl.DataFrame(schema=_SCHEMA)
    return pl.concat(frames)


def _alone(panel: Panel, name: str, rows: Rows, bare: Rows) -> Rows:
    """Return the rows as if only one series of its category were promoted, each for itself."""
    features = rows.features.copy()
    own, of_category = rows.names.index(name), rows.names.index(f"{name}_of_category")
    codes = groups(panel)["category"]
    size = np.tile(np.bincount(codes)[codes], len(features) // panel.series)
    more = features[:, own] - bare.features[:, own]
    features[:, of_category] = bare.features[:, of_category] + more / size
    return replace(rows, features=features)


def _first_week(rows: Rows, models: Models, config: InventoryConfig) -> tuple[Floats, Quantiles]:
    mean = forecast.predict_mean(models.mean, rows, config.horizon)
    quantiles = forecast.predict_quantiles(models.quantiles, rows, config.horizon)
    return mean[:, 0], quantiles[:, 0]


_SCHEMA = {
    "product_id": pl.String,
    "location_id": pl.String,
    "promotion": pl.String,
    "weeks_promoted": pl.Int64,
    **dict.fromkeys(
        ("units_without", "units_with", "uplift", "uplift_q10", "uplift_q90"), pl.Float32
    ),
}
