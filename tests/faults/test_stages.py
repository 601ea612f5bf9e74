"""Killed at any stage, a publisher leaves the last good version in service and can begin again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore import auth

from ecom_tasks.artefacts import dataset, pull, release, s3_store
from ecom_tasks.artefacts.s3_store import client
from ecom_tasks.artefacts.store import KeyMissingError, open_store
from ecom_tasks.errors import ConfigError, DataContractError, RetryableError
from ecom_tasks.run import Run
from tests.faults import publisher
from tests.faults.proxy import Plan, Proxy, Request
from tests.faults.publisher import DAY, NAME, publish
from tests.faults.reader import mixture

# Files go up at once; then manifest, pointer of the day, pointer of production.
STAGES = ["upload-0", "upload-2-done", "create-0", "create-0-done", "replace-0",
          "replace-0-done", "replace-1", "replace-1-done"]  # fmt: skip


def killed_at(stage: str, run: Run) -> int:
    """Publish number 2 in a fork that kills itself at the stage; return how it ended."""
    child = os.fork()
    if child == 0:
        try:
            client.cache_clear()
            publisher.die_at(stage)
            publish(run, 2)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("stage", STAGES)
def test_killed_publisher(bucket: str, tmp_path: Path, stage: str) -> None:
    run, here = Run("faults", DAY, bucket), tmp_path / "here"
    good = publish(run, 1)
    assert killed_at(stage, run) == -signal.SIGKILL
    pulled = pull.pull(bucket, NAME, here)
    moved = stage == "replace-1-done"
    assert (pulled.version == good.version) is not moved
    assert mixture((here / "current").resolve()) == ""
    again = publish(run, 2)
    assert again.sequence == good.sequence + 1  # what was done is not done twice
    assert pull.pull(bucket, NAME, here).version == again.version
    assert mixture((here / "current").resolve()) == ""


def through(monkeypatch: pytest.MonkeyPatch, proxy: Proxy, timeout_s: float = 60.0) -> None:
    monkeypatch.setenv("ECOM_S3_ENDPOINT", proxy.url)
    monkeypatch.setenv("ECOM_S3_TIMEOUT_S", str(timeout_s))


def only(kind: str, wanted: Callable[[Request], bool], times: int = 1) -> Any:
    """Script: the first `times` requests that are wanted get this fault, all others none."""
    left = [times]

    def script(request: Request) -> str:
        if left[0] and wanted(request):
            left[0] -= 1
            return kind
        return ""

    return script


def is_pointer(request: Request) -> bool:
    return request.method == "PUT" and request.path.endswith("production.json")


def is_manifest(request: Request) -> bool:
    return request.method == "PUT" and request.path.endswith("_manifest.json")


def server_port() -> int:
    return urlsplit(os.environ["ECOM_S3_ENDPOINT"]).port or 0


@pytest.mark.parametrize("wanted", [is_pointer, is_manifest])
@pytest.mark.parametrize(
    ("kind", "times"), [("swallow", 1), ("swallow", 6), ("truncate", 1), ("burst_503", 6)]
)
def test_a_lost_answer_is_no_failure_and_no_second_publish(
    bucket: str, monkeypatch: pytest.MonkeyPatch, wanted: Any, kind: str, times: int
) -> None:
    """Six in a row are more than the client's own retries: our reading again must tell."""
    run = Run("faults", DAY, bucket)
    first = publish(run, 1)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    with Proxy(server_port(), Plan(script=only(kind, wanted, times))) as proxy:
        through(monkeypatch, proxy)
        for _ in range(3):
            try:
                second = publish(run, 2)
            except RetryableError:
                continue
            break
        # The client asks five times; then our own look finds what was done.
        assert proxy.injected[kind] >= min(times, 5)
        assert second.sequence == first.sequence + 1


