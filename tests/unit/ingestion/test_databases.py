"""Connections by URL and by name, and streamed answers; on SQLite, which is always there."""

from __future__ import annotations

import sqlite3
from datetime import date
from pathlib import Path

import duckdb
import pytest

from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.ingestion import databases
from ecom_tasks.ingestion.inputs import Prepared
from ecom_tasks.ingestion.mapping import register
from ecom_tasks.ingestion.sources import Input

AS_OF = date(2024, 3, 31)


def by_name() -> Input:
    return Input(connection="shop_db", query="select 1")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgres://ann:s%40crt@db:5433/shop", "postgresql+psycopg://ann:s%40crt@db:5433/shop"),
        ("postgresql://db/shop", "postgresql+psycopg://db/shop"),
        ("mysql://u@h/d", "mysql+pymysql://u@h/d"),
        ("postgres://u@%2FTmp%2FData/d", "postgresql+psycopg://u@/Tmp/Data/d"),
        ("postgres://h/d?sslmode=require&__extra__=%7B%7D",
         "postgresql+psycopg://h/d?sslmode=require"),
        ('{"conn_type": "postgres", "host": "h", "login": "u", "password": "p", "port": 1, '
         '"schema": "d", "extra": {"sslmode": "require", "n": 1}}',
         "postgresql+psycopg://u:p@h:1/d?sslmode=require"),
    ],
)  # fmt: skip
def test_an_airflow_connection_becomes_a_url(
    text: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", text)
    assert databases.url_of(by_name()).render_as_string(hide_password=False) == url


@pytest.mark.parametrize("text", ["secret", '{"conn_type"', '{"host": "h"}', "pg://u:secret@h:x/d"])
def test_what_is_no_connection_is_refused_without_quoting_it(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", text)
    with pytest.raises(ConfigError, match="AIRFLOW_CONN_SHOP_DB is no") as caught:
        databases.url_of(by_name())
    assert "secret" not in str(caught.value)


def test_an_unknown_connection_is_told_its_variable() -> None:
    with pytest.raises(ConfigError, match="AIRFLOW_CONN_SHOP_DB is not set"):
        databases.url_of(by_name())


def test_secrets_of_a_url_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    url = Input(url="postgresql://ann:${SHOP_PASSWORD}@db/shop", query="select 1")
    with pytest.raises(ConfigError, match="needs the variable SHOP_PASSWORD"):
        databases.url_of(url)
    monkeypatch.setenv("SHOP_PASSWORD", "s@crt/1")
    made = databases.url_of(url)
    assert (made.password, made.host, made.drivername) == ("s@crt/1", "db", "postgresql+psycopg")


def database(folder: Path, *statements: str) -> str:
    file = folder / "shop.db"
    with sqlite3.connect(file) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return f"sqlite:///{file}"


def test_the_order_of_rows_does_not_change_the_digest_but_a_value_does(tmp_path: Path) -> None:
    url = database(
        tmp_path, "create table t (a, b)", "insert into t values (1, 'x'), (2, 'y'), (2, 'y')"
    )

    def digest(query: str) -> str:
        return databases.read_query("t", Input(url=url, query=query), AS_OF).digest

    assert digest("select * from t order by a") == digest("select * from t order by a desc")
    assert digest("select * from t") != digest("select a, 'x' from t")
    assert digest("select * from t") != digest("select distinct * from t")


def test_columns_find_their_type_over_all_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "ROWS_AT_ONCE", 2)
    url = database(
        tmp_path,
        "create table t (late, mixed, never)",
        "insert into t values (null, 1, null), (null, 2, null), (null, 2.5, null), (7, 3, null)",
    )
    read = databases.read_query("t", Input(url=url, query="select * from t"), AS_OF, tmp_path)
    assert read.rows == 4
    with duckdb.connect() as connection:
        register(connection, "t", Prepared("parquet", read.files, {}, by_name=True))
        rows = connection.execute("select late, mixed, never from t order by mixed").fetchall()
    assert rows == [(None, 1.0, None), (None, 2.0, None), (None, 2.5, None), (7, 3.0, None)]


def test_no_rows_still_have_columns(tmp_path: Path) -> None:
    url = database(tmp_path, "create table t (a, b)")
    read = databases.read_query("t", Input(url=url, query="select * from t"), AS_OF, tmp_path)
    with duckdb.connect() as connection:
        register(connection, "t", Prepared("parquet", read.files, {}, by_name=True))
        assert connection.execute("select a, b from t").fetchall() == []


def test_the_day_of_the_run_bounds_the_query(tmp_path: Path) -> None:
    url = database(
        tmp_path, "create table t (day)", "insert into t values ('2024-03-31'), ('2024-04-01')"
    )
    query = "select day, '12:30' as at from t where day <= :as_of"
    assert databases.read_query("t", Input(url=url, query=query), AS_OF).rows == 1


def test_a_failing_query_is_told(tmp_path: Path) -> None:
    source_input = Input(url=database(tmp_path), query="select * from nowhere")
    with pytest.raises(DataContractError, match="The query of input 't' fails: no such table"):
        databases.read_query("t", source_input, AS_OF)


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(ConfigError, match="No driver for the database of input 't'"):
        databases.read_query("t", Input(url="mysql://u@127.0.0.1/d", query="select 1"), AS_OF)
