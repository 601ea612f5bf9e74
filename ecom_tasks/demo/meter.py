"""Measure how much memory all our processes hold together while something runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ecom_tasks import services
from ecom_tasks.services.processes import memory

_PERIOD_S = 2.0
"""A look walks through the pages of every process: once a second it took a tenth of a core."""


@dataclass
class Meter:
    """Bytes held now and at most so far: services, the steps they run, and this process."""

    now: int = 0
    peak: int = 0

    def read(self, home: Path) -> None:
        self.now = services.memory_bytes(home) + memory([os.getpid()])
        self.peak = max(self.peak, self.now)


@contextmanager
def measured(home: Path) -> Iterator[Meter]:
    """Measure every two seconds until the body ends; shared pages count once."""
    meter, over = Meter(), threading.Event()

    def measure() -> None:
        while not over.wait(_PERIOD_S):
            meter.read(home)

    thread = threading.Thread(target=measure, daemon=True)
    thread.start()
    try:
        yield meter
    finally:
        over.set()
        thread.join()
