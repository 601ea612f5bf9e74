"""How a page is made: templates, headers, and what stands in place of a page that fails."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
MENU = {
    "": "Overview", "data": "Data", "releases": "Releases", "recommendation": "Recommendation",
    "pricing": "Pricing", "inventory": "Inventory", "whatif": "What if",
}  # fmt: skip
# Everything comes from this server. The plots set styles of their own; no script stands in a page.
_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; img-src 'self' data:;"
    " font-src 'self'; connect-src 'self'; frame-src 'self'; frame-ancestors 'self'; "
    "base-uri 'none'; form-action 'self'"
)
# A report shows names that come from a shop's data: it may draw, but run nothing.
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "frame-ancestors 'self'"
)
UNKNOWN = "\N{EN DASH}"
STARTED = secrets.token_hex(4)
"""Part of the address of styles and scripts: an upgraded server is asked for the new ones."""


def page(request: Request, template: str, *, status: int = 200, **content: Any) -> HTMLResponse:
    """Render a template; every page knows its base path and its place in the menu."""
    base = request.scope.get("root_path", "")
    here = request.url.path.removeprefix(base).strip("/").split("/")[0]
    known = {"base": base, "here": here, "menu": MENU, "started": STARTED, "status": status}
    text = _templates.get_template(template).render(**known, **content)
    return HTMLResponse(text, status_code=status, headers=headers(_POLICY))


def failed(request: Request, status: int, reason: str, hint: str) -> HTMLResponse:
    """Answer with a page that says what was wrong and what to do."""
    return page(request, "error.html", status=status, reason=reason, hint=hint)


def headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def figure(value: Any, digits: int = 4) -> str:
    """A number as people read it: thousands apart, about four digits; a dash where unknown."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if value.is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) < 1:
        return f"{value:.{digits}g}"
    return f"{value:,.{max(0, digits - len(str(int(abs(value)))))}f}"


def share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:+.1%}" if value else "0%"


def size(count: int) -> str:
    """Bytes as people read them."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def moment(text: str) -> str:
    """`2017-12-24T13:05:09+00:00` as `2017-12-24 13:05`."""
    return text[:16].replace("T", " ")


def ago(text: str) -> str:
    """How long ago a moment (ISO 8601) was, in its largest unit."""
    then = datetime.fromisoformat(text)
    seconds = (
        datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC))
    ).total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    filters: list[Callable[..., str]] = [figure, share, size, moment, ago]
    made.filters |= {each.__name__: each for each in filters}
    return made


_templates = _environment()
