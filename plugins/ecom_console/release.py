"""Releases: every version with its verdict, and for each its files, origin and differences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlencode

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi import Path as UrlPath
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ecom_console import graph, grids, plots, published, render, rights, runs
from ecom_console.grids import Choice, Column
from ecom_console.published import Version
from ecom_tasks.artefacts.compare import differences
from ecom_tasks.artefacts.manifest import MANIFEST
from ecom_tasks.artefacts.release import PENDING, PRODUCTION, Pointer
from ecom_tasks.artefacts.store import KeyMissingError, open_store
from ecom_tasks.domains import RELEASING

if TYPE_CHECKING:
    import polars as pl

REPORT = "report.html"
_LINK_VALID_S = 300
_SHOWN_BYTES = 200_000
LIST = (
    Column("version", "Version", "code", "releases/{domain}/{version}"),
    Column("domain", "Domain", "badge"),
    Column("standing", "Standing", "date"),
    Column("metric", "Headline", "title"),
    Column("value", "Value", "number"),
    Column("baseline", "Plain baseline", "number"),
    Column("rows", "Rows", "number"),
    Column("made", "Made (UTC)", "date"),
    Column("reasons", "Why refused", "long"),
)
LIST_FILTERS = (Choice("domain", "Domain"), Choice("standing", "Standing"))
DIFFERENCES = (
    Column("part", "Part", "badge"),
    Column("what", "What", "title"),
    Column("first", "In service", "mono"),
    Column("second", "This version", "mono"),
)
Domain = Annotated[str, UrlPath(pattern=r"^[a-z][a-z0-9_]*$")]
Number = Annotated[str, UrlPath(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Action = Literal["promote", "approve", "rollback"]

router = APIRouter(prefix="/releases")
of_domain = [Depends(rights.reads_domain)]


@router.get("", response_class=HTMLResponse)
def list_page(request: Request, user: GetUserDep) -> HTMLResponse:
    """List every version of the domains that the user may read, the newest first."""
    seen = [each for each in RELEASING if rights.may(rights.reads_domain, each, request, user)]
    if not seen:
        raise HTTPException(403, "You may read no domain's DAG")
    table = grids.grid(
        listing(seen), LIST, request.query_params, sort="made", search=("version",),
        choices=LIST_FILTERS,
    )  # fmt: skip
    return render.page(request, "releases.html", grid=table)


@router.get("/{domain}/{number}", response_class=HTMLResponse, dependencies=of_domain)
def page(
    request: Request, user: GetUserDep, domain: Domain, number: Number, asked: str = ""
) -> HTMLResponse:
    """Show one version, and what may be done with it."""
    found = published.version(f"artefacts/{domain}", number)
    pointing = published.pointers(found.made.name)
    production = pointing.get(PRODUCTION)
    served = _served(found, production)
    changed = compared(served, found)
    return render.page(
        request, "release.html", domain=domain, number=number, made=found.made,
        standing=standing(found, pointing), channels=_channels(found, pointing),
        actions=actions(found, production, pointing.get(PENDING))
        if rights.may(rights.moves, request, user) else [],
        token=rights.form_token(user), asked=asked,
        asked_state=runs.state(rights.PROMOTION, asked) if asked else "",
        served=served.made if served else None, metrics=metrics(found, served),
        over_time=over_time(published.versions(found.made.name), found, production),
        lineage=graph.lineage(found), report=found.has(REPORT),
        history=production.history if production else [],
        grid=grids.grid(changed, DIFFERENCES, request.query_params, sort="", search=("what",),
                        choices=[Choice("part", "Part")]) if changed.height else None,
        manifest=_pretty(found),
    )  # fmt: skip


@router.post(
    "/{domain}/{number}/move",
    dependencies=[*of_domain, Depends(rights.moves), Depends(rights.meant)],
)
def move(
    request: Request,
    user: GetUserDep,
    domain: Domain,
    number: Number,
    action: Annotated[Action, Form()],
) -> Response:
    """Ask for a move: the workers do it, in the user's name, and the page follows."""
    found = published.version(f"artefacts/{domain}", number)
    pointing = published.pointers(found.made.name)
    offered = actions(found, pointing.get(PRODUCTION), pointing.get(PENDING))
    if action not in [each["action"] for each in offered]:
        raise HTTPException(
            409, f"{number} cannot be moved so: somebody was faster, or it was refused"
        )
    run_id = runs.order_move({"domain": domain, "action": action, "version": number}, user)
    base = request.scope.get("root_path", "")
    where = f"{base}/releases/{domain}/{number}?{urlencode({'asked': run_id})}"
    return RedirectResponse(where, status_code=303)


