"""How each service of one installation is to be started: ports, command, environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from ecom_tasks.services import cluster, object_store, orchestrator, processes, state
from ecom_tasks.services.credentials import Credentials
from ecom_tasks.services.ports import free_ports

ROOT = f"s3://{object_store.BUCKET}"
STORE = (object_store.NAME,)
_OWNER = {
    **dict.fromkeys(object_store.PORTS, object_store.NAME),
    **dict.fromkeys(orchestrator.PORTS, "api-server"),
    **cluster.OWNER,
}
"""Port -> the service that listens there."""


@dataclass(frozen=True)
class Blueprint:
    """One folder with its secrets, its ports, and the root that its flows work under.

    Attributes
    ----------
    cluster : Celery workers run the tasks and Dask workers the buckets, instead of the scheduler.
    """

    home: Path
    keys: Credentials
    ports: dict[str, int]
    root: str
    cluster: bool = False

    @property
    def airflow(self) -> tuple[str, ...]:
        """Airflow's components, those that run the tasks included."""
        return (*orchestrator.COMPONENTS, *(cluster.CELERY if self.cluster else ()))

    @property
    def runners(self) -> tuple[str, ...]:
        """Those of them whose processes run the steps."""
        return cluster.CELERY if self.cluster else ("scheduler",)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['airflow']}"

    def folder(self, name: str) -> Path:
        if name in STORE:
            return self.home / "store"
        if name in cluster.BACKING or name in cluster.DASK:
            return self.home / name
        return self.home / "airflow"

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def command(self, name: str) -> list[str]:
        if name in STORE:
            return object_store.command(self.folder(name), self.ports)
        if name not in orchestrator.COMPONENTS:
            return cluster.command(name, self.folder(name), self.ports)
        return orchestrator.command(*orchestrator.COMPONENTS[name])

    def settings(self, name: str) -> dict[str, str]:
        """Environment of a service: each learns the least it needs of the store."""
        if name in STORE:
            return object_store.settings(self.keys)
        if name in cluster.BACKING or name == cluster.SCHEDULER:
            return cluster.dask_settings() if name == cluster.SCHEDULER else {}
        ours = {
            key: value
            for key, value in os.environ.items()
            if key.startswith("ECOM_") and key != "ECOM_PSEUDONYM_KEY"
        }
        ours |= {"ECOM_HOME": str(self.home), "ECOM_GPUS": orchestrator.gpus()}
        if self.cluster:
            ours |= {"ECOM_DASK": cluster.address(self.ports)}
        if name in cluster.DASK_WORKERS:
            return ours | cluster.dask_settings() | self.store_settings("publisher")
        ours |= orchestrator.settings(self.folder(name))
        if name in self.runners:
            return ours | self.store_settings("publisher")
        if name == "api-server":  # its pages only show what lies there
            return ours | self.store_settings("consumer")
        return ours

    def store_settings(self, identity: str) -> dict[str, str]:
        """What a process needs to reach the store as `publisher` or `consumer`."""
        key, secret = self.keys.pair(identity)
        settings = {
            "ECOM_ROOT": self.root,
            "ECOM_S3_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": object_store.REGION,
        }
        if identity == "publisher":
            own = os.environ.get("ECOM_PSEUDONYM_KEY")
            settings["ECOM_PSEUDONYM_KEY"] = own or self.keys.pseudonym_key
        return settings

    def fingerprint(self, name: str) -> str:
        return processes.fingerprint(self.command(name), self.settings(name))


def draw(home: Path, keys: Credentials) -> Blueprint:
    """Settle the ports: those of what runs; for the rest the earlier ones where still free."""
    known = state.read_state(home)
    alive = {service.name for service in known.services if processes.running(service)}
    wanted = object_store.PORTS | orchestrator.PORTS
    wanted |= (cluster.PORTS if known.cluster else {}) | known.ports
    kept = {name: port for name, port in wanted.items() if _OWNER[name] in alive}
    missing = {name: port for name, port in wanted.items() if name not in kept}
    ports = kept | free_ports(missing)
    state.write_state(home, replace(known, ports=ports))
    return Blueprint(home, keys, ports, known.root or ROOT, known.cluster)


def launch(plan: Blueprint, names: tuple[str, ...]) -> None:
    """Start services; each is written down at once, so that a crash of ours loses none."""
    for name in names:
        service = processes.launch(
            name,
            plan.command(name),
            settings=plan.settings(name),
            folder=plan.folder(name),
            log=plan.log(name),
        )
        known = state.read_state(plan.home)
        others = [other for other in known.services if other.name != name]
        state.write_state(plan.home, replace(known, services=[*others, service]))


def as_planned(plan: Blueprint, names: tuple[str, ...]) -> bool:
    """Whether all these services run with the very settings that they would get now."""
    found = {service.name: service for service in state.read_state(plan.home).named(*names)}
    return all(
        name in found
        and processes.running(found[name])
        and found[name].settings == plan.fingerprint(name)
        for name in names
    )
