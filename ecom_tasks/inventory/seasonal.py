"""The last season over again: moved with Easter, smoothed over like series, brought to the level.

For series with a year behind them and a long horizon, where what a week sells is best told by the
same week of the last year.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from dateutil.easter import easter

from ecom_tasks.inventory.features import groups
from ecom_tasks.inventory.panel import Floats, Panel

ALIGNED, GROWN, SMOOTHED = "last season", "last season, grown", "last season, smoothed"
_GROWTH_PERIODS = 13
_PERSISTENCE = 0.75
"""Share of a growth that lasts over a long horizon."""
_PRIOR = 0.3
_COMPONENTS = 8
_OLDER = 0.3
"""Weight of the season before the last, where there is one."""
_FEWEST_ALIKE = 8
_LARGEST_GROWTH = 1.5
_EASTER_WEEKS = (0, 1)


def forecast(panel: Panel, origin: int, steps: int) -> dict[str, Floats]:
    """Forecast by the season before.

    Returns
    -------
    Name -> (series, steps), not negative, empty where no whole season and a quarter is known:
    `last season` (weeks around Easter from around last Easter), the same grown as the series has
    over the last quarter, and the same after reducing each group of series to its strongest common
    movements, leaning on the season before the last where there is one.
    """
    season = panel.season
    if origin < season + _GROWTH_PERIODS or season < _GROWTH_PERIODS:
        return {}
    past = panel.units[:, :origin][:, source_columns(panel, origin, steps)]
    found = {
        ALIGNED: past,
        GROWN: past * _growth(panel, origin)[:, None],
        SMOOTHED: expected(panel, origin, steps),
    }
    return {name: np.asarray(np.maximum(made, 0), np.float32) for name, made in found.items()}


def expected(panel: Panel, origin: int, steps: int) -> Floats:
    """Return what the smoothed last season leads to expect, (series, steps).

    Grown where a season and a quarter are known.
    """
    smooth, columns = smoothed(panel, origin), source_columns(panel, origin, steps)
    made = smooth[:, columns]
    if origin >= panel.season + _GROWTH_PERIODS:
        growth = _growth(panel, origin)[:, None]
        if columns.min() >= panel.season:
            before = smooth[:, columns - panel.season] * growth
            made = (1 - _OLDER) * made + _OLDER * before
        made = made * growth
    return np.asarray(np.maximum(made, 0), np.float32)


def source_columns(panel: Panel, origin: int, steps: int) -> npt.NDArray[np.intp]:
    """Return for each period ahead the period of the last known season that it resembles.

    A season before. Of weeks, Easter week and the one before it resemble last Easter's, and where
    last year's week was one of these two and this is not, one two weeks aside stands in.
    """
    found = []
    for week in range(origin, origin + steps):
        column = week - -(-(week - origin + 1) // panel.season) * panel.season
        if panel.frequency == "W":
            column = _at_easter(panel, week, column)
        found.append(min(max(column, 0), origin - 1))
    return np.array(found)


def _at_easter(panel: Panel, week: int, column: int) -> int:
    now, then = _weeks_before_easter(panel, week), _weeks_before_easter(panel, column)
    if now in _EASTER_WEEKS:
        return column + then - now
    if then in _EASTER_WEEKS:
        return column - 2 if then == max(_EASTER_WEEKS) else column + 2
    return column


def _weeks_before_easter(panel: Panel, column: int) -> int:
    day = panel.day(column)
    return int((easter(day.year) - day).days // 7)


def _growth(panel: Panel, origin: int) -> Floats:
    """Return how the last quarter compares with a season before, (series,), near 1.

    A series's own ratio is noisy; it is drawn towards that of all series together.
    """
    recent = panel.units[:, origin - _GROWTH_PERIODS : origin].sum(axis=1)
    before = panel.units[:, origin - panel.season - _GROWTH_PERIODS : origin - panel.season]
    ago = before.sum(axis=1)
    overall = recent.sum() / ago.sum() if ago.sum() > 0 else 1.0
    prior = _PRIOR * ago.mean()
    own = (recent + prior * overall) / np.maximum(ago + prior, 1e-6)
    lasting = 1 + (own - 1) * _PERSISTENCE
    return np.asarray(np.clip(lasting, 1 / _LARGEST_GROWTH, _LARGEST_GROWTH), np.float32)


def smoothed(panel: Panel, origin: int) -> Floats:
    """Keep the eight strongest common movements of each group of like series, (series, origin).

    A low-rank matrix of series x periods: what one series does alone is mostly noise (the method
    of the winner of Kaggle's Walmart Recruiting, 2014). Groups of fewer than eight stay as they
    are. Of several groupings the one with the most groups counts.
    """
    past = panel.units[:, :origin].astype(np.float64)
    found = past.copy()
    codes = max(groups(panel).values(), key=lambda each: int(each.max()))
    for group in range(int(codes.max()) + 1):
        rows = np.flatnonzero(codes == group)
        if len(rows) < _FEWEST_ALIKE:
            continue
        left, strength, right = np.linalg.svd(past[rows], full_matrices=False)
        keep = min(_COMPONENTS, len(strength))
        found[rows] = (left[:, :keep] * strength[:keep]) @ right[:keep]
    return np.asarray(found, np.float32)
