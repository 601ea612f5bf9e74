"""Airflow on loopback: its settings, its four components, and when they are ready.

`airflow standalone` is not used: asked to end, it leaves its scheduler and API server behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from ecom_tasks.errors import ConfigError, RetryableError
from ecom_tasks.services.api import AirflowApi
from ecom_tasks.services.credentials import Credentials
from ecom_tasks.services.processes import inherited
from ecom_tasks.services.state import write_private

PORTS = {"airflow": 8080}
USER = "admin"
# The two log servers would listen on every interface; the logs lie on this disk anyway.
COMPONENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
POOL = "compute"
SLOTS = 2
GPU_POOL = "gpu"
_MIGRATION_S = 300
PROJECT = Path(__file__).resolve().parents[2]


def prepare(
    folder: Path,
    url: str,
    credentials: Credentials,
    further: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Write Airflow's settings and login; `AIRFLOW_HOME=<folder> airflow ...` works with them.

    Parameters
    ----------
    further : section -> settings that replace those of one machine.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(
        folder / "passwords.json", json.dumps({USER: credentials.airflow_password}) + "\n"
    )
    sections = _sections(folder, url, credentials)
    for section, options in (further or {}).items():
        sections[section] = {**sections.get(section, {}), **options}
    lines = []
    for section, options in sections.items():
        lines.append(f"[{section}]")
        # The file's parser takes a percent sign for a reference.
        lines += [f"{name} = {str(value).replace('%', '%%')}" for name, value in options.items()]
    write_private(folder / "airflow.cfg", "\n".join(lines) + "\n")


def _sections(folder: Path, url: str, credentials: Credentials) -> dict[str, dict[str, object]]:
    return {
        "core": {
            "load_examples": False,
            "dags_folder": PROJECT / "dags",
            "plugins_folder": PROJECT / "plugins",
            "executor": "LocalExecutor",
            # Each worker holds some 40 MB while idle and 150 MB while it runs a task.
            "parallelism": SLOTS + 1,
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": folder / "passwords.json",
            "execution_api_server_url": f"{url}/execution/",
            "fernet_key": credentials.airflow_fernet,
        },
        # SQLite lets one write at a time; on a busy machine the others wait longer than 5 s.
        "database": {"sql_alchemy_conn": f"sqlite:///{folder / 'airflow.db'}?timeout=60"},
        "logging": {"base_log_folder": folder / "logs", "colored_console_log": False},
        "api": {
            "host": "127.0.0.1",
            "port": urlsplit(url).port,
            "base_url": url,
            "workers": 1,
            "secret_key": credentials.airflow_session,
            "instance_name": "ecom",
        },
        "api_auth": {"jwt_secret": credentials.airflow_jwt},
        "scheduler": {
            "catchup_by_default": False,
            # Between looks of a scheduler that found nothing to do: a chain of short tasks waits
            # for it at every link.
            "scheduler_idle_sleep_time": 0.25,
            "task_instance_heartbeat_timeout": 60,
            "task_instance_heartbeat_timeout_detection_interval": 15,
        },
        "dag_processor": {
            "dag_bundle_storage_path": folder / "bundles",
            "parsing_processes": 1,
            # The first pass finds the DAGs; a changed file is then picked up within a minute.
            "refresh_interval": 60,
            "min_file_process_interval": 60,
        },
        "usage_data_collection": {"enabled": False},
    }


def settings(folder: Path) -> dict[str, str]:
    """Environment of every Airflow command; everything else stands in its own file."""
    return {
        "AIRFLOW_HOME": str(folder),
        "PYTHONPATH": str(PROJECT),
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",
        # Of a library of Airflow's; it would stand in the log of every task.
        "PYTHONWARNINGS": "ignore:GitWildMatchPattern",
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *arguments]


@contextmanager
def migrated(folder: Path, log: Path, *, wanted: bool) -> Iterator[None]:
    """Make or upgrade the tables while the body runs, unless this version has done so before.

    Raises
    ------
    ConfigError
        The tables cannot be made.
    """
    marker = folder / "migrated"
    ours = version("apache-airflow-core")
    if not wanted or (marker.exists() and marker.read_text(encoding="utf-8") == ours):
        yield
        return
    marker.unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command("db", "migrate"),
            env=inherited() | settings(folder),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            umask=0o077,
        )
    try:
        yield
        failed = process.wait(timeout=_MIGRATION_S)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if failed:
        raise ConfigError(
            f"Airflow could not make its tables in {folder}: {last_lines(log)}",
            f"See {log}; `make clean` removes the folder",
        )
    marker.write_text(ours, encoding="utf-8")


def healthy(api: AirflowApi, since: datetime | None = None) -> bool:
    """Whether the API answers a login and all components are at work.

    The part of the API that tasks talk to is built at its first question, which takes seconds: it
    is asked here, so that the first task does not lose its patience.

    Parameters
    ----------
    since : only a heartbeat after this moment counts; the database still holds those of
        components that were stopped a moment ago.
    """
    try:
        health = api.get("monitor/health")
        api.answers("/execution/health")
        api.get("pools")
    except (RetryableError, ConfigError):
        return False
    beats = []
    for name in ("scheduler", "dag_processor", "triggerer"):
        part = health.get(name) or {}
        beat = part.get(f"latest_{name}_heartbeat")
        if part.get("status") != "healthy" or not beat:
            return False
        beats.append(datetime.fromisoformat(beat))
    return since is None or min(beats) >= since


def ensure_pools(api: AirflowApi) -> None:
    """Make the pools of heavy steps and of GPUs.

    The size of the first is left alone where somebody changed it; that of the second is the number
    of devices, always.
    """
    known = {pool["name"]: pool["slots"] for pool in api.get("pools", limit=100)["pools"]}
    if POOL not in known:
        description = "Heavy steps: one slot for about 2 GiB of memory"
        api.post("pools", {"name": POOL, "slots": SLOTS, "description": description})
    devices = int(gpus())
    if GPU_POOL not in known:
        description = "Training on a GPU: one slot a device"
        api.post("pools", {"name": GPU_POOL, "slots": devices, "description": description})
    elif known[GPU_POOL] != devices:
        api.patch(f"pools/{GPU_POOL}?update_mask=slots", {"slots": devices})


def gpus() -> str:
    """How many GPUs tasks may ask for: `ECOM_GPUS`, else those that this machine shows."""
    shown = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return os.environ.get("ECOM_GPUS") or str(shown)


def last_lines(log: Path, count: int = 5) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "no log was written"
    return " | ".join(line.strip()[:300] for line in lines[-count:] if line.strip())
