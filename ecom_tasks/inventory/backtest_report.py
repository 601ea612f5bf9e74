"""The one page that shows what a backtest of forecasts found."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from ecom_tasks import reports
from ecom_tasks.figures import BLUE, GREY, ORANGE, Figure
from ecom_tasks.inventory.backtest import ETS, LEVELS, SEASONAL, Judged
from ecom_tasks.reports import Section

_FANS = 6
_PERIODS_SHOWN = 60
_COMPARED = ("mase", "rmsse", "wrmsse", "smape", "wape", "wmae")


def render(judged: Judged, title: str) -> str:
    """Render the page.

    Parameters
    ----------
    judged : of `backtest.run`
    title : what was judged, for example `Backtest of sales.parquet, 13 periods ahead`
    """
    figures = judged.figures
    sections = [
        Section(
            "Beside plain and classical methods",
            "Means over the test windows, each forecast from earlier periods only. Absolute errors "
            "judge the median, squared errors and bias the mean. `best of statsforecast` takes the "
            "least figure of any of its methods, metric by metric, with hindsight.",
            figure=_bars(figures),
            table=_table(figures),
        ),
        Section(
            "Do the intervals hold?",
            "Share of what came that lies within each central interval; on the diagonal it is as "
            "it should be.",
            figure=_coverage(figures),
        ),
        Section("The largest series: what came, what was forecast", figure=_fans(judged)),
        Section("Each test window", table=_windows(figures)),
    ]
    return reports.page(title, _verdict(figures), sections)


def _verdict(figures: dict[str, Any]) -> str:
    added = figures["forecast_value_added"]
    parts = [
        f"{name} {figures['model'][name]:.4g}"
        + (f" ({added[name]:+.1%} beside seasonal naive)" if added[name] is not None else "")
        for name in ("smape", "mase", "wrmsse", "wmae")
        if figures["model"][name] is not None
    ]
    return f"{figures['series']:,} series, {figures['horizon']} periods ahead: " + ", ".join(parts)


def _table(figures: dict[str, Any]) -> pl.DataFrame:
    methods = {"this model": figures["model"]} | figures["baselines"]
    return pl.DataFrame(
        [
            {"method": name} | {metric: values[metric] for metric in (*_COMPARED, "bias")}
            for name, values in methods.items()
        ],
        infer_schema_length=None,
    )


def _bars(figures: dict[str, Any]) -> Figure:
    """Draw each method's error as a share of seasonal naive's."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.add_subplot()
    plain = figures["baselines"][SEASONAL]
    shown = [name for name in _COMPARED if plain[name] and figures["model"][name] is not None]
    rivals = {"this model": (figures["model"], BLUE)}
    if ETS in figures["baselines"]:
        rivals[ETS] = (figures["baselines"][ETS], ORANGE)
    rivals[SEASONAL] = (plain, GREY)
    place = np.arange(len(shown))
    for number, (name, (values, colour)) in enumerate(rivals.items()):
        shares = [(values[metric] or np.nan) / plain[metric] for metric in shown]
        axes.bar(place + 0.27 * (number - 1), shares, 0.25, label=name, color=colour)
    axes.set_xticks(place, shown)
    axes.set_ylabel("share of seasonal naive")
    axes.legend(fontsize=8)
    return figure


def _coverage(figures: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(4, 3.5), layout="constrained")
    axes = figure.add_subplot()
    known = {float(k): v for k, v in figures["coverage"].items() if v is not None}
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=0.8)
    axes.plot(list(known), list(known.values()), color=BLUE, marker="o")
    axes.set_xlabel("nominal")
    axes.set_ylabel("observed")
    return figure


def _fans(judged: Judged) -> Figure:
    panel = judged.panel
    counted = np.where(panel.known(), panel.units, np.nan)
    largest = np.argsort(-panel.sales.sum(axis=1), kind="stable")[:_FANS]
    figure = Figure(figsize=(9, 7), layout="constrained")
    for number, row in enumerate(largest.tolist()):
        axes = figure.add_subplot(3, 2, number + 1)
        start = max(0, panel.periods - _PERIODS_SHOWN)
        axes.plot(np.arange(start, panel.periods), counted[row, start:], color=GREY, linewidth=1)
        for each in judged.forecasts:
            ahead = np.arange(each.origin, each.origin + each.mean.shape[1])
            quantiles = each.quantiles[row]
            for low, high, strength in ((0.01, 0.99, 0.15), (0.1, 0.9, 0.3)):
                axes.fill_between(
                    ahead, quantiles[:, LEVELS.index(low)], quantiles[:, LEVELS.index(high)],
                    color=BLUE, alpha=strength, linewidth=0,
                )  # fmt: skip
            axes.plot(ahead, quantiles[:, LEVELS.index(0.5)], color=BLUE, linewidth=1)
        name = " ".join(str(each) for each in panel.keys.row(row))
        axes.set_title(name.replace("$", r"\$"), fontsize=8)
        axes.tick_params(labelsize=7)
    return figure


def _windows(figures: dict[str, Any]) -> pl.DataFrame:
    rows = [
        {"periods known": each["origin"], "80% interval": each["coverage"]["0.8"]}
        | {metric: each["model"][metric] for metric in _COMPARED}
        | {f"seasonal naive, {m}": each["baselines"][SEASONAL][m] for m in ("smape", "wmae")}
        for each in figures["windows"]
    ]
    return pl.DataFrame(rows, infer_schema_length=None)
