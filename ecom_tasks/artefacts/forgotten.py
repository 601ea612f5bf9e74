"""Who asked to be forgotten: a list of pseudonyms in the bucket, which every ingestion reads.

`forgotten/<fingerprint of the pseudonym key>.json`, a file a key: under another key everybody has
another pseudonym, so that nobody on the list could be recognised.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection

from ecom_tasks.artefacts.store import Blob, ConflictError, KeyMissingError, Store
from ecom_tasks.errors import ConfigError, DataContractError, RetryableError

AREA = "forgotten"
INSTEAD_OF = "instead_of"
"""Setting of a version that was made again without somebody: the versions that it stands for."""
_TRIES = 10


def people(store: Store, key_fingerprint: str) -> list[str]:
    """Return the pseudonyms of all who are forgotten, sorted.

    Parameters
    ----------
    key_fingerprint : of the key that pseudonyms are made with now.

    Raises
    ------
    ConfigError
        Somebody was forgotten under another key, and would come back.
    DataContractError
        The list is mangled.
    """
    ours = _key(key_fingerprint)
    others = [each.key for each in store.walk(f"{AREA}/") if each.key != ours]
    if others:
        raise ConfigError(
            f"Under another pseudonym key people were forgotten ({store.uri(others[0])}) whom the "
            "key in use cannot recognise: they would come back",
            "`forget` them again by their identifiers, then remove this file; or set the key "
            "of before",
        )
    return _parse(_read(store, ours), store.uri(ours))


def add(store: Store, key_fingerprint: str, pseudonym: str) -> None:
    """Enter a person, whoever else is entering others at the same time.

    Raises
    ------
    RetryableError
        Others changed the list all the time, or the store failed. Trying again is safe.
    """
    key = _key(key_fingerprint)
    for _ in range(_TRIES):
        blob = _read(store, key)
        known = _parse(blob, store.uri(key))
        if pseudonym in known:
            return
        data = (json.dumps(sorted([*known, pseudonym]), indent=2) + "\n").encode()
        try:
            if blob:
                store.replace(key, data, blob.etag)
            else:
                store.create(key, data)
        except ConflictError:
            continue  # perhaps our own success: the next look tells
        return
    raise RetryableError(f"{store.uri(key)} is changed by others all the time", "Try again")


def fingerprint(pseudonyms: Collection[str]) -> str:
    """Return 16 hex digits over all who are forgotten; empty where nobody is.

    It is a setting of every table without them, which so gets another version than the one with.
    """
    if not pseudonyms:
        return ""
    return hashlib.sha256("\n".join(sorted(pseudonyms)).encode()).hexdigest()[:16]


def told(pseudonyms: Collection[str]) -> str:
    """Say it, for a manifest's assumptions."""
    return f"Left out is what is known of {len(pseudonyms)} who asked to be forgotten."


def _key(key_fingerprint: str) -> str:
    return f"{AREA}/{key_fingerprint}.json"


def _read(store: Store, key: str) -> Blob | None:
    try:
        return store.read(key)
    except KeyMissingError:
        return None


def _parse(blob: Blob | None, uri: str) -> list[str]:
    if blob is None:
        return []
    try:
        found = json.loads(blob.data)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        # Taken for empty, it would bring everybody back.
        raise DataContractError(f"{uri} is no list of pseudonyms", "Restore it from a backup")
    return found
