"""An identifier is found in whatever kind of file it stands, and nowhere else."""

from __future__ import annotations

import html
import json
import zipfile
from pathlib import Path

import polars as pl
import pytest

from ecom_tasks.artefacts import mentions

ANN = 'ann&"bé"@example.org'
TABLES = {
    "a text": pl.DataFrame({"who": ["x", ANN, None]}),
    "within a text": pl.DataFrame({"told": ["x", f"{ANN} is unknown", None]}),
    "a list": pl.DataFrame({"all": [["x"], [ANN], None]}),
    "a struct": pl.DataFrame({"one": [{"name": "x"}, {"name": ANN}, None]}),
    "a category": pl.DataFrame({"who": ["x", ANN, None]}, schema={"who": pl.Categorical}),
    "the name of a column": pl.DataFrame({ANN: [1, 2, 3]}),
}


@pytest.mark.parametrize("kind", TABLES)
def test_found_in_a_table(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "rows.parquet"
    TABLES[kind].write_parquet(file)
    assert mentions.found(file, [ANN, "bob@example.org"]) == {ANN}


def test_found_in_a_column_of_numbers(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    pl.DataFrame({"who": [7, 918273645], "price": [1.0, 2.0]}).write_parquet(file)
    assert mentions.found(file, ["918273645", "192837465"]) == {"918273645"}


@pytest.mark.parametrize(
    "text",
    [ANN, f"<td>{html.escape(ANN)}</td>", json.dumps({"who": ANN}), f"\0\xff{ANN}"],
    ids=["plain", "HTML", "JSON", "among bytes"],
)
def test_found_in_a_text_and_taken_out(tmp_path: Path, text: str) -> None:
    file = tmp_path / "page.html"
    file.write_bytes(text.encode() + b"\xff")
    assert mentions.found(file, [ANN]) == {ANN}
    assert mentions.remove(file, [ANN]) is None
    assert mentions.found(file, [ANN]) == set()
    assert mentions.REMOVED.encode() in file.read_bytes()
    assert file.read_bytes().endswith(b"\xff")


def test_found_in_an_archive(tmp_path: Path) -> None:
    file = tmp_path / "model.keras"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps([ANN] * 9))
    assert ANN.encode() not in file.read_bytes()
    assert mentions.found(file, [ANN, "bob"]) == {ANN}


def test_rows_are_taken_out_of_a_table(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    rows = pl.DataFrame({"who": ["x", ANN, None, None], "more": [None, None, f"of {ANN}", None],
                         "n": [1, 2, 3, 4]})  # fmt: skip
    rows.write_parquet(file)
    left = mentions.remove(file, [ANN])
    assert left is not None
    assert left["n"].to_list() == [1, 4]
    rows.select("n").write_parquet(file)
    left = mentions.remove(file, [ANN])
    assert left is not None
    assert left.height == rows.height
