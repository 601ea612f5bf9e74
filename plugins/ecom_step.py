"""Run one task as a fresh interpreter: pass its log on, measure it, explain how it ended.

Airflow's own task process is no place for a Dask cluster (it may not have children of its own),
and a step that is killed for memory must not take the task with it, so that somebody can tell.
"""

from __future__ import annotations

import json
import logging
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import ecom_tasks
from ecom_tasks import errors
from ecom_tasks.errors import EcomError, RetryableError
from ecom_tasks.run import Ref, Run

log = logging.getLogger(__name__)
PROJECT = Path(ecom_tasks.__file__).resolve().parent.parent
_KEPT_LINES = 10
_GRACE_S = 5.0


def command(domain: str, task: str, run: Run, inputs: Sequence[Ref]) -> list[str]:
    """Spell the step as a command that can be repeated by hand."""
    return [sys.executable, "-m", "ecom_tasks", "step", domain, task, *inputs,
            "--run", run.to_json()]  # fmt: skip


def environment(connections: Mapping[str, str]) -> dict[str, str]:
    """Environment of a step: ours without Airflow's secrets, but with the connections it needs.

    Parameters
    ----------
    connections : connection name -> URI.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    kept |= {f"AIRFLOW_CONN_{name.upper()}": uri for name, uri in connections.items()}
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {"ECOM_LOG": "json", "PYTHONPATH": os.pathsep.join(paths)}


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Attributes
    ----------
    exit_code : negative for the signal that killed it.
    output : lines of its standard output; the last is the reference of what was made.
    error : the JSON line with which it named its error, if it did.
    last_lines : the end of its log, for errors that were not named.
    peak_bytes : peak resident memory of its largest process.
    """

    exit_code: int
    output: list[str]
    error: dict[str, Any] | None
    last_lines: list[str]
    peak_bytes: int
    seconds: float


@dataclass
class Step:
    """A step at work."""

    process: subprocess.Popen[bytes]
    began: float = field(default_factory=time.monotonic)
    error: dict[str, Any] | None = None
    output: list[str] = field(default_factory=list)
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))

    def wait(self) -> Outcome:
        """Pass its log lines on as they come, until it has ended."""
        with selectors.DefaultSelector() as selector:
            readers = [_Lines(self.output.append), _Lines(self._log)]
            for pipe, lines in zip(
                (self.process.stdout, self.process.stderr), readers, strict=True
            ):
                selector.register(cast(IO[bytes], pipe), selectors.EVENT_READ, lines)
            pid, status, peak_kib = 0, 0, 0
            while not pid:
                _read(selector)
                pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
                peak_kib = usage.ru_maxrss
            # Now only what still lies in the pipes: a child of it that it left behind may hold
            # them open for ever.
            while selector.get_map() and _read(selector):
                pass
        for lines in readers:
            lines.finish()
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return Outcome(
            exit_code=self.process.returncode,
            output=self.output,
            error=self.error,
            last_lines=list(self.last_lines),
            peak_bytes=peak_kib * 1024,
            seconds=time.monotonic() - self.began,
        )

    def end(self) -> None:
        """Ask it to end, and kill it after some seconds if it did not."""
        self._send(signal.SIGTERM)
        timer = threading.Timer(_GRACE_S, self._send, [signal.SIGKILL])
        timer.daemon = True
        timer.start()

    def _send(self, what: signal.Signals) -> None:
        # Only `wait` collects it, so until then its number is nobody else's.
        if self.process.returncode is None:
            os.kill(self.process.pid, what)

    def _log(self, line: str) -> None:
        """Pass on one line of its log with its own level and logger."""
        fields = _parse(line)
        if fields is None:
            self.last_lines.append(line)
            log.info("%s", line)
            return
        message = str(fields.get("message", ""))
        self.last_lines.append(message)
        level = logging.getLevelNamesMapping().get(str(fields.get("level")), logging.INFO)
        if level >= logging.ERROR and "error" in fields:
            self.error = fields
        if traceback := fields.get("traceback"):
            message += f"\n{traceback}"
        logging.getLogger(str(fields.get("logger") or __name__)).log(level, "%s", message)


