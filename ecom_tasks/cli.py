"""Commands of the system. Exit codes: 0 done, 1 a retry may help, 2 it will not.

Results go to standard output, logs and progress to standard error.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecom_tasks import logs
from ecom_tasks.artefacts import commands as release_commands
from ecom_tasks.domains import DOMAINS, RELEASING, run_task, run_with_upstream
from ecom_tasks.errors import ConfigError, EcomError
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    from ecom_tasks.recommendation.protocols import Split
    from ecom_tasks.recommendation.tuning import Found

log = logging.getLogger(__name__)
EPILOG = """\
environment:
  ECOM_ROOT              where artefacts lie: s3://bucket/prefix or file:///folder
  ECOM_S3_ENDPOINT       URL of an S3-compatible store; absent for AWS
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION
  ECOM_PSEUDONYM_KEY     secret of at least 64 hex digits that pseudonymises customers
  ECOM_DASK              threads, processes (default), cuda, or tcp://scheduler:8786
  ECOM_LOG               json for JSON log lines
  ECOM_<DOMAIN>__<NAME>  one setting of a domain, for example ECOM_PRICING__LARGEST_STEP=0.05
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    logs.set_up()
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except EcomError as error:
        logs.report(error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("interrupted")  # noqa: TRY400
        return 130
    except Exception:
        log.exception("A fault of the program, not of your data or settings")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ecom_tasks",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        summary = (command.__doc__ or "").strip()
        added = commands.add_parser(
            name, help=summary.splitlines()[0], description=summary, epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        added.set_defaults(command=command)
        return added

    run = add("run", _run)
    run.add_argument("domain", choices=list(DOMAINS))
    run.add_argument("--as-of", type=_day, required=True, metavar="YYYY-MM-DD",
                     help="last day to know about, inclusive")  # fmt: skip
    run.add_argument("--source", default="", help="shipped source or TOML file; runs what the "
                     "domain needs first")  # fmt: skip
    run.add_argument("--data", default="", help="folder or bucket prefix of the source's files")
    run.add_argument("--set", action="append", default=[], metavar="DOMAIN.NAME=VALUE",
                     help="override one setting; repeatable")  # fmt: skip
    _add_root(run)

    step = add("step", _step)
    step.add_argument("domain", choices=list(DOMAINS))
    step.add_argument("task")
    step.add_argument("inputs", nargs="*", help="references that the task takes")
    step.add_argument("--run", required=True, help="the run as JSON")

    backtest = add("backtest", _backtest)
    backtest.add_argument("domain", choices=["recommendation"])
    _add_interactions(backtest, required=True)
    backtest.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    backtest.add_argument("--html", type=Path, metavar="OUT", help="write a page with plots there")

    tune = add("tune", _tune)
    tune.add_argument("domain", choices=["recommendation"])
    _add_interactions(tune, required=False)
    tune.add_argument("--metric", help="of the backtest (default: ndcg@10)")
    tune.add_argument("--ranker", action="store_true", help="search the ranker's dials instead, "
                      "on the candidates of a run: needs --as-of and --root")  # fmt: skip
    tune.add_argument("--as-of", type=_day, metavar="YYYY-MM-DD", help="day of that run")
    _add_root(tune)
    tune.add_argument("--folder", type=Path, required=True, help="where the studies lie; those "
                      "that lie there are gone on with")  # fmt: skip
    tune.add_argument("--minutes", type=float, default=10, help="of each study (default: 10)")
    tune.add_argument("--trials", type=int, metavar="N", help="of each study, at most")

    check = add("check-source", _check_source)
    check.add_argument("file", help="shipped source or TOML file")
    check.add_argument("--data", default="", help="folder or bucket prefix of its files")

    release_commands.enter(add, RELEASING)

    doctor = add("doctor", _doctor)
    _add_root(doctor)

    services = add("services", _services)
    services.add_argument("action", choices=["start", "stop", "status", "clean"])

    demo = add("demo", _demo)
    demo.add_argument("--source", default="complete-journey")
    demo.add_argument("--data", default="", help="folder or file of the source")
    demo.add_argument("--as-of", type=_day, default=None, metavar="YYYY-MM-DD")
    return parser


def _add_interactions(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Say which file of interactions is split in which way, for which generators."""
    parser.add_argument("--interactions", type=Path, required=required, metavar="FILE.parquet")
    parser.add_argument("--customer", required=required, metavar="COLUMN")
    parser.add_argument("--product", required=required, metavar="COLUMN")
    order = parser.add_mutually_exclusive_group()
    order.add_argument("--time", default="", metavar="COLUMN", help="when it happened")
    order.add_argument("--position", default="", metavar="COLUMN", help="its place in a history")
    parser.add_argument("--protocol", required=required,
                        choices=["leave-one-out", "time-split", "given-split"])  # fmt: skip
    parser.add_argument("--test", type=Path, metavar="FILE.parquet", help="for given-split")
    parser.add_argument("--share", type=float, default=0.1, help="of the newest interactions, "
                        "for time-split (default: 0.1)")  # fmt: skip
    parser.add_argument("--min-interactions", type=int, default=1, metavar="N",
                        help="leave out products with fewer in the file (default: 1)")  # fmt: skip
    parser.add_argument("--generators", nargs="+", metavar="NAME",
                        help="default: all; a wrong name lists them")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="recommendation.NAME=VALUE",
                        help="override one setting; repeatable")  # fmt: skip


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", default=os.environ.get("ECOM_ROOT", ""),
                        help="s3://bucket/prefix or file:///folder; else ECOM_ROOT")  # fmt: skip


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day like 2017-11-30") from error


def _root(arguments: argparse.Namespace) -> str:
    if not arguments.root:
        raise ConfigError("No place for artefacts is named", "Give --root, or set ECOM_ROOT")
    return str(arguments.root)


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")


def _run(arguments: argparse.Namespace) -> int:
    """Run a flow in this process, without Airflow; with --source also what it needs.

    Finished work is found and not repeated. Prints the reference of what was made.
    """
    run = Run(
        run_id=f"cli-{uuid.uuid4().hex[:8]}",
        as_of=arguments.as_of,
        root=_root(arguments),
        source=arguments.source,
        source_data=arguments.data,
        overrides=_overrides(arguments.set),
    )
    _out(run_with_upstream(arguments.domain, run))
    return 0


def _overrides(settings: list[str]) -> dict[str, dict[str, object]]:
    overrides: dict[str, dict[str, object]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        domain, dot, field = name.partition(".")
        if not (equals and dot) or domain not in {*DOMAINS, "gate"}:
            raise ConfigError(
                f"--set {setting!r} is not DOMAIN.NAME=VALUE",
                f"For example --set pricing.largest_step=0.05; domains: {', '.join(DOMAINS)}",
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        overrides.setdefault(domain, {})[field] = value
    return overrides


def _step(arguments: argparse.Namespace) -> int:
    """Run one task of a flow, as Airflow does; prints the reference of what was made."""
    try:
        run = Run.from_json(arguments.run)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"--run is no run: {error}", "It is JSON as of Run.to_json") from error
    ref = run_task(arguments.domain, arguments.task, run, [Ref(i) for i in arguments.inputs])
    _out(ref)
    return 0


def _backtest(arguments: argparse.Namespace) -> int:
    """Judge candidate generators on a file of interactions, ranking all products.

    Prints a table of metrics beside the plain baselines. Nothing is published.
    """
    from ecom_tasks.recommendation import backtest
    from ecom_tasks.recommendation.config import RecommendationConfig

    run = Run("backtest", date.today(), "", overrides=_overrides(arguments.set))  # noqa: DTZ011
    config = RecommendationConfig.of(run)
    found = backtest.run(_split(arguments), arguments.generators or backtest.names(), config)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    if arguments.html:
        from ecom_tasks.recommendation import backtest_report

        title = f"Backtest of {arguments.interactions.name}, {arguments.protocol}"
        arguments.html.write_text(backtest_report.render(found, title), encoding="utf-8")
    _print(_judged(found))
    return 0


def _split(arguments: argparse.Namespace) -> Split:
    from ecom_tasks.recommendation import protocols

    columns = protocols.Columns(
        arguments.customer, arguments.product, arguments.time or arguments.position
    )
    if arguments.protocol != "given-split" and not columns.order:
        raise ConfigError(
            f"{arguments.protocol} needs to know which interaction came last",
            "Give --time or --position with the name of a column",
        )
    interactions = protocols.often(
        protocols.read(arguments.interactions, columns), arguments.min_interactions
    )
    # The columns of the order need not be in a file of which all rows must be found.
    unordered = protocols.Columns(arguments.customer, arguments.product)
    test = protocols.read(arguments.test, unordered) if arguments.test else None
    return protocols.split(interactions, arguments.protocol, test, arguments.share)


def _judged(found: dict[str, Any]) -> Any:
    """Return the figures of a backtest as a table, baselines first."""
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


def _tune(arguments: argparse.Namespace) -> int:
    """Search the dials of candidate generators, or of the ranker, within a budget of time.

    Generators are judged on a part of what is known; what must be found is not looked at. Calling
    again goes on. Prints the best settings as arguments, and writes them to best.json.
    """
    from ecom_tasks.recommendation import tasks, tuning
    from ecom_tasks.recommendation.config import RecommendationConfig

    _refuse_mixed(arguments)
    run = Run("tune", arguments.as_of or date.today(), arguments.root,  # noqa: DTZ011
              overrides=_overrides(arguments.set))  # fmt: skip
    config = RecommendationConfig.of(run)
    budget = tuning.Budget(arguments.minutes, arguments.trials)
    if arguments.ranker:
        windows = tasks.ranker_windows(run)
        found = [tuning.tune_ranker(*windows, config, arguments.folder, budget)]
    else:
        parts = tuning.validation(
            _split(arguments).known, arguments.protocol, arguments.share, config.seed
        )
        names = arguments.generators or list(tuning.SPACES)
        metric = arguments.metric or tuning.METRIC
        found = tuning.tune(parts, names, config, metric, arguments.folder, budget)
    _print(_tuned(found))
    for each in found:
        _out(each.arguments())
    return 0


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


def _tuned(found: list[Found]) -> Any:
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


def _check_source(arguments: argparse.Namespace) -> int:
    """Explain what is wrong with a source file; exit code 2 when anything is."""
    from ecom_tasks.ingestion.check import check_source

    findings = check_source(arguments.file, arguments.data)
    for finding in findings:
        _out(str(finding))
    _out("The source is fine." if not findings else f"{len(findings)} findings.")
    return 2 if findings else 0


def _doctor(arguments: argparse.Namespace) -> int:
    """Probe the store and this machine; one line each with the remedy, exit code 2 on a fault."""
    from ecom_tasks.doctor import diagnose

    findings = diagnose(_root(arguments))
    for finding in findings:
        remedy = "" if finding.holds else f": {finding.remedy}"
        _out(f"{'ok  ' if finding.holds else 'FAIL'}  {finding.question}{remedy}")
    return 0 if all(finding.holds for finding in findings) else 2


def _services(arguments: argparse.Namespace) -> int:
    """Start, stop or look at the embedded object store and Airflow; clean removes their data."""
    from ecom_tasks import services

    return services.command(arguments.action)


def _demo(arguments: argparse.Namespace) -> int:
    """Run a source through Airflow and pull back verified what three flows publish."""
    from ecom_tasks import demo

    return demo.main(arguments.source, arguments.data, arguments.as_of)


def _print(renderable: Any) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(renderable)
