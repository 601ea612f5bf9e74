"""The console: who is let in, what each page shows of what was published, and what it says else."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dag import DagModel
from ecom_console import published, rights, runs
from ecom_console.app import app
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from ecom_tasks.artefacts import dataset, release
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.errors import ConfigError, ModelRejectedError
from ecom_tasks.run import Run
from tests.dags import console_shop
from tests.dags.console_shop import CUSTOMER, NASTY

PAGES = [
    "/", "/data", "/data/table/order_lines", "/releases", "/recommendation",
    "/recommendation/products", "/recommendation/quality", "/recommendation/product?id=p1",
    f"/recommendation/customer?id={CUSTOMER}", "/pricing", "/pricing/categories",
    "/pricing/promotions", "/pricing/tests", "/pricing/product?id=p1", "/inventory",
    "/inventory/exceptions", "/inventory/product?id=p1", "/whatif", "/whatif?id=p1",
]  # fmt: skip
Person = SimpleAuthManagerUser


@pytest.fixture
def who() -> dict[str, Any]:
    """Who asks; a test may put somebody else here, or None for nobody."""
    return {"user": Person(username="ann", role="ADMIN")}


@pytest.fixture
def client(root: str, who: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The console below a path, as Airflow mounts it; Airflow's database is left out."""
    monkeypatch.setenv("ECOM_ROOT", root)
    monkeypatch.setattr(DagModel, "get_team_name", staticmethod(lambda _: None))
    monkeypatch.setattr(runs, "last", lambda _: [])
    monkeypatch.setattr(published, "_kept", None)
    create_auth_manager()
    app.dependency_overrides[get_user] = lambda: who["user"]
    yield TestClient(app, root_path="/shop/ecom", follow_redirects=False)
    app.dependency_overrides.clear()


@pytest.fixture
def shop(run: Run) -> dict[str, str]:
    """Versions of a tiny shop, by name."""
    return {name: dataset.manifest(ref).version for name, ref in console_shop.shop(run).items()}


