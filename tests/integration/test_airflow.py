"""A small shop through the real Airflow: its scheduler, its REST API, its pages.

One Airflow serves all tests of this file; it takes about half a minute to start and a minute to
bring the shop from files to features.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import psutil
import pytest

from ecom_tasks import services
from ecom_tasks.artefacts import dataset, release
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.s3_store import client
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.demo import following, wait_for_dags
from ecom_tasks.demo.following import Progress, Task
from ecom_tasks.demo.view import last_error
from ecom_tasks.domains import PUBLISHING, RELEASING
from ecom_tasks.run import Ref, Run
from ecom_tasks.services import processes, state
from ecom_tasks.services.api import AirflowApi
from tests import builders

PATIENCE_S = 420.0
SETTING = ("ECOM_APPROVAL_HOURS", str(45 / 3600))
"""Long enough for an answer, and short enough to wait for none."""
ALERTS = {"ECOM_NOTIFY": "webhook:shop_alerts", "ECOM_DEADLINE_HOURS": str(20 / 3600)}
"""Ingestion takes longer than 20 seconds, so that a run is late."""
PSEUDONYM_KEY = "00" * 32
SOURCE = """
name = "tiny-shop"

[inputs.lines]
path = "lines.csv"

[inputs.goods]
path = "products.csv"

[tables.order_lines]
sql = '''
SELECT order_id, line_number, customer_id, product_id, quantity, unit_price, ordered_at
FROM lines
'''

