"""`airflow backfill create` over weeks gives the bytes of single runs, and nothing twice.

`make backfill-test`: eight weeks of a small shop, from files to features, through the real
scheduler (about three minutes); not among the tests of every change. The models are left out by
pausing their DAGs.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest

from ecom_tasks import services
from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.manifest import Manifest
from ecom_tasks.artefacts.s3_store import client
from ecom_tasks.demo import wait_for_dags
from ecom_tasks.domains import RELEASING, flow_of
from ecom_tasks.run import Ref, Run, run_locally
from ecom_tasks.services import orchestrator
from ecom_tasks.services.processes import inherited
from tests import builders
from tests.integration.test_airflow import SOURCE

WEEKS = 8
SHOP_WEEKS = 20
PATIENCE_S = 900.0
PSEUDONYM_KEY = "00" * 32
MONDAYS = [builders.day(7 * week) for week in range(SHOP_WEEKS - WEEKS, SHOP_WEEKS)]
SUNDAYS = [monday + timedelta(days=6) for monday in MONDAYS]
COLLECTIONS = ("lake/all", "features/all")


@dataclass(frozen=True)
class Stack:
    """Airflow and store at work, and the folder with the shop's files."""

    running: services.Services
    source: Path

    def run(self, day: date) -> Run:
        return Run("looked at", day, services.ROOT)

    def backfill(self, *further: str) -> None:
        """Ask as an operator would: by Airflow's own command."""
        folder = self.running.home / "airflow"
        arguments = ["backfill", "create", "--dag-id", "ingestion",
                     "--from-date", f"{MONDAYS[0]}T00:00:00",
                     "--to-date", f"{MONDAYS[-1]}T23:00:00", *further]  # fmt: skip
        done = subprocess.run(
            orchestrator.command(*arguments), env=inherited() | orchestrator.settings(folder),
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]

    def finished(self, dag: str, wanted: int, *, backfilled: bool) -> list[dict[str, object]]:
        """Wait until so many runs of the DAG have succeeded, and return them."""
        api, deadline = self.running.api(), time.monotonic() + PATIENCE_S
        kind = {"run_type": "backfill"} if backfilled else {"run_type": "asset_triggered"}
        while True:
            runs = api.get(f"dags/{dag}/dagRuns", limit=100, **kind)["dag_runs"]
            assert not [run for run in runs if run["state"] == "failed"], runs
            done = [run for run in runs if run["state"] == "success"]
            if len(done) == len(runs) >= wanted:
                return done
            assert time.monotonic() < deadline, runs
            time.sleep(2)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("shop")
    shop = builders.block_shop(blocks=2, customers=8, weeks=SHOP_WEEKS)
    shop.order_lines.write_csv(folder / "lines.csv")
    shop.products.write_csv(folder / "products.csv")
    (folder / "shop.toml").write_text(SOURCE, encoding="utf-8")
    home = tmp_path_factory.mktemp("airflow") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("ECOM_", "AWS_"))]:
            patch.delenv(name)
        patch.setenv("ECOM_DASK", "threads")
        patch.setenv("ECOM_PSEUDONYM_KEY", PSEUDONYM_KEY)
        patch.setenv("ECOM_SCHEDULE", "0 3 * * 1")
        patch.setenv("ECOM_SOURCE", str(folder / "shop.toml"))
        started = services.start(home)
        wait_for_dags(started)
        for dag in (*RELEASING, "monitoring"):
            started.api().patch(f"dags/{dag}?update_mask=is_paused", {"is_paused": True})
        yield Stack(started, folder / "shop.toml")
        services.stop(home)
        services.clean(home)


def content(ref: Ref, seen: dict[str, dict[str, str]] | None = None) -> dict[str, dict[str, str]]:
    """Return version and hashes of all files, of an artefact and of all that it was made from."""
    seen = {} if seen is None else seen
    made: Manifest = dataset.manifest(ref)
    seen[f"{made.name} {made.version}"] = {file.path: file.sha256 for file in made.files}
    for each in made.inputs.values():
        content(Ref(each), seen)
    return seen


def test_weeks_made_up_for_are_what_single_runs_make(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services.environment(stack.running.home, "consumer").items():
        monkeypatch.setenv(name, value)
    client.cache_clear()
    stack.backfill()
    stack.finished("ingestion", WEEKS, backfilled=True)
    runs = stack.finished("features", WEEKS, backfilled=False)
    # Each week has a run of its own, about its own day.
    assert sorted(str(run["partition_key"]) for run in runs) == [str(day) for day in SUNDAYS]
    filled = {
        (name, day): content(dataset.find(stack.run(day), name))
        for name in COLLECTIONS
        for day in SUNDAYS
    }
    monkeypatch.setenv("ECOM_PSEUDONYM_KEY", PSEUDONYM_KEY)
    for day in SUNDAYS:
        single = Run("single", day, (tmp_path / "store").as_uri(), str(stack.source))
        for name, domain in zip(COLLECTIONS, ("ingestion", "features"), strict=True):
            assert content(run_locally(flow_of(domain), single)) == filled[name, day]

    # Once more: everything is found, nothing is made.
    made_by = {
        (name, day): dataset.manifest(dataset.find(stack.run(day), name)).provenance
        for name in COLLECTIONS
        for day in SUNDAYS
    }
    stack.backfill("--reprocess-behavior", "completed")
    stack.finished("features", 2 * WEEKS, backfilled=False)
    for (name, day), provenance in made_by.items():
        again = dataset.manifest(dataset.find(stack.run(day), name))
        assert again.provenance == provenance
        assert content(dataset.find(stack.run(day), name)) == filled[name, day]
    found, tasks = unchanged(stack)
    assert found == tasks >= WEEKS * 20


def unchanged(stack: Stack) -> tuple[int, int]:
    """Of the later runs, return the tasks whose log says that their work was found, and all."""
    api = stack.running.api()
    found = tasks_seen = 0
    for dag in ("ingestion", "features"):
        kind = "backfill" if dag == "ingestion" else "asset_triggered"
        runs = api.get(f"dags/{dag}/dagRuns", limit=100, run_type=kind, order_by="run_after")
        later = runs["dag_runs"] if dag == "ingestion" else runs["dag_runs"][WEEKS:]
        for run in later:
            tasks = api.get(f"dags/{dag}/dagRuns/{run['dag_run_id']}/taskInstances", limit=100)
            for task in tasks["task_instances"]:
                path = f"dags/{dag}/dagRuns/{run['dag_run_id']}/taskInstances/{task['task_id']}"
                log = api.get(f"{path}/logs/{task['try_number']}", full_content="true")
                found += "unchanged: " in json.dumps(log) or task["task_id"] == "pin_lake"
                tasks_seen += 1
    return found, tasks_seen
