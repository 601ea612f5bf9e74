"""The DAG that moves releases: what it offers, and in whose name it acts."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from ecom_airflow import released
from ecom_promotion import MoveOperator, spelled

from ecom_tasks.artefacts import dataset, release
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Run
from tests.dags import console_shop

PROJECT = Path(__file__).resolve().parents[2]
NAME = "artefacts/pricing"


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("promote", ["promote", "pricing", "1", "--by", "ann", "--reason", "promoted"]),
        ("approve", ["promote", "pricing", "1", "--by", "ann", "--reason", "approved"]),
        ("rollback", ["rollback", "pricing", "--by", "ann"]),
    ],
)
def test_a_move_is_a_command_that_can_be_repeated_by_hand(action: str, words: list[str]) -> None:
    assert spelled("pricing", action, "1", "ann") == words


@pytest.mark.parametrize(
    ("domain", "action", "version"),
    [("weather", "promote", "1"), ("pricing", "delete", "1"), ("pricing", "promote", ""),
     ("pricing", "promote", "--although-rejected")],
)  # fmt: skip
def test_what_is_no_move_is_refused(domain: str, action: str, version: str) -> None:
    with pytest.raises(ConfigError):
        spelled(domain, action, version, "ann")


class Told:
    """Stands in for the event of an outlet."""

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}
        self.partitions: list[str] = []

    def add_partitions(self, key: str) -> None:
        self.partitions.append(key)


def executed(run: Run, person: str, **params: str) -> tuple[str, Told]:
    events = Told()
    unknown = ("logical_date", "run_after", "partition_date", "data_interval_start",
               "data_interval_end")  # fmt: skip
    facts = {"run_id": "r", "triggering_user_name": person} | dict.fromkeys(unknown)
    seen = type("DagRun", (), facts)()
    context = {
        "dag_run": seen,
        "params": params | {"as_of": run.as_of.isoformat()},
        "triggering_asset_events": {},
        "outlet_events": {released("pricing"): events},
    }
    return MoveOperator(domain="pricing").execute(cast(Any, context)), events


def test_releases_move_in_the_name_of_who_triggered_the_run(
    run: Run, another_day: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOM_ROOT", run.root)
    older, newer = (
        dataset.manifest(console_shop.pricing(each, console_shop.lake(each), value)).version
        for each, value in ((run, 0.4), (another_day, 0.3))
    )

    def pointer() -> release.Pointer:
        found = release.read_pointer(open_store(run.root), NAME, "production")
        assert found is not None
        return found

    assert pointer().version == newer
    # What the form says of a person counts for nothing.
    ref, event = executed(run, "ann", domain="pricing", action="promote", version=older, by="eve")
    assert (pointer().version, pointer().history[0].by) == (older, "ann")
    assert pointer().history[0].reason == "promoted"
    assert ref == f"{run.root}/{pointer().manifest}"
    assert (event.extra["manifest"], event.extra["as_of"]) == (ref, run.as_of.isoformat())
    assert event.partitions == [run.as_of.isoformat()]
    executed(run, "bob", domain="pricing", action="rollback", version="")
    assert (pointer().version, pointer().history[0].by) == (newer, "bob")
    assert pointer().history[0].reason == "rolled back"
    with pytest.raises(AirflowSkipException, match="about inventory"):
        executed(run, "ann", domain="inventory", action="rollback", version="")
    with pytest.raises(ConfigError, match="has no version 9"):
        executed(run, "ann", domain="pricing", action="promote", version="9")
    assert pointer().sequence == 4


def test_the_dag_waits_for_somebody_and_parses_light() -> None:
    dag = runpy.run_path(str(PROJECT / "dags/promotion.py"))["dag"]
    assert dag.schedule is None
    assert dag.max_active_runs == 1
    assert dag.is_paused_upon_creation is False
    assert dag.doc_md
    assert set(dag.params) == {"domain", "action", "version"}
    code = (
        "import runpy, sys; sys.path[:0] = ['plugins', '.']; runpy.run_path('dags/promotion.py'); "
        "print(*({'polars', 'numpy', 'pandas', 'xgboost', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    heavy = done.stdout.splitlines()[-1].split()
    assert not {"polars", "pandas", "xgboost"} & set(heavy)
