"""Part rows that keep the data contract from rows that break it. Nothing is dropped.

A row is judged by the first rule that it breaks, in this order: its source refuses it, a value
cannot be read as its type, a value is out of range, a value is missing, it lies in the future, its
product is unknown, its key is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl
from polars import selectors

from ecom_tasks.ingestion.sorting import order_by_key
from ecom_tasks.tables import Column, Table, Type

FAILED = "_failed"
"""Text column beside the contract's: which casts failed on which text; null: none."""
REFUSED = "refused"
"""Text column that a SELECT may give: why the source itself refuses the row; null: it does not."""
REASON = "reason"
DETAIL = "detail"
DUPLICATE_KEY = "duplicate key"
IN_FUTURE = "in the future"

DTYPES: dict[Type, pl.DataType] = {
    "string": pl.String(),
    "float": pl.Float64(),
    "int": pl.Int64(),
    "bool": pl.Boolean(),
    "date": pl.Date(),
    "datetime": pl.Datetime("us"),
}


def schema_of(table: Table) -> dict[str, pl.DataType]:
    """Return the Polars types of a table of the contract."""
    return {column.name: DTYPES[column.type] for column in table.columns}


@dataclass(frozen=True)
class Rules:
    """What the contract alone does not say.

    Attributes
    ----------
    products : known product ids; None: not compared.
    latest : last day that can have happened; None: the table may look ahead.
    """

    products: pl.Series | None = None
    latest: date | None = None


@dataclass(frozen=True)
class Parted:
    """Both parts of the rows; `bad` has the columns `reason` and `detail` besides."""

    good: pl.DataFrame
    bad: pl.DataFrame


def part(rows: pl.DataFrame, table: Table, rules: Rules) -> Parted:
    """Part the rows of a table.

    Parameters
    ----------
    rows : the contract's columns in its types, texts also numbered, and optionally `_failed` and
        `refused`.

    Returns
    -------
    Parted
        `good` keeps the contract and is sorted by the key; good and bad together are all rows.
        Of rows with the same key, the first by the order of all columns is good.
    """
    rules_of = list(_rules(rows, table, rules))
    broken = rows.select(
        pl.any_horizontal(broken for broken, _ in rules_of).fill_null(value=False)
    ).to_series()
    good, duplicates = _part_duplicates(rows, broken, table)
    bad = rows.filter(broken).select(
        *table.column_names,
        pl.coalesce(pl.when(broken).then(reason) for broken, reason in rules_of).alias(REASON),
        pl.coalesce(pl.lit(None, pl.String), *_told(rows)).alias(DETAIL),
    )
    bad = pl.concat([bad, duplicates]).sort([REASON, *table.column_names])
    return Parted(good, bad.with_columns(selectors.enum().cast(pl.String)))


def _told(rows: pl.DataFrame) -> list[str]:
    """Return the columns in which the SELECT said what is wrong with a row."""
    return [name for name in (REFUSED, FAILED) if name in rows.columns]


def _rules(rows: pl.DataFrame, table: Table, rules: Rules) -> Iterator[tuple[pl.Expr, pl.Expr]]:
    """Yield when each rule is broken (null: it is not), and the reason that is then given."""
    told = _told(rows)
    if REFUSED in told:
        yield pl.col(REFUSED).is_not_null(), pl.lit("refused by the source")
    if FAILED in told:
        # "quantity: 'abc'; ordered_at: 'x'" is counted under its first column.
        column = pl.col(FAILED).str.extract(r"^(\w+): ", 1)
        yield pl.col(FAILED).is_not_null(), pl.lit("wrong type: ") + column
    for each in table.columns:
        yield from _out_of_range(each)
    needed = [each.name for each in table.columns if not each.nullable]
    yield from ((pl.col(name).is_null(), pl.lit(f"missing: {name}")) for name in needed)
    if rules.latest is not None and table.happened_at is not None:
        yield pl.col(table.happened_at) >= rules.latest + timedelta(days=1), pl.lit(IN_FUTURE)
    if rules.products is not None and "product_id" in table.column_names:
        # A missing product is none that is unknown: the answer is null then.
        known = rules.products.cast(rows.schema["product_id"], strict=False).drop_nulls()
        yield ~pl.col("product_id").is_in(known.implode()), pl.lit("unknown product")


def _out_of_range(column: Column) -> Iterator[tuple[pl.Expr, pl.Expr]]:
    if column.positive:
        yield pl.col(column.name) <= 0, pl.lit(f"not above zero: {column.name}")
    if column.not_negative:
        yield pl.col(column.name) < 0, pl.lit(f"below zero: {column.name}")


def _part_duplicates(
    rows: pl.DataFrame, broken: pl.Series, table: Table
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sort those rows by the key that break no other rule, and part the first of each key."""
    key = list(table.key)
    whole = rows.select(key).filter(~broken)
    order = order_by_key(whole, key)
    sorted_keys = whole[order]
    # Looked up, not filtered and then sorted: a copy of all columns less.
    sorted_rows = rows.select(table.column_names)[(~broken).arg_true().gather(order)]
    taken = sorted_keys.select(
        pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in key).fill_null(
            value=False
        )
    ).to_series()
    if not taken.any():
        return sorted_rows, _as_duplicates(sorted_rows.clear())
    # Only now by all columns, which takes longer: which of several rows stays may not depend
    # on the order in which they came.
    others = [name for name in table.column_names if name not in key]
    sorted_rows = sorted_rows.sort([*key, *others])
    return sorted_rows.filter(~taken), _as_duplicates(sorted_rows.filter(taken))


def _as_duplicates(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        pl.lit(DUPLICATE_KEY).alias(REASON), pl.lit(None, pl.String).alias(DETAIL)
    )


def count_reasons(bad: pl.DataFrame) -> dict[str, int]:
    """Rows by reason."""
    counted = bad.group_by(REASON).len().sort(REASON)
    return dict(zip(counted[REASON], counted["len"], strict=True))
