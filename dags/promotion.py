"""Somebody moves a release: into service, or back; what it does stands in `ecom_promotion`."""

from __future__ import annotations

from airflow.sdk import DAG, Param
from ecom_promotion import MoveOperator

from ecom_tasks.domains import RELEASING

DOC = """
### Put a version into service, or take it out again

The console triggers this DAG when somebody presses **Put into service**, **Approve** or **Roll
back**; triggering it here does the same. Who may trigger it, may move releases: Airflow's rights
decide. The name of who did stands in the pointer's history.

Only the workers may write to the store: pages read, and ask.
"""

with DAG(
    dag_id="promotion",
    description="Move a release into service or back, in the name of who asked for it",
    doc_md=DOC,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    # Nothing runs by itself here; a person who presses a button is not to wait for another.
    is_paused_upon_creation=False,
    tags=["ecom"],
    default_args={"owner": "shop"},
    params={
        "domain": Param(RELEASING[0], type="string", enum=list(RELEASING), title="Domain"),
        "action": Param(
            "promote", type="string", enum=["promote", "approve", "rollback"], title="Action"
        ),
        "version": Param(
            "",
            type="string",
            title="Version",
            description_md="For promote and approve; a rollback goes to the version before.",
        ),
    },
) as dag:
    for name in RELEASING:
        MoveOperator(domain=name)
