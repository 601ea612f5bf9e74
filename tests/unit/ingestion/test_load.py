"""Loading a table of each kind: every row in every copy, in its bucket, chunks sorted."""

from __future__ import annotations

from pathlib import Path
from typing import Never

import polars as pl
import pytest
from polars import selectors

from ecom_tasks.errors import DataContractError
from ecom_tasks.ingestion import inputs, load, mapping
from ecom_tasks.ingestion.load import Loaded
from ecom_tasks.ingestion.pseudonyms import pseudonym
from ecom_tasks.ingestion.quarantine import schema_of
from ecom_tasks.ingestion.sources import load_source
from ecom_tasks.tables import CUSTOMER_ID, TABLES
from tests.builders import bucket_of, lies_in_chunks
from tests.unit.ingestion import lakes

BUCKETS = 3


def loaded(folder: Path, name: str, rows: lakes.Rows) -> tuple[Loaded, dict[str, pl.DataFrame]]:
    pl.DataFrame(rows, schema=schema_of(TABLES[name])).write_parquet(folder / "rows.parquet")
    (folder / "shop.toml").write_text(
        f'name = "shop"\n[inputs.given]\npath = "rows.parquet"\n'
        f'[tables.{name}]\nsql = "SELECT * FROM given"\n'
    )
    source = load_source(str(folder / "shop.toml"))
    written: dict[str, pl.DataFrame] = {}

    def write(path: str, more: pl.DataFrame) -> None:
        more = more.with_columns(selectors.enum().cast(pl.String))
        written[path] = pl.concat([written.get(path, more.clear()), more])

    scratch = folder / "scratch"
    scratch.mkdir()
    result = load.load(
        load.Order(
            table=TABLES[name],
            source=source,
            pins=inputs.pin(source, "given", lakes.AS_OF),
            settings=mapping.Settings(lakes.AS_OF, 200, 1),
            key=bytes(32),
            products=pl.Series([f"p{n}" for n in range(10)]),
            buckets=BUCKETS,
            write=write,
            scratch=scratch,
        )
    )
    left = sorted(path for path in scratch.rglob("*") if path.is_file())
    assert left == result.quarantine  # nothing else is left behind
    return result, written


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_row_is_in_every_copy_in_its_bucket(name: str, tmp_path: Path) -> None:
    table, rows = TABLES[name], lakes.GOOD[name]()
    result, written = loaded(tmp_path, name, rows)
    assert (result.read, result.rows, result.quarantined) == (len(rows), len(rows), 0)
    copies = [f"by_{entity.removesuffix('_id')}" for entity in table.buckets]
    expected = {f"{copy}/bucket={n:03}.parquet" for copy in copies for n in range(BUCKETS)}
    assert set(written) == (expected or {"rows.parquet"})
    others = [column for column in table.column_names if column != CUSTOMER_ID]
    given = pl.DataFrame(rows, schema=schema_of(table)).select(others).sort(others)
    for copy in copies or ["rows"]:
        parts = [frame for path, frame in written.items() if path.startswith(copy)]
        assert pl.concat(parts).select(others).sort(others).equals(given)
        assert all(frame.columns == table.column_names for frame in parts)
        assert all(lies_in_chunks(frame, table.key, BUCKETS) for frame in parts)
    for entity, copy in zip(table.buckets, copies, strict=True):
        for n in range(BUCKETS):
            entities = written[f"{copy}/bucket={n:03}.parquet"][entity]
            assert {bucket_of(each, BUCKETS) for each in entities.unique()} <= {n}


def test_a_small_batch_or_a_large_one_makes_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = lakes.order_lines()
    rows += rows[:7]
    seen = []
    for size in (100, 1_000_000):
        monkeypatch.setattr(mapping, "BATCH_ROWS", size)
        (tmp_path / str(size)).mkdir()
        result, written = loaded(tmp_path / str(size), "order_lines", rows)
        assert result.reasons == {"duplicate key": 7}
        seen.append(written)
    assert seen[0].keys() == seen[1].keys()
    assert all(seen[0][path].equals(seen[1][path]) for path in seen[0])


def test_rows_without_a_single_value_are_not_lost(tmp_path: Path) -> None:
    nothing = dict.fromkeys(TABLES["order_lines"].column_names)
    result, _ = loaded(tmp_path, "order_lines", [dict(nothing), dict(nothing)])
    assert (result.read, result.rows) == (2, 0)
    assert result.reasons == {"missing: order_id": 2}


def test_what_no_row_has_takes_no_room_on_the_way() -> None:
    rows = pl.DataFrame({"order_id": ["a", "b"], "channel": [None, None], "quantity": [1.0, None]})
    assert load._telling(rows).columns == ["order_id", "quantity"]


def test_customers_are_written_under_pseudonyms_only_also_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_way: list[pl.DataFrame] = []
    write_scratch = load._write_scratch

    def write(file: Path, rows: pl.DataFrame) -> None:
        on_the_way.append(rows)
        write_scratch(file, rows)

    monkeypatch.setattr(load, "_write_scratch", write)
    rows = lakes.order_lines()
    _, written = loaded(tmp_path, "order_lines", rows)
    expected = {pseudonym(bytes(32), str(row[CUSTOMER_ID])) for row in rows if row[CUSTOMER_ID]}
    assert len(on_the_way) >= BUCKETS
    for frames in (on_the_way, written.values()):
        assert {each for frame in frames for each in frame[CUSTOMER_ID].drop_nulls()} == expected


def test_a_chunk_that_fails_ends_the_load_and_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def part(*_: object) -> Never:
        seen.append(1)
        raise OSError("no space left on device")

    monkeypatch.setattr(load, "part", part)
    with pytest.raises(OSError, match="no space left"):
        loaded(tmp_path, "order_lines", lakes.order_lines())
    assert len(seen) >= 1


def test_days_are_counted_and_examples_kept_for_each_reason(tmp_path: Path) -> None:
    rows = lakes.order_lines()
    for row in rows[:8]:
        row["quantity"] = 0.0
    rows[8]["product_id"] = "unknown"
    result, _ = loaded(tmp_path, "order_lines", rows)
    assert result.by_day[lakes.AS_OF] == [lakes.LINES_A_DAY - 9, 9]
    assert len(result.by_day) == lakes.DAYS
    zero, unknown = "not above zero: quantity", "unknown product"
    assert {reason: len(each) for reason, each in result.examples.items()} == {zero: 5, unknown: 1}
    [example] = result.examples[unknown]
    assert next(iter(example.items())) == ("reason", unknown)
    assert None not in example.values()


def test_an_optional_table_may_begin_later_but_not_be_empty(tmp_path: Path) -> None:
    later = [row | {"snapshot_on": lakes.at(-10).date()} for row in lakes.stock()[:3]]
    for name in ("later", "empty"):
        (tmp_path / name).mkdir()
    result, written = loaded(tmp_path / "later", "stock", later)
    assert (result.read, written) == (0, {})
    with pytest.raises(DataContractError, match="stock: observed 0 rows up to 2024-03-31"):
        loaded(tmp_path / "empty", "stock", [])
