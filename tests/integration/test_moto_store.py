"""The store contract on a second implementation: moto as a server, for what a mock can do.

It takes any credentials and any checksum, so rights and hashes are tested on the real server only.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

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


def _build(draft: Draft) -> None:
    draft.write_text("prices.csv", "product_id,price\n")


_build.__module__ = "ecom_tasks.pricing.tasks"


def test_published_there_is_pulled_from_there(bucket: str, run: Run, tmp_path: Path) -> None:
    publisher = Run(run.run_id, run.as_of, bucket)
    dataset.release(publisher, dataset.produce(publisher, "artefacts/pricing", _build))
    assert pull.pull(bucket, "artefacts/pricing", tmp_path / "here").changed
    assert not pull.pull(bucket, "artefacts/pricing", tmp_path / "here").changed


class TestCephStore(StoreContract):
    """Ceph's RADOS Gateway, where somebody runs one: `ECOM_TEST_RGW` is its `s3://bucket/prefix`.

    Endpoint and credentials come with it: `ECOM_TEST_RGW_ENDPOINT`, `ECOM_TEST_RGW_KEY`,
    `ECOM_TEST_RGW_SECRET`.
    """

    @pytest.fixture
    def store(self, monkeypatch: pytest.MonkeyPatch) -> Store:
        root = _RGW.get("ECOM_TEST_RGW")
        if not root:
            installed = "is installed, but" if shutil.which("radosgw") else "is not installed and"
            pytest.skip(f"Ceph RGW {installed} ECOM_TEST_RGW names none that runs")
        monkeypatch.setenv("ECOM_S3_ENDPOINT", _RGW["ECOM_TEST_RGW_ENDPOINT"])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", _RGW["ECOM_TEST_RGW_KEY"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _RGW["ECOM_TEST_RGW_SECRET"])
        client.cache_clear()
        return open_store(f"{root}/{uuid.uuid4().hex}")


# Read before the tests clean the environment.
_RGW = {name: value for name, value in os.environ.items() if name.startswith("ECOM_TEST_RGW")}
