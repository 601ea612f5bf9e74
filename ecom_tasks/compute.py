"""Where work runs: Dask distributes buckets, whatever stands in them computes.

`ECOM_DASK` says where: `threads` (in this process), `processes` (a local cluster, the default),
`cuda` (one worker a GPU) or the address of a running scheduler (`tcp://...`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from ecom_tasks.errors import ConfigError, EcomError, RetryableError
from ecom_tasks.logs import track

log = logging.getLogger(__name__)
SCHEDULER_TIMEOUT = "20s"
T = TypeVar("T")
R = TypeVar("R")


def workers() -> int:
    """Processes of a local cluster: `ECOM_WORKERS`, else the cores this process may use."""
    return int(os.environ.get("ECOM_WORKERS", "0")) or len(os.sched_getaffinity(0))


@contextmanager
def connect() -> Iterator[Any]:
    """Yield a Dask client, and close what was started for it.

    Raises
    ------
    ConfigError
        `ECOM_DASK` names no known place, or asks for CUDA where there is no GPU.
    RetryableError
        The scheduler at the address does not answer.
    """
    import dask

    # Read when distributed is first imported; its own default is to tell everything.
    dask.config.set({"logging.distributed": "error"})
    # Dask has workers give memory back at once: each array of a few MB is then mapped and cleared
    # anew, a quarter of the time. Read by malloc when a worker starts.
    dask.config.set({
        "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 128 << 20,
        "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 32 << 20,
    })
    from distributed import Client

    where = os.environ.get("ECOM_DASK", "processes")
    if where.startswith(("tcp://", "tls://", "ucx://")):
        try:
            with Client(where, timeout=SCHEDULER_TIMEOUT) as client:
                yield client
        except OSError as error:
            raise RetryableError(
                f"No Dask scheduler answers at {where}", "Start it, or correct ECOM_DASK"
            ) from error
        return
    with _local_cluster(where) as cluster, Client(cluster) as client:
        yield client


def _local_cluster(where: str) -> Any:
    from distributed import LocalCluster

    quiet: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    if where == "threads":
        return LocalCluster(n_workers=1, threads_per_worker=workers(), processes=False, **quiet)
    if where == "processes":
        # One thread each and one core for Polars: the buckets are what runs in parallel.
        environment = {
            "POLARS_MAX_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            # A worker that loses its heartbeat while the cluster closes is no news.
            "DASK_LOGGING__DISTRIBUTED": "critical",
        }
        return LocalCluster(
            n_workers=workers(), threads_per_worker=1, host="127.0.0.1", memory_limit="auto",
            env=environment, **quiet,
        )  # fmt: skip
    if where == "cuda":
        return _cuda_cluster()
    raise ConfigError(
        f"ECOM_DASK={where!r} names no place to compute",
        "Use threads, processes, cuda or the address of a scheduler (tcp://host:8786)",
    )


def _cuda_cluster() -> Any:
    from dask_cuda import LocalCUDACluster

    try:
        return LocalCUDACluster()
    except Exception as error:  # pynvml's own tree, which needs a GPU to import
        raise ConfigError(
            f"ECOM_DASK=cuda finds no GPU: {error}", "Use ECOM_DASK=processes, or install a driver"
        ) from error


def map_buckets(function: Callable[[T], R], items: Sequence[T], what: str) -> list[R]:
    """Apply `function` to each item on the cluster and return the results in order.

    Parameters
    ----------
    function : picklable; takes one item (paths, never frames) and returns something small.
    what : for the progress bar.

    Raises
    ------
    RetryableError
        A worker died, usually for want of memory.
    """
    with connect() as client:
        from distributed import KilledWorker, as_completed

        futures = client.map(function, items, pure=False, retries=0)
        try:
            for future in track(as_completed(futures), what, total=len(futures)):
                future.result()
            results: list[R] = client.gather(futures)
        except EcomError:
            raise
        except KilledWorker as error:
            raise RetryableError(
                f"A worker died during {what}: {error}",
                "Most likely memory: raise the number of buckets (ingestion.buckets), or give "
                "fewer workers more memory (ECOM_WORKERS)",
            ) from error
    return results
