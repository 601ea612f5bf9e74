"""Forget a person: out of the tables that later runs read, and never back in.

The pseudonym goes onto the list that every ingestion reads. Then each version of lake, quarantine
and features that a day points to, and that holds anybody on the list, is made again without them;
so is what was made from such a version, so that nothing current refers to what holds them. When
all are made, the days move to them. Versions are immutable: those of before stay until retention
removes them, and are reported, as are releases.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import polars as pl
from pydantic import BaseModel, ConfigDict

from ecom_tasks.artefacts import dataset, forgotten, mentions, release, retention
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.manifest import MANIFEST, Manifest
from ecom_tasks.artefacts.release import Terms
from ecom_tasks.artefacts.store import Store, open_store
from ecom_tasks.errors import DataContractError
from ecom_tasks.run import Ref, Run

READ_LATER = ("lake", "quarantine", "features")


class _Settings(BaseModel):
    """Settings of the version that is made again, with `forgotten` and `instead_of`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="allow")


@dataclass(frozen=True)
class Renewed:
    """A version that days point to no longer; `instead` is empty in a dry run.

    Attributes
    ----------
    rows : that were removed, each copy of a table counted.
    """

    name: str
    version: str
    instead: str
    rows: int


@dataclass(frozen=True)
class Holding:
    """A version that goes on holding the person until retention removes it.

    Attributes
    ----------
    files : paths that do.
    channels : that serve it, days not counted.
    finished : False for what a publisher left behind that was killed.
    """

    name: str
    version: str
    files: tuple[str, ...]
    channels: tuple[str, ...]
    finished: bool


@dataclass(frozen=True)
class Outcome:
    """What was done, or would be, and what is left."""

    renewed: list[Renewed]
    holding: list[Holding]


def forget(root: str, pseudonym: str, key_fingerprint: str, *, dry: bool = False) -> Outcome:
    """Forget a person. Doing it again finds it done, or what a run at work brought back meanwhile.

    Parameters
    ----------
    key_fingerprint : of the key that made the pseudonym.
    dry : change nothing.

    Raises
    ------
    ConfigError
        Others were forgotten under another key; see `forgotten.people`.
    RetryableError
        The store failed; what was done is not done twice.
    """
    store = open_store(root)
    gone = {*forgotten.people(store, key_fingerprint), pseudonym}
    if not dry:
        forgotten.add(store, key_fingerprint, pseudonym)
    held = _search(store, gone)
    renewal = _Renewal(store, gone, held, dry=dry)
    renewal.run()
    holding = [
        _holding(store, folder, files)
        for folder, found in sorted(held.items())
        if (files := tuple(path for path in sorted(found) if pseudonym in found[path]))
    ]
    return Outcome(renewal.done, holding)


Held = dict[str, dict[str, set[str]]]
"""Folder of a version -> path in it -> who stands in the file."""


def _search(store: Store, people: Collection[str]) -> Held:
    """Look for people in every file of every version of every area."""
    held: Held = {}
    for area in retention.AREAS:
        for key, found in mentions.stored(store, f"{area}/", people).items():
            name, versioned, tail = key.partition("/v/")
            if versioned:
                version, _, path = tail.partition("/")
                held.setdefault(f"{name}/v/{version}", {})[path] = found
    return held


def _holding(store: Store, folder: str, files: tuple[str, ...]) -> Holding:
    name, _, version = folder.partition("/v/")
    serving = []
    for channel in release.listed_channels(store, name):
        pointer = release.read_pointer(store, name, channel)
        if pointer and pointer.version == version and not channel[0].isdigit():
            serving.append(channel)
    finished = store.exists(f"{folder}/{MANIFEST}")
    return Holding(name, version, files, tuple(serving), finished)


