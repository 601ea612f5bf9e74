"""Policies that `policy` prints, tried on the real object server by those they are for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ecom_tasks import cli, services
from ecom_tasks.artefacts import access, dataset, pull
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.s3_store import client
from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Run
from ecom_tasks.services import credentials, object_store

SECRET = "s" * 32
ROOT = f"{services.ROOT}/shop"


@dataclass
class Store:
    url: str
    admin: Any

    def of(self, role: str) -> Any:
        return object_store.client(self.url, (f"only{role}", SECRET))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A server whose further identities may nothing but what the policy gives them."""
    home, known = tmp_path_factory.mktemp("access") / "home", object_store.identities

    def identities(keys: credentials.Credentials) -> dict[str, Any]:
        further = [
            {"name": f"only-{role}", "actions": [],
             "credentials": [{"accessKey": f"only{role}", "secretKey": SECRET}]}
            for role in access.ROLES
        ]  # fmt: skip
        return {"identities": known(keys)["identities"] + further}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_store, "identities", identities)
        running = services.start(home, say=lambda _: None, airflow=False)
        keys = credentials.load(home)
        admin = object_store.client(running.endpoint, keys.pair("admin"))
        arns = {role: [f"arn:aws:iam::000000000000:user/only-{role}"] for role in access.ROLES}
        policy = json.dumps(access.policy(ROOT, arns, aws=False))
        admin.put_bucket_policy(Bucket="ecom", Policy=policy)
        for key in ("artefacts/a", "lake/a", "other/a"):
            admin.put_object(Bucket="ecom", Key=f"shop/{key}", Body=b"1")
        admin.put_object(Bucket="ecom", Key="elsewhere/a", Body=b"1")
        found = Store(running.endpoint, admin)
        deadline = time.monotonic() + 20
        while not allowed(lambda: get(found.of("consumer"), "shop/artefacts/a")):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield found
        services.stop(home)


def get(s3: Any, key: str) -> Any:
    return s3.get_object(Bucket="ecom", Key=key)


def allowed(act: Callable[[], Any]) -> bool:
    """Whether the store does it; any other answer than a refusal counts as done."""
    try:
        act()
    except ClientError as error:
        answer: Any = error.response
        return answer["Error"]["Code"] not in {"AccessDenied", "403"}
    return True


KEYS = ["shop/artefacts/a", "shop/lake/a", "shop/other/a", "elsewhere/a"]
READS = {"consumer": [1, 0, 0, 0], "console": [1, 1, 0, 0], "publisher": [1, 1, 0, 0],
         "janitor": [1, 1, 0, 0]}  # fmt: skip
WRITES = {"consumer": [0, 0, 0, 0], "console": [0, 0, 0, 0], "publisher": [1, 1, 0, 0],
          "janitor": [1, 1, 0, 0]}  # fmt: skip
DELETES = {"consumer": [0, 0, 0, 0], "console": [0, 0, 0, 0], "publisher": [0, 0, 0, 0],
           "janitor": [1, 1, 0, 0]}  # fmt: skip


@pytest.mark.parametrize("role", access.ROLES)
def test_everybody_may_what_is_theirs_and_nothing_else(store: Store, role: str) -> None:
    s3 = store.of(role)
    assert [allowed(lambda key=key: get(s3, key)) for key in KEYS] == READS[role]
    written = [allowed(lambda key=key: s3.put_object(Bucket="ecom", Key=key, Body=b"2"))
               for key in KEYS]  # fmt: skip
    assert written == WRITES[role]
    gone = [allowed(lambda key=key: s3.delete_object(Bucket="ecom", Key=f"{key}-{role}"))
            for key in KEYS]  # fmt: skip
    assert gone == DELETES[role]
    for prefix, may in (("shop/artefacts/", True), ("elsewhere/", False), ("shop/other/", False)):
        listed = allowed(lambda p=prefix: s3.list_objects_v2(Bucket="ecom", Prefix=p))
        assert listed is may, prefix


def become(monkeypatch: pytest.MonkeyPatch, store: Store, role: str) -> None:
    monkeypatch.setenv("ECOM_S3_ENDPOINT", store.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"only{role}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    client.cache_clear()


def _build(draft: Draft) -> None:
    draft.write_text("prices.csv", "product_id,price\n")


_build.__module__ = "ecom_tasks.pricing.tasks"


@pytest.mark.parametrize("encryption", ["", "AES256"])
def test_the_rights_suffice_to_publish_and_to_pull(
    store: Store, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encryption: str
) -> None:
    monkeypatch.setenv("ECOM_S3_ENCRYPTION", encryption)
    become(monkeypatch, store, "publisher")
    day = run.as_of.replace(day=1 + bool(encryption))
    publisher = Run(run.run_id, day, ROOT)
    ref = dataset.release(publisher, dataset.produce(publisher, "artefacts/pricing", _build))
    key = ref.removeprefix("s3://ecom/").replace("_manifest.json", "prices.csv")
    sealed = store.admin.head_object(Bucket="ecom", Key=key).get("ServerSideEncryption", "")
    assert sealed == encryption
    become(monkeypatch, store, "consumer")
    assert pull.pull(ROOT, "artefacts/pricing", tmp_path / "here").changed
    with pytest.raises(pull.SettingError):
        pull.pull(ROOT, "artefacts/never-made", tmp_path / "there")


def test_command_and_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arn = "arn:aws:iam::1:user/shop"
    assert cli.main(["policy", "--consumer", arn, "--root", "s3://bucket/x"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == access.policy("s3://bucket/x", {"consumer": [arn]}, aws=False)
    assert "arn:aws:s3:::bucket/x/artefacts/*" in printed["Statement"][0]["Resource"]
    denied = access.policy("s3://b", {"publisher": [arn]}, aws=True)["Statement"][-1]
    assert (denied["Effect"], denied["Resource"]) == ("Deny", ["arn:aws:s3:::b/*/_manifest.json"])
    with pytest.raises(ConfigError, match="No policy can be made"):
        access.policy("file:///x", {}, aws=False)


def test_a_wrong_encryption_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from ecom_tasks.artefacts import s3_store

    monkeypatch.setenv("ECOM_S3_ENCRYPTION", "aws:kms:my-key")
    assert s3_store._sealed() == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "my-key"}
    monkeypatch.setenv("ECOM_S3_ENCRYPTION", "rot13")
    with pytest.raises(ConfigError, match="ECOM_S3_ENCRYPTION is 'rot13'"):
        s3_store._sealed()
    assert run
