"""A version is named after what it was made from, so that the same is never made twice."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ecom_tasks.artefacts.manifest import Code

PACKAGE = Path(__file__).resolve().parent.parent
# What a domain's bytes depend on besides its own folder. Orchestration, clusters, logs, commands
# and channels do not shape them, so a change there recomputes nothing.
_LAYERS_BELOW = (
    "artefacts/bucketing.py", "artefacts/dataset.py", "artefacts/growing.py",
    "artefacts/manifest.py", "compute/buckets.py", "device.py", "reports.py", "tables.py",
)  # fmt: skip
_MODEL_LAYERS = ("training", "metrics")
_WITHOUT_MODELS = ("ingestion", "features")
_SHAPING = (
    "polars", "pyarrow", "duckdb", "numpy", "pandas", "scipy", "xgboost-cpu", "xgboost",
    "tensorflow-cpu", "tensorflow", "keras", "implicit", "great-expectations", "matplotlib",
    "holidays", "fastexcel", "statsforecast", "hierarchicalforecast", "cudf-polars-cu13",
)  # fmt: skip


def version_of(
    as_of: date, name: str, inputs: Mapping[str, str], config: Mapping[str, Any], code: Code
) -> str:
    """`YYYY-MM-DD-` and 16 hex digits over everything that determines the content."""
    fingerprint = hashlib.sha256(
        json.dumps(
            [name, dict(inputs), dict(config), code.fingerprint, code.packages],
            sort_keys=True,
            default=str,
        ).encode()
    ).hexdigest()
    return f"{as_of.isoformat()}-{fingerprint[:16]}"


@cache
def code_of(domain: str) -> Code:
    """Describe the code that runs for `domain` (a folder of this package)."""
    return Code(fingerprint=_source_hash(domain), git=_git_commit(), packages=_packages())


def _source_hash(domain: str) -> str:
    digest = hashlib.sha256()
    further = () if domain in _WITHOUT_MODELS else _MODEL_LAYERS
    for part in (domain, *_LAYERS_BELOW, *further):
        path = PACKAGE / part
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        for file in files:
            digest.update(file.relative_to(PACKAGE).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _packages() -> dict[str, str]:
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in _SHAPING:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git_commit() -> str:
    if commit := os.environ.get("ECOM_GIT_COMMIT"):
        return commit
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
