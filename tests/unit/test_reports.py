"""Reports: everything shown, nothing executed, nothing loaded, same bytes each time."""

from __future__ import annotations

import re

import polars as pl

from ecom_tasks.figures import Figure
from ecom_tasks.reports import Section, page


def report() -> str:
    figure = Figure(figsize=(3, 2), layout="constrained")
    axes = figure.subplots()
    axes.plot([1, 2], [3, 4], label="demand")
    axes.legend()
    table = pl.DataFrame({"name": ["<script>alert(1)</script>"] * 41, "value": [1.5] * 41,
                          "gap": [None] * 41})  # fmt: skip
    return page("Pricing & more", "It <works>", [Section("Demand", "text", figure, table)])


def test_same_content_same_bytes() -> None:
    assert report() == report()


def test_content_is_shown_and_never_executed() -> None:
    html = report()
    assert "Pricing &amp; more" in html
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 40
    assert "40 of" in html
    assert "<svg" in html


def test_nothing_is_loaded_from_elsewhere() -> None:
    loaded = re.findall(r'(?:src|href)="(?!#)([^"]*)"|url\((?!#)([^)]*)\)', report())
    assert loaded == []
