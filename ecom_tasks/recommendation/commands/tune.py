"""The command `tune recommendation`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecom_tasks.arguments import add_root, day
from ecom_tasks.errors import ConfigError
from ecom_tasks.recommendation.commands import interactions
from ecom_tasks.run import Run

if TYPE_CHECKING:
    from ecom_tasks.recommendation.tuning import Found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    interactions.add_arguments(parser, required=False)
    parser.add_argument("--metric", help="of the backtest (default: ndcg@10)")
    parser.add_argument("--ranker", action="store_true", help="search the ranker's dials instead, "
                        "on the candidates of a run: needs --as-of and --root")  # fmt: skip
    parser.add_argument("--as-of", type=day, metavar="YYYY-MM-DD", help="day of that run")
    add_root(parser)
    parser.add_argument("--folder", type=Path, required=True, help="where the studies lie; those "
                        "that lie there are gone on with")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=10, help="of each study (default: 10)")
    parser.add_argument("--trials", type=int, metavar="N", help="of each study, at most")


def run(arguments: argparse.Namespace) -> list[Any]:
    """Search the dials of candidate generators, or of the ranker, within a budget of time.

    Generators are judged on a part of what is known; what must be found is not looked at. Calling
    again goes on. Prints the best settings as arguments, and writes them to best.json.
    """
    from ecom_tasks.recommendation import tuning
    from ecom_tasks.recommendation.config import RecommendationConfig
    from ecom_tasks.recommendation.steps.ranking import ranker_windows

    _refuse_mixed(arguments)
    settings = Run("tune", arguments.as_of or date.today(), arguments.root,  # noqa: DTZ011
                   overrides=arguments.overrides)  # fmt: skip
    config = RecommendationConfig.of(settings)
    budget = tuning.Budget(arguments.minutes, arguments.trials)
    if arguments.ranker:
        windows = ranker_windows(settings)
        found = [tuning.tune_ranker(*windows, config, arguments.folder, budget)]
    else:
        parts = tuning.validation(
            interactions.split(arguments).known, arguments.protocol, arguments.share, config.seed
        )
        names = arguments.generators or list(tuning.SPACES)
        metric = arguments.metric or tuning.METRIC
        found = tuning.tune(parts, names, config, metric, arguments.folder, budget)
    return [_table(found), *(each.arguments() for each in found)]


def _refuse_mixed(arguments: argparse.Namespace) -> None:
    """Generators are tuned on a file, the ranker on a run; what belongs to the other is a slip."""
    given = {name for name, value in vars(arguments).items() if value}
    of_file, of_run = ("interactions", "customer", "product", "protocol"), ("as_of", "root")
    needed, foreign = (of_run, (*of_file, "generators", "metric")) if arguments.ranker else (
        of_file, ("as_of",)
    )  # fmt: skip
    missing, stray = [each for each in needed if each not in given], given.intersection(foreign)
    if missing or stray:
        what = "The ranker" if arguments.ranker else "A generator"
        raise ConfigError(
            f"{what} is tuned with other arguments: {_flags(missing)} not given, "
            f"{_flags(sorted(stray))} out of place",
            f"Give {_flags(needed)}, and leave out what is out of place",
        )


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names) or "nothing"


def _table(found: list[Found]) -> Any:
    """Return the figures of a search as a table, the defaults beside the best."""
    from rich.table import Table

    title = "On the validation split, where the best of many looks better than it is"
    table = Table("", "metric", "trials", "failed", "defaults", "best", "gain", title=title)
    for each in found:
        known = each.defaults is not None
        defaults = f"{each.defaults:.4f}" if known else "failed"
        gain = f"{each.best - (each.defaults or 0):+.4f}" if known else ""
        table.add_row(each.name, each.metric, str(each.trials), str(each.failed), defaults,
                      f"{each.best:.4f}", gain)  # fmt: skip
    return table