class _Renewal:
    """Makes versions again without some people, inputs before what was made from them."""

    def __init__(self, store: Store, people: set[str], held: Held, *, dry: bool) -> None:
        self.done: list[Renewed] = []
        self._store, self._people, self._held, self._dry = store, people, held, dry
        self._refs: dict[str, Ref] = {}

    def run(self) -> None:
        """Renew what days point to; move the days when all of it is made."""
        moves = []
        for name in retention.names(self._store, READ_LATER):
            for day in release.listed_channels(self._store, name):
                pointer = release.read_pointer(self._store, name, day)
                if pointer is None or not day[0].isdigit():
                    continue
                old = Ref(self._store.uri(pointer.manifest))
                new = self._renewed(old)
                if new != old:
                    moves.append((day, pointer.version, new))
        if self._dry:
            return
        for day, version, new in moves:
            # Unless a run at work has moved it meanwhile: then that one counts.
            terms = Terms(reason="forgotten", instead_of=version)
            release.move(self._store, day, dataset.manifest(new), terms)

    def _renewed(self, ref: Ref) -> Ref:
        """Return what stands instead of a version; itself where it may stay."""
        made = dataset.manifest(ref)
        folder = f"{made.name}/v/{made.version}"
        if folder not in self._refs:
            inputs = {name: self._here(name, uri) for name, uri in made.inputs.items()}
            renewed = {name: self._renewed(each) for name, each in inputs.items()}
            if folder in self._held or renewed != inputs:
                self._refs[folder] = self._make(made, ref, list(renewed.values()))
            else:
                self._refs[folder] = ref
        return self._refs[folder]

    def _here(self, name: str, uri: str) -> Ref:
        """An input by its place in this store, wherever the store was when it was made."""
        key = f"{name}/v/{uri.rpartition('/v/')[2]}"
        return Ref(self._store.uri(key) if self._store.exists(key) else uri)

    def _make(self, made: Manifest, ref: Ref, inputs: list[Ref]) -> Ref:
        listed = {entry.path for entry in made.files}
        held = sorted(listed & set(self._held.get(f"{made.name}/v/{made.version}", {})))
        if self._dry:
            self.done.append(Renewed(made.name, made.version, "", self._rows(made, ref, held)))
            return Ref("")

        def build(draft: Draft) -> None:
            dataset.fetch(ref, draft.folder)
            draft.add(made.files)
            for path in held:
                rows = self._clean(draft.folder / path)
                if rows is not None:
                    draft.write_frame(path, rows)
            draft.content_version = made.content_version
            draft.metrics = json.loads(mentions.scrub(json.dumps(made.metrics), self._people))
            draft.assumptions = [*made.assumptions, forgotten.told(self._people)]

        earlier = made.config.get(forgotten.INSTEAD_OF, [])
        settings = made.config | {
            "forgotten": forgotten.fingerprint(self._people),
            forgotten.INSTEAD_OF: [*earlier, made.version],
        }
        new = dataset.produce(
            Run("forget", made.as_of, self._store.root), made.name, build,
            inputs=inputs, config=_Settings(**settings), find_by_day=False,
        )  # fmt: skip
        without = dataset.manifest(new)
        self.done.append(
            Renewed(made.name, made.version, without.version, made.rows - without.rows)
        )
        return new

    def _rows(self, made: Manifest, ref: Ref, held: list[str]) -> int:
        """Count what would be removed."""
        count = 0
        with TemporaryDirectory(prefix="ecom-") as scratch:
            for entry in made.files:
                if entry.path in held:
                    rows = self._clean(dataset.fetch(ref, Path(scratch), entry.path) / entry.path)
                    count += (entry.rows or 0) - (rows.height if rows is not None else 0)
        return count

    def _clean(self, file: Path) -> pl.DataFrame | None:
        rows = mentions.remove(file, self._people)
        if rows is not None:
            rows.write_parquet(file)
        if mentions.found(file, self._people):
            raise DataContractError(
                f"Somebody cannot be taken out of {file.name}: they stand in it in a form "
                "that is not known",
                "Remove the version that holds it by hand, and run its flow again",
            )
        return rows
