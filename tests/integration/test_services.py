"""The embedded object store and the care for its processes, with real servers and processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from ecom_tasks import services
from ecom_tasks.errors import ConfigError, RetryableError
from ecom_tasks.services import credentials, object_store, processes, state
from ecom_tasks.services.api import AirflowApi
from ecom_tasks.services.blueprint import draw
from ecom_tasks.services.ports import free_ports
from ecom_tasks.services.processes import Service

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
# A leader that dies at once and leaves a child behind, as a crashed scheduler leaves its workers.
ORPHANING = [
    sys.executable,
    "-c",
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; "
    "time.sleep(600)'])",
]


@pytest.fixture(autouse=True)
def _own_pseudonym_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECOM_PSEUDONYM_KEY")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Folder of an installation; its ports are far from those that others would choose."""
    (tmp_path / "home").mkdir()
    ports = {name: first + 3000 for name, first in object_store.PORTS.items()}
    state.write_state(tmp_path / "home", state.State(free_ports(ports), []))
    yield tmp_path / "home"
    services.stop(tmp_path / "home")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Services]:
    folder = tmp_path_factory.mktemp("store") / "home"
    yield services.start(folder, airflow=False)
    services.clean(folder)


def client(started: services.Services, identity: str) -> Any:
    keys = credentials.load(started.home)
    return object_store.client(started.endpoint, keys.pair(identity))


