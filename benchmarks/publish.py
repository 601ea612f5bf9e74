"""Publishing beside a plain parallel upload of the same bytes, against the embedded store.

    python -m benchmarks.publish            # some minutes

What publishing adds: hashing, a check of each stored size, the manifest, the pointer.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from benchmarks.measure import machine
from ecom_tasks import services
from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.s3_store import client
from ecom_tasks.run import Run

ROUNDS = 3
SHAPES = {"5 files, 1 MiB in all": (5, 1 << 20), "200 files, 1 GiB in all": (200, 1 << 30)}


def publish(folder: Path, round_: int, shape: str) -> float:
    """Publish the files of `folder` as a version; return the seconds it took."""

    def build(draft: Draft) -> None:
        for path in folder.iterdir():
            os.link(path, draft.folder / path.name)

    build.__module__ = "ecom_tasks.pricing.tasks"
    run = Run(f"{shape}-{round_}", date(2024, 1, 1 + round_), services.ROOT)
    started = time.monotonic()
    dataset.produce(run, f"bench/{shape.split()[0]}", build)
    return time.monotonic() - started


def upload(folder: Path, round_: int, shape: str) -> float:
    """Upload the same files with boto3 and as many threads; return the seconds it took."""
    s3 = client(os.environ["ECOM_S3_ENDPOINT"])

    def put(path: Path) -> None:
        with path.open("rb") as file:
            s3.put_object(Bucket="ecom", Key=f"plain/{shape}/{round_}/{path.name}", Body=file)

    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, folder.iterdir()))
    return time.monotonic() - started


def compare(scratch: Path, shape: str, count: int, total: int) -> str:
    """Measure both ways with one shape of files; return the line to print."""
    folder = scratch / shape.split()[0]
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03}").write_bytes(os.urandom(total // count))
    # Alternating, so that whatever else the machine does hits both.
    times = [(publish(folder, i, shape), upload(folder, i, shape)) for i in range(ROUNDS)]
    ours, plain = (statistics.median(column) for column in zip(*times, strict=True))
    return (
        f"{shape}: publish {ours:.2f} s, plain upload {plain:.2f} s, "
        f"ratio {ours / plain:.2f}, difference {ours - plain:.2f} s"
    )


def main() -> None:
    """Print one line a shape: seconds of both, their ratio and their difference."""
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        services.start(home, say=lambda _: None, airflow=False)
        try:
            os.environ.update(services.environment(home))
            for shape, (count, total) in SHAPES.items():
                print(compare(Path(scratch), shape, count, total))
        finally:
            services.stop(home)


if __name__ == "__main__":
    main()
