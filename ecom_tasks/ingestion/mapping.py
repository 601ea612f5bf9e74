"""From a shop's own columns to the data contract: one SELECT a table, run by DuckDB.

The SELECT names its inputs as tables. Besides DuckDB's functions it may use `as_of()`, the run's
day, so that what is gathered over all rows (the commonest title of a product) does not look ahead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl

from ecom_tasks.errors import DataContractError
from ecom_tasks.ingestion.casting import casted, failure
from ecom_tasks.ingestion.explain import FAULTS, meant, missing_column, translated
from ecom_tasks.ingestion.inputs import Prepared
from ecom_tasks.ingestion.quarantine import DTYPES, FAILED, REFUSED
from ecom_tasks.tables import Table

BATCH_ROWS = 250_000
_COMPARE = "Compare the newest file with an older one: a column was dropped, renamed or added"
_TOLERATE = (
    "Write TRY_CAST(x AS DOUBLE) for CAST, nullif(x, 0) below a division: the row then goes to "
    "quarantine and the others pass"
)
KNOWN_ON = {"promotions": "starts_on"}
"""The column that says when a row became known where `happened_at` is null."""


@dataclass(frozen=True)
class Settings:
    """What a connection is made with; `threads` 0 means one a core."""

    as_of: date
    memory_mb: int
    threads: int


@contextmanager
def connected(settings: Settings, folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database in memory that spills to `folder` and fetches no extension."""
    connection = duckdb.connect(
        config={
            "memory_limit": f"{settings.memory_mb}MiB",
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            **({"threads": settings.threads} if settings.threads else {}),
        }
    )
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TEMP MACRO as_of() AS DATE '{settings.as_of.isoformat()}'")
        yield connection
    finally:
        connection.close()


def register(connection: duckdb.DuckDBPyConnection, name: str, prepared: Prepared) -> None:
    """Make an input a view of its name.

    Raises
    ------
    DataContractError
        A file cannot be read, or the files of one input differ in their columns.
    """
    try:
        connection.execute(f'CREATE VIEW "{name}" AS SELECT * FROM {_reader(prepared)}')
    except FAULTS as error:
        raise translated(error, f"Input {name!r} cannot be read", _COMPARE) from error


def _reader(prepared: Prepared) -> str:
    options: dict[str, object] = {}
    if prepared.format == "parquet":
        options = {"hive_partitioning": False, "union_by_name": prepared.by_name}
    elif prepared.format == "csv":
        # Every line of every file decides on the types: a text in the last line of the last file
        # must not come as a surprise while reading.
        # The header is not guessed either: without rows below it, it would be taken for one.
        options = {"sample_size": -1, "files_to_sniff": -1, "header": True}
    elif prepared.format == "json":
        options = {"sample_size": -1, "maximum_sample_files": len(prepared.files)}
    options |= prepared.options
    files = ", ".join(_literal(str(file)) for file in prepared.files)
    told = "".join(f", {name} = {_literal(value)}" for name, value in options.items())
    return f"read_{prepared.format}([{files}]{told})"


def _literal(value: object) -> str:
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_literal(each) for each in value)}]"
    return "'" + str(value).replace("'", "''") + "'"


def inputs_of(sql: str, names: Mapping[str, object]) -> list[str]:
    """Return the inputs that a SELECT reads, sorted, without running or binding it.

    Raises
    ------
    DataContractError
        The text is not one SELECT.
    """
    with duckdb.connect() as connection:
        answer = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    parsed = json.loads(answer[0]) if answer else {}
    if parsed.get("error"):
        raise DataContractError(
            f"The SELECT cannot be read: {parsed['error_message']}"
            f"{_line_at(sql, parsed.get('position'))}",
            "Correct this line; a table takes exactly one SELECT, in DuckDB's SQL",
        )
    if len(parsed["statements"]) != 1:
        raise DataContractError(
            f"There are {len(parsed['statements'])} statements", "A table takes exactly one SELECT"
        )
    return sorted(set(_tables_in(parsed)) & set(names))


def _line_at(sql: str, position: str | None) -> str:
    if position is None or not position.isdigit():
        return ""
    number = sql.encode()[: int(position)].count(b"\n")
    return f" (line {number + 1}: {sql.splitlines()[number].strip()})"


