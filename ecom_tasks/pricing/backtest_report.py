"""The backtest's one page: elasticities with intervals, cross effects, what cannot be told."""

from __future__ import annotations

from typing import Any

import polars as pl

from ecom_tasks.figures import BLUE, GREY, ORANGE, Figure
from ecom_tasks.pricing.evidence import CANNOT_TELL, STRONG, WEAK
from ecom_tasks.reports import Section, page

_COLOURS = {STRONG: BLUE, WEAK: ORANGE, CANNOT_TELL: GREY}
_SHOWN = 60


def render(title: str, found: dict[str, Any]) -> str:
    """Return the page as self-contained HTML; `found` is what `backtest.run` returns first."""
    return page(title, _verdict(found), [_own(found), _shrunk(found), _cross(found), _tests(found)])


def _verdict(found: dict[str, Any]) -> str:
    pooled = found["pooled"]
    if pooled["estimate"] is None:
        return str(pooled["refused"])
    placebo = pooled["placebo"]
    grades = ", ".join(f"{count} {grade}" for grade, count in pooled["grades"].items())
    return (
        f"Over all products a price 1% higher changes units by {pooled['estimate']:.2f}% "
        f"({pooled['lower']:.2f} to {pooled['upper']:.2f}); plain least squares says "
        f"{pooled['plain_log_log_fixed_effects']:.2f}. Next week's price explains "
        f"{placebo['estimate']:.2f}, where it should explain nothing. Evidence: {grades}."
    )


def _known(found: dict[str, Any]) -> list[dict[str, Any]]:
    known = [row for row in found["products"] if row["estimate"] is not None]
    return sorted(known, key=lambda row: (row["estimate"], row["product"]))


def _own(found: dict[str, Any]) -> Section:
    shown = _known(found)[:_SHOWN]
    figure = Figure(figsize=(7, 0.6 + 0.17 * max(len(shown), 3)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=1)
    for place, row in enumerate(shown):
        colour = _COLOURS[row["grade"]]
        axes.plot([row["lower"], row["upper"]], [place, place], color=colour)
        axes.plot(row["estimate"], place, "o", color=colour, markersize=4)
    axes.set_yticks(range(len(shown)), [row["product"][:40] for row in shown], fontsize=6)
    axes.set_xlabel("own-price elasticity")
    columns = ["product", "estimate", "lower", "upper", "weight_borrowed", "grade", "why"]
    table = pl.DataFrame(
        [{name: row[name] for name in columns} for row in found["products"]],
        infer_schema_length=None,
    )
    return Section(
        "How buyers of each product answer",
        "Blue: strong evidence, orange: weak, grey: cannot tell. Borrowed is the share of an "
        "answer that comes from its category.",
        figure,
        table,
    )


def _shrunk(found: dict[str, Any]) -> Section:
    known = [row for row in _known(found) if row["own_estimate"] is not None]
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.axline((-2, -2), slope=1, color=GREY, linewidth=1)
    axes.plot([row["own_estimate"] for row in known], [row["estimate"] for row in known], "o",
              color=BLUE, markersize=3)  # fmt: skip
    axes.set_xlabel("from its own weeks alone")
    axes.set_ylabel("published")
    return Section(
        "What borrowing changes",
        "A dot off the line was drawn towards its category: its own weeks say little.",
        figure,
    )


def _cross(found: dict[str, Any]) -> Section:
    if not found["cross"]:
        return Section("Whose price moves whose units", "No cross effect was found beyond chance.")
    table = pl.DataFrame(found["cross"], infer_schema_length=None)
    return Section(
        "Whose price moves whose units",
        "Above zero: substitutes, buyers change over when the other gets dearer. "
        "Below: complements.",
        table=table.select("product", "price_of", "estimate", "lower", "upper", "signs_agree"),
    )


def _tests(found: dict[str, Any]) -> Section:
    if not found["price_tests"]:
        return Section("Price tests", "No product needs one.")
    table = pl.DataFrame(found["price_tests"], infer_schema_length=None)
    return Section(
        "Price tests that would tell",
        "Locations change between the two prices in turn.",
        table=table.select("product_id", "low", "high", "locations", "weeks", "power", "enough"),
    )