[tables.products]
sql = "SELECT product_id, title, category, sellable, brand FROM goods"
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the files of a small shop and the source file that maps them."""
    folder = tmp_path_factory.mktemp("shop")
    tables = builders.block_shop(blocks=2, customers=8, weeks=20)
    tables.order_lines.write_csv(folder / "lines.csv")
    tables.products.write_csv(folder / "products.csv")
    (folder / "shop.toml").write_text(SOURCE, encoding="utf-8")
    broken = SOURCE.replace("SELECT order_id,", "SELECT order_number AS order_id,")
    (folder / "broken.toml").write_text(broken, encoding="utf-8")
    return folder


LAST_DAY = builders.block_shop(blocks=1, customers=1, weeks=20).as_of.isoformat()


class Listener(BaseHTTPRequestHandler):
    """A chat's incoming webhook and a lineage backend, as far as we use them."""

    texts: ClassVar[list[str]] = []
    lineage: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path.startswith("/api/v1/lineage"):
            self.lineage.append(json.loads(body))
        else:
            self.texts.append(json.loads(body)["text"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the tests' output short."""


@pytest.fixture(scope="module")
def listener() -> Iterator[int]:
    """Port of what remembers all that it is told."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, listener: int) -> Iterator[services.Services]:
    home = tmp_path_factory.mktemp("airflow") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("ECOM_", "AWS_"))]:
            patch.delenv(name)
        patch.setenv("ECOM_DASK", "threads")
        patch.setenv("ECOM_PSEUDONYM_KEY", PSEUDONYM_KEY)
        patch.setenv(*SETTING)
        for name, value in ALERTS.items():
            patch.setenv(name, value)
        patch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{listener}")
        started = services.start(home)
        started.api().post("connections", {
            "connection_id": "shop_alerts", "conn_type": "http", "host": "127.0.0.1",
            "port": listener,
        })  # fmt: skip
        wait_for_dags(started)
        launched = state.read_state(home).services
        assert len(launched) == 5
        yield started
        assert set(services.stop(home)) == {service.name for service in launched}
        assert [pid for service in launched for pid in processes.members(service)] == []
        services.clean(home)


def brought_on(
    airflow: services.Services, source: Path, name: str, *, until: tuple[str, ...]
) -> Progress:
    """Trigger ingestion and follow until the DAGs named are over; then end what still runs."""
    api = airflow.api()
    form = {"as_of": LAST_DAY, "source": str(source), "source_data": ""}
    following.trigger(api, name, form)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        progress = following.look(api, name)
        over = not set(until) & set(progress.unfinished()) and not progress.awaited()
        # A run ended while queued has no start, and Airflow then fails on the event that set it
        # off (apache/airflow issue 71360).
        waiting = api.get("dags/monitoring/dagRuns", state=["queued"])["dag_runs"]
        if over and not waiting and "queued" not in {run.state for run in progress.runs.values()}:
            following.give_up(api)
            return progress
        assert time.monotonic() < deadline, progress
        time.sleep(1)


@pytest.fixture(scope="module")
def good(airflow: services.Services, shop: Path) -> Progress:
    """The small shop, until its features are published and the models are set off."""
    return brought_on(airflow, shop / "shop.toml", "good", until=("ingestion", "features"))


@pytest.fixture(scope="module")
def bad(airflow: services.Services, shop: Path, good: Progress) -> Progress:  # noqa: ARG001
    """The same shop, read with a mapping that names a column it does not have."""
    return brought_on(airflow, shop / "broken.toml", "bad", until=("ingestion",))


def become(airflow: services.Services, patch: pytest.MonkeyPatch, identity: str) -> None:
    for name, value in services.environment(airflow.home, identity).items():
        patch.setenv(name, value)
    client.cache_clear()


@pytest.fixture
def _consumer(airflow: services.Services, monkeypatch: pytest.MonkeyPatch) -> None:
    become(airflow, monkeypatch, "consumer")


def task(progress: Progress, dag: str, name: str) -> Task:
    return next(each for each in progress.tasks if (each.dag, each.name) == (dag, name))


def test_every_task_succeeds_at_once(good: Progress) -> None:
    assert good.runs["ingestion"].state == good.runs["features"].state == "success"
    done = [each for each in good.tasks if each.dag in {"ingestion", "features"}]
    assert {(each.state, each.attempt) for each in done} == {("success", 1)}
    asking = {each.name for each in good.tasks if not each.of_flow}
    assert asking == {"needs_approval", "approve_release", "promote_release"}


def test_each_dag_sets_off_the_next(good: Progress) -> None:
    assert set(good.runs) == {"ingestion", "features", *RELEASING}
    for dag in ("features", *RELEASING):
        assert good.runs[dag].run_id.startswith("asset_triggered")


@pytest.mark.usefixtures("_consumer")
def test_event_says_which_data_it_is_about(
    airflow: services.Services, good: Progress, shop: Path
) -> None:
    api = airflow.api()
    for dag, last in (("ingestion", "publish_snapshot"), ("features", "publish_features")):
        run_id = good.runs[dag].run_id
        told = api.get("assets/events", source_dag_id=dag, source_run_id=run_id)["asset_events"]
        by_uri = {each["uri"]: each for each in told}
        assert {each["partition_key"] for each in told} == {LAST_DAY}
        made = following.made_by(api, task(good, dag, last))
        event = by_uri[f"ecom://{dataset.manifest(made).name}"]
        # Each table of the collection has an event of its own, about its own version.
        for part, ref in dataset.manifest(made).inputs.items():
            if part.split("/")[0] == event["uri"].split("/")[2] and part != "lake/data_docs":
                assert by_uri[f"ecom://{part}"]["extra"]["manifest"] == ref
        assert event["extra"] == {
            "manifest": made,
            "fingerprint": dataset.manifest(made).version.rsplit("-", 1)[-1],
            "as_of": LAST_DAY,
            "source": str(shop / "shop.toml"),
            "source_data": "",
            "overrides": {},
        }


@pytest.mark.usefixtures("_consumer")
def test_what_one_dag_made_is_what_the_next_reads(
    airflow: services.Services, good: Progress
) -> None:
    api = airflow.api()
    made = following.made_by(api, task(good, "ingestion", "publish_snapshot"))
    assert following.made_by(api, task(good, "features", "pin_lake")) == made
    manifest = dataset.manifest(made)
    assert (manifest.name, manifest.as_of.isoformat()) == ("lake/all", LAST_DAY)
    lines = dataset.manifest(Ref(manifest.inputs["lake/order_lines"]))
    expected = builders.block_shop(blocks=2, customers=8, weeks=20).order_lines.height
    # Written twice: once bucketed by customer, once by product.
    assert lines.rows == 2 * expected


def test_log_of_the_step_is_in_the_log_of_the_task(
    airflow: services.Services, good: Progress
) -> None:
    records = following.log_lines(airflow.api(), task(good, "ingestion", "load_products"))
    said = [(each["logger"], each["level"], each["event"]) for each in records if "logger" in each]
    made = [event for logger, level, event in said
            if (logger, level) == ("ecom_tasks.artefacts.dataset", "info")]  # fmt: skip
    assert any(event.startswith("made lake/products") for event in made)
    assert any("its largest process held" in event for logger, _, event in said
               if logger == "ecom_airflow")  # fmt: skip


@pytest.mark.usefixtures("bad")
def test_a_failure_and_a_late_run_are_told_to_whom_the_settings_name() -> None:
    wanted = ("ingestion.load_order_lines failed in run bad: ", "ingestion is not done")
    deadline = time.monotonic() + PATIENCE_S
    while not all(any(text.startswith(each) for text in Listener.texts) for each in wanted):
        assert time.monotonic() < deadline, Listener.texts
        time.sleep(1)
    (failed,) = [text for text in Listener.texts if text.startswith(wanted[0])]
    assert "order_number" in failed


@pytest.mark.usefixtures("good")
def test_only_references_travel_between_tasks(airflow: services.Services) -> None:
    """No payload above 1 KiB, of whatever task has run so far."""
    place = f"file:{airflow.home / 'airflow' / 'airflow.db'}?mode=ro"
    with closing(sqlite3.connect(place, uri=True)) as database:
        rows = database.execute(
            "select dag_id, task_id, key, length(cast(value as blob)) from xcom"
        ).fetchall()
    steps = {(dag, task) for dag, task, key, _ in rows if key == "return_value"}
    assert {("ingestion", "publish_snapshot"), ("features", "publish_features")} <= steps
    assert {row for row in rows if row[3] > 1024} == set()


def test_tasks_link_to_the_console(airflow: services.Services, good: Progress) -> None:
    api, judged = airflow.api(), task(good, "ingestion", "validate_tables")
    path = f"dags/ingestion/dagRuns/{judged.run_id}/taskInstances/{judged.name}"
    version = following.made_by(api, judged).rsplit("/", 2)[-2]
    (link,) = api.get(f"{path}/links")["extra_links"].values()
    assert link == f"{airflow.airflow_url}/ecom/data/docs/{version}/data_docs/index.html"


def test_a_lineage_backend_is_told_what_was_read_and_made(good: Progress) -> None:
    demand = f"features.{task(good, 'features', 'build_demand').name}"
    told = [
        event
        for event in Listener.lineage
        if event["job"]["name"] == demand and event["eventType"] == "COMPLETE"
    ]
    assert told, {event["job"]["name"] for event in Listener.lineage}
    names = {each["name"] for each in told[0]["inputs"]}
    assert {"lake/order_lines", "lake/products", "lake/promotions"} <= names
    (output,) = told[0]["outputs"]
    assert output["name"] == "features/demand"
    columns = {field["name"] for field in output["facets"]["schema"]["fields"]}
    assert {"product_id", "week_starts_on", "units"} <= columns
    assert output["outputFacets"]["outputStatistics"]["rowCount"] > 0


def test_wrong_mapping_ends_the_day_with_its_remedy(
    airflow: services.Services, bad: Progress
) -> None:
    assert bad.failed() == ["ingestion"]
    failed = [each for each in bad.tasks if each.state == "failed"]
    assert failed
    # One attempt: a retry cannot help, and nobody waited for one.
    assert {each.attempt for each in failed} == {1}
    told = last_error(following.log_lines(airflow.api(), failed[0]))
    assert "order_number" in told
    assert told.startswith(("ConfigError", "DataContractError"))


def test_failed_day_sets_nothing_off(bad: Progress) -> None:
    assert set(bad.runs) == {"ingestion"}
    assert bad.unfinished() == []
    assert task(bad, "ingestion", "publish_snapshot").state == "upstream_failed"


def asked(airflow: services.Services, path: str, token: str = "") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(airflow.airflow_url).netloc, timeout=60)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    return connection.getresponse()


@pytest.fixture(scope="module")
def token(airflow: services.Services) -> str:
    return airflow.api().token()


PAGES = (
    "/ecom/",
    "/ecom/releases",
    "/ecom/releases/pricing/1",
    "/ecom/releases/pricing/1/report.html",
)


@pytest.mark.parametrize("path", PAGES)
def test_pages_ask_who_is_there(airflow: services.Services, path: str) -> None:
    assert asked(airflow, path).status == http.client.UNAUTHORIZED
    assert asked(airflow, path, "forged").status in {401, 403}


def test_page_of_releases_is_shown(airflow: services.Services, token: str) -> None:
    answer = asked(airflow, "/ecom/releases", token)
    page = answer.read().decode()
    assert answer.status == http.client.OK
    assert "<h1>Releases</h1>" in page
    assert "cannot be read" not in page


def test_missing_report_is_told(airflow: services.Services, token: str) -> None:
    answer = asked(airflow, PAGES[-1], token)
    assert answer.status == http.client.NOT_FOUND
    assert "It is not in the store" in answer.read().decode()


def test_page_is_in_the_menu(airflow: services.Services) -> None:
    plugins = airflow.api().get("plugins")["plugins"]
    (ours,) = [plugin for plugin in plugins if plugin["name"] == "ecom"]
    assert [view["href"] for view in ours["external_views"]] == ["/ecom/"]
    assert airflow.api().get("plugins/importErrors")["import_errors"] == []


def test_pools_are_there(airflow: services.Services) -> None:
    assert airflow.api().get("pools/compute")["slots"] == 2
    shown = len(list(Path("/dev").glob("nvidia[0-9]*")))
    assert airflow.api().get("pools/gpu")["slots"] == shown


def test_everything_listens_on_loopback_only(airflow: services.Services) -> None:
    listening = set()
    for service in state.read_state(airflow.home).services:
        for pid in processes.members(service):
            found = psutil.Process(pid).net_connections("inet")
            listening |= {each.laddr for each in found if each.status == psutil.CONN_LISTEN}
    assert urlsplit(airflow.airflow_url).port in {address.port for address in listening}
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_runs_that_are_given_up_leave_no_step_behind(
    airflow: services.Services,
    bad: Progress,  # noqa: ARG001
) -> None:
    # The models were at work on the good day when their runs were given up.
    scheduler = state.read_state(airflow.home).named("scheduler")[0]

    def steps() -> list[psutil.Process]:
        found = [psutil.Process(pid) for pid in processes.members(scheduler)]
        return [process for process in found if "step" in process.cmdline()]

    assert processes.wait_until(lambda: not steps(), 30)


# Approval ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Awaiting:
    """A run of a model's DAG whose release a person must approve."""

    api: AirflowApi
    domain: str
    version: str

    @property
    def path(self) -> str:
        return f"dags/{self.domain}/dagRuns/approval"

    def states(self) -> dict[str, str | None]:
        found = self.api.get(f"{self.path}/taskInstances", limit=100)["task_instances"]
        return {each["task_id"]: each["state"] for each in found}

    def until(self, task: str, *states: str) -> dict[str, str | None]:
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.states())[task] not in states:
            assert time.monotonic() < deadline, str(found)
            if found[task] in {"up_for_retry", "failed", "skipped"}:
                pytest.fail(f"{task} is {found[task]}: {self.told(task)}")
            time.sleep(0.5)
        return found

    def told(self, task: str) -> str:
        answer = self.api.get(f"{self.path}/taskInstances/{task}/logs/1", full_content="true")
        return last_error([line for line in answer["content"] if isinstance(line, dict)])

    def asked(self) -> str:
        return f"{self.path}/taskInstances/approve_release/-1/hitlDetails"

    def pointer(self, channel: str = "production") -> release.Pointer | None:
        store = open_store(services.ROOT)
        return release.read_pointer(store, f"artefacts/{self.domain}", channel)


def awaiting(airflow: services.Services, domain: str, figure: float) -> Awaiting:
    """Run the DAG as if its flow had just released something with a figure above its limit.

    The flow's tasks are marked as done, since models say little about this shop; those that come
    after them are Airflow's own to run.
    """
    run = Run("approval", date.fromisoformat(LAST_DAY), services.ROOT)

    def build(draft: Draft) -> None:
        draft.write_text("release.csv", "a,b\n")
        draft.ask("what moves most", figure, 0.25)
        draft.headline(metric="deviance", value=1.0, baseline_name="none", baseline=2.0,
                       higher_is_better=False, rows=7, unit="prices")  # fmt: skip

    build.__module__ = f"ecom_tasks.{domain}.tasks"
    ref = dataset.release(run, dataset.produce(run, f"artefacts/{domain}", build))
    api = airflow.api()
    api.patch(f"dags/{domain}?update_mask=is_paused", {"is_paused": True})
    form = {"as_of": LAST_DAY}
    body = {"dag_run_id": "approval", "logical_date": None, "conf": form}
    api.post(f"dags/{domain}/dagRuns", body)
    found = Awaiting(api, domain, dataset.manifest(ref).version)
    flow = set(found.states()) - {"needs_approval", "approve_release", "promote_release"}
    for name in flow:
        api.patch(f"{found.path}/taskInstances/{name}", {"new_state": "success"})
    handed = {"key": "return_value", "value": ref}
    api.post(f"{found.path}/taskInstances/{PUBLISHING}/xcomEntries", handed)
    api.patch(f"dags/{domain}?update_mask=is_paused", {"is_paused": False})
    return found


@pytest.fixture(scope="module")
def ignored(airflow: services.Services, bad: Progress) -> Awaiting:  # noqa: ARG001
    """Orders that nobody looks at; begun first, since their time has to pass."""
    with pytest.MonkeyPatch.context() as patch:
        become(airflow, patch, "publisher")
        return awaiting(airflow, "inventory", 0.9)


@pytest.fixture(scope="module")
def answered(airflow: services.Services, ignored: Awaiting) -> Awaiting:  # noqa: ARG001
    """Prices that somebody is going to approve."""
    with pytest.MonkeyPatch.context() as patch:
        become(airflow, patch, "publisher")
        return awaiting(airflow, "pricing", 0.4)


@pytest.mark.usefixtures("_consumer")
def test_a_person_approves_and_is_named_in_the_history(answered: Awaiting) -> None:
    answered.until("approve_release", "awaiting_input")
    assert answered.pointer() is None  # it waits: nothing is in service before the answer
    waiting = answered.pointer("pending")
    assert waiting is not None
    assert waiting.version == answered.version
    asked = answered.api.get(answered.asked())
    assert "what moves most: 0.4, above 0.25" in asked["body"]
    assert asked["options"] == ["Approve", "Reject"]
    # Airflow 3.3 takes an answer within the second for a fault of its executor, and asks once more.
    time.sleep(8)
    answer = {"chosen_options": ["Approve"], "params_input": {}}
    answered.api.patch(answered.asked(), answer)
    answered.until("promote_release", "success")
    pointer = answered.pointer()
    assert pointer is not None
    assert pointer.version == answered.version
    assert (pointer.history[0].by, pointer.history[0].reason) == ("admin", "approved")


@pytest.mark.usefixtures("_consumer")
def test_what_follows_is_set_off_once_it_is_in_service(answered: Awaiting) -> None:
    answered.until("promote_release", "success")
    events = answered.api.get("assets/events", source_dag_id="pricing",
                              source_run_id="approval")["asset_events"]  # fmt: skip
    said = {each["source_task_id"]: each["extra"] for each in events}
    assert answered.version in said["promote_release"]["manifest"]
    assert said["promote_release"]["as_of"] == LAST_DAY


@pytest.mark.usefixtures("_consumer")
def test_no_answer_in_time_rejects(ignored: Awaiting) -> None:
    states = ignored.until("promote_release", "skipped", "success", "failed")
    assert (states["approve_release"], states["promote_release"]) == ("success", "skipped")
    asked = ignored.api.get(ignored.asked())
    assert (asked["chosen_options"], asked["responded_by_user"]) == (["Reject"], None)
    assert ignored.pointer() is None
    assert ignored.pointer("pending") is not None


def test_starting_again_finds_all_at_work(
    airflow: services.Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With the settings that it was started with, or they would be new ones.
    for name, value in (SETTING, *ALERTS.items()):
        monkeypatch.setenv(name, value)
    before = state.read_state(airflow.home)
    assert not services.start(airflow.home).fresh
    assert state.read_state(airflow.home) == before
