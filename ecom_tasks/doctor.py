"""Is everything there that a run needs? One finding a question, each with its remedy."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from ecom_tasks.artefacts.probe import Finding, probe

_FREE_BYTES = 5 << 30
_KEY_HEX_DIGITS = 64


def diagnose(root: str) -> list[Finding]:
    """Probe the store under `root`, disk, secrets and Dask."""
    store = [Finding(f"store {root} {f.question}", f.holds, f.remedy) for f in probe(root)]
    return [*store, _disk(), _pseudonym_key(), _secret_modes(), _dask()]


def _disk() -> Finding:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    return Finding(
        f"disk under {folder} has {free / (1 << 30):.0f} GiB free, at least 5 are wanted",
        free >= _FREE_BYTES,
        "free some space, or set TMPDIR to another disk",
    )


def _pseudonym_key() -> Finding:
    key = os.environ.get("ECOM_PSEUDONYM_KEY", "")
    is_hex = all(digit in "0123456789abcdef" for digit in key.lower())
    return Finding(
        "ECOM_PSEUDONYM_KEY is set to at least 64 hex digits",
        len(key) >= _KEY_HEX_DIGITS and is_hex,
        "make one with: openssl rand -hex 32, and keep it: another key means other pseudonyms",
    )


def _secret_modes() -> Finding:
    home = Path(os.environ.get("ECOM_HOME", ".ecom"))
    found = list(home.glob("*secrets*.json")) if home.is_dir() else []
    loose = [path for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077]
    return Finding(
        f"secret files in {home} are readable by their owner only",
        not loose,
        f"chmod 600 {' '.join(map(str, loose))}",
    )


def _dask() -> Finding:
    from ecom_tasks import compute
    from ecom_tasks.errors import EcomError

    where = os.environ.get("ECOM_DASK", "processes")
    try:
        answers = compute.map_buckets(abs, [-1, -2], "asking Dask")
    except EcomError as error:
        return Finding(f"Dask computes ({where})", False, str(error))
    return Finding(f"Dask computes ({where})", answers == [1, 2], "see its log")
