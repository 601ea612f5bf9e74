"""When and where recommendation runs; what it does stands in `ecom_tasks.recommendation.tasks`."""

from __future__ import annotations

from airflow.sdk import DAG
from ecom_airflow import FEATURES, FORM, RETRAIN, airflow_steps, day_by_day, released
from ecom_approval import approval_steps
from ecom_notify import deadlines

from ecom_tasks.recommendation.tasks import flow

DOC = """
### What to show to whom

Candidates from repeat purchases, similar items, matrix factorisation and a transformer over the
order of purchases, sorted by a ranker; lists for every customer under the shop's rules (`rules` in
the overrides: path of the rules file); what is bought together, similar, popular.

Runs whenever **features** have been published, or **monitoring** asks for new training. The last
task publishes only a model that beats the plain baseline on days it has not seen: otherwise it
fails with `ModelRejectedError`, the version in service stays, and there is nothing to repair in
Airflow. Every version has a report: see **Shop console** in the menu, *Releases*.
"""

with DAG(
    dag_id="recommendation",
    description=flow.__doc__,
    doc_md=DOC,
    schedule=day_by_day(FEATURES | RETRAIN),
    catchup=False,
    max_active_runs=1,
    deadline=deadlines("recommendation"),
    tags=["ecom", "domain:recommendation"],
    default_args={"owner": "personalisation"},
    params=FORM,
) as dag:
    made = flow(
        airflow_steps(
            "recommendation",
            pools={"pin_features": "default_pool", "pin_learning": "default_pool"},
            outlets={"publish_release": [released("recommendation")]},
            on_gpu=["train_sequence", "generate_candidates", "train_two_tower", "train_ranker"],
            # It takes the longest of the models: begun first, all of them end earlier.
            urgency=10,
        )
    )
    approval_steps("recommendation", made)
