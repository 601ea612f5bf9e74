"""Time a command and watch the memory of it and of all that it starts."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecom_tasks.artefacts.version import code_of
from ecom_tasks.domains import DOMAINS
from ecom_tasks.services import processes

_REST = 30
_CODE = "code"


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


@contextmanager
def folder_for(kept: Path | None, size: str) -> Iterator[Path]:
    """Yield a folder for one size; below `kept` it stays where the block is cut off.

    Figures of other code than that of now are thrown away, with what they were measured on.
    """
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="ecom-bench-") as scratch:
            yield Path(scratch)
        return
    folder, code = kept / size, _code_now()
    if folder.exists() and (not (folder / _CODE).exists() or (folder / _CODE).read_text() != code):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CODE).write_text(code)
    yield folder
    shutil.rmtree(folder)


def once(folder: Path, name: str, figures: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of that name: those kept in the folder, else measured and kept there."""
    file = folder / "figures.json"
    known: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    if name not in known:
        known[name] = figures()
        file.write_text(json.dumps(known, indent=1) + "\n")
    return known[name]


def _code_now() -> str:
    return "\n".join(code_of(domain).fingerprint for domain in DOMAINS)


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
