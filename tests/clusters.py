"""A Dask scheduler and workers as separate processes on loopback, which a test may kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_LOOPBACK = ("--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0")
_PATIENCE_SECONDS = 60


@dataclass
class Cluster:
    """Processes of a cluster; `kill` ends one without a chance to say goodbye."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def cluster(
    folder: Path, workers: int = 2, protocol: str = "tcp", options: Sequence[str] = ()
) -> Iterator[Cluster]:
    """Start a scheduler and workers without nannies, and end all of them.

    Parameters
    ----------
    folder : for logs and scratch files
    options : of both commands, for example `--tls-ca-file FILE`
    """
    listening = folder / "listening"
    scheduler = _start(
        "scheduler",
        [*_LOOPBACK, "--port", "0", "--protocol", protocol, "--scheduler-file", str(listening),
         *options],
        folder,
    )  # fmt: skip
    made: list[subprocess.Popen[bytes]] = []
    try:
        address = _address(listening, scheduler)
        made += [
            _start(
                "worker",
                [address, *_LOOPBACK, "--no-nanny", "--nthreads", "1", "--name", str(number),
                 "--local-directory", str(folder), *options],
                folder,
            )
            for number in range(workers)
        ]  # fmt: skip
        yield Cluster(address, scheduler, made)
    finally:
        for process in [*made, scheduler]:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, by process id."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.wait()


def _start(role: str, arguments: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with (folder / f"{role}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{role}", *arguments],
            stdout=log, stderr=log, cwd=folder, env=environment,
        )  # fmt: skip


def _address(listening: Path, scheduler: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError, json.JSONDecodeError):
            return str(json.loads(listening.read_text())["address"])
        assert scheduler.poll() is None, "the scheduler ended"
        time.sleep(0.1)
    raise AssertionError("the scheduler did not start")
