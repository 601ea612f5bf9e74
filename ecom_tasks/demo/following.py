"""Follow one ingestion run and the runs that it sets off, through Airflow's REST API.

Which runs belong to it is asked, not guessed: each run that ends well writes an asset event, and
Airflow knows of every event which runs it created.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ecom_tasks.domains import RELEASING
from ecom_tasks.errors import RetryableError
from ecom_tasks.run import Ref
from ecom_tasks.services.api import AirflowApi

SETS_OFF: dict[str, tuple[str, ...]] = {"ingestion": ("features",), "features": RELEASING}
DAGS = ("ingestion", "features", *RELEASING)
STARTED = (*DAGS, "monitoring")
"""Also those that nobody waits for."""
_TRIGGER = {"features": "ingestion"} | dict.fromkeys(RELEASING, "features")
_OVER = {"success", "failed"}


@dataclass(frozen=True)
class DagRun:
    """One run of one DAG.

    Attributes
    ----------
    began : as Airflow says it; None until it has started.
    """

    dag: str
    run_id: str
    state: str = ""
    began: str | None = None


@dataclass(frozen=True)
class Task:
    """One task of one of the runs.

    Attributes
    ----------
    state : None until it is scheduled.
    of_flow : it hands on the reference of what it made; False for those that ask a person.
    """

    dag: str
    run_id: str
    name: str
    state: str | None
    attempt: int
    began: datetime | None
    ended: datetime | None
    of_flow: bool

    @property
    def seconds(self) -> float:
        if self.began is None:
            return 0.0
        return ((self.ended or datetime.now(UTC)) - self.began).total_seconds()


@dataclass(frozen=True)
class Progress:
    """What is known at one moment."""

    runs: dict[str, DagRun]
    tasks: list[Task]

    def unfinished(self) -> list[str]:
        """DAGs that are at work, or will be since what sets them off is."""
        return [dag for dag in DAGS if not self._blocked(dag) and not self._over(dag)]

    def settled(self, dag: str) -> DagRun | None:
        """Return the run of this DAG if it has ended well: no more comes of it."""
        run = self.runs.get(dag)
        return run if run and run.state == "success" else None

    def of(self, run: DagRun) -> list[Task]:
        """Return the tasks of a run that has ended well."""
        settled = self.settled(run.dag) is run
        return [task for task in self.tasks if settled and task.dag == run.dag]

    def failed(self) -> list[str]:
        return [dag for dag, run in self.runs.items() if run.state == "failed"]

    def awaited(self) -> list[str]:
        """DAGs that should have been set off by now."""
        return [
            dag
            for dag, trigger in _TRIGGER.items()
            if dag not in self.runs and trigger in self.runs
            and self.runs[trigger].state == "success"
        ]  # fmt: skip

    def _over(self, dag: str) -> bool:
        return dag in self.runs and self.runs[dag].state in _OVER

    def _blocked(self, dag: str) -> bool:
        trigger = _TRIGGER.get(dag)
        if trigger is None or dag in self.runs:
            return False
        known = self.runs.get(trigger)
        return (known is not None and known.state == "failed") or self._blocked(trigger)


def look(api: AirflowApi, run_id: str, last: Progress | None = None) -> Progress:
    """Ask for the ingestion run `run_id`, for all that it set off, and for their tasks.

    Parameters
    ----------
    last : what was known before. Of a run that had ended well nothing is asked again: Airflow's
        answers take processor time that the steps could use.
    """
    last = last or Progress({}, [])
    runs: dict[str, DagRun] = {}
    waiting = [("ingestion", run_id)]
    while waiting:
        dag, name = waiting.pop()
        runs[dag] = last.settled(dag) or _run(api, dag, name)
        if dag in SETS_OFF:
            waiting += _set_off(api, runs[dag], last)
    # Only questions by GET: Airflow writes a line in its audit log for every other one, and its
    # SQLite has one writer at a time.
    tasks = [task for run in runs.values() for task in last.of(run) or _tasks(api, run)]
    return Progress(runs, tasks)


def _run(api: AirflowApi, dag: str, run_id: str) -> DagRun:
    answer = api.get(_run_path(DagRun(dag, run_id)))
    return DagRun(dag, run_id, answer["state"], answer["start_date"])


def _tasks(api: AirflowApi, run: DagRun) -> list[Task]:
    answer = api.get(f"{_run_path(run)}/taskInstances", limit=100)
    return [_task(fields) for fields in answer["task_instances"]]


def _set_off(api: AirflowApi, run: DagRun, last: Progress) -> list[tuple[str, str]]:
    wanted = SETS_OFF[run.dag]
    if last.settled(run.dag) and last.runs.keys() >= set(wanted):
        return [(dag, last.runs[dag].run_id) for dag in wanted]
    try:
        events = api.get(
            "assets/events", source_dag_id=run.dag, source_run_id=run.run_id, limit=100
        )["asset_events"]  # fmt: skip
    except RetryableError:
        # Airflow 3.3 fails on this question while one of the runs still waits for its start.
        return [found for dag in wanted for found in _newest(api, dag, run.began)]
    created = [made for event in events for made in event["created_dagruns"]]
    return [(made["dag_id"], made["run_id"]) for made in created if made["dag_id"] in wanted]


def _newest(api: AirflowApi, dag: str, since: str | None) -> list[tuple[str, str]]:
    """Return the newest run that an event created after `since`, as the likely one."""
    runs = api.get(f"dags/{dag}/dagRuns", run_type="asset_triggered", order_by="-run_after",
                   limit=1, run_after_gte=since)["dag_runs"]  # fmt: skip
    return [(dag, run["dag_run_id"]) for run in runs]


def _task(fields: dict[str, Any]) -> Task:
    return Task(
        dag=fields["dag_id"],
        run_id=fields["dag_run_id"],
        name=fields["task_id"],
        state=fields["state"],
        attempt=fields["try_number"],
        began=_moment(fields["start_date"]),
        ended=_moment(fields["end_date"]),
        of_flow=fields["operator"] == "StepOperator",
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def made_by(api: AirflowApi, task: Task) -> Ref:
    """Return the reference that a finished task handed on."""
    return Ref(api.get(f"{_path(task)}/xcomEntries/return_value")["value"])


def log_lines(api: AirflowApi, task: Task) -> list[dict[str, Any]]:
    """Return the log of the task's last attempt, one record a line."""
    answer = api.get(f"{_path(task)}/logs/{task.attempt}", full_content="true")
    return [line for line in answer["content"] if isinstance(line, dict)]


def _run_path(run: DagRun | Task) -> str:
    return f"dags/{run.dag}/dagRuns/{quote(run.run_id, safe='')}"


def _path(task: Task) -> str:
    return f"{_run_path(task)}/taskInstances/{task.name}"


def trigger(api: AirflowApi, run_id: str, form: dict[str, Any]) -> None:
    """Start ingestion with what its form asks for."""
    api.post(
        "dags/ingestion/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": form}
    )  # fmt: skip


def give_up(api: AirflowApi) -> list[str]:
    """Mark every unfinished run of our DAGs as failed, which ends its tasks; return the DAGs."""
    ended = []
    for dag in STARTED:
        found = api.get(f"dags/{dag}/dagRuns", state=["queued", "running"], limit=100)
        for run in found["dag_runs"]:
            path = _run_path(DagRun(dag, run["dag_run_id"]))
            api.patch(f"{path}?update_mask=state", {"state": "failed"})
            ended.append(dag)
    return ended
