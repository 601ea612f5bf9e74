"""Time a command and watch the memory of it and of all that it starts."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ecom_tasks.services import processes

_REST = 30


@dataclass(frozen=True)
class Measured:
    """Wall time, and the peak of the proportional set size over the command's session."""

    seconds: float
    peak_bytes: int
    output: str


def measure(arguments: list[str], environment: dict[str, str] | None = None) -> Measured:
    """Run `python ARGUMENTS` in a session of its own; raise when it fails."""
    started = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])} | (environment or {}),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    peak = 0
    while child.poll() is None:
        looked = time.monotonic()
        peak = max(peak, processes.memory(_session(child.pid)))
        # A look at many GiB takes the kernel a while, during which the command waits.
        time.sleep(max(0.1, _REST * (time.monotonic() - looked)))
    output = child.stdout.read() if child.stdout else ""
    if child.returncode:
        raise RuntimeError(f"{arguments} ended with {child.returncode}")
    return Measured(time.monotonic() - started, peak, output)


def measure_one(
    arguments: list[str], python: str = sys.executable, environment: dict[str, str] | None = None
) -> Measured:
    """Run `PYTHON ARGUMENTS` undisturbed; its peak is the resident set that the kernel counted.

    For one process of many GiB, which `measure` would slow down by looking at its pages.
    """
    started = time.monotonic()
    child = subprocess.Popen(
        [python, *arguments],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])} | (environment or {}),
        stdout=subprocess.PIPE,
        text=True,
    )
    output = child.stdout.read() if child.stdout else ""
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{arguments} ended with {child.returncode}")
    return Measured(time.monotonic() - started, used.ru_maxrss * 1024, output)


def _session(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(ValueError, OSError):
            pid = int(entry.name)
            if os.getsid(pid) == leader:
                found.append(pid)
    return found


def machine() -> str:
    """One line on the machine, for the results."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{cores} cores, {memory:.0f} GiB, {platform.machine()}, Python {platform.python_version()}"
    )
