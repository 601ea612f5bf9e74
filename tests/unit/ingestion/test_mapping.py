"""From a SELECT to typed rows: what casts, what is said where it does not, what is not read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecom_tasks.errors import DataContractError
from ecom_tasks.ingestion import mapping
from ecom_tasks.ingestion.inputs import Prepared
from ecom_tasks.ingestion.quarantine import FAILED, REFUSED
from ecom_tasks.tables import ORDER_LINES, PROMOTIONS, Column, Table

AS_OF = date(2024, 3, 31)
KEY = bytes(32)
NUMBER = Table("numbers", ("n",), (Column("n", "int", ""), Column("x", "float", "", nullable=True)))


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with mapping.connected(mapping.Settings(AS_OF, 200, 1), tmp_path) as opened:
        yield opened


def rows_of(
    connection: duckdb.DuckDBPyConnection, table: Table, sql: str, latest: date | None = None
) -> list[dict[str, Any]]:
    types = mapping.describe(connection, table, sql)
    assert mapping.check_columns(table, types) == []
    select = mapping.contract_select(table, sql, types, AS_OF, latest)
    frames = list(mapping.batches(connection, table, select))
    return pl.concat(frames).to_dicts() if frames else []


def one(connection: duckdb.DuckDBPyConnection, type_: str, expression: str) -> tuple[Any, Any]:
    """The value of a column of this type, and what is said when it does not fit."""
    table = Table("t", ("v",), (Column("v", type_, ""),))  # type: ignore[arg-type]
    [row] = rows_of(connection, table, f"SELECT {expression} AS v")
    return row["v"], row[FAILED]


@pytest.mark.parametrize(
    ("type_", "expression", "value"),
    [
        ("int", "'7'", 7),
        ("int", "7.0::DOUBLE", 7),
        ("int", "' 7 '", 7),
        ("float", "'1e3'", 1000.0),
        ("float", "1.5::DECIMAL(10, 2)", 1.5),
        ("string", "17850::BIGINT", "17850"),
        ("string", "17850.0::DOUBLE", "17850"),
        ("string", "17850.00::DECIMAL(10, 2)", "17850"),
        ("string", "1.5::DOUBLE", "1.5"),
        ("string", "' ann '", "ann"),
        ("bool", "'yes'", True),
        ("bool", "0", False),
        ("date", "'2024-02-29'", date(2024, 2, 29)),
        ("date", "TIMESTAMP '2024-02-29 10:00'", date(2024, 2, 29)),
        ("datetime", "'2024-02-29T10:30'", datetime(2024, 2, 29, 10, 30)),  # noqa: DTZ001
        ("datetime", "DATE '2024-02-29'", datetime(2024, 2, 29)),  # noqa: DTZ001
    ],
)
def test_what_fits_is_cast(
    connection: duckdb.DuckDBPyConnection, type_: str, expression: str, value: object
) -> None:
    assert one(connection, type_, expression) == (value, None)


@pytest.mark.parametrize(
    ("type_", "expression", "told"),
    [
        ("int", "'7.5'", "v: '7.5'"),
        ("int", "7.5::DOUBLE", "v: '7.5'"),
        ("int", "'seven'", "v: 'seven'"),
        ("float", "'1,5'", "v: '1,5'"),
        ("float", "'inf'::DOUBLE", "v: 'inf'"),
        ("float", "'nan'", "v: 'nan'"),
        ("bool", "'maybe'", "v: 'maybe'"),
        ("date", "'31.03.2024'", "v: '31.03.2024'"),
        ("date", "'2024-02-30'", "v: '2024-02-30'"),
        ("datetime", "'2024-02-29T10:30Z'", "v: '2024-02-29T10:30Z'"),
        ("datetime", "'2024-02-29 10:30:00+02:00'", "v: '2024-02-29 10:30:00+02:00'"),
        ("datetime", "20240229", "v: '20240229'"),
        ("int", f"'{'x' * 60}'", f"v: '{'x' * 40}'"),
    ],
)
def test_what_does_not_fit_becomes_null_and_is_quoted(
    connection: duckdb.DuckDBPyConnection, type_: str, expression: str, told: str
) -> None:
    assert one(connection, type_, expression) == (None, told)


@pytest.mark.parametrize("type_", ["int", "float", "string", "bool", "date", "datetime"])
@pytest.mark.parametrize("expression", ["NULL", "''", "'  '"])
def test_an_empty_cell_is_missing_not_wrong(
    connection: duckdb.DuckDBPyConnection, type_: str, expression: str
) -> None:
    assert one(connection, type_, expression) == (None, None)


def python_number(text: str) -> float | None:
    """What a text means as a number, by Python's own reading."""
    try:
        number = float(text.strip().replace("_", "x"))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


