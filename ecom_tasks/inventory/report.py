"""One page that says how good the forecasts are, and what to order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.dates import date2num

from ecom_tasks import reports
from ecom_tasks.figures import BLUE, GREY, ORANGE, Figure
from ecom_tasks.inventory import exceptions
from ecom_tasks.inventory.calibrate import Array
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.evaluate import HEADLINE, Window, actual, best_baseline
from ecom_tasks.inventory.panel import Panel
from ecom_tasks.inventory.series import ALL_LOCATIONS
from ecom_tasks.reports import Section

_FANS = 6
_DAYS_SHOWN = 26 * 7
_ORDERS = 25
_EXCEPTIONS = 10
_TITLE = 50


def render(
    panel: Panel,
    windows: list[Window],
    tables: dict[str, pl.DataFrame],
    facts: dict[str, Any],
    config: InventoryConfig,
) -> str:
    """Render the report.

    Parameters
    ----------
    windows : test windows and, last, the forecast of the release.
    tables : `orders`, `policy` and `exceptions` of the release.
    facts : `as_of`, `scores` (`evaluate.score`), `service` (`service.judge`) and `assumptions`.
    """
    scores = facts["scores"]
    *tests, release = windows
    sections = [
        Section(
            "Forecasts beside plain methods",
            "WRMSSE weighs each series by its sales of the last four weeks; 1 is as bad as "
            f"repeating the last {config.period}, one {config.period} ahead. Bias is the share "
            f"forecast too much. Means of all test windows, each forecast from earlier "
            f"{config.period}s only.",
            table=_methods(scores),
        ),
        Section("Each test window", table=_windows(scores)),
        Section(
            "The best sellers: what came, what was forecast, what is forecast",
            "Bands: central 80% (dark) and 98% or the widest there is (light). Behind the dashed "
            f"line lie the {config.period}s of this release.",
            figure=_fans(panel, tests, release, tables["policy"]["title"].to_list(), config),
        ),
        Section(
            "Do the intervals hold?",
            f"Share of the {config.period}s in the test windows that fell below each forecast "
            "quantile; on the diagonal it is as it should be. Those without sales lie below or on "
            "a quantile of zero, which lifts the left end. " + _coverage(scores),
            figure=_calibration(panel, tests, config),
        ),
        *_service(facts["service"], config),
        *_exceptions(tables["exceptions"]),
        Section("Largest orders by value", _orders_text(tables["orders"]),
                table=_orders(tables["orders"])),
        Section("What was assumed", table=pl.DataFrame({"assumption": facts["assumptions"]})),
    ]  # fmt: skip
    return reports.page(
        f"Inventory as of {facts['as_of']}", _verdict(scores, tables["orders"]), sections
    )


def _verdict(scores: dict[str, Any], orders: pl.DataFrame) -> str:
    name, plain = best_baseline(scores)
    own = scores["model"][HEADLINE]
    # A rejected model has a report too; where a plain method never errs there is no share.
    by = f"{abs(1 - own / plain):.0%} " if plain else ""
    return (
        f"The forecasts miss {by}{'less' if own < plain else 'more'} than the best plain method "
        f"(WRMSSE {own:.3f}, {name} {plain:.3f}){_added(scores)}. "
        f"{orders.height:,} order proposals."
    )


def _added(scores: dict[str, Any]) -> str:
    added = scores.get("forecast_value_added", {})
    share = added.get(HEADLINE)
    return "" if share is None else f"; {share:+.0%} value added over {added['over']}"


def _coverage(scores: dict[str, Any]) -> str:
    parts = (f"{float(level):.0%}: {share:.1%}" for level, share in scores["coverage"].items())
    return f"Central intervals, nominal and observed: {', '.join(parts)}."


def _methods(scores: dict[str, Any]) -> pl.DataFrame:
    methods = {"this model": scores["model"]} | scores["baselines"]
    figures = ("wrmsse", "rmsse", "mase", "wape", "bias")
    return pl.DataFrame([
        {"method": name} | {figure: values[figure] for figure in figures}
        for name, values in methods.items()
    ]).sort(HEADLINE, nulls_last=True)


def _windows(scores: dict[str, Any]) -> pl.DataFrame:
    rows = []
    for window in scores["windows"]:
        row = {"from": window["origin"], "this model": window["model"][HEADLINE]}
        row |= {name: values[HEADLINE] for name, values in window["baselines"].items()}
        rows.append(row | {"80% interval": window["coverage"].get("0.8")})
    return pl.DataFrame(rows, infer_schema_length=None)


def _fans(
    panel: Panel,
    tests: list[Window],
    release: Window,
    titles: list[str | None],
    config: InventoryConfig,
) -> Figure:
    shown = _DAYS_SHOWN // config.period_days
    value = panel.sales[:, -shown:].sum(axis=1)
    chosen = np.argsort(-value, kind="stable")[:_FANS]
    figure = Figure(figsize=(9, 7), layout="constrained")
    for number, row in enumerate(chosen.tolist()):
        axes = figure.add_subplot(3, 2, number + 1)
        start = max(0, panel.periods - shown)
        axes.plot(
            _first_days(panel, start, panel.periods),
            panel.units[row, start:],
            color=GREY,
            marker=".",
            linewidth=1,
        )
        for window in (*tests, release):
            steps = window.quantiles.shape[1]
            ahead = _first_days(panel, window.origin, window.origin + steps)
            _fan(axes, ahead, window, row, config)
        # The last period known lies left of the line, the first of the release right of it.
        between = date2num(panel.day(panel.periods)) - config.period_days / 2
        axes.axvline(between, color=GREY, linestyle="--", linewidth=0.8)
        product, place = panel.keys.row(row)[:2]
        where = "" if place == ALL_LOCATIONS else f" in {place}"
        name = f"{titles[row] or ''} {product}"[-_TITLE:]
        # A dollar sign would start a formula.
        axes.set_title(f"{name}{where}, units a {config.period}".replace("$", r"\$"), fontsize=8)
        axes.set_ylim(bottom=0)
        axes.tick_params(axis="x", labelrotation=30, labelsize=7)
    return figure


def _first_days(panel: Panel, start: int, stop: int) -> npt.NDArray[np.datetime64]:
    return np.array([panel.day(column) for column in range(start, stop)], "datetime64[D]")


def _fan(
    axes: Axes,
    ahead: npt.NDArray[np.datetime64],
    window: Window,
    row: int,
    config: InventoryConfig,
) -> None:
    levels, quantiles = list(config.quantiles), window.quantiles[row]
    wide = (quantiles[:, 0], quantiles[:, -1])
    narrow = (quantiles[:, levels.index(0.1)], quantiles[:, levels.index(0.9)])
    for (low, high), strength in ((wide, 0.15), (narrow, 0.3)):
        axes.fill_between(ahead, low, high, color=BLUE, alpha=strength, linewidth=0)
    assert window.mean is not None
    axes.plot(ahead, window.mean[row], color=BLUE, linewidth=1.5)


def _calibration(panel: Panel, tests: list[Window], config: InventoryConfig) -> Figure:
    figure = Figure(figsize=(4.2, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    for window, color in zip(tests[-2:], (ORANGE, BLUE), strict=False):
        sold: Array = actual(panel, window.origin, config)
        below = (sold[..., None] <= window.quantiles).mean(axis=(0, 1))
        axes.plot(config.quantiles, below, marker="o", color=color,
                  label=f"from {panel.day(window.origin)}")  # fmt: skip
    axes.set_xlabel("quantile level")
    axes.set_ylabel(f"share of {config.period}s at or below it")
    axes.legend()
    return figure


_AIMS = {
    "fill_rate": "{:.0%} of demand met at once",
    "cycle_service": "no stock-out in {:.0%} of the cycles",
    "cost": "the least cost of lost margin and holding",
}


def _service(service: dict[str, dict[str, float]], config: InventoryConfig) -> list[Section]:
    if not service:
        return []
    figures = (
        "fill_rate", "cycle_service_level", "stock_out_days", "average_stock_value", "orders",
        "holding_cost", "ordering_cost", "shortage_cost", "waste_cost", "total_cost",
    )  # fmt: skip
    # A column a policy: side by side, and narrow enough for the page.
    rows = [
        {"figure": figure} | {name: values.get(figure) for name, values in service.items()}
        for figure in figures
    ]
    aim = _AIMS[config.service_target].format(config.service_level)
    return [
        Section(
            "What would it have served and cost?",
            f"Aim: {aim}. Each policy is played day by day through the test windows, against "
            f"what really sold, with orders every {config.review_days:g} days and the same drawn "
            "lead times for all. A unit short costs its margin. The clairvoyant knows all demand "
            "in advance: no policy can cost less.",
            figure=_costs(service),
            table=pl.DataFrame(rows, infer_schema_length=None),
        )
    ]


def _costs(service: dict[str, dict[str, float]]) -> Figure:
    figure = Figure(figsize=(8, 2.5), layout="constrained")
    axes = figure.add_subplot()
    parts = {"shortage_cost": ORANGE, "ordering_cost": GREY, "holding_cost": BLUE}
    # Of the clairvoyant only the total is known, which is a line.
    names = [name for name, values in service.items() if set(parts) <= set(values)]
    left = np.zeros(len(names))
    for part, colour in parts.items():
        values = np.array([service[name][part] for name in names])
        axes.barh(names, values, left=left, color=colour, label=part.replace("_", " "))
        left += values
    bound = service.get("clairvoyant", {}).get("total_cost")
    if bound is not None:
        axes.axvline(bound, color=GREY, linestyle="--", linewidth=0.8, label="clairvoyant")
    axes.set_xlabel("cost over the test windows, store currency")
    axes.invert_yaxis()
    figure.legend(fontsize=8, loc="outside right upper")
    return figure


def _exceptions(listed: pl.DataFrame) -> list[Section]:
    """Show the dearest of each kind; of a kind without any, nothing."""
    found = []
    for kind, (heading, text) in _KINDS.items():
        of_kind = listed.filter(pl.col("exception") == kind)
        if of_kind.height:
            table = of_kind.head(_EXCEPTIONS).drop("exception")
            found.append(Section(heading, f"{of_kind.height:,} products. {text}", table=table))
    return found


_KINDS = {
    exceptions.STOCK_OUT: (
        "Look at first: stock that runs out",
        "Units expected to be missed before an order placed now arrives, and their margin.",
    ),
    exceptions.OVERSTOCK: (
        "Look at first: stock that stays",
        "Units on hand beyond what twelve weeks and the policy need, at cost.",
    ),
    exceptions.MISS: (
        "Look at first: forecasts that failed",
        "Units by which the test windows' sales were not as forecast, at their price.",
    ),
}


def _orders(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.head(_ORDERS).select(
        "product_id", "title", "location_id", "order_up_to", "on_hand", "quantity_before_stock",
        "order_quantity", "unit_cost", "value",
    )  # fmt: skip


def _orders_text(orders: pl.DataFrame) -> str:
    unknown = orders["order_quantity"].null_count()
    if not unknown:
        return ""
    return (
        f"The stock of {unknown:,} of {orders.height:,} series is unknown. Their "
        "quantity_before_stock is what the shelf and the way to it should hold together: "
        "subtract what is on hand and on order before buying."
    )
