"""Figures of reports: one style, drawn as SVG."""

from __future__ import annotations

import io

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

__all__ = ["BLUE", "GREY", "ORANGE", "Figure", "svg"]

# Same figure, same bytes: ids inside the SVG come from this salt, and no date is written.
mpl.rcParams.update({"svg.hashsalt": "ecom", "svg.fonttype": "path", "font.size": 9,
                     "axes.spines.top": False, "axes.spines.right": False,
                     "axes.grid": True, "grid.alpha": 0.25})  # fmt: skip
BLUE, ORANGE, GREY = "#2563eb", "#d97706", "#9ca3af"


def svg(figure: Figure) -> str:
    """Return a figure as the text of an `svg` element."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
