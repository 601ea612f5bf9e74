"""Where work runs is a setting; what comes back is the same."""

from __future__ import annotations

import os

import pytest

from ecom_tasks import compute
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


def test_an_error_in_a_bucket_arrives_as_itself() -> None:
    with pytest.raises(DataContractError, match=r"bucket \d is broken"):
        compute.map_buckets(fail, [1, 2], "failing")


def test_unknown_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_DASK", "moon")
    with pytest.raises(ConfigError, match="'moon' names no place"):
        compute.map_buckets(abs, [1], "nothing")


def test_absent_scheduler_is_a_passing_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_DASK", "tcp://127.0.0.1:1")
    monkeypatch.setattr(compute, "SCHEDULER_TIMEOUT", "1s")
    with pytest.raises(RetryableError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        compute.map_buckets(abs, [1], "nothing")
