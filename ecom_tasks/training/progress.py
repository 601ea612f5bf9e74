"""How far a training has come, kept after each pass: an interrupted one can be gone on with.

One file a training, named after what it learns from and how. Whoever begins the same one again
goes on where the file stands, with the same result as without the interruption.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ecom_tasks.errors import ConfigError

log = logging.getLogger(__name__)
Arrays = list[NDArray[Any]]


@dataclass
class Progress:
    """Where a training stands.

    Attributes
    ----------
    epoch : passes made
    best, since : best figure on held-out customers, and passes since it was reached
    done : whether it has come to its end
    random : state of the generator that draws the batches
    state : all that the next pass depends on: weights, moments of the optimizer, random states
    kept : weights of the best pass
    """

    epoch: int = 0
    best: float = -1.0
    since: int = 0
    done: bool = False
    random: dict[str, Any] = field(default_factory=dict)
    state: Arrays = field(default_factory=list)
    kept: Arrays = field(default_factory=list)

    def better(self, value: float, patience: int) -> bool:
        """Note the figure of a pass; return whether it is the best one so far."""
        gained = value > self.best
        self.best = value if gained else self.best
        self.since = 0 if gained else self.since + 1
        self.done = self.since >= patience
        return gained


def file_of(folder: Path, dials: object, arrays: Iterable[NDArray[Any]]) -> Path:
    """Return the file of the training with these dials on these arrays.

    Parameters
    ----------
    dials : a dataclass
    """
    digest = hashlib.sha256(repr(dials).encode())
    for array in arrays:
        digest.update(len(array).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return folder / f"sequence-{digest.hexdigest()[:16]}.npz"


def load(file: Path) -> Progress | None:
    """Return how far the training has come, None if it has not begun.

    Raises
    ------
    ConfigError
        The file cannot be read.
    """
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as held:
            facts: dict[str, Any] = json.loads(str(held["facts"]))
            for name in ("state", "kept"):
                facts[name] = [held[f"{name}_{at}"] for at in range(facts[name])]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ConfigError(
            f"{file} holds no progress of a training, or is damaged: {error}",
            "Remove it to begin anew",
        ) from error
    log.info("%s: going on after %s epochs", file, facts["epoch"])
    return Progress(**facts)


def save(file: Path, progress: Progress) -> None:
    """Write the progress in place of the former one; a cut-off process leaves the former."""
    arrays = {
        f"{name}_{at}": array
        for name in ("state", "kept")
        for at, array in enumerate(getattr(progress, name))
    }
    facts = {
        "epoch": progress.epoch, "best": progress.best, "since": progress.since,
        "done": progress.done, "random": progress.random,
        "state": len(progress.state), "kept": len(progress.kept),
    }  # fmt: skip
    part = file.with_suffix(".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            np.savez(out, facts=np.array(json.dumps(facts)), **arrays)
        part.replace(file)
    except OSError as error:
        raise ConfigError(
            f"The progress of a training cannot be kept in {file.parent}: {error}",
            "Name a folder that can be written to",
        ) from error
