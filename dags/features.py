"""When and where features are built; what they are stands in `ecom_tasks.features.tasks`."""

from __future__ import annotations

from airflow.sdk import DAG
from ecom_airflow import FEATURES, FORM, LAKE, airflow_steps, day_by_day, tables_of
from ecom_notify import deadlines

from ecom_tasks.features.tables import FEATURES as TABLES
from ecom_tasks.features.tasks import flow

DOC = """
### From validated tables to features

One Dask task a bucket, Polars inside: customers, products, what a customer bought of a product,
weekly demand with price and promotion, price history. Nothing after the run's day is read.

Runs whenever **ingestion** has published tables. Success triggers the three models.
"""

with DAG(
    dag_id="features",
    description=flow.__doc__,
    doc_md=DOC,
    schedule=day_by_day(LAKE),
    catchup=False,
    max_active_runs=1,
    deadline=deadlines("features"),
    tags=["ecom", "domain:features"],
    default_args={"owner": "data"},
    params=FORM,
) as dag:
    flow(
        airflow_steps(
            "features",
            pools={"pin_lake": "default_pool", "publish_features": "default_pool"},
            outlets={"publish_features": [FEATURES, *tables_of(FEATURES, TABLES)]},
        )
    )
