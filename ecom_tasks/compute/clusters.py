"""Start a cluster on this machine, or join one that runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ecom_tasks.compute.faults import translated
from ecom_tasks.errors import ConfigError, RetryableError

SCHEDULER_TIMEOUT = "20s"
TLS = {"tls_ca_file": "ECOM_DASK_TLS_CA", "tls_client_cert": "ECOM_DASK_TLS_CERT",
       "tls_client_key": "ECOM_DASK_TLS_KEY"}  # fmt: skip
"""What Dask calls the files of an encrypted scheduler -> the variable that names each."""


def workers() -> int:
    """Processes of a local cluster: `ECOM_WORKERS`, else the cores this process may use."""
    return int(os.environ.get("ECOM_WORKERS", "0")) or len(os.sched_getaffinity(0))


@contextmanager
def connect() -> Iterator[Any]:
    """Yield a Dask client, and close what was started for it.

    What Dask raises in the block arrives as an error of ours.

    Raises
    ------
    ConfigError
        `ECOM_DASK` names no known place, asks for CUDA where there is no GPU, or for TLS without
        certificates that fit.
    RetryableError
        The scheduler at the address does not answer, or was lost; too many workers died.
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
    with translated(where):
        if "://" in where:
            with _join(where) as client:
                yield client
            return
        with _local_cluster(where) as cluster, Client(cluster) as client:
            yield client


def _join(address: str) -> Any:
    """Return a client of the scheduler at `address`."""
    from distributed import Client
    from distributed.comm.core import FatalCommClosedError

    if not address.startswith(("tcp://", "tls://", "ucx://")):
        raise _unknown(address)
    security = _security() if address.startswith("tls://") else None
    try:
        return Client(address, timeout=SCHEDULER_TIMEOUT, security=security)
    except FatalCommClosedError as error:
        raise ConfigError(
            f"The Dask scheduler at {address} and this client do not trust each other: {error}",
            f"Give both certificates of one authority ({', '.join(TLS.values())})",
        ) from error
    except OSError as error:
        raise RetryableError(
            f"No Dask scheduler answers at {address}", "Start it, or correct ECOM_DASK"
        ) from error


def _security() -> Any:
    """Read where the certificates of an encrypted scheduler lie; both ends prove who they are."""
    from distributed.security import Security

    files = {name: os.environ.get(variable, "") for name, variable in TLS.items()}
    for name, variable in TLS.items():
        if not Path(files[name]).is_file():
            told = f"names no file: {files[name]}" if files[name] else "is not set"
            raise ConfigError(
                f"ECOM_DASK is a tls:// address, and {variable} {told}",
                f"Set {', '.join(TLS.values())} to PEM files: the authority's certificate, and "
                "this client's certificate and key",
            )
    return Security(require_encryption=True, **files)


def _local_cluster(where: str) -> Any:
    from distributed import LocalCluster

    quiet: dict[str, Any] = {
        "dashboard_address": "127.0.0.1:0",
        # Nobody is told the port of a cluster that lives for seconds, and to load Bokeh for its
        # pages takes longer than anything else in starting one.
        "scheduler_kwargs": {"dashboard": False},
        "silence_logs": logging.CRITICAL,
    }
    if where == "threads":
        return LocalCluster(n_workers=1, threads_per_worker=workers(), processes=False, **quiet)
    if where == "processes":
        # One thread each and one core for Polars: the buckets are what runs in parallel.
        environment = {
            "POLARS_MAX_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            # Several processes would crowd one GPU: with `cuda` each worker has its own.
            "ECOM_DEVICE": "gpu" if os.environ.get("ECOM_DEVICE") == "gpu" else "cpu",
            # A worker that loses its heartbeat while the cluster closes is no news.
            "DASK_LOGGING__DISTRIBUTED": "critical",
        }
        return LocalCluster(
            n_workers=workers(), threads_per_worker=1, host="127.0.0.1", memory_limit="auto",
            env=environment, **quiet,
        )  # fmt: skip
    if where == "cuda":
        return _cuda_cluster(quiet)
    raise _unknown(where)


def _unknown(where: str) -> ConfigError:
    return ConfigError(
        f"ECOM_DASK={where!r} names no place to compute",
        "Use threads, processes, cuda or the address of a scheduler (tcp://host:8786, or tls://)",
    )


def cuda_arguments() -> dict[str, Any]:
    """Return how `LocalCUDACluster` is started: one worker a GPU, a memory pool, spilling.

    `CUDA_VISIBLE_DEVICES` says which GPUs, `ECOM_WORKERS` how many of them. `ECOM_CUDA_POOL` is
    the share of a device that is taken at once for tables (0: none), so that the rest is left to
    XGBoost, which does not take from the pool; `ECOM_CUDA_SPILL` the share at which what tasks
    returned moves to the host's memory (0: never); `ECOM_CUDF_SPILL=0` keeps cuDF's own buffers
    where they are.

    Raises
    ------
    ConfigError
        A share is none.
    """
    pool = _share("ECOM_CUDA_POOL", 0.5)
    count = int(os.environ.get("ECOM_WORKERS", "0"))
    return {
        "threads_per_worker": 1,
        "rmm_pool_size": pool or None,
        "device_memory_limit": _share("ECOM_CUDA_SPILL", 0.8),
        "enable_cudf_spill": os.environ.get("ECOM_CUDF_SPILL", "1") != "0",
        **({"n_workers": count} if count else {}),
    }


def _share(variable: str, usual: float) -> float:
    text = os.environ.get(variable, "")
    try:
        share = float(text) if text else usual
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigError(f"{variable}={text!r} is no share of a GPU's memory", "Use 0 to 1")
    return share


def _cuda_cluster(quiet: dict[str, Any]) -> Any:
    from dask_cuda import LocalCUDACluster

    arguments = cuda_arguments()
    try:
        return LocalCUDACluster(**arguments, **quiet)
    except Exception as error:  # pynvml's own tree, which needs a GPU to import
        raise ConfigError(
            f"ECOM_DASK=cuda finds no GPU: {error}", "Use ECOM_DASK=processes, or install a driver"
        ) from error
