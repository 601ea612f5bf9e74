"""A publisher as a program of its own, so that it can be killed: publishes numbered versions.

    python -m tests.faults.publisher ROOT NUMBERS LOG [STAGE]

Each try and each outcome is a line of JSON in LOG. At STAGE the program kills itself, like a power
cut: `upload-2` before the third write of a file, `upload-2-done` after it, `create-0-done` after
the manifest, and so on.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

from ecom_tasks.artefacts import dataset, release
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.s3_store import S3Store
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.config import DomainConfig
from ecom_tasks.errors import RetryableError
from ecom_tasks.run import Run

NAME = "artefacts/pricing"
DAY = date(2024, 3, 31)
FILES = 5
_TRIES = 10


class Numbered(DomainConfig):
    domain: ClassVar[str] = "pricing"
    number: int


def build_of(number: int) -> Any:
    """Each file says the number, so that a mixture of two versions shows."""

    def build(draft: Draft) -> None:
        noise = random.Random(number)
        for each in range(FILES):
            size = 20_000 if each == 0 else 200
            draft.write_text(f"part-{each}.txt", f"{number}\n{noise.randbytes(size).hex()}\n")

    build.__module__ = "ecom_tasks.pricing.tasks"
    return build


def publish(run: Run, number: int) -> release.Move:
    """Publish one version; return the move that put it into service."""
    ref = dataset.produce(run, NAME, build_of(number), config=Numbered(number=number))
    made = dataset.manifest(ref)
    # As `dataset.release` does, but we want to see the pointer.
    terms = release.Terms(newer_only=True, reason="released")
    pointer = release.move(open_store(run.root), release.PRODUCTION, made, terms)
    return next(move for move in pointer.history if move.version == made.version)


def die_at(stage: str) -> None:
    """Make the store kill this process at a stage."""
    seen: Counter[str] = Counter()

    def wrapped(kind: str, inner: Any) -> Any:
        def act(self: Any, *arguments: Any) -> Any:
            here = f"{kind}-{seen[kind]}"
            seen[kind] += 1
            if here == stage:
                os.kill(os.getpid(), signal.SIGKILL)
            done = inner(self, *arguments)
            if f"{here}-done" == stage:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return act

    for kind in ("upload", "create", "replace"):
        setattr(S3Store, kind, wrapped(kind, getattr(S3Store, kind)))


def persist(run: Run, number: int) -> dict[str, Any]:
    """Publish as Airflow would, trying again what may pass; return what to tell."""
    last = ""
    for _ in range(_TRIES):
        try:
            move = publish(run, number)
        except RetryableError as error:
            last = str(error)
            time.sleep(1)
        else:
            return {"acknowledged": number, "version": move.version, "sequence": move.sequence}
    return {"failed": number, "error": last}


def main(root: str, numbers: str, log: str, stage: str = "") -> int:
    if stage:
        die_at(stage)
    first, last = map(int, numbers.split("-"))
    run = Run("faults", DAY, root)
    with Path(log).open("a", buffering=1) as lines:
        for number in range(first, last + 1):
            lines.write(json.dumps({"tried": number, "at": time.time()}) + "\n")
            told = persist(run, number)
            lines.write(json.dumps(told | {"at": time.time()}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
