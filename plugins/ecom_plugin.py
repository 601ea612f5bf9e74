"""What Airflow's user interface gets from us: the page of releases."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


class EcomPlugin(AirflowPlugin):
    """Adds **Releases** to the menu."""

    name = "ecom"
    external_views = [  # noqa: RUF012  Airflow's own way to declare them
        {
            "name": "Releases",
            "href": "/ecom/releases",
            "url_route": "releases",
            "destination": "nav",
            "category": "browse",
        }
    ]

    # Only the API server asks for it; the scheduler and its workers need not load FastAPI.
    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        from ecom_console.releases import app

        return [{"app": app, "url_prefix": "/ecom", "name": "ecom"}]
