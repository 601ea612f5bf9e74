"""A step of the pool `gpu` gets a device of its own, or the CPU; the driver is a stand-in."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import ecom_device
import pytest
from ecom_device import devices, placed
from ecom_step import launch

from ecom_tasks.errors import ConfigError, RetryableError

BIG, SMALL = "GPU-big", "GPU-small"
CPU = {"ECOM_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def _two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices: 20,000 and 30,000 MiB free."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '0, {SMALL}, 20000'\necho '1, {BIG}, 30000'\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ECOM_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("_two_gpus")
def test_each_step_gets_a_device_of_its_own_and_the_third_the_cpu(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with placed("gpu") as first, placed("gpu") as second, placed("gpu") as third:
        assert first.variables == {"CUDA_VISIBLE_DEVICES": BIG}
        assert second.variables == {"CUDA_VISIBLE_DEVICES": SMALL}
        assert third.variables == CPU
        assert third.held == ()
    assert f"Computes on the CPU: {BIG} is taken; {SMALL} is taken" in caplog.text
    with placed("gpu") as again:
        assert again.variables == {"CUDA_VISIBLE_DEVICES": BIG}


@pytest.mark.usefixtures("_two_gpus")
def test_who_insists_on_a_gpu_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_DEVICE", "gpu")
    with (
        placed("gpu"),
        placed("gpu"),
        pytest.raises(RetryableError, match="is taken"),
        placed("gpu"),
    ):
        pass
    with placed("gpu") as place:
        assert place.variables == {"CUDA_VISIBLE_DEVICES": BIG}


@pytest.mark.usefixtures("_two_gpus")
def test_a_device_without_memory_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ECOM_GPU_FREE_MIB", "30000")
    with placed("gpu") as first, placed("gpu") as second:
        assert first.variables == {"CUDA_VISIBLE_DEVICES": BIG}
        assert second.variables == CPU
    assert f"{SMALL} has 20000 MiB free, of 30000 needed" in caplog.text


@pytest.mark.usefixtures("_two_gpus")
@pytest.mark.parametrize(
    ("visible", "got"), [("0", SMALL), (f"{BIG},7", BIG), ("7", ""), ("0, 1", BIG)]
)
def test_a_worker_keeps_to_the_devices_it_was_given(
    visible: str, got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with placed("gpu") as place:
        assert place.variables["CUDA_VISIBLE_DEVICES"] == got


@pytest.mark.usefixtures("_two_gpus")
def test_other_pools_and_whoever_wants_the_cpu_take_no_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with placed("compute") as place:
        assert place.variables == {}
    monkeypatch.setenv("ECOM_DEVICE", "cpu")
    with placed("gpu") as place:
        assert place.variables == {}
    assert not Path(os.environ["ECOM_GPU_LOCKS"]).exists()


@pytest.mark.usefixtures("_two_gpus")
def test_the_lock_lasts_as_long_as_the_step_whoever_started_it() -> None:
    with placed("gpu") as place:
        step = launch([sys.executable, "-c", "input()"], dict(os.environ), place.held)
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                                   pass_fds=place.held)  # fmt: skip
    # The parent has closed its own end, as it does when it is killed.
    with placed("gpu") as other:
        assert other.variables == {"CUDA_VISIBLE_DEVICES": SMALL}
    sleeper.kill()
    sleeper.wait()
    step.wait()
    with placed("gpu") as other:
        assert other.variables == {"CUDA_VISIBLE_DEVICES": BIG}


def test_a_machine_without_a_driver_computes_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with placed("gpu") as place:
        assert place.variables == CPU
    assert "this machine shows no GPU" in caplog.text


def test_number_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices() == 0
    monkeypatch.setenv("ECOM_GPUS", "2")
    assert devices() == 2
    monkeypatch.setenv("ECOM_GPUS", "two")
    with pytest.raises(ConfigError, match="ECOM_GPUS"):
        devices()


def test_the_pool_is_the_one_that_the_services_make() -> None:
    from ecom_tasks.services.orchestrator import GPU_POOL

    assert ecom_device.POOL == GPU_POOL
