"""Move a release in the name of whoever triggered the run, in a fresh interpreter."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException
from ecom_airflow import RETRIES, RETRY_POLICY, announce, connections, current_run, released
from ecom_explain import result
from ecom_step import environment, launch

from ecom_tasks.artefacts import release
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.domains import PUBLISHING, RELEASING
from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Ref

log = logging.getLogger(__name__)
REASONS = {"promote": "promoted", "approve": "approved", "rollback": "rolled back"}


class MoveOperator(BaseOperator):
    """Promote a version of one domain or roll back, where the run's form is about that domain.

    The domain's asset has an event only then: a skipped task tells nobody.
    """

    def __init__(self, *, domain: str, **kwargs: Any) -> None:
        settings: dict[str, Any] = {
            "task_id": f"move_{domain}",
            "outlets": [released(domain)],
            "pool": "default_pool",
            "retries": RETRIES,
            "retry_policy": RETRY_POLICY,
            "doc_md": "Move the channel; only this process is given the signing key.",
        }
        super().__init__(**settings | kwargs)
        self.domain = domain

    def execute(self, context: Context) -> str:
        run, params = current_run(context), context["params"]
        # Who asked is what Airflow saw, never what a form says.
        person = context["dag_run"].triggering_user_name or ""
        domain = str(params["domain"])
        if domain in RELEASING and domain != self.domain:
            raise AirflowSkipException(f"This run is about {domain}")
        command = spelled(domain, str(params["action"]), str(params["version"]), person)
        log.info("%s %s %s, asked for by %s", params["action"], domain, params["version"], person)
        outcome = launch(
            [sys.executable, "-m", "ecom_tasks", *command, "--root", run.root],
            environment(connections(domain, PUBLISHING, run)),
        ).wait()
        if outcome.exit_code:
            result(outcome, [])  # raises what the command named
        pointer = release.read_pointer(
            open_store(run.root), f"artefacts/{domain}", release.PRODUCTION
        )
        if pointer is None:
            raise ConfigError(f"{domain} has nothing in service after the move", "See `history`")
        ref = Ref(f"{run.root.rstrip('/')}/{pointer.manifest}")
        announce(context, self.outlets, replace(run, as_of=pointer.as_of), ref)
        return ref


def spelled(domain: str, action: str, version: str, person: str) -> list[str]:
    """Spell a move as a command; `ConfigError` where the form asks for what cannot be done."""
    if domain not in RELEASING or action not in REASONS:
        raise ConfigError(
            f"{action} {domain} is no move",
            f"Actions: {', '.join(REASONS)}; domains: {', '.join(RELEASING)}",
        )
    if action == "rollback":
        return ["rollback", domain, "--by", person]
    if not version or version.startswith("-"):
        raise ConfigError(f"No version of {domain} is named", "Give one from the list of releases")
    return ["promote", domain, version, "--by", person, "--reason", REASONS[action]]
