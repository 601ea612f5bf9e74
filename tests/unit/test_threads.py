"""How the threads of libraries wait for each other."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("given", "turns"), [(None, "0"), ("ACTIVE", "30000000000")])
def test_threads_sleep_while_they_wait_unless_told_otherwise(given: str | None, turns: str) -> None:
    known = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given:
        known["OMP_WAIT_POLICY"] = given
    # OpenMP tells what it has read as soon as a library loads it.
    code = "import ecom_tasks.training.boosted_trees"
    done = subprocess.run(
        [sys.executable, "-c", code], env=known | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"GOMP_SPINCOUNT = '{turns}'" in done.stderr


def test_blas_is_told_before_it_is_loaded() -> None:
    code = """
import os, sys
import ecom_tasks
print("numpy" in sys.modules, os.environ["OPENBLAS_THREAD_TIMEOUT"])
"""
    known = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=known, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "4"]
