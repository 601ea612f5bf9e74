"""Racing publishers and verifying readers while everything breaks; prints what came of it.

    python -m tests.faults.storm                 # long form: 1,000 publishes, 10,000 reads
    python -m tests.faults.storm --publishes 60 --reads 300 --readers 2 --publishers 4

What is counted, against an observer that sees each move of the pointer without faults between:

lost updates      two publishers were told of the same move, or a move that was told of is not there
false successes   acknowledged, but the version or a byte of it is not there
false failures    reported as failed, but in service at some time
mixtures          a reader's `current` was not one whole version
recovery          from killing the server, or a publisher, to the next acknowledgement (of it)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ecom_tasks import services
from ecom_tasks.artefacts import release
from ecom_tasks.artefacts.manifest import MANIFEST, Manifest
from ecom_tasks.artefacts.s3_store import client
from ecom_tasks.artefacts.store import KeyMissingError, open_store
from ecom_tasks.errors import RetryableError
from ecom_tasks.services import state
from tests.faults.proxy import Plan, Proxy
from tests.faults.publisher import NAME

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Weather:
    """How hard it blows."""

    publishes: int = 1000
    reads: int = 10_000
    publishers: int = 12
    readers: int = 4
    rate: float = 0.03
    stall_s: float = 30.0
    timeout_s: float = 10.0
    publisher_kills: int = 12
    server_kills: int = 4
    seed: int = 7


@dataclass
class Figures:
    """What came of it; `faults` includes kills."""

    faults: Counter[str] = field(default_factory=Counter)
    attempted: int = 0
    acknowledged: int = 0
    reads: int = 0
    versions_seen: int = 0
    refused_reads: list[str] = field(default_factory=list)
    mixtures: list[str] = field(default_factory=list)
    lost_updates: list[str] = field(default_factory=list)
    false_successes: list[str] = field(default_factory=list)
    false_failures: list[str] = field(default_factory=list)
    reported_failures: int = 0
    unclaimed_moves: int = 0
    recoveries_s: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        return not (
            self.mixtures or self.lost_updates or self.false_successes or self.false_failures
            or self.refused_reads
        )  # fmt: skip

    def lines(self) -> Iterator[str]:
        each = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        yield f"faults injected         {sum(self.faults.values()):,} ({each})"
        yield f"publishes attempted     {self.attempted:,}"
        yield f"publishes acknowledged  {self.acknowledged:,}"
        yield f"verifying reads         {self.reads:,}, which saw {self.versions_seen:,} changes"
        yield f"lost updates            {len(self.lost_updates)}"
        yield f"mixtures seen           {len(self.mixtures)}"
        yield f"false successes         {len(self.false_successes)}"
        yield f"false failures          {len(self.false_failures)}"
        yield f"reads refused           {len(self.refused_reads)}"
        yield f"reported failures       {self.reported_failures}"
        yield f"moves of killed ones    {self.unclaimed_moves}"
        for kind, took in self.recoveries_s.items():
            text = ", ".join(f"{each:.1f}" for each in sorted(took, reverse=True))
            yield f"recoveries, {kind:<11} {text} s"
        yield f"wall time               {self.seconds:.0f} s"
        for name in ("lost_updates", "mixtures", "false_successes", "false_failures",
                     "refused_reads"):  # fmt: skip
            for what in getattr(self, name)[:5]:
                yield f"  {name}: {what}"


class Observer:
    """Sees every move of the pointer, over a connection without faults."""

    def __init__(self, root: str, environment: dict[str, str]) -> None:
        self.moves: dict[int, str] = {}
        self.conflicts: list[str] = []
        self._stop = threading.Event()
        self._store, self._etag = open_store(root), ""
        self._store.client = client(environment["ECOM_S3_ENDPOINT"])  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(90)
        self.look()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            # The server is killed now and then.
            with suppress(KeyMissingError, RetryableError):
                self.look()

    def look(self) -> None:
        key = release.pointer_key(NAME, release.PRODUCTION)
        blob = self._store.read_if_changed(key, self._etag) if self._etag else self._store.read(key)
        if blob is None:
            return
        self._etag = blob.etag
        for move in release.parse(blob, NAME, release.PRODUCTION).history:
            known = self.moves.setdefault(move.sequence, move.version)
            if known != move.version:
                self.conflicts.append(f"move {move.sequence} was {known}, then {move.version}")


class Publishers:
    """Processes that publish ranges of numbers, are killed, and go on."""

    def __init__(self, weather: Weather, root: str, folder: Path, settings: dict[str, str]) -> None:
        self._root, self._settings = root, settings
        share, rest = divmod(weather.publishes, weather.publishers)
        self.ranges, first = {}, 0
        for each in range(weather.publishers):
            last = first + share + (each < rest) - 1
            self.ranges[folder / f"publisher-{each}.log"] = (first, last)
            first = last + 1
        self.running = {log: self._start(log, first) for log, (first, _) in self.ranges.items()}
        self.killed: list[tuple[float, Path]] = []

    def _start(self, log: Path, first: int) -> subprocess.Popen[bytes]:
        numbers = f"{first}-{self.ranges[log][1]}"
        with log.with_suffix(".err").open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.faults.publisher", self._root, numbers, str(log)],
                env=self._settings, cwd=PROJECT, stderr=errors,
            )  # fmt: skip

    def kill_one(self, lottery: random.Random) -> bool:
        """Kill one that is at work, and start another in its place."""
        working = [log for log, process in self.running.items() if process.poll() is None]
        if not working:
            return False
        log = lottery.choice(working)
        self.running[log].send_signal(signal.SIGKILL)
        self.running[log].wait()
        self.killed.append((time.time(), log))
        told = lines(log)
        done = {line["acknowledged"] for line in told if "acknowledged" in line}
        done |= {line["failed"] for line in told if "failed" in line}
        left = [n for n in range(self.ranges[log][0], self.ranges[log][1] + 1) if n not in done]
        if left:
            self.running[log] = self._start(log, left[0])
        return True

    def at_work(self) -> bool:
        return any(process.poll() is None for process in self.running.values())

    def end(self) -> None:
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
            process.wait()


def lines(log: Path) -> list[dict[str, Any]]:
    """Read what a program told; the last line may be cut off by its death."""
    found = []
    for line in log.read_text().splitlines() if log.exists() else []:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


@contextmanager
def readers(
    weather: Weather, root: str, folder: Path, settings: dict[str, str], figures: Figures
) -> Iterator[None]:
    """Verifying readers, until the block has ended and they have read enough."""
    logs = [folder / f"reader-{each}.log" for each in range(weather.readers)]
    reads = str(-(-weather.reads // weather.readers))
    running = []
    for log in logs:
        with log.with_suffix(".err").open("ab") as errors:
            running.append(subprocess.Popen(
                [sys.executable, "-m", "tests.faults.reader", root,
                 str(log.with_suffix("")), str(log), reads],
                env=settings, cwd=PROJECT, stderr=errors,
            ))  # fmt: skip
    try:
        yield
        for log, process in zip(logs, running, strict=True):
            Path(f"{log}.stop").touch()
            if process.wait(timeout=600):
                raise RuntimeError(log.with_suffix(".err").read_text()[-2000:])
            found = json.loads(log.read_text())
            figures.reads += found["reads"]
            figures.versions_seen += found["changes"]
            figures.mixtures += found["mixtures"]
            figures.refused_reads += found["refusals"]
    finally:
        for process in running:
            process.kill()
            process.wait()


def kill_server(home: Path) -> None:
    """Kill -9 of the object server, and its restart over the same data."""
    (service,) = state.read_state(home).named("object-store")
    os.kill(service.pid, signal.SIGKILL)
    services.start(home, say=lambda _: None, airflow=False)


def storm(weather: Weather, home: Path, folder: Path) -> Figures:
    """Let it blow against the object server that runs from `home`."""
    began, figures = time.monotonic(), Figures()
    environment = services.environment(home)
    os.environ.update(environment)
    client.cache_clear()
    root = f"{services.ROOT}/{uuid.uuid4().hex}"
    port = urlsplit(environment["ECOM_S3_ENDPOINT"]).port or 0
    lottery = random.Random(weather.seed)
    plan = Plan(weather.rate, weather.stall_s, seed=weather.seed)
    with Proxy(port, plan) as proxy, Observer(root, environment) as observer:
        settings = os.environ | environment | {
            "ECOM_S3_ENDPOINT": proxy.url, "ECOM_S3_TIMEOUT_S": str(weather.timeout_s),
            "PYTHONPATH": str(PROJECT), "NO_PROXY": "127.0.0.1",
        }  # fmt: skip
        publishers = Publishers(weather, root, folder, settings)
        server_kills: list[float] = []
        try:
            with readers(weather, root, folder, settings, figures):
                _blow(weather, home, publishers, server_kills, lottery)
        finally:
            publishers.end()
        figures.faults = proxy.injected
    figures.faults["publisher_killed"] = len(publishers.killed)
    figures.faults["server_killed"] = len(server_kills)
    _judge(figures, observer, publishers, server_kills)
    _verify_all(figures, root, publishers)
    figures.seconds = time.monotonic() - began
    return figures


def _blow(
    weather: Weather, home: Path, publishers: Publishers, server_kills: list[float],
    lottery: random.Random,
) -> None:  # fmt: skip
    """Kill publishers and the server as the work advances, spread over all of it."""
    kinds = ["publisher"] * weather.publisher_kills + ["server"] * weather.server_kills
    lottery.shuffle(kinds)
    marks = [(place + 1) / (len(kinds) + 1) for place in range(len(kinds))]
    while publishers.at_work():
        done = sum("acknowledged" in line for log in publishers.ranges for line in lines(log))
        if marks and done >= marks[0] * weather.publishes:
            marks.pop(0)
            if kinds.pop(0) == "server":
                server_kills.append(time.time())
                kill_server(home)
            else:
                publishers.kill_one(lottery)
        time.sleep(0.2)


def _judge(
    figures: Figures, observer: Observer, publishers: Publishers, server_kills: list[float]
) -> None:
    told = [line for log in publishers.ranges for line in lines(log)]
    acknowledged = [line for line in told if "acknowledged" in line]
    figures.attempted = len({line["tried"] for line in told if "tried" in line})
    figures.acknowledged = len({line["acknowledged"] for line in acknowledged})
    figures.lost_updates += observer.conflicts
    claims = Counter(line["sequence"] for line in acknowledged)
    figures.lost_updates += [f"move {s} was claimed {n} times" for s, n in claims.items() if n > 1]
    for line in acknowledged:
        if observer.moves.get(line["sequence"]) != line["version"]:
            figures.lost_updates.append(f"move {line['sequence']} of {line['version']} is gone")
    missing = set(range(1, max(observer.moves, default=0) + 1)) - set(observer.moves)
    figures.lost_updates += [f"move {sequence} was never seen" for sequence in missing]
    # Each killed publisher may have moved the pointer and died before it could say so.
    figures.unclaimed_moves = len(set(observer.moves) - set(claims))
    if figures.unclaimed_moves > len(publishers.killed):
        figures.false_failures.append(f"{figures.unclaimed_moves} moves that nobody claims")
    failures = [line for line in told if "failed" in line]
    figures.reported_failures = len(failures)
    versions = {line["acknowledged"]: line["version"] for line in acknowledged}
    figures.false_failures += [
        f"{line['failed']} was reported as failed: {line['error']}"
        for line in failures
        if versions.get(line["failed"]) in observer.moves.values()
    ]
    times = sorted(line["at"] for line in acknowledged)
    figures.recoveries_s["server"] = [
        next((at - killed for at in times if at > killed), 0.0) for killed in server_kills
    ]
    figures.recoveries_s["publisher"] = []
    for killed, log in publishers.killed:
        own = [line["at"] for line in lines(log) if "acknowledged" in line and line["at"] > killed]
        figures.recoveries_s["publisher"].append(min(own, default=killed) - killed)


def _verify_all(figures: Figures, root: str, publishers: Publishers) -> None:
    """Read every byte of every version that was acknowledged."""
    import hashlib

    store = open_store(root)
    told = [line for log in publishers.ranges for line in lines(log) if "acknowledged" in line]

    def verify(version: str) -> str:
        try:
            folder = f"{NAME}/v/{version}"
            made = Manifest.from_bytes(store.read(f"{folder}/{MANIFEST}").data, folder)
            for entry in made.files:
                data = store.read(f"{folder}/{entry.path}").data
                if hashlib.sha256(data).hexdigest() != entry.sha256:
                    return f"{version} {entry.path} is not what it should be"
        except KeyMissingError as error:
            return f"{error} is missing"
        return ""

    with ThreadPoolExecutor(8) as pool:
        found = pool.map(verify, sorted({line["version"] for line in told}))
        figures.false_successes += [wrong for wrong in found if wrong]


def main() -> int:
    """Run the storm against an object server of its own; exit code 1 unless it was survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    plain = Weather()
    for name, value in vars(plain).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    weather = Weather(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory(prefix="ecom-faults-") as scratch:
        home, folder = Path(scratch) / "home", Path(scratch) / "logs"
        folder.mkdir()
        services.start(home, say=lambda _: None, airflow=False)
        try:
            figures = storm(weather, home, folder)
        finally:
            services.stop(home)
    for line in figures.lines():
        sys.stdout.write(line + "\n")
    whole = figures.acknowledged == weather.publishes and figures.reads >= weather.reads
    return 0 if figures.sound and whole else 1


if __name__ == "__main__":
    raise SystemExit(main())
