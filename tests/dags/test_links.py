"""Links on tasks lead to the console's pages about what the task made."""

from __future__ import annotations

import ecom_links
import pytest
from airflow.sdk import DAG
from ecom_airflow import StepOperator

from ecom_tasks.domains import RELEASING
from ecom_tasks.run import Ref

VERSION = "2024-02-29-0123456789abcdef"


def step(domain: str, task: str) -> StepOperator:
    with DAG("any", schedule=None):
        return StepOperator(task_id=task, domain=domain)


def links(operator: StepOperator) -> dict[str, str]:
    return {
        each.name: each.get_link(operator, ti_key=None).partition("/ecom/")[2]
        for each in operator.operator_extra_links
    }


@pytest.mark.parametrize("domain", RELEASING)
def test_a_release_is_linked_with_its_report(domain: str) -> None:
    operator = step(domain, "publish_release")
    # A release that was rejected or failed made nothing that the task could name.
    assert links(operator) == {"Release": "releases", "Report": "releases"}
    operator.made = Ref(f"s3://ecom/artefacts/{domain}/v/{VERSION}/_manifest.json")
    assert links(operator) == {
        "Release": f"releases/{domain}/{VERSION}",
        "Report": f"releases/{domain}/{VERSION}/report.html",
    }


def test_validation_is_linked_with_its_documents() -> None:
    operator = step("ingestion", ecom_links.VALIDATING)
    operator.made = Ref(f"s3://ecom/lake/data_docs/v/{VERSION}/_manifest.json")
    assert links(operator) == {"Data Docs": f"data/docs/{VERSION}/{ecom_links.DOCUMENTS}"}


def test_other_tasks_have_none() -> None:
    assert links(step("pricing", "build_panel")) == {}
