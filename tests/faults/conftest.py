"""One object server for all of these tests; some of them kill it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecom_tasks import services
from ecom_tasks.artefacts.s3_store import client


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("faults") / "home"
    services.start(folder, say=lambda _: None, airflow=False)
    yield folder
    services.stop(folder)


@pytest.fixture
def bucket(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of an empty prefix that this process may write."""
    for name, value in services.environment(home).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client.cache_clear()
    assert os.environ["ECOM_S3_ENDPOINT"]
    return f"{services.ROOT}/{uuid.uuid4().hex}"
