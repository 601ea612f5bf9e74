"""The demonstration through the services of a cluster: PostgreSQL, Redis, Celery, Dask.

`make cluster-test` runs it, not `make test`: it takes as long as the demonstration, and needs
Debian's `postgresql` and `redis-server`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from ecom_tasks import services
from ecom_tasks.demo import following, wait_for_dags
from ecom_tasks.domains import RELEASING
from ecom_tasks.services import cluster, credentials, processes, state
from tests import builders

PROJECT = Path(__file__).resolve().parents[2]
# Read here: each test has an environment without the settings of who runs it.
SOURCE, DATA = os.environ.get("SOURCE", "complete-journey"), os.environ.get("DATA", "")
DEMONSTRATION_S = 1800
PATIENCE_S = 420.0
SHOP = """
name = "tiny-shop"

[inputs.lines]
path = "lines.csv"

[inputs.goods]
path = "products.csv"

[tables.order_lines]
sql = '''
SELECT order_id, line_number, customer_id, product_id, quantity, unit_price, ordered_at
FROM lines
'''

[tables.products]
sql = "SELECT product_id, title, category, sellable, brand FROM goods"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cluster") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("ECOM_", "AWS_"))]:
            patch.delenv(name)
        yield folder
        known = state.read_state(folder).services
        services.stop(folder)
        assert [pid for service in known for pid in processes.members(service)] == []
        services.clean(folder)


