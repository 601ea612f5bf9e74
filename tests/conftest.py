"""What all tests share: a clean environment and a folder as the store."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest
from hypothesis import settings

from ecom_tasks.run import Run

# Whichever test imports TensorFlow first: it adds in one order. Light.
from ecom_tasks.training import placement  # noqa: F401

# A shared machine is slow at times; no test asserts wall-clock time.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

PSEUDONYM_KEY = "00" * 32


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests may reach them."""
    for name in list(os.environ):
        if name.startswith(("ECOM_", "AWS_", "AIRFLOW_CONN_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ECOM_DASK", "threads")
    monkeypatch.setenv("ECOM_PSEUDONYM_KEY", PSEUDONYM_KEY)


@pytest.fixture
def root(tmp_path: Path) -> str:
    """URI of an empty store."""
    return (tmp_path / "store").as_uri()


@pytest.fixture
def run(root: str) -> Run:
    return Run("test", date(2024, 3, 31), root)


@pytest.fixture
def another_day(run: Run) -> Run:
    return Run("test", date(2024, 4, 7), run.root)
