"""Make the pages of Great Expectations fit for a store: nothing is loaded from elsewhere.

As they are built, the pages fetch styles, scripts and a logo from half a dozen hosts (the logo's
URL tells when and from which project), are blank without them, and differ with every build. Here
they lose all that, and get a front page of our own.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from html import escape
from itertools import count
from pathlib import Path

import polars as pl

from ecom_tasks import reports
from ecom_tasks.ingestion.verdict import Result

_LOADED_FROM_ELSEWHERE = re.compile(
    r"<script\b.*?</script>|<link\b[^>]*https?://[^>]*>|<img\b[^>]*https?://[^>]*>"
    r"|url\(\s*['\"]?https?://[^)]*\)",
    re.DOTALL,
)
_RANDOM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_BUILT_AT = re.compile(r"\b\d{8}T\d{6}\.\d{6}Z")
_STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 1rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px } nav { position: static !important }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem }
td { border-bottom: 1px solid #ccc }
.badge { font-family: monospace; white-space: pre-wrap }
</style></head>"""


def settle(pages: Path, when: str) -> None:
    """Free the pages of what is loaded from elsewhere, and of what differs with every build.

    Parameters
    ----------
    when : time that stands for the time of building, as in `20171224T000000.000000Z`.
    """
    shutil.rmtree(pages / "static")
    (pages / "index.html").unlink()  # a script fills it
    for page in sorted(pages.rglob("*.html")):
        numbers = count(1)
        names: dict[str, str] = {}

        def numbered(found: re.Match[str], names: dict[str, str] = names) -> str:
            return names.setdefault(found[0], f"id-{next(numbers)}")  # noqa: B023

        text = _LOADED_FROM_ELSEWHERE.sub("", page.read_text(encoding="utf-8"))
        text = _BUILT_AT.sub(when, _RANDOM.sub(numbered, text))
        page.write_text(text.replace("</head>", _STYLE, 1), encoding="utf-8")


def front_page(pages: Path, title: str) -> str:
    """Return a page that links to all others."""
    listed = "".join(
        f'<li><a href="{escape(path)}">{escape(path.removesuffix(".html"))}</a></li>'
        for path in sorted(page.relative_to(pages).as_posix() for page in pages.rglob("*.html"))
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'{_STYLE}<body><h1>{escape(title)}</h1><p><a href="../report.html">Report</a></p>'
        f"<ul>{listed}</ul></body></html>\n"
    )


def report(results: Sequence[Result], title: str) -> str:
    """Return one page that says what was expected and what was observed."""
    failed = [each for each in results if not each.success]
    critical = sum(each.severity == "critical" for each in failed)
    verdict = (
        f"{len(results)} expectations: {critical} critical ones and {len(failed) - critical} "
        f"others were not met. {'The day was not published.' if critical else 'The day is fit.'}"
    )
    sections = [reports.Section("Not met", table=_table(failed))] if failed else []
    tables = dict.fromkeys(each.table for each in results)
    sections += [
        reports.Section(name, table=_table([each for each in results if each.table == name]))
        for name in tables
    ]
    return reports.page(title, verdict, sections)


def _table(results: Sequence[Result]) -> pl.DataFrame:
    return pl.DataFrame({
        "table": [each.table for each in results],
        "column": [each.column for each in results],
        "about": [each.aspect for each in results],
        "severity": [each.severity for each in results],
        "met": ["yes" if each.success else "NO" for each in results],
        "expected": [each.expected for each in results],
        "observed": [each.observed for each in results],
    })
