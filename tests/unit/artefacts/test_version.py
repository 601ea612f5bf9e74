"""A version follows from what shapes its bytes, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecom_tasks.artefacts import version

FILES = (
    "ingestion/load.py", "features/customers.py", "pricing/model.py", "inventory/forecast.py",
    "artefacts/dataset.py", "metrics/ranking.py", "training/two_tower.py", "tables.py",
    "compute/buckets.py", "compute/clusters.py", "device.py", "reports.py", "cli.py",
    "artefacts/release.py",
)  # fmt: skip


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before")
    monkeypatch.setattr(version, "PACKAGE", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "domains"),
    [
        ("pricing/model.py", {"pricing"}),
        ("ingestion/load.py", {"ingestion"}),
        ("metrics/ranking.py", {"pricing", "inventory"}),
        ("training/two_tower.py", {"pricing", "inventory"}),
        ("tables.py", {"ingestion", "features", "pricing", "inventory"}),
        ("reports.py", {"ingestion", "features", "pricing", "inventory"}),
        ("artefacts/dataset.py", {"ingestion", "features", "pricing", "inventory"}),
        ("device.py", {"ingestion", "features", "pricing", "inventory"}),
        ("compute/clusters.py", set()),
        ("artefacts/release.py", set()),
        ("cli.py", set()),
    ],
)
def test_a_change_concerns_the_domains_that_run_it(
    package: Path, changed: str, domains: set[str]
) -> None:
    everyone = ("ingestion", "features", "pricing", "inventory")
    before = {domain: version._source_hash(domain) for domain in everyone}
    (package / changed).write_text("after")
    after = {domain: version._source_hash(domain) for domain in everyone}
    assert {domain for domain in everyone if before[domain] != after[domain]} == domains
