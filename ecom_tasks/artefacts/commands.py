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
        parser.add_argument("domain", type=known, help=f"{', '.join(domains)}, or sets/NAME")
        return parser

    def known(text: str) -> str:
        if text not in domains and not text.startswith("sets/"):
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(domains)}, sets/NAME")
        return text

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
    all_the_same = "put a version into service that its gate did not let pass"
    promote.add_argument("--although-rejected", action="store_true", help=all_the_same)
    promote.add_argument("--by", default="", help="who approved it, for the history")
    promote.add_argument(
        "--reason", default="", help="for the history (default: approved, promoted)"
    )
    promote.add_argument("--share", type=float, help="of customers, for a canary: 0.1 is a tenth")
    _add_channel(promote)
    rollback = named("rollback", _rollback)
    rollback.add_argument("--by", default="", help="who asked for it, for the history")
    _add_channel(rollback)
    _add_channel(named("history", _history))
    bind = rooted("bind", _bind)
    bind.add_argument("domain", metavar="sets/NAME", type=known)
    members = "releases, in service or as DOMAIN=VERSION"
    bind.add_argument("members", nargs="+", metavar="DOMAIN[=VERSION]", help=members)
    _add_channel(bind)
    compared = named("diff", _diff)
    compared.add_argument("first", help="version")
    compared.add_argument("second", help="version")
    retain = rooted("retain", _retain)
    retain.add_argument("--newest", type=int, default=5, help="versions of each name to keep")
    retain.add_argument("--days", type=int, default=30, help="younger versions are kept")
    retain.add_argument("--grace-hours", type=float, default=24, help="between mark and sweep")
    retain.add_argument("--sweep", action="store_true", help="mark, and remove what an earlier run "
                        "marked; without it nothing is changed")  # fmt: skip
    policy = rooted("policy", _policy)
    for role in ("consumer", "console", "publisher", "janitor"):
        policy.add_argument(f"--{role}", nargs="+", metavar="ARN", help=f"who is a {role}")
    policy.add_argument("--aws", action="store_true", help="with what only AWS knows: manifests "
                        "can be written once")  # fmt: skip
    for name, command in (("pin", _pin), ("unpin", _unpin)):
        named(name, command).add_argument("version")
    named("sign", _sign).add_argument("version")
    keys = add("keys", _keys)
    keys.add_argument("action", choices=["make"])
    keys.add_argument("folder", type=Path)
    pull.add_arguments(named("pull", _pull))


def _add_channel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--channel", default="production", help="(default: production)")


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
    domain = str(arguments.domain)
    return domain if "/" in domain else f"artefacts/{domain}"


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
            vars(release)
            | {"headline": release.headline and release.headline.model_dump()}
            | {"gate": release.gate and release.gate.model_dump()}
            for release in releases
        ]
        _out(json.dumps(rows, default=str, indent=2))
        return 0
    from rich.table import Table

    table = Table("name", "version", "channels", "headline", "baseline", "rows", "made at")
    for release in releases:
        table.add_row(
            release.name,
            release.version,
            _standing(release),
            *_headline(release.headline),
            f"{release.rows:,}",
            release.created_at,
        )
    _print(table)
    return 0


def _standing(release: Any) -> str:
    named = [channel for channel in release.channels if not channel[0].isdigit()]
    if named:
        return ", ".join(named)
    return "rejected" if release.gate and not release.gate.accepted else ""


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
    from ecom_tasks.artefacts.release import Terms, promote

    terms = Terms(
        reason=arguments.reason or ("approved" if arguments.by else "promoted"),
        by=arguments.by or _person(), repair=arguments.repair,
        although_rejected=arguments.although_rejected, share=arguments.share,
    )  # fmt: skip
    root, name, channel = _root(arguments), _name(arguments), arguments.channel
    _tell(promote(root, name, arguments.version, channel, terms))
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    """Put the version back into service that was there before the present one."""
    from ecom_tasks.artefacts.release import rollback

    person = arguments.by or _person()
    _tell(rollback(_root(arguments), _name(arguments), arguments.channel, by=person))
    return 0


def _tell(pointer: Any) -> None:
    share = f" for {pointer.share:.0%} of the customers" if pointer.share is not None else ""
    _out(f"{pointer.name} {pointer.version} is in {pointer.channel}{share} "
         f"(move {pointer.sequence})")  # fmt: skip


