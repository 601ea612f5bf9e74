"""What Airflow's user interface gets from us: the console."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

# Airflow's own address may have a path, behind a proxy: ours lies below it.
BASE = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")


class EcomPlugin(AirflowPlugin):
    """Adds **Shop console** to the menu."""

    name = "ecom"
    external_views = [  # noqa: RUF012  Airflow's own way to declare them
        {
            "name": "Shop console",
            "href": f"{BASE}/ecom/",
            "url_route": "console",
            "destination": "nav",
            "category": "browse",
        }
    ]

    # Only the API server asks for it; the scheduler and its workers need not load FastAPI.
    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        from ecom_console.app import app

        return [{"app": app, "url_prefix": "/ecom", "name": "ecom"}]
