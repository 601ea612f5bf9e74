"""A browser before a real Airflow that shows the demonstration's artefacts.

The artefacts are copied from the demonstration that ran last (`make demo`; `ECOM_HOME` says where
it is when elsewhere) into a bucket of these tests' own, so that releases can be moved at will. A
second release of pricing is made there by the flow's own last task: it waits for approval.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from ecom_tasks import services
from ecom_tasks.artefacts import release
from ecom_tasks.artefacts.manifest import Manifest
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.demo import wait_for_dags
from ecom_tasks.run import Run
from ecom_tasks.services import blueprint, credentials, orchestrator, processes, state
from ecom_tasks.services.object_store import BUCKET

PROJECT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("ECOM_CHROMIUM", "/usr/bin/chromium")
PASSWORDS = {"admin": "", "vera": "only-looks-7f3a"}
SHOTS = Path(os.environ.get("ECOM_SHOTS", PROJECT / ".ecom" / "screenshots"))


@dataclass(frozen=True)
class Site:
    """Where the console is, the root that it shows, and what reaches that root."""

    url: str
    root: str
    environment: dict[str, str]
    pending: str
    """Version of pricing that waits for approval."""

    @property
    def console(self) -> str:
        return f"{self.url}/ecom"

    def production(self, domain: str) -> Manifest:
        """Manifest of what is in service, read from the store and from no page."""
        store = open_store(self.root)
        pointer = release.read_pointer(store, f"artefacts/{domain}", release.PRODUCTION)
        assert pointer is not None
        return release.read_manifest(store, pointer.name, pointer.version)

    def pointer(self, domain: str) -> release.Pointer:
        found = release.read_pointer(
            open_store(self.root), f"artefacts/{domain}", release.PRODUCTION
        )
        assert found is not None
        return found


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    demonstration = os.environ.get("ECOM_HOME") or PROJECT / ".ecom"
    if not (Path(demonstration) / "services.json").exists():
        pytest.fail(f"No demonstration in {demonstration}: run make demo first")
    theirs = services.environment(demonstration, "consumer")
    home = tmp_path_factory.mktemp("browser") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("ECOM_", "AWS_"))]:
            patch.delenv(name)
        shop = urlsplit(theirs["ECOM_ROOT"]).path.strip("/")
        try:
            started = services.start(home, shop=shop)
            copy(theirs, started.environment)
            pending = second_release(started)
            add_viewer(home)
            wait_for_dags(services.start(home))
            yield Site(started.airflow_url, started.root, started.environment, pending)
        finally:
            services.clean(home)


def copy(theirs: dict[str, str], ours: dict[str, str]) -> None:
    """Copy all objects below the shop's prefix from one store to the other."""
    source, target = (
        boto3.client(
            "s3", endpoint_url=each["ECOM_S3_ENDPOINT"], region_name=each["AWS_REGION"],
            aws_access_key_id=each["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=each["AWS_SECRET_ACCESS_KEY"],
            # A busy machine may take its time over some of the 400 MB.
            config=Config(read_timeout=180, retries={"max_attempts": 5, "mode": "standard"}),
        )
        for each in (theirs, ours)
    )  # fmt: skip
    prefix = urlsplit(theirs["ECOM_ROOT"]).path.strip("/") + "/"
    pages = source.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [each["Key"] for page in pages for each in page.get("Contents", [])]

    def one(key: str) -> None:
        body = source.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        target.put_object(Bucket=BUCKET, Key=key, Body=body)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, keys))


@pytest.fixture(autouse=True)
def _reaching(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests read the store past the console, to know what it should show."""
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)


def second_release(started: services.Services) -> str:
    """Release pricing once more with a lower limit for what needs a person."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in started.environment.items():
            patch.setenv(name, value)
        return _second_release(started)


def _second_release(started: services.Services) -> str:
    store = open_store(started.root)
    pointer = release.read_pointer(store, "artefacts/pricing", release.PRODUCTION)
    assert pointer is not None
    made = release.read_manifest(store, pointer.name, pointer.version)
    settings = {name: value for name, value in made.config.items() if name != "gate"}
    run = Run("browser", made.as_of, started.root, overrides={
        "pricing": settings, "gate": {"approve_price_move": 0.05},
    })  # fmt: skip
    command = [sys.executable, "-m", "ecom_tasks", "step", "pricing", "publish_release",
               *made.inputs.values(), "--run", run.to_json()]  # fmt: skip
    subprocess.run(command, cwd=PROJECT, check=True)
    waiting = release.read_pointer(store, "artefacts/pricing", release.PENDING)
    assert waiting is not None
    assert waiting.version != made.version
    return waiting.version


def add_viewer(home: Path) -> None:
    """Give Airflow a second user, who may read and nothing else; its server learns it anew."""
    folder = home / "airflow"
    settings = folder / "airflow.cfg"
    text = settings.read_text(encoding="utf-8")
    known = f"simple_auth_manager_users = {orchestrator.USER}:admin"
    assert known in text
    settings.write_text(text.replace(known, f"{known},vera:viewer"), encoding="utf-8")
    passwords = folder / "passwords.json"
    both = json.loads(passwords.read_text(encoding="utf-8"))
    PASSWORDS["admin"] = both["admin"]
    passwords.write_text(json.dumps(both | {"vera": PASSWORDS["vera"]}) + "\n", encoding="utf-8")
    known_state = state.read_state(home)
    processes.end(known_state.named("api-server"))
    left = [each for each in known_state.services if each.name != "api-server"]
    state.write_state(home, replace(known_state, services=left))
    plan = blueprint.draw(home, credentials.load(home))
    blueprint.launch(plan, ("api-server",))
    api = services.AirflowApi(plan.airflow_url, orchestrator.USER, PASSWORDS["admin"])
    assert processes.wait_until(lambda: orchestrator.healthy(api), 120)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@dataclass(frozen=True)
class Visitor:
    """Somebody at a browser, and all that went wrong before their eyes."""

    page: Any
    faults: list[str]
    hosts: set[str]


@pytest.fixture
def visit(browser: Any, site: Site) -> Iterator[Any]:
    """Open a browser window for a user who logs in by Airflow's own form."""
    contexts = []

    def open_for(user: str, *, width: int = 1280, dark: bool = False) -> Visitor:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page, faults, hosts = context.new_page(), [], set()
        page.goto(f"{site.url}/auth/login")
        page.get_by_label("Username").fill(user)
        page.get_by_label("Password").fill(PASSWORDS[user])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/auth/login" not in url)
        page.on("console", lambda said: said.type == "error" and faults.append(said.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: hosts.add(urlsplit(asked.url).netloc))
        return Visitor(page, faults, hosts)

    yield open_for
    for context in contexts:
        context.close()