def _bind(arguments: argparse.Namespace) -> int:
    """Bind versions that belong together to a set, and put them into service at once.

    Versions of one run belong together: what both were made from must be the same version.
    """
    from ecom_tasks.artefacts.release import Terms
    from ecom_tasks.artefacts.sets import bind

    pairs = (member.partition("=") for member in arguments.members)
    wanted = {f"artefacts/{domain}": version for domain, _, version in pairs}
    terms = Terms(reason="bound", by=_person())
    _tell(bind(_root(arguments), arguments.domain, wanted, arguments.channel, terms))
    return 0


def _history(arguments: argparse.Namespace) -> int:
    """List what a channel pointed to, newest first: champions, challengers, and who moved it."""
    from ecom_tasks.artefacts.release import listing, read_pointer
    from ecom_tasks.artefacts.store import open_store

    root, name = _root(arguments), _name(arguments)
    pointer = read_pointer(open_store(root), name, arguments.channel)
    if pointer is None:
        raise ConfigError(f"{name} has no channel {arguments.channel}", "See `list`")
    from rich.table import Table

    known = {
        each.version: each for each in listing(root, name.partition("/")[0]) if each.name == name
    }
    table = Table("move", "version", "moved at", "why", "by", "headline", "baseline")
    for move in pointer.history:
        release = known.get(move.version)
        headline = _headline(release.headline) if release else ("removed", "")
        table.add_row(
            str(move.sequence), move.version, move.moved_at, move.reason, move.by, *headline
        )
    _print(table)
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    """Show what differs between two versions: data, code, settings, tables, metrics, files."""
    from rich.table import Table

    from ecom_tasks.artefacts.compare import diff

    table = Table("part", "what", arguments.first, arguments.second)
    for each in diff(_root(arguments), _name(arguments), arguments.first, arguments.second):
        values = ("-" if value is None else str(value) for value in (each.first, each.second))
        table.add_row(each.part, each.what, *values)
    _print(table)
    return 0


def _retain(arguments: argparse.Namespace) -> int:
    """Show what nobody refers to any more, with its bytes; remove it in two runs with --sweep.

    Kept are what channels, pins and rollbacks need, the newest, the young, and all that these
    were made from.
    """
    from datetime import timedelta

    from rich.table import Table

    from ecom_tasks.artefacts.retention import Policy, collect

    grace = timedelta(hours=arguments.grace_hours)
    policy = Policy(arguments.newest, arguments.days, grace)
    found = collect(_root(arguments), policy, dry=not arguments.sweep)
    table = Table("name", "version", "bytes", "finished", "marked at", "")
    for each in found:
        done = ("removed" if arguments.sweep else "would go") if each.sweepable else "marked"
        done = done if arguments.sweep or each.sweepable else "would be marked"
        table.add_row(each.name, each.version, f"{each.bytes:,}", "yes" if each.finished else "no",
                      each.marked_at, done)  # fmt: skip
    _print(table)
    gone = [each for each in found if each.sweepable]
    word = "removed" if arguments.sweep else "would be removed"
    _out(f"{len(gone)} versions of {sum(each.bytes for each in gone):,} bytes {word}; "
         f"{len(found) - len(gone)} of {sum(e.bytes for e in found if not e.sweepable):,} bytes "
         "wait for a later run")  # fmt: skip
    return 0


def _policy(arguments: argparse.Namespace) -> int:
    """Print the bucket policy for consumers, the console, publishers and who runs `retain`.

    For example: policy --consumer arn:aws:iam::1:user/shop > policy.json, then
    aws s3api put-bucket-policy --bucket BUCKET --policy file://policy.json
    """
    from ecom_tasks.artefacts.access import ROLES, policy

    principals = {role: getattr(arguments, role) for role in ROLES if getattr(arguments, role)}
    made = policy(_root(arguments), principals, aws=arguments.aws)
    _out(json.dumps(made, indent=2))
    return 0


def _pin(arguments: argparse.Namespace) -> int:
    """Keep a version, and all that it was made from, whatever its age."""
    from ecom_tasks.artefacts.retention import pin

    pin(_root(arguments), _name(arguments), arguments.version, f"pinned by {_person()}")
    _out(f"{_name(arguments)} {arguments.version} is pinned")
    return 0


def _unpin(arguments: argparse.Namespace) -> int:
    """Let a pinned version go when nothing else keeps it."""
    from ecom_tasks.artefacts.retention import unpin

    unpin(_root(arguments), _name(arguments), arguments.version)
    _out(f"{_name(arguments)} {arguments.version} is no longer pinned")
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
