"""A folder as a store, with the same conditional writes as a bucket."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ecom_tasks.artefacts.store import Blob, ConflictError, KeyMissingError, Stat
from ecom_tasks.errors import ConfigError

_HIDDEN = ".ecom-"


class LocalStore:
    """Files under one folder; a tag is the content's hash, a lock file makes writes conditional."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self._folder = Path(unquote(urlsplit(root).path))

    def uri(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _path(self, key: str) -> Path:
        path = self._folder / key
        if ".." in Path(key).parts or path == self._folder:
            raise ConfigError(f"{key!r} is no key of a store", "Use relative paths without ..")
        return path

    def read(self, key: str) -> Blob:
        try:
            data = self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise KeyMissingError(self.uri(key)) from error
        except PermissionError as error:
            raise _denied(self.uri(key)) from error
        return Blob(data, _etag(data))

    def read_if_changed(self, key: str, etag: str) -> Blob | None:
        blob = self.read(key)
        return None if blob.etag == etag else blob

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def download(self, key: str, target: Path) -> None:
        try:
            shutil.copyfile(self._path(key), target)
        except FileNotFoundError as error:
            raise KeyMissingError(self.uri(key)) from error

    def upload(self, key: str, source: Path, sha256: str) -> None:  # noqa: ARG002
        with self._written(key) as temporary:
            shutil.copyfile(source, temporary)

    def create(self, key: str, data: bytes) -> str:
        path = self._path(key)
        with self._locked():
            if path.exists():
                raise ConflictError(self.uri(key))
            self._write(key, data)
        return _etag(data)

    def replace(self, key: str, data: bytes, etag: str) -> str:
        with self._locked():
            try:
                unchanged = self.read(key).etag == etag
            except KeyMissingError:
                unchanged = False
            if not unchanged:
                raise ConflictError(self.uri(key))
            self._write(key, data)
        return _etag(data)

    def walk(self, prefix: str) -> Iterator[Stat]:
        files = (path for path in self._folder.rglob("*") if path.is_file())
        keys = (path.relative_to(self._folder).as_posix() for path in files)
        for key in sorted(k for k in keys if k.startswith(prefix) and _HIDDEN not in k):
            yield Stat(key, (self._folder / key).stat().st_size)

    def folders(self, prefix: str) -> list[str]:
        folder = self._folder / prefix
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if path.is_dir())

    def delete(self, keys: list[str]) -> None:
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def _write(self, key: str, data: bytes) -> None:
        with self._written(key) as temporary:
            temporary.write_bytes(data)

    @contextmanager
    def _written(self, key: str) -> Iterator[Path]:
        """A temporary file that takes the key's place in one move when the block succeeds."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=_HIDDEN, dir=path.parent)
        except PermissionError as error:
            raise _denied(self.uri(key)) from error
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{_HIDDEN}lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _denied(uri: str) -> ConfigError:
    return ConfigError(f"No permission for {uri}", "Give this user access to the folder")
