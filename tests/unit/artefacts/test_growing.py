"""Files that grow: every piece in its order, read alike by whoever reads Parquet."""

from __future__ import annotations

import resource
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from ecom_tasks.artefacts.growing import Growing

MOMENT = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)


def piece(first: int, rows: int) -> pl.DataFrame:
    numbers = range(first, first + rows)
    return pl.DataFrame({
        "text": pl.Series(
            [f"more than twelve letters, number {n}" for n in numbers], dtype=pl.String
        ),
        "none": pl.Series([None] * rows, dtype=pl.String),
        "number": pl.Series([n / 2 for n in numbers], dtype=pl.Float64),
        "moment": pl.Series([MOMENT] * rows, dtype=pl.Datetime("us")),
        "flag": pl.Series([n % 2 == 0 for n in numbers], dtype=pl.Boolean),
    })


def grown(folder: Path) -> Growing:
    growing = Growing(folder, plain=["text"], filled=["text", "number"])
    growing.add("a/one.parquet", piece(0, 3))
    growing.add("empty.parquet", piece(0, 0))
    growing.add("a/one.parquet", piece(3, 0))
    growing.add("a/one.parquet", piece(3, 4))
    growing.close()
    return growing


def test_pieces_lie_one_after_the_other(tmp_path: Path) -> None:
    growing = grown(tmp_path)
    file = tmp_path / "a/one.parquet"
    assert pl.read_parquet(file).equals(piece(0, 7))
    assert duckdb.read_parquet(str(file)).pl().equals(piece(0, 7))
    schema = parquet.read_table(file).schema
    assert schema.field("text").type == pa.string()
    assert [each.name for each in schema if each.nullable] == ["none", "moment", "flag"]
    groups = parquet.ParquetFile(file).metadata
    encodings = {
        groups.row_group(0).column(n).path_in_schema: groups.row_group(0).column(n).encodings
        for n in range(groups.num_columns)
    }
    assert "RLE_DICTIONARY" not in encodings["text"]
    assert "RLE_DICTIONARY" in encodings["number"]
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [3, 4]
    assert pl.read_parquet(tmp_path / "empty.parquet").equals(piece(0, 0))
    assert growing.rows == {"a/one.parquet": 7, "empty.parquet": 0}
    assert growing.columns["empty.parquet"] == {
        "text": "String", "none": "String", "number": "Float64",
        "moment": "Datetime(time_unit='us', time_zone=None)", "flag": "Boolean",
    }  # fmt: skip


def test_a_column_that_is_said_to_be_filled_takes_no_null(tmp_path: Path) -> None:
    growing = Growing(tmp_path, filled=["none"])
    with pytest.raises(pa.ArrowInvalid, match="non-nullable"):
        growing.add("one.parquet", piece(0, 3))


def test_numbered_texts_are_written_as_texts(tmp_path: Path) -> None:
    texts = pl.Series("text", ["pear", None, "apple", "pear"])
    growing = Growing(tmp_path)
    for kind in (["apple", "fig", "pear"], ["apple", "pear", "quince"]):
        growing.add("one.parquet", texts.cast(pl.Enum(kind)).to_frame())
    growing.close()
    read = pl.read_parquet(tmp_path / "one.parquet")["text"]
    assert read.dtype == pl.String
    assert read.to_list() == 2 * texts.to_list()
    assert growing.columns == {"one.parquet": {"text": "String"}}
    # Of the texts that are numbered only those go along that stand in the rows.
    raw = (tmp_path / "one.parquet").read_bytes()
    assert b"fig" not in raw
    group = parquet.ParquetFile(tmp_path / "one.parquet").metadata.row_group(0).column(0)
    assert "RLE_DICTIONARY" in group.encodings
    assert group.statistics is None


def test_the_same_pieces_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        grown(tmp_path / name)
    for file in ("a/one.parquet", "empty.parquet"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_more_files_are_open_than_a_process_may_have_at_first(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
    try:
        growing = Growing(tmp_path)
        for number in range(300):
            growing.add(f"bucket={number:03}.parquet", piece(number, 1))
        growing.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert pl.read_parquet(tmp_path / "bucket=299.parquet").equals(piece(299, 1))
