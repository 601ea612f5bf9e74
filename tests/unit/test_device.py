"""Which device is chosen, and what follows where work does not fit: without a GPU, by plants."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ecom_tasks import compute, device
from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.device import Attempt
from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Run


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gpus", lambda: 1)
    monkeypatch.setattr(device, "_ABLE", dict.fromkeys(device.LEAST_ROWS, lambda: True))


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize("work", device.LEAST_ROWS)
def test_size_decides(work: device.Work, monkeypatch: pytest.MonkeyPatch) -> None:
    least = device.LEAST_ROWS[work]
    assert device.choose(work, least - 1) == "cpu"
    assert device.choose(work, least) == "cuda"
    monkeypatch.setenv("ECOM_DEVICE", "gpu")
    assert device.choose(work, 1) == "cuda"
    monkeypatch.setenv("ECOM_DEVICE", "cpu")
    assert device.choose(work, 10 * least) == "cpu"


def test_trees_move_where_the_lines_of_their_times_cross() -> None:
    """A CPU takes 0.4 s per 100,000 rows; a GPU 0.7 s for 100,000 and 5 s for 10 million."""
    slope = (5 - 0.7) / (10_000_000 - 100_000)
    start = 0.7 - slope * 100_000
    crossing = start / (0.4 / 100_000 - slope)
    assert crossing == pytest.approx(device.LEAST_ROWS["trees"], rel=0.15)


def test_without_a_gpu_everything_runs_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gpus", lambda: 0)
    assert device.choose("trees", 10**9) == "cpu"
    monkeypatch.setenv("ECOM_DEVICE", "gpu")
    with pytest.raises(ConfigError, match="ECOM_DEVICE=gpu, and no GPU is visible"):
        device.choose("trees", 10**9)


def test_a_library_without_cuda_keeps_its_work_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gpus", lambda: 1)
    monkeypatch.setattr(device, "_ABLE", {"trees": lambda: False, "tables": lambda: True})
    assert device.choose("trees", 10**9) == "cpu"
    assert device.choose("tables", 10**9) == "cuda"
    monkeypatch.setenv("ECOM_DEVICE", "gpu")
    with pytest.raises(ConfigError, match="makes trees was built without CUDA"):
        device.choose("trees", 1)


def test_an_unknown_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_DEVICE", "tpu")
    with pytest.raises(ConfigError, match="ECOM_DEVICE='tpu' is no device"):
        device.choose("trees", 1)


def failing(error: Exception) -> Callable[[], str]:
    def do() -> str:
        raise error

    return do


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's."""


class XGBoostError(ValueError):
    """Named as XGBoost's."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("std::bad_alloc: out_of_memory: CUDA error at: pool_memory_resource.hpp"),
        XGBoostError("[12:00:00] common.h:73: Memory allocation error: cudaErrorMemoryAllocation"),
        XGBoostError("device_helpers.cu: out of memory"),
        ResourceExhaustedError("OOM when allocating tensor with shape[1024]"),
        RuntimeError("cublas error: CUBLAS_STATUS_ALLOC_FAILED"),
    ],
)
def test_what_does_not_fit_is_done_elsewhere(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = [
        Attempt("cuda", "the GPU", failing(error)),
        Attempt("cuda", "the GPU in pages", failing(error)),
        Attempt("cpu", "the CPU", lambda: "done"),
    ]
    with device.recording() as seen, caplog.at_level(logging.WARNING):
        assert device.first_that_fits("trees", attempts) == "done"
    assert seen.device == "cpu"
    assert seen.fallbacks == [
        "trees: out of memory on the GPU, so done on the GPU in pages",
        "trees: out of memory on the GPU in pages, so done on the CPU",
    ]
    assert [record.message.split(" (")[0] for record in caplog.records] == seen.fallbacks


def test_what_the_device_cannot_do_is_done_elsewhere() -> None:
    error = ValueError("'cuda' conversion failed: NotImplementedError: rank")
    attempts = [
        Attempt("cuda", "the GPU", failing(error)),
        Attempt("cpu", "the CPU", lambda: "done"),
    ]
    with device.recording() as seen:
        assert device.first_that_fits("a table", attempts) == "done"
    assert seen.fallbacks == ["a table: not supported on the GPU, so done on the CPU"]


def test_any_other_error_arrives_as_itself() -> None:
    attempts = [
        Attempt("cuda", "the GPU", failing(ValueError("label must be positive"))),
        Attempt("cpu", "the CPU", lambda: "done"),
    ]
    with pytest.raises(ValueError, match="label must be positive"):
        device.first_that_fits("trees", attempts)


def test_where_the_last_does_not_fit_either_it_is_said() -> None:
    attempts = [
        Attempt("cuda", "the GPU", failing(MemoryError("device"))),
        Attempt("cpu", "the CPU", failing(MemoryError("host"))),
    ]
    with pytest.raises(MemoryError, match="host"):
        device.first_that_fits("trees", attempts)


def work(number: int) -> int:
    error = MemoryError("no room")
    attempts = [
        Attempt("cuda", "the GPU", failing(error) if number == 2 else lambda: "done"),
        Attempt("cpu", "the CPU", lambda: "done"),
    ]
    device.first_that_fits(f"bucket {number}", attempts)
    return number


@pytest.mark.parametrize("where", ["threads", "processes"])
def test_the_manifest_says_what_workers_used(
    where: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOM_DASK", where)

    def build(draft: Draft) -> None:
        compute.map_buckets(work, [1, 2, 3], "working")
        draft.assumptions.append("it rains")

    build.__module__ = "ecom_tasks.features.tasks"
    made = dataset.manifest(dataset.produce(run, "features/any", build))
    assert made.provenance.device == "cuda, cpu"
    assert made.assumptions == [
        "it rains",
        "bucket 2: out of memory on the GPU, so done on the CPU",
    ]


def test_a_manifest_of_what_needs_no_choice_says_cpu(run: Run) -> None:
    def build(draft: Draft) -> None:
        draft.write_text("a.txt", "a")

    build.__module__ = "ecom_tasks.features.tasks"
    assert dataset.manifest(dataset.produce(run, "features/any", build)).provenance.device == "cpu"


def test_the_device_enters_no_version(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(draft: Draft) -> None:
        draft.write_text("a.txt", "a")

    build.__module__ = "ecom_tasks.features.tasks"
    first = dataset.produce(run, "features/any", build)
    monkeypatch.setenv("ECOM_DEVICE", "cpu")
    assert dataset.produce(run, "features/any", build) == first


def test_threads_of_a_pool_are_recorded_and_blocks_kept_apart() -> None:
    both_open = threading.Barrier(2, timeout=30)

    def one(name: str) -> device.Record:
        with device.recording() as seen:
            both_open.wait()
            device.first_that_fits(
                name,
                [
                    Attempt("cuda", name, failing(MemoryError())),
                    Attempt("cpu", "the CPU", lambda: "done"),
                ],
            )
            both_open.wait()
        return seen

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(one, ["first", "second"]))
    assert [seen.fallbacks[0].split(":")[0] for seen in found] == ["first", "second"]
    assert [len(seen.fallbacks) for seen in found] == [1, 1]
    with device.recording() as seen, ThreadPoolExecutor(1) as pool:
        pool.submit(work, 2).result()
    assert len(seen.fallbacks) == 1
