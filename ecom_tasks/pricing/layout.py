"""How rows fall into groups that share a level, and a layout in which sums over them are fast."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from ecom_tasks.pricing.panel import SERIES, WEEK

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

PRODUCT_WEEK, STORE_WEEK = "product_week", "store_week"
BOTH = (PRODUCT_WEEK, STORE_WEEK)
"""Columns that number what has a level of its own in a week; null: nothing but the series has."""
# Numbers of groups up to which a table of all of them is cheaper than sorting.
_MANY_GROUPS = 50_000_000


def codes(rows: pl.DataFrame, by: list[str]) -> Codes:
    """Number the groups of `by` from 0 in their order, shape (rows,); no column: one group."""
    total, span = np.zeros(rows.height, dtype=np.int64), 1
    for name in by:
        each = _numbers(rows[name])
        width = int(each.max()) + 1 if len(each) else 1
        if span * width > _MANY_GROUPS:
            total, span = _dense(total), int(total.max()) + 1
        total, span = total * width + each, span * width
    return _dense(total)


def _numbers(column: pl.Series) -> Codes:
    """Return numbers from 0 in the order of a column's values."""
    if isinstance(column.dtype, pl.Enum) or column.dtype.is_integer() or column.dtype == pl.Date:
        whole = column.to_physical().cast(pl.Int64).to_numpy()
        least = whole.min() if len(whole) else 0
        if not len(whole) or int(whole.max()) - int(least) < _MANY_GROUPS:
            return np.asarray(whole - least)
    return np.asarray(column.rank("dense").cast(pl.Int64).to_numpy() - 1)


def _dense(numbers: Codes) -> Codes:
    """Leave no number out."""
    count = int(numbers.max()) + 1 if len(numbers) else 0
    if count > _MANY_GROUPS:
        return np.unique(numbers, return_inverse=True)[1]
    seen = np.zeros(count, dtype=bool)
    seen[numbers] = True
    return np.asarray((np.cumsum(seen) - 1)[numbers])


class Level(Protocol):
    """Groups of cells that share a level; cells are rows, or series x weeks (see `Lattice`)."""

    def sum(self, values: Array) -> Array:
        """Add values up by group."""

    def spread(self, each: Array) -> Array:
        """Return for each cell what its group has; may be broadcast."""

    def totals(self, weight: Array) -> Array:
        """Add weights up by group, to divide by; infinite for a group that has no level."""


class Groups:
    """Groups of rows by their number, shape (rows,)."""

    def __init__(self, level: Codes) -> None:
        self._level = level
        self._count = int(level.max()) + 1 if len(level) else 0

    def sum(self, values: Array) -> Array:
        return np.asarray(np.bincount(self._level, values, self._count), dtype=np.float64)

    def spread(self, each: Array) -> Array:
        return np.asarray(each[self._level])

    def totals(self, weight: Array) -> Array:
        return _divisor(self.sum(weight))


class EachSeries:
    """A lattice's series, each with one level over all weeks."""

    def sum(self, values: Array) -> Array:
        return np.asarray(values.sum(axis=1, keepdims=True))

    def spread(self, each: Array) -> Array:
        return each

    def totals(self, weight: Array) -> Array:
        return _divisor(self.sum(weight))


class EachWeek:
    """Groups of a lattice's series, each with a level a week."""

    def __init__(self, group: Codes, known: NDArray[np.bool_]) -> None:
        self._group = group
        series = np.arange(len(group))
        self._adding = sparse.csr_matrix((np.ones(len(group)), (group, series)))
        self._known = self.sum(known.astype(np.float64)) > 0

    def sum(self, values: Array) -> Array:
        return np.asarray(self._adding @ values)

    def spread(self, each: Array) -> Array:
        return np.asarray(each[self._group])

    def totals(self, weight: Array) -> Array:
        return np.where(self._known, _divisor(self.sum(weight)), np.inf)


class Lattice:
    """Rows laid out as series x weeks, where sums over either are fast; gaps have no weight.

    A series that knows its price in half of the weeks takes twice the memory of its rows.

    Attributes
    ----------
    shape : series, weeks
    first : a row of each series, shape (series,)
    """

    def __init__(self, rows: pl.DataFrame) -> None:
        series, week = codes(rows, SERIES), codes(rows, [WEEK])
        self.shape = (int(series.max()) + 1, int(week.max()) + 1) if len(series) else (0, 0)
        self._cell = series * self.shape[1] + week
        self.first = np.zeros(self.shape[0], dtype=np.int64)
        self.first[series] = np.arange(len(series))
        self._whole = len(series) == self.shape[0] * self.shape[1] and bool(
            (self._cell[1:] > self._cell[:-1]).all()
        )

    def lay(self, values: NDArray[Any]) -> Array:
        """Lay values of rows out; 0 where there is no row."""
        if self._whole:
            return np.asarray(values, dtype=np.float64).reshape(self.shape)
        laid = np.zeros(self.shape)
        laid.ravel()[self._cell] = values
        return laid

    def take(self, laid: Array) -> Array:
        """Return what stands at each row's place, shape (rows,)."""
        flat = laid.ravel()
        return flat if self._whole else flat[self._cell]

    def levels(self, rows: pl.DataFrame, further: tuple[str, ...] = BOTH) -> list[Level]:
        """Return the levels of series and, where chosen, of a product's and of a store's week."""
        found: list[Level] = [EachSeries()]
        for name in further:
            if name not in rows.columns or rows[name].null_count() == rows.height:
                continue
            known = self.lay(rows[name].is_not_null().to_numpy()) > 0
            number = rows[name].fill_null(-1).to_numpy() + 1
            # Of a series without a level, 0 everywhere.
            group = self.lay(number).max(axis=1).astype(np.int64)
            found.append(EachWeek(group, known))
        return found


def levels(rows: pl.DataFrame, further: tuple[str, ...] = BOTH) -> list[Level]:
    """Return the same levels of rows as they are."""
    series = codes(rows, SERIES)
    found: list[Level] = [Groups(series)]
    for name in further:
        if name not in rows.columns or rows[name].null_count() == rows.height:
            continue
        number = codes(rows.select(pl.col(name).fill_null(-1), WEEK), [name, WEEK])
        known = rows[name].is_not_null().to_numpy()
        # Where nothing was chosen the level repeats the series.
        found.append(Groups(np.where(known, number + series.max() + 1, series)))
    return found


def _divisor(total: Array) -> Array:
    return np.where(total > 0, total, 1.0)
