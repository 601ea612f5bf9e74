"""How the shop stands: what is in service, how good it is, how fresh the data is."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from ecom_console import published, render, rights, runs
from ecom_console.published import Version
from ecom_tasks.artefacts.release import PENDING, PRODUCTION, Pointer
from ecom_tasks.domains import RELEASING

router = APIRouter()


@router.get("/", response_class=HTMLResponse)
def page(request: Request, user: GetUserDep) -> HTMLResponse:
    """Show what the user may read: the state of each domain, and of the data."""
    seen = [each for each in RELEASING if rights.may(rights.reads_domain, each, request, user)]
    domains = [domain(each) | {"runs": runs.last(each)} for each in seen]
    lake = rights.may(rights.reads("ingestion").dependency, request, user)
    found = data(datetime.now(UTC).date()) if lake else None
    if found:
        found["runs"] = runs.last("ingestion")
    return render.page(request, "overview.html", domains=domains, data=found)


def domain(name: str) -> dict[str, Any]:
    """Say how a domain stands: its version in service beside its baseline and the one before."""
    full = f"artefacts/{name}"
    pointing = published.pointers(full)
    pointer, made = pointing.get(PRODUCTION), published.numbers(full)
    now = published.or_none(full, pointer.version) if pointer else None
    earlier = [move.version for move in pointer.history] if pointer else []
    # The last in service before this one that retention has left.
    others = (version for version in earlier if pointer and version != pointer.version)
    before = next((v for each in others if (v := published.or_none(full, each))), None)
    newest = published.of_newest_day(full, made)
    refused = newest if newest and newest.made.gate and not newest.made.gate.accepted else None
    return {
        "domain": name,
        "now": facts(now) if now else None,
        "moved_at": pointer.moved_at if pointer else "",
        "moved_by": pointer.history[0].by if pointer and pointer.history else "",
        "previous": facts(before) if before else None,
        "versions": len(made),
        "refused": facts(refused) if refused else None,
        "pending": waiting(pointing.get(PENDING), pointer),
    }


def facts(found: Version) -> dict[str, Any]:
    """Return what lists say of a version."""
    made = found.made
    return {
        "version": made.version,
        "as_of": made.as_of.isoformat(),
        "created_at": made.provenance.created_at,
        "headline": made.headline,
        "gate": made.gate,
        "link": f"releases/{made.name.rpartition('/')[2]}/{made.version}",
    }


def waiting(pending: Pointer | None, in_service: Pointer | None) -> dict[str, Any] | None:
    """Return the version that waits for approval; None where nobody need approve anything."""
    if pending is None or (in_service and in_service.version == pending.version):
        return None
    found = published.or_none(pending.name, pending.version)
    return facts(found) if found else None


def data(today: date) -> dict[str, Any] | None:
    """Say how fresh and sound the validated tables of the newest day are; None before the first."""
    lake = published.newest_day("lake/all")
    if lake is None:
        return None
    docs = published.ancestor(lake, "lake/data_docs")
    tables = [
        {"rows": counts["rows_published"], "quarantined": counts["rows_quarantined"]}
        for counts in lake.made.metrics.values()
        if counts
    ]  # fmt: skip
    return {
        "as_of": lake.made.as_of.isoformat(),
        "age_days": (today - lake.made.as_of).days,
        "created_at": lake.made.provenance.created_at,
        "tables": tables,
        "rows": sum(each["rows"] for each in tables),
        "quarantined": sum(each["quarantined"] for each in tables),
        "checks": docs.made.metrics if docs else {},
    }
