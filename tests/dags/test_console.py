"""The page of releases: what it lists, what it says when there is nothing, what it lets in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from airflow.api_fastapi.core_api.security import get_user
from ecom_console.releases import app
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.errors import ModelRejectedError
from ecom_tasks.run import Run

NASTY = "<script>alert(1)</script>"


@pytest.fixture
def client(root: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Somebody who is logged in."""
    monkeypatch.setenv("ECOM_ROOT", root)
    app.dependency_overrides[get_user] = lambda: "somebody"
    yield TestClient(app)
    app.dependency_overrides.clear()


def publish(run: Run, value: float, *, report: str = "", unit: str = "rows") -> str:
    """Publish a pricing release with a headline; return its version."""

    def build(draft: Draft) -> None:
        draft.write_text("prices.csv", str(value))
        if report:
            draft.write_text("report.html", report)
        draft.headline(
            metric="wape", value=value, baseline_name="last price", baseline=0.5,
            higher_is_better=False, rows=1234, unit=unit,
        )  # fmt: skip

    build.__module__ = "ecom_tasks.pricing.tasks"
    ref = dataset.produce(run, "artefacts/pricing", build)
    return dataset.manifest(dataset.release(run, ref)).version


def test_every_route_asks_who_is_there() -> None:
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(routes) == 3
    for route in routes:
        assert get_user in {each.call for each in route.dependant.dependencies}, route.path
    # Nothing else is reachable: no schema, no explorer.
    assert len(app.routes) == len(routes)


def test_list_shows_what_was_published(client: TestClient, run: Run, another_day: Run) -> None:
    older = publish(run, 0.4)
    newer = publish(another_day, 0.25)
    page = client.get("/releases").text
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)[1:]
    assert [older in row for row in rows] == [False, True]
    assert [newer in row for row in rows] == [True, False]
    assert ["in service" in row for row in rows] == [True, False]
    first = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", rows[0]))
    for text in ("2024-04-07", "wape lower is better", "0.25", "last price", "0.5", "1,234 rows"):
        assert text in first


def test_worse_than_the_baseline_is_marked(client: TestClient, run: Run) -> None:
    publish(run, 0.7)
    assert re.search(r'class="number bad">\s*0\.7\s*<', client.get("/releases").text)


def test_a_rejected_version_is_listed_with_its_reason(client: TestClient, run: Run) -> None:
    def build(draft: Draft) -> None:
        draft.write_text("prices.csv", "1")
        draft.limit(f"largest price move {NASTY}", 0.7, (None, 0.5))

    build.__module__ = "ecom_tasks.pricing.tasks"
    ref = dataset.produce(run, "artefacts/pricing", build)
    with pytest.raises(ModelRejectedError):
        dataset.release(run, ref)
    page = client.get("/releases").text
    assert dataset.manifest(ref).version in page
    assert ">rejected<" in page
    assert "0.7, at most 0.5" in page
    assert "in service</span>" not in page
    assert NASTY not in page


def test_nothing_published_says_how_to_begin(client: TestClient) -> None:
    answer = client.get("/releases")
    assert answer.status_code == 200
    assert "Nothing is published yet" in answer.text
    assert "ingestion" in answer.text


def test_unreachable_store_says_what_to_do(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOM_ROOT", "")
    answer = client.get("/releases")
    assert answer.status_code == 503
    assert "Set ECOM_ROOT for the API server" in answer.text


def test_names_from_the_data_are_text(client: TestClient, run: Run) -> None:
    publish(run, 0.4, unit=NASTY)
    page = client.get("/releases").text
    assert NASTY not in page
    assert "&lt;script&gt;alert(1)" in page


def test_report_is_shown_but_runs_nothing(client: TestClient, run: Run) -> None:
    version = publish(run, 0.4, report=f"<h1>Report</h1>{NASTY}")
    around = client.get(f"/releases/pricing/{version}")
    (source,) = re.findall(r'<iframe src="([^"]+)"', around.text)
    assert source == f"{version}/report.html"
    answer = client.get(f"/releases/pricing/{source}")
    assert answer.text == f"<h1>Report</h1>{NASTY}"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none';")
    assert "script" not in policy


def test_report_that_is_not_there(client: TestClient, run: Run) -> None:
    version = publish(run, 0.4)
    answer = client.get(f"/releases/pricing/{version}/report.html")
    assert answer.status_code == 404
    assert f"pricing {version} has no report" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/releases/..%2f..%2flake/1/report.html",
        "/releases/pricing/..%2f..%2f..%2fsecret/report.html",
        "/releases/pricing/.hidden/report.html",
        "/releases/PRICING/1/report.html",
    ],
)
def test_paths_lead_nowhere_else(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in {404, 422}


def test_page_loads_nothing_from_elsewhere(client: TestClient, run: Run) -> None:
    publish(run, 0.4)
    answer = client.get("/releases")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    (nonce,) = re.findall(r"script-src 'nonce-([^']+)'", policy)
    assert re.findall(r"<script([^>]*)>", answer.text) == [f' nonce="{nonce}"']
    assert "://" not in answer.text
    assert nonce not in client.get("/releases").text  # another one each time
    assert answer.headers["cache-control"] == "no-store"


def test_plugin_loads_nothing_heavy_by_itself() -> None:
    import subprocess
    import sys

    project = Path(__file__).resolve().parents[2]
    code = (
        "import sys; sys.path.insert(0, 'plugins'); import airflow.plugins_manager; "
        "before = set(sys.modules); import ecom_plugin; "
        "print(*sorted({n.partition('.')[0] for n in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["ecom_plugin"]


def test_versions_of_a_day_are_dated(client: TestClient, run: Run) -> None:
    publish(run, 0.4)
    assert f"<code>{date(2024, 3, 31)}-" in client.get("/releases").text
