"""Make, find and read versions: the only door of a domain's tasks to storage."""

from __future__ import annotations

import json
import logging
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ecom_tasks import device
from ecom_tasks.artefacts import gate, signing
from ecom_tasks.artefacts import release as channels
from ecom_tasks.artefacts.growing import Growing
from ecom_tasks.artefacts.manifest import (
    MANIFEST,
    Check,
    FileEntry,
    Headline,
    Manifest,
    Provenance,
    Verdict,
)
from ecom_tasks.artefacts.store import (
    ConflictError,
    KeyMissingError,
    Store,
    open_store,
    sha256_of,
)
from ecom_tasks.artefacts.version import code_of, version_of
from ecom_tasks.errors import ConfigError, DataContractError, ModelRejectedError
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:  # a task that finds its work done needs no tables
    import polars as pl

log = logging.getLogger(__name__)
_RELEASED = "artefacts/"
_UPLOADS = 8


@dataclass
class Draft:
    """What a builder fills: files in `folder`, facts in the other fields.

    Attributes
    ----------
    folder : scratch folder; every file in it is published under its relative path.
    destination : URI for `write_part`, for Dask workers that publish their part themselves.
    limits : settings of the gate, among them the limits that `limit` is given.
    metrics : anything JSON can say.
    assumptions : plain sentences on what was assumed because the data did not say.
    content_version : raised when a table or column that consumers know goes or changes.
    """

    folder: Path
    destination: str
    limits: gate.GateConfig = field(default_factory=gate.GateConfig)
    metrics: dict[str, Any] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    content_version: int = 1
    _headline: Headline | None = None
    _evidence: pl.DataFrame | None = None
    _checks: list[Check] = field(default_factory=list)
    _approval: list[str] = field(default_factory=list)
    _entries: dict[str, FileEntry] = field(default_factory=dict)

    def write_frame(self, path: str, frame: pl.DataFrame) -> None:
        """Publish a table as Parquet."""
        self.add([_write_frame(self.folder, path, frame)])

    @contextmanager
    def growing(
        self, plain: Sequence[str] = (), filled: Sequence[str] = ()
    ) -> Iterator[Callable[[str, pl.DataFrame], None]]:
        """Publish tables piece by piece: what is yielded adds rows to the Parquet file of a path.

        Each piece becomes a row group; a path begun without rows is published empty.

        Parameters
        ----------
        plain : columns in whose order the rows stand, or nearly so.
        filled : columns that have a value in every row.
        """
        growing = Growing(self.folder, plain, filled)
        try:
            yield growing.add
        finally:
            growing.close()
        self.add(
            _described(self.folder, path, rows, growing.columns[path])
            for path, rows in growing.rows.items()
        )

    def write_text(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def write_json(self, path: str, content: object) -> None:
        self.write_text(path, json.dumps(content, sort_keys=True, indent=2) + "\n")

    def add(self, entries: Iterable[FileEntry]) -> None:
        """Enter files that `write_part` has already stored."""
        self._entries.update({entry.path: entry for entry in entries})

    def rows_written(self) -> dict[str, int]:
        """Rows of the tables written so far, by path."""
        return {path: entry.rows or 0 for path, entry in self._entries.items()}

    def headline(self, **facts: Any) -> None:
        """Say the one figure that counts; see `Headline` for the fields."""
        self._headline = Headline(**facts)

    @contextmanager
    def gating(self) -> Iterator[None]:
        """A `ModelRejectedError` in the block goes into the manifest; the version is kept."""
        try:
            yield
        except ModelRejectedError as error:
            self._checks.append(Check(question="fit for use", holds=False, said=str(error)))

    def limit(self, question: str, value: float | None, bounds: gate.Bounds) -> None:
        """Ask that a figure lies within bounds; see `gate.within`."""
        self._checks.append(gate.within(question, value, bounds))

    def ask(self, question: str, value: float, limit: float | None) -> None:
        """Let a person approve the release where a figure exceeds its limit."""
        if limit is not None and value > limit:
            self._approval.append(f"{question}: {value:.4g}, above {limit:g}")

    def evidence(self, losses: pl.DataFrame) -> None:
        """Hand in held-out losses, which the gate judges; see `gate.EVIDENCE`."""
        self._evidence = losses
        self.write_frame(gate.EVIDENCE, losses)

    def finish(self, store: Store, folder: str) -> list[FileEntry]:
        """Upload what lies in the scratch folder; return all entries, sorted by path."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        local = {path.relative_to(self.folder).as_posix(): path for path in found}
        for path in local.keys() - self._entries.keys():
            self._entries[path] = _described(self.folder, path)

        def upload(path: str) -> None:
            store.upload(f"{folder}/{path}", local[path], self._entries[path].sha256)

        with ThreadPoolExecutor(_UPLOADS) as pool:
            list(pool.map(upload, sorted(local)))
        return [self._entries[path] for path in sorted(self._entries)]


def produce(
    run: Run,
    name: str,
    build: Callable[[Draft], None],
    *,
    inputs: Sequence[Ref] = (),
    config: BaseModel | None = None,
    find_by_day: bool = True,
) -> Ref:
    """Make the version of `name` that follows from inputs, settings and code; or find it made.

    The channel named after `run.as_of` then points to it, so that `find` sees it.

    Parameters
    ----------
    name : `lake/order_lines`, `features/customers`, `work/pricing/panel`, `artefacts/pricing`.
    build : fills the draft; not called when the version exists. Its module's domain is the code
        that the version is named after.
    inputs : manifests that the content depends on, each of another name.
    config : settings that the content depends on.
    find_by_day : False leaves the channel of the day where it is.
    """
    store = open_store(run.root)
    read = [manifest(ref) for ref in inputs]
    settings = config.model_dump(mode="json") if config else {}
    limits = gate.GateConfig.of(run)
    if name.startswith(_RELEASED):
        # Other limits are another judgement; to which channel it goes is not part of it.
        settings |= {"gate": limits.model_dump(mode="json", exclude={"channel"})}
    code = code_of(build.__module__.split(".")[1])
    # By version, not by URI: the same data in another bucket is the same version.
    made_from = {each.name: each.version for each in read}
    version = version_of(run.as_of, name, made_from, settings, code)
    folder = f"{name}/v/{version}"
    ref = Ref(store.uri(f"{folder}/{MANIFEST}"))
    if store.exists(f"{folder}/{MANIFEST}"):
        log.info("unchanged: %s %s was found finished", name, version)
        if find_by_day:
            _enter_day(store, run, manifest(ref))
        return ref
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ecom-") as scratch:
        draft = Draft(Path(scratch), store.uri(folder), limits)
        with device.recording() as seen:
            build(draft)
        built = time.monotonic()
        files = draft.finish(store, folder)
        stored = time.monotonic() - built
        verdict = _judge(store, name, draft, files)
    made = Manifest(
        name=name,
        version=version,
        as_of=run.as_of,
        files=files,
        inputs={each.name: str(ref) for each, ref in zip(read, inputs, strict=True)},
        config=settings,
        metrics=draft.metrics,
        headline=draft._headline,
        assumptions=[*draft.assumptions, *seen.fallbacks],
        content_version=draft.content_version,
        gate=verdict,
        code=code,
        provenance=Provenance(
            run_id=run.run_id,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - started, 2),
            peak_memory_bytes=_peak_memory(),
            device=seen.device,
            platform=platform.platform(),
        ),
    )
    _write_manifest(store, folder, made)
    log.info(
        "made %s %s: %s rows in %s files, %.2f s, %.2f s of them to store it",
        name, version, made.rows, len(files), made.provenance.seconds, stored,
    )  # fmt: skip
    if find_by_day:
        _enter_day(store, run, made)
    return ref


def _enter_day(store: Store, run: Run, made: Manifest) -> None:
    """Let later steps of the day find the version, unless its gate did not let it pass."""
    if made.gate is None or made.gate.accepted:
        channels.move(store, run.as_of.isoformat(), made)


def _judge(store: Store, name: str, draft: Draft, files: list[FileEntry]) -> Verdict | None:
    """Hold a release against its baseline, the version in service and its limits."""
    if not name.startswith(_RELEASED):
        return None
    config, checks = draft.limits, list(draft._checks)
    if draft._evidence is not None:
        baseline = draft._headline.baseline_name if draft._headline else "the plain baseline"
        checks.append(gate.beats_baseline(draft._evidence, baseline, config))
    pointer = channels.read_pointer(store, name, channels.PRODUCTION)
    if pointer is None:
        return gate.verdict(checks, "", draft._approval)
    champion = manifest(Ref(store.uri(pointer.manifest)))
    bumped = draft.content_version > champion.content_version
    checks.append(gate.same_schema(files, champion.files, bumped=bumped, version=champion.version))
    theirs = f"{pointer.manifest.removesuffix(MANIFEST)}{gate.EVIDENCE}"
    if draft._evidence is not None and any(f.path == gate.EVIDENCE for f in champion.files):
        import polars as pl

        losses = pl.read_parquet(store.read(theirs).data)
        checks.append(gate.no_worse(draft._evidence, losses, champion.version, config))
    return gate.verdict(checks, champion.version, draft._approval)


def _peak_memory() -> int:
    """Bytes of the largest process so far: this one, or a worker that it started and ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) * 1024


