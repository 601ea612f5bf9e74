"""Channels: small pointers to versions, moved by compare-and-swap.

`artefacts/pricing/channels/production.json` says which version is in service; a channel named
after a day says which version later steps of that day read.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ecom_tasks.artefacts.manifest import MANIFEST, Headline, Manifest
from ecom_tasks.artefacts.store import Blob, ConflictError, KeyMissingError, Store, open_store
from ecom_tasks.errors import ConfigError, DataContractError, RetryableError
from ecom_tasks.run import Ref

log = logging.getLogger(__name__)
PRODUCTION = "production"
_HISTORY = 50
_TRIES = 30


class Move(BaseModel):
    """One move of a channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int
    version: str
    publish_id: str
    moved_at: str
    reason: str = ""


class Pointer(BaseModel):
    """Content of a channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: str
    channel: str
    sequence: int
    version: str
    as_of: date
    manifest: str
    """Key of the manifest, relative to the store's root."""
    manifest_sha256: str
    publish_id: str
    moved_at: str
    previous_version: str | None = None
    history: list[Move]
    """Newest first, this move included; at most 50."""

    def to_bytes(self) -> bytes:
        return (self.model_dump_json(indent=2) + "\n").encode()


def pointer_key(name: str, channel: str) -> str:
    return f"{name}/channels/{channel}.json"


def manifest_key(made: Manifest) -> str:
    return f"{made.name}/v/{made.version}/{MANIFEST}"


def read_pointer(store: Store, name: str, channel: str) -> Pointer | None:
    """Return where the channel points; None where it never pointed anywhere."""
    try:
        return parse(store.read(pointer_key(name, channel)), name, channel)
    except KeyMissingError:
        return None


def parse(blob: Blob, name: str, channel: str) -> Pointer:
    """Parse a pointer; raise `DataContractError` when it is mangled or another channel's."""
    try:
        pointer = Pointer.model_validate_json(blob.data)
    except ValidationError as error:
        raise DataContractError(
            f"The pointer of {name} channel {channel} is mangled: {error.errors()[0]['msg']}",
            "Delete it and promote the wanted version again; `list` shows the versions",
        ) from error
    if (pointer.name, pointer.channel) != (name, channel):
        raise DataContractError(
            f"The pointer of {name} channel {channel} is that of {pointer.name} {pointer.channel}",
            "Somebody copied it: delete it and promote the wanted version again",
        )
    return pointer


def move(
    store: Store,
    channel: str,
    made: Manifest,
    *,
    newer_only: bool = False,
    reason: str = "",
) -> Pointer:
    """Point the channel to a version, whoever else is moving it at the same time.

    Parameters
    ----------
    newer_only : leave a pointer alone that stands on a later `as_of`.

    Returns
    -------
    Pointer
        Where the channel points now: the version asked for, unless `newer_only` kept another.

    Raises
    ------
    RetryableError
        Others moved the channel all the time.
    """
    name = made.name
    # What is attested is what stands in the store, not what this process believes it wrote.
    sha256 = hashlib.sha256(store.read(manifest_key(made)).data).hexdigest()
    publish_id = uuid.uuid4().hex
    for attempt in range(_TRIES):
        try:
            blob: Blob | None = store.read(pointer_key(name, channel))
        except KeyMissingError:
            blob = None
        current = parse(blob, name, channel) if blob else None
        # The conflict of an earlier attempt may have been our own success seen twice: then the
        # publish id stands in the history, and there is nothing left to do.
        if current and publish_id in {move.publish_id for move in current.history}:
            return current
        if current and (current.version, current.manifest_sha256) == (made.version, sha256):
            return current
        if current and newer_only and current.as_of > made.as_of:
            return current
        move = _move(current, made, publish_id, reason)
        wanted = _next(current, channel, made, sha256, move)
        try:
            if blob:
                store.replace(pointer_key(name, channel), wanted.to_bytes(), blob.etag)
            else:
                store.create(pointer_key(name, channel), wanted.to_bytes())
        except (ConflictError, RetryableError) as error:
            log.debug("moving %s %s, attempt %s: %s", name, channel, attempt, error)
            time.sleep(random.uniform(0, 0.05 * min(attempt + 1, 10)))  # noqa: S311
            continue
        return wanted
    raise RetryableError(
        f"The channel {channel} of {name} could not be moved in {_TRIES} attempts",
        "Others are moving it, or the store fails: try again",
    )


