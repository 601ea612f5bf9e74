"""Hold tables against their suites with Great Expectations, over DuckDB views of Parquet files."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when it is imported

import duckdb
import great_expectations as gx
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.exceptions.exceptions import GreatExpectationsError
from great_expectations.execution_engine import sqlalchemy_execution_engine as engine
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.query_metric_provider import QueryMetricProvider

from ecom_tasks.errors import MAX_EXAMPLES, ConfigError
from ecom_tasks.ingestion import documents
from ecom_tasks.ingestion.suites import Suite
from ecom_tasks.ingestion.verdict import Result
from ecom_tasks.tables import TABLES, Table

log = logging.getLogger(__name__)
DOCUMENTS = "data_docs"
_MEMORY = "600MB"
"""That DuckDB may use before it spills to disk."""
_SQL_TYPES = {
    "string": "VARCHAR", "float": "DOUBLE", "int": "BIGINT", "bool": "BOOLEAN", "date": "DATE",
    "datetime": "TIMESTAMP",
}  # fmt: skip


class _Dialect(StrEnum):
    DUCKDB = "duckdb"


# Unexpected rows are read after the connection was given back, which only dialects of this list
# survive; DuckDB is not on it.
_PERSISTED = "_PERSISTED_CONNECTION_DIALECTS"
setattr(engine, _PERSISTED, (*getattr(engine, _PERSISTED), _Dialect.DUCKDB))


logging.getLogger("great_expectations").setLevel(logging.ERROR)  # it warns of what comes now


class _RowsAtFault(QueryMetricProvider):
    """Takes the place of the rows at fault, so that each query of a suite runs once, not twice.

    Great Expectations counts them, and reads them besides for a form of result that is not asked
    for here: `_with_rows` reads those few that are shown.
    """

    metric_name = "unexpected_rows_query.table"
    value_keys = ("unexpected_rows_query",)

    @metric_value(engine=engine.SqlAlchemyExecutionEngine)
    def _sqlalchemy(cls, *_: object, **__: object) -> list[dict[str, Any]]:  # noqa: N805
        return []


def validate(
    lake: Mapping[str, Path], suites: Mapping[str, Suite], as_of: datetime, out: Path
) -> list[Result]:
    """Evaluate the suites of the tables that have rows, and write Data Docs.

    Parameters
    ----------
    lake : folder of Parquet files of each table that has rows.
    suites : expectations of every table.
    as_of : time under which the documents file the validation.
    out : folder that gets `report.html`, and the Data Docs below `data_docs/`.
    """
    with tempfile.TemporaryDirectory(prefix="ecom-gx-") as scratch:
        database = Path(scratch) / "lake.duckdb"
        with duckdb.connect(str(database)) as connection:
            _define_views(connection, lake)
        results = _run(database, {name: suites[name] for name in lake}, as_of, out / DOCUMENTS)
        with duckdb.connect(
            config={"memory_limit": _MEMORY, "temp_directory": f"{scratch}/spill"}
        ) as connection:
            _define_views(connection, lake)
            found = [_with_rows(connection, result, raw) for result, raw in results]
    _document(found, as_of, out)
    return found


def _document(results: Sequence[Result], as_of: datetime, out: Path) -> None:
    title = f"Validation as of {as_of.date()}"
    documents.settle(out / DOCUMENTS, as_of.strftime("%Y%m%dT%H%M%S.%fZ"))
    front = documents.front_page(out / DOCUMENTS, title)
    (out / DOCUMENTS / "index.html").write_text(front, encoding="utf-8")
    (out / "report.html").write_text(documents.report(results, title), encoding="utf-8")


def _define_views(connection: duckdb.DuckDBPyConnection, lake: Mapping[str, Path]) -> None:
    for table in TABLES.values():
        connection.execute(_view(table, lake.get(table.name)))


def _view(table: Table, folder: Path | None) -> str:
    if folder is None:
        # Suites of other tables may refer to it: it is there, and empty.
        columns = ", ".join(f'"{each.name}" {_SQL_TYPES[each.type]}' for each in table.columns)
        return f'CREATE TABLE "{table.name}" ({columns})'
    files = f"{folder}/**/*.parquet"
    return (
        f'CREATE VIEW "{table.name}" AS '
        f"SELECT * FROM read_parquet('{files}', hive_partitioning = false)"
    )


def _run(
    database: Path, suites: Mapping[str, Suite], as_of: datetime, pages: Path
) -> list[tuple[Result, dict[str, Any]]]:
    # Without this it makes a folder for pages, and a line in the log of where.
    stores = InMemoryStoreBackendDefaults()
    context = gx.get_context(
        mode="ephemeral", project_config=DataContextConfig(store_backend_defaults=stores)
    )
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(pages)}
    context.variables.data_docs_sites = {
        "local_site": {"class_name": "SiteBuilder", "store_backend": backend}
    }
    source = context.data_sources.add_or_update_sql(
        "lake", connection_string=f"duckdb:///{database}?memory_limit={_MEMORY}"
    )
    definitions = []
    for name, expectations in suites.items():
        batch = source.add_table_asset(name, table_name=name).add_batch_definition_whole_table(
            "all"
        )
        suite = context.suites.add_or_update(_suite(name, expectations))
        definitions.append(
            context.validation_definitions.add_or_update(
                gx.ValidationDefinition(name=name, data=batch, suite=suite)
            )
        )
    checkpoint = context.checkpoints.add_or_update(
        gx.Checkpoint(
            name="lake", validation_definitions=definitions, actions=[], result_format="BASIC"
        )
    )
    answer = checkpoint.run(run_id=RunIdentifier(run_name="lake", run_time=as_of))
    context.build_data_docs()
    return [
        _result(validation.suite_name, each)
        for validation in answer.run_results.values()
        for each in validation.results
    ]


def _suite(name: str, expectations: Suite) -> Any:
    try:
        suite = gx.ExpectationSuite(name=name, expectations=list(expectations))
        told = ""
    except (ValueError, TypeError, GreatExpectationsError) as error:
        suite, told = None, " ".join(str(error).split())
    # One of an unknown type is left out with no more than a line in the log.
    if suite is None or len(suite.expectations) != len(expectations):
        types = ", ".join(sorted({each["type"] for each in expectations}))
        raise ConfigError(
            f"The suite of {name} is not understood by Great Expectations: "
            f"{told or f'one of these types is not known: {types}'}",
            f"Correct expectations/{name}.json, or the shop's own suite of that name",
        )
    return suite


def _result(table: str, raw: Any) -> tuple[Result, dict[str, Any]]:
    configuration = raw.expectation_config
    kwargs, meta = dict(configuration.kwargs), dict(configuration.meta or {})
    columns = meta.get("column") or kwargs.get("column") or kwargs.get("column_list") or ""
    result = Result(
        table=table,
        expectation=configuration.type,
        severity=str(getattr(configuration.severity, "value", configuration.severity)),
        success=bool(raw.success),
        aspect=meta.get("aspect", ""),
        column=columns if isinstance(columns, str) else ", ".join(columns),
        expected=meta.get("expected", ""),
        observed=_observed(raw.to_json_dict()["result"], raw.exception_info),
    )
    return result, {**kwargs, "rows": meta.get("rows", "")}


def _observed(result: Mapping[str, Any], exception: Mapping[str, Any] | None) -> str:
    for told in (exception or {}, *(exception or {}).values()):
        if isinstance(told, Mapping) and told.get("raised_exception"):
            message = str(told.get("exception_message")).strip().split("\n")[0]
            return f"nothing: it could not be evaluated ({message})"
    if "unexpected_count" in result:
        return f"{result['unexpected_count']:,} of {result['element_count']:,} rows at fault"
    return str(result.get("observed_value"))


def _with_rows(
    connection: duckdb.DuckDBPyConnection, result: Result, raw: Mapping[str, Any]
) -> Result:
    """Add up to five rows at fault, which the checkpoint itself does not give."""
    if result.success:
        return result
    if query := raw.get("unexpected_rows_query"):
        rows = _fetch(connection, query.format(batch=result.table))
        compared = len(rows) == 1 and not set(rows[0]) <= set(TABLES[result.table].column_names)
        observed = ", ".join(f"{name} {value}" for name, value in rows[0].items()) if rows else ""
        told = observed if compared else result.observed + " rows at fault" * bool(rows)
        return result.model_copy(update={"rows": rows, "observed": told})
    if condition := raw["rows"]:
        selected = f'SELECT * FROM "{result.table}" WHERE {condition.format(table=result.table)}'
        return result.model_copy(update={"rows": _fetch(connection, selected)})
    return result


def _fetch(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    try:
        # Ordered, so that the same data shows the same rows.
        relation = connection.sql(f"SELECT * FROM ({query}) ORDER BY ALL LIMIT {MAX_EXAMPLES}")
    except duckdb.Error:
        return []  # the expectation says itself that it could not be evaluated
    names = relation.columns
    return [
        {
            name: value.isoformat() if isinstance(value, date) else value
            for name, value in zip(names, row, strict=True)
        }
        for row in relation.fetchall()
    ]
