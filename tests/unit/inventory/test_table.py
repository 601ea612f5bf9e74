"""Any table becomes a panel, or the reason why it cannot is said."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.inventory import table
from ecom_tasks.inventory.table import Columns, Setting

COLUMNS = Columns(["shop"], "on", "sold")
WEEKLY = Setting("W", 52, 2)
FRIDAY = date(2024, 1, 5)


def rows(**columns: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(columns)


def weeks(*numbers: int) -> list[date]:
    return [FRIDAY + timedelta(weeks=number) for number in numbers]


def test_dates_stand_under_each_other() -> None:
    found = table.read(
        rows(shop=["b", "a", "a"], on=weeks(2, 0, 1), sold=[7.5, 1.0, 2.0]), COLUMNS, WEEKLY
    )
    assert found.keys["shop"].to_list() == ["a", "b"]
    assert found.first == FRIDAY - timedelta(days=4)  # the Monday
    assert found.known().tolist() == [[True, True, False], [False, False, True]]
    assert found.units.tolist() == [[1, 2, 2], [7.5, 7.5, 7.5]]
    assert found.sales.tolist() == [[1, 2, 0], [0, 0, 7.5]]


def test_months_follow_each_other() -> None:
    days = [date(2023, 11, 30), date(2024, 2, 1)]
    found = table.read(
        rows(shop=["a", "a"], on=days, sold=[1.5, 4.5]), COLUMNS, Setting("M", 12, 1)
    )
    assert found.units.tolist() == [[1.5, 2.5, 3.5, 4.5]]
    assert [found.day(column) for column in (0, 2, 4)] == [
        date(2023, 11, 1), date(2024, 1, 1), date(2024, 3, 1),
    ]  # fmt: skip


def test_numbered_series_end_together() -> None:
    found = table.read(
        rows(shop=["a", "a", "a", "b"], on=[1, 2, 3, 1], sold=[1.5, 2.0, 3.0, 9.0]),
        COLUMNS, Setting("W", 1, 1),
    )  # fmt: skip
    assert found.known().tolist() == [[True] * 3, [False, False, True]]
    assert found.units[1, 2] == 9
    assert found.season == 52  # what repeats by nature; MASE may still be scaled by one step


@pytest.mark.parametrize(
    ("sold", "gaps", "expected"),
    [
        ([3, 5], "auto", [3, 0, 0, 5]),  # counts without any zero: a list of sales
        ([3.5, 5.0], "auto", [3.5, 4.0, 4.5, 5.0]),
        ([3, 5], "unknown", [3, 11 / 3, 13 / 3, 5]),
        ([3.5, 5.0], "zero", [3.5, 0, 0, 5.0]),
    ],
)
def test_gaps_are_zero_or_unknown(sold: list[float], gaps: str, expected: list[float]) -> None:
    made = rows(shop=["a", "a"], on=weeks(0, 3), sold=sold)
    found = table.read(made, COLUMNS, Setting("W", 52, 2, gaps))
    assert found.units[0].tolist() == pytest.approx(expected)
    assert found.known()[0].all() == (expected[1] == 0)


def test_known_columns_reach_beyond_the_end() -> None:
    made = rows(
        shop=["a", "a", "a", "b"], on=weeks(0, 1, 2, 2), sold=[1.5] * 4,
        holiday=[False, True, False, False], price=[2.0, 3.0, 4.0, 9.0], shown=[1, 1, 1, 0],
    )  # fmt: skip
    columns = Columns(["shop"], "on", "sold", known=["holiday", "price", "shown"])
    found = table.read(made, columns, WEEKLY)
    # The same for all series: also where a series has no row. Flags end; prices go on.
    assert found.plans["holiday"].tolist() == [[0, 1, 0, 0, 0]] * 2
    assert found.plans["price"].tolist() == [[2, 3, 4, 4, 4], [0, 0, 9, 9, 9]]
    assert found.plans["shown"].tolist() == [[1, 1, 1, 0, 0], [0] * 5]


def test_weights_are_of_rows() -> None:
    made = rows(shop=["a", "a"], on=weeks(0, 1), sold=[1.5, 2.5], worth=[10.0, 20.0])
    found = table.read(made, Columns(["shop"], "on", "sold", "worth"), WEEKLY)
    assert found.weights is not None
    assert found.weights.tolist() == found.sales.tolist() == [[10, 20]]


def test_a_date_that_stands_twice_is_shown() -> None:
    made = rows(shop=["a", "a", "b"], on=weeks(0, 0, 0), sold=[1.0, 2.0, 3.0])
    with pytest.raises(DataContractError, match="1 periods stand twice for the same shop") as error:
        table.read(made, COLUMNS, WEEKLY)
    assert [each["sold" if "sold" in each else "target"] for each in error.value.examples] == [1, 2]


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        (rows(shop=["a"], sold=[1.0]), ConfigError, "no column on"),
        (rows(shop=["a"], on=["monday"], sold=[1.0]), DataContractError, "on is of type String"),
        (rows(shop=["a"], on=[1], sold=["x"]), DataContractError, "sold is of type String"),
        (rows(shop=["a"], on=[1], sold=[float("nan")]), DataContractError, "No row has a number"),
    ],
)
def test_what_cannot_be_read_is_named(
    made: pl.DataFrame, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        table.read(made, COLUMNS, WEEKLY)


def test_the_last_periods_are_the_same_panel_cut() -> None:
    made = rows(shop=["a"] * 5, on=weeks(*range(5)), sold=np.arange(5.0).tolist())
    found = table.read(made, COLUMNS, WEEKLY).last(2)
    assert found.units.tolist() == [[3, 4]]
    assert found.first == FRIDAY - timedelta(days=4) + timedelta(weeks=3)
    assert (found.periods, found.horizon) == (2, 2)
