"""Collect a feature table of one bucket on the device that suits it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import polars as pl

from ecom_tasks import device
from ecom_tasks.device import Attempt


def collect(what: str, lazy: pl.LazyFrame, rows: int) -> pl.DataFrame:
    """Compute the table; its rows are the same on both devices.

    On a GPU, Polars hands the expressions to cuDF: all of it at once, then piece by piece; what
    does not fit, or what cuDF does not know, is computed on the CPU.

    Parameters
    ----------
    what : is made, for people
    rows : of the bucket that is read
    """
    on_cpu = Attempt("cpu", "the CPU", lazy.collect)
    if device.choose("tables", rows) == "cpu":
        return device.first_that_fits(what, [on_cpu])

    def collected(engine: pl.GPUEngine) -> pl.DataFrame:
        return lazy.collect(engine=engine)

    on_gpu = [Attempt("cuda", how, partial(collected, engine)) for how, engine in engines()]
    return device.first_that_fits(what, [*on_gpu, on_cpu])


def engines() -> Sequence[tuple[str, pl.GPUEngine]]:
    """Return Polars' ways to a GPU; each raises where it cannot, instead of saying nothing."""
    return [
        ("the GPU", pl.GPUEngine(executor="in-memory", raise_on_fail=True)),
        ("the GPU in pieces", pl.GPUEngine(executor="streaming", raise_on_fail=True)),
    ]
