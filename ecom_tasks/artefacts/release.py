"""Channels: small pointers to versions, moved by compare-and-swap.

`artefacts/pricing/channels/production.json` says which version is in service; a channel named
after a day says which version later steps of that day read.
"""

from __future__ import annotations

import hashlib
import logging
import random
import re
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ecom_tasks.artefacts import pull, signing
from ecom_tasks.artefacts.manifest import MANIFEST, Headline, Manifest, Verdict
from ecom_tasks.artefacts.store import Blob, ConflictError, KeyMissingError, Store, open_store
from ecom_tasks.errors import (
    ConfigError,
    DataContractError,
    ModelRejectedError,
    RetryableError,
)
from ecom_tasks.run import Ref

log = logging.getLogger(__name__)
PRODUCTION, PENDING = "production", "pending"
CHANNEL = r"^[a-z][a-z0-9_-]*$"
"""Names that a person may give; channels of days begin with a digit and belong to the flows."""
_HISTORY = 100
_TRIES = 30


class Move(BaseModel):
    """One move of a channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int
    version: str
    publish_id: str
    moved_at: str
    reason: str = ""
    by: str = ""
    """Who promoted, rolled back or approved it; empty where nobody was asked."""


class Signature(BaseModel):
    """Who vouches for a pointer: covers all of it but this field, see `pull.signed_bytes`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_id: str
    value: str


