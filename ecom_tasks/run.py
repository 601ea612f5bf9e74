"""One run of one flow: its identity, and how to execute the flow in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Concatenate, NewType, ParamSpec, Protocol

Ref = NewType("Ref", str)
"""URI of an artefact's manifest; the only thing that travels between tasks."""

P = ParamSpec("P")


@dataclass(frozen=True)
class Run:
    """Which data a run is about, and where it writes.

    Parameters
    ----------
    run_id : str
        Name of the run in logs and manifests.
    as_of : date
        Partition date, inclusive: nothing that happened after this day is read.
    root : str
        `file:///folder` or `s3://bucket/prefix`.
    source : str
        Name of a shipped source (`complete-journey`) or path of a source file (TOML).
        Only ingestion reads it.
    source_data : str
        Folder or bucket prefix of the source's files, where the source file leaves it open.
    overrides : mapping of domain to mapping of setting to value
        For example `{"pricing": {"largest_step": 0.05}}`.
    """

    run_id: str
    as_of: date
    root: str
    source: str = ""
    source_data: str = ""
    overrides: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"as_of": self.as_of.isoformat()}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Run:
        fields = json.loads(text)
        return Run(**fields | {"as_of": date.fromisoformat(fields["as_of"])})


class Step(Protocol):
    """Executes a task now (locally) or enters it in a graph (Airflow)."""

    def __call__(
        self, task: Callable[Concatenate[Run, P], Ref], /, *inputs: P.args, **options: P.kwargs
    ) -> Ref: ...


Flow = Callable[[Step], Ref]


def run_locally(flow: Flow, run: Run) -> Ref:
    """Execute every task of `flow` in this process, in the order written."""

    def step(
        task: Callable[Concatenate[Run, P], Ref], /, *inputs: P.args, **options: P.kwargs
    ) -> Ref:
        return task(run, *inputs, **options)

    return flow(step)