def _write_manifest(store: Store, folder: str, made: Manifest) -> None:
    data = made.to_bytes()
    if signing.signs(made.name):
        # Before the manifest, so that no version is there without its signature.
        signing.sign_manifest(store, folder, data)
    try:
        store.create(f"{folder}/{MANIFEST}", data)
    except ConflictError:
        # Another try of the same run was faster, or this one's success came back as a conflict:
        # in both cases a version of the same name stands, made from the same inputs and code.
        log.info("unchanged: %s %s was finished meanwhile", made.name, made.version)


def write_part(destination: str, path: str, frame: pl.DataFrame) -> FileEntry:
    """Store one file of a table straight from a worker, and describe it for `Draft.add`."""
    with tempfile.TemporaryDirectory(prefix="ecom-") as scratch:
        entry = _write_frame(Path(scratch), path, frame)
        open_store(destination).upload(path, Path(scratch) / path, entry.sha256)
    return entry


def _write_frame(folder: Path, path: str, frame: pl.DataFrame) -> FileEntry:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(target, compression="zstd", compression_level=3, statistics=True)
    columns = {column: str(dtype) for column, dtype in frame.schema.items()}
    return _described(folder, path, frame.height, columns)


def _described(
    folder: Path, path: str, rows: int | None = None, columns: dict[str, str] | None = None
) -> FileEntry:
    file = folder / path
    return FileEntry(
        path=path, bytes=file.stat().st_size, sha256=sha256_of(file), rows=rows, columns=columns
    )


