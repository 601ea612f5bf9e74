"""What can go wrong with a cluster, in the project's own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ecom_tasks.errors import RetryableError

MEMORY = (
    "Most likely memory: raise the number of buckets (ingestion.buckets), or give fewer workers "
    "more memory (ECOM_WORKERS)"
)
AGAIN = "What was finished is kept under its name: look at scheduler and workers, and run it again"


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn what Dask raises in the block into a `RetryableError`.

    Parameters
    ----------
    where : of the cluster, for the message.
    """
    from concurrent.futures import CancelledError

    from distributed import KilledWorker
    from distributed.client import ClosedClientError
    from distributed.comm.core import CommClosedError
    from distributed.exceptions import WorkerStartTimeoutError
    from distributed.scheduler import NoValidWorkerError, NoWorkerError

    try:
        yield
    except KilledWorker as error:
        raise RetryableError(f"Workers died over the same work again and again: {error}", MEMORY) \
            from error  # fmt: skip
    except (NoWorkerError, NoValidWorkerError, WorkerStartTimeoutError) as error:
        raise RetryableError(f"The cluster {where} has no worker: {error}", AGAIN) from error
    except (CommClosedError, ClosedClientError, CancelledError, TimeoutError) as error:
        # A scheduler that dies takes all results along, which Dask calls cancelled.
        told = str(error) or type(error).__name__
        raise RetryableError(f"The Dask scheduler ({where}) was lost: {told}", AGAIN) from error
