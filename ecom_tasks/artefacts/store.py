"""Where bytes lie: one small protocol over a folder (`file://`) and a bucket (`s3://`).

Everything that publishing needs from a store is here: conditional writes (create only if absent,
replace only if unchanged) and nothing that a common object store lacks (no rename, no append).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from ecom_tasks.errors import ConfigError

CHUNK_BYTES = 1 << 20


class KeyMissingError(Exception):
    """There is nothing under the key."""


class ConflictError(Exception):
    """A conditional write found another state than it asked for.

    Ambiguous by nature: a retry inside the client can turn one's own success into this answer, so
    the caller reads again before it believes that somebody else was faster.
    """


@dataclass(frozen=True)
class Blob:
    """Content with its entity tag, the handle for a conditional replace."""

    data: bytes
    etag: str


@dataclass(frozen=True)
class Stat:
    """One stored object: its key relative to the store's root, and its size."""

    key: str
    bytes: int


class Store(Protocol):
    """Keys are relative paths with `/`; every error is one of ours.

    Raises `RetryableError` when the store cannot be reached, `ConfigError` when it denies access.
    """

    root: str

    def uri(self, key: str) -> str: ...

    def read(self, key: str) -> Blob:
        """Return the content; raise `KeyMissingError`."""

    def read_if_changed(self, key: str, etag: str) -> Blob | None:
        """Return the content unless it still has this tag."""

    def exists(self, key: str) -> bool: ...

    def download(self, key: str, target: Path) -> None:
        """Write the content to the file `target`; raise `KeyMissingError`."""

    def upload(self, key: str, source: Path, sha256: str) -> None:
        """Store the file, replacing what is there; the store checks the hash where it can."""

    def create(self, key: str, data: bytes) -> str:
        """Store only if the key is free and return the tag; else raise `ConflictError`."""

    def replace(self, key: str, data: bytes, etag: str) -> str:
        """Store only if the content still has this tag; else raise `ConflictError`."""

    def walk(self, prefix: str) -> Iterator[Stat]:
        """Everything under `prefix`, in bytewise order of keys."""

    def folders(self, prefix: str) -> list[str]:
        """Return the names one level under the folder `prefix` that hold further keys, sorted."""

    def delete(self, keys: list[str]) -> None:
        """Remove the keys; one that is not there is no error."""


def open_store(root: str) -> Store:
    """Open the store that the URI `root` names.

    Raises
    ------
    ConfigError
        The scheme is neither `file` nor `s3`, or the URI names no place.
    """
    parts = urlsplit(root)
    if parts.scheme == "file" and parts.path and not parts.netloc:
        from ecom_tasks.artefacts.local_store import LocalStore

        return LocalStore(root)
    if parts.scheme == "s3" and parts.netloc:
        from ecom_tasks.artefacts.s3_store import S3Store

        return S3Store(root)
    raise ConfigError(
        f"{root!r} names no store", "Give file:///absolute/folder or s3://bucket/prefix"
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
