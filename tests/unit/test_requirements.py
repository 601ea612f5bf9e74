"""The pinned requirements: they agree, carry hashes and follow from their inputs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]
MAIN = "requirements"
OTHERS = ["requirements-gpu", "requirements-airflow", "requirements-dev", "requirements-browser"]
PYTHONS = ["3.11", "3.12"]
UNREACHABLE = re.compile(r"error sending request|dns error|[Ff]ailed to fetch|timed out")


def _blocks(name: str) -> Iterator[str]:
    """Each pin with its hashes."""
    text = (PROJECT / f"{name}.txt").read_text(encoding="utf-8")
    for block in re.split(r"\n(?=\S)", text):
        if not block.startswith("#"):
            yield block


def pins(name: str, python: str) -> dict[str, str]:
    """Package -> version on Linux under one Python."""
    environment = {
        "python_version": python, "python_full_version": f"{python}.13", "sys_platform": "linux",
        "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix",
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip
    found: dict[str, str] = {}
    for block in _blocks(name):
        requirement = Requirement(block.splitlines()[0].rstrip(" \\"))
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (version,) = requirement.specifier
            package = canonicalize_name(requirement.name)
            assert package not in found, f"{name}: {package} twice under {python}"
            found[package] = version.version
    return found


@pytest.mark.parametrize("name", [MAIN, *OTHERS])
def test_every_pin_has_a_hash(name: str) -> None:
    blocks = list(_blocks(name))
    assert blocks
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", OTHERS)
def test_what_two_files_share_has_one_version(name: str, python: str) -> None:
    main, other = pins(MAIN, python), pins(name, python)
    shared = set(main) & set(other)
    # Browser tests stand on their own but for a few packages.
    assert shared or name == "requirements-browser"
    assert {each: other[each] for each in shared} == {each: main[each] for each in shared}


@pytest.mark.parametrize("python", PYTHONS)
def test_gpu_requirements_are_the_same_system_on_another_device(python: str) -> None:
    cpu, gpu = set(pins(MAIN, python)), set(pins("requirements-gpu", python))
    assert cpu - gpu == {"xgboost-cpu", "tensorflow-cpu"}
    assert {"xgboost", "tensorflow", "cudf-polars-cu13", "dask-cuda", "rmm-cu13",
            "cupy-cuda13x", "implicit"} <= gpu  # fmt: skip
    # Two wheels that write one file: which is kept would depend on the order of installation.
    assert len({each for each in gpu if each.startswith("nvidia-nccl-")}) == 1


@pytest.mark.parametrize("python", PYTHONS)
def test_airflow_itself_needs_no_library_of_models_or_clusters(python: str) -> None:
    light, full = set(pins("requirements-airflow", python)), set(pins(MAIN, python))
    assert light <= full
    heavy = {"tensorflow-cpu", "keras", "xgboost-cpu", "implicit", "dask", "distributed", "duckdb",
             "great-expectations", "scipy", "statsforecast", "optuna", "dask-cuda"}  # fmt: skip
    assert heavy <= full
    assert light & heavy == set()


@pytest.mark.parametrize("name", [MAIN, *OTHERS])
def test_resolving_anew_gives_the_same_file(name: str, tmp_path: Path) -> None:
    """What `make lock` writes, where the package index answers."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip(f"{uv} is not installed")
    for file in [*PROJECT.glob("requirements*"), PROJECT / "pyproject.toml"]:
        shutil.copy(file, tmp_path)
    written = tmp_path / f"{name}.txt"
    before = written.read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11",
             "--generate-hashes", "-o", written.name, f"{name}.in"],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip("the package index does not answer within two minutes")
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip(f"the package index cannot be reached: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    assert written.read_text(encoding="utf-8") == before
