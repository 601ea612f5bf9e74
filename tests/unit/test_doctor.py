"""One line a question, each with a remedy where it does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecom_tasks import doctor
from ecom_tasks.artefacts import signing


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ECOM_HOME", str(tmp_path / "home"))


def test_all_is_well_with_a_folder(root: str) -> None:
    findings = doctor.diagnose(root)
    assert [each.question for each in findings if not each.holds] == []
    assert len(findings) == len({each.question for each in findings}) >= 12


@pytest.mark.parametrize("where", ["home/secrets.json", ".aws/credentials", "signing.key"])
def test_secrets_that_others_may_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    file = tmp_path / where
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    monkeypatch.setenv("ECOM_SIGNING_KEY", str(tmp_path / "signing.key"))
    assert doctor._secret_modes().holds
    file.chmod(0o640)
    finding = doctor._secret_modes()
    assert not finding.holds
    assert finding.remedy == f"chmod 600 {file}"


def test_a_signing_key_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not signed" in doctor._signing().question
    private, public = signing.make(tmp_path / "keys")
    monkeypatch.setenv("ECOM_SIGNING_KEY", str(private))
    assert public.stem in doctor._signing().question
    private.write_text("mangled")
    assert not doctor._signing().holds


def test_a_gpu_is_wanted_only_where_dask_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda *_: iter([]))
    assert doctor._gpu().holds
    monkeypatch.setenv("ECOM_DASK", "cuda")
    finding = doctor._gpu()
    assert not finding.holds
    assert "ECOM_DASK=processes" in finding.remedy


def test_a_short_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._disk(str(tmp_path / "not/yet/there")).question.startswith(
        f"disk under {tmp_path}"
    )
    full = doctor.shutil.disk_usage(tmp_path)._replace(free=5 * 2**30 - 1)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: full)
    assert not doctor._disk(str(tmp_path)).holds
