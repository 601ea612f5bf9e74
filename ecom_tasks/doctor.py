"""Is everything there that a run needs? One finding a question, each with its remedy."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from ecom_tasks.artefacts.probe import Finding, probe
from ecom_tasks.errors import EcomError

_FREE_BYTES = 5 << 30
_KEY_HEX_DIGITS = 64
_CLOCK_S = 60.0


def diagnose(root: str) -> list[Finding]:
    """Probe the store under `root`, clocks, credentials, disks, secrets, Dask and GPU."""
    store = [Finding(f"store {root} {f.question}", f.holds, f.remedy) for f in probe(root)]
    bucket = [_credentials(), _clock(root)] if root.startswith("s3://") else []
    disks = [_disk(place) for place in dict.fromkeys([tempfile.gettempdir(), str(_home())])]
    return [*store, *bucket, *disks, _pseudonym_key(), _secret_modes(), _signing(), _dask(), _gpu()]


def _home() -> Path:
    return Path(os.environ.get("ECOM_HOME", ".ecom"))


def _credentials() -> Finding:
    """Whether some are found; whether they are accepted, the probe of the store tells."""
    import boto3

    found = boto3.session.Session().get_credentials()
    how = f" ({found.method})" if found else ""
    return Finding(
        f"credentials for the store are found{how}", found is not None,
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    )  # fmt: skip


def _clock(root: str) -> Finding:
    from ecom_tasks.artefacts.s3_store import S3Store

    question = f"this clock and the store's agree within {_CLOCK_S:.0f} s"
    try:
        there = S3Store(root).clock()
    except EcomError as error:
        return Finding(question, False, str(error))
    ahead = (datetime.now(UTC) - parsedate_to_datetime(there)).total_seconds() if there else 0.0
    return Finding(
        question, abs(ahead) <= _CLOCK_S,
        f"this machine is {ahead:+.0f} s off: set its clock (NTP), or stores refuse its requests",
    )  # fmt: skip


def _disk(place: str) -> Finding:
    folder = Path(place)
    while not folder.exists():
        folder = folder.absolute().parent
    free = shutil.disk_usage(folder).free
    return Finding(
        f"disk under {place} has {free / (1 << 30):.0f} GiB free, at least 5 are wanted",
        free >= _FREE_BYTES,
        "free some space, or set TMPDIR or ECOM_HOME to another disk",
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
    home = _home()
    found = list(home.glob("*secrets*.json")) if home.is_dir() else []
    found += [Path(os.environ[name]) for name in ("ECOM_SIGNING_KEY", "AWS_SHARED_CREDENTIALS_FILE")
              if os.environ.get(name)]  # fmt: skip
    found.append(Path("~/.aws/credentials").expanduser())
    loose = [path for path in found if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    return Finding(
        "files with secrets are readable by their owner only",
        not loose,
        f"chmod 600 {' '.join(map(str, loose))}",
    )


def _signing() -> Finding:
    from ecom_tasks.artefacts import signing

    if not signing.signs("artefacts/any"):
        return Finding("releases are not signed, since no ECOM_SIGNING_KEY is set", True)
    try:
        return Finding(f"releases are signed by key {signing.own_key_id()}", True)
    except EcomError as error:
        return Finding("releases can be signed", False, str(error))


def _dask() -> Finding:
    from ecom_tasks import compute

    where = os.environ.get("ECOM_DASK", "processes")
    try:
        answers = compute.map_buckets(abs, [-1, -2], "asking Dask")
    except EcomError as error:
        return Finding(f"Dask computes ({where})", False, str(error))
    return Finding(f"Dask computes ({where})", answers == [1, 2], "see its log")


def _gpu() -> Finding:
    """A GPU is a help, not a need, unless Dask is told to use one."""
    devices = sorted(Path("/dev").glob("nvidia[0-9]*"))
    wanted = os.environ.get("ECOM_DASK", "") == "cuda"
    found = f"{len(devices)} GPU devices" if devices else "no GPU"
    return Finding(
        f"{found} here, {'at least one is wanted' if wanted else 'none is needed'}",
        bool(devices) or not wanted,
        "install the driver and give this process its devices, or set ECOM_DASK=processes",
    )
