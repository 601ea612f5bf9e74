"""What was published, read for pages: manifests and tables, kept while there is room.

A version never changes, so what was read of one is right for ever; what changes, the pointers and
the lists of versions, is read at each request.
"""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from ecom_tasks.artefacts.manifest import MANIFEST, Manifest
from ecom_tasks.artefacts.release import PRODUCTION, Pointer, listed_channels, read_pointer
from ecom_tasks.artefacts.store import KeyMissingError, Store, open_store
from ecom_tasks.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")
_READERS = 16
_MEBIBYTE = 1 << 20
_MANIFEST_WEIGHT = 4
"""Bytes that a parsed manifest takes in memory for each of its bytes in the store, about."""


class Kept:
    """Values by key, the longest unused of which go when all together weigh too much."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], tuple[T, int]]) -> T:
        """Return the value of the key; `load` brings it, with its bytes, where it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                found: T = self._values[key][0]
                return found
        # Two requests may load the same at once: that costs time, never a wrong answer.
        value, weight = load()
        with self._lock:
            if key not in self._values:
                self._values[key] = value, weight
                self.bytes += weight
            while self.bytes > self.most_bytes and len(self._values) > 1:
                _, (_, gone) = self._values.popitem(last=False)
                self.bytes -= gone
        return value


_kept: Kept | None = None


def kept() -> Kept:
    """Return what this process keeps: `ECOM_CONSOLE_CACHE_MIB` of it, 256 by default."""
    global _kept
    if _kept is None:
        text = os.environ.get("ECOM_CONSOLE_CACHE_MIB", "256")
        if not text.isdecimal():
            raise ConfigError(f"ECOM_CONSOLE_CACHE_MIB is {text!r}", "Give mebibytes, such as 256")
        _kept = Kept(int(text) * _MEBIBYTE)
    return _kept


@dataclass(frozen=True)
class Version:
    """A finished version: its manifest, and the folder that its files lie in."""

    folder: str
    made: Manifest

    @property
    def ref(self) -> str:
        return f"{self.folder}/{MANIFEST}"

    def has(self, path: str) -> bool:
        return any(file.path == path for file in self.made.files)


def root() -> str:
    """Return where artefacts lie; `ConfigError` where nobody said."""
    place = os.environ.get("ECOM_ROOT", "")
    if not place:
        raise ConfigError(
            "No place for artefacts is named", "Set ECOM_ROOT for the API server, and restart it"
        )
    return place.rstrip("/")


def store() -> Store:
    return open_store(root())


def by_ref(ref: str) -> Version:
    """Read a version by the URI of its manifest; `KeyMissingError` where it is gone."""
    folder = ref.removesuffix(f"/{MANIFEST}")

    def load() -> tuple[Version, int]:
        data = open_store(folder).read(MANIFEST).data
        return Version(folder, Manifest.from_bytes(data, ref)), len(data) * _MANIFEST_WEIGHT

    return kept().get(ref, load)


def version(name: str, number: str) -> Version:
    """Read a version of a name, such as `artefacts/pricing`."""
    return by_ref(f"{root()}/{name}/v/{number}/{MANIFEST}")


def in_channel(name: str, channel: str) -> Version | None:
    """Return the version that a channel points to; None where it points nowhere."""
    pointer = read_pointer(store(), name, channel)
    return version(name, pointer.version) if pointer else None


class NothingServedError(Exception):
    """Nothing of a domain is in service yet; its page says what to do about it."""

    def __init__(self, domain: str) -> None:
        super().__init__(domain)
        self.domain = domain


def in_service(name: str) -> Version:
    """Return the version of a release in service; raise `NothingServedError` if there is none."""
    found = in_channel(name, PRODUCTION)
    if found is None:
        raise NothingServedError(name.rpartition("/")[2])
    return found


def newest_day(name: str) -> Version | None:
    """Return the version that the newest day of a name points to; None where it has no day."""
    days = [each for each in listed_channels(store(), name) if each[0].isdigit()]
    return in_channel(name, max(days)) if days else None


def days(name: str) -> dict[str, Version]:
    """Every day of a name, oldest first, with the version that it points to."""
    found = sorted(each for each in listed_channels(store(), name) if each[0].isdigit())
    with ThreadPoolExecutor(_READERS) as pool:
        made = list(pool.map(lambda day: in_channel(name, day), found))
    return {day: each for day, each in zip(found, made, strict=True) if each}


def pointers(name: str) -> dict[str, Pointer]:
    """Channels of a name that people know (not those of days), with where they point."""
    place = store()
    named = [each for each in listed_channels(place, name) if not each[0].isdigit()]
    found = {channel: read_pointer(place, name, channel) for channel in named}
    return {channel: pointer for channel, pointer in found.items() if pointer}


def versions(name: str) -> list[Version]:
    """Every finished version of a name, the newest first."""
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(lambda number: or_none(name, number), numbers(name)))
    return _newest_first([each for each in found if each])


def numbers(name: str) -> list[str]:
    """What lies under a name, oldest day first: finished versions, and drafts if there are any."""
    return store().folders(f"{name}/v")


def of_newest_day(name: str, known: Sequence[str]) -> Version | None:
    """Return the version that was made last among those of the newest day that has one.

    Parameters
    ----------
    known : see `numbers`; they begin with their day, so that few manifests are read.
    """
    for _, of_day in groupby(sorted(known, reverse=True), key=lambda number: number[:10]):
        found = [each for number in of_day if (each := or_none(name, number))]
        if found:
            return _newest_first(found)[0]
    return None


def or_none(name: str, number: str) -> Version | None:
    """Read a version; None for a draft, of which nothing is attested yet, or what was removed."""
    return _or_none(f"{root()}/{name}/v/{number}/{MANIFEST}")


def _newest_first(found: list[Version]) -> list[Version]:
    def made(each: Version) -> tuple[str, str]:
        return each.made.provenance.created_at, each.made.version

    return sorted(found, key=made, reverse=True)


def ancestor(start: Version, name: str) -> Version | None:
    """Return the nearest version of that name which the version was made from."""
    level, seen = [start], {start.ref}
    while level:
        refs = sorted({ref for each in level for ref in each.made.inputs.values()} - seen)
        seen |= set(refs)
        level = [found for ref in refs if (found := _or_none(ref))]
        for each in level:
            if each.made.name == name:
                return each
    return None


def _or_none(ref: str) -> Version | None:
    try:
        return by_ref(ref)
    except KeyMissingError:
        return None


def read(found: Version, path: str) -> bytes:
    """Read one file of a version; `KeyMissingError` where it is not there."""
    return open_store(found.folder).read(path).data


def frame(found: Version, path: str) -> pl.DataFrame:
    """Read one table of a version."""
    import polars as pl

    def load() -> tuple[pl.DataFrame, int]:
        table = pl.read_parquet(io.BytesIO(read(found, path)))
        return table, int(table.estimated_size())

    return kept().get((found.folder, path), load)


def derived(found: Version, what: str, make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """Keep a table that is made from a version's tables, under a name of its own."""

    def load() -> tuple[pl.DataFrame, int]:
        table = make()
        return table, int(table.estimated_size())

    return kept().get((found.folder, f"derived {what}"), load)


def titles(found: Version) -> pl.DataFrame:
    """Titles and categories of products, as the version's run knew them; empty where unknown."""
    import polars as pl

    products = ancestor(found, "lake/products")
    schema = {"product_id": pl.String, "title": pl.String, "category": pl.String}
    if products is None or not products.has("rows.parquet"):
        return pl.DataFrame(schema=schema)
    return derived(products, "titles", lambda: frame(products, "rows.parquet").select(list(schema)))
