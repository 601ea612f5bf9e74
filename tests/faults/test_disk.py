"""Disks that lie and disks that are full, on the store's side and on the consumer's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecom_tasks import services
from ecom_tasks.artefacts import dataset, pull
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.s3_store import client
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.errors import RetryableError
from ecom_tasks.run import Run
from ecom_tasks.services import object_store
from tests.faults.publisher import DAY, NAME, publish
from tests.faults.reader import mixture

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]


def mounts() -> bool:
    """Whether this user may mount a small disk in a namespace of its own."""
    if not shutil.which("unshare"):
        return False
    tried = subprocess.run(
        [*NAMESPACE, "mount -t tmpfs none /mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


needs_mounts = pytest.mark.skipif(not mounts(), reason="this user may mount nothing")


def test_a_bit_flipped_in_the_stores_own_files(
    home: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This server answers a read that fails its own checksum with a long silence.
    monkeypatch.setenv("ECOM_S3_TIMEOUT_S", "1")
    run, here = Run("faults", DAY, bucket), tmp_path / "here"
    publish(run, 1)
    good = pull.pull(bucket, NAME, here)
    bad = publish(run, 2)
    wanted = open_store(bucket).read(f"{NAME}/v/{bad.version}/part-0.txt").data
    flipped = 0
    for file in (home / "store").rglob("*.dat"):
        data = file.read_bytes()
        at = data.find(wanted[:1000])
        if at >= 0:
            with file.open("r+b") as volume:
                volume.seek(at + 500)
                volume.write(bytes([data[at + 500] ^ 1]))
            flipped += 1
    assert flipped == 1
    # The server may notice and fail, or hand it out: neither brings it into service.
    with pytest.raises(pull.PullError):
        pull.pull(bucket, NAME, here)
    assert mixture((here / "current").resolve()) == ""
    assert pull.verify(here / "current").version == good.version
    again = publish(run, 3)
    assert pull.pull(bucket, NAME, here).version == again.version


@needs_mounts
def test_a_consumer_whose_disk_is_full(bucket: str, tmp_path: Path) -> None:
    """A disk of 180 KiB takes two versions of about 60, and breaks off in the third."""
    run, disk = Run("faults", DAY, bucket), tmp_path / "disk"
    disk.mkdir()
    pulling = " ".join(
        f"{sys.executable} {pull.__file__} {bucket} {NAME} {disk}/here --keep 9 "
        f"--version {publish(run, number).version}; echo $?;"
        for number in (1, 2, 3)
    )
    look = f"cat {disk}/here/health.json; readlink {disk}/here/current"
    script = f"mount -t tmpfs -o size=180k none {disk}; {pulling} {look}"
    done = subprocess.run([*NAMESPACE, script], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert [line for line in said if line.isdigit()] == ["0", "0", "1"], done.stderr
    assert '  "ok": false,' in said
    assert f'  "version": "{said[-1]}"' in said
    assert "space" in done.stderr


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server of its own on a disk of 100 MiB."""
    home, disk = tmp_path / "small", tmp_path / "small-disk"
    disk.mkdir()
    whole = object_store.command

    def command(folder: Path, ports: dict[str, int]) -> list[str]:
        arguments = [
            a if not a.startswith("-dir=") else f"-dir={disk}" for a in whole(folder, ports)
        ]
        mount = f'mount -t tmpfs -o size=100m none {disk} && exec "$@"'
        return [*NAMESPACE, mount, "sh", *arguments]

    monkeypatch.setattr(object_store, "command", command)
    services.start(home, say=lambda _: None, airflow=False)
    for name, value in services.environment(home).items():
        monkeypatch.setenv(name, value)
    client.cache_clear()
    yield home
    services.stop(home)
    client.cache_clear()


@needs_mounts
@pytest.mark.usefixtures("small")
def test_a_store_whose_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is not published; what is in service stays whole."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    run, here = Run("faults", DAY, services.ROOT), tmp_path / "here"
    publish(run, 1)
    good = pull.pull(run.root, NAME, here)

    def large(draft: Draft) -> None:
        for part in range(8):
            (draft.folder / str(part)).write_bytes(os.urandom(16 << 20))

    large.__module__ = "ecom_tasks.pricing.tasks"
    with pytest.raises(RetryableError):
        dataset.release(run, dataset.produce(run, NAME, large))
    assert not pull.pull(run.root, NAME, here).changed
    fresh = pull.pull(run.root, NAME, tmp_path / "fresh")
    assert fresh.version == good.version
    assert mixture(fresh.folder) == ""
