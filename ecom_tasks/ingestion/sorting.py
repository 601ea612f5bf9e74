"""Find the order of rows by a key of several columns, quickly."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ecom_tasks.artefacts.bucketing import looked_up

_LARGEST = 2**63
_FEW_ROWS = 1000


def order_by_key(rows: pl.DataFrame, key: Sequence[str]) -> pl.Series:
    """Return the numbers of the rows in the order of the columns of `key`, none of which has nulls.

    A few distinct values a column (products, stores, days) fit into one number together, by which
    sorting takes a fifth of the time. Where they do not, the rows are sorted as they are. Rows of
    the same key keep no particular order.
    """
    packed = _packed(rows, key)
    if packed is None:
        return rows.select(pl.arg_sort_by(key)).to_series()
    return packed.arg_sort()


def _packed(rows: pl.DataFrame, key: Sequence[str]) -> pl.Series | None:
    if rows.is_empty():
        return None
    packed, size = pl.zeros(rows.height, pl.UInt64, eager=True), 1
    for name in key:
        codes, distinct = _codes(rows[name])
        size *= distinct
        # With about as many values as rows there is nothing to gain.
        if codes is None or size >= _LARGEST or 2 * distinct > rows.height > _FEW_ROWS:
            return None
        packed = packed * distinct + codes
    return packed


def _codes(values: pl.Series) -> tuple[pl.Series | None, int]:
    """Return numbers from 0 in the order of the values (None: too far apart), and their bound."""
    if values.dtype == pl.String:
        values = looked_up(values, _ranks)
    numbers = values.to_physical().cast(pl.Int64)
    lowest, highest = numbers.min(), numbers.max()
    assert isinstance(lowest, int)
    assert isinstance(highest, int)
    bound = highest - lowest + 1
    return (numbers - lowest).cast(pl.UInt64) if bound < _LARGEST else None, bound


def _ranks(distinct: pl.Series) -> pl.Series:
    return distinct.arg_sort().arg_sort()
