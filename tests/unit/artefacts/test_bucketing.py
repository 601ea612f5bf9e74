"""Buckets: the formula that consumers may rely on, and that every row has its place."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.bucketing import (
    bucket_number,
    bucket_numbers,
    file_of,
    looked_up,
    numbered,
    partition,
    scan_bucket,
)
from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Ref, Run
from tests import builders


@pytest.mark.parametrize(
    ("text", "first_digits"),
    [("", 0xD41D8CD9), ("a", 0x0CC175B9), ("abc", 0x90015098)],  # RFC 1321, appendix A.5
)
def test_the_bucket_follows_from_the_first_digits_of_md5(text: str, first_digits: int) -> None:
    for buckets in (1, 8, 999):
        assert bucket_number(text, buckets) == first_digits % buckets
        assert bucket_numbers(pl.Series([text]), buckets).to_list() == [first_digits % buckets]


@given(st.lists(st.none() | st.text(max_size=3)), st.integers(1, 20))
def test_every_row_is_in_one_part_the_one_of_its_entity(
    identifiers: list[str | None], buckets: int
) -> None:
    rows = pl.DataFrame({"product_id": identifiers, "n": range(len(identifiers))},
                        schema={"product_id": pl.String, "n": pl.Int64})  # fmt: skip
    numbers = bucket_numbers(rows["product_id"], buckets).to_list()
    assert numbers == [0 if each is None else bucket_number(each, buckets) for each in identifiers]
    parts = partition(rows, "product_id", buckets)
    assert sorted(n for part in parts.values() for n in part["n"]) == list(range(len(identifiers)))
    for number, part in parts.items():
        assert part.columns == rows.columns
        assert {numbers[n] for n in part["n"]} == {number}
        assert part["n"].is_sorted()  # rows of one part stay in their order


def test_files_are_named_after_entity_and_bucket() -> None:
    assert file_of("customer_id", 7) == "by_customer/bucket=007.parquet"


ENTITIES = [f"p{number}" for number in range(40)]


@pytest.fixture(params=[1, 2, 4, 8])
def written(request: pytest.FixtureRequest, run: Run) -> Ref:
    """Return promotions of all products, written with another number of buckets each time."""
    plan = builders.promotions([
        builders.promotion(each, builders.day(0), builders.day(6)) for each in ENTITIES
    ])
    lake = builders.publish_lake(run, {"promotions": plan}, request.param)
    return dataset.input_named(lake, "lake/promotions")


def test_a_table_of_another_number_of_buckets_is_read_as_if_of_this_one(written: Ref) -> None:
    buckets = 4
    for number in range(buckets):
        rows = scan_bucket(written, file_of("product_id", number), buckets)
        assert rows is not None
        found = rows.collect()["product_id"].to_list()
        assert sorted(found) == sorted(e for e in ENTITIES if bucket_number(e, buckets) == number)


def test_buckets_that_lie_across_each_other_are_refused(written: Ref) -> None:
    count = len(dataset.paths(written))
    if count > 1:  # of a single one, everything is a multiple
        with pytest.raises(ConfigError, match="neither is a multiple of the other"):
            scan_bucket(written, file_of("product_id", 0), 2 * count - 1)


def test_a_table_without_rows_has_no_bucket(run: Run) -> None:
    lake = builders.publish_lake(run, {})
    ref = dataset.input_named(lake, "lake/promotions")
    assert scan_bucket(ref, file_of("product_id", 0), 4) is None


@given(st.text(max_size=5), st.integers(1, 200))
def test_twice_as_many_buckets_part_each_in_two(identifier: str, buckets: int) -> None:
    assert bucket_number(identifier, 2 * buckets) % buckets == bucket_number(identifier, buckets)


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12))
@settings(deadline=None)
def test_each_distinct_value_is_looked_up_once(values: list[str | None]) -> None:
    asked: list[str] = []

    def doubled(known: pl.Series) -> pl.Series:
        asked.extend(known)
        return known + known

    texts = pl.Series("texts", values, dtype=pl.String)
    for kind in (texts, numbered(texts)):
        asked.clear()
        found = looked_up(kind, doubled)
        assert found.to_list() == [value and value * 2 for value in values]
        assert sorted(asked) == sorted({value for value in values if value})


@given(st.lists(st.text(max_size=2) | st.none(), max_size=300))
@settings(deadline=None)
def test_texts_are_numbered_in_their_order(values: list[str | None]) -> None:
    known = sorted({value for value in values if value is not None})
    texts = numbered(pl.Series("texts", values, dtype=pl.String))
    assert texts.name == "texts"
    assert texts.to_list() == values
    assert texts.dtype == pl.Enum(known)
    assert texts.to_physical().to_list() == [
        None if value is None else known.index(value) for value in values
    ]
