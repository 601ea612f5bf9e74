"""The page an operator looks at: what was promised, what came, what has moved."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import polars as pl

from ecom_tasks import reports
from ecom_tasks.figures import BLUE, GREY, ORANGE, Figure
from ecom_tasks.monitoring.config import MonitoringConfig
from ecom_tasks.monitoring.findings import ALERT, NOTHING_YET, WARNING
from ecom_tasks.reports import Section

_DRIFTED = 25


def render(
    as_of: date,
    found: pl.DataFrame,
    tables: dict[str, pl.DataFrame],
    facts: dict[str, Any],
    config: MonitoringConfig,
) -> str:
    """Render the page.

    Parameters
    ----------
    found : see `findings.judge`
    tables : drift and realised_forecasts, realised_recommendations, realised_prices
    facts : judged and realised, as measured
    """
    judged = ", ".join(f"{domain} of {v[:10]}" for domain, v in facts["judged"].items())
    sections = [
        Section(
            "Findings",
            f"Judged: {judged or 'nothing yet'}. Alerts come first.",
            table=found.select("verdict", "domain", "what", "where", "value", "limit"),
        )
    ]
    loud = pl.col("verdict").is_in([ALERT, WARNING])
    for heading, some in (
        ("Alerts: what they mean, what to do", pl.col("verdict") == ALERT),
        ("Warnings: what they mean", pl.col("verdict") == WARNING),
        ("The others, in words", ~loud),
    ):
        rows = found.filter(some, pl.col("said") != "")
        if rows.height:
            words = rows.select("domain", "what", pl.col("said").alias("in words"))
            sections.append(Section(heading, table=words))
    for make in (_forecasts, _lists, _prices):
        sections += make(tables, facts)
    drift = tables["drift"]
    if drift.height:
        sections += _drift(drift, config)
    return reports.page(f"Monitoring as of {as_of}", _verdict(found), sections)


def _verdict(found: pl.DataFrame) -> str:
    counts = dict(found["verdict"].value_counts().iter_rows())
    if counts.get(NOTHING_YET, 0) == found.height:
        return "Nothing to judge yet: no release is old enough for its promises to have come true."
    if not counts.get(ALERT):
        more = f"; {counts[WARNING]} to look at" if counts.get(WARNING) else ""
        return f"No alert{more}."
    domains = ", ".join(found.filter(verdict=ALERT)["domain"].unique().sort())
    retrained = found.filter("retrain")["domain"].unique().sort()
    trained = f" Trained anew: {', '.join(retrained)}." if len(retrained) else ""
    return f"{counts[ALERT]} alerts ({domains}), {counts.get(WARNING, 0)} warnings.{trained}"


def _forecasts(tables: dict[str, pl.DataFrame], facts: dict[str, Any]) -> list[Section]:
    table = tables["realised_forecasts"]
    if table.is_empty():
        return []
    promised = facts["realised"]["inventory"]["promised"]
    weeks = table.filter(part="week")
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    at = np.arange(weeks.height)
    left.bar(at - 0.2, weeks["forecast"], 0.38, color=ORANGE, label="forecast")
    left.bar(at + 0.2, weeks["units"], 0.38, color=BLUE, label="sold")
    left.set_ylabel("units")
    right.plot(at, weeks["wape"], color=BLUE, marker="o", label="WAPE")
    right.plot(at, weeks["coverage"], color=ORANGE, marker="o", label="covered by 80% interval")
    for name, colour in (("wape", BLUE), ("coverage", ORANGE)):
        if promised[name] is not None:
            right.axhline(promised[name], color=colour, linestyle="--", linewidth=1)
    right.set_ylim(0, max(1.0, float(np.nanmax(weeks["wape"].to_numpy()))) * 1.15)
    for axes in (left, right):
        axes.set_xticks(at, weeks["of"], fontsize=7)
        axes.margins(y=0.25)
        axes.legend(fontsize=7, ncols=2, loc="upper center")
    return [
        Section("Forecasts and what sold, by week", "Dashed: what the backtest promised.", figure),
        Section(
            "By department",
            "Bias is the share forecast too much. WAPE is lower where many units are sold.",
            table=table.filter(part="department").drop("part").sort("units", descending=True),
        ),
    ]


def _lists(tables: dict[str, pl.DataFrame], facts: dict[str, Any]) -> list[Section]:
    table = tables["realised_recommendations"]
    if table.is_empty():
        return []
    figures = facts["realised"]["recommendation"]
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = ["realised", *(window[:10] for window in figures["promised"])]
    rates = [figures["hit_rate"], *(w["hit_rate_at_10"] for w in figures["promised"].values())]
    ndcg = [figures["ndcg"], *(w["ndcg_at_10"] for w in figures["promised"].values())]
    at = np.arange(len(names))
    reach = np.array([
        [figures["hit_rate"] - figures["hit_rate_lower"]],
        [figures["hit_rate_upper"] - figures["hit_rate"]],
    ])  # fmt: skip
    left.bar(at - 0.2, rates, 0.38, color=[BLUE, *[GREY] * (len(names) - 1)])
    left.errorbar([-0.2], rates[:1], yerr=reach, color="black", capsize=3)
    left.bar(at + 0.2, ndcg, 0.38, color=[ORANGE, *["#d1d5db"] * (len(names) - 1)])
    left.set_xticks(at, names, fontsize=7)
    left.set_title("hit rate (left) and NDCG at 10, promised: grey", fontsize=8)
    places = table.filter(part="place")
    right.bar(places["of"], places["share"], color=BLUE)
    right.set_title("share bought since, by place in the list", fontsize=8)
    return [
        Section(
            "Lists and what was bought",
            f"Orders from {figures['since']} to {figures['until']}, as long as the windows that "
            "the release was evaluated on.",
            figure,
        ),
        Section("By where a product came from", table=table.filter(part="generator").drop("part")),
    ]


def _prices(tables: dict[str, pl.DataFrame], facts: dict[str, Any]) -> list[Section]:
    table = tables["realised_prices"]
    if "pricing" not in facts["realised"] or table.is_empty():
        return []
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for outside, colour, label in ((False, BLUE, "within"), (True, ORANGE, "outside")):
        some = table.filter(outside=outside)
        axes.scatter(some["expected"] + 1, some["units"] + 1, s=9, color=colour, alpha=0.6,
                     label=f"{label} ({some.height})")  # fmt: skip
    most = float(np.nanmax([table["expected"].max(), table["units"].max()])) + 1
    axes.plot([1, most], [1, most], color=GREY, linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("units expected + 1")
    axes.set_ylabel("units sold + 1")
    axes.legend(fontsize=7)
    far = (pl.col("units") - pl.col("expected")).abs()
    return [
        Section(
            "Prices that were set as proposed",
            "Expected at the level at which products with an unchanged price sold. The interval "
            "holds the doubt about the elasticity and the spread of units at unchanged prices.",
            figure,
        ),
        Section("Furthest from what was expected",
                table=table.filter("outside").sort(far, descending=True)),
    ]  # fmt: skip


def _drift(drift: pl.DataFrame, config: MonitoringConfig) -> list[Section]:
    name = pl.concat_str("table", "column", separator=".")
    columns = (
        drift
        .with_columns(name.alias("name"))
        .unique("name", keep="first", maintain_order=True)
        .sort("psi", descending=True, nulls_last=True)
    )
    shown = columns.filter(pl.col("psi").is_not_null()).head(_DRIFTED).reverse()
    figure = Figure(figsize=(8, 0.8 + 0.19 * shown.height), layout="constrained")
    axes = figure.subplots()
    colours = [GREY if each in config.growing else BLUE for each in shown["name"]]
    axes.barh(shown["name"], shown["psi"], color=colours)
    for limit in (config.stability_warning, config.stability_alert):
        axes.axvline(limit, color=ORANGE, linestyle="--", linewidth=1)
    axes.set_xlabel("population stability index; grey: grows with the history, not judged")
    axes.tick_params(axis="y", labelsize=7)
    table = columns.select(
        "table", "column", "psi", "psi_by_chance", "js_distance", "missing_before", "missing_now",
        "new_share", "new_categories",
    )  # fmt: skip
    return [
        Section(
            "What has drifted",
            "Today's features against those of the judged release, and the predictions of the two "
            "newest releases before today. Dashed: warning and alert.",
            figure,
        ),
        Section("All columns", table=table),
    ]
