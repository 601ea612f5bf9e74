"""Which data a run is about, what an asset's event says, and what is tried again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import ecom_airflow
import pytest
from airflow.sdk import DAG, RetryAction
from ecom_airflow import RETRY_POLICY, StepOperator, airflow_steps, current_run, told
from ecom_step import Outcome

from ecom_tasks.errors import (
    ConfigError,
    DataContractError,
    EcomError,
    ModelRejectedError,
    RetryableError,
)
from ecom_tasks.run import Ref, Run

LOGICAL = datetime(2024, 5, 1, 23, 59, tzinfo=UTC)
RUN_AFTER = datetime(2024, 6, 2, 3, 30, tzinfo=UTC)
PARTITION = datetime(2024, 4, 7, tzinfo=UTC)


@dataclass
class DagRun:
    run_id: str = "manual"
    logical_date: datetime | None = None
    run_after: datetime = RUN_AFTER
    partition_date: datetime | None = None
    data_interval_start: datetime | None = None
    data_interval_end: datetime | None = None


@dataclass
class Event:
    extra: dict[str, Any]
    timestamp: datetime = field(default=datetime(2024, 1, 1, tzinfo=UTC))
    partitions: list[str] = field(default_factory=list)

    def add_partitions(self, key: str) -> None:
        self.partitions.append(key)


def context(
    dag_run: DagRun, params: dict[str, Any] | None = None, events: list[Event] | None = None
) -> Any:
    empty = {"as_of": None, "source": "", "source_data": "", "overrides": {}}
    return {
        "dag_run": dag_run,
        "params": empty | (params or {}),
        "triggering_asset_events": {"lake": events} if events else {},
    }


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_ROOT", "s3://ecom")


def test_the_form_comes_first() -> None:
    event = Event({"as_of": "2024-03-03", "source": "other", "overrides": {"pricing": {"a": 1}}})
    params = {
        "as_of": "2024-02-29",
        "source": "shop",
        "source_data": "/data",
        "overrides": {"features": {"buckets": 4}},
    }
    found = current_run(context(DagRun("r", LOGICAL), params, [event]))
    assert found == Run(
        "r", date(2024, 2, 29), "s3://ecom", "shop", "/data", {"features": {"buckets": 4}}
    )


def test_a_dry_run_serves_nothing_here_and_in_what_follows() -> None:
    params = {"as_of": "2024-02-29", "dry_run": True,
              "overrides": {"gate": {"level": 0.9}, "pricing": {"a": 1}}}  # fmt: skip
    found = current_run(context(DagRun("r"), params))
    shadowed = {"gate": {"level": 0.9, "channel": "shadow"}, "pricing": {"a": 1}}
    assert found.overrides == shadowed
    event = Event(told(found, Ref("s3://ecom/lake/all/v/1/_manifest.json")))
    assert current_run(context(DagRun("down"), events=[event])).overrides == shadowed
    served = current_run(context(DagRun("r"), params | {"dry_run": False})).overrides
    assert served == params["overrides"]


def test_then_the_event_that_triggered_the_run() -> None:
    extra = told(
        Run("up", date(2024, 3, 3), "s3://ecom", "shop", "/data", {"pricing": {"a": 1}}),
        Ref("s3://ecom/lake/all/v/1/_manifest.json"),
    )
    found = current_run(context(DagRun("down"), events=[Event(extra)]))
    assert found == Run(
        "down", date(2024, 3, 3), "s3://ecom", "shop", "/data", {"pricing": {"a": 1}}
    )


@pytest.mark.parametrize(
    ("dag_run", "expected"),
    [
        (DagRun(logical_date=LOGICAL, partition_date=PARTITION), date(2024, 4, 7)),
        (DagRun(logical_date=LOGICAL), date(2024, 5, 1)),
        (DagRun(), date(2024, 6, 2)),
        (
            DagRun(data_interval_start=datetime(2024, 5, 6, 3, tzinfo=UTC),
                   data_interval_end=datetime(2024, 5, 7, 3, tzinfo=UTC)),
            date(2024, 5, 6),
        ),
        (
            DagRun(data_interval_start=datetime(2024, 5, 6, 3, tzinfo=UTC),
                   data_interval_end=datetime(2024, 5, 13, 3, tzinfo=UTC)),
            date(2024, 5, 12),
        ),
        (DagRun(data_interval_start=LOGICAL, data_interval_end=LOGICAL), date(2024, 6, 2)),
    ],
    ids=["partition", "logical date", "run after", "day", "week", "no interval"],
)  # fmt: skip
def test_then_interval_partition_logical_date_and_day_of_the_run(
    dag_run: DagRun, expected: date
) -> None:
    assert current_run(context(dag_run)).as_of == expected


def test_of_several_events_the_newest_counts(caplog: pytest.LogCaptureFixture) -> None:
    events = [
        Event({"as_of": "2024-03-02"}, datetime(2024, 1, 1, 1, tzinfo=UTC)),
        Event({"as_of": "2024-03-03"}, datetime(2024, 1, 1, 3, tzinfo=UTC)),
        Event({"as_of": "2024-03-01"}, datetime(2024, 1, 1, 2, tzinfo=UTC)),
    ]
    assert current_run(context(DagRun(), events=events)).as_of == date(2024, 3, 3)
    assert "2024-03-01" in caplog.text


def test_a_missing_root_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECOM_ROOT")
    with pytest.raises(ConfigError, match="No place for artefacts"):
        current_run(context(DagRun()))


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (RetryableError("", ""), RetryAction.RETRY),
        (DataContractError("", ""), RetryAction.FAIL),
        (ConfigError("", ""), RetryAction.FAIL),
        (ModelRejectedError("", ""), RetryAction.FAIL),
        (EcomError("", ""), RetryAction.FAIL),
        (ValueError(), RetryAction.DEFAULT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_retry_by_class_of_error(error: Exception, action: RetryAction) -> None:
    assert RETRY_POLICY.evaluate(error, try_number=1, max_tries=3).action is action


def first(run: Run) -> Ref:
    """Docs of the first."""
    raise NotImplementedError


def second(run: Run, ref: Ref, *, setting: int = 0) -> Ref:
    raise NotImplementedError


def test_a_step_takes_references_only() -> None:
    with DAG("any", schedule=None):
        step = airflow_steps("any")
        with pytest.raises(ConfigError, match=r"any\.second is given setting"):
            step(second, step(first), setting=1)


class FakeStep:
    """Stands in for the child process; remembers whether it was ended."""

    def __init__(self, outcome: Outcome | BaseException) -> None:
        self.outcome = outcome
        self.ended = False

    def wait(self) -> Outcome:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def operator() -> StepOperator:
    with DAG("any", schedule=None):
        return StepOperator(
            task_id="first", domain="pricing", outlets=[ecom_airflow.LAKE], inputs=[]
        )


def test_event_tells_what_was_made_and_of_which_day(
    operator: StepOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = "s3://ecom/x/v/2024-02-29-0123456789abcdef/_manifest.json"
    done = Outcome(0, [made], None, [], 0, 1.0)
    monkeypatch.setattr(ecom_airflow, "launch", lambda *_: FakeStep(done))
    given = context(DagRun(), {"as_of": "2024-02-29", "source": "shop"})
    given["outlet_events"] = {ecom_airflow.LAKE: Event({})}
    assert operator.execute(given) == made
    event = given["outlet_events"][ecom_airflow.LAKE]
    assert event.partitions == ["2024-02-29"]
    assert event.extra == {
        "manifest": made,
        "fingerprint": "0123456789abcdef",
        "as_of": "2024-02-29",
        "source": "shop",
        "source_data": "",
        "overrides": {},
    }


def test_a_timeout_ends_the_step(operator: StepOperator, monkeypatch: pytest.MonkeyPatch) -> None:
    step = FakeStep(TimeoutError("too long"))
    monkeypatch.setattr(ecom_airflow, "launch", lambda *_: step)
    with pytest.raises(TimeoutError):
        operator.execute(context(DagRun()))
    assert step.ended


def test_killing_the_task_ends_the_step(
    operator: StepOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = FakeStep(Outcome(0, ["ref"], None, [], 0, 1.0))
    monkeypatch.setattr(ecom_airflow, "launch", lambda *_: step)
    operator.on_kill()  # before it was launched: nothing to end
    operator.outlets = []
    operator.execute(context(DagRun()))
    operator.on_kill()
    assert step.ended


def test_only_the_publishing_step_is_given_the_signing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stored:
        @staticmethod
        def get(name: str) -> Any:
            return type("Connection", (), {"get_uri": lambda _: f"generic://:{name}@"})()

    monkeypatch.setattr(ecom_airflow, "Connection", Stored)
    run = Run("r", date(2024, 1, 1), "s3://ecom")
    assert ecom_airflow.connections("pricing", "publish_release", run) == {}
    monkeypatch.setenv("ECOM_SIGNING_CONNECTION", "release_key")
    given = ecom_airflow.connections("pricing", "publish_release", run)
    assert given == {"release_key": "generic://:release_key@"}
    assert ecom_airflow.connections("pricing", "propose_prices", run) == {}
