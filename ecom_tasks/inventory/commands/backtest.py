"""The command `backtest inventory`."""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Run

_VALIDATION_VALUES = 20_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--series", type=Path, required=True, metavar="FILE.parquet",
        help="one row per series and period")  # fmt: skip
    add("--id", nargs="+", required=True, metavar="COLUMN", help="what identifies a series")
    add("--time", required=True, metavar="COLUMN", help="a date, or a whole number that counts")
    add("--target", required=True, metavar="COLUMN", help="what is forecast")
    add("--freq", choices=["D", "W", "M"], required=True, help="days, weeks or months")
    add("--season", type=int, required=True, metavar="N",
        help="periods of a season, for seasonal naive and the scale of MASE; 1: none")  # fmt: skip
    add("--horizon", type=int, required=True, metavar="H", help="periods forecast at once")
    add("--windows", type=int, default=1, metavar="N",
        help="windows of a horizon each that judge, at the end (default: 1)")  # fmt: skip
    add("--weights", default="", metavar="COLUMN",
        help="of a row in WMAE; summed over the last month, of a series in WRMSSE")  # fmt: skip
    add("--known", nargs="+", default=[], metavar="COLUMN", help="known ahead, such as promotions")
    add("--gaps", choices=["auto", "unknown", "zero"], default="auto",
        help="periods without a row: not counted, zero demand, or judged by the table")  # fmt: skip
    add("--validation-windows", type=int, metavar="N",
        help="windows before a test window that weights and calibration come from (default: "
        "1 to 3, until they hold 20,000 values)")  # fmt: skip
    add("--json", type=Path, metavar="OUT", help="write the figures there")
    add("--html", type=Path, metavar="OUT", help="write a page with plots there")


def run(arguments: argparse.Namespace) -> list[Any]:
    """Judge the demand forecasts on a file of series, by rolling origin.

    Prints a table of metrics beside plain and classical methods. Nothing is published.
    """
    import polars as pl

    from ecom_tasks.inventory import backtest, table

    for name in ("season", "horizon", "windows"):
        if getattr(arguments, name) < 1:
            raise ConfigError(
                f"--{name} is {getattr(arguments, name)}", "Give a whole number above zero"
            )
    if not arguments.series.exists():
        raise ConfigError(f"There is no file {arguments.series}", "Correct --series")
    columns = table.Columns(
        arguments.id, arguments.time, arguments.target, arguments.weights, arguments.known
    )
    setting = table.Setting(arguments.freq, arguments.season, arguments.horizon, arguments.gaps)
    panel = table.read(pl.read_parquet(arguments.series), columns, setting)
    judged = backtest.run(panel, arguments.windows, _config(arguments, panel.series, panel.periods))
    if arguments.json:
        arguments.json.write_text(json.dumps(judged.figures, indent=2, sort_keys=True) + "\n")
    if arguments.html:
        from ecom_tasks.inventory import backtest_report

        title = f"Backtest of {arguments.series.name}, {arguments.horizon} periods ahead"
        arguments.html.write_text(backtest_report.render(judged, title), encoding="utf-8")
    return [_table(judged.figures)]


def _config(arguments: argparse.Namespace, series: int, periods: int) -> Any:
    from ecom_tasks.inventory.backtest import LEVELS
    from ecom_tasks.inventory.config import InventoryConfig

    enough = -(-_VALIDATION_VALUES // (series * arguments.horizon))
    defaults = {
        "horizon": arguments.horizon, "season": arguments.season, "quantiles": LEVELS,
        "calibration_windows": arguments.validation_windows or min(max(enough, 1), 3),
        "history": 26 if periods >= 104 else 8,
    }  # fmt: skip
    given = arguments.overrides.get("inventory", {})
    settings = Run("backtest", date.today(), "", overrides={"inventory": defaults | given})  # noqa: DTZ011
    return InventoryConfig.of(settings)


def _table(figures: dict[str, Any]) -> Any:
    """Return the figures as a table, the model first."""
    from rich.table import Table

    shown = ["mase", "rmsse", "wrmsse", "smape", "wape", "wmae", "bias"]
    windows = len(figures["windows"])
    covered = ", ".join(f"{float(k):.0%}: {v:.1%}" for k, v in figures["coverage"].items() if v)
    title = (
        f"{figures['series']:,} series, {windows} windows of {figures['horizon']} periods; "
        f"intervals cover {covered}"
    )
    table = Table("", *shown, title=title)
    for label, values in {"model": figures["model"], **figures["baselines"]}.items():
        table.add_row(
            label, *("-" if values[each] is None else f"{values[each]:.4f}" for each in shown)
        )
    return table