def test_a_stalled_answer_comes_too_late_to_do_harm(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client has given up and asked again before the server hears of the first request."""
    run = Run("faults", DAY, bucket)
    publish(run, 1)
    with Proxy(server_port(), Plan(stall_s=3, script=only("stall", is_pointer))) as proxy:
        through(monkeypatch, proxy, timeout_s=1.0)
        assert publish(run, 2).sequence == 2
        assert publish(run, 3).sequence == 3
        assert proxy.injected["stall"] == 1


@pytest.mark.parametrize("kind", ["truncate", "reset", "slow", "burst_500", "swallow"])
def test_a_consumer_outlives_the_same(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    publish(Run("faults", DAY, bucket), 1)
    every_third = iter(range(10_000))
    plan = Plan(script=lambda _: kind if next(every_third) % 3 == 0 else "")
    with Proxy(server_port(), plan) as proxy:
        through(monkeypatch, proxy)
        pull.pull(bucket, NAME, tmp_path / "here")
        assert proxy.injected[kind] > 1
    assert mixture((tmp_path / "here/current").resolve()) == ""


def test_a_clock_that_is_wrong_is_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed requests of another hour are refused; what is in service stays."""
    run = Run("faults", DAY, bucket)
    good = publish(run, 1)
    right, hour = auth.get_current_datetime, timedelta(hours=1)
    monkeypatch.setattr(auth, "get_current_datetime", lambda: right() + hour)
    monkeypatch.setattr(s3_store, "_now", lambda: datetime.now(UTC) + hour)
    with pytest.raises(ConfigError, match=r"clock is \+36\d\d s off.*Set the clock"):
        publish(run, 2)
    # A few minutes are tolerated, and the order of moves does not hang on clocks.
    for minutes in (4, -4):
        delta = timedelta(minutes=minutes)
        monkeypatch.setattr(auth, "get_current_datetime", lambda delta=delta: right() + delta)
        good = publish(run, 3 + minutes)
    monkeypatch.undo()
    assert good.sequence == 3


def test_a_mangled_pointer_stops_both_sides_and_is_mended(bucket: str, tmp_path: Path) -> None:
    run, here = Run("faults", DAY, bucket), tmp_path / "here"
    good = publish(run, 1)
    pull.pull(bucket, NAME, here)
    store, key = open_store(bucket), release.pointer_key(NAME, "production")
    blob = store.read(key)
    store.replace(key, blob.data[: len(blob.data) // 2], blob.etag)
    with pytest.raises(pull.RefusedError, match="mangled"):
        pull.pull(bucket, NAME, here)
    assert mixture((here / "current").resolve()) == ""
    with pytest.raises(DataContractError, match="mangled"):
        publish(run, 2)
    release.promote(bucket, NAME, good.version, terms=release.Terms(repair=True))
    assert publish(run, 2).sequence > good.sequence
    assert pull.pull(bucket, NAME, here).changed


def test_a_manifest_replaced_by_an_older_one_is_noticed(bucket: str, tmp_path: Path) -> None:
    run, here = Run("faults", DAY, bucket), tmp_path / "here"
    publish(run, 1)
    store = open_store(bucket)
    old = store.read(f"{NAME}/v/{publish(run, 1).version}/_manifest.json").data
    new = publish(run, 2)
    key = f"{NAME}/v/{new.version}/_manifest.json"
    store.replace(key, old, store.read(key).etag)
    with pytest.raises(pull.RefusedError, match="not the manifest that the channel attests"):
        pull.pull(bucket, NAME, here)


def test_nothing_is_left_of_what_was_never_finished(bucket: str) -> None:
    """Files without a manifest are no version: not listed, not pulled, not promoted."""
    run = Run("faults", DAY, bucket)
    publish(run, 1)
    killed_at("create-0", run)
    store = open_store(bucket)
    assert len(store.folders(f"{NAME}/v")) == 2
    assert len(release.versions(store, NAME)) == len(release.listing(bucket)) == 1
    (unfinished,) = set(store.folders(f"{NAME}/v")) - set(release.versions(store, NAME))
    with pytest.raises(KeyMissingError):
        store.read(f"{NAME}/v/{unfinished}/_manifest.json")
    assert len(list(store.walk(f"{NAME}/v/{unfinished}/"))) == publisher.FILES
    assert dataset.find(run, NAME)
