"""What Airflow knows: the last runs of a DAG, and a new one that moves a channel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ecom_console.rights import PROMOTION
from ecom_tasks.errors import ConfigError


def last(dag: str, count: int = 3) -> list[dict[str, Any]]:
    """Return the newest runs of a DAG: id, state, when each began (ISO 8601) and its seconds."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    wanted = select(DagRun).where(DagRun.dag_id == dag).order_by(DagRun.run_after.desc())
    with create_session() as session:
        return [_told(run) for run in session.scalars(wanted.limit(count))]


def state(dag: str, run_id: str) -> str:
    """Return the state of one run; empty where there is none."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    wanted = select(DagRun).where(DagRun.dag_id == dag, DagRun.run_id == run_id)
    with create_session() as session:
        found = session.scalar(wanted)
        return str(found.state) if found else ""


def _told(run: Any) -> dict[str, Any]:
    began, ended = run.start_date, run.end_date
    return {
        "run_id": run.run_id,
        "state": str(run.state),
        "began": (began or run.run_after).isoformat(timespec="seconds"),
        "seconds": (ended - began).total_seconds() if began and ended else None,
    }


def order_move(conf: dict[str, str], user: Any) -> str:
    """Trigger the DAG that moves a channel, in the user's name; return the run's id.

    Raises
    ------
    ConfigError
        Airflow does not know the DAG, or it is paused, so that nothing would happen.
    """
    from airflow.models.dag import DagModel
    from airflow.models.dagbag import DBDagBag
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    now = datetime.now(UTC)
    run_id = f"console__{now:%Y%m%dT%H%M%S%f}"
    with create_session() as session:
        known = session.get(DagModel, PROMOTION)
        dag = DBDagBag().get_latest_version_of_dag(PROMOTION, session=session)
        if known is None or dag is None or known.is_stale:
            raise ConfigError(f"Airflow has no DAG {PROMOTION}", "Put it into the DAGs folder")
        if known.is_paused:
            raise ConfigError(f"The DAG {PROMOTION} is paused", "Let it run in the list of DAGs")
        dag.create_dagrun(
            run_id=run_id, logical_date=None, data_interval=None, run_after=now, conf=conf,
            run_type=DagRunType.MANUAL, triggered_by=DagRunTriggeredByType.UI,
            triggering_user_name=user.get_name(), state=DagRunState.QUEUED, session=session,
        )  # fmt: skip
    return run_id
