"""The consumer gets every byte as attested, or keeps what it had."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.pull import pull, verify
from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.run import Ref, Run

NAME = "artefacts/pricing"
FILES = {"prices.csv": "product_id,price\n", "models/a.json": "{}\n", "report.html": "<p>"}


def _build(draft: Draft) -> None:
    for path, text in FILES.items():
        draft.write_text(path, text)


_build.__module__ = "ecom_tasks.pricing.tasks"


def publish(run: Run) -> Ref:
    return dataset.release(run, dataset.produce(run, NAME, _build))


def stored(ref: Ref, path: str) -> Path:
    return Path(urlsplit(ref).path).parent / path


def test_pulled_is_what_was_published(run: Run, tmp_path: Path) -> None:
    ref = publish(run)
    pulled = pull(run.root, NAME, tmp_path / "here")
    current = tmp_path / "here" / "current"
    assert {p: (current / p).read_text() for p in FILES} == FILES
    assert verify(current).version == dataset.manifest(ref).version == pulled.version
    assert pulled.changed
    assert pulled.bytes == sum(map(len, FILES.values()))
    assert not pull(run.root, NAME, tmp_path / "here").changed


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_in_any_file_keeps_the_last_good(
    run: Run, another_day: Run, tmp_path: Path, path: str, damage: str
) -> None:
    publish(run)
    good = pull(run.root, NAME, tmp_path / "here")
    file = stored(publish(another_day), path)
    content = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(content[:-1] + (b"" if damage == "cut" else bytes([content[-1] ^ 1])))
    with pytest.raises(DataContractError):
        pull(run.root, NAME, tmp_path / "here")
    assert verify(tmp_path / "here" / "current").version == good.version


def test_a_replaced_manifest_is_noticed(run: Run, tmp_path: Path) -> None:
    file = stored(publish(run), "_manifest.json")
    file.write_bytes(file.read_bytes().replace(b'"run_id": "test"', b'"run_id": "evil"'))
    with pytest.raises(DataContractError, match="not the manifest that channel production attests"):
        pull(run.root, NAME, tmp_path / "here")
    assert not (tmp_path / "here" / "current").exists()


def test_a_cut_off_pull_goes_on_and_leaves_no_strangers(run: Run, tmp_path: Path) -> None:
    version = dataset.manifest(publish(run)).version
    partial = tmp_path / "here" / f".partial-{version}"
    partial.mkdir(parents=True)
    (partial / "prices.csv").write_text("half")
    (partial / "stranger").write_text("?")
    pull(run.root, NAME, tmp_path / "here")
    verify(tmp_path / "here" / "current")
    found = {p.name for p in (tmp_path / "here" / version).rglob("*") if p.is_file()}
    assert found == {"prices.csv", "a.json", "report.html", "_manifest.json"}


def test_pinned_version_does_not_follow_the_channel(
    run: Run, another_day: Run, tmp_path: Path
) -> None:
    old = dataset.manifest(publish(run)).version
    publish(another_day)
    assert pull(run.root, NAME, tmp_path / "here", version=old).version == old
    assert pull(run.root, NAME, tmp_path / "here").version != old


def test_nothing_in_service_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no channel production"):
        pull(run.root, NAME, tmp_path)
    with pytest.raises(ConfigError, match=r"There is no .*never-made"):
        pull(run.root, NAME, tmp_path, version="never-made")
