"""A consumer as a program of its own: pulls and verifies, again and again.

    python -m tests.faults.reader ROOT FOLDER LOG READS

It ends when it has done READS verifying reads and LOG.stop exists.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ecom_tasks.artefacts import pull
from tests.faults.publisher import NAME


def mixture(folder: Path) -> str:
    """Say what is wrong with the version in use; empty where it is whole and one."""
    version = pull.verify(folder)
    numbers = {(folder / file.path).read_text().split("\n", 1)[0] for file in version.files}
    if len(numbers) != 1 or version.version != folder.name:
        return f"{folder} has the parts of {sorted(numbers)} and the manifest of {version.version}"
    return ""


def main(root: str, folder: str, log: str, reads: str) -> int:
    here, counts = Path(folder), {"reads": 0, "changes": 0, "unavailable": 0}
    mixtures: list[str] = []
    refusals: list[str] = []
    while counts["reads"] < int(reads) or not Path(f"{log}.stop").exists():
        try:
            counts["changes"] += pull.pull(root, NAME, here).changed
        except pull.UnavailableError:
            counts["unavailable"] += 1
        except pull.PullError as error:
            # Before the first publish there is nothing to follow; afterwards there always is.
            refusals += [str(error)] if counts["reads"] else []
        current = here / "current"
        if current.exists():
            counts["reads"] += 1
            try:
                wrong = mixture(current.resolve())
            except pull.RefusedError as error:
                wrong = str(error)
            mixtures += [wrong] if wrong else []
        else:
            time.sleep(0.05)
    found: dict[str, Any] = counts | {"mixtures": mixtures[:5], "refusals": refusals[:5]}
    Path(log).write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
