"""Load one table: the source's files -> rows of the contract, bucketed, and quarantine.

Works through the rows in batches and then by chunk (a hash of the key's first column), so that
rows of the same key meet in one, and memory is bounded by the two chunks that are worked on at
once. A file holds the chunks one after the other, each sorted by the key: whoever is done with a
chunk adds its rows to the files when the chunks before it have been added.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import duckdb
import polars as pl

from ecom_tasks.artefacts import bucketing
from ecom_tasks.errors import MAX_EXAMPLES, DataContractError
from ecom_tasks.ingestion import inputs, mapping, pseudonyms
from ecom_tasks.ingestion.inputs import Pin
from ecom_tasks.ingestion.quarantine import (
    DETAIL,
    IN_FUTURE,
    REASON,
    Rules,
    count_reasons,
    part,
    schema_of,
)
from ecom_tasks.ingestion.sources import Source
from ecom_tasks.tables import CUSTOMER_ID, Table

log = logging.getLogger(__name__)
HAPPENED = ("order_lines", "events", "stock")
"""Tables of things that happened; promotions and prices may be planned ahead."""
ROWS_FILE = "rows.parquet"
_AT_ONCE = 2
"""Batches or chunks worked on at once: most of that work keeps one core busy."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Loaded:
    """What came of a table.

    Attributes
    ----------
    read : rows up to `as_of` that the SELECT gave.
    rows : of these, rows that keep the contract.
    reasons : rows in quarantine by reason.
    by_day : rows that keep and rows that break the contract, for each day (of what happened).
    examples : up to five rows of the quarantine for each reason.
    quarantine : Parquet files with the rows of the quarantine.
    """

    read: int = 0
    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    by_day: dict[date, list[int]] = field(default_factory=dict)
    examples: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    quarantine: list[Path] = field(default_factory=list)

    @property
    def quarantined(self) -> int:
        return sum(self.reasons.values())

    def metrics(self) -> dict[str, Any]:
        """Return the counts for the manifest."""
        return {
            "rows_read": self.read,
            "rows_published": self.rows,
            "rows_quarantined": self.quarantined,
            "quarantined_by_reason": dict(sorted(self.reasons.items())),
        }


@dataclass(frozen=True)
class Order:
    """What to load and how.

    Attributes
    ----------
    key : secret key of the pseudonyms.
    forgotten : pseudonyms of those whose rows are left out.
    products : known product ids, where the table refers to products.
    buckets : files of a bucketed table.
    write : adds rows to the table under a path, which begins with the first; texts of a bucketed
        table are numbered.
    scratch : folder for what is written on the way.
    """

    table: Table
    source: Source
    pins: Sequence[Pin]
    settings: mapping.Settings
    key: bytes
    products: pl.Series | None
    buckets: int
    write: Callable[[str, pl.DataFrame], None]
    scratch: Path
    forgotten: Sequence[str] = ()


def load(order: Order) -> Loaded:
    """Load a table that the source maps.

    Raises
    ------
    DataContractError
        The SELECT does not fit the files, or gives no rows at all.
    """
    table, settings = order.table, order.settings
    rules = Rules(order.products, _latest() if table.name in HAPPENED else None)
    chunks = order.buckets if table.buckets else 1
    with mapping.connected(settings, order.scratch) as connection:
        _register_inputs(connection, order)
        sql = _sql(order.source, table)
        types = mapping.describe(connection, table, sql)
        if wrong := mapping.check_columns(table, types):
            raise DataContractError("; ".join(wrong), "Correct the SELECT in the source file")
        select = mapping.contract_select(table, sql, types, settings.as_of, rules.latest)
        batches = mapping.batches(connection, table, select)
        write = partial(_write_batch, order, chunks)
        if not sum(_side_by_side(write, enumerate(batches))):
            _nothing_read(connection, table, sql, settings.as_of)
            return Loaded()
    loaded = Loaded()
    turns = {entity: [Event() for _ in range(chunks + 1)] for entity in table.buckets}
    for parted in _side_by_side(partial(_load_chunk, order, rules, turns), range(chunks)):
        _enter(parted, loaded)
    if loaded.rows:
        # Empty buckets too: later steps map over the files of a table.
        nothing = pl.DataFrame(schema=schema_of(table))
        for entity, bucket in product(table.buckets, range(order.buckets)):
            order.write(bucketing.file_of(entity, bucket), nothing)
    return loaded


