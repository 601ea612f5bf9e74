"""The one place where a domain is registered."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Flow, Ref, Run, run_locally

DOMAINS = {
    "ingestion": "ecom_tasks.ingestion.tasks",
    "features": "ecom_tasks.features.tasks",
    "recommendation": "ecom_tasks.recommendation.tasks",
    "pricing": "ecom_tasks.pricing.tasks",
    "inventory": "ecom_tasks.inventory.tasks",
    "monitoring": "ecom_tasks.monitoring.tasks",
}
UPSTREAM = {
    "ingestion": (),
    "features": ("ingestion",),
    "recommendation": ("ingestion", "features"),
    "pricing": ("ingestion", "features"),
    "inventory": ("ingestion", "features"),
    "monitoring": ("ingestion", "features"),
}
RELEASING = ("recommendation", "pricing", "inventory")
"""Domains whose last task puts a release into service."""
PUBLISHING = "publish_release"
"""The name of that task."""
TRAINING_ANEW: dict[str, dict[str, object]] = {"recommendation": {"retrain_days": 1}}
"""Domain -> settings by which its models are of the day itself, where they may be older."""


def flow_of(domain: str) -> Flow:
    return cast(Flow, _tasks(domain).flow)


def run_with_upstream(domain: str, run: Run) -> Ref:
    """Run a flow and, where the run names a source, the flows that it needs.

    Finished work is found, so the upstream flows cost little when nothing has changed.
    """
    if run.source:
        for upstream in UPSTREAM[domain]:
            run_locally(flow_of(upstream), run)
    return run_locally(flow_of(domain), run)


def run_task(domain: str, task: str, run: Run, inputs: list[Ref]) -> Ref:
    """Run one task of a flow; raise `ConfigError` when the flow has no such task."""
    tasks: dict[str, Any] = {}

    def record(function: Any, /, *_: Any, **__: Any) -> Ref:
        tasks[function.__name__] = function
        return Ref("")

    flow_of(domain)(cast(Any, record))
    if task not in tasks:
        raise ConfigError(f"{domain} has no task {task!r}", f"It has: {', '.join(tasks)}")
    return cast(Ref, tasks[task](run, *inputs))


def _tasks(domain: str) -> Any:
    if domain not in DOMAINS:
        raise ConfigError(f"There is no domain {domain!r}", f"Domains: {', '.join(DOMAINS)}")
    return import_module(DOMAINS[domain])