def find(run: Run, name: str) -> Ref:
    """Return the version of `name` that the channel of `run.as_of` points to.

    Raises
    ------
    DataContractError
        Nothing was published for this day; the hint names the flow that does it.
    """
    pointer = channels.read_pointer(open_store(run.root), name, run.as_of.isoformat())
    if pointer is None:
        flow = {"lake": "ingestion", "features": "features"}.get(name.split("/")[0], "the flow")
        raise DataContractError(
            f"No {name} for {run.as_of} under {run.root}",
            f"Run {flow} for this day first, or give --source so that it is run for you",
        )
    return Ref(f"{run.root.rstrip('/')}/{pointer.manifest}")


def manifest(ref: Ref) -> Manifest:
    """Read a manifest; raise `DataContractError` when it is missing or mangled."""
    return channels.manifest_of(ref)


def input_named(ref: Ref, name: str) -> Ref:
    """Follow one input of a version (for example of the collection `features/all`)."""
    inputs = manifest(ref).inputs
    if name not in inputs:
        raise DataContractError(
            f"{ref} has no input {name!r}", f"It has: {', '.join(sorted(inputs)) or 'none'}"
        )
    return Ref(inputs[name])


def paths(ref: Ref, pattern: str = "*.parquet") -> list[str]:
    """Paths of a version's files that match (`*` also crosses folders)."""
    return [entry.path for entry in manifest(ref).files if fnmatch(entry.path, pattern)]


def has_rows(ref: Ref) -> bool:
    """False for a table that the shop lacks, which is published without files."""
    return manifest(ref).rows > 0


def rows_of(ref: Ref, path: str) -> int:
    """Rows of one file of a table."""
    return sum(entry.rows or 0 for entry in manifest(ref).files if entry.path == path)


