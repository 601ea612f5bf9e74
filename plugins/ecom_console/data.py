"""Data: which tables there are, what was put aside and why, which expectations held, what moved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from fastapi import Path as UrlPath
from fastapi.responses import HTMLResponse, Response

from ecom_console import drift, grids, plots, published, render, rights
from ecom_console.grids import Choice, Column
from ecom_console.published import Version
from ecom_tasks.tables import TABLES

if TYPE_CHECKING:
    import polars as pl

ALL = "lake/all"
_DAYS_SHOWN = 60
TABLE_COLUMNS = (
    Column("table", "Table", "title", "data/table/{table}?day={day}"),
    Column("rows", "Rows", "number"),
    Column("quarantined", "Quarantined", "number"),
    Column("share", "Share", "number"),
    Column("partitions", "Files", "number"),
    Column("bytes", "Size", "text"),
    Column("version", "Version", "code"),
)
CHECKS = (
    Column("outcome", "Outcome", "badge"),
    Column("table", "Table"),
    Column("column", "Column", "mono"),
    Column("aspect", "Aspect"),
    Column("expected", "Expected", "long"),
    Column("observed", "Observed", "title"),
    Column("severity", "Severity"),
)
CHECK_FILTERS = (Choice("outcome", "Outcome"), Choice("table", "Table"), Choice("aspect", "Aspect"))
Table = Annotated[str, UrlPath(pattern=r"^[a-z][a-z_]*$")]
Number = Annotated[str, UrlPath(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

router = APIRouter(prefix="/data", dependencies=[rights.reads("ingestion")])


@router.get("", response_class=HTMLResponse)
def page(request: Request, day: str = "") -> HTMLResponse:
    """Show the tables of a day, by default the newest, and how the days compare."""
    known = published.days(ALL)
    if not known:
        return render.page(request, "data.html", day=None)
    chosen = day if day in known else max(known)
    found = known[chosen]
    docs = published.ancestor(found, "lake/data_docs")
    return render.page(
        request, "data.html", day=chosen, days=sorted(known, reverse=True)[:_DAYS_SHOWN],
        tables=tables(found, chosen), columns=TABLE_COLUMNS,
        docs=docs.made.version if docs else "", judged=docs.made.metrics if docs else {},
        over_time=over_time(known),
        grid=grids.grid(checks(docs), CHECKS, request.query_params, sort="",
                        search=("expected", "observed", "column"), choices=CHECK_FILTERS)
        if docs else None,
    )  # fmt: skip


@router.get("/table/{table}", response_class=HTMLResponse)
def table_page(request: Request, table: Table, day: str = "") -> HTMLResponse:
    """Show one table: its columns, what was put aside and why, and what moved."""
    if table not in TABLES:
        raise HTTPException(404, f"There is no table {table}")
    lake = published.in_channel(ALL, day) if day else published.newest_day(ALL)
    found = published.ancestor(lake, f"lake/{table}") if lake else None
    if lake is None or found is None:
        raise HTTPException(404, f"No day {day} of {table} is published")
    aside = quarantine(found)
    rows = quarantined(aside) if aside else None
    return render.page(
        request, "data_table.html", table=table, day=lake.made.as_of.isoformat(), made=found.made,
        counts=found.made.metrics, columns=column_types(found),
        drift=drift.of_table(found), days=(drift.REFERENCE_DAYS, drift.RECENT_DAYS),
        sampled=aside is not None and rows is not None
        and rows.height < found.made.metrics.get("rows_quarantined", 0),
        grid=grids.grid(rows, _columns_of(rows), request.query_params, sort="",
                        search=[name for name in rows.columns if name.endswith("_id")],
                        choices=[Choice("reason", "Reason")])
        if rows is not None and rows.height else None,
    )  # fmt: skip


@router.get("/docs/{number}/{path:path}", response_class=HTMLResponse)
def docs_file(number: Number, path: str) -> Response:
    """Hand out a page of the Data Docs as it was written; it may draw, but run nothing."""
    found = published.version("lake/data_docs", number)
    if not found.has(path) or not path.endswith(".html"):
        raise HTTPException(404, f"The Data Docs {number} have no page {path}")
    return HTMLResponse(published.read(found, path), headers=render.headers(render.REPORT_POLICY))


def tables(lake: Version, day: str) -> list[dict[str, Any]]:
    """Return a row for each table of the contract, those that the source does not have last."""
    rows = []
    for name, counts in lake.made.metrics.items():
        ref = lake.made.inputs.get(f"lake/{name}")
        found = published.by_ref(ref) if ref else None
        read = counts.get("rows_read", 0)
        rows.append({
            "table": name, "day": day, "given": bool(counts),
            "rows": counts.get("rows_published"), "read": read,
            "quarantined": counts.get("rows_quarantined"),
            "share": f"{counts['rows_quarantined'] / read:.2%}" if read else None,
            "partitions": len(found.made.files) if found else 0,
            "bytes": render.size(sum(file.bytes for file in found.made.files)) if found else None,
            "version": found.made.version if found else None,
        })  # fmt: skip
    return sorted(rows, key=lambda row: not row["given"])


def over_time(known: Mapping[str, Version]) -> dict[str, Any] | None:
    """Return, day by day, the share of rows put aside and how many expectations failed."""
    shown = sorted(known)[-_DAYS_SHOWN:]
    if len(shown) < 2:
        return None
    shares, failed = [], []
    for day in shown:
        counts = [each for each in known[day].made.metrics.values() if each]
        read = sum(each["rows_read"] for each in counts)
        aside = sum(each["rows_quarantined"] for each in counts)
        shares.append(round(100 * aside / read, 4) if read else None)
        docs = published.ancestor(known[day], "lake/data_docs")
        judged = docs.made.metrics if docs else {}
        failed.append(judged.get("critical_failures", 0) + judged.get("warnings", 0))
    return plots.figure(
        f"{len(shown)} days: at most {max(s for s in shares if s is not None):.2f}% of rows put "
        f"aside, at most {max(failed)} expectations not held",
        [
            plots.line("% of rows quarantined", shown, shares, mode="lines+markers"),
            plots.bars("expectations not held", shown, failed, "warm", yaxis="y2"),
        ],
        yaxis={"title": {"text": "% of rows"}, "rangemode": "tozero"},
        yaxis2={"overlaying": "y", "side": "right", "showgrid": False, "rangemode": "tozero",
                "title": {"text": "expectations"}},
    )  # fmt: skip


def checks(docs: Version) -> pl.DataFrame:
    """Return each expectation of a day with its outcome, those not held first."""
    import polars as pl

    def make() -> pl.DataFrame:
        kinds = dict.fromkeys(
            ("outcome", "table", "column", "aspect", "expected", "observed", "severity"), pl.String
        )
        rows = [
            {name: each.get(name) for name in kinds}
            | {"outcome": "held" if each["success"] else
               "failed" if each["severity"] == "critical" else "warning"}
            for each in json.loads(published.read(docs, "result.json"))
        ]  # fmt: skip
        order = {"failed": 0, "warning": 1, "held": 2}
        return pl.DataFrame(sorted(rows, key=lambda row: order[str(row["outcome"])]), schema=kinds)

    return published.derived(docs, "checks", make)


def quarantine(found: Version) -> Version | None:
    """Return what was put aside when the table was made: the same inputs name it."""
    table = found.made.name.rpartition("/")[2]
    aside = published.in_channel(f"quarantine/{table}", found.made.as_of.isoformat())
    same = aside is not None and aside.made.inputs == found.made.inputs
    return aside if same else None


def quarantined(aside: Version) -> pl.DataFrame | None:
    """Return rows that were put aside, from the first of its files; reason and detail first."""
    import polars as pl

    paths = [file.path for file in aside.made.files if file.path.endswith(".parquet")]
    if not paths:
        return None
    rows = published.frame(aside, paths[0])
    first = [name for name in ("reason", "detail") if name in rows.columns]
    shown = rows.select(*first, pl.exclude(first))
    return shown.with_columns(pl.col(pl.Datetime).dt.strftime("%Y-%m-%d %H:%M"))


def _columns_of(rows: pl.DataFrame) -> list[Column]:
    made = []
    for name, kind in rows.schema.items():
        number = kind.is_numeric()
        if name in {"reason", "detail"} or rows[name].count():
            made.append(Column(name, name.replace("_", " "), "number" if number else
                               "title" if name == "reason" else "text"))  # fmt: skip
    return made


def column_types(found: Version) -> dict[str, str]:
    """Return the columns that the manifest attests, with their types."""
    described = (file.columns for file in found.made.files if file.columns)
    return next(described, {})
