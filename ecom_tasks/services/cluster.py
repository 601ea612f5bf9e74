"""The further services of a cluster on one machine: PostgreSQL, Redis, Dask, Celery workers.

The same processes as in containers, each on loopback with a password of its own. PostgreSQL and
Redis are Debian's programs, run from a folder of ours; Debian's own services are left alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from ecom_tasks.errors import ConfigError
from ecom_tasks.services.credentials import Credentials
from ecom_tasks.services.processes import inherited
from ecom_tasks.services.state import write_private

DATABASE = "postgres"
BROKER = "redis"
SCHEDULER = "dask-scheduler"
BACKING = (DATABASE, BROKER)
DASK_WORKERS = ("dask-worker-1", "dask-worker-2")
DASK = (SCHEDULER, *DASK_WORKERS)
CELERY = ("celery-worker-1", "celery-worker-2")
ALIKE = (DASK_WORKERS, CELERY)
"""What one of a kind leaves undone, another does."""
PORTS = {"postgres": 15432, "redis": 16379, "dask": 18786}
"""First choice of each port; not those of a server that the machine may have already."""
OWNER = {"postgres": DATABASE, "redis": BROKER, "dask": SCHEDULER}
NEEDED = "apt-get install postgresql redis-server"
_USER = "postgres"
_ROLE = "airflow"
_CONCURRENCY = 2
# Without a dashboard its server still runs, for probes, and would do so on every interface.
_QUIET = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")
_RETRY_S = 30
_WORKER_MEMORY = "2GiB"


def programs() -> dict[str, Path]:
    """Paths of `initdb`, `postgres` and `redis-server`.

    Raises
    ------
    ConfigError
        One of them is not installed.
    """
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major)[-1:]
    folders = os.pathsep.join([*map(str, newest), os.environ.get("PATH", os.defpath)])
    names = ("initdb", "postgres", "redis-server")
    found = {name: shutil.which(name, path=folders) for name in names}
    if missing := [name for name, path in found.items() if path is None]:
        raise ConfigError(
            f"A cluster needs PostgreSQL and Redis; {', '.join(missing)} cannot be found",
            f"Install Debian's packages: {NEEDED} (their own services are not used)",
        )
    return {name: Path(path) for name, path in found.items() if path}


def _major(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdecimal() else 0


def _unprivileged() -> list[str]:
    """What makes PostgreSQL, which refuses root, run as another user.

    It keeps one right of root's: to look into folders of others, since ours are private.
    """
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups",
            "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # fmt: skip


def prepare(folder: Path, ports: dict[str, int], keys: Credentials) -> None:
    """Make the database's files, once, and write the broker's settings.

    Parameters
    ----------
    folder : the installation's; each service has a folder of its own in it.
    """
    found = programs()
    _make_database(found["initdb"], folder / DATABASE, keys)
    broker = folder / BROKER
    broker.mkdir(parents=True, exist_ok=True, mode=0o700)
    # In a file: everybody on the machine can read the arguments of a process.
    options = {
        "bind": "127.0.0.1", "port": ports["redis"], "requirepass": keys.broker_password,
        "dir": broker, "save": '""', "appendonly": "no", "daemonize": "no",
    }  # fmt: skip
    text = "".join(f"{name} {value}\n" for name, value in options.items())
    write_private(broker / "redis.conf", text)


def _make_database(initdb: Path, folder: Path, keys: Credentials) -> None:
    data = folder / "data"
    if (data / "PG_VERSION").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    data.mkdir(parents=True, mode=0o700)
    password = folder / "password"
    write_private(password, keys.database_password + "\n")
    if _unprivileged():
        for path in (folder, data, password):
            shutil.chown(path, _USER, _USER)
    done = subprocess.run(
        [*_unprivileged(), str(initdb), "--pgdata", str(data), "--username", _ROLE,
         "--auth", "scram-sha-256", "--pwfile", str(password), "--encoding", "UTF8",
         "--locale", "C.UTF-8"],
        env=inherited(), cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    password.unlink()
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise ConfigError(
            f"PostgreSQL cannot make its files in {data}: {done.stderr.strip()[-300:]}",
            f"Correct that; as root a user {_USER!r} is needed, which Debian's package makes",
        )


def command(name: str, folder: Path, ports: dict[str, int]) -> list[str]:
    """Spell the start of a service.

    Parameters
    ----------
    folder : the service's own.
    """
    dask = [sys.executable, "-m", "dask"]
    match name:
        case "postgres":
            options = {
                "listen_addresses": "127.0.0.1", "port": ports["postgres"],
                "unix_socket_directories": "", "max_connections": 100,
            }  # fmt: skip
            settings = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
            return [*_unprivileged(), str(programs()["postgres"]), "-D", str(folder / "data"),
                    *settings]  # fmt: skip
        case "redis":
            return [str(programs()["redis-server"]), str(folder / "redis.conf")]
        case "dask-scheduler":
            return [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(ports["dask"]),
                    *_QUIET, "--no-jupyter"]  # fmt: skip
        case _ if name in DASK_WORKERS:
            return [*dask, "worker", address(ports), "--name", name, "--host", "127.0.0.1",
                    "--nworkers", "1", "--nthreads", "1", "--memory-limit", _WORKER_MEMORY,
                    *_QUIET, "--local-directory", str(folder)]  # fmt: skip
        case _ if name in CELERY:
            # The log server would listen on every interface; the logs lie on this disk anyway.
            return [sys.executable, "-m", "airflow", "celery", "worker", "--skip-serve-logs",
                    "--without-mingle", "--without-gossip",
                    "--celery-hostname", f"{name}@%h"]  # fmt: skip
    raise KeyError(name)


def address(ports: dict[str, int]) -> str:
    """Where the Dask scheduler is to be reached."""
    return f"tcp://127.0.0.1:{ports['dask']}"


def dask_settings() -> dict[str, str]:
    """Environment of Dask's processes: one core each, as those of a local cluster."""
    return {
        "POLARS_MAX_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONUNBUFFERED": "1",
    }


