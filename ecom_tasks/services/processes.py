"""Launch background processes, remember them exactly, and end exactly those.

A process is known by its number *and* the moment it started, as the kernel counts it: a number
that was given to somebody else since then no longer matches. Each service leads a session of its
own, so what it forks (Airflow's workers, a step, a Dask cluster) is found through that session.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PORT_TRIES = 200


@dataclass(frozen=True)
class Service:
    """One process that was launched, as written to `services.json`.

    Parameters
    ----------
    started : the kernel's start time with the boot's id; unique with `pid`.
    settings : hash of command and environment, so that a change asks for a restart.
    """

    name: str
    pid: int
    started: str
    command: list[str]
    folder: str
    log: str
    settings: str


def _stat(pid: int) -> list[str]:
    """Fields of `/proc/<pid>/stat` from the state on; empty when no such process is alive."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    fields = text.rpartition(")")[2].split()
    # A zombie whose other threads still run has not let go of its ports and files.
    dead = fields[0] in "ZX" and int(fields[17]) <= 1
    return [] if dead else fields


def started(pid: int) -> str | None:
    """When the process started; None when it does not run (a zombie does not)."""
    fields = _stat(pid)
    if not fields:
        return None
    boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{fields[19]}"


def running(service: Service) -> bool:
    """Whether this very process still runs, not one that inherited its number."""
    return started(service.pid) == service.started


def members(*services: Service) -> list[int]:
    """All living processes of the services, their own included; also after a leader has died."""
    alive = {pid: fields for pid in _pids() if (fields := _stat(pid))}
    return sorted(set().union(*(_members(service, alive) for service in services)))


def _members(service: Service, alive: Mapping[int, list[str]]) -> set[int]:
    leader = started(service.pid)
    if leader not in {None, service.started}:
        return set()  # the number belongs to somebody else now, and so does the session
    session = {pid for pid, fields in alive.items() if int(fields[3]) == service.pid}
    if leader is None:
        return {pid for pid in session if _works_in(pid, service.folder)}
    return session | _descendants(service.pid, alive)


def _descendants(leader: int, alive: Mapping[int, list[str]]) -> set[int]:
    """Those that left its session too: each of PostgreSQL's processes has one of its own."""
    below: dict[int, list[int]] = {}
    for pid, fields in alive.items():
        below.setdefault(int(fields[1]), []).append(pid)
    found, waiting = set(), [leader]
    while waiting:
        children = below.get(waiting.pop(), [])
        found.update(children)
        waiting += children
    return found


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())


def _works_in(pid: int, folder: str) -> bool:
    try:
        return str((_PROC / str(pid) / "cwd").readlink()) == folder
    except OSError:
        return False


def launch(
    name: str,
    command: Sequence[str],
    *,
    settings: Mapping[str, str],
    folder: Path,
    log: Path,
) -> Service:
    """Start a process in its own session; its output goes to `log`, the last one's to `log.1`.

    Parameters
    ----------
    settings : environment on top of `inherited`.
    folder : its working directory; leftovers of a crash are known by it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            env=inherited() | dict(settings),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    _children.append(process)
    return Service(
        name=name,
        pid=process.pid,
        started=started(process.pid) or "ended at once",
        command=list(command),
        folder=str(folder),
        log=str(log),
        settings=fingerprint(command, settings),
    )


_children: list[subprocess.Popen[bytes]] = []
"""Kept so that Python does not complain of children that shall outlive it."""


def fingerprint(command: Sequence[str], settings: Mapping[str, str]) -> str:
    """Tell whether a running process has the settings that a new one would get."""
    import hashlib

    text = json.dumps([list(command), dict(settings)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def inherited() -> dict[str, str]:
    """Our environment without what would change a service behind our back."""
    dropped, wanted = ("AIRFLOW", "AWS_", "ECOM_", "PYTHON", "WEED_"), ("AIRFLOW_CONN_",)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(wanted) or not name.startswith(dropped)
    }
    # The programs beside our interpreter come first, whether or not its venv is activated; and a
    # proxy of the company is not asked for what listens on this machine.
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    direct = [kept.get("no_proxy") or kept.get("NO_PROXY", ""), "127.0.0.1", "localhost"]
    kept["NO_PROXY"] = kept["no_proxy"] = ",".join(filter(None, direct))
    return kept


def end(services: Sequence[Service], grace: float = 10.0) -> list[str]:
    """End the services and all they forked; return the names of those that were still there.

    Each leader is asked first and has `grace` seconds to put its house in order; then whatever
    is left of it is asked, and at last killed.
    """
    # Who left its session is found through its leader only, so all are noted while that lives.
    alive = [_Ending(service, noted) for service in services if (noted := _noted(service))]
    for each in alive:
        # Where the leader has died, nobody else tells those it left behind.
        leader = each.service.pid
        for pid in [leader] if running(each.service) else each.left():
            each.signal(pid, signal.SIGTERM)
    for patience, then in ((grace, signal.SIGTERM), (3.0, signal.SIGKILL), (5.0, None)):
        if wait_until(lambda: not any(each.left() for each in alive), patience):
            break
        for each in alive:
            for pid in each.left():
                each.signal(pid, then)
    return [each.service.name for each in alive]


def _noted(service: Service) -> dict[int, str]:
    """The service's processes and when each started."""
    found = {pid: started(pid) for pid in members(service)}
    return {pid: when for pid, when in found.items() if when}


@dataclass(frozen=True)
class _Ending:
    """A service that is being ended, and its processes when that began."""

    service: Service
    noted: Mapping[int, str]

    def left(self) -> set[int]:
        """Processes of it that still run, those started since included."""
        there = {pid for pid, when in self.noted.items() if started(pid) == when}
        return there | set(members(self.service))

    def signal(self, pid: int, what: signal.Signals | None) -> None:
        """Signal one of them: its handle is opened first, so it cannot be mistaken."""
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                if what and pid in self.left():
                    signal.pidfd_send_signal(handle, what)
            finally:
                os.close(handle)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask every 0.1 s until the condition holds; False after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def memory(pids: Sequence[int]) -> int:
    """Bytes that the processes hold together; shared pages count once (proportional set size)."""
    return sum(map(_share, pids))


def _share(pid: int) -> int:
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    pages = [line for line in text.splitlines() if line.startswith("Pss:")]
    return int(pages[0].split()[1]) * 1024 if pages else 0
