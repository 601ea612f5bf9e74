"""Who may see and change what: Airflow's own users and rights, and nothing beside them.

A page of a domain is shown to who may read the DAG of that name; a channel is moved by who may
trigger the DAG `promotion`. Airflow mounts plugins without asking who calls, so every route of the
console depends on one of these.
"""

from __future__ import annotations

from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from fastapi import Depends, Form, HTTPException, Request

from ecom_tasks.domains import RELEASING

PROMOTION = "promotion"
"""DAG that moves channels; see `dags/promotion.py`."""
_VALID_S = 12 * 3600

logged_in = Depends(get_user)


def reads(*dags: str) -> Any:
    """Let in who may read all of these DAGs; others are answered 401 or 403."""
    checks = [requires_access_dag("GET", param_dag_id=dag) for dag in dags]

    def check(request: Request, user: GetUserDep) -> None:
        for each in checks:
            each(request, user)

    return Depends(check)


def reads_domain(domain: str, request: Request, user: GetUserDep) -> None:
    """Let in who may read the DAG of the domain that the path names."""
    if domain not in RELEASING:
        raise HTTPException(404, f"There is no domain {domain}")
    requires_access_dag("GET", param_dag_id=domain)(request, user)


def moves(request: Request, user: GetUserDep) -> None:
    """Let in who may trigger the DAG that moves channels."""
    requires_access_dag("POST", DagAccessEntity.RUN, PROMOTION)(request, user)


def may(check: Any, *arguments: Any) -> bool:
    """Whether a check lets somebody in, for pages that show only what works."""
    try:
        check(*arguments)
    except HTTPException:
        return False
    return True


def form_token(user: Any) -> str:
    """Make what a form must send back, so that no other site's form can act for the user."""
    return str(_signer().dumps(str(user.get_id())))


def meant(request: Request, user: GetUserDep, token: Annotated[str, Form()] = "") -> None:
    """Let in a form that this console made for this user, at most half a day ago."""
    from itsdangerous import BadSignature

    # Browsers say where a request comes from; a page of another site is refused at once.
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise HTTPException(403, "The form was sent by another site")
    try:
        known = _signer().loads(token, max_age=_VALID_S)
    except BadSignature as error:
        raise HTTPException(403, "The form is too old, or was not made here") from error
    if known != str(user.get_id()):
        raise HTTPException(403, "The form was made for somebody else")


def _signer() -> Any:
    from airflow.configuration import conf
    from itsdangerous import URLSafeTimedSerializer

    return URLSafeTimedSerializer(conf.get_mandatory_value("api", "secret_key"), "ecom-console")
