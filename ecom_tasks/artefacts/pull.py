"""The consumer's side: bring the version in service to a local folder, verified or not at all.

This file needs nothing else of the project: Python 3.11, boto3 for buckets, and cryptography where
signatures are to be verified. Copy it beside a program and import it, or run it:

    python pull.py s3://bucket artefacts/pricing /srv/prices --watch 60

<folder>/<version>/...      every file of the version, verified
<folder>/current            link to the version in use, moved in one step
<folder>/health.json        which version, how old, when last asked for, what went wrong

Exit codes: 0 the folder is up to date, 1 a retry may help, 2 it will not (a setting, or what lies
in the store is not what was attested), 3 the version in use is older than --max-age. Whatever
happens, `current` stays on the last version that was verified whole.
"""

from __future__ import annotations

import argparse
import base64
import errno
import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

PRODUCTION, MANIFEST, HEALTH = "production", "_manifest.json", "health.json"
MEMBERS = "members.json"
_SCHEMAS = (1, 2)
_POINTER = {
    "name": str, "channel": str, "version": str, "manifest_sha256": str, "sequence": int,
}  # fmt: skip
_DOWNLOADS = 8
_TRIES = 5
_CHUNK = 1 << 20
_MISSING = {"404", "NoSuchKey", "NotFound"}
_DENIED = {
    "401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "NoSuchBucket",
}  # fmt: skip
T = TypeVar("T")


class PullError(Exception):
    """Nothing was changed in the folder; `hint` says what to do."""

    exit_code = 2

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason, hint)
        self.reason, self.hint = reason, hint

    def __str__(self) -> str:
        return f"{self.reason}. {self.hint}."


class UnavailableError(PullError):
    """Store, network, disk or another pull is in the way for now."""

    exit_code = 1


class RefusedError(PullError):
    """What lies in the store is not what was attested or signed."""


class SettingError(PullError):
    """A name, version, key or right is wrong."""


