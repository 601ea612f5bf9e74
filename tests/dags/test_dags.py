"""Every registered domain is scheduled, parses light, and is the same graph everywhere."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tomllib
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, PartitionedAssetTimetable
from airflow.sdk.exceptions import ParamValidationError
from ecom_airflow import FEATURES, HEAVY, LAKE, RETRAIN, RETRY_POLICY, released

from ecom_tasks.domains import DOMAINS, RELEASING, flow_of
from ecom_tasks.features.tables import FEATURES as FEATURE_TABLES
from ecom_tasks.tables import TABLES

PROJECT = Path(__file__).resolve().parents[2]
LIBRARIES = set(
    tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"][
        "flake8-tidy-imports"
    ]["banned-module-level-imports"]
)
FOLLOWING = {"needs_approval", "approve_release", "promote_release", "ask_to_retrain"}
"""Tasks that follow a flow: a person may have to approve what it made, or training is asked for."""
# Modules are counted that the DAG files add to what Airflow loads by itself.
LISTING = """
import json, runpy, sys
from airflow.sdk import Asset, DAG
DAG("any", schedule=[Asset(name="any", uri="ecom://any")])
known, added = set(sys.modules), {}
for file in sys.argv[1:]:
    runpy.run_path(file)
    added[file] = sorted({name.partition(".")[0] for name in set(sys.modules) - known})
print(json.dumps(added))
"""
# Each file in a process of its own that has Airflow loaded, as Airflow reads them.
TIMING = """
import json, os, runpy, sys, time
from airflow.sdk import Asset, DAG
DAG("any", schedule=[Asset(name="any", uri="ecom://any")])
took = {}
for file in sys.argv[1:]:
    read, write = os.pipe()
    if not os.fork():
        began = time.process_time()
        runpy.run_path(file)
        os.write(write, str(time.process_time() - began).encode())
        os._exit(0)
    os.wait()
    took[file] = float(os.read(read, 100))
