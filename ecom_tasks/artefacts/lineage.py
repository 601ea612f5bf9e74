"""Where a version comes from: the tree of its inputs, down to the pinned source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ecom_tasks.artefacts.manifest import Manifest
from ecom_tasks.artefacts.release import manifest_of
from ecom_tasks.run import Ref


@dataclass(frozen=True)
class Node:
    """One version in the tree; `repeated` where it was already shown further up."""

    depth: int
    ref: Ref
    manifest: Manifest
    repeated: bool


def lineage(ref: Ref) -> Iterator[Node]:
    """Walk from a version to its inputs, depth first, each expanded once."""
    seen: set[str] = set()

    def walk(ref: Ref, depth: int) -> Iterator[Node]:
        made = manifest_of(ref)
        repeated = ref in seen
        seen.add(ref)
        yield Node(depth, ref, made, repeated)
        if not repeated:
            for name in sorted(made.inputs):
                yield from walk(Ref(made.inputs[name]), depth + 1)

    return walk(ref, 0)
