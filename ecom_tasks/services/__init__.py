"""The services of one machine: an object store and Airflow, embedded, on loopback only.

Everything they are lies in one folder (`.ecom`, or where `ECOM_HOME` says):

    secrets.json    keys and the login, made once, readable by the owner only
    services.json   what was launched: process number, start time, command, ports
    store/          the bucket
    postgres/ redis/ dask-*/   of a cluster: what Airflow stands on, and Dask's scratch folders
    airflow/        Airflow's database, settings and task logs
    logs/           what the services themselves say

Linux only: processes are told apart by what `/proc` says of them.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from ecom_tasks.errors import ConfigError, RetryableError
from ecom_tasks.services import cluster as clusters
from ecom_tasks.services import credentials, object_store, orchestrator, processes, state
from ecom_tasks.services.api import AirflowApi
from ecom_tasks.services.blueprint import ROOT, STORE, Blueprint, as_planned, draw, launch
from ecom_tasks.services.command import command as command
from ecom_tasks.services.credentials import Credentials

log = logging.getLogger(__name__)
_STARTS = 3
_PATIENCE_S = 180.0
_OWNED = (
    "airflow", "logs", "pulled", "sample-store", "store", "lock", "secrets.json", "services.json",
    *clusters.BACKING, *clusters.DASK,
)  # fmt: skip


@dataclass(frozen=True)
class Services:
    """Running services, and how to reach them.

    Attributes
    ----------
    environment : what a step needs to reach the store; holds secrets, so it is not printed.
    fresh : whether Airflow was started just now, not found at work.
    """

    home: Path
    endpoint: str
    airflow_url: str
    airflow_user: str
    airflow_password: str = field(repr=False)
    environment: dict[str, str] = field(repr=False)
    fresh: bool
    root: str

    def api(self) -> AirflowApi:
        return AirflowApi(self.airflow_url, self.airflow_user, self.airflow_password)


@dataclass(frozen=True)
class Status:
    """One service: where it listens, whether it runs, what it and its children hold."""

    name: str
    running: bool
    pid: int
    address: str
    memory_bytes: int
    log: str


def home_folder(home: str | Path | None = None) -> Path:
    """Where the services live: the argument, else `ECOM_HOME`, else `.ecom` of the project."""
    return Path(home or os.environ.get("ECOM_HOME") or orchestrator.PROJECT / ".ecom").resolve()


def start(
    home: str | Path | None = None,
    say: Callable[[str], None] = log.info,
    *,
    airflow: bool = True,
    shop: str = "",
    cluster: bool = False,
) -> Services:
    """Start what does not run yet, and return when all of it answers.

    Parameters
    ----------
    say : called with each line of progress.
    airflow : False starts the object store alone.
    shop : whose prefix of the bucket the flows work under, so that shops do not mix; what a key
        had better not hold is a dash in it. Airflow is started anew where it worked under another
        one. Empty: where it worked last.
    cluster : with PostgreSQL, Redis, Celery workers and Dask workers, as on several machines. A
        folder stays what it was made as.

    Raises
    ------
    ConfigError
        The folder was made for one machine, or a program that a cluster needs is not installed.
    RetryableError
        A service did not become ready; all of them are ended again.
    """
    folder = home_folder(home)
    with state.locked(folder):
        keys = credentials.load(folder)
        if cluster:
            _make_cluster(folder)
        if shop:
            known = state.read_state(folder)
            place = re.sub(r"[^A-Za-z0-9._-]+", "-", shop)
            state.write_state(folder, replace(known, root=f"{ROOT}/{place}"))
        try:
            return _start_again(folder, keys, say, airflow=airflow)
        except BaseException:
            _end(folder)
            raise


def _make_cluster(folder: Path) -> None:
    clusters.programs()
    known = state.read_state(folder)
    if not known.cluster and (folder / "airflow").exists():
        raise ConfigError(
            f"{folder} holds the services of one machine",
            "Let ECOM_HOME name another folder, or remove this one's data: make clean",
        )
    state.write_state(folder, replace(known, cluster=True))


class _EndedEarlyError(Exception):
    """A service ended while it was waited for."""


def _start_again(
    folder: Path, keys: Credentials, say: Callable[[str], None], *, airflow: bool
) -> Services:
    for _ in range(_STARTS - 1):
        try:
            return _start(folder, keys, say, airflow=airflow)
        except _EndedEarlyError as error:
            # Often a port that somebody took between our look and the server's.
            say(f"{error}. Trying again")
    try:
        return _start(folder, keys, say, airflow=airflow)
    except _EndedEarlyError as error:
        raise RetryableError(str(error), "Read its log, then start again") from error


def _start(
    folder: Path, keys: Credentials, say: Callable[[str], None], *, airflow: bool
) -> Services:
    plan = draw(folder, keys)
    store_fresh = not (as_planned(plan, STORE) and object_store.ready(plan.endpoint, keys))
    if store_fresh:
        _end(folder, STORE)
        plan = draw(folder, keys)
        say(f"Starting the object store on {plan.endpoint}")
        object_store.prepare(plan.folder(object_store.NAME), keys)
        launch(plan, STORE)
    if airflow and plan.cluster:
        plan = _start_cluster(plan, say)
    fresh = airflow and not (as_planned(plan, plan.airflow) and orchestrator.healthy(_api(plan)))
    if fresh:
        _end(folder, plan.airflow)
        plan = draw(folder, keys)
        say(f"Starting Airflow on {plan.airflow_url}")
        further = clusters.sections(plan.ports, keys) if plan.cluster else {}
        orchestrator.prepare(folder / "airflow", plan.airflow_url, keys, further)
    with orchestrator.migrated(folder / "airflow", plan.log("db-migrate"), wanted=fresh):
        if store_fresh:
            _wait(plan, STORE, lambda: object_store.ready(plan.endpoint, keys))
    if fresh:
        since = datetime.now(UTC)
        launch(plan, plan.airflow)
        _wait(plan, plan.airflow, lambda: orchestrator.healthy(_api(plan), since))
        if plan.cluster:
            _wait(plan, clusters.CELERY, lambda: clusters.celery_ready(plan.ports, keys))
        orchestrator.ensure_pools(_api(plan))
    return Services(
        home=folder,
        endpoint=plan.endpoint,
        airflow_url=plan.airflow_url if airflow else "",
        airflow_user=orchestrator.USER,
        airflow_password=keys.airflow_password,
        environment=plan.store_settings("publisher"),
        fresh=fresh,
        root=plan.root,
    )


def _start_cluster(plan: Blueprint, say: Callable[[str], None]) -> Blueprint:
    """Start database, broker and Dask where they do not run; return the plan with their ports."""
    parts: dict[tuple[str, ...], Callable[[Blueprint], bool]] = {
        clusters.BACKING: lambda each: clusters.backing_ready(each.ports, each.keys),
        clusters.DASK: lambda each: clusters.dask_ready(each.ports),
    }
    for names, ready in parts.items():
        if as_planned(plan, names) and ready(plan):
            continue
        _end(plan.home, names)
        plan = draw(plan.home, plan.keys)
        say(f"Starting {', '.join(names)} on 127.0.0.1")
        if names == clusters.BACKING:
            clusters.prepare(plan.home, plan.ports, plan.keys)
        launch(plan, names)
        _wait(plan, names, lambda plan=plan, ready=ready: ready(plan))  # type: ignore[misc]
    return plan


def _api(plan: Blueprint) -> AirflowApi:
    return AirflowApi(plan.airflow_url, orchestrator.USER, plan.keys.airflow_password)


def _wait(plan: Blueprint, names: tuple[str, ...], ready: Callable[[], bool]) -> None:
    services = state.read_state(plan.home).named(*names)

    def ended() -> list[str]:
        return [service.name for service in services if not processes.running(service)]

    if not processes.wait_until(lambda: bool(ended()) or ready(), _PATIENCE_S):
        raise RetryableError(
            f"{', '.join(names)} did not become ready within {_PATIENCE_S:.0f} s",
            f"Read the logs in {plan.home / 'logs'}",
        )
    for name in ended():
        raise _EndedEarlyError(f"{name} ended: {orchestrator.last_lines(plan.log(name))}")


def stop(home: str | Path | None = None) -> list[str]:
    """End exactly what `start` started, with all that it forked; return the names."""
    folder = home_folder(home)
    if not folder.exists():
        return []
    with state.locked(folder):
        return _end(folder)


def _end(folder: Path, names: tuple[str, ...] = ()) -> list[str]:
    """End the services of these names, or all."""
    known = state.read_state(folder)
    names = names or tuple(service.name for service in known.services)
    # What asks goes before what answers: a task at work still writes down that it was ended.
    answering = ({"api-server", *STORE, *clusters.DASK}, set(clusters.BACKING))
    asking = {*names}.difference(*answering)
    ended = []
    for part in (asking, *answering):
        ended += processes.end([s for s in known.named(*names) if s.name in part])
    if object_store.NAME in ended:
        object_store.sweep(known.ports)
    left = [service for service in known.services if service.name not in names]
    if known.services:
        state.write_state(folder, replace(known, services=left))
    return ended


def clean(home: str | Path | None = None) -> list[str]:
    """End the services and remove their data: bucket, Airflow's history, secrets, logs."""
    folder = home_folder(home)
    ended = stop(folder)
    for name in _OWNED:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
    return ended


