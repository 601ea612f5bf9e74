"""Links on tasks to the console: to the release that a task made, its report, the Data Docs."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperatorLink

from ecom_tasks.domains import PUBLISHING

VALIDATING = "validate_tables"
DOCUMENTS = "data_docs/index.html"
"""Of the artefact `lake/data_docs`."""


class ConsoleLink(BaseOperatorLink):
    """A page about what the task made; the page above it where it made nothing."""

    def __init__(self, name: str, above: str, page: str) -> None:
        self._name, self._above, self._page = name, above, page

    @property
    def name(self) -> str:
        return self._name

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002
        from airflow.sdk.configuration import conf

        base = conf.get("api", "base_url", fallback="").rstrip("/")
        if not operator.made:
            return f"{base}/ecom/{self._above}"
        version = operator.made.rsplit("/", 2)[-2]
        return f"{base}/ecom/{self._page.format(version=version)}"


def of_task(domain: str, task: str) -> tuple[ConsoleLink, ...]:
    """Return the links of a task; most have none."""
    if task == PUBLISHING:
        release = f"releases/{domain}/{{version}}"
        return (
            ConsoleLink("Release", "releases", release),
            ConsoleLink("Report", "releases", f"{release}/report.html"),
        )
    if task == VALIDATING:
        return (ConsoleLink("Data Docs", "data", f"data/docs/{{version}}/{DOCUMENTS}"),)
    return ()