def _tables_in(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") == "BASE_TABLE":
            yield node["table_name"]
        for value in node.values():
            yield from _tables_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from _tables_in(value)


def describe(connection: duckdb.DuckDBPyConnection, table: Table, sql: str) -> dict[str, str]:
    """Return the columns of a SELECT with DuckDB's types, without running it.

    Raises
    ------
    DataContractError
        It does not fit its inputs: it names a column that is not there, say.
    """
    try:
        # A line of its own, so that the lines of a message are those of the SELECT, plus one.
        rows = connection.execute(f"DESCRIBE\n{sql}").fetchall()
    except FAULTS as error:
        inputs = _columns_of_inputs(connection)
        hint = "; ".join(f"{name} has {', '.join(columns)}" for name, columns in inputs.items())
        every_column = [column for columns in inputs.values() for column in columns]
        if told := missing_column(error, sql, every_column):
            raise DataContractError(f"{table.name}: {told}", f"Input {hint}") from error
        raise translated(error, table.name, f"Input {hint}", lines_before=1) from error
    return {str(row[0]): str(row[1]) for row in rows}


def _columns_of_inputs(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    rows = connection.execute(
        "SELECT table_name, list(column_name ORDER BY column_index) "
        "FROM duckdb_columns() WHERE NOT internal GROUP BY table_name ORDER BY table_name"
    ).fetchall()
    return dict(rows)


def check_columns(table: Table, types: Mapping[str, str]) -> list[str]:
    """Say what is wrong with the columns of a SELECT; an empty list when it fits the contract."""
    found = []
    for column in table.columns:
        if column.name not in types and not column.optional:
            others = [name for name in types if name not in table.column_names]
            found.append(
                f"{table.name}.{column.name} ({column.type}: {column.description}) is missing in "
                f"the SELECT{meant(column.name, others)}"
            )
        elif column.type in {"date", "datetime"} and "TIME ZONE" in types.get(column.name, ""):
            found.append(
                f"{table.name}.{column.name} has a time zone, the contract wants the shop's local "
                f"time: write timezone('Europe/London', {column.name}) with the shop's own zone"
            )
    known = {*table.column_names, REFUSED}
    lacking = [name for name in table.column_names if name not in types]
    found += [
        f"{table.name}.{name} is no column of the contract{meant(name, lacking)}"
        for name in types
        if name not in known
    ]
    return found


def contract_select(
    table: Table, sql: str, types: Mapping[str, str], as_of: date, latest: date | None
) -> str:
    """Return SQL with the contract's columns and types, `_failed`, and `refused`.

    Rows after `as_of` are not selected. Where `latest` is given, those after it are: nothing can
    have happened so late, so they are faults and go to quarantine.
    """
    raw = {name: f'"{name}"' if name in types else "NULL" for name in table.column_names}
    columns = [
        f'{casted(column, raw[column.name], types.get(column.name, ""))} AS "{column.name}"'
        for column in table.columns
    ]
    failures = [
        told
        for column in table.columns
        if (told := failure(column, raw[column.name], types.get(column.name, "")))
    ]
    failed = f"nullif(concat_ws('; ', {', '.join(failures)}), '')" if failures else "NULL"
    columns.append(f"CAST({failed} AS VARCHAR) AS {FAILED}")
    refused = f'"{REFUSED}"' if REFUSED in types else "NULL"
    columns.append(f"CAST({refused} AS VARCHAR) AS {REFUSED}")
    selected = f"SELECT {', '.join(columns)} FROM (\n{sql}\n)"
    return f"SELECT * FROM ({selected}){_known_by(table, as_of, latest)}"


def _known_by(table: Table, as_of: date, latest: date | None) -> str:
    if table.happened_at is None:
        return ""
    known = f'"{table.happened_at}"'
    if fallback := KNOWN_ON.get(table.name):
        known = f'coalesce({known}, "{fallback}")'
    after = f"{known} >= DATE '{latest + timedelta(days=1)}'" if latest else "FALSE"
    return f" WHERE {known} IS NULL OR {known} < DATE '{as_of + timedelta(days=1)}' OR {after}"


def batches(
    connection: duckdb.DuckDBPyConnection, table: Table, select: str
) -> Iterator[pl.DataFrame]:
    """Run the SELECT and yield its rows as they come, about `BATCH_ROWS` at once.

    Customers still bear the shop's own identifiers: nothing of it may be written as it is.

    Raises
    ------
    DataContractError
        A value stops the SELECT: a division or a cast in it that fails.
    """
    schema = {column.name: DTYPES[column.type] for column in table.columns}
    schema |= {FAILED: pl.String(), REFUSED: pl.String()}
    try:
        for batch in connection.sql(select).to_arrow_reader(BATCH_ROWS):
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            yield frame.cast(schema)  # type: ignore[arg-type]
    except FAULTS as error:
        hint = _COMPARE if "mismatch" in str(error) else _TOLERATE
        raise translated(error, table.name, hint) from error