def status(home: str | Path | None = None) -> list[Status]:
    """Tell of each service that was started whether it runs, and what it holds."""
    folder = home_folder(home)
    known = state.read_state(folder)
    addresses = {object_store.NAME: "s3", "api-server": "airflow"}
    found = []
    for service in known.services:
        port = known.ports.get(addresses.get(service.name, ""))
        found.append(
            Status(
                name=service.name,
                running=processes.running(service),
                pid=service.pid,
                address=f"http://127.0.0.1:{port}" if port else "",
                memory_bytes=processes.memory(processes.members(service)),
                log=service.log,
            )
        )
    return found


def ended(home: str | Path | None = None) -> list[processes.Service]:
    """Return the services that were started, not stopped, and no longer run."""
    services = state.read_state(home_folder(home)).services
    return [service for service in services if not processes.running(service)]


def needed(gone: list[processes.Service]) -> list[processes.Service]:
    """Return those of the ended services whose work nobody else does."""
    names = {service.name for service in gone}
    spared = {name for kind in clusters.ALIKE if not names.issuperset(kind) for name in kind}
    return [service for service in gone if service.name not in spared]


def memory_bytes(home: str | Path | None = None) -> int:
    """Bytes that all services and the steps they run hold together at this moment."""
    services = state.read_state(home_folder(home)).services
    return processes.memory(processes.members(*services))


def environment(home: str | Path | None = None, identity: str = "publisher") -> dict[str, str]:
    """Environment that a step needs to reach the running store; it holds secrets.

    Parameters
    ----------
    identity : `publisher` may read and write, `consumer` only read.

    Raises
    ------
    ConfigError
        The store does not run.
    """
    folder = home_folder(home)
    known = state.read_state(folder)
    if not any(processes.running(service) for service in known.named(object_store.NAME)):
        raise ConfigError(
            f"No object store runs from {folder}", "Start it: python -m ecom_tasks services start"
        )
    plan = Blueprint(
        folder, credentials.load(folder), known.ports, known.root or ROOT, known.cluster
    )
    return plan.store_settings(identity)
