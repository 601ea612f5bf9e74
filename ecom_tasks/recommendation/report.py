"""The one page that says what was learnt and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from ecom_tasks import reports
from ecom_tasks.figures import BLUE, GREY, ORANGE, Figure
from ecom_tasks.recommendation.evaluate import FREQUENCY, POPULAR, RANKER
from ecom_tasks.recommendation.network import SHARES
from ecom_tasks.reports import Section

_COLOURS = {RANKER: BLUE, FREQUENCY: ORANGE, POPULAR: GREY}
_QUESTIONS = {"all": "everything bought", "new": "products new to the customer"}
_EXAMPLES = 3


def render(
    title: str, metrics: dict[str, Any], lists: pl.DataFrame, curves: dict[str, list[float]]
) -> str:
    """Render the page.

    Parameters
    ----------
    metrics : as in the release's metrics.json
    lists : the published lists with title, reason, generator
    curves : of `ranker.choose_rounds`, and `network` of `ranker.choose_share`
    """
    windows = metrics["windows"]
    first = next(iter(windows.values()))["all"]
    gain, scores = first["gain"], first["contenders"]
    scores = {name: values["ndcg_at_10"] for name, values in first["contenders"].items()}
    verdict = (
        f"Of 1.0 that a perfect list of ten would score, these lists score {scores[RANKER]:.3f}; "
        f"repeating what each buys most scores {scores[FREQUENCY]:.3f} (gain "
        f"{gain['ndcg_at_10']:.3f}, interval {gain['lower']:.3f} to {gain['upper']:.3f}, "
        f"{first['customers']} customers)."
    )
    sections = [
        Section(
            f"Held out, {window}: {_QUESTIONS[question]}",
            "Full ranking over all products with enough customers. NDCG@10 with its interval over "
            "customers; the model saw nothing of these weeks.",
            table=_table(found),
        )
        for window, both in windows.items()
        for question, found in both.items()
    ]
    sections.insert(0, Section("NDCG@10 beside the baselines", figure=_bars(windows)))
    if any(found["customers"] for found in metrics["newcomers"].values()):
        sections.append(_newcomers(metrics["newcomers"]))
    if (
        len(metrics["cold"]["windows"]) > 1
        and len(list(metrics["cold"]["windows"].values())[-1]) > 1
    ):
        sections.append(_cold(metrics["cold"]))
    sections.append(
        Section(
            "How many trees, and what the network counts for",
            "On a window before all test windows: the negative log-likelihood of a candidate's "
            "orders by number of trees and by the share of the network beside them, where the "
            "lowest is used, and NDCG@10 by number of LambdaMART's trees on top of the others, "
            "where the highest is used.",
            figure=_curves(curves),
        )
    )
    sections.append(Section("Where the published products come from", figure=_sources(lists)))
    for customer in lists["customer_id"].unique().sort().head(_EXAMPLES):
        shown = lists.filter((pl.col("customer_id") == customer) & (pl.col("rank") <= 10))
        columns = ["rank", "title", "reason", "score"]
        sections.append(Section(f"List of customer {customer[:8]}...", table=shown.select(columns)))
    return reports.page(title, verdict, sections)


def _table(found: dict[str, Any]) -> pl.DataFrame:
    rows = [{"method": name} | values for name, values in found["contenders"].items()]
    return pl.DataFrame(rows).rename({"ndcg_at_10_lower": "lower", "ndcg_at_10_upper": "upper"})


def _bars(windows: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, question in zip(figure.subplots(1, 2), _QUESTIONS, strict=True):
        for place, found in enumerate(each.get(question) for each in windows.values()):
            for step, (name, values) in enumerate(found["contenders"].items() if found else ()):
                value = values["ndcg_at_10"]
                error = [[value - values["ndcg_at_10_lower"]], [values["ndcg_at_10_upper"] - value]]
                told = name in axes.get_legend_handles_labels()[1]
                axes.bar(place + 0.25 * step, value, 0.23, color=_COLOURS[name], yerr=error,
                         label=None if told else name)  # fmt: skip
        axes.set_xticks([place + 0.25 for place in range(len(windows))], list(windows))
        axes.set_title(_QUESTIONS[question])
        axes.margins(y=0.3)  # room for the legend
        axes.legend(fontsize=7, ncols=3, loc="upper center")
    return figure


def _curves(curves: dict[str, list[float]]) -> Figure:
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    loss = "negative log-likelihood"
    told = {
        "expected orders": (loss, "trees"),
        "LambdaMART": ("NDCG@10", "trees"),
        "network": (loss, "share of the network"),
    }
    for axes, (name, (measure, asked)) in zip(figure.subplots(1, 3), told.items(), strict=True):
        values = curves.get(name, [])
        places: Sequence[float] = range(len(values))
        if name == "expected orders":
            places = range(1, len(values) + 1)
        elif name == "network":
            places = SHARES[: len(values)]
        axes.plot(places, values)
        axes.set_title(name)
        axes.set_xlabel(asked)
        axes.set_ylabel(measure)
    return figure


def _sources(lists: pl.DataFrame) -> Figure:
    figure = Figure(figsize=(6, 2.2), layout="constrained")
    axes = figure.subplots()
    counts = lists["generator"].value_counts().sort("count", "generator")
    axes.barh(counts["generator"].to_list(), counts["count"].to_list(), color=BLUE)
    axes.set_xlabel("places in lists")
    return figure


def _newcomers(newcomers: dict[str, Any]) -> Section:
    rows = [
        {"window": window, "customers": found["customers"], "list": name} | values
        for window, found in newcomers.items()
        for name, values in found.get("contenders", {}).items()
    ]
    text = (
        "Customers whose first order lies in the window. The first list is what such a customer "
        "gets: what new customers buy, filled up with what all buy."
    )
    return Section("Customers of whom nothing is known", text, table=pl.DataFrame(rows))


def _cold(cold: dict[str, Any]) -> Section:
    (chosen_on, before), (judged_on, after) = list(cold["windows"].items())[-2:]
    names = [name for name in after if name != "customers"]
    rows = [
        {"way": name, f"chosen on {chosen_on}": before.get(name), f"judged on {judged_on}":
         after[name]}
        for name in names
    ]  # fmt: skip
    text = (
        f"Products with too little history to be ranked get the last places of each list. Of "
        f"{after['customers']:.0f} customers who bought such a product, the share that found one "
        f"among theirs, for each way of choosing them. In use: {cold['chosen']}, the best of the "
        "window before."
    )
    return Section("Products with little history", text, table=pl.DataFrame(rows))
