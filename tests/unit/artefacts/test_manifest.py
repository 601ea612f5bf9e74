"""The manifest's format is a promise to consumers: golden files hold it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ecom_tasks.artefacts.manifest import FileEntry, Headline, Manifest
from ecom_tasks.errors import DataContractError

GOLDEN = Path(__file__).parents[2] / "golden"
HASH = "0" * 64
names = st.text(st.characters(categories=["L", "N"], include_characters="-_. "), min_size=1)


def test_the_schema_is_the_golden_one() -> None:
    """A deliberate change of the format rewrites the file and raises schema_version."""
    golden = json.loads((GOLDEN / "manifest.schema.json").read_text())
    assert Manifest.model_json_schema() == golden


def test_a_manifest_of_version_1_still_reads() -> None:
    data = (GOLDEN / "manifest-1.json").read_bytes()
    manifest = Manifest.from_bytes(data, "golden")
    assert manifest.schema_version == 1
    assert manifest.rows == 3 + 2
    assert manifest.gate is None


def test_a_manifest_is_written_as_it_was_read() -> None:
    data = (GOLDEN / "manifest.json").read_bytes()
    manifest = Manifest.from_bytes(data, "golden")
    assert manifest.gate is not None
    assert manifest.gate.reasons == ["not largest price move: 0.7, at most 0.5"]
    assert manifest.headline is not None
    assert manifest.headline.beats_baseline
    assert manifest.to_bytes() == data


@given(path=st.lists(names.filter(lambda n: n not in {".", ".."}), min_size=1, max_size=4))
def test_paths_inside_the_folder_are_kept(path: list[str]) -> None:
    entry = FileEntry(path="/".join(path), bytes=1, sha256=HASH)
    assert FileEntry.model_validate_json(entry.model_dump_json()) == entry


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a\\b"])
def test_paths_that_leave_the_folder_are_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        FileEntry(path=path, bytes=1, sha256=HASH)


@given(data=st.binary(max_size=60))
def test_what_is_no_manifest_is_named(data: bytes) -> None:
    with pytest.raises(DataContractError, match="some-uri is no manifest"):
        Manifest.from_bytes(data, "some-uri")


@pytest.mark.parametrize(
    ("value", "higher", "beats"),
    [(2, True, True), (1, True, False), (0, True, False), (0, False, True), (1, False, False)],
)
def test_equal_to_the_baseline_does_not_beat_it(value: float, *, higher: bool, beats: bool) -> None:
    headline = Headline(
        metric="m", value=value, baseline_name="b", baseline=1, higher_is_better=higher,
        rows=0, unit="rows",
    )  # fmt: skip
    assert headline.beats_baseline is beats
