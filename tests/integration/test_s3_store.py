"""The bucket as a store, on the real object server: contract, guarantees, rights, faults."""

from __future__ import annotations

import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecom_tasks import cli, doctor, services
from ecom_tasks.artefacts import dataset, pull
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.probe import probe
from ecom_tasks.artefacts.s3_store import S3Store, client
from ecom_tasks.artefacts.store import Store, open_store
from ecom_tasks.errors import ConfigError, RetryableError
from ecom_tasks.run import Run
from tests import builders
from tests.store_contract import StoreContract


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("store") / "home"
    services.start(folder, say=lambda _: None, airflow=False)
    yield folder
    services.stop(folder)


def become(monkeypatch: pytest.MonkeyPatch, home: Path, identity: str) -> None:
    for name, value in services.environment(home, identity).items():
        monkeypatch.setenv(name, value)
    client.cache_clear()


@pytest.fixture
def bucket(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of an empty prefix that this process may write."""
    become(monkeypatch, home, "publisher")
    return f"{services.ROOT}/{uuid.uuid4().hex}"


class TestS3Store(StoreContract):
    @pytest.fixture
    def store(self, bucket: str) -> Store:
        return open_store(bucket)


def test_the_store_guarantees_what_publishing_needs(bucket: str) -> None:
    findings = probe(bucket)
    assert [finding.question for finding in findings if not finding.holds] == []
    assert len(findings) == 7
    assert list(open_store(bucket).walk("probe/")) == []


def test_a_link_hands_one_object_out_to_anyone_for_a_while(bucket: str) -> None:
    store = open_store(bucket)
    assert isinstance(store, S3Store)
    store.create("a/b.csv", b"one")
    link = store.link("a/b.csv", "b.csv", 60)
    with urllib.request.urlopen(link) as answer:  # noqa: S310  (our own store)
        assert answer.read() == b"one"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="b.csv"'
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(link.replace("/b.csv?", "/c.csv?"))  # noqa: S310
    assert refused.value.code == 403


def test_content_that_is_not_its_hash_is_refused(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    store = open_store(bucket)
    with pytest.raises((RetryableError, ConfigError)):
        store.upload("file", tmp_path / "file", "00" * 32)
    assert not store.exists("file")


def _build(draft: Draft) -> None:
    draft.write_text("prices.csv", "product_id,price\n")


_build.__module__ = "ecom_tasks.pricing.tasks"


def test_a_consumer_pulls_and_cannot_write(
    home: Path, bucket: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Run(run.run_id, run.as_of, bucket)
    dataset.release(publisher, dataset.produce(publisher, "artefacts/pricing", _build))
    become(monkeypatch, home, "consumer")
    pulled = pull.pull(bucket, "artefacts/pricing", tmp_path / "here")
    assert pull.verify(tmp_path / "here" / "current").version == pulled.version
    with pytest.raises(ConfigError, match="refuses"):
        open_store(bucket).create("artefacts/pricing/channels/own.json", b"{}")


def test_a_bucket_is_pulled_from_where_the_last_pull_stopped(
    bucket: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, content = Run(run.run_id, run.as_of, bucket), "0123456789" * 1000

    def build(draft: Draft) -> None:
        draft.write_text("prices.csv", content)
        draft.write_text("empty", "")

    build.__module__ = "ecom_tasks.pricing.tasks"
    ref = dataset.release(publisher, dataset.produce(publisher, "artefacts/pricing", build))
    partial = tmp_path / f"here/.partial-{dataset.manifest(ref).version}"
    partial.mkdir(parents=True)
    (partial / "prices.csv").write_text(content[:9990])
    sent = []

    def get(self: Any, key: str, inner: Any = pull._Bucket._get, **options: str) -> Any:
        answer = inner(self, key, **options)
        sent.append((key.rpartition("/")[2], answer["ContentLength"]))
        return answer

    monkeypatch.setattr(pull._Bucket, "_get", get)
    pull.pull(bucket, "artefacts/pricing", tmp_path / "here")
    assert ("prices.csv", 10) in sent
    assert (pull.verify(tmp_path / "here/current").files[1].bytes) == len(content)
    sent.clear()
    assert not pull.pull(bucket, "artefacts/pricing", tmp_path / "here").changed
    assert sent == []  # 304: the pointer was asked for and had not changed


def test_the_doctor_finds_a_wrong_clock(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._clock(bucket).holds
    assert doctor._credentials().holds
    late = "Thu, 01 Jan 2026 00:00:00 GMT"
    monkeypatch.setattr(S3Store, "clock", lambda _: late)
    finding = doctor._clock(bucket)
    assert not finding.holds
    assert "set its clock" in finding.remedy


@pytest.mark.parametrize("wrong", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_are_said(
    bucket: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wrong, "wrong")
    client.cache_clear()
    with pytest.raises(ConfigError, match=r"refuses.*Check the bucket's name"):
        open_store(bucket).read("anything")


def test_an_absent_store_is_a_passing_fault(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_S3_ENDPOINT", "http://127.0.0.1:1")
    store = open_store(bucket)
    assert isinstance(store, S3Store)
    with pytest.raises(RetryableError, match=r"cannot be reached.*Check ECOM_S3_ENDPOINT"):
        store.read("anything")


def test_a_person_is_forgotten(bucket: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """With a publisher's rights: who is taken out of the lake needs to delete nothing."""
    shop = Run(run.run_id, run.as_of, bucket)
    ann, bob = "a" * 32, "b" * 32
    lines = [builders.line(each, "milk", builders.day(day))
             for day, each in enumerate([ann, bob, ann, None])]  # fmt: skip
    tables = {"order_lines": builders.order_lines(lines), "products": builders.products(["milk"])}
    builders.publish_lake(shop, tables)
    for _ in range(2):  # the second time finds it done
        assert cli.main(["forget", ann, "--pseudonym", "--root", bucket]) == 0
        lake = dataset.find(shop, "lake/all")
        left = dataset.scan(dataset.input_named(lake, "lake/order_lines"), "by_product/*")
        assert left.collect()["customer_id"].sort().to_list() == [None, bob]
        assert "lake/order_lines" in capsys.readouterr().out
