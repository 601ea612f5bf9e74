"""What differs between two versions: settings, metrics, tables, and the data they came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecom_tasks.artefacts.lineage import lineage
from ecom_tasks.artefacts.manifest import Manifest
from ecom_tasks.artefacts.release import ref_of


@dataclass(frozen=True)
class Difference:
    """One fact that is not the same; None where a version does not have it."""

    part: str
    what: str
    first: Any
    second: Any


def diff(root: str, name: str, first: str, second: str) -> list[Difference]:
    """Compare two versions of a name, part by part, in the order of what usually explains what.

    Returns
    -------
    Parts: `data` (versions of everything that either was made from, down to the pinned source),
    `code`, `config`, `schema` (columns of tables), `metrics`, `files` (bytes that are new).

    Raises
    ------
    ConfigError
        There is no such version.
    """
    refs = [ref_of(root, name, version) for version in (first, second)]
    return differences(*([node.manifest for node in lineage(ref)] for ref in refs))


def differences(first: Sequence[Manifest], second: Sequence[Manifest]) -> list[Difference]:
    """Compare two versions of which all manifests are at hand; see `diff`.

    Parameters
    ----------
    first, second : the version itself, then all that it was made from.
    """
    trees = (first, second)
    made = [tree[0] for tree in trees]
    sources = [{each.name: _fingerprint(each) for each in tree[1:]} for tree in trees]
    parts: list[tuple[str, list[dict[str, Any]]]] = [
        ("data", sources),
        ("code", [{"fingerprint": m.code.fingerprint[:16], "git": m.code.git, **m.code.packages}
                  for m in made]),
        ("config", [_flat(m.config) for m in made]),
        ("schema", [_columns(m) for m in made]),
        ("metrics", [_flat(m.metrics) for m in made]),
        ("files", [{f.path: f.sha256[:16] for f in m.files} for m in made]),
    ]  # fmt: skip
    return [each for part, (a, b) in parts for each in _differences(part, a, b)]


def _differences(
    part: str, first: Mapping[str, Any], second: Mapping[str, Any]
) -> Iterator[Difference]:
    for what in sorted(first.keys() | second.keys()):
        if first.get(what) != second.get(what):
            yield Difference(part, what, first.get(what), second.get(what))


def _fingerprint(made: Manifest) -> str:
    """Version of an input; of a pinned source also what its files were."""
    files = made.metrics.get("files", {}) if not made.inputs else {}
    return f"{made.version} {files}" if files else made.version


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; lists count as one value."""
    if not isinstance(content, dict):
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _columns(made: Manifest) -> dict[str, str]:
    return {
        f"{file.path}: {column}": kind
        for file in made.files
        for column, kind in (file.columns or {}).items()
    }
