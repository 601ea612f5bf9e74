"""The command `backtest recommendation`."""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

from ecom_tasks.recommendation.commands import interactions
from ecom_tasks.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    interactions.add_arguments(parser, required=True)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write a page with plots there")


def run(arguments: argparse.Namespace) -> list[Any]:
    """Judge candidate generators on a file of interactions, ranking all products.

    Prints a table of metrics beside the plain baselines. Nothing is published.
    """
    from ecom_tasks.recommendation import backtest
    from ecom_tasks.recommendation.config import RecommendationConfig

    settings = Run("backtest", date.today(), "", overrides=arguments.overrides)  # noqa: DTZ011
    config = RecommendationConfig.of(settings)
    split = interactions.split(arguments)
    found = backtest.run(split, arguments.generators or backtest.names(), config)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    if arguments.html:
        from ecom_tasks.recommendation import backtest_report

        title = f"Backtest of {arguments.interactions.name}, {arguments.protocol}"
        arguments.html.write_text(backtest_report.render(found, title), encoding="utf-8")
    return [_table(found)]


def _table(found: dict[str, Any]) -> Any:
    """Return the figures as a table, baselines first."""
    from rich.table import Table

    from ecom_tasks.recommendation.backtest import contenders

    shown = ["ndcg@10", "recall@10", "ndcg@20", "recall@20", "mrr@10", "map@10", "hit_rate@10",
             "coverage@10", "novelty@10"]  # fmt: skip
    title = f"{found['customers']:,} customers judged, all {found['products']:,} products ranked"
    table = Table("", *shown, "95% of ndcg@10", "seconds", title=title)
    for label, values in contenders(found).items():
        interval = f"{values['ndcg@10_lower']:.4f}-{values['ndcg@10_upper']:.4f}"
        figures = ["-" if values[each] is None else f"{values[each]:.4f}" for each in shown]
        table.add_row(label, *figures, interval, f"{values['seconds']:.1f}")
    return table
