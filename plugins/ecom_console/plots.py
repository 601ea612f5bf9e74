"""Figures as Plotly reads them: plain data, drawn by the page's script in the page's colours.

Colours are names (`accent`, `warm`, `soft`) that the script looks up in the page's styles, so that
a figure fits a light and a dark page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ecom_tasks.errors import ConfigError

Values = Iterable[Any]


def library() -> Path:
    """Return the file of Plotly's script; the Python package is not imported for it."""
    found = find_spec("plotly")
    places = list(found.submodule_search_locations or []) if found else []
    for place in places:
        file = Path(place) / "package_data" / "plotly.min.js"
        if file.is_file():
            return file
    raise ConfigError("The plot library is not installed", "Install the requirements: make setup")


def line(name: str, x: Values, y: Values, colour: str = "accent", **more: Any) -> dict[str, Any]:
    """A line through points."""
    return {"type": "scatter", "mode": "lines", "name": name, "x": list(x), "y": list(y),
            "line": {"color": colour, "width": 2} | more.pop("line", {})} | more  # fmt: skip


def dots(name: str, x: Values, y: Values, colour: str = "accent", **more: Any) -> dict[str, Any]:
    return {"type": "scatter", "mode": "markers", "name": name, "x": list(x), "y": list(y),
            "marker": {"color": colour, "size": 9} | more.pop("marker", {})} | more  # fmt: skip


def bars(name: str, x: Values, y: Values, colour: str = "accent", **more: Any) -> dict[str, Any]:
    return {"type": "bar", "name": name, "x": list(x), "y": list(y),
            "marker": {"color": colour}} | more  # fmt: skip


def band(
    name: str, x: Values, low: Values, high: Values, colour: str = "accent-soft"
) -> list[dict[str, Any]]:
    """The space between two lines."""
    edge = {"mode": "lines", "type": "scatter", "hoverinfo": "skip", "line": {"width": 0}}
    return [
        edge | {"x": list(x), "y": list(low), "showlegend": False, "name": f"{name}, lower"},
        edge
        | {"x": list(x), "y": list(high), "fill": "tonexty", "fillcolor": colour, "name": name},
    ]  # fmt: skip


def figure(
    label: str, traces: Sequence[dict[str, Any]], *, x: str = "", y: str = "", **layout: Any
) -> dict[str, Any]:
    """A figure with what it shows in words, for who cannot see it."""
    return {
        "label": label,
        "data": list(traces),
        "layout": {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}} | layout,
    }
