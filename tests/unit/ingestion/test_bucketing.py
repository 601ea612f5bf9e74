"""Buckets: the formula that consumers may rely on, and that every row has its place."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecom_tasks.ingestion.bucketing import bucket_numbers, file_of, partition
from tests.builders import bucket_of


@pytest.mark.parametrize(
    ("text", "first_digits"),
    [("", 0xD41D8CD9), ("a", 0x0CC175B9), ("abc", 0x90015098)],  # RFC 1321, appendix A.5
)
def test_the_bucket_follows_from_the_first_digits_of_md5(text: str, first_digits: int) -> None:
    for buckets in (1, 8, 999):
        numbers = bucket_numbers(pl.Series([text]), buckets).to_list()
        assert numbers == [first_digits % buckets]


@given(st.lists(st.none() | st.text(max_size=3)), st.integers(1, 20))
def test_every_row_is_in_one_part_the_one_of_its_entity(
    identifiers: list[str | None], buckets: int
) -> None:
    rows = pl.DataFrame({"product_id": identifiers, "n": range(len(identifiers))},
                        schema={"product_id": pl.String, "n": pl.Int64})  # fmt: skip
    numbers = bucket_numbers(rows["product_id"], buckets).to_list()
    assert numbers == [bucket_of(each, buckets) for each in identifiers]
    parts = partition(rows, "product_id", buckets)
    assert sorted(n for part in parts.values() for n in part["n"]) == list(range(len(identifiers)))
    for number, part in parts.items():
        assert part.columns == rows.columns
        assert {numbers[n] for n in part["n"]} == {number}


def test_files_are_named_after_entity_and_bucket() -> None:
    assert file_of("customer_id", 7) == "by_customer/bucket=007.parquet"
