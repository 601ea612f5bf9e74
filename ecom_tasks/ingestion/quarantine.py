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

from ecom_tasks.ingestion.sorting import sorted_by_key
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
    rows : the contract's columns in its types, and optionally `_failed` and `refused`.

    Returns
    -------
    Parted
        `good` keeps the contract and is sorted by the key; good and bad together are all rows.
        Of rows with the same key, the first by the order of all columns is good.
    """
    rows = rows.with_columns(
        pl.lit(None, pl.String).alias(name)
        for name in (FAILED, REFUSED)
        if name not in rows.columns
    )
    judged = _judge(rows, table, rules)
    whole = judged.filter(pl.col(REASON).is_null()).select(table.column_names)
    good, duplicates = _part_duplicates(whole, table)
    bad = judged.filter(pl.col(REASON).is_not_null()).select([*table.column_names, REASON, DETAIL])
    return Parted(good, pl.concat([bad, duplicates]).sort([REASON, *table.column_names]))


def _judge(rows: pl.DataFrame, table: Table, rules: Rules) -> pl.DataFrame:
    unknown = pl.lit(value=False)
    if rules.products is not None and "product_id" in table.column_names:
        known = pl.col("product_id").is_in(rules.products.implode())
        unknown = pl.col("product_id").is_not_null() & ~known
    reason = pl.coalesce(
        _said(pl.col(REFUSED).is_not_null(), "refused by the source"),
        _failed_cast(),
        *(rule for column in table.columns for rule in _out_of_range(column)),
        *(_said(pl.col(c.name).is_null(), f"missing: {c.name}") for c in table.columns
          if not c.nullable),
        *_ahead(table, rules),
        _said(unknown, "unknown product"),
    )  # fmt: skip
    detail = pl.coalesce(REFUSED, FAILED)
    return rows.with_columns(reason.alias(REASON), detail.alias(DETAIL))


def _said(broken: pl.Expr, reason: str) -> pl.Expr:
    return pl.when(broken).then(pl.lit(reason))


def _failed_cast() -> pl.Expr:
    # "quantity: 'abc'; ordered_at: 'x'" is counted under its first column.
    column = pl.col(FAILED).str.extract(r"^(\w+): ", 1)
    return pl.when(pl.col(FAILED).is_not_null()).then(pl.lit("wrong type: ") + column)


def _out_of_range(column: Column) -> Iterator[pl.Expr]:
    if column.positive:
        yield _said(pl.col(column.name) <= 0, f"not above zero: {column.name}")
    if column.not_negative:
        yield _said(pl.col(column.name) < 0, f"below zero: {column.name}")


def _ahead(table: Table, rules: Rules) -> Iterator[pl.Expr]:
    if rules.latest is not None and table.happened_at is not None:
        yield _said(pl.col(table.happened_at) >= rules.latest + timedelta(days=1), IN_FUTURE)


def _part_duplicates(whole: pl.DataFrame, table: Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    key = list(table.key)
    rows = sorted_by_key(whole, key)
    taken = rows.select(
        pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in key).fill_null(
            value=False
        )
    ).to_series()
    if taken.any():
        # Only now by all columns, which takes longer: which of several rows stays may not depend
        # on the order in which they came.
        others = [name for name in table.column_names if name not in key]
        rows = rows.sort([*key, *others])
    duplicates = rows.filter(taken).with_columns(
        pl.lit(DUPLICATE_KEY).alias(REASON), pl.lit(None, pl.String).alias(DETAIL)
    )
    return rows.filter(~taken), duplicates


def count_reasons(bad: pl.DataFrame) -> dict[str, int]:
    """Rows by reason."""
    counted = bad.group_by(REASON).len().sort(REASON)
    return dict(zip(counted[REASON], counted["len"], strict=True))
