"""What Airflow's own image holds is enough for what Airflow's components import."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = [*PROJECT.glob("dags/*.py"), *PROJECT.glob("plugins/**/*.py")]
# Whatever only the full requirements bring cannot be found; our modules are imported all the same.
WITHOUT = """
import importlib, json, runpy, sys
from importlib.metadata import packages_distributions
from packaging.utils import canonicalize_name
names, modules, files = json.loads(sys.stdin.read())
missing = {top for top, owners in packages_distributions().items()
           if all(canonicalize_name(owner) in names for owner in owners)}
assert {"tensorflow", "xgboost", "scipy", "dask", "duckdb", "great_expectations"} <= missing

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for file in files:
    runpy.run_path(file)
failed = {}
for module in modules:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        failed[module] = str(error)
print(json.dumps(failed))
"""


def pinned(name: str) -> set[str]:
    text = (PROJECT / name).read_text(encoding="utf-8")
    return {canonicalize_name(each) for each in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.M)}


def imported() -> Iterator[str]:
    """Modules that files of Airflow's import, inside functions too, and those files themselves."""
    for file in SOURCES:
        if file.parent.name != "dags":
            parts = file.relative_to(PROJECT / "plugins").with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module


def test_nothing_is_imported_that_the_light_image_lacks(tmp_path: Path) -> None:
    absent = pinned("requirements.txt") - pinned("requirements-airflow.txt")
    assert len(absent) > 50
    modules = sorted(set(imported()) - {"__future__"})
    assert "ecom_tasks.metrics.drift" in modules  # inside a function
    given = [sorted(absent), modules, sorted(map(str, PROJECT.glob("dags/*.py")))]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], input=json.dumps(given), capture_output=True, text=True,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path),
             "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "plugins")])},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {}
