"""What no linter sees: pins, secrets, foreign paths and stray data in tracked files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ("requirements", "requirements-gpu", "requirements-airflow", "requirements-dev",
         "requirements-browser")  # fmt: skip
MAX_BYTES = 1_000_000
DATA = {".parquet", ".csv", ".xlsx", ".ubj", ".keras", ".pkl", ".duckdb", ".db", ".zip", ".gz"}
SECRETS = {
    "an AWS key id": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a long hex secret": re.compile(r"(?i)(?:secret|password|token|_key)\W{1,5}[0-9a-f]{32,}\b"),
    "a URL with a password": re.compile(r"[a-z+]+://[^\s/:@{}$]+:(?!<)[^\s/:@{}$]{3,}@[\w.]+"),
}
# Passwords of servers that a test starts for itself are no secrets; each is named here.
ALLOWED = re.compile(r"ann:s%40crt@|u:secret@|shop:shop@|user:password@")
FOREIGN = re.compile(r"(?<![\w.])/(?:root|home/\w+|work|opt/pypi|opt/wheels)/")
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")


def findings() -> Iterator[str]:
    """Every fault as one line."""
    for name in LOCKS:
        yield from _lock_faults(Path(f"{name}.in"), Path(f"{name}.txt"))
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True)
    for path in map(Path, listed.stdout.splitlines()):
        if path.is_file():
            yield from _file_faults(path)


def _lock_faults(wanted: Path, locked: Path) -> Iterator[str]:
    pins: dict[str, list[str]] = {}
    blocks = re.split(r"\n(?=\S)", locked.read_text())
    for block in blocks:
        if match := LOCKED.match(block):
            pins.setdefault(canonicalize_name(match[1]), []).append(match[2])
            if "--hash=sha256:" not in block:
                yield f"{locked}: {match[1]} has no hash; run make lock"
        elif block and not block.startswith("#"):
            yield f"{locked}: {block.splitlines()[0]!r} is no pin; run make lock"
    for line in _lines(wanted):
        requirement = Requirement(line)
        versions = pins.get(canonicalize_name(requirement.name), [])
        if not any(requirement.specifier.contains(version) for version in versions):
            yield f"{wanted}: {line!r} is not met by {locked} ({versions}); run make lock"


def _lines(wanted: Path) -> Iterator[str]:
    """Requirements of a file and of those it includes."""
    for line in wanted.read_text().splitlines():
        if line.startswith("-r "):
            yield from _lines(wanted.parent / line.removeprefix("-r "))
        elif line and not line.startswith(("#", "-c")):
            yield line


def _file_faults(path: Path) -> Iterator[str]:
    if path.stat().st_size > MAX_BYTES:
        yield f"{path}: larger than {MAX_BYTES:,} bytes"
    if path.suffix in DATA:
        yield f"{path}: data does not belong in the repository"
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    if path.name.startswith("requirements") or path == Path(".ci/check_repository.py"):
        return
    yield from _text_faults(path, text)


def _text_faults(path: Path, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        for what, pattern in SECRETS.items():
            if pattern.search(line) and not ALLOWED.search(line):
                yield f"{path}:{number}: looks like {what}"
        if FOREIGN.search(line):
            yield f"{path}:{number}: a path of somebody's machine"


def main() -> int:
    """Print the faults; return 1 when there are any."""
    faults = list(findings())
    for fault in faults:
        sys.stdout.write(fault + "\n")
    sys.stdout.write(f"repository: {len(faults)} faults\n")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
