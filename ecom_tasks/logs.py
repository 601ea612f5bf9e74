"""Logs for people in a terminal, JSON lines for machines; and progress bars for people."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

from ecom_tasks.errors import EcomError

log = logging.getLogger(__name__)
T = TypeVar("T")
_LOUD = ("botocore", "boto3", "urllib3", "distributed", "asyncio", "matplotlib", "s3transfer",
         "tensorflow", "absl", "great_expectations", "fsspec", "numba", "h5py")  # fmt: skip


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and an error's class and remedy."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1]:
            error = record.exc_info[1]
            line["error"] = type(error).__name__
            if isinstance(error, EcomError):
                line |= {
                    "reason": error.reason, "hint": error.hint, "examples": error.examples,
                }  # fmt: skip
            else:
                line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def machine_readable() -> bool:
    """True where JSON lines are wanted: `ECOM_LOG=json`, as under Airflow."""
    return os.environ.get("ECOM_LOG", "") == "json"


def set_up(level: int = logging.INFO) -> None:
    """Send all logs to standard error, in the form that its reader wants."""
    if machine_readable():
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
    elif not sys.stderr.isatty():
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    else:
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(
            console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S"
        )
        handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)


def report(error: EcomError) -> None:
    """Log an error that ends the command: its fields for machines, its text for people."""
    if machine_readable():
        log.error("%s", error.reason, exc_info=error)
    else:
        log.error("%s: %s", type(error).__name__, error)


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield the items under a progress bar; without a terminal, a debug line for each."""
    if machine_readable() or not sys.stderr.isatty():
        for number, item in enumerate(items, start=1):
            yield item
            log.debug("%s: %s of %s", what, number, total or "?")
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(
        items, description=what, total=total, console=Console(stderr=True), transient=True
    )
