"""Ask the actual store what it guarantees: vendors' tables are no proof."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ecom_tasks.artefacts.store import ConflictError, Store, open_store
from ecom_tasks.errors import EcomError, RetryableError

RACERS = 8


@dataclass(frozen=True)
class Finding:
    """One probe: what was asked, whether it holds, and the remedy where it does not."""

    question: str
    holds: bool
    remedy: str = ""


def probe(root: str) -> list[Finding]:
    """Try writes and conditional writes on keys of our own under `probe/`, then remove them."""
    try:
        store = open_store(root)
        prefix = f"probe/{uuid.uuid4().hex}"
        store.create(f"{prefix}/first", b"1")
    except ConflictError:
        return [Finding("can be written", False, "The store refuses a new key: check the bucket")]
    except EcomError as error:
        return [Finding("can be reached and written", False, str(error))]
    single = "publish from one process at a time only; readers stay safe"
    checks: list[tuple[str, Callable[[Store, str], bool], str]] = [
        ("reads back what was written", _reads_back, "do not use this store"),
        ("create-if-absent refuses a taken key", _create_refused, single),
        ("replace-if-unchanged takes the present tag", _present_taken,
         "set ECOM_S3_ETAGS=unquoted, which Ceph 16 needs"),
        ("replace-if-unchanged refuses a stale tag", _stale_refused, single),
        (f"one winner among {RACERS} racing writers", _one_winner, single),
        ("refuses content that is not its SHA-256", _hash_enforced, "corruption in transit is "
         "noticed only by the readers' verification, not when publishing"),
    ]  # fmt: skip
    findings = [Finding("can be reached and written", True)]
    try:
        findings += [
            Finding(question, check(store, prefix), remedy) for question, check, remedy in checks
        ]
    finally:
        store.delete([stat.key for stat in store.walk(prefix)])
    return findings


def _reads_back(store: Store, prefix: str) -> bool:
    return store.read(f"{prefix}/first").data == b"1"


def _create_refused(store: Store, prefix: str) -> bool:
    try:
        store.create(f"{prefix}/first", b"2")
    except ConflictError:
        return True
    return False


def _present_taken(store: Store, prefix: str) -> bool:
    tag = store.create(f"{prefix}/present", b"1")
    try:
        store.replace(f"{prefix}/present", b"2", tag)
    except ConflictError:
        return False
    return store.read(f"{prefix}/present").data == b"2"


def _stale_refused(store: Store, prefix: str) -> bool:
    stale = store.create(f"{prefix}/tagged", b"1")
    try:
        fresh = store.replace(f"{prefix}/tagged", b"2", stale)
    except ConflictError:
        return True  # it refuses everything
    try:
        store.replace(f"{prefix}/tagged", b"3", stale)
    except ConflictError:
        return fresh != stale and store.read(f"{prefix}/tagged").data == b"2"
    return False


def _one_winner(store: Store, prefix: str) -> bool:
    def race(number: int) -> bool:
        try:
            store.create(f"{prefix}/raced", str(number).encode())
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(RACERS) as pool:
        return sum(pool.map(race, range(RACERS))) == 1


def _hash_enforced(store: Store, prefix: str) -> bool:
    if store.root.startswith("file:"):
        return True  # nothing travels
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "content"
        file.write_bytes(b"content")
        try:
            store.upload(f"{prefix}/hashed", file, hashlib.sha256(b"another").hexdigest())
        except (RetryableError, ConflictError, EcomError):
            return True
    return False
