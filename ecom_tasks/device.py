"""Which device a piece of work runs on, what happens when it does not fit, and what is told of it.

The rule: with `ECOM_DEVICE=auto`, the default, a GPU is taken where there is one, the library can
use it and the work has at least `LEAST_ROWS`; below that, moving data and starting kernels cost
more than they save. `cpu` never takes one, `gpu` always does and refuses to run without.

Light to import. What is chosen enters no version: the same input keeps its name, and whatever made
it first stands; which device that was is in the manifest.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import itertools
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, Literal, TypeVar

from ecom_tasks.errors import ConfigError

log = logging.getLogger(__name__)
T = TypeVar("T")
Device = Literal["cpu", "cuda"]
Work = Literal["tables", "trees", "networks", "factors"]
VARIABLE = "ECOM_DEVICE"
LEAST_ROWS: dict[Work, int] = {
    "tables": 1_000_000,
    "trees": 200_000,
    "networks": 100_000,
    "factors": 1_000_000,
}
"""Rows from which on a GPU is taken: of a bucket; of training; windows or events; interactions."""
_CROWDED = re.compile(
    r"out.of.memory|bad_alloc|cudaErrorMemoryAllocation|ALLOC_FAILED|failed to allocate", re.I
)
_UNABLE = re.compile(r"NotImplementedError|conversion failed")


def choose(work: Work, rows: int) -> Device:
    """Return the device for work of this kind and size.

    Raises
    ------
    ConfigError
        `ECOM_DEVICE` is none of auto, cpu and gpu, or is gpu where no GPU can be used.
    """
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted not in {"auto", "cpu", "gpu"}:
        raise ConfigError(f"{VARIABLE}={wanted!r} is no device", "Use auto, cpu or gpu")
    if wanted == "cpu" or (wanted == "auto" and rows < LEAST_ROWS[work]):
        return "cpu"
    lacking = _lacking(work)
    if not lacking:
        return "cuda"
    if wanted == "gpu":
        raise ConfigError(
            f"{VARIABLE}=gpu, and {lacking}",
            f"Install a driver and the GPU requirements, or set {VARIABLE}=auto",
        )
    return "cpu"


def _lacking(work: Work) -> str:
    """Say what keeps this work off a GPU; empty: nothing."""
    if not gpus():
        return "no GPU is visible"
    return "" if _ABLE[work]() else f"the library that makes {work} was built without CUDA"


@cache
def gpus() -> int:
    """Count the GPUs that this process may use: those of `CUDA_VISIBLE_DEVICES` that are there."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _tables_able() -> bool:
    return importlib.util.find_spec("cudf_polars") is not None


def _trees_able() -> bool:
    import xgboost

    return bool(xgboost.build_info().get("USE_CUDA"))


def _networks_able() -> bool:
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))


def _factors_able() -> bool:
    from implicit import gpu

    return bool(gpu.HAS_CUDA)


_ABLE: dict[Work, Callable[[], bool]] = {
    "tables": _tables_able,
    "trees": _trees_able,
    "networks": _networks_able,
    "factors": _factors_able,
}


@dataclass(frozen=True)
class Attempt(Generic[T]):
    """One way to do a piece of work.

    Attributes
    ----------
    device : that it runs on
    how : for people, for example `cuda, from external memory`
    """

    device: Device
    how: str
    do: Callable[[], T]


def first_that_fits(what: str, attempts: Sequence[Attempt[T]]) -> T:
    """Return what the first attempt gives that does not run out of memory.

    An attempt that fails for want of memory, or because the device cannot do such work, is logged
    and recorded, and the next one follows; any other error is raised as it is, as is that of the
    last.

    Parameters
    ----------
    what : is done, for people
    attempts : the most wanted one first
    """
    for attempt, following in itertools.pairwise(attempts):
        try:
            return _done(attempt)
        except Exception as error:
            reason = _why_elsewhere(error)
            if not reason:
                raise
            told = f"{what}: {reason} on {attempt.how}, so done on {following.how}"
            log.warning("%s (%s)", told, " ".join(str(error).split())[:200])
            _note(fallbacks=[told])
        gc.collect()  # what failed lies on the device until nobody refers to it
    return _done(attempts[-1])


def _done(attempt: Attempt[T]) -> T:
    result = attempt.do()
    _note(devices=[attempt.device])
    return result


def _why_elsewhere(error: Exception) -> str:
    """Say why another attempt may succeed where this one failed; empty: it would not."""
    told = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or "ResourceExhausted" in told or _CROWDED.search(told):
        return "out of memory"
    return "not supported" if _UNABLE.search(told) else ""


@dataclass
class Record:
    """What was done where, in the order in which it was first done.

    Attributes
    ----------
    devices : that were used
    fallbacks : sentences on what did not fit
    """

    devices: list[str] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)
    _thread: int = field(default_factory=threading.get_ident)

    @property
    def device(self) -> str:
        """The devices, as a manifest names them."""
        return ", ".join(sorted(self.devices, reverse=True)) or "cpu"


_open: list[Record] = []
_lock = threading.Lock()


@contextmanager
def recording() -> Iterator[Record]:
    """Collect what is done in the block, also by threads that it starts."""
    record = Record()
    with _lock:
        _open.append(record)
    try:
        yield record
    finally:
        with _lock:
            # By identity: another thread's record may have been opened meanwhile and be equal.
            _open[:] = [each for each in _open if each is not record]


def repeat(record: Record) -> None:
    """Take over what a worker recorded."""
    _note(record.devices, record.fallbacks)


def _note(devices: Sequence[str] = (), fallbacks: Sequence[str] = ()) -> None:
    with _lock:
        # The innermost block of this thread; a thread of a pool has none, and serves the newest.
        own = [each for each in _open if each._thread == threading.get_ident()]
        for record in (own or _open)[-1:]:
            record.devices += [each for each in devices if each not in record.devices]
            record.fallbacks += [each for each in fallbacks if each not in record.fallbacks]
