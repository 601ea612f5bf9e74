"""Turn DuckDB's messages into one line that a shop's engineer can act on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

import duckdb


def explained(error: duckdb.Error, lines_before: int = 0) -> str:
    """Say what DuckDB found, with the line of the SELECT, and without any row's content.

    Parameters
    ----------
    lines_before : lines that stood before the user's SQL.
    """
    # What follows quotes whole lines of a file, customers' names and all.
    text = str(error).split("Original Line")[0]
    text = re.sub(r"^[\w ]+ Error: ", "", text.strip())
    head, *rest = [line.strip() for line in text.splitlines() if line.strip()]
    told = re.sub(r"(string|value) '[^']*'", r"\1", head).rstrip("!")
    told = told.replace("Referenced column", "column").replace(" not found in FROM clause",
                                                               " is not there")  # fmt: skip
    close = [line for line in rest if line.startswith(("Candidate bindings", "Did you mean"))]
    told += "".join(f"; {line.replace('Candidate bindings:', 'there are')}" for line in close)
    told += "".join(
        f"; {line}" for line in rest if line.startswith(("Column with name", "Current file"))
    )
    if place := re.search(r"^LINE (\d+): (.*)$", text, re.MULTILINE):
        told += f" (line {int(place[1]) - lines_before}: {place[2].strip()})"
    return told


def meant(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no known name is close."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
