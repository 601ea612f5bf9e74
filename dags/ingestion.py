"""When and where ingestion runs; what it does stands in `ecom_tasks.ingestion.tasks`."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.sdk import DAG, Param
from ecom_airflow import FORM, LAKE, airflow_steps, tables_of
from ecom_notify import deadlines
from ecom_watch import when_due_or_delivered

from ecom_tasks.ingestion.tasks import flow
from ecom_tasks.tables import TABLES

DOC = """
### From a shop's files to validated tables

Pins the source's files, maps them to the data contract, moves rows that break it to `quarantine/`,
and lets the expectation suites decide whether the rest is fit. A hard failure publishes nothing:
yesterday's tables stay in service. Success triggers **features**, and those the three models.

**Trigger** asks for the source and the day. `ECOM_SCHEDULE` (a cron expression, in UTC) makes it
run by itself, each time about the last complete day; `ECOM_SOURCE` names the source it then reads.
With it, `airflow backfill create --dag-id ingestion --from-date ... --to-date ...` makes up for
days or weeks that are missing; what is there already is found, not made again.
`ECOM_WATCH_SECONDS` makes it run whenever files of that source have arrived or changed: it looks
that often, and waits until a file no longer grows.

**If it fails**, the last lines of the failed task say which table and expectation broke, what was
observed and what to do. Correct the data or the source file, then clear the task.
"""
SOURCE = os.environ.get("ECOM_SOURCE", "complete-journey")
DATA = os.environ.get("ECOM_SOURCE_DATA", "")

with DAG(
    dag_id="ingestion",
    description="A shop's files or database -> validated, pseudonymised tables",
    doc_md=DOC,
    schedule=when_due_or_delivered(SOURCE, DATA),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    deadline=deadlines("ingestion"),
    tags=["ecom", "domain:ingestion"],
    default_args={"owner": "data"},
    params=FORM
    | {
        "source": Param(
            SOURCE,
            type="string",
            minLength=1,
            title="Source",
            description_md="Name of a shipped source (`complete-journey`, `online-retail`) or path "
            "of a source file (TOML).",
        ),
        "source_data": Param(
            DATA,
            type="string",
            title="Data",
            description_md="Folder or bucket prefix of its files, where the source file leaves it "
            "open.",
        ),
    },
) as dag:
    flow(
        airflow_steps(
            "ingestion",
            pools={"pin_source": "default_pool", "publish_snapshot": "default_pool"},
            outlets={"publish_snapshot": [LAKE, *tables_of(LAKE, TABLES)]},
        )
    )
