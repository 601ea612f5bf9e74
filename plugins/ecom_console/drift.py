"""Drift of a table's columns: its last weeks beside the weeks before, on one of its buckets."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ecom_console import published
from ecom_console.published import Version

if TYPE_CHECKING:
    import polars as pl

RECENT_DAYS, REFERENCE_DAYS = 28, 84
DATES = {"order_lines": "ordered_at", "events": "occurred_at"}
_CLASSES = 10
_LARGEST = 30
"""A text with more values than this is compared by its most frequent ones, the rest together."""
_STABLE, _MOVED = 0.1, 0.25
_IDENTIFIERS = {"order_id", "event_id", "session_id", "line_number"}


def of_table(found: Version) -> pl.DataFrame | None:
    """Return the drift of each column; None where the table has no dates, or no rows to compare.

    Returns
    -------
    column, psi, js (bits), missing_before, missing_now, reading (stable, moving or moved).
    """
    table = found.made.name.rpartition("/")[2]
    paths = [file.path for file in found.made.files if file.path.endswith("bucket=000.parquet")]
    if table not in DATES or not paths:
        return None

    def make() -> pl.DataFrame:
        return columns(*windows(found, paths[0], DATES[table]))

    return published.derived(found, "drift", make)


def windows(found: Version, path: str, date: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows of the reference weeks and of the last weeks of one bucket."""
    import polars as pl

    end = found.made.as_of + timedelta(days=1)
    recent = end - timedelta(days=RECENT_DAYS)
    start = recent - timedelta(days=REFERENCE_DAYS)
    rows, day = published.frame(found, path), pl.col(date)
    before = rows.filter((day >= start) & (day < recent))
    now = rows.filter((day >= recent) & (day < end))
    return before.drop(date), now.drop(date)


def columns(before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Compare two tables column by column; see `of_table`."""
    import polars as pl

    schema = {
        "column": pl.String,
        "psi": pl.Float64,
        "js": pl.Float64,
        "missing_before": pl.Float64,
        "missing_now": pl.Float64,
        "reading": pl.String,
    }
    named = [each for each in before.columns if each not in _IDENTIFIERS]
    rows = [row for each in named if (row := _compared(before[each], now[each])) is not None]
    return pl.DataFrame(rows, schema=schema)


def _compared(before: pl.Series, now: pl.Series) -> dict[str, Any] | None:
    from ecom_tasks.metrics.drift import jensen_shannon_divergence, population_stability_index

    if before.count() == 0 or now.count() == 0:
        return None
    first, second = _counts(before, now)
    psi = population_stability_index(first, second)
    return {
        "column": before.name,
        "psi": psi,
        "js": jensen_shannon_divergence(first, second),
        "missing_before": before.null_count() / len(before),
        "missing_now": now.null_count() / len(now),
        "reading": "stable" if psi < _STABLE else "moving" if psi < _MOVED else "moved",
    }


def _counts(before: pl.Series, now: pl.Series) -> tuple[Any, Any]:
    """Count both sides in the same classes: tenths of the reference, or its frequent values."""
    import numpy as np
    import polars as pl

    if before.dtype.is_numeric():
        levels = [before.quantile(each / _CLASSES) for each in range(1, _CLASSES)]
        edges = np.unique(np.array(levels, dtype=float))

        def tenths(side: pl.Series) -> Any:
            places = np.searchsorted(edges, side.drop_nulls().to_numpy(), side="left")
            return np.bincount(places, minlength=len(edges) + 1).astype(float)

        return tenths(before), tenths(now)
    text = [side.drop_nulls().cast(pl.String) for side in (before, now)]
    counted = text[0].value_counts(name="n").sort("n", before.name, descending=[True, False])
    frequent = counted[before.name].head(_LARGEST).to_list()
    sides = []
    for side in text:
        found = dict(side.value_counts(name="n").iter_rows())
        known = [float(found.get(value, 0)) for value in frequent]
        sides.append(np.array([*known, len(side) - sum(known)]))
    kept = (sides[0] + sides[1]) > 0
    return sides[0][kept], sides[1][kept]
