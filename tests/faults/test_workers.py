"""Workers and schedulers are killed in the middle of a feature run: it is made all the same."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ecom_tasks import compute
from ecom_tasks.artefacts import dataset
from ecom_tasks.errors import RetryableError
from ecom_tasks.features import tasks
from ecom_tasks.run import Ref, Run, run_locally
from tests import builders
from tests.clusters import Cluster, cluster, kill

SHOP = builders.block_shop(blocks=3, customers=10, goods=5, weeks=12)
BUCKETS = 5
MARK = "TEST_MARK"
build_bucket = tasks._build_bucket


def wait_to_be_killed(bucket: Any, tables: Any, destination: str, path: str) -> Any:
    """Build a bucket; the first to build the third one says who it is, and does not end."""
    entries = build_bucket(bucket, tables, destination, path)
    if path.endswith("bucket=002.parquet"):
        with suppress(FileExistsError):
            mark = Path(os.environ[MARK])
            half = mark.with_suffix(f".{os.getpid()}")
            half.write_text(str(os.getpid()))
            os.link(half, mark)
            time.sleep(300)
    return entries


@contextmanager
def when_marked(mark: Path, do: Callable[[int], None]) -> Iterator[None]:
    """Do something to the process that marks itself, while the block runs."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            if mark.exists():
                do(int(mark.read_text()))
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(MARK, str(tmp_path / "mark"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return tmp_path / "mark"


@pytest.fixture
def day_run(tmp_path: Path) -> Run:
    return published(tmp_path / "disturbed")


def published(root: Path) -> Run:
    run = Run("test", SHOP.as_of, root.as_uri(), overrides={"features": {"snapshots": 2}})
    builders.publish_lake(
        run, {"order_lines": SHOP.order_lines, "products": SHOP.products}, BUCKETS
    )
    return run


def bytes_of(ref: Ref) -> dict[str, str]:
    """Hash of every file of every feature table below `ref`, and the versions they have."""
    made = dataset.manifest(ref)
    below = [bytes_of(Ref(each)) for name, each in made.inputs.items() if "features/" in name]
    own = {f"{made.name} {made.version} {entry.path}": entry.sha256 for entry in made.files}
    return own | {name: digest for each in below for name, digest in each.items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOM_DASK", "threads")
        found = bytes_of(run_locally(tasks.flow, published(tmp_path_factory.mktemp("calm"))))
    # Two cutoffs of three tables by as_of and earlier, and three tables of one file a bucket.
    assert len(found) > 3 * BUCKETS
    return found


def test_a_local_worker_is_killed(
    mark: Path, day_run: Run, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOM_DASK", "processes")
    monkeypatch.setenv("ECOM_WORKERS", "2")
    monkeypatch.setattr(tasks, "_build_bucket", wait_to_be_killed)
    killed = []

    def end(process: int) -> None:
        os.kill(process, signal.SIGKILL)
        killed.append(process)

    with when_marked(mark, end):
        made = tasks.build_customer_products(day_run, tasks.pin_lake(day_run))
    assert killed != [os.getpid()]
    assert len(killed) == 1
    found = bytes_of(made)
    assert found == {name: undisturbed[name] for name in undisturbed if "customer_products" in name}
    assert len(found) == 2 * BUCKETS


def test_a_worker_of_a_running_scheduler_is_killed(
    mark: Path, day_run: Run, tmp_path: Path, undisturbed: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tasks, "_build_bucket", wait_to_be_killed)
    with cluster(tmp_path, workers=2) as dask:
        monkeypatch.setenv("ECOM_DASK", dask.address)
        with when_marked(mark, lambda process: os.kill(process, signal.SIGKILL)):
            made = run_locally(tasks.flow, day_run)
        ended = [each for each in dask.workers if each.poll() is not None]
        assert [each.pid for each in ended] == [int(mark.read_text())]
    assert bytes_of(made) == undisturbed


@pytest.mark.parametrize("victim", ["scheduler", "workers"])
def test_a_lost_cluster_is_a_passing_fault(
    victim: str, mark: Path, day_run: Run, tmp_path: Path, undisturbed: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tasks, "_build_bucket", wait_to_be_killed)
    monkeypatch.setenv("ECOM_DASK_PATIENCE", "3")

    def end(dask: Cluster) -> None:
        for process in [dask.scheduler] if victim == "scheduler" else dask.workers:
            kill(process)

    told = {"scheduler": "scheduler .* was lost", "workers": "has had no worker for 3 s"}
    started = time.monotonic()
    with cluster(tmp_path, workers=2) as dask:
        monkeypatch.setenv("ECOM_DASK", dask.address)
        with (
            when_marked(mark, lambda _: end(dask)),
            pytest.raises(RetryableError, match=told[victim]) as raised,
        ):
            run_locally(tasks.flow, day_run)
        assert "run it again" in raised.value.hint
    # The bucket itself would have waited for 300 s.
    assert time.monotonic() - started < 120
    monkeypatch.setenv("ECOM_DASK", "threads")
    again = run_locally(tasks.flow, replace(day_run, run_id="again"))
    assert bytes_of(again) == undisturbed
    assert isinstance(dataset.manifest(again).as_of, date)


def end_worker(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_work_that_kills_every_worker_says_what_to_do(
    mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOM_DASK", "processes")
    monkeypatch.setenv("ECOM_WORKERS", "1")
    assert not mark.exists()
    with pytest.raises(RetryableError, match="died over the same work") as raised:
        compute.map_buckets(end_worker, [1], "too large a bucket")
    assert "ingestion.buckets" in raised.value.hint
