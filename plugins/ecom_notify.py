"""Whom Airflow tells of failed tasks, late runs and alerts of the monitoring: by its own notifiers.

`ECOM_NOTIFY` lists them, separated by commas: `mailto:operator@shop.example` writes through the
connection `smtp_default`; `webhook:shop_alerts` posts JSON with one field `text`, as incoming
webhooks of Slack, Mattermost and others take it, to the URL of the connection `shop_alerts`.
`ECOM_DEADLINE_HOURS` says after how many hours in the queue or at work a run is late.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

# They are there; the package's stub lacks them.
from airflow.sdk import (  # type: ignore[attr-defined]
    AsyncCallback,
    DeadlineAlert,
    DeadlineReference,
)

from ecom_tasks.errors import ConfigError

FAILED = "{{ dag.dag_id }}.{{ ti.task_id }} failed in run {{ run_id }}: {{ exception }}"
TOLD = "{{ told }}"


def on_failure() -> list[Any]:
    """Return a notifier for each address; each sends what the task said at its end."""
    return [kind(**arguments) for kind, arguments in _notifiers("A task failed", FAILED)]


def notify(context: Mapping[str, Any], subject: str, lines: Sequence[str]) -> None:
    """Tell each address at once.

    Parameters
    ----------
    context : of the task that has something to say.
    """
    # By name, not in the text: what is told may quote the shop's data, which is no template.
    told = {**context, "told": "\n".join(lines)}
    for kind, arguments in _notifiers(subject, TOLD):
        kind(**arguments)(told)


def deadlines(dag_id: str) -> list[DeadlineAlert]:
    """Return an alert for each address, where hours are set."""
    hours = _hours()
    if hours is None:
        return []
    late = f"{dag_id} is not done {hours:g} hours after it was queued: see its runs in Airflow"
    return [
        DeadlineAlert(
            name=f"{dag_id} within {hours:g} hours",
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(hours=hours),
            callback=AsyncCallback(kind, kwargs=arguments),
        )
        for kind, arguments in _notifiers("A run is late", late)
    ]


def _hours() -> float | None:
    text = os.environ.get("ECOM_DEADLINE_HOURS", "")
    if not text:
        return None
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if hours <= 0:
        raise ConfigError(
            f"ECOM_DEADLINE_HOURS is {text!r}", "Give hours above 0, for example 6 or 0.5"
        )
    return hours


def _notifiers(subject: str, text: str) -> list[tuple[type[Any], dict[str, Any]]]:
    found: list[tuple[type[Any], dict[str, Any]]] = []
    for address in filter(None, os.environ.get("ECOM_NOTIFY", "").split(",")):
        scheme, _, target = address.strip().partition(":")
        if scheme == "mailto" and "@" in target:
            from airflow.providers.smtp.notifications.smtp import SmtpNotifier

            escaped = text.replace(" }}", " | e }}")
            mail = {"to": target, "subject": subject, "html_content": f"<p>{escaped}</p>"}
            found.append((SmtpNotifier, mail))
        elif scheme == "webhook" and target:
            from airflow.providers.http.notifications.http import HttpNotifier

            found.append((HttpNotifier, {"http_conn_id": target, "json": {"text": text}}))
        else:
            raise ConfigError(
                f"ECOM_NOTIFY has {address.strip()!r}",
                "Give mailto:ADDRESS or webhook:CONNECTION, several separated by commas",
            )
    return found
