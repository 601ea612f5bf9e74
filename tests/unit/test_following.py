"""What the demonstration asks Airflow, with answers written by hand."""

from __future__ import annotations

from typing import Any

from ecom_tasks.demo import following


class Airflow:
    """Answers like Airflow's REST API, and notes what it was asked."""

    def __init__(self, **states: str) -> None:
        self.states = states
        self.asked: list[str] = []

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        if path == "assets/events":
            dag = query["source_dag_id"]
            self.asked.append(f"events of {dag}")
            created = [
                {"dag_id": each, "run_id": f"{each}-1"}
                for each in (*following.SETS_OFF[dag], "monitoring")
                if each in self.states
            ]
            return {"asset_events": [{"created_dagruns": created}]}
        _, dag, _, run_id, *tasks = path.split("/")
        self.asked.append(f"tasks of {dag}" if tasks else dag)
        if not tasks:
            return {"state": self.states[dag], "start_date": "2026-01-04T00:00:00Z"}
        task = {
            "dag_id": dag, "dag_run_id": run_id, "task_id": "only", "state": self.states[dag],
            "try_number": 1, "start_date": None, "end_date": None, "operator": "StepOperator",
        }  # fmt: skip
        return {"task_instances": [task]}


def look(airflow: Airflow, last: following.Progress | None = None) -> following.Progress:
    return following.look(airflow, "ingestion-1", last)  # type: ignore[arg-type]


def test_all_runs_that_were_set_off_are_found_with_their_tasks() -> None:
    airflow = Airflow(
        ingestion="success", features="success", pricing="running", recommendation="success",
        inventory="failed", monitoring="queued",
    )  # fmt: skip
    seen = look(airflow)
    assert {dag: run.state for dag, run in seen.runs.items()} == {
        dag: airflow.states[dag] for dag in following.DAGS
    }
    assert {(task.dag, task.state) for task in seen.tasks} == {
        (dag, airflow.states[dag]) for dag in following.DAGS
    }
    assert seen.unfinished() == ["pricing"]
    assert seen.failed() == ["inventory"]


def test_a_run_that_ended_well_is_not_asked_for_again() -> None:
    airflow = Airflow(ingestion="success", features="running")
    before = look(airflow)
    airflow.asked.clear()
    airflow.states |= {"features": "success", "pricing": "running"}
    seen = look(airflow, before)
    assert sorted(airflow.asked) == [
        "events of features", "features", "pricing", "tasks of features", "tasks of pricing",
    ]  # fmt: skip
    assert {task.dag: task.state for task in seen.tasks} == airflow.states


def test_what_a_finished_run_sets_off_is_asked_for_until_all_of_it_is_known() -> None:
    airflow = Airflow(ingestion="success", features="success", pricing="success")
    before = look(airflow)
    airflow.states |= {"recommendation": "running", "inventory": "running"}
    seen = look(airflow, before)
    assert set(seen.runs) == set(following.DAGS)
    airflow.asked.clear()
    look(airflow, seen)
    assert sorted(airflow.asked) == [
        "inventory", "recommendation", "tasks of inventory", "tasks of recommendation",
    ]  # fmt: skip


def test_a_failed_run_is_asked_for_again_since_it_may_be_cleared() -> None:
    airflow = Airflow(ingestion="failed")
    before = look(airflow)
    airflow.states["ingestion"] = "running"
    assert look(airflow, before).unfinished() == list(following.DAGS)
