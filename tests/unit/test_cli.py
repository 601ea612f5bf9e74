"""Commands: what they print, and the exit codes that callers act on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ecom_tasks import cli, domains
from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.errors import RetryableError
from ecom_tasks.run import Ref, Run, Step

COMMANDS = ["run", "step", "check-source", "list", "lineage", "promote", "rollback", "pull",
            "sign", "keys", "retain", "pin", "unpin", "policy", "history", "diff", "bind",
            "doctor", "services", "demo", "backtest",
            "tune"]  # fmt: skip


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"] if command else ["--help"])
    assert ended.value.code == 0
    assert "ECOM_ROOT" in capsys.readouterr().out


def _build(draft: Draft) -> None:
    draft.write_text("prices.csv", "product_id,price\n")
    draft.headline(metric="rmse", value=0.5, baseline_name="none", baseline=0.7,
                   higher_is_better=False, rows=1, unit="prices")  # fmt: skip


_build.__module__ = "ecom_tasks.pricing.tasks"


def test_list_lineage_pull_rollback(
    run: Run, another_day: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refs = [dataset.release(r, dataset.produce(r, "artefacts/pricing", _build))
            for r in (run, another_day)]  # fmt: skip
    versions = [dataset.manifest(ref).version for ref in refs]
    root = ["--root", run.root]
    assert cli.main(["list", *root]) == 0
    listed = capsys.readouterr().out
    assert all(version in listed for version in versions)
    assert "rmse 0.5" in listed
    assert cli.main(["list", "--json", *root]) == 0
    assert json.loads(capsys.readouterr().out)[0]["headline"]["baseline"] == 0.7
    assert cli.main(["pull", "pricing", str(tmp_path / "here"), *root]) == 0
    assert versions[1] in capsys.readouterr().out
    assert cli.main(["rollback", "pricing", *root]) == 0
    assert versions[0] in capsys.readouterr().out
    assert cli.main(["lineage", "pricing", *root]) == 0
    assert f"artefacts/pricing  {versions[0]}" in capsys.readouterr().out
    assert cli.main(["promote", "pricing", versions[1], *root]) == 0
    assert cli.main(["promote", "pricing", "never-made", *root]) == 2


def test_run_prints_the_reference_and_hands_settings_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Run] = []

    def only_task(run: Run) -> Ref:
        seen.append(run)
        return Ref("made")

    def flow(step: Step) -> Ref:
        return step(only_task)

    monkeypatch.setattr(domains, "flow_of", lambda _: flow)
    code = cli.main(["run", "pricing", "--as-of", "2024-03-31", "--root", run.root,
                     "--set", "pricing.largest_step=0.05", "--set", "pricing.name=x"])  # fmt: skip
    assert code == 0
    assert capsys.readouterr().out == "made\n"
    assert seen[0].overrides == {"pricing": {"largest_step": 0.05, "name": "x"}}
    assert len(seen) == 1
    cli.main(["run", "pricing", "--as-of", "2024-03-31", "--root", run.root, "--source", "x"])
    assert len(seen) == 1 + len(("ingestion", "features", "pricing"))


@pytest.mark.parametrize(
    ("error", "code"), [(RetryableError("gone", "wait"), 1), (ValueError("a bug"), 2)]
)
def test_exit_code_says_whether_a_retry_helps(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "run_task", fail)
    assert cli.main(["step", "pricing", "x", "--run", run.to_json()]) == code


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "pricing", "--as-of", "2024-03-31"],
        ["run", "pricing", "--as-of", "2024-03-31", "--root", "nowhere"],
        ["run", "pricing", "--as-of", "2024-03-31", "--root", "file:///x", "--set", "wrong"],
        ["step", "pricing", "x", "--run", "{"],
        ["list"],
    ],
)
def test_wrong_calls_are_told_what_to_do(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert "ConfigError" in capsys.readouterr().err


def test_a_machine_reads_the_error_as_json() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ecom_tasks", "list"],
        env={"ECOM_LOG": "json", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    last = json.loads(done.stderr.splitlines()[-1])
    assert last["level"] == "ERROR"
    assert last["error"] == "ConfigError"
    assert last["hint"] == "Give --root, or set ECOM_ROOT"