@dataclass(frozen=True)
class File:
    """One file of a version; `path` stays inside the version's folder."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Version:
    """What a manifest says that a consumer needs."""

    name: str
    version: str
    as_of: str
    created_at: str
    files: tuple[File, ...]


@dataclass(frozen=True)
class Pulled:
    """What `pull` brought: `changed` is False where the folder already had the version."""

    name: str
    version: str
    folder: Path
    files: int
    bytes: int
    changed: bool
    age_seconds: float


@dataclass(frozen=True)
class Options:
    """How to pull.

    Attributes
    ----------
    public_keys : files or folders of Ed25519 keys (PEM); by default those of `ECOM_PUBLIC_KEYS`.
        With any, pointer and manifest must be signed by one of them.
    keep : versions to keep in the folder, the one in use included.
    accept_reset : follow a pointer that went back, after the store was restored from a backup.
    """

    channel: str = PRODUCTION
    public_keys: Sequence[Path] | None = None
    keep: int = 3
    accept_reset: bool = False


def pull(
    root: str,
    name: str,
    folder: Path,
    *,
    version: str = "",
    options: Options = Options(),
    progress: Callable[[File], None] = lambda _: None,
) -> Pulled:
    """Bring the version in service and verify every byte; on any failure nothing changes.

    Parameters
    ----------
    root : `s3://bucket/prefix` or `file:///folder`; credentials and endpoint from the environment.
    name : for example `artefacts/pricing`.
    folder : see the module's docstring; made if absent. One folder follows one name and channel.
    version : pins one version instead of following the channel.
    progress : called with each file that has arrived and was verified; from several threads.

    Raises
    ------
    UnavailableError, RefusedError, SettingError
        See there; `health.json` has the reason too.
    """
    task = _Task(_open(root), name, version, folder, _keys_of(options.public_keys), progress)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        known = _read_health(folder)
        _refuse_another(known, name, options.channel, folder)
        if options.accept_reset:
            known = {k: v for k, v in known.items() if k not in {"sequence", "etag"}}
        try:
            fresh = _take(task, options.channel, known)
        except PullError as error:
            _write_health(folder, known | _trouble(known, name, options.channel, error))
            raise
        except OSError as error:
            trouble = UnavailableError(f"{folder} cannot be written: {error}", "Free some space")
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                _sweep(folder)  # room to say so
            _write_health(folder, known | _trouble(known, name, options.channel, trouble))
            raise trouble from error
        changed = bool(fresh.pop("changed", False))
        health = known | fresh | {"name": name, "channel": options.channel}
        health |= {"pinned": bool(version), "ok": True, "error": "", "failures": 0}
        health["checked_at"] = _now()
        brought = [*known.get("kept", []), *fresh.get("kept", [])]
        health["kept"] = _prune(folder, brought, options.keep)
        _write_health(folder, health)
    return _pulled(folder, health, changed=changed)


def pull_set(
    root: str, name: str, folder: Path, *, version: str = "", options: Options = Options()
) -> Pulled:
    """Bring a release set: all of its members or none; `current` links to them, moved at once.

    <folder>/current/<member>       for example current/pricing/prices.parquet
    <folder>/<member>, <folder>/set what `pull` makes, with a health.json each

    Parameters and errors are those of `pull`; `name` is that of the set, for example `sets/shop`.
    """
    bound = pull(root, name, folder / "set", version=version, options=options)
    try:
        members = {
            str(member): (_plain(said["version"]), str(said["manifest_sha256"]))
            for member, said in json.loads((bound.folder / MEMBERS).read_bytes()).items()
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RefusedError(f"{name} {bound.version} is no set: {error!r}", "Bind anew") from error
    place = folder / f"set-{bound.version}"
    place.mkdir(exist_ok=True)
    files = size = 0
    for member, (wanted, sha256) in members.items():
        short = _plain(member.rpartition("/")[2])
        each = pull(root, member, folder / short, version=wanted, options=options)
        if hashlib.sha256((each.folder / MANIFEST).read_bytes()).hexdigest() != sha256:
            raise RefusedError(f"{member} {wanted} is not what {name} bound", "Bind anew")
        link = place / short
        if not link.is_symlink():
            link.symlink_to(Path("..") / short / wanted)
        files, size = files + each.files, size + each.bytes
    changed = _link(folder) != place.name
    _point(folder, place.name)
    for old in folder.glob("set-*"):
        # What a link leads to may be gone by now, as old versions go.
        if old != place and not all(link.exists() for link in old.iterdir()):
            shutil.rmtree(old)
    return Pulled(name, bound.version, place, files, size, changed, bound.age_seconds)


def watch(
    every_s: float,
    stop: threading.Event,
    told: Callable[[Pulled | PullError], None],
    *where: Any,
    **how: Any,
) -> None:
    """Pull again and again until `stop` is set; an unchanged pointer costs one small request.

    A name that begins with `sets/` is a release set.

    Parameters
    ----------
    every_s : seconds between two looks, give or take a tenth, so that consumers do not march.
    told : called with what each pull brought, or with its error.
    where, how : arguments of `pull`.
    """
    while not stop.is_set():
        try:
            told(_puller(str(where[1]))(*where, **how))
        except PullError as error:
            told(error)
        stop.wait(every_s * random.uniform(0.9, 1.1))  # noqa: S311


def _puller(name: str) -> Callable[..., Pulled]:
    return pull_set if name.startswith("sets/") else pull


def verify(folder: Path) -> Version:
    """Check a pulled version again, byte by byte; raise `RefusedError` at the first fault."""
    version = parse_manifest((folder / MANIFEST).read_bytes(), str(folder))
    for file in version.files:
        if not _is(folder / file.path, file):
            raise RefusedError(
                f"{folder / file.path} is not what its manifest attests",
                "Remove the version's folder and pull again",
            )
    return version


def in_canary(customer_id: str, share: float) -> bool:
    """Whether a customer is among the share that a canary serves: always the same ones.

    Parameters
    ----------
    share : between 0 and 1; whoever is in a smaller share is in every larger one.
    """
    number = int(hashlib.sha256(customer_id.encode()).hexdigest()[:8], 16)
    return number < share * (1 << 32)


# What a manifest and a pointer say ---------------------------------------------------------------


def parse_manifest(data: bytes, where: str) -> Version:
    """Read a manifest; raise `RefusedError` unless it is one of ours and stays in its folder."""
    try:
        said = json.loads(data)
        if said["schema_version"] not in _SCHEMAS:
            raise SettingError(
                f"{where} has schema version {said['schema_version']}", "Take a newer pull.py"
            )
        files = tuple(File(each["path"], each["bytes"], each["sha256"]) for each in said["files"])
        faulty = [file for file in files if not _sound(file)]
        if faulty or len({file.path for file in files}) != len(files):
            raise RefusedError(
                f"{where} lists {faulty or 'a path twice'}", "Promote another version"
            )
        version = Version(
            said["name"], _plain(said["version"]), said["as_of"],
            said["provenance"]["created_at"], files,
        )  # fmt: skip
        datetime.fromisoformat(version.created_at)
    except (ValueError, TypeError, KeyError) as error:
        raise RefusedError(f"{where} is no manifest: {error!r}", "Promote another version") from (
            error
        )
    return version


def _sound(file: File) -> bool:
    parts = file.path.split("/")
    return (
        not ({"", ".", ".."} & set(parts) or "\\" in file.path or "\0" in file.path)
        and file.path != MANIFEST
        and isinstance(file.bytes, int)
        and file.bytes >= 0
        and bool(re.fullmatch("[0-9a-f]{64}", file.sha256))
    )


def _plain(version: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", version):
        raise ValueError(f"{version!r} is no version")
    return version


def _plain_setting(version: str) -> str:
    try:
        return _plain(version)
    except ValueError as error:
        raise SettingError(str(error), "See `list` for versions") from error


@dataclass(frozen=True)
class _Task:
    """One pull: from where, of what, to where."""

    store: _Source
    name: str
    pinned: str
    folder: Path
    keys: dict[str, Any]
    progress: Callable[[File], None]


@dataclass(frozen=True)
class _Wanted:
    """Which version to take; what the pointer attested of it, where one was followed."""

    version: str
    sha256: str = ""
    sequence: int | None = None
    etag: str = ""
    share: float | None = None


def _wanted(task: _Task, channel: str, known: dict[str, Any]) -> _Wanted | None:
    """Say which version to take; None where the pointer has not moved since the last time."""
    if task.pinned:
        return _Wanted(_plain_setting(task.pinned))
    store, key = task.store, f"{task.name}/channels/{channel}.json"
    stands = _link(task.folder) == known.get("pointed", "-")
    found = _patiently(lambda: store.read(key, str(known.get("etag", "")) if stands else ""))
    if found is None:
        return None
    data, etag = found
    if not data and not etag:
        raise SettingError(
            f"{task.name} has no channel {channel} under {store.root}",
            "Publish it first, or correct the name",
        )
    pointer = _parse_pointer(data, store.uri(key))
    if (pointer["name"], pointer["channel"]) != (task.name, channel):
        raise RefusedError(f"{store.uri(key)} is another's pointer", "Tell the operator")
    if task.keys:
        verify_pointer(pointer, task.keys, store.uri(key))
    _refuse_replay(pointer, known)
    return _Wanted(
        pointer["version"], pointer["manifest_sha256"], pointer["sequence"], etag,
        pointer.get("share"),
    )  # fmt: skip


def _parse_pointer(data: bytes, where: str) -> dict[str, Any]:
    try:
        pointer = dict(json.loads(data))
        wrong = [name for name, kind in _POINTER.items() if not isinstance(pointer[name], kind)]
        _plain(pointer["version"])
    except (ValueError, TypeError, KeyError) as error:
        wrong = [repr(error)]
    if wrong:
        raise RefusedError(
            f"{where} is mangled: {', '.join(wrong)}",
            "Tell the operator: `promote --repair` mends it",
        )
    return pointer


def _refuse_replay(pointer: dict[str, Any], known: dict[str, Any]) -> None:
    """Refuse a pointer from the past: an old one is validly signed for ever."""
    last = known.get("sequence")
    if last is None:
        return
    same = (pointer["version"], pointer["manifest_sha256"]) == (
        known.get("pointed"), known.get("pointed_sha256"),
    )  # fmt: skip
    if pointer["sequence"] < last or (pointer["sequence"] == last and not same):
        raise RefusedError(
            f"The pointer of {pointer['name']} stands at move {pointer['sequence']} "
            f"({pointer['version']}), but move {last} ({known.get('pointed')}) was seen before",
            "Somebody put an old pointer back. If the store was restored from a backup, pull "
            "once with --accept-reset",
        )


def _take(task: _Task, channel: str, known: dict[str, Any]) -> dict[str, Any]:
    """Bring and put in place what is wanted; return what to remember of it."""
    wanted = _wanted(task, channel, known)
    if wanted is None:
        return {}
    data, version, signed_by = _manifest(task, wanted)
    changed = _place(task, version, data)
    _point(task.folder, version.version)
    sha256 = hashlib.sha256(data).hexdigest()
    remember = {
        "version": version.version, "as_of": version.as_of, "created_at": version.created_at,
        "manifest_sha256": sha256, "signed_by": signed_by, "kept": [version.version],
        "changed": changed,
    }  # fmt: skip
    if changed:
        remember["pulled_at"] = _now()
    if wanted.sequence is not None:
        remember |= {
            "sequence": wanted.sequence, "etag": wanted.etag, "pointed": version.version,
            "pointed_sha256": sha256, "share": wanted.share,
        }  # fmt: skip
    return remember


def _manifest(task: _Task, wanted: _Wanted) -> tuple[bytes, Version, str]:
    """Read the manifest that is wanted; return it with the id of the key that signed it."""
    store, folder = task.store, f"{task.name}/v/{wanted.version}"
    where = store.uri(f"{folder}/{MANIFEST}")
    data, _ = _patiently(lambda: store.read(f"{folder}/{MANIFEST}")) or (b"", "")
    if not data:
        raise SettingError(f"There is no {where}", "See `list` for versions")
    sha256 = hashlib.sha256(data).hexdigest()
    if wanted.sha256 and sha256 != wanted.sha256:
        raise RefusedError(
            f"{where} is not the manifest that the channel attests",
            "It was changed after publishing: promote another version",
        )
    version = parse_manifest(data, where)
    if (version.name, version.version) != (task.name, wanted.version):
        raise RefusedError(
            f"{where} is that of {version.name} {version.version}", "Tell the operator"
        )
    if not task.keys:
        return data, version, ""
    key = f"{folder}/{signature_path(sha256)}"
    signatures, _ = _patiently(lambda: store.read(key)) or (b"", "")
    return data, version, verify_manifest(data, signatures, task.keys, where)


def _place(task: _Task, version: Version, data: bytes) -> bool:
    """Bring the version's files unless they are there; whether they had to be brought."""
    target = task.folder / version.version
    if not (target / MANIFEST).is_file():
        _bring(task, version, target, data)
        return True
    if parse_manifest((target / MANIFEST).read_bytes(), str(target)).files != version.files:
        raise RefusedError(
            f"{target} holds other content than the store has under its name",
            "One version has one content: remove the local folder if you trust the store",
        )
    return False


