"""When and where inventory runs; what it does stands in `ecom_tasks.inventory.tasks`."""

from __future__ import annotations

from airflow.sdk import DAG
from ecom_airflow import FEATURES, FORM, RETRAIN, airflow_steps, day_by_day, released
from ecom_approval import approval_steps
from ecom_notify import deadlines

from ecom_tasks.inventory.tasks import flow

DOC = """
### What to order

Demand by week or day as quantiles with calibrated intervals, and order proposals from lead time and
service level.

Runs whenever **features** have been published, or **monitoring** asks for new training. The last
task publishes only a model that beats the plain baseline on days it has not seen: otherwise it
fails with `ModelRejectedError`, the version in service stays, and there is nothing to repair in
Airflow. Every version has a report: see **Shop console** in the menu, *Releases*.

A release whose orders are worth more than the shop's limit waits for a person under **Required
Actions**; no answer in time rejects it.
"""

with DAG(
    dag_id="inventory",
    description=flow.__doc__,
    doc_md=DOC,
    schedule=day_by_day(FEATURES | RETRAIN),
    catchup=False,
    max_active_runs=1,
    deadline=deadlines("inventory"),
    tags=["ecom", "domain:inventory"],
    default_args={"owner": "supply"},
    params=FORM,
) as dag:
    made = flow(
        airflow_steps(
            "inventory",
            pools=dict.fromkeys(("pin_features", "pin_embeddings"), "default_pool"),
            on_gpu=["backtest", "train_forecaster"],
            outlets={"publish_release": [released("inventory")]},
        )
    )
    approval_steps("inventory", made)