@router.get("/{domain}/{number}/report.html", response_class=HTMLResponse, dependencies=of_domain)
def report(domain: Domain, number: Number) -> HTMLResponse:
    """Hand out the report as it was published."""
    found = published.version(f"artefacts/{domain}", number)
    if not found.has(REPORT):
        raise HTTPException(404, f"{domain} {number} has no report")
    text = published.read(found, REPORT)
    return HTMLResponse(text, headers=render.headers(render.REPORT_POLICY))


@router.get("/{domain}/{number}/files/{path:path}", dependencies=of_domain)
def file(domain: Domain, number: Number, path: str) -> Response:
    """Hand out one file: by an address of the store that is valid for minutes, where it can."""
    found = published.version(f"artefacts/{domain}", number)
    if path != MANIFEST and not found.has(path):
        raise HTTPException(404, f"{domain} {number} has no file {path}")
    name = f"{domain}-{number}-{path.replace('/', '-')}"
    link = getattr(open_store(found.folder), "link", None)
    if link is not None:
        return RedirectResponse(link(path, name, _LINK_VALID_S), status_code=303)
    headers = render.headers("sandbox; default-src 'none'")
    headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return Response(
        published.read(found, path), media_type="application/octet-stream", headers=headers
    )


def listing(domains: Sequence[str]) -> pl.DataFrame:
    """Return a row for each finished version of the domains."""
    import polars as pl

    rows = []
    for domain in domains:
        pointing = published.pointers(f"artefacts/{domain}")
        for found in published.versions(f"artefacts/{domain}"):
            made, headline = found.made, found.made.headline
            refused = made.gate is not None and not made.gate.accepted
            rows.append({
                "version": made.version, "domain": domain, "standing": standing(found, pointing),
                "metric": headline.metric if headline else None,
                "value": headline.value if headline else None,
                "baseline": headline.baseline if headline else None,
                "rows": headline.rows if headline else made.rows,
                "made": render.moment(made.provenance.created_at),
                "reasons": "; ".join(made.gate.reasons) if made.gate and refused else "",
            })  # fmt: skip
    kinds = {column.name: pl.String for column in LIST}
    return pl.DataFrame(
        rows, schema=kinds | {"value": pl.Float64, "baseline": pl.Float64, "rows": pl.Int64}
    )


def standing(found: Version, pointing: Mapping[str, Pointer]) -> str:
    """Say in a word where a version stands: in service, a channel's, refused, or nothing."""
    here = _channels(found, pointing)
    if PRODUCTION in here:
        return "in service"
    if PENDING in here:
        return "waits for approval"
    if found.made.gate and not found.made.gate.accepted:
        return "refused"
    return ", ".join(here)


def _channels(found: Version, pointing: Mapping[str, Pointer]) -> list[str]:
    here = [name for name, pointer in pointing.items() if pointer.version == found.made.version]
    # What waits in `pending` waits no more once it is in service.
    return sorted(here if PRODUCTION not in here else {*here} - {PENDING})


def _served(found: Version, production: Pointer | None) -> Version | None:
    """Return the version in service where it is another one."""
    if production is None or production.version == found.made.version:
        return None
    try:
        return published.version(found.made.name, production.version)
    except KeyMissingError:
        return None


