"""Drift of a table's columns, from counts of its buckets that add up.

Two passes. The first takes every n-th row of the reference, whose quantiles cut each numeric
column into bins; where one value fills several of them, it gets a bin of its own. The second counts
the rows of each bucket of both tables in these bins, and the values of each text column. How
exactly the quantiles are met does not matter to the result: the counts are those of all rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecom_tasks.metrics import drift as metrics
from ecom_tasks.metrics.drift import Array

IDENTIFIERS = frozenset({"customer_id", "product_id", "location_id", "title"})
"""Text that names a row instead of describing it."""
_NAMED = 5
_RARE = 0.01
_ROWS = 10
SCHEMA: dict[str, pl.DataType] = {
    "column": pl.String(), "kind": pl.String(), "psi": pl.Float64(),
    "psi_by_chance": pl.Float64(), "js_distance": pl.Float64(), "missing_before": pl.Float64(),
    "missing_now": pl.Float64(), "new_share": pl.Float64(), "new_categories": pl.String(),
    "rows_before": pl.Int64(), "rows_now": pl.Int64(),
}  # fmt: skip

Counts = NDArray[np.int64]
Edges = Mapping[str, Array]
"""Column -> inner edges, ascending: a value belongs to the first bin whose edge is not below it."""


@dataclass(frozen=True)
class Histogram:
    """How many rows of a table, or of a part of it, lie where.

    Attributes
    ----------
    missing : column -> rows without a value (NaN counts as none).
    bins : numeric column -> rows in each bin, one more than it has edges.
    values : text column -> rows of each value.
    """

    rows: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    bins: dict[str, Counts] = field(default_factory=dict)
    values: dict[str, Counter[str]] = field(default_factory=dict)

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(
            self.rows + other.rows,
            _sums(self.missing, other.missing),
            _sums(self.bins, other.bins),
            _sums(self.values, other.values),
        )


def _sums(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """Add what both have, and keep what one has."""
    both = {name: left[name] + right[name] for name in left if name in right}
    return {**left, **right, **both}


def sample(rows: pl.LazyFrame, every: int) -> pl.DataFrame:
    """Take every n-th row of the numeric columns, as numbers."""
    return rows.gather_every(every).select(_numeric(rows)).collect()


def edges(samples: Iterable[pl.DataFrame], bins: int) -> dict[str, Array]:
    """Cut each column at its quantiles; a column without any value is left out.

    Where few rows were sampled there are fewer bins, of at least ten rows each.
    """
    found: dict[str, Array] = {}
    for column in pl.concat(samples).get_columns():
        values = column.drop_nulls().to_numpy()
        values = values[np.isfinite(values)]
        if len(values):
            found[column.name] = _cut(values, max(min(bins, len(values) // _ROWS), 2))
    return found


def _cut(values: Array, bins: int) -> Array:
    at = np.quantile(values, np.arange(1, bins) / bins, method="lower")
    distinct, times = np.unique(at, return_counts=True)
    # A value that fills more than a bin, and the only value there is, are told from their lesser.
    heavy = distinct[(times > 1) | (len(distinct) == 1)]
    return np.union1d(distinct, np.nextafter(heavy, -np.inf))


def count(rows: pl.LazyFrame, cut: Edges) -> Histogram:
    """Count the rows of one bucket."""
    frame = rows.collect()
    found = Histogram(rows=frame.height)
    for column in frame.select(*_numeric(rows, set(cut)), *_texts(rows)).get_columns():
        known: pl.Series = column.drop_nulls()
        if column.name in cut:
            values = known.to_numpy()
            values = values[~np.isnan(values)]
            placed = np.searchsorted(cut[column.name], values, side="left")
            found.bins[column.name] = np.bincount(placed, minlength=len(cut[column.name]) + 1)
            found.missing[column.name] = frame.height - len(values)
        else:
            found.values[column.name] = Counter(dict(known.value_counts().iter_rows()))
            found.missing[column.name] = frame.height - len(known)
    return found


def total(parts: Iterable[Histogram]) -> Histogram:
    """Add up the buckets of a table."""
    return reduce(lambda left, right: left + right, parts, Histogram())


def compare(reference: Histogram, today: Histogram, level: float) -> pl.DataFrame:
    """Compare the columns that both tables have.

    Parameters
    ----------
    level : probability with which equal populations stay below `psi_by_chance`

    Returns
    -------
    DataFrame
        A row a column, see `SCHEMA`; shares 0 to 1. `psi` and `js_distance` are null where one
        side has no value at all. New categories are named, largest first, at most five.
    """
    rows = []
    for name in sorted(set(reference.missing) & set(today.missing)):
        fresh = _new(reference, today, name)
        rows.append({
            "column": name,
            "kind": "number" if name in reference.bins else "text",
            **_distances(*_aligned(reference, today, name), level),
            "missing_before": reference.missing[name] / max(reference.rows, 1),
            "missing_now": today.missing[name] / max(today.rows, 1),
            "new_share": sum(fresh.values()) / max(today.rows, 1),
            "new_categories": ", ".join(each for each, _ in _largest(fresh)[:_NAMED]),
            "rows_before": reference.rows,
            "rows_now": today.rows,
        })  # fmt: skip
    return pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.col(pl.Float64).round(6))


def _distances(before: Counts, now: Counts, level: float) -> dict[str, float | None]:
    if not (before.sum() and now.sum()):
        return dict.fromkeys(("psi", "psi_by_chance", "js_distance"))
    used = (before + now) > 0
    left, right = (counts[used].astype(np.float64) for counts in (before, now))
    # An empty bin counts as half a row: of few rows it would else say more than it can know.
    halves = [np.maximum(counts, 0.5) for counts in (left, right)]
    return {
        "psi": metrics.population_stability_index(halves[0], halves[1]),
        "psi_by_chance": metrics.stability_by_chance(left, right, level),
        "js_distance": math.sqrt(max(metrics.jensen_shannon_divergence(left, right), 0.0)),
    }


def _aligned(reference: Histogram, today: Histogram, name: str) -> tuple[Counts, Counts]:
    """Return the counts of both sides bin by bin; text is binned as `_known_as` says."""
    if name in reference.bins:
        return reference.bins[name], today.bins[name]
    before, now = reference.values[name], today.values[name]
    binned = {value: _known_as(value, before) for value in {*before, *now}}
    names = sorted(set(binned.values()))
    place = {value: names.index(into) for value, into in binned.items()}
    counts = []
    for side in (before, now):
        sums = np.zeros(len(names), np.int64)
        for value, rows in side.items():
            sums[place[value]] += rows
        counts.append(sums)
    return counts[0], counts[1]


def _known_as(value: str, reference: Counter[str]) -> tuple[int, str]:
    """Name the bin of a value: its own, that of all rare ones, or that of all new ones.

    Each of a thousand brands with a row or two would come and go by chance.
    """
    if value not in reference:
        return 2, "new"
    return (0, value) if reference[value] >= _RARE * reference.total() else (1, "rare")


def _new(reference: Histogram, today: Histogram, name: str) -> dict[str, int]:
    known: Mapping[str, int] = reference.values.get(name, {})
    return {value: rows for value, rows in today.values.get(name, {}).items() if value not in known}


def _largest(values: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(values.items(), key=lambda each: (-each[1], each[0]))


def _numeric(rows: pl.LazyFrame, wanted: set[str] | None = None) -> list[pl.Expr]:
    schema = rows.collect_schema()
    return [
        pl.col(name).cast(pl.Float64)
        for name, dtype in schema.items()
        if (dtype.is_numeric() or dtype == pl.Boolean) and (wanted is None or name in wanted)
    ]


def _texts(rows: pl.LazyFrame) -> list[pl.Expr]:
    schema = rows.collect_schema()
    return [pl.col(n) for n, dtype in schema.items() if dtype == pl.String and n not in IDENTIFIERS]