def _move(current: Pointer | None, made: Manifest, publish_id: str, reason: str) -> Move:
    return Move(
        sequence=current.sequence + 1 if current else 1,
        version=made.version,
        publish_id=publish_id,
        moved_at=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=reason,
    )


def _next(
    current: Pointer | None, channel: str, made: Manifest, sha256: str, move: Move
) -> Pointer:
    return Pointer(
        name=made.name,
        channel=channel,
        sequence=move.sequence,
        version=made.version,
        as_of=made.as_of,
        manifest=manifest_key(made),
        manifest_sha256=sha256,
        publish_id=move.publish_id,
        moved_at=move.moved_at,
        previous_version=current.version if current else None,
        history=[move, *(current.history if current else [])][:_HISTORY],
    )


def promote(root: str, name: str, version: str, channel: str = PRODUCTION) -> Pointer:
    """Put any finished version into service, also an older one.

    Raises
    ------
    ConfigError
        There is no such version.
    """
    store = open_store(root)
    key = f"{name}/v/{version}/{MANIFEST}"
    try:
        made = Manifest.from_bytes(store.read(key).data, store.uri(key))
    except KeyMissingError as error:
        known = ", ".join(versions(store, name)[-5:]) or "none"
        raise ConfigError(
            f"{name} has no version {version} under {root}", f"Its newest are: {known}"
        ) from error
    return move(store, channel, made, reason="promoted")


def rollback(root: str, name: str, channel: str = PRODUCTION) -> Pointer:
    """Put the version back into service that the channel had before this one.

    Raises
    ------
    ConfigError
        The channel has no earlier version.
    """
    pointer = read_pointer(open_store(root), name, channel)
    earlier = [move.version for move in pointer.history] if pointer else []
    for version in earlier:
        if pointer and version != pointer.version:
            return promote(root, name, version, channel)
    raise ConfigError(
        f"{name} channel {channel} has no earlier version to go back to", "See `list`"
    )


def ref_of(root: str, name: str, version: str = "") -> Ref:
    """Reference of a version, by default the one in service; `ConfigError` if there is none."""
    store = open_store(root)
    if version:
        key = f"{name}/v/{version}/{MANIFEST}"
        if store.exists(key):
            return Ref(store.uri(key))
    elif pointer := read_pointer(store, name, PRODUCTION):
        return Ref(store.uri(pointer.manifest))
    raise ConfigError(
        f"{name} has no {f'version {version}' if version else 'version in service'} under {root}",
        "See `list`, or run the flow",
    )


def versions(store: Store, name: str) -> list[str]:
    """Finished versions of a name, oldest day first."""
    return [
        version
        for version in store.folders(f"{name}/v")
        if store.exists(f"{name}/v/{version}/{MANIFEST}")
    ]


@dataclass(frozen=True)
class Release:
    """One finished version of a domain, for lists and pages."""

    name: str
    version: str
    as_of: date
    channels: tuple[str, ...]
    headline: Headline | None
    rows: int
    bytes: int
    created_at: str
    seconds: float
    ref: Ref


def listing(root: str, prefix: str = "artefacts") -> list[Release]:
    """Every finished version under `prefix`, by name, newest first."""
    store = open_store(root)
    found = []
    for short in store.folders(prefix):
        name = f"{prefix}/{short}"
        pointing = _channels(store, name)
        for version in versions(store, name):
            key = f"{name}/v/{version}/{MANIFEST}"
            made = Manifest.from_bytes(store.read(key).data, store.uri(key))
            found.append(
                Release(
                    name=name,
                    version=version,
                    as_of=made.as_of,
                    channels=tuple(sorted(pointing.get(version, ()))),
                    headline=made.headline,
                    rows=made.headline.rows if made.headline else made.rows,
                    bytes=sum(entry.bytes for entry in made.files),
                    created_at=made.provenance.created_at,
                    seconds=made.provenance.seconds,
                    ref=Ref(store.uri(key)),
                )
            )
    return sorted(found, key=lambda r: (r.name, r.created_at, r.version), reverse=True)


def _channels(store: Store, name: str) -> dict[str, list[str]]:
    pointing: dict[str, list[str]] = {}
    for stat in store.walk(f"{name}/channels/"):
        channel = stat.key.rsplit("/", 1)[1].removesuffix(".json")
        if pointer := read_pointer(store, name, channel):
            pointing.setdefault(pointer.version, []).append(channel)
    return pointing