words = st.text(st.characters(codec="ascii", categories=["Lu", "Nd", "Po"]), max_size=6)
fractions = st.floats(-1e9, 1e9, width=32).map(str)
cells = st.none() | st.integers(-(10**12), 10**12).map(str) | fractions | words


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=30))
@settings(deadline=None, max_examples=40)
def test_no_row_is_lost_and_each_is_cast_or_said_to_be_wrong(
    texts: list[tuple[str | None, str | None]],
) -> None:
    source = pl.DataFrame(texts, schema={"a": pl.String, "b": pl.String}, orient="row")
    with duckdb.connect() as connection:
        connection.register("source", source.with_row_index("i"))
        sql = "SELECT a AS n, b AS x FROM source"
        rows = rows_of(connection, NUMBER, sql)
    assert len(rows) == len(texts)

    def meaning(text: str | None, *, whole: bool) -> tuple[float | None, bool]:
        if text is None or not text.strip():
            return None, False
        number = python_number(text)
        wrong = number is None or (whole and not number.is_integer())
        return (None if wrong else number), wrong

    expected = []
    for a, b in texts:
        (n, n_wrong), (x, x_wrong) = meaning(a, whole=True), meaning(b, whole=False)
        told = [f"{name}: '{text}'" for name, text, wrong in (("n", a, n_wrong), ("x", b, x_wrong))
                if wrong]  # fmt: skip
        expected.append((n, x, "; ".join(told) or None))
    got = [(row["n"], row["x"], row[FAILED]) for row in rows]
    assert sorted(map(str, got)) == sorted(
        str((None if n is None else int(n), x, told)) for n, x, told in expected
    )


LINE = (
    "SELECT 1 AS order_id, 1 AS line_number, 'ann' AS customer_id, 2 AS product_id, 1 AS quantity, "
    "1 AS unit_price"
)


@pytest.mark.parametrize(
    ("moment", "read"),
    [
        ("TIMESTAMP '2024-03-31 23:59:59.999999'", True),
        ("TIMESTAMP '2024-04-01 00:00'", False),
        ("TIMESTAMP '2024-04-02 23:59'", False),
        ("TIMESTAMP '2024-04-03 00:00'", True),  # cannot have happened yet: to quarantine
        ("NULL", True),  # to quarantine
    ],
)
def test_rows_after_the_day_are_not_read(
    connection: duckdb.DuckDBPyConnection, moment: str, *, read: bool
) -> None:
    rows = rows_of(connection, ORDER_LINES, f"{LINE}, {moment} AS ordered_at", date(2024, 4, 2))
    assert len(rows) == read


@pytest.mark.parametrize(
    ("starts", "announced", "read"),
    [
        ("2024-04-07", "DATE '2024-03-31'", True),
        ("2024-04-07", "DATE '2024-04-01'", False),
        ("2024-03-31", "NULL", True),
        ("2024-04-01", "NULL", False),
    ],
)
def test_a_promotion_is_read_once_it_was_announced(
    connection: duckdb.DuckDBPyConnection, starts: str, announced: str, *, read: bool
) -> None:
    sql = (
        f"SELECT 'a' AS product_id, 's' AS location_id, DATE '{starts}' AS starts_on, "
        f"'display' AS mechanic, DATE '2024-12-31' AS ends_on, {announced} AS announced_on"
    )
    assert len(rows_of(connection, PROMOTIONS, sql)) == read


def test_the_refusal_of_the_source_goes_along(connection: duckdb.DuckDBPyConnection) -> None:
    sql = f"{LINE}, DATE '2024-03-01' AS ordered_at, 'test order' AS refused"
    [row] = rows_of(connection, ORDER_LINES, sql)
    assert row[REFUSED] == "test order"
    assert row["order_id"] == "1"


def test_the_day_of_the_run_can_be_used(connection: duckdb.DuckDBPyConnection) -> None:
    assert one(connection, "date", "as_of() + 1") == (date(2024, 4, 1), None)


