"""The container files agree with each other; they cannot be run here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
COMPOSE = PROJECT / "docker" / "compose.yaml"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text(encoding="utf-8")))


def test_every_secret_that_is_demanded_is_written(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    shutil.copy(PROJECT / "docker" / "make_env.py", tmp_path / "docker")
    (tmp_path / "ecom_tasks").symlink_to(PROJECT / "ecom_tasks")
    command = [sys.executable, str(tmp_path / "docker" / "make_env.py")]
    subprocess.run(command, check=True, capture_output=True)
    written = tmp_path / "docker" / ".env"
    assert written.stat().st_mode & 0o777 == 0o600
    text = written.read_text(encoding="utf-8")
    values = dict(shlex.split(line)[0].split("=", 1) for line in text.splitlines())
    demanded = set(re.findall(r"\$\{(\w+):\?\}", COMPOSE.read_text(encoding="utf-8")))
    assert demanded
    assert demanded | {"STORE_IDENTITIES"} == set(values)
    assert len(set(values.values())) == len(values)
    assert values["PUBLISHER_SECRET"] in values["STORE_IDENTITIES"]
    # Once only: the store and the database were made with these.
    subprocess.run(command, check=True, capture_output=True)
    assert written.read_text(encoding="utf-8") == text


def test_ports_are_published_on_loopback_only(compose: dict[str, Any]) -> None:
    published = [port for each in compose["services"].values() for port in each.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_who_is_given_the_key_of_pseudonyms(compose: dict[str, Any]) -> None:
    given = {
        name for name, each in compose["services"].items()
        if "PSEUDONYM_KEY" in str(each.get("environment"))
    }  # fmt: skip
    assert given == {"scheduler"}


def test_what_is_waited_for_is_there(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, each in services.items():
        for other, how in each.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"
            assert "healthcheck" in services[other] or not healthy, (name, other)


def test_image_holds_what_runs() -> None:
    lines = (PROJECT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    ignore = (PROJECT / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (?!--from)(?:--chown=\S+ )?(.+) \S+$", lines, re.MULTILINE)
    sources = [source for group in copied for source in group.split()]
    assert {"ecom_tasks", "dags", "plugins", "expectations", "requirements.txt"} <= set(sources)
    for source in sources:
        assert (PROJECT / source).exists()
        assert f"!{source}" in ignore.splitlines()
    assert "USER ecom" in lines
    assert not os.access(PROJECT / "docker" / ".env", os.R_OK) or ".env" in (
        PROJECT / "docker" / ".gitignore"
    ).read_text(encoding="utf-8")
