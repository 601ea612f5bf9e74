"""The consumer's side: bring the version in service to a local folder, verified or not at all.

<folder>/<version>/...      every file of the version, verified
<folder>/current            link to the version in service, moved in one step
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ecom_tasks.artefacts.manifest import MANIFEST, FileEntry, Manifest
from ecom_tasks.artefacts.release import PRODUCTION, read_pointer
from ecom_tasks.artefacts.store import KeyMissingError, Store, open_store, sha256_of
from ecom_tasks.errors import ConfigError, DataContractError

_DOWNLOADS = 8


@dataclass(frozen=True)
class Pulled:
    """What `pull` brought: `changed` is False where the folder already had the version."""

    name: str
    version: str
    folder: Path
    files: int
    bytes: int
    changed: bool


def pull(
    root: str,
    name: str,
    folder: Path,
    *,
    channel: str = PRODUCTION,
    version: str = "",
    progress: Callable[[FileEntry], None] = lambda _: None,
) -> Pulled:
    """Download the version in service and verify every byte; on any failure nothing changes.

    Parameters
    ----------
    name : for example `artefacts/pricing`.
    folder : see the module's docstring; made if absent.
    version : pins one version instead of following the channel.
    progress : called with each file that has arrived and was verified.

    Raises
    ------
    ConfigError
        The channel or the version does not exist.
    DataContractError
        A file or the manifest is not what was attested.
    """
    store = open_store(root)
    key, attested = _manifest_key(store, name, channel, version)
    try:
        data = store.read(key).data
    except KeyMissingError as error:
        raise ConfigError(f"There is no {store.uri(key)}", "See `list` for versions") from error
    if attested and hashlib.sha256(data).hexdigest() != attested:
        raise DataContractError(
            f"{store.uri(key)} is not the manifest that channel {channel} attests",
            "It was changed after publishing: promote another version",
        )
    manifest = Manifest.from_bytes(data, store.uri(key))
    target = folder / manifest.version
    changed = not target.is_dir()
    if changed:
        _bring(store, key.removesuffix(MANIFEST), manifest, target, progress)
        (target / MANIFEST).write_bytes(data)
    _point(folder, manifest.version)
    size = sum(entry.bytes for entry in manifest.files)
    return Pulled(name, manifest.version, target, len(manifest.files), size, changed)


def verify(folder: Path) -> Manifest:
    """Check a pulled version again, byte by byte; raise `DataContractError` at the first fault."""
    data = (folder / MANIFEST).read_bytes()
    manifest = Manifest.from_bytes(data, str(folder))
    for entry in manifest.files:
        _check(folder / entry.path, entry)
    return manifest


def _manifest_key(store: Store, name: str, channel: str, version: str) -> tuple[str, str]:
    if version:
        return f"{name}/v/{version}/{MANIFEST}", ""
    pointer = read_pointer(store, name, channel)
    if pointer is None:
        raise ConfigError(
            f"{name} has no channel {channel} under {store.root}",
            "Publish it first, or correct the name; see `list`",
        )
    return pointer.manifest, pointer.manifest_sha256


def _bring(
    store: Store,
    prefix: str,
    manifest: Manifest,
    target: Path,
    progress: Callable[[FileEntry], None],
) -> None:
    partial = target.with_name(f".partial-{target.name}")

    def bring(entry: FileEntry) -> None:
        file = partial / entry.path
        # A cut-off pull left files behind: what is whole is not fetched again.
        if not (file.is_file() and sha256_of(file) == entry.sha256):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                store.download(prefix + entry.path, file)
            except KeyMissingError as error:
                raise DataContractError(
                    f"{store.uri(prefix + entry.path)} is missing though its manifest lists it",
                    "Promote another version and tell the operator",
                ) from error
            _check(file, entry)
        progress(entry)

    partial.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        list(pool.map(bring, manifest.files))
    wanted = {entry.path for entry in manifest.files}
    for path in list(partial.rglob("*")):
        if path.is_file() and path.relative_to(partial).as_posix() not in wanted:
            path.unlink()
    if target.exists():
        shutil.rmtree(partial)
    else:
        partial.rename(target)


def _check(file: Path, entry: FileEntry) -> None:
    if not file.is_file() or sha256_of(file) != entry.sha256:
        raise DataContractError(
            f"{file.name} is not what its manifest attests ({entry.path}, {entry.bytes} bytes)",
            "It was changed or cut off: pull again; if it persists, promote another version",
        )


def _point(folder: Path, version: str) -> None:
    link = folder / "current"
    if link.is_symlink() and str(link.readlink()) == version:
        return
    temporary = folder / ".current-next"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(version)
    temporary.replace(link)
