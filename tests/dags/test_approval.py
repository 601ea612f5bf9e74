"""A release that a person must approve waits; no answer rejects; the approver is remembered."""

from __future__ import annotations

import runpy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import ecom_approval
import pytest
from ecom_approval import PromoteOperator, question

from ecom_tasks.artefacts import dataset, release
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.domains import RELEASING
from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Ref, Run

NAME = "artefacts/pricing"
PROJECT = Path(__file__).resolve().parents[2]


def publish(run: Run, move: float) -> Ref:
    """Release prices of which the largest moves by `move`; more than 0.25 needs a person."""

    def build(draft: Draft) -> None:
        draft.write_text("prices.csv", str(move))
        draft.limit("largest price move", move, (None, draft.limits.price_move))
        draft.ask("largest price move", move, draft.limits.approve_price_move)
        draft.headline(metric="deviance", value=move, baseline_name="none", baseline=1.0,
                       higher_is_better=False, rows=10, unit="prices")  # fmt: skip

    build.__module__ = "ecom_tasks.pricing.tasks"
    return dataset.release(run, dataset.produce(run, NAME, build))


def pointed(run: Run, channel: str) -> release.Pointer | None:
    return release.read_pointer(open_store(run.root), NAME, channel)


def test_what_a_person_must_approve_waits(run: Run, another_day: Run) -> None:
    calm = publish(run, 0.1)
    assert question(calm) == ""
    wild = publish(another_day, 0.4)
    production, pending = pointed(run, "production"), pointed(run, "pending")
    assert production is not None
    assert pending is not None
    assert (production.as_of, pending.as_of) == (run.as_of, another_day.as_of)
    body = question(wild)
    assert "largest price move: 0.4, above 0.25" in body
    assert "| this version | deviance 0.4 | none 1 | 10 prices |" in body
    assert f"| in service: {production.version} | deviance 0.1 | none 1 | 10 prices |" in body
    release.promote(run.root, NAME, pending.version)
    # Approved once, it is not asked for again when the run is repeated.
    assert question(wild) == ""
    publish(another_day, 0.4)
    again = pointed(run, "production")
    assert again is not None
    assert again.version == pending.version


def dag(domain: str = "pricing") -> Any:
    return runpy.run_path(str(PROJECT / f"dags/{domain}.py"))["dag"]


def test_tasks_are_there_unless_the_settings_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {each for each in RELEASING if "approve_release" in dag(each).task_ids}
    assert asked == {"pricing", "inventory"}
    for domains in ("none", "inventory"):
        monkeypatch.setenv("ECOM_APPROVAL", domains)
        assert "approve_release" not in dag().task_ids
    monkeypatch.setenv("ECOM_APPROVAL", "recommendation,pricing")
    assert "approve_release" in dag("recommendation").task_ids
    asking = dag()
    ask = asking.get_task("approve_release")
    assert asking.get_task("publish_release").downstream_task_ids >= {"needs_approval"}
    assert asking.get_task("needs_approval").downstream_task_ids == {"approve_release"}
    assert ask.downstream_task_ids == {"promote_release"}
    # Nobody's answer within a day is a rejection, which skips what comes after.
    assert (ask.defaults, ask.response_timeout) == (["Reject"], timedelta(hours=24))
    assert not ask.fail_on_reject
    monkeypatch.setenv("ECOM_APPROVAL_HOURS", "0.5")
    assert dag().get_task("approve_release").response_timeout == timedelta(minutes=30)
    monkeypatch.setenv("ECOM_APPROVAL_HOURS", "never")
    with pytest.raises(ConfigError, match="ECOM_APPROVAL_HOURS is 'never'"):
        dag()


def test_an_expired_approval_promotes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Airflow does when the time is over: it takes the default, and skips."""
    ask = dag().get_task("approve_release")
    skipped: list[str] = []

    def skip(_: Any, **given: Any) -> None:
        skipped.extend(task.task_id for task in given["tasks"])

    monkeypatch.setattr(type(ask), "skip", skip)
    event = {"chosen_options": ask.defaults, "params_input": {}, "timedout": True,
             "responded_at": datetime.now(UTC), "responded_by_user": None}  # fmt: skip
    ask.execute_complete({"task": ask, "ti": None}, event)
    assert skipped == ["promote_release"]


def test_the_approver_is_in_the_history(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wild = publish(run, 0.4)
    monkeypatch.setattr(ecom_approval, "current_run", lambda _: run)
    operator = PromoteOperator(
        task_id="promote_release", domain="pricing", released=wild, person="ann"
    )
    operator.execute(cast(Any, {}))
    pointer = pointed(run, "production")
    assert pointer is not None
    assert (pointer.history[0].by, pointer.history[0].reason) == ("ann", "approved")
    Path(wild.removeprefix("file://")).with_name("gone").touch()
    lost = Run(run.run_id, run.as_of, f"{run.root}-elsewhere")
    monkeypatch.setattr(ecom_approval, "current_run", lambda _: lost)
    with pytest.raises(ConfigError, match="has no version"):
        operator.execute(cast(Any, {}))
