"""What a manifest says: the one document that makes a set of files a version.

A version exists if and only if its manifest does; the manifest is written last.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ecom_tasks.errors import DataContractError

MANIFEST = "_manifest.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Frozen):
    """One file of the version."""

    path: str = Field(description="relative to the manifest's folder")
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    rows: int | None = Field(default=None, description="rows of a table; null for other files")
    columns: dict[str, str] | None = Field(
        default=None, description="column name to type, for tables"
    )

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        # A consumer writes files by these paths: none may leave its folder.
        parts = path.split("/")
        if not path or path.startswith("/") or {"", ".", ".."} & set(parts) or "\\" in path:
            raise ValueError(f"{path!r} is no path inside the version's folder")
        return path


class Headline(_Frozen):
    """The one figure that says whether the version is worth publishing."""

    metric: str
    value: float
    baseline_name: str
    baseline: float
    higher_is_better: bool
    rows: int = Field(ge=0, description="rows published for downstream systems")
    unit: str = Field(description="what one of the rows is")

    @property
    def beats_baseline(self) -> bool:
        if self.higher_is_better:
            return self.value > self.baseline
        return self.value < self.baseline


class Check(_Frozen):
    """One question of the gate, and its answer."""

    question: str
    holds: bool
    said: str = Field(description="the figures")


class Verdict(_Frozen):
    """What the gate said when the version was made. A rejected version is kept, not promoted."""

    accepted: bool
    champion: str = Field(description="version in service it was compared with; may be empty")
    checks: list[Check]
    approval: list[str] = Field(
        default=[], description="why a person must approve it; empty where nobody need"
    )

    @property
    def reasons(self) -> list[str]:
        return [f"not {each.question}: {each.said}" for each in self.checks if not each.holds]


class Code(_Frozen):
    """Which code made the version."""

    fingerprint: str = Field(description="SHA-256 of the domain's sources and the layers below")
    git: str = Field(description="commit, with `+` where the tree had changes; may be empty")
    packages: dict[str, str] = Field(description="versions of the libraries that shape the bytes")


class Provenance(_Frozen):
    """How the version came about: the only part that differs when the same is made again."""

    run_id: str
    created_at: str = Field(description="UTC, ISO 8601")
    seconds: float
    peak_memory_bytes: int
    device: str
    platform: str


class Manifest(_Frozen):
    """See the module's docstring. The JSON schema of this class is the format's definition.

    Schema version 1 had neither `content_version` nor `gate`.
    """

    schema_version: Literal[1, 2] = 2
    name: str = Field(description="for example artefacts/recommendation")
    version: str
    as_of: date = Field(description="last day that the content knows about, inclusive")
    files: list[FileEntry] = Field(description="sorted by path")
    inputs: dict[str, str] = Field(description="name of each input to the URI of its manifest")
    config: dict[str, Any] = Field(description="every setting, resolved")
    metrics: dict[str, Any] = {}
    headline: Headline | None = None
    assumptions: list[str] = Field(
        default=[], description="what was assumed because the data did not say"
    )
    content_version: int = Field(
        default=1, description="raised when a column or table that consumers know goes or changes"
    )
    gate: Verdict | None = None
    code: Code
    provenance: Provenance

    @property
    def rows(self) -> int:
        return sum(entry.rows or 0 for entry in self.files)

    def to_bytes(self) -> bytes:
        return (self.model_dump_json(indent=2) + "\n").encode()

    @staticmethod
    def from_bytes(data: bytes, uri: str) -> Manifest:
        """Parse; raise `DataContractError` naming `uri` when it is no manifest of ours."""
        try:
            return Manifest.model_validate_json(data)
        except ValidationError as error:
            raise DataContractError(
                f"{uri} is no manifest of schema version 1 or 2: {error.errors()[0]['msg']}",
                "Restore the file, or promote another version",
            ) from error
