"""`python -m ecom_tasks backtest pricing`: elasticities of any panel, with their evidence."""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

from ecom_tasks.run import Run

_ROWS_SHOWN = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say which file is judged, and what its columns mean."""
    parser.add_argument("--panel", type=Path, required=True, metavar="FILE.parquet",
                        help="a row a product, location and period")  # fmt: skip
    for name, what in (
        ("product", "whose price it is"),
        ("time", "day or number of the period"),
        ("price", "paid per unit, above 0"),
        ("units", "sold, 0 or more"),
    ):
        parser.add_argument(f"--{name}", required=True, metavar="COL", help=what)
    parser.add_argument("--location", default="", metavar="COL", help="store or region")
    parser.add_argument("--category", default="", metavar="COL",
                        help="may feel each other's price (default: all)")  # fmt: skip
    parser.add_argument("--cost", default="", metavar="COL",
                        help="purchase cost per unit, for pricing.instrument=cost")  # fmt: skip
    parser.add_argument("--promo", nargs="+", action="extend", default=[], metavar="COL",
                        help="promotions, 0 to 1")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write a page with plots there")


def run(arguments: argparse.Namespace) -> list[Any]:
    """Estimate the price elasticities of any panel, and say how far each can be trusted.

    Prints a table of products. Nothing is published.
    """
    from ecom_tasks.pricing import backtest, panel_file
    from ecom_tasks.pricing.config import PricingConfig

    settings = Run("backtest", date.today(), "", overrides=arguments.overrides)  # noqa: DTZ011
    config = PricingConfig.of(settings)
    columns = panel_file.Columns(
        product=arguments.product,
        location=arguments.location,
        time=arguments.time,
        price=arguments.price,
        units=arguments.units,
        category=arguments.category,
        cost=arguments.cost,
        promotions=tuple(dict.fromkeys(arguments.promo)),
    )
    found, _ = backtest.run(panel_file.read(arguments.panel, columns), config)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    if arguments.html:
        from ecom_tasks.pricing import backtest_report

        title = f"Price elasticities of {arguments.panel.name}"
        arguments.html.write_text(backtest_report.render(title, found), encoding="utf-8")
    return _shown(found)


def _shown(found: dict[str, Any]) -> list[Any]:
    """Return a table of the products, and a line for all."""
    from rich.table import Table

    pooled = found["pooled"]
    title = f"{pooled['products']:,} products, {pooled['rows']:,} rows"
    table = Table("product", "elasticity", "95% interval", "borrowed", "evidence", "placebo", "why",
                  title=title)  # fmt: skip
    for row in found["products"][:_ROWS_SHOWN]:
        passed = row["placebo"]["passed"]
        table.add_row(
            row["product"], _number(row["estimate"]), _span(row), _number(row["weight_borrowed"]),
            row["grade"], {True: "passed", False: "failed", None: "-"}[passed], row["why"],
        )  # fmt: skip
    return [
        table,
        f"pooled {_number(pooled['estimate'])} ({_span(pooled)}); plain log-log "
        f"{_number(pooled['plain_log_log'])}, with fixed effects "
        f"{_number(pooled['plain_log_log_fixed_effects'])}; {len(found['cross'])} cross effects "
        f"found; {pooled['grades']}; {found['seconds']} s",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _span(row: dict[str, Any]) -> str:
    return "-" if row["lower"] is None else f"{row['lower']:.2f} to {row['upper']:.2f}"
