"""Canary, shadow, history, differences, and going back while the model code is broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ecom_tasks import cli
from ecom_tasks.artefacts import dataset, pull, release
from ecom_tasks.artefacts.compare import diff
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Ref, Run
from tests.unit.artefacts.test_dataset import Config

NAME = "artefacts/pricing"
PACKAGE = Path(dataset.__file__).resolve().parent.parent


def make(run: Run, step: float = 0.1, inputs: list[Ref] | None = None) -> str:
    """Publish without promoting; return the version."""

    def build(draft: Draft) -> None:
        draft.write_text("prices.csv", f"{step}\n")
        draft.metrics.update({"held_out": {"loss": step}})
        draft.headline(metric="loss", value=step, baseline_name="plain", baseline=1,
                       higher_is_better=False, rows=1, unit="prices")  # fmt: skip

    build.__module__ = "ecom_tasks.pricing.tasks"
    ref = dataset.produce(run, NAME, build, config=Config(step=step), inputs=inputs or [])
    return dataset.manifest(ref).version


def table(run: Run) -> Ref:
    def build(draft: Draft) -> None:
        draft.write_text("rows.csv", run.as_of.isoformat())

    build.__module__ = "ecom_tasks.ingestion.tasks"
    return dataset.produce(run, "lake/products", build)


def test_a_canary_serves_its_share_beside_production(run: Run, tmp_path: Path) -> None:
    champion, challenger = make(run), make(run, 0.2)
    release.promote(run.root, NAME, champion)
    terms = release.Terms(reason="promoted", share=0.1)
    release.promote(run.root, NAME, challenger, "canary", terms)
    assert pull.pull(run.root, NAME, tmp_path / "production").version == champion
    options = pull.Options(channel="canary")
    assert pull.pull(run.root, NAME, tmp_path / "canary", options=options).version == challenger
    health = pull._read_health(tmp_path / "canary")
    assert (health["share"], health["channel"]) == (0.1, "canary")
    # A larger share of the same version is a move of its own.
    terms = release.Terms(reason="promoted", share=0.5)
    assert release.promote(run.root, NAME, challenger, "canary", terms).sequence == 2
    pull.pull(run.root, NAME, tmp_path / "canary", options=options)
    assert pull._read_health(tmp_path / "canary")["share"] == 0.5


@pytest.mark.parametrize(
    ("channel", "share"),
    [("production", 0.5), ("canary", 0.0), ("canary", 1.5), ("2024-01-01", None)],
)
def test_what_no_channel_can_serve_is_refused(run: Run, channel: str, share: float | None) -> None:
    version = make(run)
    with pytest.raises(ConfigError, match=r"share|no channel"):
        release.promote(run.root, NAME, version, channel, release.Terms(share=share))


def test_shadow_publishes_without_serving(
    run: Run, another_day: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = make(run)
    release.promote(run.root, NAME, champion)
    challenger = make(another_day)
    monkeypatch.setenv("ECOM_GATE__CHANNEL", "shadow")
    ref = release.ref_of(run.root, NAME, challenger)
    dataset.release(another_day, ref)
    assert pull.pull(run.root, NAME, tmp_path / "here").version == champion
    options = pull.Options(channel="shadow")
    assert pull.pull(run.root, NAME, tmp_path / "shadow", options=options).version == challenger


def test_history_says_who_and_why(
    run: Run, another_day: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = make(run), make(another_day, 0.2)
    root = ["--root", run.root]
    assert cli.main(["promote", "pricing", first, *root]) == 0
    assert cli.main(["promote", "pricing", second, *root]) == 0
    assert cli.main(["rollback", "pricing", *root]) == 0
    assert (
        cli.main(["promote", "pricing", second, "--channel", "canary", "--share", "0.1", *root])
        == 0
    )
    assert "for 10% of the customers" in capsys.readouterr().out
    assert cli.main(["history", "pricing", *root]) == 0
    said = [
        line for line in capsys.readouterr().out.splitlines() if first in line or second in line
    ]
    assert [first in line for line in said] == [True, False, True]
    assert "rolled back" in said[0]
    assert "loss 0.2" in said[1]
    pointer = release.read_pointer(open_store(run.root), NAME, "production")
    assert pointer is not None
    assert all(move.by for move in pointer.history)
    assert cli.main(["history", "pricing", "--channel", "none", *root]) == 2


def test_diff_names_data_settings_and_metrics(
    run: Run, another_day: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make(run, 0.1, [table(run)])
    second = make(another_day, 0.2, [table(another_day)])
    found = {(each.part, each.what): (each.first, each.second)
             for each in diff(run.root, NAME, first, second)}  # fmt: skip
    assert found["config", "step"] == (0.1, 0.2)
    assert found["metrics", "held_out.loss"] == (0.1, 0.2)
    versions = found["data", "lake/products"]
    assert versions[0].startswith("2024-03-31")
    assert versions[1].startswith("2024-04-07")
    assert {part for part, _ in found} == {"config", "metrics", "data", "files"}
    assert diff(run.root, NAME, first, first) == []
    assert cli.main(["diff", "pricing", first, second, "--root", run.root]) == 0
    assert "held_out.loss" in capsys.readouterr().out


def test_going_back_needs_no_model_code(run: Run, another_day: Run, tmp_path: Path) -> None:
    """A copy of the program in which every file about models is broken."""
    for version in (make(run), make(another_day)):
        release.promote(run.root, NAME, version)
    broken = tmp_path / "broken"
    shutil.copytree(PACKAGE, broken / "ecom_tasks", ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("recommendation", "pricing", "inventory", "features", "ingestion", "training",
                 "metrics", "compute", "reports.py"):  # fmt: skip
        path = broken / "ecom_tasks" / part
        for file in [path] if path.is_file() else path.rglob("*.py"):
            file.write_text("this is no Python")
    command = [sys.executable, "-m", "ecom_tasks"]
    environment = os.environ | {"PYTHONPATH": str(broken)}
    for each in (["list"], ["history", "pricing"], ["lineage", "pricing"], ["rollback", "pricing"]):
        done = subprocess.run(
            [*command, *each, "--root", run.root], env=environment, cwd=broken,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    pointer = release.read_pointer(open_store(run.root), NAME, "production")
    assert pointer is not None
    assert (pointer.sequence, pointer.as_of) == (3, run.as_of)
