"""The store contract on a second implementation: moto as a server, for what a mock can do.

It takes any credentials and any checksum, so rights and hashes are tested on the real server only.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from ecom_tasks.artefacts import dataset, pull
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.probe import probe
from ecom_tasks.artefacts.s3_store import client
from ecom_tasks.artefacts.store import Store, open_store
from ecom_tasks.run import Run
from tests.store_contract import StoreContract


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ECOM_S3_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client.cache_clear()
    name = f"b{uuid.uuid4().hex}"
    client(endpoint).create_bucket(Bucket=name)
    return f"s3://{name}/shop"


class TestMotoStore(StoreContract):
    @pytest.fixture
    def store(self, bucket: str) -> Store:
        return open_store(bucket)


def test_the_probe_names_what_a_mock_lacks(bucket: str) -> None:
    failing = [finding.question for finding in probe(bucket) if not finding.holds]
    assert failing == ["refuses content that is not its SHA-256"]


def test_tags_are_compared_as_the_settings_say(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, sent = open_store(bucket), []
    tag = store.create("tagged", b"1")

    def note(request: Any, **_: Any) -> None:
        sent.append(request.headers["If-Match"].decode())

    client(os.environ["ECOM_S3_ENDPOINT"]).meta.events.register("before-send.s3.PutObject", note)
    for setting in ("", "unquoted"):
        monkeypatch.setenv("ECOM_S3_ETAGS", setting)
        tag = store.replace("tagged", setting.encode(), tag)
    assert [each.startswith('"') for each in sent] == [True, False]


def _build(draft: Draft) -> None:
    draft.write_text("prices.csv", "product_id,price\n")


_build.__module__ = "ecom_tasks.pricing.tasks"


def test_published_there_is_pulled_from_there(bucket: str, run: Run, tmp_path: Path) -> None:
    publisher = Run(run.run_id, run.as_of, bucket)
    dataset.release(publisher, dataset.produce(publisher, "artefacts/pricing", _build))
    assert pull.pull(bucket, "artefacts/pricing", tmp_path / "here").changed
    assert not pull.pull(bucket, "artefacts/pricing", tmp_path / "here").changed


class TestCephStore(StoreContract):
    """Ceph's RADOS Gateway, where one runs: `start_rgw.sh` starts one and prints its settings.

    Tried with 16.2.15 of Debian 12.
    """

    @pytest.fixture
    def store(self, monkeypatch: pytest.MonkeyPatch) -> Store:
        endpoint = _RGW.get("ECOM_TEST_RGW_ENDPOINT", "")
        if not endpoint:
            installed = "is" if shutil.which("radosgw") else "is not"
            pytest.skip(f"Ceph RGW {installed} installed; ECOM_TEST_RGW_ENDPOINT names none")
        monkeypatch.setenv("ECOM_S3_ENDPOINT", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", _RGW["ECOM_TEST_RGW_KEY"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _RGW["ECOM_TEST_RGW_SECRET"])
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("ECOM_S3_ETAGS", "unquoted")
        client.cache_clear()
        name = f"b{uuid.uuid4().hex}"
        client(endpoint).create_bucket(Bucket=name)
        return open_store(f"s3://{name}/shop")

    def test_probe_names_what_it_lacks(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """It takes any checksum; and without the setting, no tag that it gave itself."""
        unsafe = "refuses content that is not its SHA-256"
        assert [each.question for each in probe(store.root) if not each.holds] == [unsafe]
        monkeypatch.delenv("ECOM_S3_ETAGS")
        failing = [each for each in probe(store.root) if not each.holds]
        tag = next(each for each in failing if each.question.endswith("the present tag"))
        assert "ECOM_S3_ETAGS=unquoted" in tag.remedy


# Read before the tests clean the environment.
_RGW = {name: value for name, value in os.environ.items() if name.startswith("ECOM_TEST_RGW")}