# Files -------------------------------------------------------------------------------------------


def _bring(task: _Task, version: Version, target: Path, manifest: bytes) -> None:
    partial = target.with_name(f".partial-{target.name}")
    partial.mkdir(parents=True, exist_ok=True)
    wanted = {file.path for file in version.files}
    for path in list(partial.rglob("*")):
        if path.is_file() and path.relative_to(partial).as_posix() not in wanted:
            path.unlink()
    there = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    needed, free = sum(f.bytes for f in version.files) - there, shutil.disk_usage(partial).free
    if needed > free:
        raise UnavailableError(
            f"{target.parent} has {free:,} bytes free, {needed:,} are needed", "Free some space"
        )

    def bring(file: File) -> None:
        key = f"{version.name}/v/{version.version}/{file.path}"
        _fetch(task.store, key, partial / file.path, file)
        task.progress(file)

    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        # The first failure is raised at once; what waits is not begun.
        try:
            list(pool.map(bring, version.files))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    (partial / MANIFEST).write_bytes(manifest)
    # A power cut after the rename must not leave a whole-looking version of empty files.
    for path in [*partial.rglob("*"), partial]:
        _sync(path)
    partial.rename(target)
    _sync(target.parent)


def _fetch(store: _Source, key: str, path: Path, file: File) -> None:
    """Fetch one file, going on where an earlier try stopped; no hash is taken on trust."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):  # what an earlier pull left may be torn: that costs one more try
        _complete(store, key, path, file.bytes)
        if _is(path, file):
            return
        path.unlink(missing_ok=True)
    raise RefusedError(
        f"{store.uri(key)} is not what its manifest attests ({file.bytes} bytes)",
        "It was changed or cut off in the store: promote another version",
    )


def _complete(store: _Source, key: str, path: Path, size: int) -> None:
    """Append what is missing; give up when nothing at all has come for some tries."""
    stuck = 0
    while not path.is_file() or _size(path) < size:
        have = _size(path)
        try:
            store.fetch(key, path, have)
        except UnavailableError:
            stuck = stuck + 1 if _size(path) <= have else 0
            if stuck == _TRIES:
                raise
            time.sleep(random.uniform(0, 0.2 * 2**stuck))  # noqa: S311
        else:
            return


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _is(path: Path, file: File) -> bool:
    if not path.is_file() or path.stat().st_size != file.bytes:
        return False
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256


def _link(folder: Path) -> str:
    link = folder / "current"
    return str(link.readlink()) if link.is_symlink() and link.exists() else ""


def _point(folder: Path, version: str) -> None:
    if _link(folder) == version:
        return
    temporary = folder / ".current-next"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(version)
    temporary.replace(folder / "current")
    _sync(folder)


def _prune(folder: Path, brought: list[str], keep: int) -> list[str]:
    """Remove what was brought longest ago beyond `keep`, and leftovers; return what is kept."""
    current = _link(folder)
    order = [each for each in dict.fromkeys(reversed(brought)) if each != current]
    kept = [current, *order[: max(keep - 1, 0)]] if current else order
    for version in order:
        if version not in kept and (folder / version).is_dir():
            # Under another name first: a version that is half removed must not look whole.
            gone = folder / f".partial-{version}"
            shutil.rmtree(gone, ignore_errors=True)
            (folder / version).rename(gone)
    _sweep(folder)
    return list(reversed(kept))


def _sweep(folder: Path) -> None:
    for leftover in folder.glob(".partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnavailableError(
                f"Another pull is at work in {folder}", "Wait until it has finished"
            ) from error
        yield


# Health ------------------------------------------------------------------------------------------


def _read_health(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / HEALTH).read_bytes()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise SettingError(f"{folder / HEALTH} is mangled", "Remove it and pull again") from error


def _write_health(folder: Path, health: dict[str, Any]) -> None:
    health = health | {"age_seconds": _age(health.get("created_at", ""))}
    temporary = folder / ".health-next"
    # A full disk must not hide what went wrong behind a second error.
    with suppress(OSError):
        temporary.write_text(json.dumps(health, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        _sync(temporary)
        temporary.replace(folder / HEALTH)


def _trouble(known: dict[str, Any], name: str, channel: str, error: PullError) -> dict[str, Any]:
    return {
        "name": name, "channel": channel, "ok": False, "error": str(error),
        "failures": known.get("failures", 0) + 1, "checked_at": _now(),
    }  # fmt: skip


def _refuse_another(known: dict[str, Any], name: str, channel: str, folder: Path) -> None:
    there = (known.get("name", name), known.get("channel", channel))
    if there != (name, channel):
        raise SettingError(
            f"{folder} follows {there[0]} {there[1]}, not {name} {channel}", "Give another folder"
        )


def _pulled(folder: Path, health: dict[str, Any], *, changed: bool) -> Pulled:
    target = folder / health["version"]
    version = parse_manifest((target / MANIFEST).read_bytes(), str(target))
    size = sum(file.bytes for file in version.files)
    age = _age(version.created_at)
    return Pulled(
        version.name, version.version, target, len(version.files), size, changed, age or 0.0
    )


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _age(created_at: str) -> float | None:
    """Seconds since then; never negative, whatever the clocks say."""
    if not created_at:
        return None
    return max(0.0, round((datetime.now(UTC) - _moment(created_at)).total_seconds()))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# Signatures --------------------------------------------------------------------------------------


def signature_path(manifest_sha256: str) -> str:
    """Where the signatures of a manifest lie in its version's folder."""
    return f"_signatures/{manifest_sha256}.json"


