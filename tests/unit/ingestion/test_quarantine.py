"""Parting rows: nothing is lost, the good ones keep the contract, and why the others do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars import selectors

from ecom_tasks.artefacts.bucketing import numbered
from ecom_tasks.ingestion.quarantine import (
    FAILED,
    REFUSED,
    Rules,
    count_reasons,
    part,
    schema_of,
)
from ecom_tasks.tables import ORDER_LINES, PRICES, PRODUCTS, Table

LATEST = date(2024, 3, 31)
KNOWN = pl.Series(["a", "b"])
RULES = Rules(KNOWN, LATEST)
TYPES = schema_of(ORDER_LINES) | {FAILED: pl.String(), REFUSED: pl.String()}


def row(**changes: Any) -> dict[str, Any]:
    good = {
        "order_id": "1", "line_number": 1, "customer_id": "c", "product_id": "a",
        "quantity": 1.0, "unit_price": 2.0, "ordered_at": datetime(2024, 3, 31, 23, 59),  # noqa: DTZ001
    }  # fmt: skip
    return good | changes


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=TYPES)


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"order_id": None}, "missing: order_id", None),
        ({"ordered_at": None}, "missing: ordered_at", None),
        ({"quantity": 0.0}, "not above zero: quantity", None),
        ({"quantity": -1.0}, "not above zero: quantity", None),
        ({"unit_price": -0.01}, "below zero: unit_price", None),
        ({"product_id": "c"}, "unknown product", None),
        ({"ordered_at": datetime(2024, 4, 1)}, "in the future", None),  # noqa: DTZ001
        ({"quantity": None, FAILED: "quantity: 'x'"}, "wrong type: quantity", "quantity: 'x'"),
        ({REFUSED: "bad debt"}, "refused by the source", "bad debt"),
        ({REFUSED: "bad debt", "quantity": -1.0}, "refused by the source", "bad debt"),
        ({"quantity": 0.0, "unit_price": None}, "not above zero: quantity", None),
    ],
)
def test_the_first_broken_rule_is_the_reason(
    changes: dict[str, Any], reason: str, detail: str | None
) -> None:
    parted = part(frame(row(**changes), row(order_id="2")), ORDER_LINES, RULES)
    assert parted.good["order_id"].to_list() == ["2"]
    assert parted.bad.select("reason", "detail").rows() == [(reason, detail)]


@pytest.mark.parametrize(
    "changes", [{"customer_id": None}, {"unit_price": 0.0}, {"returned": True}, {"quantity": 0.001}]
)
def test_guests_gifts_returns_and_fractions_are_good(changes: dict[str, Any]) -> None:
    assert part(frame(row(**changes)), ORDER_LINES, RULES).bad.is_empty()


def test_of_equal_keys_the_first_by_all_columns_stays_whatever_the_order() -> None:
    rows = [row(unit_price=price) for price in (3.0, 1.0, 2.0)]
    for shuffled in (rows, rows[::-1], [rows[1], rows[0], rows[2]]):
        parted = part(frame(*shuffled), ORDER_LINES, RULES)
        assert parted.good["unit_price"].to_list() == [1.0]
        assert parted.bad["unit_price"].to_list() == [2.0, 3.0]
        assert count_reasons(parted.bad) == {"duplicate key": 2}


def test_a_bad_row_does_not_take_the_key_of_a_good_one() -> None:
    parted = part(frame(row(quantity=0.0), row()), ORDER_LINES, RULES)
    assert parted.good.height == 1
    assert count_reasons(parted.bad) == {"not above zero: quantity": 1}


def test_without_products_and_latest_day_neither_is_compared() -> None:
    rows = frame(row(product_id="z", ordered_at=datetime(2999, 1, 1)))  # noqa: DTZ001
    assert part(rows, ORDER_LINES, Rules()).bad.is_empty()


def test_an_optional_price_may_be_missing_but_not_zero() -> None:
    products = pl.DataFrame(
        {"product_id": ["a", "b"], "title": ["A", "B"], "category": ["x", "x"],
         "regular_price": [None, 0.0]}, schema_overrides=schema_of(PRODUCTS),
    )  # fmt: skip
    missing = {name: type_ for name, type_ in schema_of(PRODUCTS).items()
               if name not in products.columns}  # fmt: skip
    products = products.with_columns(
        pl.lit(None, type_).alias(name) for name, type_ in missing.items()
    )
    parted = part(products, PRODUCTS, Rules())
    assert parted.good["product_id"].to_list() == ["a"]
    assert count_reasons(parted.bad) == {"not above zero: regular_price": 1}


identifiers = st.none() | st.sampled_from(["a", "b", "c", "d"])
numbers = st.none() | st.integers(-2, 3).map(float)
moments = st.none() | st.integers(-3, 3).map(
    lambda hours: datetime(2024, 4, 1) + timedelta(hours=hours)  # noqa: DTZ001
)
any_row = st.fixed_dictionaries({
    "order_id": identifiers,
    "line_number": st.none() | st.integers(1, 2),
    "customer_id": identifiers,
    "product_id": identifiers,
    "quantity": numbers,
    "unit_price": numbers,
    "ordered_at": moments,
    FAILED: st.sampled_from([None, None, None, "quantity: 'x'"]),
    REFUSED: st.sampled_from([None, None, None, "no sale"]),
})
any_rows = st.lists(any_row, max_size=25).map(lambda rows: frame(*rows))


def keeps_contract(rows: pl.DataFrame, table: Table) -> bool:
    """The contract said a second time, row by row."""
    seen = set()
    for each in rows.to_dicts():
        key = tuple(each[name] for name in table.key)
        for column in table.columns:
            value = each[column.name]
            if value is None and not column.nullable:
                return False
            if value is not None and column.positive and value <= 0:
                return False
            if value is not None and column.not_negative and value < 0:
                return False
        known = each["product_id"] in set(KNOWN.to_list())
        if key in seen or not known or each[table.happened_at or ""].date() > LATEST:
            return False
        seen.add(key)
    return True


@given(any_rows)
@settings(deadline=None)
def test_good_and_bad_are_all_rows_and_good_keeps_the_contract(rows: pl.DataFrame) -> None:
    parted = part(rows, ORDER_LINES, RULES)
    columns = ORDER_LINES.column_names
    together = pl.concat([parted.good, parted.bad.select(columns)]).sort(columns)
    assert together.equals(rows.select(columns).sort(columns))
    assert keeps_contract(parted.good, ORDER_LINES)
    assert parted.good.equals(parted.good.sort(ORDER_LINES.key))
    assert parted.bad["reason"].null_count() == 0
    assert sum(count_reasons(parted.bad).values()) == parted.bad.height


@given(any_rows)
@settings(deadline=None)
def test_parting_the_good_again_changes_nothing(rows: pl.DataFrame) -> None:
    once = part(rows, ORDER_LINES, RULES).good
    twice = part(once, ORDER_LINES, RULES)
    assert twice.good.equals(once)
    assert twice.bad.is_empty()


@given(any_rows, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_rows_does_not_matter(rows: pl.DataFrame, random: Any) -> None:
    order = list(range(rows.height))
    random.shuffle(order)
    shuffled = rows[order] if order else rows
    first, second = part(rows, ORDER_LINES, RULES), part(shuffled, ORDER_LINES, RULES)
    assert first.good.equals(second.good)
    assert count_reasons(first.bad) == count_reasons(second.bad)


@given(any_rows, st.sets(st.sampled_from([n for n, kind in schema_of(ORDER_LINES).items()
                                         if kind == pl.String])))  # fmt: skip
@settings(deadline=None)
def test_numbered_texts_are_judged_as_texts(rows: pl.DataFrame, names: set[str]) -> None:
    plain = part(rows, ORDER_LINES, RULES)
    lighter = part(rows.with_columns(numbered(rows[name]) for name in names), ORDER_LINES, RULES)
    assert lighter.good.with_columns(selectors.enum().cast(pl.String)).equals(plain.good)
    assert lighter.bad.equals(plain.bad)
    assert lighter.bad.schema == plain.bad.schema


@given(any_rows)
@settings(deadline=None)
def test_a_row_alone_is_judged_as_among_others_but_for_its_key(rows: pl.DataFrame) -> None:
    together = count_reasons(part(rows, ORDER_LINES, RULES).bad)
    alone = [
        count_reasons(part(rows[n : n + 1], ORDER_LINES, RULES).bad) for n in range(rows.height)
    ]
    reasons = {reason for each in (*alone, together) for reason in each} - {"duplicate key"}
    for reason in reasons:
        assert together.get(reason, 0) == sum(each.get(reason, 0) for each in alone)


def test_a_table_of_plans_may_look_ahead() -> None:
    ahead = pl.DataFrame(
        {"product_id": ["a"], "location_id": ["s"], "valid_from": [LATEST + timedelta(days=30)],
         "regular_price": [1.0], "competitor_price": [None], "unit_cost": [None]},
        schema=schema_of(PRICES),
    )  # fmt: skip
    assert part(ahead, PRICES, replace(RULES, latest=None)).bad.is_empty()
