"""Airflow's REST API, as far as we ask it: JSON over loopback with a token."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from ecom_tasks.errors import ConfigError, RetryableError

_TIMEOUT_S = 75
"""Longer than the embedded Airflow's database waits for its one writer (60 s)."""


@dataclass(repr=False)
class AirflowApi:
    """Ask one Airflow; a token is fetched with the first question and renewed when it expires.

    Methods raise `RetryableError` when nobody answers or the server fails, `ConfigError` when it
    refuses the question.
    """

    url: str
    user: str
    password: str
    _token: str = field(default="", init=False)

    def get(self, path: str, **query: object) -> Any:
        """Ask `/api/v2/<path>`; a list among `query` becomes a repeated parameter."""
        text = "?" + urlencode(query, doseq=True) if query else ""
        return self._ask("GET", f"/api/v2/{path}{text}")

    def answers(self, path: str) -> bool:
        """Whether the server has an answer under this path, whatever it takes to find it."""
        return bool(_answer(self.url, "GET", path))

    def post(self, path: str, body: object) -> Any:
        return self._ask("POST", f"/api/v2/{path}", body)

    def patch(self, path: str, body: object) -> Any:
        return self._ask("PATCH", f"/api/v2/{path}", body)

    def token(self) -> str:
        """Return the token that proves who asks, fetching it where there is none."""
        if not self._token:
            login = {"username": self.user, "password": self.password}
            self._token = str(_answer(self.url, "POST", "/auth/token", login)["access_token"])
        return self._token

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        for attempt in range(2):
            token = self.token()
            try:
                return _answer(self.url, method, path, body, token)
            except PermissionError as error:
                self._token = ""
                if attempt:
                    raise _refused(self.url, path, str(error)) from error
        raise AssertionError("unreachable")


def _answer(url: str, method: str, path: str, body: object = None, token: str = "") -> Any:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_S)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, body=data, headers=headers)
        response = connection.getresponse()
        status, text = response.status, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise RetryableError(
            f"Airflow does not answer at {url}: {error}", "Start it: make demo"
        ) from error
    finally:
        connection.close()
    if status == http.client.UNAUTHORIZED and token:
        raise PermissionError(text[:200])
    if status >= http.client.INTERNAL_SERVER_ERROR:
        raise RetryableError(f"Airflow failed on {path}: {status} {text[:300]}", "Ask again")
    if status >= http.client.BAD_REQUEST:
        raise _refused(url, path, f"{status} {text[:300]}")
    return json.loads(text) if text else {}


def _refused(url: str, path: str, why: str) -> ConfigError:
    return ConfigError(f"Airflow at {url} refuses {path}: {why}", "Check login and request")
