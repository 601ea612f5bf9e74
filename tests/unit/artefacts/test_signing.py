"""Whoever can write to the store but has no key cannot make a consumer follow."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from ecom_tasks.artefacts import dataset, pull, release, signing
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.run import Ref, Run

NAME = "artefacts/pricing"


def _build(draft: Draft) -> None:
    draft.write_text("prices.csv", "product_id,price\n")


_build.__module__ = "ecom_tasks.pricing.tasks"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Folder of the publisher's key, not yet configured."""
    signing.make(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def signed(keys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, configured; public keys of this folder are trusted by `trusting`."""
    monkeypatch.setenv("ECOM_SIGNING_KEY", str(next(keys.glob("*.key"))))
    return keys


def trusting(*places: Path) -> pull.Options:
    return pull.Options(public_keys=places)


def publish(run: Run) -> Ref:
    return dataset.release(run, dataset.produce(run, NAME, _build))


def pointer_file(run: Run) -> Path:
    return Path(urlsplit(run.root).path) / release.pointer_key(NAME, "production")


def forge(run: Run, change: dict[str, Any]) -> None:
    file = pointer_file(run)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def test_signed_is_pulled_and_said(run: Run, signed: Path, tmp_path: Path) -> None:
    publish(run)
    pulled = pull.pull(run.root, NAME, tmp_path / "here", options=trusting(signed))
    assert pulled.changed
    health = json.loads((tmp_path / "here/health.json").read_text())
    assert health["signed_by"] == signing.own_key_id() == next(signed.glob("*.pem")).stem


def test_verification_is_on_where_a_key_is_configured(
    run: Run, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(run)
    monkeypatch.setenv("ECOM_PUBLIC_KEYS", str(keys))
    with pytest.raises(pull.RefusedError, match=r"production\.json is not signed"):
        pull.pull(run.root, NAME, tmp_path / "here")
    with pytest.raises(pull.RefusedError, match=r"_manifest\.json is not signed"):
        pull.pull(run.root, NAME, tmp_path / "here", version=pull_version(run))
    monkeypatch.setenv("ECOM_PUBLIC_KEYS", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(pull.SettingError, match="no public key"):
        pull.pull(run.root, NAME, tmp_path / "here")


def pull_version(run: Run) -> str:
    pointer = release.read_pointer(open_store(run.root), NAME, "production")
    assert pointer is not None
    return pointer.version


def test_a_changed_manifest_is_refused_though_the_pointer_fits(
    run: Run, signed: Path, tmp_path: Path
) -> None:
    file = Path(urlsplit(publish(run)).path)
    file.write_bytes(file.read_bytes().replace(b'"run_id": "test"', b'"run_id": "evil"'))
    with pytest.raises(pull.RefusedError, match="not signed"):
        pull.pull(
            run.root, NAME, tmp_path / "here", version=pull_version(run), options=trusting(signed)
        )


@pytest.mark.parametrize(
    "change", [{"sequence": 9}, {"moved_at": "2030-01-01"}, {"share": 0.5}, {"signature": None}]
)
def test_no_field_of_a_pointer_can_be_changed(
    run: Run, signed: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    publish(run)
    forge(run, change)
    with pytest.raises(pull.RefusedError, match="no signature of the trusted keys"):
        pull.pull(run.root, NAME, tmp_path / "here", options=trusting(signed))


def test_an_older_signed_version_cannot_be_put_back(
    run: Run, another_day: Run, signed: Path, tmp_path: Path
) -> None:
    """The manifest of the older version is validly signed: the pointer to it is what is missing."""
    publish(run)
    past = pointer_file(run).read_bytes()
    old = json.loads(past)
    publish(another_day)
    good = pull.pull(run.root, NAME, tmp_path / "here", options=trusting(signed))
    pointer_file(run).write_bytes(past)
    with pytest.raises(pull.RefusedError, match="was seen before"):
        pull.pull(run.root, NAME, tmp_path / "here", options=trusting(signed))
    pointer_file(run).write_text(json.dumps(old | {"sequence": 3}))
    with pytest.raises(pull.RefusedError, match="no signature"):
        pull.pull(run.root, NAME, tmp_path / "here", options=trusting(signed))
    assert pull.verify(tmp_path / "here/current").version == good.version


def test_keys_rotate_without_a_gap(
    run: Run, another_day: Run, signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(run)
    private, public = signing.make(tmp_path / "next")
    here = tmp_path / "here"
    both = trusting(signed, public)
    pull.pull(run.root, NAME, here, options=both)
    monkeypatch.setenv("ECOM_SIGNING_KEY", str(private))
    publish(another_day)
    pull.pull(run.root, NAME, here, options=both)
    assert pull.pull(run.root, NAME, tmp_path / "new", options=trusting(public)).changed
    with pytest.raises(pull.RefusedError, match=f"signed by {public.stem}"):
        pull.pull(run.root, NAME, tmp_path / "old", options=trusting(signed))


def test_a_version_of_before_is_signed_only_when_told(
    run: Run, signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = publish(run)
    version = dataset.manifest(ref).version
    private, public = signing.make(tmp_path / "next")
    monkeypatch.setenv("ECOM_SIGNING_KEY", str(private))
    with pytest.raises(ConfigError, match="not signed by the key"):
        release.promote(run.root, NAME, version)
    with pytest.raises(ConfigError, match="not signed by the key"):
        publish(run)
    assert release.sign(run.root, NAME, version) == public.stem
    # The same version, so the pointer is moved for the sake of its signature alone.
    assert release.promote(run.root, NAME, version).sequence == 2
    for trusted in (public, signed):
        options = trusting(trusted)
        here = tmp_path / trusted.stem
        assert pull.pull(run.root, NAME, here, version=version, options=options).changed


@pytest.mark.usefixtures("signed")
def test_what_was_changed_is_not_signed(run: Run) -> None:
    ref = publish(run)
    Path(urlsplit(ref).path).with_name("prices.csv").write_text("product_id,price\n?")
    with pytest.raises(DataContractError, match="not what its manifest attests"):
        release.sign(run.root, NAME, dataset.manifest(ref).version)


def test_a_key_that_others_may_read_is_refused(run: Run, signed: Path) -> None:
    key = next(signed.glob("*.key"))
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="Other users may read the signing key"):
        publish(run)


@pytest.mark.parametrize("form", ["uri", "json"])
def test_the_key_of_an_airflow_connection(
    run: Run, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    pem = next(keys.glob("*.key")).read_text()
    spelt = json.dumps({"conn_type": "generic", "password": pem})
    monkeypatch.setenv("ECOM_SIGNING_CONNECTION", "release_key")
    with pytest.raises(ConfigError, match="was not given"):
        publish(run)
    monkeypatch.setenv(
        "AIRFLOW_CONN_RELEASE_KEY",
        spelt if form == "json" else f"generic://:{quote(pem, safe='')}@",
    )
    publish(run)
    assert pull.pull(run.root, NAME, tmp_path / "here", options=trusting(keys)).changed


def test_what_is_no_key_is_said(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no.key").write_text("no key")
    (tmp_path / "no.key").chmod(0o600)
    monkeypatch.setenv("ECOM_SIGNING_KEY", str(tmp_path / "no.key"))
    with pytest.raises(ConfigError, match="no unencrypted PEM"):
        publish(run)
    monkeypatch.setenv("ECOM_SIGNING_KEY", str(tmp_path / "absent.key"))
    with pytest.raises(ConfigError, match="cannot be read"):
        publish(run)


@pytest.mark.usefixtures("signed")
def test_nothing_else_is_signed(run: Run) -> None:
    ref = dataset.produce(run, "work/pricing/panel", _build)
    store = open_store(run.root)
    assert not [stat.key for stat in store.walk("work/") if "_signatures" in stat.key]
    assert "artefacts" not in ref


def test_another_program_verifies_it(run: Run, signed: Path, tmp_path: Path) -> None:
    """OpenSSL agrees: the signature is plain Ed25519 over the manifest's bytes."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    manifest = Path(urlsplit(publish(run)).path)
    (document,) = (manifest.parent / "_signatures").glob("*.json")
    value = json.loads(document.read_text())["signatures"][0]["value"]
    (tmp_path / "sig").write_bytes(base64.b64decode(value))
    verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(next(signed.glob("*.pem"))),
              "-rawin", "-sigfile", str(tmp_path / "sig"), "-in"]  # fmt: skip
    assert subprocess.run([*verify, manifest], capture_output=True, check=False).returncode == 0
    (tmp_path / "other").write_bytes(manifest.read_bytes() + b" ")
    other = subprocess.run([*verify, tmp_path / "other"], capture_output=True, check=False)
    assert other.returncode != 0
