"""Remove what nobody refers to any more: mark in one run, sweep in a later one.

Kept is what a channel points to or could be rolled back to, what is pinned, the newest versions of
each name, what is young, and everything that any of these was made from. The rest is *marked*; a
run that finds it still unreferred to after the grace removes it, its manifest first, so that a
version is whole or absent also while it goes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ecom_tasks.artefacts.forgotten import INSTEAD_OF
from ecom_tasks.artefacts.manifest import MANIFEST, Manifest
from ecom_tasks.artefacts.release import listed_channels, pointer_key, read_pointer, versions
from ecom_tasks.artefacts.store import KeyMissingError, Stat, Store, open_store
from ecom_tasks.errors import ConfigError

AREAS = (
    "artefacts", "sets", "monitoring", "features", "work", "lake", "quarantine", "sources",
)  # fmt: skip
_MARKS, _PINS = "retention/marks.json", "retention/pins.json"
_ROLLBACKS = 3
"""Versions before the present one of a channel that a rollback may still need."""


@dataclass(frozen=True)
class Policy:
    """What to keep without anybody referring to it.

    Attributes
    ----------
    newest : versions of each name, by the time they were made.
    days : younger ones are kept, and so are files of a version that is not finished yet.
    grace : time between mark and sweep; longer than the slowest reader takes.
    """

    newest: int = 5
    days: int = 30
    grace: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class Doomed:
    """A version, or the leftovers of one that never was, that nobody refers to."""

    name: str
    version: str
    bytes: int
    finished: bool
    marked_at: str
    """Empty where it is marked by this very run."""
    sweepable: bool


def pin(root: str, name: str, version: str, reason: str) -> None:
    """Keep a version whatever its age; `unpin` lets it go again."""
    store = open_store(root)
    if not store.exists(f"{name}/v/{version}/{MANIFEST}"):
        raise ConfigError(f"{name} has no version {version}", "See `list`")
    _save(store, _PINS, _load(store, _PINS) | {f"{name}/v/{version}": reason})


def unpin(root: str, name: str, version: str) -> None:
    store = open_store(root)
    _save(store, _PINS, {k: v for k, v in _load(store, _PINS).items()
                         if k != f"{name}/v/{version}"})  # fmt: skip


def collect(
    root: str, policy: Policy, *, dry: bool = True, now: datetime | None = None
) -> list[Doomed]:
    """Mark what nobody refers to, and remove what an earlier run marked.

    Parameters
    ----------
    dry : change nothing, not even the marks.

    Returns
    -------
    What nobody refers to, by name; `sweepable` what was removed, or would have been.
    """
    store, now = open_store(root), now or datetime.now(UTC)
    known = list(names(store))
    manifests = {
        f"{name}/v/{version}": _read(store, name, version)
        for name in known
        for version in versions(store, name)
    }
    kept = _referred(store, known, manifests, policy, now)
    marks = _load(store, _MARKS)
    found, fresh = [], {}
    for name in known:
        for version in store.folders(f"{name}/v"):
            folder = f"{name}/v/{version}"
            if folder in kept:
                continue
            objects = list(store.walk(f"{folder}/"))
            if not objects:
                continue  # some stores go on listing a folder that was emptied
            marked = str(marks.get(folder, ""))
            due = bool(marked) and _age(marked, now) >= policy.grace
            found.append(
                Doomed(name, version, sum(each.bytes for each in objects), folder in manifests,
                       marked, due)
            )  # fmt: skip
            if due and not dry and not _wanted_again(store, name, version, folder in manifests):
                _remove(store, name, version, objects)
            else:
                fresh[folder] = marked or now.isoformat(timespec="seconds")
    if not dry:
        _save(store, _MARKS, fresh)
    return found


def _referred(
    store: Store, known: list[str], manifests: dict[str, Manifest], policy: Policy, now: datetime
) -> set[str]:
    """Folders of all versions that are kept, with everything that they were made from."""
    roots = set(_load(store, _PINS))
    # Made again without somebody who asked to be forgotten: that they are new is no reason.
    superseded = {
        f"{made.name}/v/{version}"
        for made in manifests.values()
        for version in made.config.get(INSTEAD_OF, ())
    }
    for name in known:
        roots |= {f"{name}/v/{version}" for version in _served(store, name, policy, now)}
        own = [each for each in manifests if each.startswith(f"{name}/v/")]
        own = [each for each in own if each not in superseded]
        own.sort(key=lambda each: (manifests[each].provenance.created_at, each), reverse=True)
        roots |= set(own[: policy.newest])
        roots |= {each for each in own if _young(manifests[each], policy, now)}
    kept, left = set(), [each for each in roots if each in manifests]
    while left:
        folder = left.pop()
        if folder in kept:
            continue
        kept.add(folder)
        for ref in manifests[folder].inputs.values():
            # By its place in the store, wherever the store was when the version was made.
            name, _, tail = ref.removesuffix(f"/{MANIFEST}").rpartition("/v/")
            inputs = {f"{own}/v/{tail}" for own in known if name.endswith(own)}
            left += [each for each in inputs if each in manifests]
    return kept


def _served(
    store: Store, name: str, policy: Policy | None = None, now: datetime | None = None
) -> Iterator[str]:
    """Versions that channels point to, and those that a rollback would go back to.

    Channels of days are made by every run: they count as long as they are young.
    """
    for channel in listed_channels(store, name):
        pointer = read_pointer(store, name, channel)
        if pointer is None:
            continue
        if not channel[0].isdigit():
            last = [move.version for move in pointer.history[: _ROLLBACKS + 1]]
            yield from dict.fromkeys([pointer.version, *last])
        elif policy and now and _age(pointer.moved_at, now) < timedelta(days=policy.days):
            yield pointer.version


def _wanted_again(store: Store, name: str, version: str, finished: bool) -> bool:  # noqa: FBT001
    """Look once more, right before removing: somebody may just have put it into service."""
    key = f"{name}/v/{version}/{MANIFEST}"
    return version in set(_served(store, name)) or store.exists(key) is not finished


def _age(moment: str, now: datetime) -> timedelta:
    return now - datetime.fromisoformat(moment)


def _young(made: Manifest, policy: Policy, now: datetime) -> bool:
    return _age(made.provenance.created_at, now) < timedelta(days=policy.days)


def names(store: Store, areas: Sequence[str] = AREAS) -> Iterator[str]:
    """Every name that has versions, one or two levels below its area."""
    left = [f"{area}/{first}" for area in areas for first in store.folders(area)]
    while left:
        place = left.pop(0)
        below = store.folders(place)
        if "v" in below:
            yield place
        elif place.count("/") == 1:
            left += [f"{place}/{each}" for each in below]


def _read(store: Store, name: str, version: str) -> Manifest:
    key = f"{name}/v/{version}/{MANIFEST}"
    return Manifest.from_bytes(store.read(key).data, store.uri(key))


def _remove(store: Store, name: str, version: str, objects: list[Stat]) -> None:
    """Remove pointers of days first, then the manifest, then what it listed."""
    for channel in listed_channels(store, name):
        pointer = read_pointer(store, name, channel)
        if channel[0].isdigit() and pointer and pointer.version == version:
            store.delete([pointer_key(name, channel)])
    manifest = f"{name}/v/{version}/{MANIFEST}"
    store.delete([each.key for each in objects if each.key == manifest])
    store.delete([each.key for each in objects if each.key != manifest])


def _load(store: Store, key: str) -> dict[str, Any]:
    try:
        return dict(json.loads(store.read(key).data))
    except KeyMissingError:
        return {}


def _save(store: Store, key: str, content: dict[str, Any]) -> None:
    data = (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
    try:
        store.replace(key, data, store.read(key).etag)
    except KeyMissingError:
        store.create(key, data)
