"""Read the answer to a database query, streamed, into Parquet files."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import polars as pl
import sqlalchemy
from sqlalchemy import exc

from ecom_tasks.errors import ConfigError, DataContractError, EcomError, RetryableError
from ecom_tasks.ingestion.sources import Input

ROWS_AT_ONCE = 50_000
_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mssql": "mssql+pyodbc",
}
# Faults that time does not heal, though drivers class them with the outages.
_MISSING = re.compile(r"no such (table|column)")
_DENIED = re.compile(r"authentication|password|permission|denied|does not exist|unable to open")


@dataclass(frozen=True)
class Extract:
    """What a query answered.

    Attributes
    ----------
    files : Parquet files; empty where no folder was given.
    rows : number of rows.
    digest : 16 hex digits over the rows, in whatever order they came.
    """

    files: tuple[Path, ...]
    rows: int
    digest: str


def url_of(source_input: Input) -> sqlalchemy.URL:
    """Return the database's URL, from the source file or an `AIRFLOW_CONN_...` variable.

    Raises
    ------
    ConfigError
        A variable that is named is not set, or holds no URL.
    """
    if source_input.connection:
        return _airflow_connection(source_input.connection)
    text = re.sub(r"\$\{(\w+)\}", lambda match: quote(_variable(match[1]), ""), source_input.url)
    try:
        url = sqlalchemy.make_url(text)
    except exc.ArgumentError as error:
        raise ConfigError(
            f"{source_input.url!r} is no SQLAlchemy URL",
            "Write for example postgresql+psycopg://reader:${SHOP_PASSWORD}@host:5432/shop",
        ) from error
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def _variable(name: str) -> str:
    if name not in os.environ:
        raise ConfigError(f"The source's url needs the variable {name}", f"Set {name}")
    return os.environ[name]


def _airflow_connection(name: str) -> sqlalchemy.URL:
    variable = f"AIRFLOW_CONN_{name.upper()}"
    text = os.environ.get(variable, "")
    if not text:
        raise ConfigError(
            f"The connection {name!r} is not known: {variable} is not set",
            f"Set {variable}=postgres://user:password@host:5432/database",
        )
    if text.lstrip().startswith("{"):
        return _from_json(name, text)
    try:
        return _from_uri(text)
    except (ValueError, TypeError, exc.ArgumentError) as error:
        # Without the original, which may quote the password.
        raise ConfigError(
            f"{variable} is no connection URI",
            f"Set {variable}=postgres://user:password@host:5432/database, with special "
            "characters as %40 and the like",
        ) from error


def _from_uri(text: str) -> sqlalchemy.URL:
    parts = urlsplit(text)
    if not parts.scheme:
        raise ValueError("no scheme")
    # Not `parts.hostname`, which is lower case: a host may be the folder of a socket.
    host = unquote(parts.netloc.rpartition("@")[2].split(":")[0])
    options = {name: value for name, value in parse_qsl(parts.query) if name != "__extra__"}
    return _url(
        parts.scheme,
        parts.username and unquote(parts.username),
        parts.password and unquote(parts.password),
        (host, parts.port),
        unquote(parts.path.lstrip("/")),
        options,
    )


def _from_json(name: str, text: str) -> sqlalchemy.URL:
    try:
        fields = json.loads(text)
        extra = fields.get("extra") or {}
        options = json.loads(extra) if isinstance(extra, str) else extra
        return _url(
            fields["conn_type"],
            fields.get("login"),
            fields.get("password"),
            (fields.get("host"), fields.get("port")),
            fields.get("schema"),
            {key: value for key, value in options.items() if isinstance(value, str)},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"AIRFLOW_CONN_{name.upper()} is no JSON of a connection",
            'Write {"conn_type": "postgres", "host": ..., "login": ..., "password": ..., '
            '"schema": ...}',
        ) from error


def _url(
    kind: str,
    user: str | None,
    password: str | None,
    host: tuple[str | None, int | None],
    database: str | None,
    options: dict[str, str],
) -> sqlalchemy.URL:
    return sqlalchemy.URL.create(
        _DRIVERS.get(kind, kind),
        username=user or None,
        password=password or None,
        host=host[0] or None,
        port=host[1],
        database=database or None,
        query=options,
    )


def read_query(name: str, source_input: Input, as_of: date, folder: Path | None = None) -> Extract:
    """Run the query and stream its answer; into Parquet files where a `folder` is given.

    Parameters
    ----------
    name : of the input, for messages.
    as_of : value of `:as_of` in the query.

    Raises
    ------
    ConfigError
        The database denies access, or the driver is not installed.
    DataContractError
        The query fails: a table or column is missing.
    RetryableError
        The database cannot be reached.
    """
    files: list[Path] = []
    typed: set[str] = set()
    count, total = 0, 0
    columns: list[str] = []
    for columns, rows in _chunks(name, source_input, as_of):
        count += len(rows)
        # A sum of row hashes, since a database promises no order.
        total += sum(map(_row_hash, rows))
        if folder is not None and rows:
            # A column of nulls has no type yet; left out, the other chunks decide.
            chunk = _frame(columns, rows).select(pl.exclude(pl.Null))
            typed.update(chunk.columns)
            files.append(folder / f"{name}-{len(files):05}.parquet")
            chunk.write_parquet(files[-1], compression="lz4")
    if folder is not None and (untyped := [each for each in columns if each not in typed]):
        files.append(folder / f"{name}-untyped.parquet")
        pl.DataFrame(schema=dict.fromkeys(untyped, pl.String)).write_parquet(files[-1])
    return Extract(tuple(files), count, f"{total % 2**64:016x}")


def _row_hash(row: Sequence[Any]) -> int:
    return int.from_bytes(hashlib.blake2b(repr(tuple(row)).encode(), digest_size=8).digest())


def _chunks(
    name: str, source_input: Input, as_of: date
) -> Iterator[tuple[list[str], Sequence[Sequence[Any]]]]:
    values = {"as_of": as_of} if re.search(r"(?<!:):as_of\b", source_input.query) else {}
    with _translated(name), _connected(source_input) as connection:
        answer = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(
            sqlalchemy.text(source_input.query), values
        )
        columns = list(answer.keys())
        yield columns, []
        for rows in answer.partitions():
            yield columns, rows


@contextmanager
def _connected(source_input: Input) -> Iterator[sqlalchemy.Connection]:
    engine = sqlalchemy.create_engine(url_of(source_input), poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _frame(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    by_column = zip(*rows, strict=True)
    return pl.DataFrame(
        {column: _plain(list(values)) for column, values in zip(columns, by_column, strict=True)},
        strict=False,
        infer_schema_length=None,
    )


def _plain(values: list[Any]) -> list[Any]:
    """Turn what drivers hand out (decimals, identifiers, documents) into what Parquet holds."""
    sample = next((value for value in values if value is not None), None)
    if isinstance(sample, Decimal):
        return _numbers(values)
    if isinstance(sample, dict | list):
        return [None if value is None else json.dumps(value, default=str) for value in values]
    if sample is None or isinstance(sample, _STORABLE):
        return values
    return [None if value is None else str(value) for value in values]


def _numbers(values: list[Any]) -> list[Any]:
    known = [value for value in values if value is not None]
    if any(value != value.to_integral_value() for value in known):
        return [None if value is None else float(value) for value in values]
    # Article numbers are often stored as numeric(20, 0): as floats they would lose digits.
    if all(abs(value) < _INT64 for value in known):
        return [None if value is None else int(value) for value in values]
    return [None if value is None else f"{value:f}" for value in values]


_INT64 = 2**63
_STORABLE = (bool, int, float, str, date)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except (exc.NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            f"No driver for the database of input {name!r}: {error}",
            "Install it, or name one in the url (postgresql+psycopg://...)",
        ) from error
    except exc.StatementError as error:
        raise _told(name, error) from error


def _told(name: str, error: exc.StatementError) -> EcomError:
    told = " ".join(str(error.orig or error).split())
    outage = isinstance(error, exc.OperationalError | exc.InterfaceError)
    if outage and _DENIED.search(told):
        return ConfigError(
            f"The database of input {name!r} denies access: {told}",
            "Check user, password and database of its url or connection",
        )
    if outage and not _MISSING.search(told):
        return RetryableError(
            f"The database of input {name!r} cannot be reached: {told}",
            "See whether it runs and accepts connections from here",
        )
    return DataContractError(
        f"The query of input {name!r} fails: {told}",
        "Look whether a table or column was renamed, and correct the query",
    )