def text(page: str) -> str:
    """What a reader sees of a page, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def rows(page: str) -> list[str]:
    return [text(row) for row in re.findall(r"<tr[ >].*?</tr>", page, re.DOTALL)][1:]


# Who is let in ----------------------------------------------------------------------------------


def filled(route: APIRoute) -> str:
    values = {"domain": "pricing", "number": "1", "table": "order_lines", "name": "theme.js",
              "path": "report.html"}  # fmt: skip
    return re.sub(r"\{(\w+)(:path)?\}", lambda found: values[found[1]], route.path)


ROUTES = [route for route in app.routes if isinstance(route, APIRoute)]


def test_nothing_but_our_routes_is_reachable() -> None:
    assert len(app.routes) == len(ROUTES) >= 25
    assert {method for route in ROUTES for method in route.methods} == {"GET", "POST"}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_route_asks_who_is_there(route: APIRoute, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_ROOT", "")
    create_auth_manager()
    client = TestClient(app, follow_redirects=False)
    for method in route.methods:
        answer = client.request(method, filled(route))
        assert answer.status_code == 401, (method, route.path)
        assert "Log in to Airflow" in answer.text
        forged = client.request(method, filled(route), headers={"Authorization": "Bearer forged"})
        assert forged.status_code in {401, 403}


OPEN = {"/", "/static/{name}", "/releases"}
"""Routes that show somebody without rights nothing of a domain, or are no page."""


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.path not in OPEN], ids=lambda route: route.path
)
def test_every_page_of_a_domain_asks_for_its_right(
    route: APIRoute, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = create_auth_manager()
    monkeypatch.setattr(type(manager), "is_authorized_dag", lambda *_, **__: False)
    for method in route.methods:
        answer = client.request(
            method, filled(route), data={"action": "promote"} if method == "POST" else None
        )
        assert answer.status_code == 403, (method, route.path)


def test_without_rights_the_overview_is_empty(
    client: TestClient, shop: dict[str, str], monkeypatch: pytest.MonkeyPatch  # noqa: ARG001
) -> None:  # fmt: skip
    allowed = {"pricing"}
    monkeypatch.setattr(
        type(create_auth_manager()), "is_authorized_dag",
        lambda *_, details, **__: details.id in allowed,
    )  # fmt: skip
    page = text(client.get("/").text)
    assert "deviance" in page
    assert "wrmsse" not in page
    assert "quarantined" not in page
    assert client.get("/pricing").status_code == 200
    assert client.get("/inventory").status_code == 403
    # What if needs both.
    assert client.get("/whatif").status_code == 403
    assert {row.split()[1] for row in rows(client.get("/releases").text)} == {"pricing"}
    allowed.clear()
    assert "You may read none" in client.get("/").text


# Moving a release -------------------------------------------------------------------------------


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, str], str]]:
    """Moves that were asked for, and in whose name."""
    asked: list[tuple[dict[str, str], str]] = []

    def order(conf: dict[str, str], user: Any) -> str:
        asked.append((conf, user.get_name()))
        return "run-1"

    monkeypatch.setattr(runs, "order_move", order)
    monkeypatch.setattr(runs, "state", lambda *_: "running")
    return asked


@pytest.fixture
def two(run: Run, another_day: Run) -> tuple[str, str]:
    """Two releases of pricing: the older, and the newer one in service."""
    refs = [console_shop.pricing(each, console_shop.lake(each), value)
            for each, value in ((run, 0.4), (another_day, 0.3))]  # fmt: skip
    older, newer = (dataset.manifest(ref).version for ref in refs)
    return older, newer


def form_of(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


@pytest.mark.parametrize(("which", "action"), [(0, "promote"), (1, "rollback")])
def test_who_may_moves_a_release(
    client: TestClient, two: tuple[str, str], ordered: list[Any], which: int, action: str
) -> None:
    where = f"/releases/pricing/{two[which]}"
    form = form_of(client.get(where).text)
    assert form["action"] == action
    answer = client.post(f"{where}/move", data=form)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/shop/ecom{where}?asked=run-1"
    assert ordered == [({"domain": "pricing", "action": action, "version": two[which]}, "ann")]
    after = client.get(f"{where}?asked=run-1").text
    assert "The move is under way" in after
    assert 'http-equiv="refresh"' in after
    assert "<form" not in after.partition("<main")[2].partition("<h2>")[0]


def test_who_may_not_is_shown_no_button_and_refused(
    client: TestClient, two: tuple[str, str], ordered: list[Any], who: dict[str, Any]
) -> None:
    where = f"/releases/pricing/{two[0]}"
    form = form_of(client.get(where).text)
    who["user"] = Person(username="vic", role="VIEWER")
    page = client.get(where)
    assert page.status_code == 200
    assert "Put into service" not in page.text
    form["token"] = rights.form_token(who["user"])
    assert client.post(f"{where}/move", data=form).status_code == 403
    assert ordered == []


@pytest.mark.parametrize("how", ["no token", "forged", "of another user", "from another site"])
def test_a_form_that_was_not_made_here_moves_nothing(
    client: TestClient, two: tuple[str, str], ordered: list[Any], how: str
) -> None:
    where = f"/releases/pricing/{two[0]}"
    form, headers = form_of(client.get(where).text), {}
    match how:
        case "no token":
            del form["token"]
        case "forged":
            form["token"] = form["token"][:-2] + "xx"
        case "of another user":
            form["token"] = rights.form_token(Person(username="eve", role="ADMIN"))
        case _:
            headers["Sec-Fetch-Site"] = "cross-site"
    answer = client.post(f"{where}/move", data=form, headers=headers)
    assert answer.status_code == 403
    assert "nothing was changed" in answer.text
    assert ordered == []


def test_what_is_not_offered_is_refused(
    client: TestClient, two: tuple[str, str], ordered: list[Any]
) -> None:
    form = form_of(client.get(f"/releases/pricing/{two[0]}").text)
    # Somebody has put it into service meanwhile: the button of before is no longer there.
    release.promote(published.root(), "artefacts/pricing", two[0])
    answer = client.post(f"/releases/pricing/{two[0]}/move", data=form)
    assert answer.status_code == 409
    form["action"] = "delete"
    assert client.post(f"/releases/pricing/{two[0]}/move", data=form).status_code == 422
    assert client.get(f"/releases/pricing/{two[0]}/move").status_code == 405
    assert ordered == []


def rejected(run: Run) -> str:
    def build(draft: Draft) -> None:
        draft.write_text("prices.csv", "1")
        draft.limit(f"largest price move {NASTY}", 0.7, (None, 0.5))

    build.__module__ = "ecom_tasks.pricing.tasks"
    ref = dataset.produce(run, "artefacts/pricing", build)
    with pytest.raises(ModelRejectedError):
        dataset.release(run, ref)
    return dataset.manifest(ref).version


def test_a_refused_version_is_listed_with_its_reason_and_offered_nowhere(
    client: TestClient, run: Run
) -> None:
    version = rejected(run)
    (row,) = rows(client.get("/releases").text)
    assert version in row
    assert "refused" in row
    assert "0.7, at most 0.5" in row
    page = client.get(f"/releases/pricing/{version}").text
    assert "--although-rejected" in page
    assert "/move" not in page
    assert NASTY not in page


def test_what_waits_for_approval_is_approved(
    client: TestClient, run: Run, ordered: list[Any]
) -> None:
    def build(draft: Draft) -> None:
        draft.write_text("prices.csv", "1")
        draft.ask("largest price move", 0.4, 0.25)

    build.__module__ = "ecom_tasks.pricing.tasks"
    ref = dataset.release(run, dataset.produce(run, "artefacts/pricing", build))
    version = dataset.manifest(ref).version
    assert "Waits for approval" in client.get("/").text
    where = f"/releases/pricing/{version}"
    page = client.get(where).text
    assert "largest price move: 0.4, above 0.25" in page
    client.post(f"{where}/move", data=form_of(page))
    assert [conf["action"] for conf, _ in ordered] == ["approve"]


def test_a_paused_dag_is_told(
    client: TestClient, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def order(*_: Any) -> str:
        raise ConfigError("The DAG promotion is paused", "Let it run in the list of DAGs")

    monkeypatch.setattr(runs, "order_move", order)
    where = f"/releases/pricing/{two[0]}"
    answer = client.post(f"{where}/move", data=form_of(client.get(where).text))
    assert answer.status_code == 503
    assert "The DAG promotion is paused" in answer.text


# What pages show --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_pages_show_data_as_text_and_load_nothing_from_elsewhere(
    client: TestClient, shop: dict[str, str], path: str  # noqa: ARG001
) -> None:  # fmt: skip
    answer = client.get(path)
    assert answer.status_code == 200
    assert NASTY not in answer.text
    assert "://" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "script-src 'self';" in policy
    assert answer.headers["cache-control"] == "no-store"
    # All that leads somewhere stays below the path that Airflow is reached by.
    links = re.findall(r'(?:href|src|action)="([^"]*)"', answer.text)
    assert {
        link for link in links if not link.startswith(("/shop/ecom/", "?", "#", "data:,"))
    } == set()
    assert '<a href="/shop/ecom/' in answer.text
    assert answer.text.count('aria-current="page"') >= 1


def test_links_hold_below_a_path(client: TestClient, shop: dict[str, str]) -> None:  # noqa: ARG001
    # As Airflow mounts it, with `[api] base_url = https://somewhere/shop`.
    airflow = FastAPI(root_path="/shop")
    airflow.mount("/ecom", app)
    page = TestClient(airflow, follow_redirects=False).get("/shop/ecom/inventory").text
    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page)
    assert {link.split("/")[1:3] == ["shop", "ecom"] for link in links} == {True}
    assert '<a href="/shop/ecom/inventory" aria-current="page">' in page


@pytest.mark.parametrize("path", ["/", "/data", "/releases", "/recommendation", "/pricing",
                                  "/inventory", "/whatif"])  # fmt: skip
def test_nothing_published_says_how_to_begin(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert "<code>ingestion</code>" in answer.text


@pytest.mark.parametrize("path", PAGES)
def test_an_unreachable_store_says_what_to_do(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("ECOM_ROOT", "")
    answer = client.get(path)
    assert answer.status_code == 503
    assert "Set ECOM_ROOT for the API server" in answer.text


@pytest.mark.parametrize(
    "path",
    ["/inventory/product?id=no", "/pricing/product?id=no", "/recommendation/product?id=no",
     "/recommendation/customer?id=no", "/data/table/nothing", "/data/docs/1/report.html",
     "/releases/pricing/9", "/releases/weather/9", "/whatif?id=no", "/static/secret.js"],
)  # fmt: skip
def test_what_is_not_there(client: TestClient, shop: dict[str, str], path: str) -> None:  # noqa: ARG001
    answer = client.get(path)
    assert answer.status_code == 404
    assert 'role="alert"' in answer.text


@pytest.mark.parametrize(
    "path",
    ["/releases/pricing/..%2f..%2f..%2fsecret", "/releases/PRICING/1", "/releases/pricing/.hidden",
     "/releases/pricing/{version}/files/..%2f..%2f_manifest.json",
     "/data/docs/..%2f1/report.html", "/static/..%2fapp.py"],
)  # fmt: skip
def test_paths_lead_nowhere_else(client: TestClient, shop: dict[str, str], path: str) -> None:
    assert client.get(path.format(version=shop["pricing"])).status_code in {404, 422}


def test_overview_says_how_each_domain_stands(
    client: TestClient, two: tuple[str, str], run: Run, another_day: Run
) -> None:
    page = text(client.get("/").text)
    assert "deviance, lower is better 0.3" in page
    assert "plain baseline 0.5 (no response)" in page
    assert f"version before 0.4 as of {run.as_of}" in page
    assert f"in service {two[1]}" in page
    assert f"last day, inclusive {another_day.as_of}" in page
    assert "quarantined 2 rows" in page
    assert "1 warnings" in page


def test_data_tells_tables_checks_and_quarantine(client: TestClient, shop: dict[str, str]) -> None:
    page = client.get("/data").text
    assert "order_lines 3 2 40.00%" in text(page)
    assert "events the source does not have it" in text(page)
    held = rows(client.get("/data?outcome=warning").text)
    assert [row for row in held if "unit_price" in row]
    assert not [row for row in held if "never null" in row]
    table = text(client.get("/data/table/order_lines").text)
    assert "2 unknown product" in table
    assert "o8" in table
    assert "o9" in text(client.get("/data/table/order_lines?q=script").text)
    assert "o8" not in text(client.get("/data/table/order_lines?q=script").text)
    docs = published.ancestor(published.newest_day("lake/all"), "lake/data_docs")  # type: ignore[arg-type]
    assert docs is not None
    answer = client.get(f"/data/docs/{docs.made.version}/report.html")
    assert answer.text.startswith("<h1>Checks</h1>")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert shop["orders"] in table


def test_release_shows_files_hashes_and_where_it_comes_from(
    client: TestClient, two: tuple[str, str]
) -> None:
    page = client.get(f"/releases/pricing/{two[0]}").text
    made = published.version("artefacts/pricing", two[0]).made
    for entry in made.files:
        assert entry.path in page
        assert entry.sha256 in page
    assert "lake/products" in page
    assert two[1] in page  # the version in service
    # The day differs, so the data does: the version of what both were made from is told.
    assert [row for row in rows(page) if row.startswith("data lake/products")]
    assert "0.4" in page
    assert "by" in page


def test_files_are_handed_out_as_files(client: TestClient, shop: dict[str, str]) -> None:
    answer = client.get(f"/releases/pricing/{shop['pricing']}/files/prices.parquet")
    made = published.version("artefacts/pricing", shop["pricing"])
    assert answer.content == published.read(made, "prices.parquet")
    assert answer.headers["content-disposition"].startswith("attachment;")
    manifest = client.get(f"/releases/pricing/{shop['pricing']}/files/_manifest.json")
    assert manifest.content == made.made.to_bytes()
    missing = client.get(f"/releases/pricing/{shop['pricing']}/files/other.parquet")
    assert missing.status_code == 404


def test_a_report_is_shown_but_runs_nothing(client: TestClient, shop: dict[str, str]) -> None:
    where = f"/releases/inventory/{shop['inventory']}"
    (source,) = re.findall(r'<iframe class="report" src="([^"]+)"', client.get(where).text)
    assert source == f"/shop/ecom{where}/report.html"
    answer = client.get(f"{where}/report.html")
    assert answer.text == f"<h1>Report</h1>{NASTY}"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none';")
    assert "script" not in policy
    bare = client.get(f"/releases/pricing/{shop['pricing']}/report.html")
    assert bare.status_code == 404


def test_a_customer_sees_the_list_with_reasons_and_history(
    client: TestClient, shop: dict[str, str]  # noqa: ARG001
) -> None:  # fmt: skip
    page = client.get(f"/recommendation/customer?id=%20{CUSTOMER}").text
    told = text(page)
    assert told.index("1 Milk buy again") < told.index("2 Bread popular now")
    assert "Segment loyal" in told
    assert "Orders 1 2 lines" in told
    assert "Spent 6.00" in told  # 2 * 1.50 + 1 * 3.00
    assert "new in category" in told
    neighbours = text(client.get("/recommendation/product?id=p1").text)
    assert "Bread 0.3" in neighbours
    assert "Bread 17 25.0% 3" in neighbours
    quality = text(client.get("/recommendation/quality").text)
    assert "ranker 0.4 0.3500 to 0.4500 March 10" in quality
    tiles = text(client.get("/recommendation").text)
    assert "66.7%" in tiles  # two of three products


def test_prices_filter_sort_and_go_into_a_file(
    client: TestClient, shop: dict[str, str]  # noqa: ARG001
) -> None:  # fmt: skip
    page = client.get("/pricing").text
    assert [row.split()[0] for row in rows(page)] == ["Milk"]
    # .1 of 4 a decision, from .02 to .18.
    assert "Profit in logged weeks +2.5% +0.5% to +4.5%: better" in text(page)
    both = rows(client.get("/pricing?sort=current_price&down=0").text)
    assert [row.split()[0] for row in both] == ["Milk", "Bread"]
    kept = rows(client.get("/pricing?grade=cannot+tell").text)
    assert [row.split()[0] for row in kept] == ["Bread"]
    assert rows(client.get("/pricing?q=nothing").text) == []
    file = client.get("/pricing/changes.csv?move=change")
    lines = file.content.decode("utf-8-sig").splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("p1,")
    assert file.headers["content-disposition"] == 'attachment; filename="prices.csv"'


def test_a_product_shows_its_order_and_forecast(client: TestClient, shop: dict[str, str]) -> None:  # noqa: ARG001
    page = text(client.get("/inventory/product?id=p1").text)
    assert "Order 7 units" in page
    assert "too much" in page
    listed = rows(client.get("/inventory?abc=C").text)
    assert len(listed) == 1
    assert listed[0].startswith("<script>")
    file = client.get("/inventory/orders.csv?q=milk").content.decode("utf-8-sig").splitlines()
    assert len(file) == 2
    warned = text(client.get("/inventory").text)
    assert "The stock of 1 products is unknown" in warned


def outcome(client: TestClient, **asked: object) -> dict[str, str]:
    page = client.get(f"/whatif?{urlencode({'id': 'p1'} | asked)}").text
    found = re.findall(r'<tr data-figure="(\w+)">(.*?)</tr>', page, re.DOTALL)
    return {name: text(row) for name, row in found}


def test_what_if_nothing_changes(client: TestClient, shop: dict[str, str]) -> None:  # noqa: ARG001
    said = outcome(client)
    assert said["units"].startswith("Units 22.0 22.0 +0.0")  # 10 + 12
    assert said["profit"].startswith("Profit 11.00 11.00 +0.00")  # 22 * (1.50 - 1.00)
    # 23 units: 10, 12, and one at 11 a week.
    assert said["cover"].startswith("Stock lasts, weeks 2.1 2.1 +0.0")


def test_what_if_it_is_promoted(client: TestClient, shop: dict[str, str]) -> None:  # noqa: ARG001
    said = outcome(client, promotion="mailer", stock="15")
    # 5 more in the first week, between 2 less and 8 more.
    assert said["units"] == "Units 22.0 27.0 +5.0 20.0 to 30.0"
    assert said["profit"] == "Profit 11.00 13.50 +2.50 10.00 to 15.00"
    assert said["cover"].startswith("Stock lasts, weeks 1.4 1.0 -0.4")  # 1 + 5/12; 15 of 15


def test_what_if_its_price_changes(client: TestClient, shop: dict[str, str]) -> None:  # noqa: ARG001
    said = outcome(client, price="1.65")
    # At the ends of the elasticity's interval: 22 * 1.1 ** -2.5 and 22 * 1.1 ** -1.5.
    low, high = 22 * 1.1**-2.5, 22 * 1.1**-1.5
    assert said["units"].endswith(f"{low:.1f} to {high:.1f}")
    assert said["profit"].endswith(f"{low * 0.65:.2f} to {high * 0.65:.2f}")
    far = client.get("/whatif?id=p1&price=3").text
    assert "Far from today" in far


@pytest.mark.parametrize("asked", ["price=abc", "price=-1", "price=inf", "price=nan", "stock=-2"])
def test_what_if_the_form_is_odd(client: TestClient, shop: dict[str, str], asked: str) -> None:  # noqa: ARG001
    answer = client.get(f"/whatif?id=p1&{asked}")
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text


def test_the_plot_library_comes_from_here_and_may_be_kept(client: TestClient) -> None:
    answer = client.get("/static/plotly.js")
    assert answer.status_code == 200
    assert "plotly.js v" in answer.text[:200]
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"


def test_plugin_loads_nothing_heavy_by_itself() -> None:
    project = Path(__file__).resolve().parents[2]
    code = (
        "import sys; sys.path.insert(0, 'plugins'); import airflow.plugins_manager; "
        "before = set(sys.modules); import ecom_plugin; "
        "print(*sorted({n.partition('.')[0] for n in set(sys.modules) - before})); "
        "import ecom_console.app; "
        "print(*sorted({'polars', 'xgboost', 'scipy', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True
    )
    told = done.stdout.splitlines()
    assert told[0].split() == ["ecom_plugin"]
    assert "polars" not in told[1]
    assert "xgboost" not in told[1]
