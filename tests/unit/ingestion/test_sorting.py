"""Sorting by a packed key gives what sorting gives."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecom_tasks.ingestion import sorting
from ecom_tasks.ingestion.sorting import order_by_key

KEY = ["a", "n", "d"]
rows = st.fixed_dictionaries({
    "a": st.text(max_size=3),
    "n": st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3),
    "d": st.dates(date(1900, 1, 1), date(2100, 1, 1)),
})
SCHEMA = {"a": pl.String, "n": pl.Int64, "d": pl.Date}


@given(st.lists(rows, max_size=20, unique_by=lambda row: tuple(row.values())))
@settings(deadline=None)
def test_rows_come_in_the_order_of_the_key(given: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(given, schema=SCHEMA)
    assert frame[order_by_key(frame, KEY)].rows() == sorted(frame.rows())


@pytest.mark.parametrize(("distinct", "packed"), [(10, True), (3000, False)])
def test_few_values_are_packed_and_many_are_not(distinct: int, *, packed: bool) -> None:
    frame = pl.DataFrame({
        "a": [f"p{n * 7919 % distinct}" for n in range(4000)],
        "n": [n * 31 % 17 for n in range(4000)],
        "d": [date(2024, 1, 1) + timedelta(days=n * 13 % 300) for n in range(4000)],
    })
    assert (sorting._packed(frame, KEY) is not None) == packed
    assert frame[order_by_key(frame, KEY)].equals(frame.sort(KEY))