print(json.dumps(took))
"""
PARSED_WITHIN_S = 0.5
SERIALISING = """
import json, runpy, sys
from airflow.serialization.serialized_objects import DagSerialization
dags = {file: DagSerialization.to_dict(runpy.run_path(file)["dag"]) for file in sys.argv[1:]}
print(json.dumps(dags, sort_keys=True))
"""


@cache
def fresh_interpreter(code: str, **variables: str) -> dict[str, Any]:
    """Run `code` on all DAG files in an interpreter of its own: domain -> what it tells of it."""
    paths = os.pathsep.join([str(PROJECT), str(PROJECT / "plugins")])
    files = {str(PROJECT / "dags" / f"{name}.py"): name for name in (*DOMAINS, "promotion")}
    done = subprocess.run(
        [sys.executable, "-c", code, *files],
        env={**os.environ, "PYTHONPATH": paths, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    return {files[file]: each for file, each in told.items()}


@cache
def dag_of(domain: str) -> DAG:
    return runpy.run_path(str(PROJECT / "dags" / f"{domain}.py"))["dag"]


def edges_of_flow(domain: str) -> tuple[set[str], set[tuple[str, str]]]:
    """Tasks of a flow and the pairs (task, task that takes its result)."""
    tasks: set[str] = set()
    edges: set[tuple[str, str]] = set()

    def record(task: Any, /, *inputs: Any) -> Any:
        tasks.add(task.__name__)
        edges.update((upstream, task.__name__) for upstream in inputs)
        return task.__name__

    flow_of(domain)(record)
    return tasks, edges


@pytest.mark.parametrize("domain", DOMAINS)
def test_dag_is_the_graph_of_the_flow(domain: str) -> None:
    dag = dag_of(domain)
    tasks = set(dag.task_ids) - FOLLOWING
    drawn = {(t.task_id, below) for t in dag.tasks for below in t.downstream_task_ids}
    assert (tasks, {edge for edge in drawn if set(edge) <= tasks}) == edges_of_flow(domain)
    assert dag.dag_id == domain


@pytest.mark.parametrize("domain", DOMAINS)
def test_each_task_hands_its_inputs_on_in_the_order_of_the_flow(domain: str) -> None:
    expected: dict[str, list[str]] = {}

    def record(task: Any, /, *inputs: Any) -> Any:
        expected[task.__name__] = list(inputs)
        return task.__name__

    flow_of(domain)(record)
    found = {
        task.task_id: [each.operator.task_id for each in task.inputs]
        for task in dag_of(domain).tasks
        if task.task_id not in FOLLOWING
    }
    assert found == expected


@pytest.mark.parametrize("domain", DOMAINS)
def test_parsing_loads_no_heavy_library(domain: str) -> None:
    loaded = set(fresh_interpreter(LISTING)[domain])
    assert "ecom_tasks" in loaded  # else nothing was measured
    assert loaded & LIBRARIES == set()


@pytest.mark.parametrize("domain", [*DOMAINS, "promotion"])
def test_parsing_is_quick(domain: str) -> None:
    """Seconds of processor time, which a busy machine does not change much."""
    assert 0 < fresh_interpreter(TIMING)[domain] < PARSED_WITHIN_S


@pytest.mark.parametrize("domain", DOMAINS)
def test_each_parse_gives_the_same_dag(domain: str) -> None:
    # A DAG that differs at each parse gets a new version every time Airflow looks at it.
    first, second = (fresh_interpreter(SERIALISING, PYTHONHASHSEED=seed) for seed in "12")
    assert first[domain] == second[domain]


@pytest.mark.parametrize("domain", DOMAINS)
def test_dag_and_tasks_are_documented_and_owned(domain: str) -> None:
    dag = dag_of(domain)
    assert dag.description
    assert dag.doc_md
    assert {f"domain:{domain}", "ecom"} <= dag.tags
    assert dag.max_active_runs == 1
    for task in dag.tasks:
        assert task.doc_md, task.task_id
        assert task.owner != "airflow"
        assert task.retries == 2
        assert task.retry_policy is RETRY_POLICY
        assert task.pool in {HEAVY, "default_pool"}


def test_heavy_is_the_pool_that_the_services_make() -> None:
    from ecom_tasks.services.orchestrator import POOL

    assert HEAVY == POOL


TRAINING = {
    "recommendation": {"train_sequence", "generate_candidates", "train_two_tower", "train_ranker"},
    "inventory": {"backtest", "train_forecaster"},
    "pricing": {"estimate_elasticities", "evaluate_elasticities"},
}


@pytest.mark.parametrize("domain", DOMAINS)
def test_training_waits_for_a_gpu_where_there_are_any(domain: str) -> None:
    with_gpus = fresh_interpreter(SERIALISING, ECOM_GPUS="2", ECOM_GPU_QUEUE="cuda")[domain]
    places = {
        task["__var"]["task_id"]: (
            task["__var"].get("pool", "default_pool"),
            task["__var"].get("queue", "default"),
        )
        for task in with_gpus["dag"]["tasks"]
    }
    trained = {name for name, place in places.items() if place == ("gpu", "cuda")}
    assert trained == TRAINING.get(domain, set())
    assert {place for name, place in places.items() if name not in trained} <= {
        (HEAVY, "default"), ("default_pool", "default"),
    }  # fmt: skip


def test_no_dag_runs_twice_at_once() -> None:
    for file in PROJECT.glob("dags/*.py"):
        assert runpy.run_path(str(file))["dag"].max_active_runs == 1, file.name


def outlets(domain: str) -> dict[str, set[str]]:
    """Asset name -> tasks that announce it."""
    found: dict[str, set[str]] = {}
    for task in dag_of(domain).tasks:
        for asset in task.outlets:
            found.setdefault(asset.name, set()).add(task.task_id)
    return found


@pytest.mark.parametrize(
    ("domain", "asset"),
    [("ingestion", LAKE), ("features", FEATURES)]
    + [(domain, released(domain)) for domain in RELEASING],
    ids=lambda value: getattr(value, "name", value),
)
def test_only_the_last_task_announces_the_result(domain: str, asset: Any) -> None:
    tasks, edges = edges_of_flow(domain)
    last = tasks - {above for above, _ in edges}
    assert len(last) == 1
    # And the one that puts a release into service which a person had to approve.
    approved = {"promote_release"} & set(dag_of(domain).task_ids)
    tables = {"ingestion": TABLES, "features": FEATURE_TABLES}.get(domain, {})
    expected = {asset.name, *(f"{asset.name}_{name}" for name in tables)}
    assert outlets(domain) == dict.fromkeys(expected, last | approved)


@pytest.mark.parametrize(
    ("domain", "asset"),
    [("features", LAKE), ("monitoring", FEATURES),
     *((each, FEATURES | RETRAIN) for each in RELEASING)],
)  # fmt: skip
def test_dags_set_each_other_off(domain: str, asset: Any) -> None:
    timetable: Any = dag_of(domain).timetable
    assert isinstance(timetable, PartitionedAssetTimetable)
    assert timetable.asset_condition == asset


def test_training_is_asked_for_after_the_findings() -> None:
    assert outlets("monitoring") == {RETRAIN.name: {"ask_to_retrain"}}
    assert dag_of("monitoring").get_task("ask_to_retrain").upstream_task_ids == {"publish_findings"}


def test_the_services_start_every_dag_and_wait_for_the_models_only() -> None:
    from ecom_tasks.demo import following

    assert set(following.STARTED) == set(DOMAINS)
    assert set(following.DAGS) == {"ingestion", "features", *RELEASING}


def test_ingestion_runs_only_when_asked_or_as_the_operator_says() -> None:
    assert not dag_of("ingestion").timetable.can_be_scheduled
    scheduled = fresh_interpreter(SERIALISING, ECOM_SCHEDULE="30 3 * * *")["ingestion"]
    assert "30 3 * * *" in json.dumps(scheduled["dag"]["timetable"])


@pytest.mark.parametrize("domain", DOMAINS)
def test_form_takes_a_day_or_nothing(domain: str) -> None:
    params = dag_of(domain).params
    assert deepcopy(params).validate()["as_of"] is None
    for good in ("2017-12-24", None):
        assert filled(params, as_of=good)["as_of"] == good
    for bad in ("24.12.2017", "2017-13-01", 20171224):
        with pytest.raises(ParamValidationError):
            filled(params, as_of=bad)


def test_form_of_ingestion_needs_a_source() -> None:
    params = dag_of("ingestion").params
    assert filled(params, source="my.toml")["source"] == "my.toml"
    with pytest.raises(ParamValidationError):
        filled(params, source="")


def filled(params: Any, **values: object) -> Any:
    """Fill in a form as somebody who triggers a run does."""
    form = deepcopy(params)
    form.update(values)
    return form.validate()
