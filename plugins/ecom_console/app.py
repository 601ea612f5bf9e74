"""The console as one application: its pages, its own scripts, and what it says when it cannot."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response
from starlette.exceptions import HTTPException as RoutingError

from ecom_console import (
    data,
    inventory,
    overview,
    plots,
    pricing,
    published,
    recommendation,
    release,
    render,
    rights,
    whatif,
)
from ecom_tasks.artefacts.store import KeyMissingError
from ecom_tasks.errors import EcomError

_OWN = {"console.css": "text/css", "console.js": "text/javascript", "theme.js": "text/javascript"}
_HINTS = {
    401: "Log in to Airflow, then load this page again",
    403: "Ask whoever looks after Airflow for the right; nothing was changed",
    404: "Begin at the overview",
    409: "Load the page again and look at what is in service now",
    422: "Go back and correct the form",
}

app = FastAPI(
    title="ecom", docs_url=None, redoc_url=None, openapi_url=None,
    dependencies=[rights.logged_in],
)  # fmt: skip
for part in (overview, data, release, recommendation, pricing, inventory, whatif):
    app.include_router(part.router)


@app.get("/static/{name}")
def static(name: str) -> Response:
    """Hand out the console's own styles and scripts, and the plot library, to keep for a year."""
    if name == "plotly.js":
        file, kind = plots.library(), "text/javascript"
    elif name in _OWN:
        file, kind = render.HERE / "static" / name, _OWN[name]
    else:
        raise HTTPException(404, f"There is no {name}")
    headers = render.headers("default-src 'none'")
    headers["Cache-Control"] = "private, max-age=31536000, immutable"
    return FileResponse(file, media_type=kind, headers=headers)


@app.exception_handler(EcomError)
def unfit(request: Request, error: Any) -> Response:
    return render.failed(request, 503, error.reason, error.hint.rstrip("."))


@app.exception_handler(KeyMissingError)
def missing(request: Request, error: Any) -> Response:
    reason = f"It is not in the store: {error}"
    return render.failed(request, 404, reason, "It may have been removed. See the list of releases")


@app.exception_handler(published.NothingServedError)
def empty(request: Request, error: Any) -> Response:
    if request.url.path.endswith(".csv"):
        return render.failed(request, 404, f"Nothing of {error.domain} is in service", _HINTS[404])
    return render.page(request, f"{error.domain}.html", found=None)


@app.exception_handler(RoutingError)
def refused(request: Request, error: Any) -> Response:
    answer = render.failed(
        request, error.status_code, str(error.detail), _HINTS.get(error.status_code, "Try again")
    )
    answer.headers.update(error.headers or {})
    return answer


@app.exception_handler(RequestValidationError)
def odd(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    reason = f"{first['loc'][-1]}: {first['msg']}"
    return render.failed(request, 422, reason, _HINTS[422])
