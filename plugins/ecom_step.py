"""Run one task as a fresh interpreter: pass its log on, and measure it.

Airflow's own task process is no place for a Dask cluster (it may not have children of its own),
and a step that is killed for memory must not take the task with it, so that somebody can tell.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import ecom_tasks
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


def launch(arguments: Sequence[str], settings: Mapping[str, str], held: Sequence[int] = ()) -> Step:
    """Start the command; `wait` of what is returned follows it to its end.

    Parameters
    ----------
    held : open files that it keeps open too.
    """
    process = subprocess.Popen(
        list(arguments),
        env=dict(settings),
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=held,
    )
    return Step(process)
