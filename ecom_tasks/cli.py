"""Commands of the system. Exit codes: 0 done, 1 a retry may help, 2 it will not.

Results go to standard output, logs and progress to standard error.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import uuid
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ecom_tasks import logs
from ecom_tasks.arguments import add_root, day
from ecom_tasks.artefacts import commands as release_commands
from ecom_tasks.domains import DOMAINS, RELEASING, run_task, run_with_upstream
from ecom_tasks.errors import ConfigError, EcomError
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    from ecom_tasks.artefacts.forget import Outcome

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
BY_DOMAIN = {
    "backtest": {
        "recommendation": "ecom_tasks.recommendation.commands.backtest",
        "inventory": "ecom_tasks.inventory.commands.backtest",
        "pricing": "ecom_tasks.pricing.commands.backtest",
    },
    "tune": {"recommendation": "ecom_tasks.recommendation.commands.tune"},
}
"""Commands that are another one in each domain: modules with `add_arguments` and `run`, which
returns the tables and lines to print; the settings stand in `arguments.overrides`."""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser(argv).parse_args(argv)
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


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ecom_tasks",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = _explained(commands, name, command)
        added.set_defaults(command=command)
        return added

    run = add("run", _run)
    run.add_argument("domain", choices=list(DOMAINS))
    run.add_argument("--as-of", type=day, required=True, metavar="YYYY-MM-DD",
                     help="last day to know about, inclusive")  # fmt: skip
    run.add_argument("--source", default="", help="shipped source or TOML file; runs what the "
                     "domain needs first")  # fmt: skip
    run.add_argument("--data", default="", help="folder or bucket prefix of the source's files")
    _add_settings(run)
    add_root(run)

    step = add("step", _step)
    step.add_argument("domain", choices=list(DOMAINS))
    step.add_argument("task")
    step.add_argument("inputs", nargs="*", help="references that the task takes")
    step.add_argument("--run", required=True, help="the run as JSON")

    for name, command in (("backtest", _backtest), ("tune", _tune)):
        domains = add(name, command).add_subparsers(dest="domain", required=True, metavar="DOMAIN")
        # Only when asked for: releases can be moved also where a domain's code is broken.
        for domain, module in BY_DOMAIN[name].items() if name in argv else ():
            of_domain = import_module(module)
            added = _explained(domains, domain, of_domain.run)
            of_domain.add_arguments(added)
            _add_settings(added)
            added.set_defaults(run=of_domain.run)

    check = add("check-source", _check_source)
    check.add_argument("file", help="shipped source or TOML file")
    check.add_argument("--data", default="", help="folder or bucket prefix of its files")

    release_commands.enter(add, RELEASING)

    forget = add("forget", _forget)
    forget.add_argument("customer", help="as the shop's own files name them; - reads it from "
                        "standard input, so that it stands in no history of commands")  # fmt: skip
    forget.add_argument("--pseudonym", action="store_true", help="CUSTOMER is a pseudonym already")
    forget.add_argument("--dry-run", action="store_true", help="change nothing, show what would be")
    add_root(forget)

    doctor = add("doctor", _doctor)
    add_root(doctor)

    services = add("services", _services)
    services.add_argument("action", choices=["start", "stop", "status", "clean"])
    _add_cluster(services)

    demo = add("demo", _demo)
    demo.add_argument("--source", default="complete-journey")
    demo.add_argument("--data", default="", help="folder or file of the source")
    demo.add_argument("--as-of", type=day, default=None, metavar="YYYY-MM-DD")
    _add_cluster(demo)
    return parser


def _add_cluster(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cluster", action="store_true",
        help="as on several machines: PostgreSQL, Redis, Celery workers, Dask workers",
    )  # fmt: skip


def _explained(commands: Any, name: str, command: Callable[..., Any]) -> argparse.ArgumentParser:
    summary = (command.__doc__ or "").strip()
    added: argparse.ArgumentParser = commands.add_parser(
        name, help=summary.splitlines()[0], description=summary, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    return added


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="DOMAIN.NAME=VALUE",
                        help="override one setting; repeatable")  # fmt: skip


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
    """Judge models on data of your own, beside plain baselines. Publishes nothing."""
    return _of_domain(arguments)


def _tune(arguments: argparse.Namespace) -> int:
    """Search better settings within a budget of time, never looking at what judges them."""
    return _of_domain(arguments)


def _of_domain(arguments: argparse.Namespace) -> int:
    arguments.overrides = _overrides(arguments.set)
    for shown in arguments.run(arguments):
        _out(shown) if isinstance(shown, str) else _print(shown)
    return 0


def _check_source(arguments: argparse.Namespace) -> int:
    """Explain what is wrong with a source file; exit code 2 when anything is."""
    from ecom_tasks.ingestion.check import check_source

    findings = check_source(arguments.file, arguments.data)
    for finding in findings:
        _out(str(finding))
    _out("The source is fine." if not findings else f"{len(findings)} findings.")
    return 2 if findings else 0


def _forget(arguments: argparse.Namespace) -> int:
    """Remove a person from tables and from all future releases; show what still holds them.

    Needs ECOM_PSEUDONYM_KEY. Doing it again is safe, and shows whether they came back meanwhile.
    """
    from ecom_tasks.artefacts.forget import forget
    from ecom_tasks.ingestion import pseudonyms

    key = pseudonyms.key_from_environment()
    customer = sys.stdin.readline().strip() if arguments.customer == "-" else arguments.customer
    person = customer if arguments.pseudonym else pseudonyms.pseudonym(key, customer)
    pseudonyms.check(person)
    outcome = forget(_root(arguments), person, pseudonyms.fingerprint(key), dry=arguments.dry_run)
    _out(f"pseudonym {person}")
    _tell_forgotten(outcome, dry=arguments.dry_run)
    return 0


def _tell_forgotten(outcome: Outcome, *, dry: bool) -> None:
    from rich.table import Table

    if not outcome.holding:
        _out("Nothing holds this person. Is the identifier written as in the shop's own files?")
        return
    renewed = Table("name", "version", "is now", "rows removed",
                    title="Would be made again" if dry else "Made again")  # fmt: skip
    for each in outcome.renewed:
        renewed.add_row(each.name, each.version, each.instead or "-", f"{each.rows:,}")
    holding = Table("name", "version", "files", "serves",
                    title="Hold this person until `retain` removes them")  # fmt: skip
    for held in outcome.holding:
        finished = "" if held.finished else " (never finished)"
        holding.add_row(held.name, held.version + finished, str(len(held.files)),
                        ", ".join(held.channels))  # fmt: skip
    for table in (renewed, holding):
        if table.row_count:
            _print(table)
    if serving := sorted({each.name for each in outcome.holding if each.channels}):
        _out(f"Run the flows of {', '.join(serving)} again: what they then release is without "
             "this person")  # fmt: skip


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

    return services.command(arguments.action, cluster=arguments.cluster)


def _demo(arguments: argparse.Namespace) -> int:
    """Run a source through Airflow and pull back verified what three flows publish."""
    from ecom_tasks import demo

    return demo.main(arguments.source, arguments.data, arguments.as_of, cluster=arguments.cluster)


def _print(renderable: Any) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(renderable)
