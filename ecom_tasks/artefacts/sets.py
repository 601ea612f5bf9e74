"""Release sets: versions that belong together, under one pointer that is moved at once.

A set is a version like any other, `sets/<name>`, whose one file says which version of which release
belongs to it and what that version's manifest hashes to. `pull` brings all of it or none.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ecom_tasks.artefacts import pull, release, signing
from ecom_tasks.artefacts.lineage import lineage
from ecom_tasks.artefacts.manifest import MANIFEST, Code, FileEntry, Manifest, Provenance
from ecom_tasks.artefacts.release import Pointer, Terms
from ecom_tasks.artefacts.store import ConflictError, open_store, sha256_of
from ecom_tasks.errors import ConfigError, ModelRejectedError
from ecom_tasks.run import Ref


def bind(
    root: str,
    name: str,
    wanted: Mapping[str, str],
    channel: str = release.PRODUCTION,
    terms: Terms | None = None,
) -> Pointer:
    """Make a set of versions and put it into service.

    Parameters
    ----------
    name : for example `sets/shop`.
    wanted : release (`artefacts/pricing`) -> version; empty for the one in service.

    Raises
    ------
    ConfigError
        A version is not there, or the versions do not belong together.
    ModelRejectedError
        The gate of one did not let it pass.
    """
    if not name.startswith("sets/") or len(wanted) < 2:
        raise ConfigError(f"{name!r} binds {len(wanted)} releases", "Bind two or more as sets/NAME")
    store = open_store(root)
    refs = {each: release.ref_of(root, each, version) for each, version in sorted(wanted.items())}
    members = {each: release.manifest_of(ref) for each, ref in refs.items()}
    _refuse_strangers(members, {each: _made_from(ref) for each, ref in refs.items()})
    said = {
        each: {"version": made.version, "manifest_sha256": _sha256(
            store.read(release.manifest_key(made)).data)}
        for each, made in members.items()
    }  # fmt: skip
    data = (json.dumps(said, sort_keys=True, indent=2) + "\n").encode()
    as_of = max(made.as_of for made in members.values())
    version = f"{as_of}-{_sha256(data)[:16]}"
    folder = f"{name}/v/{version}"
    if not store.exists(f"{folder}/{MANIFEST}"):
        with tempfile.TemporaryDirectory(prefix="ecom-") as scratch:
            file = Path(scratch) / pull.MEMBERS
            file.write_bytes(data)
            store.upload(f"{folder}/{pull.MEMBERS}", file, sha256_of(file))
        made = Manifest(
            name=name,
            version=version,
            as_of=as_of,
            files=[FileEntry(path=pull.MEMBERS, bytes=len(data), sha256=_sha256(data))],
            inputs={each: str(ref) for each, ref in refs.items()},
            config={},
            code=Code(fingerprint=_sha256(data), git="", packages={}),
            provenance=Provenance(
                run_id="bind",
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=0.0,
                peak_memory_bytes=0,
                device="cpu",
                platform=platform.platform(),
            ),
        )
        if signing.signs(name):
            signing.sign_manifest(store, folder, made.to_bytes())
        with suppress(ConflictError):  # named after its content: whoever was faster made the same
            store.create(f"{folder}/{MANIFEST}", made.to_bytes())
    return release.promote(root, name, version, channel, terms or Terms(reason="bound"))


def _made_from(ref: Ref) -> dict[str, str]:
    return {node.manifest.name: node.manifest.version for node in lineage(ref)}


def _refuse_strangers(
    members: Mapping[str, Manifest], made_from: Mapping[str, Mapping[str, str]]
) -> None:
    """Refuse members of which one was made from another version of something than the next."""
    for each, made in members.items():
        if made.gate and not made.gate.accepted:
            raise ModelRejectedError(
                f"{each} {made.version} was rejected: {'; '.join(made.gate.reasons)}",
                "Bind another version",
            )
    known: dict[str, tuple[str, str]] = {}
    for each, inputs in made_from.items():
        for name, version in inputs.items():
            by, earlier = known.setdefault(name, (each, version))
            if earlier != version:
                raise ConfigError(
                    f"{by} knows {name} as {earlier}, {each} as {version}: they do not belong "
                    "together",
                    "Bind versions of one run; `lineage` shows what each was made from",
                )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
