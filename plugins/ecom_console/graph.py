"""What a version was made from, as a drawing: sources at the left, the version at the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ecom_console import published
from ecom_console.published import Version
from ecom_tasks.artefacts.store import KeyMissingError

BOX, GAP = (196, 40), (56, 12)


def walk(start: Version) -> list[Version]:
    """Return the version, then all that it was made from and that is still there, each once."""
    found, seen, waiting = [start], {start.ref}, [start]
    while waiting:
        each = waiting.pop()
        for _, ref in sorted(each.made.inputs.items()):
            if ref in seen:
                continue
            seen.add(ref)
            try:
                source = published.by_ref(ref)
            except KeyMissingError:  # retention has removed it
                continue
            found.append(source)
            waiting.append(source)
    return found


def lineage(start: Version) -> dict[str, Any]:
    """Lay the graph out: boxes and lines in pixels, and the whole drawing's size.

    A box stands one column right of the rightmost of what it was made from; in a column, boxes
    follow the mean height of their inputs.
    """
    nodes = walk(start)
    by_ref = {each.ref: each for each in nodes}
    edges = [
        (ref, each.ref) for each in nodes for ref in each.made.inputs.values() if ref in by_ref
    ]
    column: dict[str, int] = {}

    def depth(ref: str) -> int:
        if ref not in column:
            inputs = [depth(other) for other, end in edges if end == ref]
            column[ref] = 1 + max(inputs, default=-1)
        return column[ref]

    columns: dict[int, list[str]] = {}
    for ref in sorted(by_ref, key=lambda ref: by_ref[ref].made.name):
        columns.setdefault(depth(ref), []).append(ref)
    place: dict[str, tuple[int, int]] = {}
    for number in sorted(columns):
        for row, ref in enumerate(_ordered(columns[number], edges, place)):
            place[ref] = (number * (BOX[0] + GAP[0]), row * (BOX[1] + GAP[1]))
    return {
        "boxes": [
            {"x": x, "y": y, "name": by_ref[ref].made.name, "version": by_ref[ref].made.version,
             "rows": by_ref[ref].made.rows, "own": ref == start.ref}
            for ref, (x, y) in place.items()
        ],
        "lines": [
            {"x1": place[a][0] + BOX[0], "y1": place[a][1] + BOX[1] // 2,
             "x2": place[b][0], "y2": place[b][1] + BOX[1] // 2}
            for a, b in edges
        ],
        "width": max(x for x, _ in place.values()) + BOX[0],
        "height": max(y for _, y in place.values()) + BOX[1],
        "box": BOX,
    }  # fmt: skip


def _ordered(
    refs: Sequence[str], edges: Sequence[tuple[str, str]], place: dict[str, tuple[int, int]]
) -> list[str]:
    def height(ref: str) -> float:
        above = [place[a][1] for a, b in edges if b == ref]
        return sum(above) / len(above) if above else 0.0

    return sorted(refs, key=height)
