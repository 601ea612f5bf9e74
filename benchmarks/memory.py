"""Peak memory of every step from files to feature tables, under a limit, at any number of rows.

    python -m benchmarks.memory [MILLIONS_OF_LINES] [GIB_A_PROCESS]      # default 5 3

Order lines are written file by file, then ingested and made into feature tables as Airflow does it:
each task is a process of its own, and starts Dask workers where it needs them. What counts is the
resident memory of each process at its highest, as the kernel keeps it (`ru_maxrss`, `VmHWM`): one
that passes the limit is ended, with its step. The limits of `setrlimit` count what is reserved and
never touched: `RLIMIT_DATA` took 1,390 MiB for a process of 212 MiB resident (arenas of three
allocators), `RLIMIT_AS` counts mapped files and libraries besides; a cgroup needs rights that a
test does not have.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import orders
from ecom_tasks.run import Flow, Ref, Run

ROWS_A_BUCKET = 500_000


@dataclass(frozen=True)
class Step:
    """What one task took.

    Attributes
    ----------
    peak_bytes : resident memory of its largest process
    """

    name: str
    seconds: float
    peak_bytes: int


def chain(folder: Path, rows: int, limit_bytes: int, buckets: int) -> list[Step]:
    """Generate the rows where they are not there yet, and run all steps over them.

    What was finished by an earlier call is found.

    Parameters
    ----------
    limit_bytes : of resident memory, for each process
    buckets : of each table

    Raises
    ------
    RuntimeError
        A step failed, for want of memory or otherwise; with the end of its log.
    """
    from ecom_tasks.features import tasks as features
    from ecom_tasks.ingestion import tasks as ingestion

    source = folder / "shop" / "generated.toml"
    if not source.exists():  # written last
        orders.write_source(source.parent, rows)
    run = Run(
        "memory", orders.AS_OF, (folder / "store").as_uri(), str(source), str(source.parent),
        {
            "ingestion": {"buckets": buckets},
            "features": {"snapshots": 1},
        },
    )  # fmt: skip
    done: list[Step] = []
    _walk("ingestion", ingestion.flow, run, limit_bytes, done)
    _walk("features", features.flow, replace(run, source="", source_data=""), limit_bytes, done)
    return done


def _walk(domain: str, flow: Flow, run: Run, limit_bytes: int, done: list[Step]) -> Ref:
    def step(task: Callable[..., Ref], *inputs: Ref) -> Ref:
        ref, taken = _step(domain, task.__name__, [*inputs], run, limit_bytes)
        done.append(taken)
        print(
            f"{taken.name}: {taken.seconds:.1f} s, {taken.peak_bytes / 2**20:.0f} MiB", flush=True
        )
        return ref

    return flow(step)  # type: ignore[arg-type]


def _step(
    domain: str, task: str, inputs: list[Ref], run: Run, limit_bytes: int
) -> tuple[Ref, Step]:
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1]), "ECOM_DASK": "processes",
        "ECOM_PSEUDONYM_KEY": "00" * 32,
    }  # fmt: skip
    command = ["-m", "ecom_tasks", "step", domain, task, *inputs, "--run", run.to_json()]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=said, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        peak = _watched(child, limit_bytes)
        said.seek(0)
        log.seek(0)
        answer, told = said.read(), log.read()
    name = f"{domain} {task}"
    if peak > limit_bytes:
        raise RuntimeError(f"{name} took {peak / 2**20:.0f} MiB, {limit_bytes / 2**20:.0f} allowed")
    if child.returncode:
        raise RuntimeError(f"{name} ended with {child.returncode}:\n{told[-3000:]}")
    return Ref(answer.split()[-1]), Step(name, time.monotonic() - started, peak)


def _watched(child: subprocess.Popen[bytes], limit_bytes: int) -> int:
    """Wait for a process; end its session when one of it passes the limit. Return the peak."""
    peak, used = 0, None
    while used is None:
        peak = max(peak, *_peaks(child.pid), 0)
        if peak > limit_bytes:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode, used = os.waitstatus_to_exitcode(status), usage
        else:
            time.sleep(0.1)
    # Of the process and of all that it waited for: also what came and went between two looks. It
    # counts from the fork on, when the memory is still that of this process.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(peak, used.ru_maxrss * 1024 if used.ru_maxrss > own else 0)


def _peaks(session: int) -> list[int]:
    """Return the resident memory of each process of a session at its highest."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(ValueError, OSError, TypeError):  # gone meanwhile, or a zombie
            if os.getsid(int(entry.name)) == session:
                mark = re.search(r"VmHWM:\s+(\d+) kB", (entry / "status").read_text())
                found.append(int(mark[1]) * 1024)  # type: ignore[index]
    return found


def main() -> None:
    """Print a line a step."""
    from benchmarks.measure import machine

    millions = float(sys.argv[1]) if len(sys.argv) > 1 else 5
    limit = float(sys.argv[2]) if len(sys.argv) > 2 else 3
    print(f"{machine()}; {millions:g} million order lines, {limit:g} GiB a process at most")
    kept = sys.argv[3] if len(sys.argv) > 3 else ""
    with tempfile.TemporaryDirectory(prefix="ecom-memory-") as scratch:
        folder = Path(kept or scratch)
        rows = int(millions * 1e6)
        steps = chain(folder, rows, int(limit * 2**30), max(rows // ROWS_A_BUCKET, 2))
    most = max(steps, key=lambda step: step.peak_bytes)
    print(f"most: {most.name}, {most.peak_bytes / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
