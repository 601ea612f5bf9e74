"""No step's memory grows with the rows, only with the bucket: every step, under a limit.

`make memory-test` does it with 50 million order lines and 3 GiB a process. In MEMORY_TEST_FOLDER
what is finished stays, and is found when the test is started again. MEMORY_TEST_MODELS names flows
that follow, for example `pricing inventory`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import memory

ROWS = int(os.environ.get("MEMORY_TEST_ROWS", "500000"))
LIMIT = int(float(os.environ.get("MEMORY_TEST_GIB", "0.8")) * 2**30)
BUCKETS = max(ROWS // 500_000, 16)
MODELS = os.environ.get("MEMORY_TEST_MODELS", "").split()
TASKS = 12 + 8 + sum({"recommendation": 11, "pricing": 12, "inventory": 7}[name] for name in MODELS)
"""Of ingestion, of features, and of the models asked for."""


def test_every_step_keeps_to_its_memory(tmp_path: Path) -> None:
    kept = os.environ.get("MEMORY_TEST_FOLDER", "")
    steps = memory.chain(Path(kept) if kept else tmp_path, ROWS, LIMIT, BUCKETS, MODELS)
    assert len(steps) == TASKS
    loaded = next(step for step in steps if step.name.endswith("load_order_lines"))
    # It was looked at while it ran; or else it was found finished.
    assert loaded.peak_bytes > 100 * 2**20 or (kept and loaded.seconds < 10)


def test_what_passes_the_limit_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ingestion pin_source took \d+ MiB, 32 allowed"):
        memory.chain(tmp_path, 1000, 32 * 2**20, 2)
