"""What follows the findings of a day: people are told, and models are trained anew.

The one task emits the event of `ecom://monitoring/retrain` by succeeding, so it is skipped where no
training is to be asked for. An event is what remembers that it was asked: its own earlier ones are
looked through, so that a day and domain are asked for once, however often monitoring runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException
from ecom_airflow import RETRAIN, RETRIES, RETRY_POLICY, announce, current_run
from ecom_notify import notify

from ecom_tasks.artefacts import release
from ecom_tasks.domains import TRAINING_ANEW
from ecom_tasks.run import Ref, Run

log = logging.getLogger(__name__)
_REMEMBERED = 100
"""Events looked through; of one day there are at most as many as domains."""


def retraining_step(findings: Ref) -> None:
    """Enter the task after the findings in the DAG being built.

    Parameters
    ----------
    findings : output of the flow's last task.
    """
    RetrainOperator(
        task_id="ask_to_retrain",
        doc_md="Tell of alerts, and ask for new training where it may help; else it is skipped.",
        findings=findings,
        inlets=[RETRAIN],
        outlets=[RETRAIN],
        pool="default_pool",
        retries=RETRIES,
        retry_policy=RETRY_POLICY,
    )


class RetrainOperator(BaseOperator):
    """Notify of alerts; succeed, with the event of `RETRAIN`, where models are to be trained."""

    template_fields: Sequence[str] = ("findings",)

    def __init__(self, *, findings: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.findings = findings

    def execute(self, context: Context) -> None:
        run, ref = current_run(context), Ref(str(self.findings))
        made = release.manifest_of(ref)
        alerts = made.metrics["alerts"]
        for each in alerts:
            log.warning("%s", each["text"])
        # Findings that were found finished have been told of when they were made.
        if alerts and made.provenance.run_id == run.run_id:
            notify(context, f"Monitoring, {run.as_of}", [each["text"] for each in alerts])
        events = cast(Any, context)["inlet_events"][RETRAIN].ascending(False).limit(_REMEMBERED)
        wanted = to_retrain(alerts, run, [event.extra for event in events])
        if not wanted:
            raise AirflowSkipException("No training to ask for")
        log.warning("Asking to train %s anew on what is known of %s", ", ".join(wanted), run.as_of)
        announce(context, self.outlets, replace(run, overrides=training(run, wanted)), ref)
        cast(Any, context)["outlet_events"][RETRAIN].extra["domains"] = wanted


def to_retrain(
    alerts: Iterable[Mapping[str, Any]], run: Run, asked: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Return the domains that training may help, but those asked for on this day already.

    Parameters
    ----------
    alerts : with `domain` and `retrain`.
    asked : extras of earlier events.
    """
    day = run.as_of.isoformat()
    done = {
        domain for extra in asked if extra.get("as_of") == day
        for domain in extra.get("domains", ())
    }  # fmt: skip
    return sorted({each["domain"] for each in alerts if each["retrain"]} - done)


def training(run: Run, domains: Iterable[str]) -> dict[str, Mapping[str, object]]:
    """Return the run's overrides with those that make a domain train on the day's own data."""
    forced = {domain: TRAINING_ANEW.get(domain, {}) for domain in domains}
    both = {*run.overrides, *(domain for domain, settings in forced.items() if settings)}
    return {
        domain: {**run.overrides.get(domain, {}), **forced.get(domain, {})}
        for domain in sorted(both)
    }
