"""Where a table of features is collected: a GPU is pretended, and its errors are planted."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from ecom_tasks import device
from ecom_tasks.features import engine

TABLE = pl.DataFrame({"a": [1, 2]})
LEAST = device.LEAST_ROWS["tables"]


class Lazy:
    """Stands for a query: fails on the first engines, as told."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.engines = list(errors), []

    def collect(self, engine: Any = None) -> pl.DataFrame:
        self.engines.append(engine and engine.config["executor"])
        if self.errors:
            raise self.errors.pop(0)
        return TABLE


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gpus", lambda: 1)
    monkeypatch.setattr(device, "_ABLE", {"tables": lambda: True})


def collected(lazy: Any, rows: int = LEAST) -> device.Record:
    with device.recording() as seen:
        assert engine.collect("demand", lazy, rows) is TABLE
    return seen


def test_a_small_bucket_stays_on_the_cpu() -> None:
    lazy = Lazy()
    assert collected(lazy, LEAST - 1).device == "cpu"
    assert lazy.engines == [None]


def test_a_large_bucket_goes_to_the_gpu_at_once() -> None:
    lazy = Lazy()
    assert collected(lazy).device == "cuda"
    assert lazy.engines == ["in-memory"]


def test_what_does_not_fit_goes_piece_by_piece_then_to_the_cpu() -> None:
    crowded = pl.exceptions.ComputeError("MemoryError: std::bad_alloc: out_of_memory: CUDA error")
    lazy = Lazy(crowded)
    assert collected(lazy).device == "cuda"
    assert lazy.engines == ["in-memory", "streaming"]
    lazy = Lazy(crowded, crowded)
    seen = collected(lazy)
    assert lazy.engines == ["in-memory", "streaming", None]
    assert seen.device == "cpu"
    assert seen.fallbacks[-1] == "demand: out of memory on the GPU in pieces, so done on the CPU"


def test_what_the_gpu_does_not_know_is_done_by_the_cpu() -> None:
    unknown = pl.exceptions.ComputeError("'cuda' conversion failed: NotImplementedError: cut")
    seen = collected(Lazy(unknown, unknown))
    assert seen.device == "cpu"
    assert "not supported on the GPU" in seen.fallbacks[0]


def test_the_engines_refuse_instead_of_going_on_in_silence() -> None:
    assert all(each.config["raise_on_fail"] for _, each in engine.engines())