class Pointer(BaseModel):
    """Content of a channel. Schema version 1 had no signature."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1, 2] = 2
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
    """Newest first, this move included; at most 100."""
    share: float | None = None
    """Of a canary: the share of customers that it serves, see `pull.in_canary`."""
    signature: Signature | None = None

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
            "`promote DOMAIN VERSION --repair` mends it; `list` shows the versions",
        ) from error
    if (pointer.name, pointer.channel) != (name, channel):
        raise DataContractError(
            f"The pointer of {name} channel {channel} is that of {pointer.name} {pointer.channel}",
            "Somebody copied it: `promote DOMAIN VERSION --repair` mends it",
        )
    return pointer


@dataclass(frozen=True)
class Terms:
    """On which terms a channel is moved.

    Attributes
    ----------
    newer_only : leave a pointer alone that stands on a later `as_of`.
    instead_of : leave a pointer alone that does not stand on this version.
    share : of customers, for a canary.
    repair : replace a pointer that is mangled. Its moves are lost; the new one is numbered by the
        clock, which is ahead of any count, so that consumers do not take it for an old one.
    although_rejected : promote a version that its gate did not let pass.
    """

    newer_only: bool = False
    instead_of: str = ""
    reason: str = ""
    by: str = ""
    share: float | None = None
    repair: bool = False
    although_rejected: bool = False


def move(store: Store, channel: str, made: Manifest, terms: Terms = Terms()) -> Pointer:
    """Point the channel to a version, whoever else is moving it at the same time.

    Returns
    -------
    Pointer
        Where the channel points now: the version asked for, unless `newer_only` kept another.

    Raises
    ------
    RetryableError
        Others moved the channel all the time, or the store failed. Trying again is safe.
    """
    publish_id = uuid.uuid4().hex
    last: Exception | None = None
    for attempt in range(_TRIES):
        try:
            moved = _try_to_move(store, channel, made, publish_id, terms)
        except (ConflictError, RetryableError) as error:
            # Ambiguous: it may have been our own success, whose answer was lost or seen twice.
            # Then the next look finds our publish id.
            last = error
            log.debug("moving %s %s, attempt %s: %s", made.name, channel, attempt, error)
            time.sleep(random.uniform(0, 0.05 * min(attempt + 1, 10)))  # noqa: S311
            continue
        return moved
    raise RetryableError(
        f"Whether the channel {channel} of {made.name} was moved is not known after {_TRIES} "
        f"attempts: {last}",
        "Others are moving it, or the store fails. Try again: what is done is not done twice",
    )


def _try_to_move(
    store: Store, channel: str, made: Manifest, publish_id: str, terms: Terms
) -> Pointer:
    name, key = made.name, pointer_key(made.name, channel)
    # What is attested is what stands in the store, not what this process believes it wrote.
    sha256 = hashlib.sha256(store.read(manifest_key(made)).data).hexdigest()
    try:
        blob: Blob | None = store.read(key)
    except KeyMissingError:
        blob = None
    current = _current(blob, name, channel, terms)
    if current and (
        publish_id in {move.publish_id for move in current.history}
        or (terms.newer_only and current.as_of > made.as_of)
        or terms.instead_of not in {"", current.version}
        or _says(current, made, sha256, terms)
    ):
        return current
    sequence = current.sequence + 1 if current else 1
    if blob and not current:
        sequence = int(time.time())
    move = Move(
        sequence=sequence,
        version=made.version,
        publish_id=publish_id,
        moved_at=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=terms.reason,
        by=terms.by,
    )
    wanted = _next(current, channel, made, sha256, move, terms)
    if blob:
        store.replace(key, wanted.to_bytes(), blob.etag)
    else:
        store.create(key, wanted.to_bytes())
    return wanted


def _current(blob: Blob | None, name: str, channel: str, terms: Terms) -> Pointer | None:
    if blob is None:
        return None
    try:
        return parse(blob, name, channel)
    except DataContractError:
        if not terms.repair:
            raise
        log.warning("replacing the mangled pointer of %s %s: its history is lost", name, channel)
        return None


def _says(current: Pointer, made: Manifest, sha256: str, terms: Terms) -> bool:
    """Whether the pointer says already what is wanted, under a signature that is in use."""
    signer = signing.own_key_id() if signing.signs(made.name) else ""
    return (
        (current.version, current.manifest_sha256) == (made.version, sha256)
        and current.share == terms.share
        and signer in {"", current.signature.key_id if current.signature else None}
    )


def _next(
    current: Pointer | None, channel: str, made: Manifest, sha256: str, move: Move, terms: Terms
) -> Pointer:
    unsigned = Pointer(
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
        share=terms.share,
    )
    if not signing.signs(made.name):
        return unsigned
    signature = signing.signature_of(pull.signed_bytes(unsigned.model_dump(mode="json")))
    return unsigned.model_copy(update={"signature": Signature(**signature)})


def promote(
    root: str, name: str, version: str, channel: str = PRODUCTION, terms: Terms | None = None
) -> Pointer:
    """Put any finished version into service, also an older one.

    Raises
    ------
    ModelRejectedError
        Its gate did not let it pass, and the terms do not say `although_rejected`.
    ConfigError
        There is no such version, the channel has no name to be moved by hand, its share is none,
        or the version lacks the signature that consumers will ask for.
    """
    terms = terms or Terms(reason="promoted")
    if not re.match(CHANNEL, channel):
        raise ConfigError(
            f"{channel!r} is no channel", "Say production, canary, shadow or the like"
        )
    if (terms.share is not None) and not (channel != PRODUCTION and 0 < terms.share <= 1):
        raise ConfigError(
            f"{channel} cannot serve a share of {terms.share}",
            "A canary serves more than 0 and at most 1, production serves all",
        )
    store = open_store(root)
    made = read_manifest(store, name, version)
    check_signed(store, made)
    if made.gate and not made.gate.accepted and not terms.although_rejected:
        raise ModelRejectedError(
            f"{name} {version} was rejected: {'; '.join(made.gate.reasons)}",
            "Promote another version, or say --although-rejected",
        )
    return move(store, channel, made, terms)


def awaits_approval(store: Store, made: Manifest) -> bool:
    """Whether a person must approve the version, and nobody has put it into service yet."""
    if not (made.gate and made.gate.approval):
        return False
    pointer = read_pointer(store, made.name, PRODUCTION)
    return pointer is None or pointer.version != made.version


def check_signed(store: Store, made: Manifest) -> None:
    """Refuse a version that the configured key has not signed; without a key, all pass.

    Raises
    ------
    ConfigError
        Consumers that trust this key would refuse the version.
    """
    folder = manifest_key(made).removesuffix(f"/{MANIFEST}")
    if signing.signs(made.name) and not signing.signed_by_us(
        store, folder, store.read(manifest_key(made)).data
    ):
        raise ConfigError(
            f"{made.name} {made.version} is not signed by the key {signing.own_key_id()}",
            "Where you trust it: `sign DOMAIN VERSION` signs it",
        )


def sign(root: str, name: str, version: str) -> str:
    """Sign a finished version after reading all of its bytes; return the id of the key.

    Raises
    ------
    DataContractError
        A file is not what the manifest attests.
    """
    store = open_store(root)
    made = read_manifest(store, name, version)
    folder = manifest_key(made).removesuffix(f"/{MANIFEST}")
    for entry in made.files:
        data = store.read(f"{folder}/{entry.path}").data
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise DataContractError(
                f"{store.uri(f'{folder}/{entry.path}')} is not what its manifest attests",
                "It was changed after publishing: sign and promote another version",
            )
    return signing.sign_manifest(store, folder, store.read(manifest_key(made)).data)


def read_manifest(store: Store, name: str, version: str) -> Manifest:
    """Read the manifest of a version; raise `ConfigError` naming the newest when there is none."""
    key = f"{name}/v/{version}/{MANIFEST}"
    try:
        return Manifest.from_bytes(store.read(key).data, store.uri(key))
    except KeyMissingError as error:
        known = ", ".join(versions(store, name)[-5:]) or "none"
        raise ConfigError(
            f"{name} has no version {version} under {store.root}", f"Its newest are: {known}"
        ) from error


def manifest_of(ref: Ref) -> Manifest:
    """Read a manifest by its reference; `DataContractError` when it is missing or mangled."""
    folder, _, key = ref.rpartition("/")
    try:
        return Manifest.from_bytes(open_store(folder).read(key).data, ref)
    except KeyMissingError as error:
        raise DataContractError(f"There is no {ref}", "Run the flow again") from error


def rollback(root: str, name: str, channel: str = PRODUCTION, by: str = "") -> Pointer:
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
            # It was in service before: whatever its gate said, somebody has let it pass.
            terms = Terms(reason="rolled back", by=by, share=pointer.share, although_rejected=True)
            return promote(root, name, version, channel, terms)
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


def served_by_day(root: str, name: str, before: date) -> list[Ref]:
    """Return what was in service and is about an earlier day: one version a day, newest day first.

    Of several of one day, the one that was put into service last. Versions that retention removed
    are left out.
    """
    store = open_store(root)
    pointer = read_pointer(store, name, PRODUCTION)
    found: dict[str, Ref] = {}
    for moved in pointer.history if pointer else []:
        about, key = moved.version[:10], f"{name}/v/{moved.version}/{MANIFEST}"
        if about < before.isoformat() and about not in found and store.exists(key):
            found[about] = Ref(store.uri(key))
    return [found[about] for about in sorted(found, reverse=True)]


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
    gate: Verdict | None
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
                    gate=made.gate,
                    rows=made.headline.rows if made.headline else made.rows,
                    bytes=sum(entry.bytes for entry in made.files),
                    created_at=made.provenance.created_at,
                    seconds=made.provenance.seconds,
                    ref=Ref(store.uri(key)),
                )
            )
    return sorted(found, key=lambda r: (r.name, r.created_at, r.version), reverse=True)


def listed_channels(store: Store, name: str) -> list[str]:
    """Names of all channels that a name has, those of days included."""
    keys = (stat.key for stat in store.walk(f"{name}/channels/"))
    return [key.rpartition("/")[2].removesuffix(".json") for key in keys if key.endswith(".json")]


def _channels(store: Store, name: str) -> dict[str, list[str]]:
    pointing: dict[str, list[str]] = {}
    for channel in listed_channels(store, name):
        if pointer := read_pointer(store, name, channel):
            pointing.setdefault(pointer.version, []).append(channel)
    return pointing