def _side_by_side(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Apply `function` in threads and yield the results in order."""
    running: deque[Future[R]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) == _AT_ONCE:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def inputs_of_table(source: Source, table: Table) -> list[str]:
    """Return the inputs that a table's SELECT reads; raise `DataContractError` if it is none."""
    try:
        return mapping.inputs_of(_sql(source, table), source.specification.inputs)
    except DataContractError as error:
        raise DataContractError(f"{table.name}: {error.reason}", error.hint) from error


def _sql(source: Source, table: Table) -> str:
    return source.specification.tables[table.name].sql.strip().rstrip(";")


def _register_inputs(connection: duckdb.DuckDBPyConnection, order: Order) -> None:
    for name in inputs_of_table(order.source, order.table):
        prepared = inputs.prepare(
            order.source, name, order.pins, order.settings.as_of, order.scratch
        )
        mapping.register(connection, name, prepared)


def _latest() -> date:
    # A day of grace: it is tomorrow already where the sun rises.
    return datetime.now(UTC).date() + timedelta(days=1)


def _write_batch(order: Order, chunks: int, numbered: tuple[int, pl.DataFrame]) -> int:
    """Write the rows of a batch to their chunks, customers under pseudonyms; return how many."""
    count, batch = numbered
    known = pseudonyms.pseudonymised(batch, CUSTOMER_ID, order.key)
    rows = pseudonyms.without(known, CUSTOMER_ID, order.forgotten)
    numbers = _chunk_numbers(rows[order.table.key[0]], order.table, chunks)
    for number, part_rows in bucketing.split(_telling(rows), numbers).items():
        _write_scratch(order.scratch / f"chunk-{number:03}-{count:05}.arrow", part_rows)
    return rows.height


def _chunk_numbers(keys: pl.Series, table: Table, chunks: int) -> pl.Series:
    if keys.name in table.buckets:
        return bucketing.bucket_numbers(keys, chunks)  # so that a bucket has rows of one chunk
    # Which chunk it is matters to nobody: this hash takes a thirtieth of the time.
    return (keys.hash() % chunks).cast(pl.UInt16)


def _telling(rows: pl.DataFrame) -> pl.DataFrame:
    """Leave out columns that hold nothing: what the shop lacks, what is wrong where nothing is."""
    # The first stays, which says how many rows there are.
    silent = [name for name in rows.columns[1:] if rows[name].null_count() == rows.height]
    return rows.drop(silent)


def _write_scratch(file: Path, rows: pl.DataFrame) -> None:
    # As it is in memory: to pack it and unpack it again takes longer than to read more.
    rows.write_ipc(file, compression="uncompressed")


def _read_scratch(order: Order, pattern: str) -> pl.DataFrame:
    """Read the files of a pattern in their order, and remove them."""
    files = sorted(order.scratch.glob(pattern))
    rows = [pl.read_ipc(file, memory_map=True, rechunk=False) for file in files]
    for file in files:
        file.unlink()  # what is mapped of it stays readable
    nothing = pl.DataFrame(schema=schema_of(order.table))
    return pl.concat([nothing, *rows], how="diagonal", rechunk=True)


def _nothing_read(
    connection: duckdb.DuckDBPyConnection, table: Table, sql: str, as_of: date
) -> None:
    counted = connection.execute(f"SELECT count(*) FROM (\n{sql}\n)").fetchone()
    rows = counted[0] if counted else 0
    if rows and not table.required:
        log.warning("%s: all %s rows lie after %s, none is read", table.name, rows, as_of)
        return
    raise DataContractError(
        f"{table.name}: observed 0 rows up to {as_of}, expected at least 1 "
        f"(the SELECT gives {rows} rows for all days together)",
        "Look whether the file is empty or was delivered for another day; where the shop has no "
        f"{table.name}, remove [tables.{table.name}] from the source",
    )


@dataclass(frozen=True)
class _Parted:
    """What `_load_chunk` tells of a chunk, without its good rows."""

    read: int
    bad: pl.DataFrame
    by_day: tuple[dict[date, int], dict[date, int]]
    quarantine: Path


def _load_chunk(
    order: Order, rules: Rules, turns: Mapping[str, Sequence[Event]], number: int
) -> _Parted:
    table = order.table
    try:
        rows = _read_scratch(order, f"chunk-{number:03}-*.arrow")
        parted = part(_lighter(rows, table), table, rules)
        if not table.buckets and parted.good.height:
            order.write(ROWS_FILE, parted.good)
        for entity in table.buckets:
            parts = bucketing.partition(parted.good, entity, order.buckets)
            if number:
                turns[entity][number].wait()
            for bucket, part_rows in parts.items():
                order.write(bucketing.file_of(entity, bucket), part_rows)
            turns[entity][number + 1].set()
    finally:
        for entity in table.buckets:
            turns[entity][number + 1].set()  # who waits for a chunk that failed would do so forever
    quarantine = order.scratch / f"quarantine-{number:03}.parquet"
    if parted.bad.height:
        parted.bad.write_parquet(quarantine)
    days = _days(table, parted.good), _days(table, parted.bad.filter(pl.col(REASON) != IN_FUTURE))
    return _Parted(rows.height, parted.bad, days, quarantine)


def _lighter(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Number the texts of a table that is split, but for the one in whose order rows are sorted."""
    texts = [each.name for each in table.columns if each.type == "string"] if table.buckets else []
    return rows.with_columns(
        bucketing.numbered(rows[name]) for name in texts if name != table.key[0]
    )


def _enter(parted: _Parted, loaded: Loaded) -> None:
    loaded.read += parted.read
    loaded.rows += parted.read - parted.bad.height
    for place, days in enumerate(parted.by_day):
        for day, count in days.items():
            loaded.by_day.setdefault(day, [0, 0])[place] += count
    if parted.bad.height:
        loaded.reasons.update(count_reasons(parted.bad))
        _keep_examples(parted.bad, loaded.examples)
        loaded.quarantine.append(parted.quarantine)


def _keep_examples(bad: pl.DataFrame, kept: dict[str, list[dict[str, object]]]) -> None:
    for row in bad.group_by(REASON, maintain_order=True).head(MAX_EXAMPLES).to_dicts():
        examples = kept.setdefault(row[REASON], [])
        if len(examples) < MAX_EXAMPLES:
            # What a reader needs first, and nothing that is empty.
            ordered = {REASON: row[REASON], DETAIL: row[DETAIL]} | row
            examples.append({
                name: str(value) if isinstance(value, date) else value
                for name, value in ordered.items()
                if value is not None
            })


def _days(table: Table, rows: pl.DataFrame) -> dict[date, int]:
    """Count the rows of each day, where the table holds things that happened."""
    if table.name not in HAPPENED or table.happened_at is None:
        return {}
    days = rows.select(day=pl.col(table.happened_at).cast(pl.Date)).drop_nulls()
    return dict(days.group_by("day").len().iter_rows())
