"""Empty shelves hide demand: mark the weeks, and put in what would have sold.

Where the shop counts its stock, a day that closes at zero is one without stock. Where it does not,
a run of weeks without a sale that the product's rate makes improbable is taken for one. Such weeks
are not observed: they train and judge nothing, and in features stands the demand expected given
the level, never the zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from ecom_tasks.inventory.panel import Booleans, Floats, Panel
from ecom_tasks.inventory.series import ALL_LOCATIONS, KEY
from ecom_tasks.metrics.forecast import Array

AROUND = 8
"""Periods before and after whose mean is the level of a period."""
_LEAST_AROUND = 4
_AT_ONCE = 10_000
"""Series whose levels are found together: a dozen arrays of theirs are held meanwhile."""
_FACTOR_LIMITS = (0.2, 5.0)


def closed_share(panel: Panel, stock: Sequence[pl.LazyFrame]) -> Floats | None:
    """Return which share of each period's counted days closed without stock.

    Where a series covers all locations, the mean of its locations.

    Parameters
    ----------
    stock : `lake/stock`, in parts of whole products; none where nothing is counted

    Returns
    -------
    (series, periods), 0 to 1, 0 where nothing was counted; None without any count.
    """
    if not stock:
        return None
    days = (panel.day(1) - panel.first).days
    columns = ((pl.col("snapshot_on") - panel.first).dt.total_days() // days).alias("column")
    everywhere = bool((panel.keys["location_id"] == ALL_LOCATIONS).all())
    place = pl.lit(ALL_LOCATIONS) if everywhere else pl.col("location_id")
    rows = panel.keys.with_row_index("row").lazy()
    shares = pl.concat([
        part
        .join(rows.select("product_id").unique(), on="product_id", how="semi")
        .with_columns(columns)
        .filter(pl.col("column").is_between(0, panel.periods - 1))
        .group_by("product_id", "location_id", "column")
        .agg((pl.col("on_hand") <= 0).mean().alias("share"))
        .group_by("product_id", place.alias("location_id"), "column")
        .agg(pl.col("share").mean())
        .join(rows, on=KEY)
        .collect()
        for part in stock
    ])
    if shares.is_empty():
        return None
    found = np.zeros(panel.units.shape, np.float32)
    found[shares["row"].to_numpy(), shares["column"].to_numpy()] = shares["share"].to_numpy()
    return found


def recover(panel: Panel, closed: Floats | None, improbable: float, *, judged: int) -> Panel:
    """Mark weeks with empty shelves and put in the demand expected.

    What was sold while there was stock is known; for the rest of the week demand of the usual rate
    is added, the expectation given level and sales of a Poisson process. The usual rate is the mean
    of the observed weeks around, times what the week was like for all products.

    Parameters
    ----------
    closed : of `closed_share`; None where stock is not counted, so that runs of weeks without a
        sale are looked at instead
    improbable : probability below which such a run is no chance
    judged : last periods in which runs are left alone: a forecast is to be judged by what was
        counted there, not by what is supposed

    Returns
    -------
    The panel with `observed` and `units` changed.
    """
    if closed is not None:
        marked = closed > 0
    else:
        marked = improbable_runs(panel.units, improbable)
        marked[:, panel.periods - judged :] = False
    marked &= started(panel.units)
    if not marked.any():
        return replace(panel, observed=panel.known())
    share = closed if closed is not None else np.ones(panel.units.shape, np.float32)
    observed = panel.known() & ~marked
    usual = level_around(panel.units, observed) * week_factor(panel.units, observed)
    units = np.where(marked, panel.units + share * usual, panel.units)
    return replace(panel, units=np.asarray(units, np.float32), observed=observed)


def started(units: Floats) -> Booleans:
    """Tell which periods come after the first sale of their series, (series, periods)."""
    return np.asarray(np.logical_or.accumulate(units > 0, axis=1))


def improbable_runs(units: Floats, improbable: float) -> Booleans:
    """Find runs of zeros between sales that the rate around them makes improbable.

    Zeros come as often as in the weeks around or in all weeks of the series, the run among them,
    whichever is more: a run must be long even for what it makes of the series itself. A run at the
    end is left alone, since the product may have gone for good.

    Returns
    -------
    (series, periods).
    """
    found = np.zeros(units.shape, np.bool_)
    for row, weeks in enumerate(units):
        sold = np.flatnonzero(weeks > 0)
        for before, after in zip(sold[:-1].tolist(), sold[1:].tolist(), strict=True):
            length = after - before - 1
            if length == 0:
                continue
            near = np.r_[
                weeks[max(0, before + 1 - AROUND) : before + 1], weeks[after : after + AROUND]
            ]
            zeros = max(_share_of_zeros(near), _share_of_zeros(weeks[sold[0] :]))
            if len(near) >= _LEAST_AROUND and zeros**length < improbable:
                found[row, before + 1 : after] = True
    return found


def _share_of_zeros(weeks: Floats) -> float:
    """Return how often a week is without a sale; half a zero and half a sale are added."""
    return (float((weeks <= 0).sum()) + 0.5) / (len(weeks) + 1)


def level_around(units: Floats, observed: Booleans) -> Floats:
    """Return the mean of the observed periods within eight of each, (series, periods).

    The window grows where it holds too few; a series never observed has level zero.
    """
    level = np.empty(units.shape, np.float32)
    for start in range(0, len(units), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        level[some] = _level_around(units[some], observed[some])
    return level


def _level_around(units: Floats, observed: Booleans) -> Array:
    counted = np.where(observed & started(units), units, 0).astype(np.float64)
    known = (observed & started(units)).astype(np.float64)
    found = np.full(units.shape, np.nan)
    width = AROUND
    while np.isnan(found).any() and width <= 2 * units.shape[1]:
        total, count = _sum_around(counted, width), _sum_around(known, width)
        enough = count >= _LEAST_AROUND
        found = np.where(np.isnan(found) & enough, total / np.maximum(count, 1), found)
        width *= 2
    overall = counted.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(np.isnan(found), overall[:, None], found)


def week_factor(units: Floats, observed: Booleans) -> Floats:
    """Return what each period was like for all observed series, (periods,), near 1."""
    level = level_around(units, observed)
    counted = observed & started(units)
    sold = np.where(counted, units, 0).sum(axis=0, dtype=np.float64)
    usual = np.where(counted, level, 0).sum(axis=0, dtype=np.float64)
    factor = np.where(usual > 0, sold / np.where(usual > 0, usual, 1), 1)
    return np.asarray(np.clip(factor, *_FACTOR_LIMITS), np.float32)


def _sum_around(values: Array, width: int) -> Array:
    padded = np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))
    at = np.arange(values.shape[1])
    upper = np.minimum(at + width + 1, values.shape[1])
    return np.asarray(padded[:, upper] - padded[:, np.maximum(at - width, 0)])
