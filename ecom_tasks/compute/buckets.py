"""Apply a function to every bucket, on whatever cluster there is, and outlive its mishaps.

A task reads one bucket and writes its part under a fixed name, so that doing it twice leaves the
same as doing it once: Dask does the tasks of a worker that died again on another (four deaths over
the same task end it), and a task that meets a passing fault is tried again where it stands.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from ecom_tasks import device
from ecom_tasks.compute.clusters import connect
from ecom_tasks.compute.faults import AGAIN
from ecom_tasks.errors import EcomError, RetryableError
from ecom_tasks.logs import track

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")
TRIES = 3
_LOOK_SECONDS = 5.0
_ANSWER_SECONDS = 30.0
"""A scheduler that takes longer over a question is lost; on a crowded machine, some take long."""


def patience() -> float:
    """Seconds without any worker after which no more is hoped for: `ECOM_DASK_PATIENCE`, or 60."""
    return float(os.environ.get("ECOM_DASK_PATIENCE", "60"))


def map_buckets(function: Callable[[T], R], items: Sequence[T], what: str) -> list[R]:
    """Apply `function` to each item on the cluster and return the results in order.

    Parameters
    ----------
    function : picklable and repeatable; takes one item (paths, never frames) and returns something
        small.
    what : for the progress bar.

    Raises
    ------
    RetryableError
        The scheduler was lost, no worker is left, or the same item killed four of them, usually
        for want of memory.
    """
    results: dict[str, R] = {}
    with connect() as client:
        futures = client.map(partial(_persistently, function), items, pure=False)
        failed = None
        for future in track(_as_they_end(client, futures), what, total=len(futures)):
            failed = _own_error(future)
            if failed:
                break
            results[future.key], seen = future.result(timeout=_ANSWER_SECONDS)
            device.repeat(seen)
    if failed:  # outside of the block, where it would be taken for an error of Dask
        raise failed
    return [results[future.key] for future in futures]


def _persistently(function: Callable[[T], R], item: T) -> tuple[R, device.Record]:
    """Do one item, again where it meets a passing fault; runs on a Dask worker."""
    for attempt in range(TRIES - 1):
        try:
            return _recorded(function, item)
        except RetryableError as error:
            log.warning("tried again: %s", error)
            time.sleep(2**attempt)
    return _recorded(function, item)


def _recorded(function: Callable[[T], R], item: T) -> tuple[R, device.Record]:
    with device.recording() as seen:
        return function(item), seen


def _own_error(future: Any) -> BaseException | None:
    """Return what the task itself raised; what Dask says of it is raised at once."""
    from distributed import KilledWorker

    if future.status != "error":
        return None
    error: BaseException = future.exception()
    if isinstance(error, EcomError) or not isinstance(error, KilledWorker):
        return error
    raise error


def _as_they_end(client: Any, futures: Sequence[Any]) -> Iterator[Any]:
    """Yield futures as they end, and look after the workers while none does."""
    from distributed import wait

    waiting = set(futures)
    lonely_since = None
    while waiting:
        try:
            ended, waiting = wait(waiting, timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED")
        except TimeoutError:
            ended = set()
        yield from ended
        if ended or _workers_of(client):
            lonely_since = None
            continue
        lonely_since = lonely_since or time.monotonic()
        if time.monotonic() - lonely_since > patience():
            raise RetryableError(
                f"The cluster has had no worker for {patience():.0f} s, and {len(waiting)} tasks "
                "to do",
                AGAIN,
            )


def _workers_of(client: Any) -> int:
    return len(client.sync(client.scheduler.ncores, callback_timeout=_ANSWER_SECONDS))
