"""The examples of the consumers' guide do what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest

from ecom_tasks.artefacts import dataset, pull, release
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.run import Run

PROJECT = Path(__file__).resolve().parents[3]
GUIDE = (PROJECT / "docs/guide/consuming.md").read_text(encoding="utf-8")
PRICES = pl.DataFrame({"product_id": ["a", "b"], "proposed_price": [1.0, 2.5]})
# What the script needs of `aws`: copy an object of a bucket, which here is a folder.
AWS = """#!/bin/sh -e
[ "$1 $2 $3" = "s3 cp --only-show-errors" ]
mkdir -p "$(dirname "$5")"
cp "$STORE/${4#s3://bucket/}" "$5"
"""


def _build(draft: Draft) -> None:
    draft.write_frame("prices.parquet", PRICES)
    draft.write_text("models/shop.json", "{}")


_build.__module__ = "ecom_tasks.pricing.tasks"


def example(language: str, marker: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    (found,) = [block for block in blocks if marker in block]
    return str(found)


def publish(run: Run) -> str:
    ref = dataset.release(run, dataset.produce(run, "artefacts/pricing", _build))
    return dataset.manifest(ref).version


@pytest.fixture
def script(tmp_path: Path) -> list[str]:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/aws").write_text(AWS)
    (tmp_path / "bin/aws").chmod(0o755)
    (tmp_path / "pull.sh").write_text(example("sh", "sha256sum"))
    return ["sh", "-e", str(tmp_path / "pull.sh"), "bucket", "artefacts/pricing",
            str(tmp_path / "here")]  # fmt: skip


def follow(script: list[str], run: Run, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    settings = {"PATH": path, "STORE": urlsplit(run.root).path}
    return subprocess.run(script, env=settings, capture_output=True, text=True, check=False)


def test_shell_follows_and_verifies(
    script: list[str], run: Run, another_day: Run, tmp_path: Path
) -> None:
    current = tmp_path / "here/current"
    for day in (run, another_day):
        made = publish(day)
        assert follow(script, run, tmp_path).stderr == ""
        assert pull.verify(current).version == made
    release.rollback(run.root, "artefacts/pricing")
    follow(script, run, tmp_path)
    assert pull.verify(current).version != made


@pytest.mark.parametrize("damaged", ["prices.parquet", "models/shop.json", "_manifest.json"])
def test_shell_keeps_the_last_good(
    script: list[str], run: Run, another_day: Run, tmp_path: Path, damaged: str
) -> None:
    good = publish(run)
    follow(script, run, tmp_path)
    bad = publish(another_day)
    file = Path(urlsplit(run.root).path) / f"artefacts/pricing/v/{bad}/{damaged}"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert follow(script, run, tmp_path).returncode != 0
    assert pull.verify(tmp_path / "here/current").version == good


def test_python_follows(run: Run, tmp_path: Path) -> None:
    made = publish(run)
    text = example("python", "import pull").replace("/srv/prices", str(tmp_path / "here"))
    # One look instead of one a minute for ever.
    text = text.replace("s3://ecom", run.root).replace(
        "stop = threading.Event()",
        "stop = threading.Event()\nthreading.Timer(0.0, stop.set).start()\nstop.is_set = "
        "lambda looks=[]: looks.append(1) or len(looks) > 1",
    )
    assert len(example("python", "import pull").strip().splitlines()) <= 24
    (tmp_path / "consumer.py").write_text(text)
    shutil.copy(pull.__file__, tmp_path)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "consumer.py")], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"2 prices of {made}, 0 h old")


def test_monitoring_expression(run: Run, tmp_path: Path) -> None:
    """Where jq is installed: fresh is well, an error is not."""
    if not shutil.which("jq"):
        pytest.skip("jq is not installed")
    publish(run)
    pull.pull(run.root, "artefacts/pricing", tmp_path / "here")
    health = tmp_path / "here/health.json"
    (expression,) = re.findall(r"jq -e '([^']+)'", GUIDE)
    assert subprocess.run(["jq", "-e", expression, health], check=False).returncode == 0
    for change in ({"ok": False}, {"age_seconds": 1e6}, {"checked_at": "2020-01-01T00:00:00Z"}):
        health.write_text(json.dumps(json.loads(health.read_text()) | change))
        assert subprocess.run(["jq", "-e", expression, health], check=False).returncode == 1
        pull.pull(run.root, "artefacts/pricing", tmp_path / "here")
