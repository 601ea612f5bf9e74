"""Where work runs: Dask distributes buckets, whatever stands in them computes.

`ECOM_DASK` says where: `threads` (in this process), `processes` (a local cluster, the default),
`cuda` (one worker a GPU) or the address of a running scheduler (`tcp://...`, `tls://...`).
"""

from ecom_tasks.compute.buckets import map_buckets
from ecom_tasks.compute.clusters import connect, workers

__all__ = ["connect", "map_buckets", "workers"]