def actions(
    found: Version, production: Pointer | None, pending: Pointer | None
) -> list[dict[str, str]]:
    """Return what may be done with a version now: each with its words."""
    made = found.made
    if production and production.version == made.version:
        earlier = [move.version for move in production.history if move.version != made.version]
        if not earlier:
            return []
        return [{"action": "rollback", "says": "Roll back", "to": f"to {earlier[0]}"}]
    if made.gate and not made.gate.accepted:
        return []
    if pending and pending.version == made.version:
        return [{"action": "approve", "says": "Approve", "to": "and put into service"}]
    return [{"action": "promote", "says": "Put into service", "to": ""}]


def metrics(found: Version, served: Version | None) -> list[dict[str, Any]]:
    """Return each figure of the version, beside that of the version in service."""
    own, other = _numbers(found.made.metrics), _numbers(served.made.metrics) if served else {}
    return [
        {"name": name, "value": own.get(name), "served": other.get(name)}
        for name in sorted(own.keys() | other.keys())
    ]


def _numbers(content: Any, prefix: str = "") -> dict[str, float]:
    if isinstance(content, dict):
        found: dict[str, float] = {}
        for key, value in content.items():
            found |= _numbers(value, f"{prefix}, {key}" if prefix else str(key))
        return found
    plain = isinstance(content, int | float) and not isinstance(content, bool)
    return {prefix: content} if plain else {}


def over_time(
    versions: Sequence[Version], found: Version, production: Pointer | None
) -> dict[str, Any] | None:
    """Return the headline of every version in the order they were made, with their baselines."""
    headline = found.made.headline
    if headline is None or len(versions) < 2:
        return None
    told = [each for each in reversed(versions)
            if each.made.headline and each.made.headline.metric == headline.metric]  # fmt: skip
    names = [each.made.version for each in told]
    shown = [
        f"{render.moment(each.made.provenance.created_at)}<br>{each.made.as_of}" for each in told
    ]
    places = list(range(len(told)))
    values = [each.made.headline.value for each in told if each.made.headline]
    base = [each.made.headline.baseline for each in told if each.made.headline]
    traces = [
        plots.line("version", places, values, "accent", mode="lines+markers", text=names),
        plots.line(
            "plain baseline", places, base, "faint", mode="lines+markers", line={"dash": "dot"}
        ),
    ]
    if production and production.version in names:
        at = names.index(production.version)
        traces.append(plots.dots("in service", [at], [values[at]], "warm", marker={"size": 12}))
    at = names.index(found.made.version)
    traces.append(
        plots.dots(
            "this version",
            [at],
            [values[at]],
            "text",
            marker={"symbol": "circle-open", "size": 18, "line": {"width": 2}},
        )
    )
    step = max(1, len(told) // 6)
    return plots.figure(
        f"{headline.metric} of {len(told)} versions, this one {headline.value:.4g}", traces,
        hovermode="closest",
        xaxis={"tickvals": places[::step], "ticktext": shown[::step],
               "range": [-0.5, len(told) - 0.5], "zeroline": False},
    )  # fmt: skip


def compared(served: Version | None, found: Version) -> pl.DataFrame:
    """Return what differs from the version in service: data, code, settings, columns."""
    import polars as pl

    rows = []
    if served is not None:
        trees = [[each.made for each in graph.walk(start)] for start in (served, found)]
        told = [
            asdict(each) for each in differences(*trees) if each.part not in {"metrics", "files"}
        ]
        rows = [{name: _short(value) for name, value in each.items()} for each in told]
    return pl.DataFrame(rows, schema=dict.fromkeys(("part", "what", "first", "second"), pl.String))


def _short(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def _pretty(found: Version) -> str:
    text = json.dumps(json.loads(found.made.to_bytes()), indent=2)
    return text if len(text) <= _SHOWN_BYTES else f"{text[:_SHOWN_BYTES]}\n..."