def test_the_zones_of_the_world_are_known_without_a_network(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    # New York is five hours behind UTC in winter, four in summer.
    for utc, local in (("2017-01-01 05:00", datetime(2017, 1, 1)),  # noqa: DTZ001
                       ("2017-07-01 05:00", datetime(2017, 7, 1, 1))):  # noqa: DTZ001  # fmt: skip
        zoned = f"timezone('America/New_York', timezone('UTC', TIMESTAMP '{utc}'))"
        assert one(connection, "datetime", zoned) == (local, None)


def test_an_unknown_column_is_named_with_its_line_and_what_there_is(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    connection.execute("CREATE VIEW orders AS SELECT 1 AS order_no, 'x' AS customer_name")
    sql = "SELECT\n  order_no AS order_id,\n  custmer_name AS customer_id\nFROM orders"
    with pytest.raises(DataContractError) as caught:
        mapping.describe(connection, ORDER_LINES, sql)
    assert caught.value.reason == (
        "order_lines: column 'custmer_name' is not in the data; did you mean 'customer_name'? "
        "(line 3: custmer_name AS customer_id)"
    )
    assert caught.value.hint == "Input orders has order_no, customer_name"


def test_a_column_that_is_missing_under_the_very_name_of_the_contract_is_told(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    connection.execute("CREATE VIEW orders AS SELECT 1 AS order_id, 2 AS qty")
    sql = "SELECT\n  order_id, -- quantity follows\n  quantity AS quantity\nFROM orders"
    with pytest.raises(DataContractError) as caught:
        mapping.describe(connection, ORDER_LINES, sql)
    assert caught.value.reason == (
        "order_lines: column 'quantity' is not in the data (line 3: quantity AS quantity)"
    )


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT a FROM ordrs", 'Table with name ordrs does not exist; Did you mean "orders"?'),
        ("SELECT a + b FROM orders", "(line 1: SELECT a + b FROM orders)"),
        ("SELECT a FRM orders x y", "(line 1: SELECT a FRM orders x y)"),
    ],
)
def test_other_mistakes_are_told_with_their_line(
    connection: duckdb.DuckDBPyConnection, sql: str, told: str
) -> None:
    connection.execute("CREATE VIEW orders AS SELECT 1 AS a, DATE '2024-01-01' AS b, [1] AS c")
    with pytest.raises(DataContractError) as caught:
        mapping.describe(connection, ORDER_LINES, sql.replace("a + b", "c + b"))
    assert told.replace("a + b", "c + b") in caught.value.reason


def test_columns_that_do_not_fit_the_contract_are_all_told() -> None:
    types = dict.fromkeys(("order_id", "line_number", "customer_id", "product_id"), "BIGINT")
    types |= {"quantty": "BIGINT", "unit_price": "DOUBLE", "ordered_at": "TIMESTAMP WITH TIME ZONE"}
    told = mapping.check_columns(ORDER_LINES, types)
    assert len(told) == 3
    assert "order_lines.quantity (float: units" in told[0]
    assert "is missing in the SELECT; did you mean 'quantty'?" in told[0]
    assert "order_lines.ordered_at has a time zone" in told[1]
    assert told[2] == "order_lines.quantty is no column of the contract; did you mean 'quantity'?"


def test_the_inputs_of_a_select_are_found_in_every_corner() -> None:
    sql = """
    WITH c AS (SELECT * FROM a), b2 AS (SELECT 1)
    SELECT *, (SELECT max(x) FROM d) FROM c JOIN b2 USING (x) WHERE x IN (SELECT x FROM e)
    UNION ALL SELECT * FROM "f"
    """
    assert mapping.inputs_of(sql, dict.fromkeys("abdefz")) == ["a", "d", "e", "f"]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT 1;\nSELECT 2", "There are 2 statements"),
        ("SELECT 1,\n  FROM FROM t", "(line 2: FROM FROM t)"),
        ("DROP TABLE t", "Only SELECT statements can be serialized"),
    ],
)
def test_what_is_no_select_is_refused(sql: str, told: str) -> None:
    with pytest.raises(DataContractError) as caught:
        mapping.inputs_of(sql, {})
    assert told in str(caught.value)


def test_a_cast_that_fails_within_the_select_quotes_no_value(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    connection.execute("CREATE VIEW orders AS SELECT 'ann@example.org' AS a")
    with pytest.raises(DataContractError, match="order_lines: Could not convert string") as caught:
        rows_of(connection, ORDER_LINES, f"{LINE}, DATE '2024-01-01' + CAST(a AS INTEGER) "
                "AS ordered_at FROM orders")  # fmt: skip
    assert "example.org" not in str(caught.value)


def test_csv_files_that_differ_in_columns_are_named(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    (tmp_path / "1.csv").write_text("n,x\n1,2\n")
    (tmp_path / "2.csv").write_text("n\n1\n")
    files = tuple(sorted(tmp_path.glob("*.csv")))
    mapping.register(connection, "orders", Prepared("csv", files, {}))
    with pytest.raises(DataContractError) as caught:
        rows_of(connection, NUMBER, "SELECT n, x FROM orders")
    assert 'column "x" is missing' in caught.value.reason
    assert "2.csv" in caught.value.reason
    assert str(tmp_path) not in str(caught.value)


def test_a_text_in_the_last_line_of_the_last_file_spoils_only_its_row(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(900)))
    (tmp_path / "40.csv").write_text("n\n1\nnone\n")
    files = tuple(sorted(tmp_path.glob("*.csv")))
    mapping.register(connection, "orders", Prepared("csv", files, {}))
    rows = rows_of(connection, NUMBER, "SELECT n, NULL AS x FROM orders")
    assert len(rows) == 40 * 900 + 2
    assert [row[FAILED] for row in rows if row[FAILED]] == ["n: 'none'"]
    assert sum(row["n"] or 0 for row in rows) == 40 * 900 * 899 // 2 + 1
