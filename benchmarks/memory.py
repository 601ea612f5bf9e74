"""Peak memory of every step, under a limit, at any number of rows.

    python -m benchmarks.memory [MILLIONS_OF_LINES] [GIB_A_PROCESS]      # default 5 3
        [--models recommendation pricing inventory] [--folder FOLDER]

From files to feature tables; with `--models` also those flows, in the demonstration's settings.

Order lines are written file by file, then ingested and made into feature tables as Airflow does it:
each task is a process of its own, and starts Dask workers where it needs them. What counts is the
resident memory of each process at its highest, as the kernel keeps it (`ru_maxrss`, `VmHWM`): one
that passes the limit is ended, with its step. The limits of `setrlimit` count what is reserved and
never touched: `RLIMIT_DATA` took 1,390 MiB for a process of 212 MiB resident (arenas of three
allocators), `RLIMIT_AS` counts mapped files and libraries besides; a cgroup needs rights that a
test does not have.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import orders
from ecom_tasks.run import Flow, Ref, Run

ROWS_A_BUCKET = 500_000
MODELS = ("recommendation", "pricing", "inventory")


@dataclass(frozen=True)
class Step:
    """What one task took.

    Attributes
    ----------
    cpu_seconds : of processors, of all its processes
    peak_bytes : resident memory of its largest process
    """

    name: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def chain(
    folder: Path, rows: int, limit_bytes: int, buckets: int, models: Sequence[str] = ()
) -> list[Step]:
    """Generate the rows where they are not there yet, and run all steps over them.

    What was finished by an earlier call is found.

    Parameters
    ----------
    limit_bytes : of resident memory, for each process
    buckets : of each table
    models : domains whose flows follow

    Raises
    ------
    RuntimeError
        A step failed, for want of memory or otherwise; with the end of its log.
    """
    from ecom_tasks.demo.quick import QUICK
    from ecom_tasks.domains import flow_of
    from ecom_tasks.features import tasks as features
    from ecom_tasks.ingestion import tasks as ingestion

    source = folder / "shop" / "generated.toml"
    if not source.exists():  # written last
        orders.write_source(source.parent, rows)
    run = Run(
        "memory", orders.AS_OF, (folder / "store").as_uri(), str(source), str(source.parent),
        {
            "ingestion": {"buckets": buckets},
            "features": QUICK["features"] if models else {"snapshots": 1},
        } | {name: QUICK.get(name, {}) for name in models},
    )  # fmt: skip
    done: list[Step] = []
    _walk("ingestion", ingestion.flow, run, limit_bytes, done)
    run = replace(run, source="", source_data="")
    _walk("features", features.flow, run, limit_bytes, done)
    for name in models:
        _walk(name, flow_of(name), run, limit_bytes, done)
    return done


def _walk(domain: str, flow: Flow, run: Run, limit_bytes: int, done: list[Step]) -> Ref:
    def step(task: Callable[..., Ref], *inputs: Ref) -> Ref:
        ref, taken = _step(domain, task.__name__, [*inputs], run, limit_bytes)
        done.append(taken)
        print(
            f"{taken.name}: {taken.seconds:.1f} s, {taken.cpu_seconds:.1f} of processors, "
            f"{taken.peak_bytes / 2**20:.0f} MiB",
            flush=True,
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
        peak, cpu_seconds = _watched(child, limit_bytes)
        said.seek(0)
        log.seek(0)
        answer, told = said.read(), log.read()
    name = f"{domain} {task}"
    if peak > limit_bytes:
        raise RuntimeError(f"{name} took {peak / 2**20:.0f} MiB, {limit_bytes / 2**20:.0f} allowed")
    # Generated sales do not answer to prices, so that the gate refuses what was made of them.
    refused = domain == "pricing" and "ModelRejectedError" in told
    if child.returncode and not refused:
        raise RuntimeError(f"{name} ended with {child.returncode}:\n{told[-3000:]}")
    taken = Step(name, time.monotonic() - started, cpu_seconds, peak)
    return Ref("".join(answer.split()[-1:])), taken


def _watched(child: subprocess.Popen[bytes], limit_bytes: int) -> tuple[int, float]:
    """Wait for a process; end its session when one of it passes the limit.

    Returns
    -------
    the peak in bytes, seconds of processors
    """
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
    highest = max(peak, used.ru_maxrss * 1024 if used.ru_maxrss > own else 0)
    return highest, used.ru_utime + used.ru_stime


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

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("millions", type=float, nargs="?", default=5, help="of order lines")
    parser.add_argument("limit", type=float, nargs="?", default=3, help="GiB a process")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[])
    parser.add_argument("--folder", type=Path, help="keeps what is finished")
    asked = parser.parse_args()
    print(
        f"{machine()}; {asked.millions:g} million order lines, {asked.limit:g} GiB a process at "
        "most"
    )
    with tempfile.TemporaryDirectory(prefix="ecom-memory-") as scratch:
        rows = int(asked.millions * 1e6)
        limit, buckets = int(asked.limit * 2**30), max(rows // ROWS_A_BUCKET, 2)
        steps = chain(asked.folder or Path(scratch), rows, limit, buckets, asked.models)
    most = max(steps, key=lambda step: step.peak_bytes)
    print(f"most: {most.name}, {most.peak_bytes / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
