"""Turn DuckDB's messages into one line that a shop's engineer can act on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import PurePath

import duckdb
import pyarrow as pa

from ecom_tasks.errors import ConfigError, DataContractError, EcomError, RetryableError

FAULTS = (duckdb.Error, pa.ArrowException, OSError)
"""What a query can raise; while its rows are streamed, Arrow hands on DuckDB's faults as its own.
"""


_SIMPLER = {"Referenced column": "column", " not found in FROM clause": " is not there"}
_TELLING = ("Candidate bindings", "Did you mean", "Column with name")


def translated(error: Exception, where: str, hint: str, lines_before: int = 0) -> EcomError:
    """Return one of our errors for a fault of a query, by what can be done about it."""
    text = str(error)
    if "Out of Memory" in text:
        return ConfigError(
            f"{where}: the query needs more memory than it may use",
            "Raise ingestion.memory_mb, or lower ingestion.threads",
        )
    if "No space left" in text:
        return RetryableError(f"{where}: the disk for temporary files is full", "Free some space")
    return DataContractError(f"{where}: {explained(error, lines_before)}", hint)


def explained(error: Exception, lines_before: int = 0) -> str:
    """Say what DuckDB found, with the line of the SELECT, and without any row's content.

    Parameters
    ----------
    lines_before : lines that stood before the user's SQL.
    """
    # What follows quotes whole lines of a file, customers' names and all.
    text = str(error).split("Original Line")[0]
    text = re.sub(r"^[\w ]+ Error: ", "", text.strip())
    head, *rest = [line.strip() for line in text.splitlines() if line.strip()]
    told = re.sub(r"(string|value) '[^']*'", r"\1", head).rstrip("!.")
    for theirs, ours in _SIMPLER.items():
        told = told.replace(theirs, ours)
    for line in rest:
        if line.startswith("Current file: "):
            told += f"; see {PurePath(line).name}"
        elif line.startswith(_TELLING):
            told += f"; {line.replace('Candidate bindings:', 'there are')}"
    if place := re.search(r"^LINE (\d+): (.*)$", text, re.MULTILINE):
        told += f" (line {int(place[1]) - lines_before}: {place[2].strip()})"
    return told


def meant(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no known name is close."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
