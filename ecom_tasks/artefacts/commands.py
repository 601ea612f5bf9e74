"""Commands about releases; none of them loads a model's code."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ecom_tasks.arguments import add_root
from ecom_tasks.artefacts import pull
from ecom_tasks.errors import ConfigError, DataContractError, RetryableError

Command = Callable[[argparse.Namespace], int]


class Add(Protocol):
    """Enters a command in the parser of `python -m ecom_tasks`."""

    def __call__(self, name: str, command: Command, /) -> argparse.ArgumentParser: ...


def enter(add: Add, domains: Sequence[str]) -> None:
    """Add the commands.

    Parameters
    ----------
    domains : those that release something.
    """

    def named(name: str, command: Command) -> argparse.ArgumentParser:
        parser = rooted(name, command)
        parser.add_argument("domain", choices=list(domains))
        return parser

    def rooted(name: str, command: Command) -> argparse.ArgumentParser:
        parser = add(name, command)
        add_root(parser)
        return parser

    listing = rooted("list", _list)
    listing.add_argument("--json", action="store_true", help="for programs")
    lineage = named("lineage", _lineage)
    lineage.add_argument("--version", default="", help="instead of the one in service")
    promote = named("promote", _promote)
    promote.add_argument("version")
    promote.add_argument("--repair", action="store_true", help="replace a mangled pointer")
    named("rollback", _rollback)
    named("sign", _sign).add_argument("version")
    keys = add("keys", _keys)
    keys.add_argument("action", choices=["make"])
    keys.add_argument("folder", type=Path)
    pull.add_arguments(named("pull", _pull))


@contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of `pull`, which stands alone, into ours."""
    try:
        yield
    except pull.UnavailableError as error:
        raise RetryableError(error.reason, error.hint) from error
    except pull.RefusedError as error:
        raise DataContractError(error.reason, error.hint) from error
    except pull.SettingError as error:
        raise ConfigError(error.reason, error.hint) from error


def _root(arguments: argparse.Namespace) -> str:
    if not arguments.root:
        raise ConfigError("No place for artefacts is named", "Give --root, or set ECOM_ROOT")
    return str(arguments.root)


def _name(arguments: argparse.Namespace) -> str:
    return f"artefacts/{arguments.domain}"


def _person() -> str:
    """Who types: goes into the pointer's history."""
    try:
        return getpass.getuser()
    except OSError:
        return ""


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print(renderable: Any) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(renderable)


def _list(arguments: argparse.Namespace) -> int:
    """List every published version with its headline figure beside the baseline."""
    from ecom_tasks.artefacts.release import listing

    releases = listing(_root(arguments))
    if arguments.json:
        rows = [
            vars(release) | {"headline": release.headline and release.headline.model_dump()}
            for release in releases
        ]
        _out(json.dumps(rows, default=str, indent=2))
        return 0
    from rich.table import Table

    table = Table("name", "version", "in service", "headline", "baseline", "rows", "made at")
    for release in releases:
        table.add_row(
            release.name,
            release.version,
            "yes" if "production" in release.channels else "",
            *_headline(release.headline),
            f"{release.rows:,}",
            release.created_at,
        )
    _print(table)
    return 0


def _headline(headline: Any) -> tuple[str, str]:
    if headline is None:
        return "", ""
    return (
        f"{headline.metric} {headline.value:.4g}",
        f"{headline.baseline_name} {headline.baseline:.4g}",
    )


def _lineage(arguments: argparse.Namespace) -> int:
    """Show what a release was made from, down to the pinned source files."""
    from ecom_tasks.artefacts.lineage import lineage
    from ecom_tasks.artefacts.release import ref_of

    ref = ref_of(_root(arguments), _name(arguments), arguments.version)
    for node in lineage(ref):
        repeated = "  (shown above)" if node.repeated else ""
        _out(f"{'    ' * node.depth}{node.manifest.name}  {node.manifest.version}{repeated}")
        if not node.manifest.inputs:
            for name, fact in sorted(node.manifest.metrics.get("files", {}).items()):
                _out(f"{'    ' * (node.depth + 1)}{name}  {fact}")
    return 0


def _promote(arguments: argparse.Namespace) -> int:
    """Put a published version into service, also an older one."""
    from ecom_tasks.artefacts.release import PRODUCTION, Terms, promote

    terms = Terms(reason="promoted", by=_person(), repair=arguments.repair)
    pointer = promote(_root(arguments), _name(arguments), arguments.version, PRODUCTION, terms)
    _out(f"{pointer.name} {pointer.version} is in service (move {pointer.sequence})")
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    """Put the version back into service that was there before the present one."""
    from ecom_tasks.artefacts.release import rollback

    pointer = rollback(_root(arguments), _name(arguments), by=_person())
    _out(f"{pointer.name} {pointer.version} is in service again (move {pointer.sequence})")
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    """Sign a published version with ECOM_SIGNING_KEY, after reading all of its bytes."""
    from ecom_tasks.artefacts.release import sign

    key_id = sign(_root(arguments), _name(arguments), arguments.version)
    _out(f"{_name(arguments)} {arguments.version} is signed by {key_id}")
    return 0


def _keys(arguments: argparse.Namespace) -> int:
    """Make an Ed25519 key pair: the .key for the publisher alone, the .pem for consumers."""
    from ecom_tasks.artefacts.signing import make

    private, public = make(arguments.folder)
    _out(f"private  {private}  (ECOM_SIGNING_KEY, for the publisher alone)")
    _out(f"public   {public}  (ECOM_PUBLIC_KEYS, for consumers)")
    return 0


def _pull(arguments: argparse.Namespace) -> int:
    """Bring the release in service into a folder, every byte verified; or change nothing.

    Exit codes: 0 up to date, 1 a retry may help, 2 it will not, 3 older than --max-age.
    """
    with translated():
        return pull.command(_root(arguments), _name(arguments), arguments)
