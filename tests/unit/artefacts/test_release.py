"""Channels: whoever moves them at the same time, none is lost and none is doubled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecom_tasks.artefacts import dataset, pull, release
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.manifest import Manifest
from ecom_tasks.artefacts.store import ConflictError, open_store
from ecom_tasks.errors import ConfigError, DataContractError, RetryableError
from ecom_tasks.run import Run

NAME = "artefacts/pricing"


def _build(draft: Draft) -> None:
    draft.write_text("prices.csv", "product_id,price\n")
    draft.headline(metric="m", value=2, baseline_name="b", baseline=1, higher_is_better=True,
                   rows=7, unit="prices")  # fmt: skip


_build.__module__ = "ecom_tasks.pricing.tasks"


def made(run: Run, days: int) -> list[Manifest]:
    runs = [Run("r", run.as_of + timedelta(days=i), run.root) for i in range(days)]
    return [dataset.manifest(dataset.produce(r, NAME, _build)) for r in runs]


def test_racing_publishers_each_count_once(run: Run) -> None:
    store, versions = open_store(run.root), made(run, 8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda m: release.move(store, "production", m), versions))
    pointer = release.read_pointer(store, NAME, "production")
    assert pointer is not None
    assert pointer.sequence == len(versions)
    assert {move.version for move in pointer.history} == {m.version for m in versions}
    assert [move.sequence for move in pointer.history] == list(range(len(versions), 0, -1))


class SwallowedAnswers:
    """A store whose writes succeed while their answers are lost or come back as a conflict."""

    def __init__(self, store: Any, error: Exception) -> None:
        self._store, self._error, self.swallowed = store, error, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def create(self, key: str, data: bytes) -> str:
        self._store.create(key, data)
        self.swallowed += 1
        raise self._error

    def replace(self, key: str, data: bytes, etag: str) -> str:
        self._store.replace(key, data, etag)
        self.swallowed += 1
        raise self._error


@pytest.mark.parametrize("error", [ConflictError("412"), RetryableError("timed out", "wait")])
def test_a_swallowed_answer_is_no_failure_and_no_second_publish(run: Run, error: Exception) -> None:
    first, second = made(run, 2)
    store = SwallowedAnswers(open_store(run.root), error)
    release.move(store, "production", first)
    pointer = release.move(store, "production", second)
    assert store.swallowed == 2
    assert (pointer.sequence, pointer.version) == (2, second.version)
    assert pointer.previous_version == first.version


def test_a_store_that_never_accepts_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(SwallowedAnswers):
        def create(self, *_: object) -> str:
            raise self._error

    monkeypatch.setattr(release, "_TRIES", 3)
    store = Refusing(open_store(run.root), RetryableError("503", "wait"))
    [only] = made(run, 1)
    with pytest.raises(RetryableError, match="is not known after 3 attempts"):
        release.move(store, "production", only)


def test_promote_and_rollback_walk_through_versions(run: Run) -> None:
    first, second = made(run, 2)
    release.promote(run.root, NAME, first.version)
    with pytest.raises(ConfigError, match="no earlier version"):
        release.rollback(run.root, NAME)
    release.promote(run.root, NAME, second.version)
    assert release.rollback(run.root, NAME).version == first.version
    with pytest.raises(ConfigError, match=rf"no version never-made.*{second.version}"):
        release.promote(run.root, NAME, "never-made")


def test_listing_says_what_is_in_service(run: Run) -> None:
    first, second = made(run, 2)
    release.promote(run.root, NAME, first.version)
    rows = {row.version: row for row in release.listing(run.root)}
    assert set(rows) == {first.version, second.version}
    assert "production" in rows[first.version].channels
    assert "production" not in rows[second.version].channels
    assert rows[first.version].rows == 7


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": "x"}'])
def test_a_mangled_pointer_is_named_and_not_overwritten(run: Run, content: bytes) -> None:
    [only] = made(run, 1)
    store = open_store(run.root)
    store.create(release.pointer_key(NAME, "production"), content)
    with pytest.raises(DataContractError, match="pointer of artefacts/pricing channel production"):
        release.move(store, "production", only)
    assert store.read(release.pointer_key(NAME, "production")).data == content


def test_a_pointer_copied_from_another_name_is_refused(run: Run) -> None:
    [only] = made(run, 1)
    store = open_store(run.root)
    release.move(store, "production", only)
    copied = store.read(release.pointer_key(NAME, "production")).data
    store.create(release.pointer_key("artefacts/inventory", "production"), copied)
    with pytest.raises(DataContractError, match="Somebody copied it"):
        release.read_pointer(store, "artefacts/inventory", "production")


def test_a_swallowed_success_that_was_overtaken_is_not_published_again(run: Run) -> None:
    first, second, third = made(run, 3)
    inner = open_store(run.root)
    release.move(inner, "production", first)

    class Overtaken(SwallowedAnswers):
        def replace(self, key: str, data: bytes, etag: str) -> str:
            inner.replace(key, data, etag)
            release.move(inner, "production", third)
            raise self._error

    pointer = release.move(Overtaken(inner, ConflictError("412")), "production", second)
    assert [move.version for move in pointer.history] == [
        third.version, second.version, first.version,
    ]  # fmt: skip
    assert pointer.sequence == 3


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": "x"}'])
def test_a_mangled_pointer_is_mended_when_told(run: Run, content: bytes, tmp_path: Path) -> None:
    first, second = made(run, 2)
    release.promote(run.root, NAME, first.version)
    pull.pull(run.root, NAME, tmp_path / "here")
    store, key = open_store(run.root), release.pointer_key(NAME, "production")
    store.replace(key, content, store.read(key).etag)
    repair = release.Terms(repair=True)
    pointer = release.promote(run.root, NAME, second.version, terms=repair)
    # Consumers that saw earlier moves follow: the number is ahead of any count.
    assert pointer.sequence > 1_000_000
    assert pull.pull(run.root, NAME, tmp_path / "here").version == second.version
    assert release.promote(run.root, NAME, first.version).sequence == pointer.sequence + 1


def test_a_store_that_fails_in_between_is_outlived(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Success whose answer is lost, then reads that fail: neither a failure nor a second move."""
    first, second = made(run, 2)
    release.promote(run.root, NAME, first.version)
    monkeypatch.setattr(release.time, "sleep", lambda _: None)

    class Failing(SwallowedAnswers):
        failures = 5

        def read(self, key: str) -> Any:
            if self.swallowed and self.failures:
                self.failures -= 1
                raise RetryableError("500", "wait")
            return self._store.read(key)

    store = Failing(open_store(run.root), RetryableError("timed out", "wait"))
    pointer = release.move(store, "production", second)
    assert (store.failures, pointer.sequence, pointer.version) == (0, 2, second.version)


def test_one_version_a_day_was_in_service_last(run: Run) -> None:
    store, (first, second, third) = open_store(run.root), made(run, 3)
    for each in (first, third, second, third):
        release.move(store, "production", each)
    later = third.as_of + timedelta(days=1)
    found = release.served_by_day(run.root, NAME, later)
    assert [dataset.manifest(ref).version for ref in found] == [
        third.version, second.version, first.version,
    ]  # fmt: skip
    assert release.served_by_day(run.root, NAME, third.as_of) == found[1:]
    assert release.served_by_day(run.root, "artefacts/none", later) == []
    # Another version of the second day replaces it, and retention may take one.
    other = Run("r", second.as_of, run.root, overrides={"gate": {"smallest_gain": 1.0}})
    again = dataset.manifest(dataset.produce(other, NAME, _build))
    release.move(store, "production", again)
    store.delete([release.manifest_key(first)])
    found = release.served_by_day(run.root, NAME, later)
    assert [dataset.manifest(ref).version for ref in found] == [third.version, again.version]
