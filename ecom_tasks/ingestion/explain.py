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


_SIMPLER = {
    "Schema mismatch between globbed files": "the files differ in their columns",
    "Column with name: ": "column ",
}
_TELLING = ("Did you mean", "Column with name")
_NO_COLUMN = re.compile(
    r'Referenced column "([^"]+)" not found|'
    r'Column "([^"]+)" referenced that exists in the SELECT clause'
)


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
    for line in rest:
        if line.startswith("Current file: "):
            told += f"; see {PurePath(line).name}"
        elif line.startswith(_TELLING):
            told += f"; {line}"
    for theirs, ours in _SIMPLER.items():
        told = told.replace(theirs, ours)
    if place := re.search(r"^LINE (\d+): (.*)$", text, re.MULTILINE):
        told += f" (line {int(place[1]) - lines_before}: {place[2].strip()})"
    return told


def missing_column(error: Exception, sql: str, columns: Iterable[str]) -> str:
    """Say which column of the inputs a SELECT asks for in vain; empty where that is not the fault.

    Parameters
    ----------
    sql : the SELECT; the first line that names the column is quoted.
    columns : all columns of its inputs.
    """
    found = _NO_COLUMN.search(str(error))
    if not found:
        return ""
    name = found[1] or found[2]
    told = f"column {name!r} is not in the data{meant(name, columns)}"
    for number, line in enumerate(sql.splitlines(), 1):
        if re.search(rf"\b{re.escape(name)}\b", line.split("--")[0]):
            return f"{told} (line {number}: {line.strip()})"
    return told


def meant(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no known name is close."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
