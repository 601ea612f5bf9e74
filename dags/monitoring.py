"""When and where monitoring runs; what it does stands in `ecom_tasks.monitoring.tasks`."""

from __future__ import annotations

from airflow.sdk import DAG
from ecom_airflow import FEATURES, FORM, airflow_steps, day_by_day
from ecom_notify import deadlines
from ecom_retraining import retraining_step

from ecom_tasks.monitoring.tasks import flow

DOC = """
### Is what is in service still right?

Judges the releases that were in service four weeks ago by what came since: forecasts by what sold,
lists by what was bought, prices by units after they were set. Compares today's features and the
newest predictions with those before, column by column.

Runs whenever **features** have been published, never after a release. What exceeds its limit
raises an alert: in the log, and to whom `ECOM_NOTIFY` names. Where new training may help, the
event of `ecom://monitoring/retrain` sets off the three models, once a day and domain; without an
alert its task is skipped. Nothing here stops a release.
"""

with DAG(
    dag_id="monitoring",
    description=flow.__doc__,
    doc_md=DOC,
    schedule=day_by_day(FEATURES),
    catchup=False,
    max_active_runs=1,
    deadline=deadlines("monitoring"),
    tags=["ecom", "domain:monitoring"],
    default_args={"owner": "data"},
    params=FORM,
) as dag:
    # The models of the day come first.
    steps = airflow_steps("monitoring", pools={"publish_findings": "default_pool"}, urgency=0)
    retraining_step(flow(steps))
