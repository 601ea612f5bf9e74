"""Which bucket a customer or product belongs to, and reading one of a table.

An entity's bucket is the same in every table of the same number of buckets. With twice as many,
what was in bucket b is in b and in b + n, and nowhere else: so tables of both numbers are read
together without writing either anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import polars as pl

from ecom_tasks.artefacts import dataset
from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Ref

_NUMBER = "CAST('0x' || left(md5(identifier), 8) AS UINTEGER)"
_BUCKET = "_bucket"
"""Column of the bucket's number while rows are split."""


def bucket_number(identifier: str, buckets: int) -> int:
    """First 8 hex digits of the MD5 of the identifier, modulo the number of buckets.

    MD5 for its even spread, and because every language computes the same.
    """
    digest = hashlib.md5(identifier.encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) % buckets


def bucket_numbers(identifiers: pl.Series, buckets: int) -> pl.Series:
    """Return the bucket of each identifier (UInt16), as `bucket_number`; a missing one's is 0."""
    if buckets == 1:
        return pl.zeros(len(identifiers), dtype=pl.UInt16, eager=True)
    return looked_up(identifiers, partial(_numbers, buckets)).fill_null(0)


def _numbers(buckets: int, known: pl.Series) -> pl.Series:
    import duckdb  # not above: who asks for one bucket needs no database

    asked = known.to_frame("identifier").with_row_index("place")
    # Of the module's database, which takes none of the 30 ms that opening one does.
    with duckdb.cursor() as cursor:
        cursor.register("asked", asked)
        found: pl.DataFrame = cursor.sql(
            f"SELECT place, CAST({_NUMBER} % {buckets} AS USMALLINT) AS bucket FROM asked"
        ).pl()
    return found.sort("place")["bucket"]


def looked_up(values: pl.Series, function: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Apply a function of single texts to each distinct one; null stays null.

    Parameters
    ----------
    values : texts, also as `numbered` gives them; of the latter all that have a number are asked.
    function : of distinct texts, to as many results in their order
    """
    if isinstance(kind := values.dtype, pl.Enum):
        found: pl.Series = function(kind.categories)
        return found.gather(values.to_physical())
    known, met, run = _met(values)
    return function(known).gather(met).gather(run)


def numbered(texts: pl.Series) -> pl.Series:
    """Return the texts as an `Enum`, numbered in their order.

    One to four bytes a row are moved and compared instead of 16 and the text itself.
    """
    known, met, run = _met(texts)
    order = known.arg_sort()
    rank = order.arg_sort().gather(met)
    kind = pl.Enum(known.gather(order))
    physical = pl.Series(dtype=kind).to_physical().dtype
    return rank.cast(physical).cat.to(kind).gather(run).alias(texts.name)


def _met(texts: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Return the distinct texts as they are met, the number of each run's, and each row's run.

    Rows of one order mostly stand together, with the same customer: of a run of equal texts only
    the first is looked at.
    """
    run = texts.rle_id()
    first = texts.filter(run.diff().fill_null(1) > 0).to_arrow().dictionary_encode()
    return pl.Series(first.dictionary), pl.Series(first.indices), run


def partition(frame: pl.DataFrame, entity: str, buckets: int) -> dict[int, pl.DataFrame]:
    """Split the rows by the bucket of column `entity`; buckets without rows are left out."""
    return split(frame, bucket_numbers(frame[entity], buckets))


def split(frame: pl.DataFrame, numbers: pl.Series) -> dict[int, pl.DataFrame]:
    """Split the rows by their number, in their order."""
    parts = frame.with_columns(numbers.alias(_BUCKET)).partition_by(
        _BUCKET, maintain_order=True, include_key=False, as_dict=True
    )
    return {number: part for (number,), part in sorted(parts.items(), key=lambda each: each[0])}


def file_of(entity: str, bucket: int) -> str:
    """Return the path of a bucket's file, `by_customer/bucket=007.parquet`."""
    return f"by_{entity.removesuffix('_id')}/bucket={bucket:03}.parquet"


def scan_bucket(ref: Ref, path: str, buckets: int) -> pl.LazyFrame | None:
    """Read the rows of a table that belong into one of so many buckets.

    The table may have been written with another number: of a finer one several files are read, of a
    coarser one those rows of a file whose entity's hash belongs here.

    Parameters
    ----------
    path : of the bucket, for example `by_product/bucket=003.parquet`
    buckets : that this path is one of

    Returns
    -------
    LazyFrame, in no particular order; None where the table has no rows.

    Raises
    ------
    ConfigError
        Neither number of buckets is a multiple of the other: entities lie across each other.
    """
    folder, number = path.partition("/")[0], int(path.rpartition("=")[2].removesuffix(".parquet"))
    entity = f"{folder.removeprefix('by_')}_id"
    written = len(dataset.paths(ref, f"{folder}/*.parquet"))
    if not written:
        return None
    if written % buckets == 0:
        parts = range(number, written, buckets)
        return pl.concat(dataset.scan(ref, file_of(entity, part)) for part in parts)
    if buckets % written:
        raise ConfigError(
            f"{ref} has {written} buckets, what it is read with has {buckets}: neither is a "
            "multiple of the other",
            "Set ingestion.buckets to a multiple of what it was (double it), and run ingestion and "
            "features of this day again",
        )
    rows = dataset.scan(ref, file_of(entity, number % written))
    known = rows.select(entity).unique().collect().to_series()
    here = known.filter(bucket_numbers(known, buckets) == number)
    return rows.filter(pl.col(entity).is_in(here.implode(), nulls_equal=True))