def sections(ports: dict[str, int], keys: Credentials) -> dict[str, dict[str, Any]]:
    """Airflow's settings where they differ from those of one machine."""
    url = f"postgresql+psycopg://{_ROLE}:{keys.database_password}@127.0.0.1:{ports['postgres']}/{_ROLE}"
    return {
        "core": {
            "executor": "CeleryExecutor",
            "parallelism": len(CELERY) * _CONCURRENCY,
            # A task whose worker died begins again after this, not after five minutes.
            "default_task_retry_delay": _RETRY_S,
        },
        "database": {"sql_alchemy_conn": url, "sql_alchemy_conn_async": url},
        "celery": {
            "broker_url": f"redis://:{keys.broker_password}@127.0.0.1:{ports['redis']}/0",
            "result_backend": f"db+{url}",
            "worker_concurrency": _CONCURRENCY,
            # Who did a task stands beside its result.
            "extra_celery_config": json.dumps({"result_extended": True}),
        },
        # Longer than any task takes: the broker would hand one out again.
        "celery_broker_transport_options": {"visibility_timeout": 86400},
    }


def backing_ready(ports: dict[str, int], keys: Credentials) -> bool:
    """Whether database and broker answer; makes Airflow's database where there is none yet."""
    import psycopg
    import redis

    place: dict[str, Any] = {"host": "127.0.0.1", "port": ports["postgres"], "user": _ROLE,
                             "password": keys.database_password, "connect_timeout": 2}  # fmt: skip
    try:
        with (
            psycopg.connect(dbname="postgres", autocommit=True, **place) as connection,
            suppress(psycopg.errors.DuplicateDatabase),
        ):
            connection.execute(f"CREATE DATABASE {_ROLE}")
        with redis.Redis("127.0.0.1", ports["redis"], password=keys.broker_password) as server:
            return bool(server.ping())
    except (psycopg.OperationalError, redis.RedisError):
        return False


def dask_ready(ports: dict[str, int]) -> bool:
    """Whether the scheduler answers and has its workers."""
    from distributed import Client

    try:
        with Client(address(ports), timeout="5s") as client:
            return len(client.scheduler_info(n_workers=-1)["workers"]) == len(DASK_WORKERS)
    except OSError:
        return False


def celery_ready(ports: dict[str, int], keys: Credentials) -> bool:
    """Whether all Celery workers take tasks from the broker."""
    from celery import Celery
    from kombu.exceptions import OperationalError

    url = f"redis://:{keys.broker_password}@127.0.0.1:{ports['redis']}/0"
    with Celery(broker=url) as app:
        try:
            answers = app.control.ping(timeout=1.0)
        except OperationalError:
            return False
    return len(answers) == len(CELERY)
