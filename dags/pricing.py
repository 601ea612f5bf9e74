"""When and where pricing runs; what it does stands in `ecom_tasks.pricing.tasks`."""

from __future__ import annotations

from airflow.sdk import DAG
from ecom_airflow import FEATURES, FORM, RETRAIN, airflow_steps, day_by_day, released
from ecom_approval import approval_steps
from ecom_notify import deadlines

from ecom_tasks.pricing.tasks import flow

DOC = """
### What to charge

Price elasticities by double machine learning, shrunk by category, and the most profitable price
under the shop's rules; where the data cannot tell, it says so.

Runs whenever **features** have been published, or **monitoring** asks for new training. The last
task publishes only a model that beats the plain baseline on days it has not seen: otherwise it
fails with `ModelRejectedError`, the version in service stays, and there is nothing to repair in
Airflow. Every version has a report: see **Shop console** in the menu, *Releases*.

A release that moves a price far waits for a person under **Required Actions**;
no answer in time rejects it.
"""

with DAG(
    dag_id="pricing",
    description=flow.__doc__,
    doc_md=DOC,
    schedule=day_by_day(FEATURES | RETRAIN),
    catchup=False,
    max_active_runs=1,
    deadline=deadlines("pricing"),
    tags=["ecom", "domain:pricing"],
    default_args={"owner": "pricing"},
    params=FORM,
) as dag:
    made = flow(
        airflow_steps(
            "pricing",
            pools=dict.fromkeys(
                ("pin_features", "pin_guardrails", "pin_price_log"), "default_pool"
            ),
            on_gpu=["estimate_elasticities", "evaluate_elasticities"],
            outlets={"publish_release": [released("pricing")]},
        )
    )
    approval_steps("pricing", made)
