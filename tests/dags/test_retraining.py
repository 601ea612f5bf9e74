"""Who is told of alerts, and when training is asked for: once a day and domain."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Self

import ecom_retraining
import pytest
from airflow.sdk.exceptions import AirflowSkipException
from ecom_airflow import RETRAIN
from ecom_retraining import RetrainOperator

from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.domains import DOMAINS, TRAINING_ANEW
from ecom_tasks.run import Run

LISTS = {"domain": "recommendation", "retrain": True, "text": "recommendation: hit rate fell"}
HOLE = {"domain": "inventory", "retrain": False, "text": "inventory: values are missing"}


@dataclass
class Event:
    extra: dict[str, Any] = field(default_factory=dict)
    partitions: list[str] = field(default_factory=list)

    def add_partitions(self, key: str) -> None:
        self.partitions.append(key)


class Earlier(list[Event]):
    """Events of the asset, as Airflow hands them to a task."""

    def ascending(self, _: bool) -> Self:  # noqa: FBT001
        return self

    def limit(self, _: int) -> Self:
        return self


@dataclass
class Asked:
    """What became of one run of the task."""

    event: Event
    skipped: bool
    told: list[str]


@pytest.fixture
def ask(run: Run, monkeypatch: pytest.MonkeyPatch) -> Any:
    def asked(
        alerts: list[dict[str, Any]], earlier: list[Event], *, made_by: str = "test"
    ) -> Asked:
        def build(draft: Draft) -> None:
            draft.metrics["alerts"] = alerts

        build.__module__ = "ecom_tasks.monitoring.tasks"
        # Each list of alerts is a version of its own.
        name = f"monitoring/{abs(hash(str(alerts)))}-{made_by}"
        ref = dataset.produce(Run(made_by, run.as_of, run.root), name, build)
        told: list[str] = []
        monkeypatch.setattr(ecom_retraining, "current_run", lambda _: run)
        monkeypatch.setattr(ecom_retraining, "notify", lambda _c, _s, lines: told.extend(lines))
        context: Any = {
            "inlet_events": {RETRAIN: Earlier(earlier)}, "outlet_events": {RETRAIN: Event()},
        }  # fmt: skip
        operator = RetrainOperator(task_id="ask", findings=ref, outlets=[RETRAIN])
        try:
            operator.execute(context)
        except AirflowSkipException:
            return Asked(context["outlet_events"][RETRAIN], skipped=True, told=told)
        return Asked(context["outlet_events"][RETRAIN], skipped=False, told=told)

    return asked


def test_without_an_alert_nothing_happens(ask: Any) -> None:
    assert ask([], []) == Asked(Event(), skipped=True, told=[])


def test_an_alert_is_told_and_asks_for_training(ask: Any, run: Run) -> None:
    found = ask([LISTS, HOLE], [])
    assert found.told == [LISTS["text"], HOLE["text"]]
    assert not found.skipped
    assert found.event.partitions == [run.as_of.isoformat()]
    assert found.event.extra["as_of"] == run.as_of.isoformat()
    assert found.event.extra["domains"] == ["recommendation"]


def test_what_training_cannot_help_is_told_only(ask: Any) -> None:
    assert ask([HOLE], []) == Asked(Event(), skipped=True, told=[HOLE["text"]])


def test_a_day_and_domain_are_asked_for_once(ask: Any) -> None:
    before = ask([LISTS], []).event
    assert ask([LISTS], [before]).skipped
    more = ask([LISTS, HOLE | {"retrain": True}], [before])
    assert more.event.extra["domains"] == ["inventory"]
    other_day = Event(before.extra | {"as_of": date(2020, 1, 1).isoformat()})
    assert not ask([LISTS], [other_day]).skipped


def test_findings_found_finished_are_not_told_again(ask: Any) -> None:
    assert ask([LISTS], [], made_by="an earlier run").told == []


def test_overrides_of_the_run_stay_and_training_is_forced(run: Run) -> None:
    given = Run("r", run.as_of, run.root, overrides={
        "recommendation": {"top_k": 8, "retrain_days": 7}, "pricing": {"largest_step": 0.05},
    })  # fmt: skip
    assert ecom_retraining.training(given, ["inventory", "recommendation"]) == {
        "recommendation": {"top_k": 8, "retrain_days": 1}, "pricing": {"largest_step": 0.05},
    }  # fmt: skip
    assert ecom_retraining.training(given, ["inventory"]) == given.overrides


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_forces_training_is_a_setting(domain: str) -> None:
    from importlib import import_module

    from ecom_tasks.config import DomainConfig

    module = import_module(f"ecom_tasks.{domain}.config")
    known = [
        each for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, DomainConfig) and each is not DomainConfig
    ]  # fmt: skip
    assert set(TRAINING_ANEW.get(domain, {})) <= {
        name for each in known for name in each.model_fields
    }
