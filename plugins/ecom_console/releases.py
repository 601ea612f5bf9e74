"""The page of releases: what was published, how good it is, which version is in service.

Airflow mounts plugins without asking who calls, so every route depends on `GetUserDep`. Airflow
shows the page in a frame that may open no window: reports open inside it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import FastAPI
from fastapi import Path as UrlPath
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ecom_tasks.errors import ConfigError, EcomError

REPORT = "report.html"
# The page may run its own script and show reports; nothing comes from elsewhere.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; "
    "frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
# A report shows names that come from a shop's data: it may draw, but run nothing.
_REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "frame-ancestors 'self'"
)
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
)
Domain = Annotated[str, UrlPath(pattern=r"^[a-z][a-z0-9_]*$")]
Version = Annotated[str, UrlPath(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

app = FastAPI(title="ecom", docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/releases", response_class=HTMLResponse)
def releases(_: GetUserDep) -> HTMLResponse:
    """List every published version, newest first, domain by domain."""
    from ecom_tasks.artefacts.release import listing

    try:
        found = listing(_root())
    except EcomError as error:
        return _page("releases.html", 503, domains={}, error=error)
    domains: dict[str, list[Any]] = {}
    for each in found:
        domains.setdefault(each.name.rpartition("/")[2], []).append(each)
    return _page("releases.html", 200, domains=domains, error=None)


@app.get("/releases/{domain}/{version}", response_class=HTMLResponse)
def release(_: GetUserDep, domain: Domain, version: Version) -> HTMLResponse:
    """Show the report of one version."""
    return _page("release.html", 200, domain=domain, version=version)


@app.get("/releases/{domain}/{version}/report.html", response_class=HTMLResponse)
def report(_: GetUserDep, domain: Domain, version: Version) -> HTMLResponse:
    """Hand out the report as it was published."""
    from ecom_tasks.artefacts.store import KeyMissingError, open_store

    try:
        data = open_store(_root()).read(f"artefacts/{domain}/v/{version}/{REPORT}").data
    except KeyMissingError:
        missing = ConfigError(
            f"{domain} {version} has no report", "Was the version removed? See the list"
        )
        return _page("error.html", 404, error=missing)
    except EcomError as error:
        return _page("error.html", 503, error=error)
    return HTMLResponse(data, headers=_headers(_REPORT_POLICY))


def _root() -> str:
    root = os.environ.get("ECOM_ROOT", "")
    if not root:
        raise ConfigError(
            "No place for artefacts is named", "Set ECOM_ROOT for the API server, and restart it"
        )
    return root


def _page(template: str, status: int, **content: Any) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    text = _TEMPLATES.get_template(template).render(**content, nonce=nonce)
    headers = _headers(_PAGE_POLICY.format(nonce=nonce))
    return HTMLResponse(text, status_code=status, headers=headers)


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
