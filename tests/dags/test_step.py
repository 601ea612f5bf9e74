"""A step as a fresh interpreter: its log, its memory, its result, and how its end is explained.

Real child processes; what they run is written in the tests.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path

import ecom_step
import pytest
from ecom_explain import amount, result
from ecom_step import Outcome, Step, command, environment, launch

from ecom_tasks import errors
from ecom_tasks.artefacts import dataset
from ecom_tasks.errors import (
    ConfigError,
    DataContractError,
    EcomError,
    ModelRejectedError,
    RetryableError,
)
from ecom_tasks.run import Ref, Run

MIB = 2**20


def child(code: str, **variables: str) -> Step:
    return launch([sys.executable, "-c", code], {**os.environ, **variables})


def log_line(message: str, level: str = "INFO", **fields: object) -> str:
    """Python code that logs one line as `ecom_tasks` does."""
    line = json.dumps({"level": level, "logger": "ecom_tasks.any", "message": message, **fields})
    return f"import sys; print({line!r}, file=sys.stderr, flush=True)\n"


def ended(exit_code: int, **fields: object) -> Outcome:
    given = {"output": [], "error": None, "last_lines": [], "peak_bytes": 0, "seconds": 1.0}
    return Outcome(exit_code=exit_code, **{**given, **fields})  # type: ignore[arg-type]


def test_command_is_the_one_that_ecom_tasks_understands(run: Run) -> None:
    # The first task of features looks for tables that nobody published: an error of ours, which
    # it can only give when it has understood domain, task and run.
    outcome = launch(command("features", "pin_lake", run, []), environment({})).wait()
    with pytest.raises(DataContractError, match=r"No lake/all for 2024-03-31"):
        result(outcome, [])


def test_command_hands_references_on(run: Run) -> None:
    refs = [Ref("file:///a/_manifest.json"), Ref("file:///b/_manifest.json")]
    outcome = launch(command("features", "build_customers", run, refs[:1]), environment({})).wait()
    with pytest.raises(EcomError, match=r"/a/_manifest\.json"):
        result(outcome, refs)


def test_last_line_of_the_output_is_the_result() -> None:
    outcome = child("print('chatter'); print('file:///x/_manifest.json'); print()").wait()
    assert result(outcome, []) == "file:///x/_manifest.json"


def test_a_step_that_names_nothing_is_at_fault() -> None:
    with pytest.raises(EcomError, match="it named nothing that it made"):
        result(child("pass").wait(), [])


def test_log_keeps_level_and_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    code = log_line("careful", "WARNING") + "print('plain text', file=sys.stderr)"
    child(code).wait()
    assert ("ecom_tasks.any", logging.WARNING, "careful") in caplog.record_tuples
    assert ("ecom_step", logging.INFO, "plain text") in caplog.record_tuples


def test_log_arrives_while_the_step_is_at_work(tmp_path: Path) -> None:
    # The child goes on only when its line has been seen; else it gives up with exit code 3.
    seen = tmp_path / "seen"
    code = log_line("now") + (
        "import pathlib, time\n"
        "for _ in range(200):\n"
        f"    if pathlib.Path({str(seen)!r}).exists(): sys.exit(0)\n"
        "    time.sleep(0.05)\n"
        "sys.exit(3)"
    )

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "now":
                seen.touch()

    logger, watch = logging.getLogger("ecom_tasks.any"), Watch()
    logger.addHandler(watch)
    logger.setLevel(logging.INFO)
    try:
        assert child(code).wait().exit_code == 0
    finally:
        logger.removeHandler(watch)
        logger.setLevel(logging.NOTSET)


def test_a_torrent_on_both_pipes_does_not_block() -> None:
    lines = 20_000
    code = (
        f"import sys\nfor i in range({lines}):\n"
        "    print('o' * 50); print('e' * 50, file=sys.stderr)\n"
        "print('ref')"
    )
    outcome = child(code).wait()
    assert len(outcome.output) == lines + 1
    assert outcome.output[-1] == "ref"
    assert outcome.last_lines == ["e" * 50] * 10


def test_a_line_without_an_end_counts() -> None:
    code = "import sys; sys.stdout.write('ref'); sys.stderr.write('last words'); sys.exit(0)"
    outcome = child(code).wait()
    assert result(outcome, []) == "ref"
    assert outcome.last_lines == ["last words"]


def test_peak_memory_is_measured() -> None:
    # The child tells what the kernel says of it shortly before its end.
    code = (
        f"x = bytearray(b'1' * {600 * MIB}); del x\n"
        "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    outcome = child(code).wait()
    told = int(outcome.output[-1]) * 1024
    assert told > 600 * MIB
    assert told <= outcome.peak_bytes < told + 8 * MIB


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [(RetryableError, 1), (DataContractError, 2), (ConfigError, 2), (ModelRejectedError, 2)],
)
def test_error_of_the_step_arrives_whole(kind: type[EcomError], exit_code: int) -> None:
    assert kind.exit_code == exit_code
    told = {"error": kind.__name__, "reason": "why", "hint": "do", "examples": [{"a": 1}]}
    code = log_line("before") + log_line("why", "ERROR", **told) + f"sys.exit({exit_code})"
    with pytest.raises(EcomError) as caught:
        result(child(code).wait(), [])
    assert type(caught.value) is kind
    assert (caught.value.reason, caught.value.hint) == ("why", "do")
    assert caught.value.examples == [{"a": 1}]


def test_every_error_class_of_ours_is_known() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    ours = [kind for kind in kinds if issubclass(kind, EcomError)]
    assert len(ours) >= 5
    for kind in ours:
        fields = {"error": kind.__name__, "reason": "why", "hint": "do"}
        with pytest.raises(EcomError) as caught:
            result(ended(kind.exit_code, error=fields), [])
        assert type(caught.value) is kind


def test_the_last_error_named_counts() -> None:
    first = {"error": "RetryableError", "reason": "tried again", "hint": ""}
    last = {"error": "DataContractError", "reason": "gave up", "hint": ""}
    code = log_line("x", "ERROR", **first) + log_line("y", "ERROR", **last) + "sys.exit(2)"
    with pytest.raises(DataContractError, match="gave up"):
        result(child(code).wait(), [])


def test_a_fault_of_the_program_is_not_tried_again() -> None:
    trace = "Traceback (most recent call last):\n  ...\nZeroDivisionError: division by zero"
    fields = {"error": "ZeroDivisionError", "message": "A fault", "traceback": trace}
    with pytest.raises(EcomError, match="ZeroDivisionError: division by zero") as caught:
        result(ended(2, error=fields), [])
    assert not isinstance(caught.value, RetryableError)


def test_exit_without_a_word_quotes_the_log() -> None:
    code = "import sys; print('no such option', file=sys.stderr); sys.exit(2)"
    with pytest.raises(EcomError, match=r"exit code 2 .*no such option"):
        result(child(code).wait(), [])


def test_killed_step_is_explained(run: Run) -> None:
    ref = dataset.produce(run, "lake/any", lambda draft: draft.write_text("a", "x" * 3 * MIB))
    code = (
        f"import os, signal; x = bytearray(b'1' * {400 * MIB})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    outcome = child(code).wait()
    assert outcome.exit_code == -signal.SIGKILL
    with pytest.raises(RetryableError) as caught:
        result(outcome, [ref])
    text = caught.value.reason
    assert "SIGKILL (exit code -9)" in text
    assert amount(outcome.peak_bytes) in text
    assert outcome.peak_bytes > 400 * MIB
    assert "its inputs are 3.0 MiB in 1 files" in text
    assert "memory" in caught.value.hint


def test_explanation_does_not_fail_for_want_of_a_manifest() -> None:
    gone = Ref("file:///nowhere/v/1/_manifest.json")
    with pytest.raises(RetryableError, match=r"its inputs are unknown \(KeyMissingError\)"):
        result(ended(-signal.SIGKILL), [gone])


@pytest.mark.parametrize(
    ("last_line", "what", "remedy"),
    [
        (
            "xgboost.core.XGBoostError: Memory allocation error on worker 0: std::bad_alloc: "
            "cudaErrorMemoryAllocation: out of memory",
            "The GPU's memory was short",
            "CUDA_VISIBLE_DEVICES",
        ),
        (
            "tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating "
            "tensor with shape[4096,200,64] on GPU:0",
            "The GPU's memory was short",
            "smaller batch",
        ),
        (
            "MemoryError: std::bad_alloc: out_of_memory: CUDA error (cudaErrorMemoryAllocation)",
            "The GPU's memory was short",
            "Let fewer steps share the GPU",
        ),
        ("MemoryError: Unable to allocate 9.31 GiB", "Memory was short", "smaller buckets"),
        ("OSError: [Errno 28] No space left on device", "The disk is full", "TMPDIR"),
    ],
    ids=["xgboost", "tensorflow", "rmm", "host", "disk"],
)
def test_what_ran_out_is_said_with_size_and_remedy(
    run: Run, last_line: str, what: str, remedy: str
) -> None:
    ref = dataset.produce(run, "lake/any", lambda draft: draft.write_text("a", "x" * 3 * MIB))
    trace = f"Traceback (most recent call last):\n  ...\n{last_line}"
    kind = last_line.partition(":")[0].rpartition(".")[2]
    fields = {"error": kind, "message": "A fault", "traceback": trace}
    with pytest.raises(RetryableError) as caught:
        result(ended(2, error=fields, peak_bytes=700 * MIB), [ref])
    assert caught.value.reason.startswith(f"{what}: {last_line}")
    assert "its largest process had held 700.0 MiB" in caught.value.reason
    assert "its inputs are 3.0 MiB in 1 files" in caught.value.reason
    assert remedy in caught.value.hint


def test_crash_of_a_library_is_not_tried_again() -> None:
    with pytest.raises(EcomError, match="SIGSEGV") as caught:
        result(ended(-signal.SIGSEGV), [])
    assert not isinstance(caught.value, RetryableError)


def test_what_a_step_leaves_behind_does_not_hold_the_task() -> None:
    # The grandchild inherits both pipes and outlives its parent by far.
    code = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(p.pid); print('ref')"
    )
    outcome = child(code).wait()
    os.kill(int(outcome.output[0]), signal.SIGKILL)  # raises if it were gone by now
    assert outcome.output[1:] == ["ref"]


def test_step_that_is_ended_ends() -> None:
    step = child("import time; time.sleep(60)")
    step.end()
    assert step.wait().exit_code == -signal.SIGTERM


def test_step_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecom_step, "_GRACE_S", 0.3)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + log_line("deaf")
        + "time.sleep(60)"
    )
    step = child(code)

    class EndOnceDeaf(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            step.end()

    logger, handler = logging.getLogger("ecom_tasks.any"), EndOnceDeaf()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        assert step.wait().exit_code == -signal.SIGKILL
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def test_step_gets_no_secret_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "secret")
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "postgres://elsewhere")
    monkeypatch.setenv("ECOM_ROOT", "s3://ecom")
    given = environment({"shop": "postgres://reader@db/shop"})
    assert given["AIRFLOW_CONN_SHOP"] == "postgres://reader@db/shop"
    assert given["ECOM_ROOT"] == "s3://ecom"
    assert given["ECOM_LOG"] == "json"
    assert [name for name in given if name.startswith("AIRFLOW")] == ["AIRFLOW_CONN_SHOP"]


@pytest.mark.parametrize(
    ("size", "text"), [(3 * 2**30, "3.00 GiB"), (3 * 2**20, "3.0 MiB"), (2**10, "1.0 KiB")]
)
def test_amounts_are_spelt_for_people(size: int, text: str) -> None:
    assert amount(size) == text
