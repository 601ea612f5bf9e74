"""Say how a step ended: what happened, how much memory it took for how much data, what to do."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ecom_step import Outcome

from ecom_tasks import errors
from ecom_tasks.errors import EcomError, RetryableError
from ecom_tasks.run import Ref

_MORE_MEMORY = (
    "Give it more: fewer slots in the pool `compute`, more and so smaller buckets "
    "(ECOM_INGESTION__BUCKETS), workers elsewhere (ECOM_DASK=tcp://...), or a larger machine"
)


@dataclass(frozen=True)
class _Shortage:
    """Something that ran out, as libraries word it; none of them names it for us."""

    pattern: re.Pattern[str]
    what: str
    hint: str
    error: type[EcomError] = RetryableError


# XGBoost and CuPy quote CUDA, RMM says out_of_memory, TensorFlow OOM or RESOURCE_EXHAUSTED.
_SHORT = (
    _Shortage(
        re.compile(
            r"cudaErrorMemoryAllocation|CUDA.*out of memory|out_of_memory: CUDA|OutOfMemoryError"
            r"|RESOURCE_EXHAUSTED|ResourceExhaustedError|OOM when allocating"
        ),
        "The GPU's memory was short",
        "Let fewer steps share the GPU (slots of its pool), give the step less at once (a smaller "
        "batch, fewer rows), or hide the GPU from it: CUDA_VISIBLE_DEVICES= lets it run on the CPU",
    ),
    _Shortage(re.compile(r"\bMemoryError\b|std::bad_alloc"), "Memory was short", _MORE_MEMORY),
    _Shortage(
        re.compile(r"No space left on device|\[Errno 28\]"),
        "The disk is full",
        "Make room where steps keep their scratch files (TMPDIR), then clear the task; `doctor` "
        "tells how much is free",
    ),
)


def result(outcome: Outcome, inputs: Sequence[Ref]) -> Ref:
    """Return what the step made, or raise the error that it ended with.

    Raises
    ------
    RetryableError, DataContractError, ConfigError, ModelRejectedError
        The step's own error, as it named it; or `RetryableError` where it was killed.
    EcomError
        The program is at fault: no retry helps.
    """
    if outcome.exit_code == 0 and outcome.output:
        return Ref(outcome.output[-1])
    if outcome.exit_code < 0:
        raise _killed(outcome, inputs)
    if outcome.error:
        raise _named(outcome, inputs)
    said = " | ".join(outcome.last_lines[-3:]) or "it wrote no log"
    if outcome.exit_code == 0:
        said = f"it named nothing that it made; {said}"
    raise EcomError(
        f"The step ended with exit code {outcome.exit_code} without naming an error: {said}",
        "A fault of the program: report it with the log above",
    )


def _named(outcome: Outcome, inputs: Sequence[Ref]) -> EcomError:
    fields = outcome.error or {}
    kind = getattr(errors, str(fields.get("error")), None)
    if isinstance(kind, type) and issubclass(kind, EcomError):
        reason = str(fields.get("reason") or fields.get("message"))
        return kind(reason, str(fields.get("hint", "")), fields.get("examples") or [])
    trace = str(fields.get("traceback") or "").strip().splitlines()
    reason = trace[-1].strip() if trace else f"{fields.get('error')}: {fields.get('message')}"
    for short in _SHORT:
        if short.pattern.search(reason):
            facts = f"its largest process had held {amount(outcome.peak_bytes)}, {_told(inputs)}"
            return short.error(f"{short.what}: {reason}; {facts}", short.hint)
    if outcome.exit_code == RetryableError.exit_code:
        return RetryableError(reason, "Try again; see the log above")
    return EcomError(reason, "A fault of the program: report it with the log above")


def _killed(outcome: Outcome, inputs: Sequence[Ref]) -> EcomError:
    number = -outcome.exit_code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    facts = (
        f"The step was killed by {name} (exit code {outcome.exit_code}) after "
        f"{outcome.seconds:.0f} s; its largest process had held {amount(outcome.peak_bytes)} of "
        f"the {amount(memory_limit())} here"
    )
    if number == signal.SIGKILL:
        return RetryableError(
            f"{facts}; {_told(inputs)}", f"Most often memory was short. {_MORE_MEMORY}"
        )
    if number in {signal.SIGTERM, signal.SIGINT}:
        return RetryableError(facts, "Somebody ended it: run it again when the machine is back")
    return EcomError(facts, "A native library crashed: report it with the log above")


def memory_limit() -> int:
    """Bytes that processes here may hold: the container's limit, else the machine's memory."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError):
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if re.fullmatch(r"\d+", text):
            return min(total, int(text))
    return total


def _told(inputs: Sequence[Ref]) -> str:
    return f"its inputs are {size_of(inputs)}"


def size_of(inputs: Sequence[Ref]) -> str:
    """Tell from their manifests how large the inputs are."""
    if not inputs:
        return "none"
    try:
        from ecom_tasks.artefacts.manifest import Manifest
        from ecom_tasks.artefacts.store import open_store

        count = total = 0
        for ref in inputs:
            folder, _, name = ref.rpartition("/")
            made = Manifest.from_bytes(open_store(folder).read(name).data, ref)
            count += len(made.files)
            total += sum(entry.bytes for entry in made.files)
    except Exception as error:  # noqa: BLE001  an explanation must not fail for want of a detail
        return f"unknown ({type(error).__name__})"
    return f"{amount(total)} in {count} files"


def amount(size: int) -> str:
    """Spell a number of bytes for people."""
    if size >= 2**30:
        return f"{size / 2**30:.2f} GiB"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"
