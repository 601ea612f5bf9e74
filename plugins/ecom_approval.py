"""A person approves a release in Airflow: asked only where the release's gate says so.

`ECOM_APPROVAL` names the domains whose DAG has these tasks, `pricing,inventory` by default; `none`
leaves them out. A release that needs approval then waits in the channel `pending` until somebody
promotes it by command. `ECOM_APPROVAL_HOURS` is how long a person is waited for.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Context
from ecom_airflow import RETRIES, RETRY_POLICY, announce, connections, current_run
from ecom_airflow import released as released_asset
from ecom_explain import result
from ecom_step import environment, launch

from ecom_tasks.artefacts import release
from ecom_tasks.artefacts.manifest import Headline
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.domains import PUBLISHING
from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Ref

log = logging.getLogger(__name__)
DOMAINS = "pricing,inventory"
PATIENCE_HOURS = 24.0
"""After which nobody's answer is a rejection."""


def approval_steps(domain: str, released: Ref) -> None:
    """Enter the tasks after the release in the DAG being built, where the domain is named.

    Parameters
    ----------
    released : output of the flow's last task.
    """
    if domain not in os.environ.get("ECOM_APPROVAL", DOMAINS).split(","):
        return
    from airflow.providers.standard.operators.hitl import ApprovalOperator
    from airflow.providers.standard.operators.python import ShortCircuitOperator

    common: dict[str, Any] = {
        "pool": "default_pool", "retries": RETRIES, "retry_policy": RETRY_POLICY,
    }  # fmt: skip
    needs_approval = ShortCircuitOperator(
        task_id="needs_approval",
        doc_md="Go on only where the release waits for a person; hand on what they should know.",
        python_callable=question,
        op_args=[released],
        **common,
    )
    approve_release = ApprovalOperator(
        task_id="approve_release",
        doc_md="Wait for a person; no answer in time rejects.",
        subject=f"Put this release of {domain} into service?",
        body="{{ ti.xcom_pull(task_ids='needs_approval') }}",
        defaults=ApprovalOperator.REJECT,
        response_timeout=patience(),
        **common,
    )
    promote_release = PromoteOperator(
        task_id="promote_release",
        doc_md="Put what was approved into service, with the approver's name in the history.",
        domain=domain,
        released=released,
        person="{{ ti.xcom_pull(task_ids='approve_release')['responded_by_user']['name'] }}",
        # Once more, since only now it is in service: what follows the release is set off again.
        outlets=[released_asset(domain)],
        **common,
    )
    needs_approval >> approve_release >> promote_release


def patience() -> timedelta:
    """How long a person is waited for; `ConfigError` where the setting is no time."""
    text = os.environ.get("ECOM_APPROVAL_HOURS", str(PATIENCE_HOURS))
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if hours <= 0:
        raise ConfigError(
            f"ECOM_APPROVAL_HOURS is {text!r}", "Give hours above 0, for example 24 or 0.5"
        )
    return timedelta(hours=hours)


def question(ref: str) -> str:
    """Say what a person should know to decide, as Markdown; empty where nobody need be asked."""
    made = release.manifest_of(Ref(ref))
    store = open_store(ref.removesuffix(f"/{release.manifest_key(made)}"))
    if not made.gate or not release.awaits_approval(store, made):
        return ""
    champion = None
    if made.gate.champion:
        champion = release.read_manifest(store, made.name, made.gate.champion)
    lines = [f"**{made.name} {made.version}** waits, since", ""]
    lines += [f"- {reason}" for reason in made.gate.approval]
    lines += ["", "| | figure | plain baseline | rows |", "|---|---|---|---|"]
    lines.append(_row("this version", made.headline))
    if champion:
        lines.append(_row(f"in service: {champion.version}", champion.headline))
    lines += ["", "The gate let it pass:", ""]
    lines += [f"- {check.question}: {check.said}" for check in made.gate.checks]
    lines += ["", "Its report, and what differs, is on the page **Releases** of the console."]
    return "\n".join(lines)


def _row(name: str, headline: Headline | None) -> str:
    if headline is None:
        return f"| {name} | - | - | - |"
    return (
        f"| {name} | {headline.metric} {headline.value:.4g} | "
        f"{headline.baseline_name} {headline.baseline:.4g} | {headline.rows:,} {headline.unit} |"
    )


class PromoteOperator(BaseOperator):
    """Promote a version in a fresh interpreter, which alone is given the signing key."""

    template_fields: Sequence[str] = ("released", "person")

    def __init__(self, *, domain: str, released: Any, person: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.domain, self.released, self.person = domain, released, person

    def execute(self, context: Context) -> str:
        run, made = current_run(context), release.manifest_of(Ref(str(self.released)))
        log.info("%s %s was approved by %s", made.name, made.version, self.person)
        command = [
            sys.executable, "-m", "ecom_tasks", "promote", self.domain, made.version,
            "--by", self.person, "--root", run.root,
        ]  # fmt: skip
        outcome = launch(command, environment(connections(self.domain, PUBLISHING, run))).wait()
        if outcome.exit_code:
            result(outcome, [])  # raises what the command named
        ref = Ref(str(self.released))
        announce(context, self.outlets, run, ref)
        return ref