def denied(call: Any, **arguments: object) -> bool:
    """Whether the store refuses the call for want of a right."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return bool(caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403)


def store_of(home: Path) -> Service:
    return state.read_state(home).named(object_store.NAME)[0]


def launched(home: Path, command: list[str], name: str = object_store.NAME) -> Service:
    """Launch a stand-in for a service and write it down as `start` does."""
    service = processes.launch(
        name, command, settings={}, folder=home / "store", log=home / "logs" / "x.log"
    )
    known = state.read_state(home)
    state.write_state(home, replace(known, services=[*known.services, service]))
    return service


# --- the store: who may do what ---


def test_publisher_writes_and_consumer_reads(started: services.Services) -> None:
    client(started, "publisher").put_object(Bucket="ecom", Key="a/b", Body=b"content")
    answer = client(started, "consumer").get_object(Bucket="ecom", Key="a/b")
    assert answer["Body"].read() == b"content"


def test_consumer_can_neither_write_nor_delete(started: services.Services) -> None:
    client(started, "publisher").put_object(Bucket="ecom", Key="kept", Body=b"content")
    consumer = client(started, "consumer")
    assert denied(consumer.put_object, Bucket="ecom", Key="kept", Body=b"other")
    assert denied(consumer.delete_object, Bucket="ecom", Key="kept")
    answer = consumer.get_object(Bucket="ecom", Key="kept")
    assert answer["Body"].read() == b"content"


def test_publisher_cannot_make_or_remove_buckets(started: services.Services) -> None:
    publisher = client(started, "publisher")
    assert denied(publisher.create_bucket, Bucket="another")
    assert denied(publisher.delete_bucket, Bucket="ecom")


def test_strangers_are_refused(started: services.Services) -> None:
    import boto3

    anonymous = boto3.client(
        "s3",
        endpoint_url=started.endpoint,
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}),
    )
    assert denied(anonymous.put_object, Bucket="ecom", Key="x", Body=b"")
    assert denied(anonymous.list_objects_v2, Bucket="ecom")
    guessed = object_store.client(started.endpoint, ("admin", "admin"))
    assert denied(guessed.list_objects_v2, Bucket="ecom")


def test_strangers_are_refused_behind_the_store_too(started: services.Services) -> None:
    # S3 requests end up at the filer, which would answer anyone if it had no keys.
    client(started, "publisher").put_object(Bucket="ecom", Key="behind", Body=b"content")
    port = state.read_state(started.home).ports["store-filer"]
    for method in ("GET", "POST", "DELETE"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, "/buckets/ecom/behind", body=b"x")
        assert connection.getresponse().status == http.client.UNAUTHORIZED, method
        connection.close()


def test_everything_listens_on_loopback_only(started: services.Services) -> None:
    process = psutil.Process(store_of(started.home).pid)
    listening = [
        each.laddr for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN
    ]
    ports = state.read_state(started.home).ports
    assert ports["s3"] in {address.port for address in listening}
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_secrets_are_private_and_not_shown(started: services.Services) -> None:
    for name in ("secrets.json", "services.json", "store/s3.json"):
        assert (started.home / name).stat().st_mode & 0o777 == 0o600, name
    secret = started.environment["AWS_SECRET_ACCESS_KEY"]
    assert len(secret) >= 40
    assert secret not in repr(started)
    assert secret not in json.dumps([
        each.command for each in state.read_state(started.home).services
    ])
    log = (started.home / "logs" / "object-store.log").read_text(encoding="utf-8")
    assert secret not in log


def test_environment_is_what_a_step_needs(started: services.Services) -> None:
    publisher = services.environment(started.home)
    assert publisher == started.environment
    assert set(publisher) == {
        "ECOM_ROOT", "ECOM_S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION", "ECOM_PSEUDONYM_KEY",
    }  # fmt: skip
    consumer = services.environment(started.home, "consumer")
    assert "ECOM_PSEUDONYM_KEY" not in consumer
    assert consumer["AWS_ACCESS_KEY_ID"] != publisher["AWS_ACCESS_KEY_ID"]


def test_starting_again_changes_nothing(started: services.Services) -> None:
    before = store_of(started.home)
    again = services.start(started.home, airflow=False)
    assert store_of(started.home) == before
    assert again.environment == started.environment


def test_status_tells_of_the_store(started: services.Services) -> None:
    (found,) = services.status(started.home)
    assert (found.name, found.running) == ("object-store", True)
    assert found.address == started.endpoint
    # A started server holds some memory, and less than the limit it was given, with room to spare.
    assert 2**20 < found.memory_bytes < 2**30


# --- start, stop, crash ---


def test_data_keys_and_ports_outlive_a_restart(home: Path) -> None:
    first = services.start(home, airflow=False)
    client(first, "publisher").put_object(Bucket="ecom", Key="kept", Body=b"content")
    pid = store_of(home).pid
    assert services.stop(home) == ["object-store"]
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
    assert services.stop(home) == []
    second = services.start(home, airflow=False)
    assert (second.endpoint, second.environment) == (first.endpoint, first.environment)
    answer = client(second, "consumer").get_object(Bucket="ecom", Key="kept")
    assert answer["Body"].read() == b"content"


def test_each_shop_has_a_root_of_its_own(home: Path) -> None:
    first = services.start(home, airflow=False, shop="first")
    pid = store_of(home).pid
    assert first.root == first.environment["ECOM_ROOT"] == "s3://ecom/first"
    assert services.start(home, airflow=False).root == "s3://ecom/first"
    second = services.start(home, airflow=False, shop="My shop")
    assert second.root == services.environment(home)["ECOM_ROOT"] == "s3://ecom/My-shop"
    assert store_of(home).pid == pid


def test_stopped_store_leaves_nothing_behind(home: Path) -> None:
    def sockets() -> set[str]:
        return {path.name for path in Path("/tmp").glob("seaweedfs-*.sock")}  # noqa: S108

    services.start(home, airflow=False)
    port = state.read_state(home).ports["s3-grpc"]
    assert f"seaweedfs-s3-grpc-{port}.sock" in sockets()
    services.stop(home)
    assert f"seaweedfs-s3-grpc-{port}.sock" not in sockets()


def test_crash_of_the_store_is_survived(home: Path) -> None:
    first = services.start(home, airflow=False)
    client(first, "publisher").put_object(Bucket="ecom", Key="kept", Body=b"content")
    crashed = store_of(home)
    os.kill(crashed.pid, signal.SIGKILL)
    assert processes.wait_until(lambda: not processes.running(crashed), 10)
    assert [each.name for each in services.ended(home)] == ["object-store"]
    with pytest.raises(ConfigError, match="No object store runs"):
        services.environment(home)
    second = services.start(home, airflow=False)
    answer = client(second, "consumer").get_object(Bucket="ecom", Key="kept")
    assert answer["Body"].read() == b"content"


def test_occupied_port_is_left_to_its_owner(home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        wanted = free_ports(object_store.PORTS) | {"s3": taken}
        state.write_state(home, state.State(wanted, []))
        started = services.start(home, airflow=False)
        assert started.endpoint != f"http://127.0.0.1:{taken}"
        client(started, "publisher").put_object(Bucket="ecom", Key="a", Body=b"")


def test_port_of_a_listener_on_all_interfaces_is_not_free() -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104
        other.listen()
        taken = other.getsockname()[1]
        assert free_ports({"any": taken})["any"] != taken


def test_ports_are_given_once() -> None:
    found = free_ports({"a": 18400, "b": 18400, "c": 18400})
    assert len(set(found.values())) == 3


def test_stop_leaves_strangers_alone(home: Path) -> None:
    # The stranger has the very number that was written down, but started at another time.
    stranger = subprocess.Popen(SLEEP, start_new_session=True, cwd=home.parent)
    try:
        written = Service(
            name="object-store", pid=stranger.pid, started="another boot/1", command=[],
            folder=str(home.parent), log="", settings="",
        )  # fmt: skip
        state.write_state(home, state.State({}, [written]))
        assert [each.running for each in services.status(home)] == [False]
        assert services.ended(home) == [written]
        assert services.stop(home) == []
        assert stranger.poll() is None
        assert state.read_state(home).services == []
    finally:
        stranger.kill()
        stranger.wait()


def test_stop_ends_what_a_dead_service_left_behind(home: Path) -> None:
    stranger = subprocess.Popen(SLEEP, start_new_session=True)
    try:
        crashed = launched(home, ORPHANING)
        assert processes.wait_until(lambda: not processes.running(crashed), 10)
        left = processes.members(crashed)
        assert len(left) == 1
        assert services.stop(home) == ["object-store"]
        assert processes.members(crashed) == []
        assert processes.started(left[0]) is None
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_stop_ends_children_too_and_the_deaf_at_last(home: Path) -> None:
    deaf = (
        "import signal, subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "time.sleep(600)\n"
    )
    service = launched(home, [sys.executable, "-c", deaf])
    log = home / "logs" / "x.log"
    assert processes.wait_until(lambda: log.read_text(encoding="utf-8") == "deaf\n", 20)
    assert len(processes.members(service)) == 2
    assert processes.end([service], grace=0.2) == ["object-store"]
    assert processes.members(service) == []


def test_a_changed_setting_restarts_the_service(home: Path) -> None:
    services.start(home, airflow=False)
    before = store_of(home)
    known = state.read_state(home)
    other = replace(before, settings="of an earlier version")
    state.write_state(home, replace(known, services=[other]))
    services.start(home, airflow=False)
    assert store_of(home).pid != before.pid
    assert not processes.running(before)


def test_server_that_ends_early_is_reported_with_its_log(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [sys.executable, "-c", "raise SystemExit('no room on the disk')"]
    monkeypatch.setattr(object_store, "command", lambda *_: failing)
    told: list[str] = []
    with pytest.raises(RetryableError, match="object-store ended: no room on the disk"):
        services.start(home, told.append, airflow=False)
    assert sum("Trying again" in line for line in told) == 2
    assert state.read_state(home).services == []


def test_only_one_command_at_a_time(home: Path) -> None:
    with state.locked(home), pytest.raises(RetryableError, match="Another command"):
        services.start(home, airflow=False)


def test_clean_removes_its_own_data_only(home: Path) -> None:
    services.start(home, airflow=False)
    mine = home / "notes.txt"
    mine.write_text("kept", encoding="utf-8")
    assert services.clean(home) == ["object-store"]
    assert [path.name for path in home.iterdir()] == ["notes.txt"]
    mine.unlink()
    services.clean(home)
    assert not home.exists()


def test_secrets_that_others_may_read_are_refused(home: Path) -> None:
    credentials.load(home)
    (home / "secrets.json").chmod(0o644)
    with pytest.raises(ConfigError, match="Other users may read"):
        services.start(home, airflow=False)


def test_secrets_differ_between_installations(tmp_path: Path) -> None:
    first, second = (vars(credentials.load(tmp_path / name)) for name in "ab")
    assert {name for name in first if first[name] == second[name]} == set()
    assert vars(credentials.load(tmp_path / "a")) == first


def test_mangled_state_is_explained(home: Path) -> None:
    (home / "services.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"services\.json is mangled"):
        services.start(home, airflow=False)
    (home / "services.json").unlink()


def test_services_learn_the_least_they_need(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_PRICING__LARGEST_STEP", "0.05")
    plan = draw(home, credentials.load(home))
    monkeypatch.setenv("ECOM_PSEUDONYM_KEY", plan.keys.pseudonym_key)
    secrets = vars(plan.keys)
    seen = {
        name: {field for field, value in secrets.items() if value in plan.settings(name).values()}
        for name in ("scheduler", "api-server", "dag-processor", "triggerer", "object-store")
    }
    assert seen["scheduler"] == {"publisher_key", "publisher_secret", "pseudonym_key"}
    assert seen["api-server"] == {"consumer_key", "consumer_secret"}
    assert seen["dag-processor"] == seen["triggerer"] == set()
    assert all(field.startswith("store_") for field in seen["object-store"])
    assert plan.settings("scheduler")["ECOM_PRICING__LARGEST_STEP"] == "0.05"


def test_services_are_not_reached_by_settings_of_the_shell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "postgres://reader@db/shop")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("no_proxy", "intranet")
    given = processes.inherited()
    assert not {"AIRFLOW__CORE__EXECUTOR", "PYTHONDONTWRITEBYTECODE", "AWS_PROFILE"} & set(given)
    assert given["AIRFLOW_CONN_SHOP"] == "postgres://reader@db/shop"
    assert given["NO_PROXY"] == given["no_proxy"] == "intranet,127.0.0.1,localhost"


def test_nobody_at_the_address_is_explained() -> None:
    port = free_ports({"any": 18500})["any"]
    with pytest.raises(RetryableError, match="Airflow does not answer"):
        AirflowApi(f"http://127.0.0.1:{port}", "admin", "x").get("pools")
