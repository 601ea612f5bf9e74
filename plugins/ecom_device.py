"""Give a step that trains a GPU of its own, or the CPU where none is free.

The pool `gpu` has as many slots as the installation has devices (`ECOM_GPUS`). Which device a step
gets is settled on the machine where it runs: the first that nobody has locked and that has memory.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ecom_tasks.errors import ConfigError, RetryableError

log = logging.getLogger(__name__)
POOL = "gpu"
_LEAST_MIB = 4096
_ASKED_WITHIN_S = 20
_ON_CPU = {"ECOM_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class Place:
    """Where a step computes.

    Attributes
    ----------
    variables : what its environment says about that.
    held : locks that it must keep open, so that they last as long as it does.
    """

    variables: dict[str, str]
    held: tuple[int, ...] = field(default=())


def devices() -> int:
    """How many GPUs the installation has: `ECOM_GPUS`, by default none.

    Raises
    ------
    ConfigError
        It is no number.
    """
    text = os.environ.get("ECOM_GPUS") or "0"
    if not text.isdecimal():
        raise ConfigError(f"ECOM_GPUS is {text!r}", "Set it to the number of devices: 0, 1, 2, ...")
    return int(text)


@contextmanager
def placed(pool: str) -> Iterator[Place]:
    """Settle where a step of this pool computes, and hold the device until it has ended.

    Raises
    ------
    RetryableError
        No device is free, and `ECOM_DEVICE=gpu` allows nothing else.
    """
    if pool != POOL or os.environ.get("ECOM_DEVICE") == "cpu":
        yield Place({})
        return
    with ExitStack() as held:
        least = int(os.environ.get("ECOM_GPU_FREE_MIB") or _LEAST_MIB)
        told = []
        for device, free_mib in _free():
            if free_mib < least:
                told.append(f"{device} has {free_mib} MiB free, of {least} needed")
            elif lock := _locked(device):
                held.enter_context(lock)
                log.info("Computes on GPU %s with %d MiB free", device, free_mib)
                yield Place({"CUDA_VISIBLE_DEVICES": device}, (lock.fileno(),))
                return
            else:
                told.append(f"{device} is taken")
        why = "; ".join(told) or "this machine shows no GPU"
        if os.environ.get("ECOM_DEVICE") == "gpu":
            raise RetryableError(f"No GPU is free: {why}", "Wait, or allow ECOM_DEVICE=auto")
        log.warning("Computes on the CPU: %s", why)
        yield Place(_ON_CPU)


def _free() -> list[tuple[str, int]]:
    """Devices that this worker may use, with MiB that are free; the emptiest first."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            query, capture_output=True, text=True, timeout=_ASKED_WITHIN_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("No GPU can be asked about: %s", error)
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    allowed = None if visible is None else {each.strip() for each in visible.split(",")}
    found = []
    for line in answer.splitlines():
        index, uuid, free = (part.strip() for part in line.split(","))
        if allowed is None or allowed & {index, uuid}:
            found.append((uuid, int(free)))
    return sorted(found, key=lambda each: -each[1])


def _locked(device: str) -> IO[str] | None:
    """Lock the device for this machine; None where somebody else has it."""
    folder = Path(os.environ.get("ECOM_GPU_LOCKS") or Path(tempfile.gettempdir()) / "ecom-gpus")
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / f"{device}.lock").open("a", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
