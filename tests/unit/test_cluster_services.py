"""How a cluster's services are to be started; `make cluster-test` starts them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecom_tasks import services
from ecom_tasks.errors import ConfigError
from ecom_tasks.services import cluster, credentials, orchestrator, processes, state
from ecom_tasks.services.blueprint import Blueprint

EVERY = (*cluster.BACKING, *cluster.DASK, *cluster.CELERY)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blueprint:
    found = {name: Path("/usr/bin") / name for name in ("initdb", "postgres", "redis-server")}
    monkeypatch.setattr(cluster, "programs", lambda: found)
    ports = {"s3": 1, "airflow": 2, "postgres": 3, "redis": 4, "dask": 5}
    return Blueprint(tmp_path, credentials.Credentials(), ports, "s3://ecom", cluster=True)


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cluster.shutil, "which", lambda name, **_: None if name != "initdb" else "/usr/bin/initdb"
    )
    with pytest.raises(ConfigError) as caught:
        cluster.programs()
    assert "postgres, redis-server cannot be found" in caught.value.reason
    assert "apt-get install postgresql redis-server" in caught.value.hint


def test_commands_hold_no_secret(plan: Blueprint) -> None:
    for name in EVERY:
        said = " ".join(plan.command(name))
        for secret in vars(plan.keys).values():
            assert secret not in said, name


def test_who_may_write_to_the_store(plan: Blueprint) -> None:
    secret = plan.keys.publisher_secret
    given = {name for name in (*plan.airflow, *EVERY) if secret in plan.settings(name).values()}
    assert given == {*cluster.CELERY, *cluster.DASK_WORKERS}
    alone = Blueprint(plan.home, plan.keys, plan.ports, plan.root)
    assert {name for name in alone.airflow if secret in alone.settings(name).values()} == {
        "scheduler"
    }


def test_steps_are_told_where_dask_is(plan: Blueprint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_DASK", "threads")
    assert {plan.settings(name)["ECOM_DASK"] for name in cluster.CELERY} == {"tcp://127.0.0.1:5"}


def test_airflow_is_told_of_database_and_broker(plan: Blueprint) -> None:
    further = cluster.sections(plan.ports, plan.keys)
    orchestrator.prepare(plan.home / "airflow", plan.airflow_url, plan.keys, further)
    file = plan.home / "airflow" / "airflow.cfg"
    assert file.stat().st_mode & 0o077 == 0
    lines = file.read_text("utf-8").splitlines()
    assert "executor = CeleryExecutor" in lines
    assert not [line for line in lines if "sqlite" in line or "LocalExecutor" in line]
    database = f"airflow:{plan.keys.database_password}@127.0.0.1:3/airflow"
    assert f"sql_alchemy_conn = postgresql+psycopg://{database}" in lines
    assert f"broker_url = redis://:{plan.keys.broker_password}@127.0.0.1:4/0" in lines
    assert "dags_folder = " in "\n".join(lines)  # what does not differ is kept


def test_a_folder_of_one_machine_becomes_no_cluster(tmp_path: Path, plan: Blueprint) -> None:
    assert plan
    (tmp_path / "airflow").mkdir()
    with pytest.raises(ConfigError, match="holds the services of one machine"):
        services.start(tmp_path, cluster=True)
    assert not state.read_state(tmp_path).cluster


def test_secrets_of_an_older_installation_are_completed_once(tmp_path: Path) -> None:
    first = credentials.load(tmp_path)
    file = tmp_path / credentials.FILE
    known = json.loads(file.read_text("utf-8"))
    del known["broker_password"]
    file.write_text(json.dumps(known), "utf-8")
    second = credentials.load(tmp_path)
    assert second.pseudonym_key == first.pseudonym_key
    assert second.broker_password != first.broker_password
    assert credentials.load(tmp_path).broker_password == second.broker_password
    assert file.stat().st_mode & 0o777 == 0o600


def test_processes_that_left_the_session_belong_to_the_service(tmp_path: Path) -> None:
    """As each of PostgreSQL's does."""
    code = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(60)'], start_new_session=True); time.sleep(60)"
    )
    service = processes.launch(
        "any", [sys.executable, "-c", code], settings={}, folder=tmp_path, log=tmp_path / "log"
    )
    assert processes.wait_until(lambda: len(processes.members(service)) == 2, 20)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert bystander.pid not in processes.members(service)
        assert processes.memory(processes.members(service)) > 0
        child = next(pid for pid in processes.members(service) if pid != service.pid)
        assert processes.end([service], grace=1.0) == ["any"]
        deadline = time.monotonic() + 10
        while processes.started(child) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes.started(child) is None
    finally:
        bystander.kill()
        bystander.wait()


def test_one_worker_of_a_kind_may_be_missing_and_nothing_else() -> None:
    def needed(*names: str) -> list[str]:
        gone = [processes.Service(name, 1, "", [], "", "", "") for name in names]
        return [service.name for service in services.needed(gone)]

    one, other = cluster.CELERY
    assert needed(one, cluster.DASK_WORKERS[1]) == []
    assert needed(one, other) == [one, other]
    assert needed(one, "scheduler", cluster.SCHEDULER) == ["scheduler", cluster.SCHEDULER]
