"""One-page HTML reports: self-contained, with figures as SVG, readable in light and dark.

Nothing is loaded from anywhere, so that a report opens offline and years later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
from jinja2 import Environment
from markupsafe import Markup

if TYPE_CHECKING:
    from ecom_tasks.figures import Figure

_ROWS_SHOWN = 40


@dataclass(frozen=True)
class Section:
    """One heading with a text, a figure, a table, or all three."""

    heading: str
    text: str = ""
    figure: Figure | None = None
    table: pl.DataFrame | None = None


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --line: #d1d5db; --soft: #6b7280; --card: #ffffff; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #111827; background: #f9fafb; }
h1 { font-size: 1.5rem; margin-bottom: .25rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
.verdict { font-size: 1.05rem; border-left: 4px solid #2563eb; padding: .5rem 1rem; margin: 1rem 0;
           background: var(--card); color: #111827 }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
        border-radius: 6px; padding: .5rem }
table { border-collapse: collapse; font-size: 13px; width: 100%; color: #111827 }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line) }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
td:not(.number) { min-width: 8rem }
svg { max-width: 100%; height: auto; display: block }
p.soft { color: var(--soft); font-size: 13px }
@media (prefers-color-scheme: dark) {
  body { color: #e5e7eb; background: #111827 } .verdict, .wide { --card: #f3f4f6 }
  :root { --soft: #9ca3af }
}
</style></head><body>
<h1>{{ title }}</h1>
<p class="verdict">{{ verdict }}</p>
{% for section in sections %}
<section><h2>{{ section.heading }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% if section.figure %}<div class="wide">{{ svg(section.figure) }}</div>{% endif %}
{% if section.table is not none %}<div class="wide"><table>
<thead><tr>{% for name in section.table.columns %}
<th class="{{ kind(section.table, name) }}" scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in section.table.head(rows_shown).iter_rows() %}
<tr>{% for value in row %}
<td class="{{ kind(section.table, section.table.columns[loop.index0]) }}">{{ cell(value) }}</td>
{%- endfor %}</tr>{% endfor %}</tbody></table></div>
{% if section.table.height > rows_shown %}<p class="soft">{{ rows_shown }} of
{{ section.table.height }} rows; all of them stand in the release's files.</p>{% endif %}
{% endif %}</section>
{% endfor %}</body></html>
"""


def page(title: str, verdict: str, sections: list[Section]) -> str:
    """Render a report.

    Parameters
    ----------
    title : what and when, for example `Pricing as of 2017-12-24`.
    verdict : the result in one or two sentences; a reader may stop here.
    sections : in the order of reading. Of a long table the first 40 rows are shown.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_PAGE).render(
        title=title, verdict=verdict, sections=sections, svg=_svg, kind=_kind, cell=_cell,
        rows_shown=_ROWS_SHOWN,
    )  # fmt: skip


def _svg(figure: Figure) -> Markup:
    # Whoever has a figure has loaded what draws it; a page of tables needs none of it.
    from ecom_tasks import figures

    return Markup(figures.svg(figure))  # noqa: S704  (drawn by matplotlib, texts as paths)


def _kind(table: pl.DataFrame, name: str) -> str:
    return "number" if table.schema[name].is_numeric() else ""


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.4f}" if abs(value) < 10 else f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