def _parse(line: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and "message" in fields else None


class _Lines:
    """Cuts a pipe into lines."""

    def __init__(self, take: Any) -> None:
        self._take = take
        self._rest = b""

    def read(self, pipe: IO[bytes]) -> bool:
        """Hand on the lines that have come in; False at the end of the pipe."""
        data = os.read(pipe.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if text := line.decode(errors="replace").strip():
                self._take(text)
        return bool(data)

    def finish(self) -> None:
        if text := self._rest.decode(errors="replace").strip():
            self._take(text)


def _read(selector: selectors.BaseSelector) -> bool:
    """Read what has come in, for at most 0.1 s; whether anything had."""
    ready = selector.select(timeout=0.1)
    for key, _ in ready:
        if not key.data.read(key.fileobj):
            selector.unregister(key.fileobj)
    return bool(ready)


def launch(arguments: Sequence[str], settings: Mapping[str, str]) -> Step:
    """Start the command; `wait` of what is returned follows it to its end."""
    process = subprocess.Popen(
        list(arguments),
        env=dict(settings),
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return Step(process)


def result(outcome: Outcome, inputs: Sequence[Ref]) -> Ref:
    """Return what the step made, or raise the error that it ended with.

    Raises
    ------
    RetryableError, DataContractError, ConfigError, ModelRejectedError
        The step's own error, as it named it; or `RetryableError` where it was killed.
    EcomError
        The program is at fault: no retry helps.
    """
    if outcome.exit_code == 0 and outcome.output:
        return Ref(outcome.output[-1])
    if outcome.exit_code < 0:
        raise _killed(outcome, inputs)
    if outcome.error:
        raise _named(outcome)
    said = " | ".join(outcome.last_lines[-3:]) or "it wrote no log"
    if outcome.exit_code == 0:
        said = f"it named nothing that it made; {said}"
    raise EcomError(
        f"The step ended with exit code {outcome.exit_code} without naming an error: {said}",
        "A fault of the program: report it with the log above",
    )


def _named(outcome: Outcome) -> EcomError:
    fields = outcome.error or {}
    kind = getattr(errors, str(fields.get("error")), None)
    if isinstance(kind, type) and issubclass(kind, EcomError):
        reason = str(fields.get("reason") or fields.get("message"))
        return kind(reason, str(fields.get("hint", "")), fields.get("examples") or [])
    trace = str(fields.get("traceback") or "").strip().splitlines()
    reason = trace[-1].strip() if trace else f"{fields.get('error')}: {fields.get('message')}"
    if outcome.exit_code == RetryableError.exit_code:
        return RetryableError(reason, "Try again; see the log above")
    return EcomError(reason, "A fault of the program: report it with the log above")


def _killed(outcome: Outcome, inputs: Sequence[Ref]) -> EcomError:
    number = -outcome.exit_code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    facts = (
        f"The step was killed by {name} (exit code {outcome.exit_code}) after "
        f"{outcome.seconds:.0f} s; its largest process had held {amount(outcome.peak_bytes)} of "
        f"the {amount(memory_limit())} here"
    )
    if number == signal.SIGKILL:
        return RetryableError(
            f"{facts}; its inputs are {_size(inputs)}",
            "Most often memory was short. Give it more: fewer slots in the pool `compute`, smaller "
            "buckets (ECOM_INGESTION__BUCKETS), workers elsewhere (ECOM_DASK=tcp://...), or a "
            "larger machine",
        )
    if number in {signal.SIGTERM, signal.SIGINT}:
        return RetryableError(facts, "Somebody ended it: run it again when the machine is back")
    return EcomError(facts, "A native library crashed: report it with the log above")


def memory_limit() -> int:
    """Bytes that processes here may hold: the container's limit, else the machine's memory."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError):
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if re.fullmatch(r"\d+", text):
            return min(total, int(text))
    return total


def _size(inputs: Sequence[Ref]) -> str:
    """Tell from their manifests how large the inputs are."""
    if not inputs:
        return "none"
    try:
        from ecom_tasks.artefacts.manifest import Manifest
        from ecom_tasks.artefacts.store import open_store

        count = total = 0
        for ref in inputs:
            folder, _, name = ref.rpartition("/")
            made = Manifest.from_bytes(open_store(folder).read(name).data, ref)
            count += len(made.files)
            total += sum(entry.bytes for entry in made.files)
    except Exception as error:  # noqa: BLE001  an explanation must not fail for want of a detail
        return f"unknown ({type(error).__name__})"
    return f"{amount(total)} in {count} files"


def amount(size: int) -> str:
    """Spell a number of bytes for people."""
    if size >= 2**30:
        return f"{size / 2**30:.2f} GiB"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"