@pytest.fixture(scope="module")
def told(home: Path) -> str:
    """What the demonstration says; it must end with 0."""
    given = ["--data", DATA] if DATA else []
    done = subprocess.run(
        [sys.executable, "-m", "ecom_tasks", "demo", "--cluster", "--source", SOURCE, *given],
        env={**os.environ, "ECOM_HOME": str(home)}, cwd=PROJECT, capture_output=True, text=True,
        timeout=DEMONSTRATION_S, check=False,
    )  # fmt: skip
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def asked(home: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask Airflow's PostgreSQL."""
    ports, keys = state.read_state(home).ports, credentials.load(home)
    with psycopg.connect(
        host="127.0.0.1", port=ports["postgres"], user="airflow", dbname="airflow",
        password=keys.database_password,
    ) as connection:  # fmt: skip
        return connection.execute(query.encode()).fetchall()


def test_all_releases_are_published_and_pulled_back(told: str) -> None:
    for domain in RELEASING:
        assert re.search(rf"^ *\d+:\d\d +{domain} +publish_release +done", told, re.MULTILINE)
    assert re.search(r"\d+ s; at most [\d.]+ GiB of memory", told)


@pytest.mark.usefixtures("told")
def test_every_task_was_done_by_a_celery_worker(home: Path) -> None:
    ran = asked(home, "select task_id, queue from task_instance where state = 'success'")
    assert {queue for _, queue in ran} == {"default"}
    # Tasks of `monitoring`, which nobody waits for, may be under way.
    done = asked(home, "select worker, status, name from celery_taskmeta where status <> 'STARTED'")
    assert {status for _, status, _ in done} == {"SUCCESS"}
    assert {name for _, _, name in done} == {"execute_workload"}
    workers = Counter(str(worker).partition("@")[0] for worker, _, _ in done)
    sys.stdout.write(f"tasks by Celery worker: {dict(workers)}\n")
    assert set(workers) == set(cluster.CELERY)
    steps = asked(
        home,
        "select count(*) from task_instance where state = 'success' "
        "and operator = 'StepOperator' and dag_id <> 'monitoring'",
    )
    assert workers.total() >= steps[0][0] > 0


@pytest.mark.usefixtures("told")
def test_only_references_travel_between_tasks(home: Path) -> None:
    found = asked(home, "select task_id, key, octet_length(value::text) from xcom")
    sys.stdout.write(f"XCom: {len(found)}, at most {max(size for *_, size in found)} bytes\n")
    assert [each for each in found if each[2] > 1024] == []


@pytest.mark.usefixtures("told")
def test_buckets_were_computed_by_both_dask_workers(home: Path) -> None:
    from distributed import Client

    def computed(dask_worker: Any) -> dict[str, float]:
        """Name of a function -> seconds that this worker computed it."""
        return {
            str(key[key.index("thread-cpu") - 1]): float(seconds)
            for key, seconds in dask_worker.digests_total.items()
            if key[0] == "execute" and "thread-cpu" in key
        }

    with Client(cluster.address(state.read_state(home).ports), timeout="20s") as client:
        names = {each["id"] for each in client.scheduler_info(n_workers=-1)["workers"].values()}
        found = client.run(computed)
    assert names == set(cluster.DASK_WORKERS)
    sys.stdout.write(f"seconds by Dask worker: {sorted(found.values(), key=str)}\n")
    assert len(found) == len(cluster.DASK_WORKERS)
    for seconds in found.values():
        assert sum(seconds.values()) > 0


def test_everything_listens_on_loopback_only(home: Path) -> None:
    services.start(home, say=lambda _: None, cluster=True)
    known = state.read_state(home)
    listening = set()
    for service in known.services:
        for pid in processes.members(service):
            with suppress(psutil.NoSuchProcess):
                found = psutil.Process(pid).net_connections("inet")
                listening |= {each.laddr for each in found if each.status == psutil.CONN_LISTEN}
    assert {known.ports[name] for name in cluster.PORTS} <= {each.port for each in listening}
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_database_and_broker_want_a_password(home: Path) -> None:
    import redis

    services.start(home, say=lambda _: None, cluster=True)
    ports = state.read_state(home).ports
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(host="127.0.0.1", port=ports["postgres"], user="airflow",
                        dbname="airflow", password="guessed")  # fmt: skip
    with pytest.raises(redis.AuthenticationError):
        redis.Redis("127.0.0.1", ports["redis"]).ping()
    said = " ".join(part for each in state.read_state(home).services for part in each.command)
    keys = credentials.load(home)
    assert keys.database_password not in said
    assert keys.broker_password not in said


def loading(service: processes.Service) -> list[str]:
    """Steps that load a table and that this Celery worker has at work."""
    found = []
    for pid in processes.members(service):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            line = psutil.Process(pid).cmdline()
            if "step" in line:
                found.append(line[line.index("step") + 2])
    return [name for name in found if name.startswith("load_")]


def lose_power(service: processes.Service) -> None:
    """Kill all that it has at work, as a machine does that goes off."""
    for pid in processes.members(service):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_celery_worker_that_dies_costs_a_retry(home: Path, tmp_path: Path) -> None:
    tables = builders.block_shop(blocks=2, customers=8, weeks=20)
    tables.order_lines.write_csv(tmp_path / "lines.csv")
    tables.products.write_csv(tmp_path / "products.csv")
    (tmp_path / "shop.toml").write_text(SHOP, encoding="utf-8")
    running = services.start(home, say=lambda _: None, shop="tiny-shop", cluster=True)
    api = running.api()
    wait_for_dags(running)
    form = {"as_of": tables.as_of.isoformat(), "source": str(tmp_path / "shop.toml"),
            "source_data": ""}  # fmt: skip
    following.trigger(api, "dying", form)
    workers = state.read_state(home).named(*cluster.CELERY)
    deadline, lost = time.monotonic() + PATIENCE_S, set[str]()
    while not lost:
        assert time.monotonic() < deadline, following.look(api, "dying")
        busy = next((worker for worker in workers if loading(worker)), None)
        if busy:
            lost = set(loading(busy))
            lose_power(busy)
    while (progress := following.look(api, "dying")).runs["ingestion"].state == "running":
        assert time.monotonic() < deadline, progress
        time.sleep(1)
    following.give_up(api)
    assert progress.runs["ingestion"].state == "success"
    again = {each.name for each in progress.tasks if each.attempt > 1}
    sys.stdout.write(f"killed {sorted(lost)}, ran twice {sorted(again)}\n")
    assert again
    assert lost <= again
    assert [processes.running(worker) for worker in workers].count(True) == 1