def scan(ref: Ref, pattern: str = "*.parquet") -> pl.LazyFrame:
    """Read a table lazily, straight from the store.

    Raises
    ------
    DataContractError
        No file matches.
    """
    matching = paths(ref, pattern)
    if not matching:
        raise DataContractError(f"{ref} has no file {pattern!r}", "Ask has_rows first")
    return scan_files([f"{ref.removesuffix(MANIFEST)}{path}" for path in matching])


def scan_each(ref: Ref, pattern: str = "*.parquet") -> list[pl.LazyFrame]:
    """Read the files of a table lazily, each by itself; none where the shop lacks it."""
    return [scan(ref, path) for path in sorted(paths(ref, pattern))]


def scan_files(uris: list[str]) -> pl.LazyFrame:
    """Lazy frame over Parquet files by their URIs (`file://` or `s3://`)."""
    import polars as pl

    options = None
    if uris[0].startswith("s3://"):
        from ecom_tasks.artefacts.s3_store import polars_options

        options = polars_options()
    return pl.scan_parquet(
        [uri.removeprefix("file://") for uri in uris],
        storage_options=options,
        hive_partitioning=False,
    )


def fetch(ref: Ref, folder: Path, pattern: str = "*") -> Path:
    """Download files of a version into `folder`, each verified against the manifest."""
    store = _store_of(ref)
    for entry in manifest(ref).files:
        if fnmatch(entry.path, pattern):
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            store.download(entry.path, target)
            if sha256_of(target) != entry.sha256:
                raise DataContractError(
                    f"{store.uri(entry.path)} is not what its manifest attests",
                    "It was changed or cut off: restore it, or run the flow that made it again",
                )
    return folder


def read_text(place: str) -> str:
    """Read a text file that is no artefact, for example rules, by its path or URI.

    Raises
    ------
    ConfigError
        There is no such file, or it is no text.
    """
    try:
        if "://" in place:
            folder, _, name = place.rpartition("/")
            return open_store(folder).read(name).data.decode()
        return Path(place).read_text(encoding="utf-8")
    except (OSError, KeyMissingError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place} cannot be read: {error}", "Give its path or URI") from error


def read_parquet(place: str) -> pl.DataFrame:
    """Read a table that is no artefact by its path or URI.

    Raises
    ------
    ConfigError
        There is no such file, or it is no Parquet.
    """
    import polars as pl

    try:
        if "://" in place:
            folder, _, name = place.rpartition("/")
            return pl.read_parquet(open_store(folder).read(name).data)
        return pl.read_parquet(place)
    except (OSError, KeyMissingError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{place} cannot be read: {error}", "Give a Parquet file") from error


def read_json(ref: Ref, path: str) -> Any:
    return json.loads(_store_of(ref).read(path).data)


def release(run: Run, ref: Ref) -> Ref:
    """Put a version into service: move the channel, unless a newer day is there.

    The channel is `production`, or what `gate.channel` says: `shadow` publishes without serving.
    What a person must approve goes to `pending` and waits there.

    Raises
    ------
    ModelRejectedError
        Its gate did not let it pass; the version is kept with the reasons in its manifest.
    """
    store = open_store(run.root)
    made = manifest(ref)
    if made.gate and not made.gate.accepted:
        raise ModelRejectedError(
            f"{made.name} {made.version} is kept but not in service: "
            f"{'; '.join(made.gate.reasons)}",
            "The version in service stays. Look at its report; `promote --although-rejected` puts "
            "it into service all the same",
        )
    channels.check_signed(store, made)
    terms = channels.Terms(newer_only=True, reason="released")
    channel = gate.GateConfig.of(run).channel
    if channel == channels.PRODUCTION and channels.awaits_approval(store, made):
        log.warning(
            "%s %s waits for a person, since %s. `promote` puts it into service",
            made.name, made.version, "; ".join(made.gate.approval if made.gate else []),
        )  # fmt: skip
        channel = channels.PENDING
    pointer = channels.move(store, channel, made, terms)
    if pointer.version != made.version:
        log.warning(
            "%s %s is published but not in service: %s has the newer %s. "
            "`promote` puts it into service",
            made.name, made.version, channel, pointer.version,
        )  # fmt: skip
    return ref


def _store_of(ref: Ref) -> Store:
    return open_store(ref.removesuffix(f"/{MANIFEST}"))
