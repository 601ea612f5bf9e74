"""What every store must do; run against a folder and against the real object server."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ecom_tasks.artefacts.store import ConflictError, KeyMissingError, Store


class StoreContract:
    """Subclass with a fixture `store` that yields an empty one."""

    def test_missing_key_is_said(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(KeyMissingError):
            store.read("nothing/here")
        with pytest.raises(KeyMissingError):
            store.download("nothing/here", tmp_path / "target")
        assert not store.exists("nothing/here")
        assert list(store.walk("nothing/")) == []
        assert store.folders("nothing") == []

    def test_create_gives_a_key_once(self, store: Store) -> None:
        store.create("a/b", b"first")
        with pytest.raises(ConflictError):
            store.create("a/b", b"second")
        assert store.read("a/b").data == b"first"

    def test_replace_wants_the_present_tag(self, store: Store) -> None:
        first = store.create("a", b"1")
        second = store.replace("a", b"2", first)
        with pytest.raises(ConflictError):
            store.replace("a", b"3", first)
        with pytest.raises(ConflictError):
            store.replace("never-made", b"3", second)
        assert store.read("a").data == b"2"
        assert store.read("a").etag == second

    def test_unchanged_content_is_not_sent_again(self, store: Store) -> None:
        tag = store.create("a", b"1")
        assert store.read_if_changed("a", tag) is None
        store.replace("a", b"2", tag)
        changed = store.read_if_changed("a", tag)
        assert changed is not None
        assert changed.data == b"2"

    def test_uploaded_file_comes_back(self, store: Store, tmp_path: Path) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(bytes(range(256)) * 5000)
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        store.upload("deep/er/file", source, digest)
        store.upload("deep/er/file", source, digest)
        store.download("deep/er/file", target)
        assert target.read_bytes() == source.read_bytes()

    def test_listing_is_bytewise_and_complete(self, store: Store) -> None:
        for key in ("p/b/1", "p/a!x", "p/a/2", "q/c"):
            store.create(key, b"12")
        assert [(s.key, s.bytes) for s in store.walk("p/")] == [
            ("p/a!x", 2), ("p/a/2", 2), ("p/b/1", 2),
        ]  # fmt: skip
        assert store.folders("p") == ["a", "b"]
        assert store.folders("") == ["p", "q"]

    def test_delete_removes_and_forgives(self, store: Store) -> None:
        store.create("a", b"1")
        store.delete(["a", "never-made"])
        assert not store.exists("a")

    def test_of_racing_writers_one_wins(self, store: Store) -> None:
        def race(number: int) -> int:
            try:
                store.create("raced", str(number).encode())
            except ConflictError:
                return 0
            return 1

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(race, range(8))) == 1

    def test_no_increment_is_lost(self, store: Store) -> None:
        store.create("counter", b"0")

        def add(_: int) -> None:
            while True:
                blob = store.read("counter")
                try:
                    store.replace("counter", str(int(blob.data) + 1).encode(), blob.etag)
                except ConflictError:
                    continue
                return

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(add, range(12)))
        assert store.read("counter").data == b"12"
