"""Look for raw customer identifiers in all that was published.

    python -m tests.identifiers ROOT FILE

ROOT is a store (s3://bucket, file:///folder), FILE holds identifiers, one a line. They must be
distinctive, else every file has them: where a shop counts its customers from 1, give the source a
SELECT that says `'customer-' || id`. Prints each file with what stands in it; exit code 1 if any.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

from ecom_tasks.artefacts import mentions
from ecom_tasks.artefacts.store import open_store

SHORTEST = 8


def leaks(root: str, identifiers: Collection[str]) -> dict[str, set[str]]:
    """Return key -> identifiers, for each object of the store in which a customer is named."""
    if short := [each for each in identifiers if len(each) < SHORTEST]:
        raise ValueError(f"{short[0]!r} and {len(short) - 1} more could stand there by accident")
    return mentions.stored(open_store(root), "", identifiers)


def main(root: str, file: str) -> int:
    found = leaks(root, Path(file).read_text(encoding="utf-8").split())
    for key, named in sorted(found.items()):
        sys.stdout.write(f"{key}: {len(named)} customers, {min(named)} for one\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
