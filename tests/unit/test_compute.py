"""Where work runs is a setting; what comes back is the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecom_tasks import compute
from ecom_tasks.compute import buckets, clusters
from ecom_tasks.errors import ConfigError, DataContractError, RetryableError


def square_and_process(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def fail(number: int) -> int:
    raise DataContractError(f"bucket {number} is broken", "mend it")


@pytest.mark.parametrize("where", ["threads", "processes"])
def test_results_come_in_order(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_DASK", where)
    results = compute.map_buckets(square_and_process, list(range(8)), "squaring")
    assert [square for square, _ in results] == [n * n for n in range(8)]
    assert (os.getpid() in {process for _, process in results}) is (where == "threads")


def test_no_dashboard_is_loaded_for_a_cluster_of_its_own() -> None:
    script = (
        "import sys; from ecom_tasks import compute; "
        "assert compute.map_buckets(abs, [-1], 'counting') == [1]; "
        "assert 'bokeh' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"ECOM_DASK": "threads"}, check=True
    )


def test_an_error_in_a_bucket_arrives_as_itself() -> None:
    with pytest.raises(DataContractError, match=r"bucket \d is broken"):
        compute.map_buckets(fail, [1, 2], "failing")


def test_unknown_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_DASK", "moon")
    with pytest.raises(ConfigError, match="'moon' names no place"):
        compute.map_buckets(abs, [1], "nothing")


def test_absent_scheduler_is_a_passing_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_DASK", "tcp://127.0.0.1:1")
    monkeypatch.setattr(clusters, "SCHEDULER_TIMEOUT", "1s")
    with pytest.raises(RetryableError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        compute.map_buckets(abs, [1], "nothing")


def fail_at_first(mark: str) -> int:
    with open(mark, "a") as tries:  # noqa: PTH123
        tries.write("x")
    if len(Path(mark).read_text()) < buckets.TRIES:
        raise RetryableError("the store is away", "wait")
    return len(Path(mark).read_text())


def test_a_passing_fault_is_tried_again(tmp_path: Path) -> None:
    assert compute.map_buckets(fail_at_first, [str(tmp_path / "mark")], "trying") == [3]


def test_a_fault_that_does_not_pass_arrives_as_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "TRIES", 2)
    mark = tmp_path / "mark"
    with pytest.raises(RetryableError, match="the store is away"):
        compute.map_buckets(always_away, [str(mark)], "trying")
    assert mark.read_text() == "x" * 2


def always_away(mark: str) -> int:
    with open(mark, "a") as tries:  # noqa: PTH123
        tries.write("x")
    raise RetryableError("the store is away", "wait")


def time_out(number: int) -> int:
    raise TimeoutError(f"bucket {number} waited")


def test_what_a_task_raises_is_not_taken_for_an_error_of_dask() -> None:
    with pytest.raises(TimeoutError, match="bucket 1 waited"):
        compute.map_buckets(time_out, [1], "waiting")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {"rmm_pool_size": 0.5, "device_memory_limit": 0.8, "enable_cudf_spill": True}),
        ({"ECOM_CUDA_POOL": "0"}, {"rmm_pool_size": None}),
        ({"ECOM_CUDA_SPILL": "0.6"}, {"device_memory_limit": 0.6}),
        ({"ECOM_CUDF_SPILL": "0"}, {"enable_cudf_spill": False}),
        ({"ECOM_WORKERS": "2"}, {"n_workers": 2, "threads_per_worker": 1}),
    ],
)
def test_arguments_of_a_cuda_cluster(
    variables: dict[str, str], expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = clusters.cuda_arguments()
    assert found | expected == found
    assert ("n_workers" in found) is ("ECOM_WORKERS" in variables)  # else: every visible GPU


def test_dask_cuda_knows_these_arguments() -> None:
    import inspect

    dask_cuda = pytest.importorskip("dask_cuda")
    known = inspect.signature(dask_cuda.LocalCUDACluster).parameters
    assert set(clusters.cuda_arguments()) | {"n_workers"} <= set(known)


@pytest.mark.parametrize("share", ["half", "1.5", "-0.1"])
def test_a_share_that_is_none_is_refused(share: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_CUDA_POOL", share)
    with pytest.raises(ConfigError, match=r"ECOM_CUDA_POOL='.+' is no share"):
        clusters.cuda_arguments()