def signed_bytes(pointer: dict[str, Any]) -> bytes:
    """Bytes of a pointer that its signature covers: all but the signature, in one spelling."""
    rest = {name: value for name, value in pointer.items() if name != "signature"}
    return json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()


def key_id(raw_public_key: bytes) -> str:
    """Name of a key: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(raw_public_key).hexdigest()[:16]


def load_public_keys(places: Sequence[Path]) -> dict[str, Any]:
    """Read Ed25519 public keys (PEM) from files and folders, by key id."""
    files = [f for p in places for f in (sorted(p.glob("*.pem")) if p.is_dir() else [p])]
    if not files:
        return {}
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise SettingError(
            "Public keys are given, but cryptography is not installed", "pip install cryptography"
        ) from error
    keys: dict[str, Any] = {}
    for file in files:
        try:
            key = load_pem_public_key(file.read_bytes())
        except (OSError, ValueError) as error:
            raise SettingError(f"{file} is no public key: {error}", "Give PEM files") from error
        if not isinstance(key, Ed25519PublicKey):
            raise SettingError(f"{file} is no Ed25519 key", "Make one with `keys make`")
        keys[key_id(key.public_bytes_raw())] = key
    return keys


def verify_manifest(data: bytes, signatures: bytes, keys: dict[str, Any], where: str) -> str:
    """Return the id of the key that signed the manifest; raise `RefusedError` if none did."""
    try:
        found = [(str(e["key_id"]), str(e["value"])) for e in json.loads(signatures)["signatures"]]
    except (ValueError, TypeError, KeyError):
        found = []
    for name, value in found:
        if name in keys and _signs(keys[name], value, data):
            return name
    raise _unsigned(where, [name for name, _ in found], keys)


def verify_pointer(pointer: dict[str, Any], keys: dict[str, Any], where: str) -> str:
    """Return the id of the key that signed the pointer; raise `RefusedError` if none did."""
    signature = pointer.get("signature") or {}
    name, value = str(signature.get("key_id", "")), str(signature.get("value", ""))
    if name in keys and _signs(keys[name], value, signed_bytes(pointer)):
        return name
    raise _unsigned(where, [name] if name else [], keys)


def _signs(key: Any, value: str, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(base64.b64decode(value, validate=True), data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _unsigned(where: str, names: list[str], keys: dict[str, Any]) -> RefusedError:
    by = f"signed by {', '.join(names)}" if names else "not signed"
    return RefusedError(
        f"{where} is {by}, and no signature of the trusted keys ({', '.join(keys)}) fits",
        "If the publisher's key was changed, add its public key; else tell the operator",
    )


def _keys_of(places: Sequence[Path] | None) -> dict[str, Any]:
    if places is None:
        named = os.environ.get("ECOM_PUBLIC_KEYS", "")
        places = [Path(place) for place in named.split(os.pathsep) if place]
    keys = load_public_keys(places)
    if places and not keys:
        raise SettingError(
            f"There is no public key in {', '.join(map(str, places))}", "Put PEM files there"
        )
    return keys


# Stores ------------------------------------------------------------------------------------------


class _Source(Protocol):
    root: str

    def uri(self, key: str) -> str: ...

    def read(self, key: str, etag: str = "") -> tuple[bytes, str] | None:
        """Content and tag; empty where nothing lies there; None where it still has this tag."""

    def fetch(self, key: str, path: Path, offset: int) -> None:
        """Append to the file at `path`, which has `offset` bytes, the rest of the content."""


class _Folder:
    def __init__(self, root: str) -> None:
        self.root, self._folder = root.rstrip("/"), Path(unquote(urlsplit(root).path))

    def uri(self, key: str) -> str:
        return f"{self.root}/{key}"

    def read(self, key: str, etag: str = "") -> tuple[bytes, str] | None:
        try:
            data = (self._folder / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return b"", ""
        tag = hashlib.sha256(data).hexdigest()
        return None if tag == etag else (data, tag)

    def fetch(self, key: str, path: Path, offset: int) -> None:
        try:
            with (self._folder / key).open("rb") as source, path.open("ab") as target:
                source.seek(offset)
                shutil.copyfileobj(source, target, _CHUNK)
        except FileNotFoundError as error:
            raise _gone(self.uri(key)) from error


@cache
def _client(settings: tuple[str, ...]) -> Any:
    """One client for each set of settings: making one takes longer than most pulls."""
    import boto3
    from botocore.config import Config

    endpoint, key, secret, token, region, timeout = settings
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint or None,
        aws_access_key_id=key or None,
        aws_secret_access_key=secret or None,
        aws_session_token=token or None,
        region_name=region or "us-east-1",
        config=Config(
            s3={"addressing_style": "path" if endpoint else "auto"},
            # We try again ourselves, from where an answer broke off.
            retries={"mode": "standard", "total_max_attempts": 2},
            connect_timeout=5,
            read_timeout=float(timeout or 60),
            max_pool_connections=2 * _DOWNLOADS,
            # Every byte is verified against the manifest, which is more than a checksum.
            response_checksum_validation="when_required",
        ),
    )


class _Bucket:
    def __init__(self, root: str) -> None:
        parts = urlsplit(root)
        self.root, self._bucket = root.rstrip("/"), parts.netloc
        self._prefix = f"{parts.path.strip('/')}/".lstrip("/")
        names = ("ECOM_S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
                 "AWS_SESSION_TOKEN", "AWS_REGION", "ECOM_S3_TIMEOUT_S")  # fmt: skip
        self._client = _client(tuple(os.environ.get(name, "") for name in names))

    def uri(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _get(self, key: str, **options: str) -> Any:
        return self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **options)

    def read(self, key: str, etag: str = "") -> tuple[bytes, str] | None:
        with self._translated(key) as failed:
            answer = self._get(key, **({"IfNoneMatch": etag} if etag else {}))
            return answer["Body"].read(), answer["ETag"]
        return None if failed == ["304"] else (b"", "")

    def fetch(self, key: str, path: Path, offset: int) -> None:
        with self._translated(key) as failed:
            answer = self._get(key, **({"Range": f"bytes={offset}-"} if offset else {}))
            # Not every store knows how to begin in the middle.
            partial = offset and "ContentRange" in answer
            with path.open("ab" if partial else "wb") as target:
                for chunk in answer["Body"].iter_chunks(_CHUNK):
                    target.write(chunk)
        if failed:
            raise _gone(self.uri(key))

    @contextmanager
    def _translated(self, key: str) -> Iterator[list[str]]:
        """Raise our errors; what merely is not there, or not new, is entered in the list."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        failed: list[str] = []
        try:
            yield failed
        except ClientError as error:
            answer: Any = error.response
            code = str(answer.get("Error", {}).get("Code", ""))
            if code == "304" or code in _MISSING:
                failed.append("304" if code == "304" else "404")
                return
            if code in _DENIED:
                raise SettingError(
                    f"The store refuses {self.uri(key)}: {error}",
                    "Check bucket, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the policy",
                ) from error
            raise UnavailableError(
                f"The store fails on {self.uri(key)}: {error}", "Try again"
            ) from (error)
        except NoCredentialsError as error:
            raise SettingError(
                "No credentials", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from error
        except BotoCoreError as error:
            raise UnavailableError(
                f"The store cannot be reached for {self.uri(key)}: {error}",
                "Check ECOM_S3_ENDPOINT and that the store runs",
            ) from error


def _gone(uri: str) -> RefusedError:
    return RefusedError(
        f"{uri} is missing though its manifest lists it",
        "Promote another version and tell the operator",
    )


def _open(root: str) -> _Source:
    scheme = urlsplit(root).scheme
    if scheme not in {"file", "s3"}:
        raise SettingError(
            f"{root!r} names no store", "Give s3://bucket/prefix or file:///absolute/folder"
        )
    return _Folder(root) if scheme == "file" else _Bucket(root)


def _patiently(read: Callable[[], T]) -> T:
    for attempt in range(_TRIES - 1):
        try:
            return read()
        except UnavailableError:
            time.sleep(random.uniform(0, 0.2 * 2**attempt))  # noqa: S311
    return read()


# Command -----------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Enter the options of the command; also used by `python -m ecom_tasks pull`."""
    parser.add_argument("folder", type=Path)
    parser.add_argument("--channel", default=PRODUCTION)
    parser.add_argument("--version", default="", help="pin a version instead of following")
    parser.add_argument("--public-keys", type=Path, nargs="+", metavar="PEM",
                        help="trusted keys, files or folders; else ECOM_PUBLIC_KEYS")  # fmt: skip
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="go on until ended")
    parser.add_argument("--keep", type=int, default=3, help="versions to keep (default: 3)")
    parser.add_argument("--accept-reset", action="store_true",
                        help="follow a pointer that went back, after a restore")  # fmt: skip
    parser.add_argument("--max-age", type=float, metavar="HOURS",
                        help="exit with 3 where the version in use is older")  # fmt: skip


