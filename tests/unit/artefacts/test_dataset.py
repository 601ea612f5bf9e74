"""Versions: made once, found again, whole or absent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.config import DomainConfig
from ecom_tasks.errors import DataContractError
from ecom_tasks.run import Ref, Run

ROWS = pl.DataFrame({"product_id": ["a", "b"], "units": [1.0, 2.0]})


class Config(DomainConfig):
    domain: ClassVar[str] = "pricing"
    step: float = 0.1


def builder(rows: pl.DataFrame = ROWS, calls: list[int] | None = None) -> Callable[[Draft], None]:
    def build(draft: Draft) -> None:
        if calls is not None:
            calls.append(1)
        draft.write_frame("rows.parquet", rows)
        draft.metrics["total"] = rows["units"].sum()

    build.__module__ = "ecom_tasks.pricing.tasks"
    return build


def version(ref: Ref) -> str:
    return dataset.manifest(ref).version


def test_what_was_published_is_found_and_read(run: Run) -> None:
    made = dataset.produce(run, "features/x", builder())
    found = dataset.find(run, "features/x")
    assert found == made
    assert_frame_equal(dataset.scan(found).collect(), ROWS)
    manifest = dataset.manifest(found)
    assert manifest.files[0].rows == 2
    assert manifest.files[0].columns == {"product_id": "String", "units": "Float64"}
    assert manifest.metrics == {"total": 1.0 + 2.0}
    assert manifest.version.startswith("2024-03-31-")


def test_the_same_is_not_made_twice(run: Run) -> None:
    calls: list[int] = []
    first = dataset.produce(run, "features/x", builder(calls=calls), config=Config())
    again = dataset.produce(run, "features/x", builder(calls=calls), config=Config())
    assert first == again
    assert len(calls) == 1


def test_settings_inputs_and_day_each_make_another_version(run: Run, another_day: Run) -> None:
    source = dataset.produce(run, "lake/a", builder())
    other = dataset.produce(another_day, "lake/a", builder())
    refs = [
        dataset.produce(run, "features/x", builder(), config=Config(), inputs=[source]),
        dataset.produce(run, "features/x", builder(), config=Config(step=0.2), inputs=[source]),
        dataset.produce(run, "features/x", builder(), config=Config(), inputs=[other]),
        dataset.produce(another_day, "features/x", builder(), config=Config(), inputs=[source]),
    ]
    assert len({version(ref) for ref in refs}) == len(refs)


def test_another_place_makes_the_same_version_and_bytes(run: Run, tmp_path: Path) -> None:
    elsewhere = Run("other", run.as_of, (tmp_path / "elsewhere").as_uri())
    made = [
        dataset.manifest(
            dataset.produce(
                r, "features/x", builder(), inputs=[dataset.produce(r, "lake/a", builder())]
            )
        )
        for r in (run, elsewhere)
    ]
    assert made[0].version == made[1].version
    assert made[0].files == made[1].files


def test_a_crash_leaves_no_version_and_the_next_try_makes_it(run: Run) -> None:
    def crash(draft: Draft) -> None:
        dataset.write_part(draft.destination, "rows.parquet", ROWS.head(1))
        raise RuntimeError("out of power")

    crash.__module__ = "ecom_tasks.pricing.tasks"
    with pytest.raises(RuntimeError):
        dataset.produce(run, "features/x", crash)
    with pytest.raises(DataContractError, match=r"No features/x for 2024-03-31.*Run features"):
        dataset.find(run, "features/x")
    ref = dataset.produce(run, "features/x", builder())
    assert_frame_equal(dataset.scan(ref).collect(), ROWS)


def test_parts_of_workers_and_own_files_are_one_version(run: Run) -> None:
    def build(draft: Draft) -> None:
        parts = [
            dataset.write_part(draft.destination, f"by_x/bucket={i:03}.parquet", ROWS[i : i + 1])
            for i in range(2)
        ]
        draft.add(parts)
        draft.write_text("notes/read.me", "text")

    build.__module__ = "ecom_tasks.features.tasks"
    ref = dataset.produce(run, "features/x", build)
    assert [entry.path for entry in dataset.manifest(ref).files] == [
        "by_x/bucket=000.parquet", "by_x/bucket=001.parquet", "notes/read.me",
    ]  # fmt: skip
    assert_frame_equal(dataset.scan(ref, "by_x/*").collect(), ROWS)
    assert dataset.scan(ref, "*bucket=001*").collect().height == 1


def test_a_table_that_the_shop_lacks_has_no_rows(run: Run) -> None:
    ref = dataset.produce(run, "lake/stock", _nothing)
    assert not dataset.has_rows(ref)
    with pytest.raises(DataContractError, match="has no file"):
        dataset.scan(ref)


def _nothing(draft: Draft) -> None:
    draft.assumptions.append("the shop has no stock table")


_nothing.__module__ = "ecom_tasks.ingestion.tasks"


def test_inputs_are_followed_by_name(run: Run) -> None:
    table = dataset.produce(run, "lake/stock", _nothing)
    everything = dataset.produce(run, "lake/all", _nothing, inputs=[table])
    assert dataset.input_named(everything, "lake/stock") == table
    with pytest.raises(DataContractError, match=r"no input 'lake/prices'.*It has: lake/stock"):
        dataset.input_named(everything, "lake/prices")


def test_a_changed_file_is_not_fetched(run: Run, tmp_path: Path) -> None:
    ref = dataset.produce(run, "features/x", builder())
    stored = Path(urlsplit(ref).path).with_name("rows.parquet")
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    with pytest.raises(DataContractError, match="not what its manifest attests"):
        dataset.fetch(ref, tmp_path / "here")


def test_release_keeps_a_newer_day_in_service(run: Run, another_day: Run) -> None:
    newer = dataset.produce(another_day, "artefacts/pricing", builder())
    older = dataset.produce(run, "artefacts/pricing", builder())
    dataset.release(another_day, newer)
    dataset.release(run, older)
    store = open_store(run.root)
    pointer = dataset.channels.read_pointer(store, "artefacts/pricing", "production")
    assert pointer is not None
    assert pointer.version == version(newer)