def command(root: str, name: str, arguments: argparse.Namespace) -> int:
    """Pull once, or watch until SIGTERM or Ctrl-C; one line for each change. Return exit code."""
    options = Options(
        arguments.channel, arguments.public_keys, arguments.keep, arguments.accept_reset
    )
    pinned = arguments.version
    if not arguments.watch:
        pulled = _puller(name)(root, name, arguments.folder, version=pinned, options=options)
        _say(pulled, always=True)
        stale = arguments.max_age is not None and pulled.age_seconds > arguments.max_age * 3600
        return 3 if stale else 0
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch(
        arguments.watch, stop, _say, root, name, arguments.folder, version=pinned, options=options
    )
    return 0


def _say(happened: Pulled | PullError, *, always: bool = False) -> None:
    if isinstance(happened, PullError):
        sys.stderr.write(f"{_now()} {happened}\n")
    elif happened.changed or always:
        what = "pulled and verified" if happened.changed else "is already there"
        sys.stdout.write(
            f"{happened.name} {happened.version} {what}: {happened.files} files, "
            f"{happened.bytes:,} bytes, in {happened.folder}\n"
        )
        sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Run as a program; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", help="s3://bucket/prefix or file:///folder")
    parser.add_argument("name", help="for example artefacts/pricing")
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    try:
        return command(arguments.root, arguments.name, arguments)
    except PullError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
