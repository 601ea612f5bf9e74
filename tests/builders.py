"""Small shops for tests: tables of the data contract, made by hand or from a seed.

By hand: `order_lines([line("ann", "milk", day(3)), ...])`. From a seed: `block_shop()`, whose
tastes are planted, so that the right recommendation can be derived. `publish_lake` puts such
tables where ingestion would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import polars as pl

from ecom_tasks import tables
from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.run import Ref, Run
from ecom_tasks.tables import Table

MONDAY = date(2024, 1, 1)
DTYPES: dict[str, Any] = {
    "string": pl.String,
    "float": pl.Float64,
    "int": pl.Int64,
    "bool": pl.Boolean,
    "date": pl.Date,
    "datetime": pl.Datetime("us"),
}


def day(number: int) -> date:
    """Day `number` of the tests' calendar; day 0 is Monday 2024-01-01."""
    return MONDAY + timedelta(days=number)


def table(contract: Table, rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Give `rows` all columns of `contract`; what a row leaves out is null."""
    schema = {column.name: DTYPES[column.type] for column in contract.columns}
    full = [{name: row.get(name) for name in schema} for row in rows]
    return pl.DataFrame(full, schema=schema, orient="row")


def line(
    customer: str | None, product: str, on: date, quantity: float = 1, unit_price: float = 1.0,
    **other: object,
) -> dict[str, object]:  # fmt: skip
    """Return one order line at noon; one order per customer and day unless `order_id` is given."""
    return {
        "order_id": f"{customer}@{on}",
        "customer_id": customer,
        "product_id": product,
        "quantity": float(quantity),
        "unit_price": float(unit_price),
        "ordered_at": datetime.combine(on, time(12)),
        **other,
    }


def order_lines(lines: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Return order_lines with line numbers counted within each order."""
    frame = table(tables.ORDER_LINES, lines)
    number = pl.int_range(1, pl.len() + 1).over("order_id").cast(pl.Int64)
    return frame.with_columns(number.alias("line_number"))


def products(ids: Sequence[str], **columns: Sequence[object]) -> pl.DataFrame:
    """Return products titled by their id in category `all`; further columns by keyword."""
    rows = [
        {"product_id": each, "title": each, "category": "all", "sellable": True}
        | {name: values[at] for name, values in columns.items()}
        for at, each in enumerate(ids)
    ]
    return table(tables.PRODUCTS, rows)


def promotion(product: str, starts: date, ends: date, **other: object) -> dict[str, object]:
    """Return one promotion at location `all`, mechanic `display`, announced when it starts."""
    return {
        "product_id": product,
        "location_id": "all",
        "starts_on": starts,
        "ends_on": ends,
        "mechanic": "display",
        **other,
    }


def promotions(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    return table(tables.PROMOTIONS, rows)


@dataclass(frozen=True)
class Shop:
    """The tables of one shop, and the day after whose close nothing is known."""

    order_lines: pl.DataFrame
    products: pl.DataFrame
    promotions: pl.DataFrame
    as_of: date


def block_shop(
    seed: int = 0, *, blocks: int = 4, customers: int = 12, goods: int = 10, weeks: int = 36
) -> Shop:
    """Return a shop of blocks: customers of a block buy only products of the same block.

    Each customer shops once a week, on one weekday. Of the block's products each customer has
    three staples, bought every 1, 2 and 4 weeks without fail, and takes one other product of the
    block at random each week. Customer `b2-c05` and product `b2-p07` belong to block 2.

    Parameters
    ----------
    blocks, customers, goods : customers and products are counted per block.
    weeks : the last one ends on `as_of`, a Sunday.
    """
    random = np.random.default_rng(seed)
    lines: list[dict[str, object]] = []
    for block in range(blocks):
        for person in range(customers):
            name = f"b{block}-c{person:02d}"
            staples = random.choice(goods, size=3, replace=False)
            weekday = int(random.integers(7))
            for week in range(weeks):
                due = [int(p) for p, every in zip(staples, (1, 2, 4), strict=True)
                       if week % every == 0]  # fmt: skip
                basket = sorted({*due, int(random.integers(goods))})
                lines += [
                    line(name, f"b{block}-p{p:02d}", day(7 * week + weekday), 1, 1 + p / 10,
                         regular_price=1 + p / 10)
                    for p in basket
                ]  # fmt: skip
    ids = [f"b{block}-p{p:02d}" for block in range(blocks) for p in range(goods)]
    catalogue = products(
        ids,
        title=[f"block {each[1]} article {each[-2:]}" for each in ids],
        category=[f"block {each[1]}/shelf {int(each[-2:]) % 2}" for each in ids],
        brand=[f"brand {int(each[-2:]) % 3}" for each in ids],
    )
    return Shop(order_lines(lines), catalogue, promotions([]), day(7 * weeks - 1))


def bucket_of(entity: str | None, buckets: int) -> int:
    """Return the bucket that ingestion files `entity` under."""
    if entity is None:
        return 0
    return int(hashlib.md5(entity.encode(), usedforsecurity=False).hexdigest()[:8], 16) % buckets


def lies_in_chunks(frame: pl.DataFrame, key: Sequence[str], most: int) -> bool:
    """Whether rows lie in so many chunks sorted by the key, each value of its first in only one."""
    keys = frame.select(key).rows()
    begins = (later < earlier for earlier, later in pairwise(keys))
    chunks = list(accumulate(begins, initial=0))[: len(keys)]
    firsts = {(each[0], chunk) for each, chunk in zip(keys, chunks, strict=True)}
    return max(chunks, default=0) < most and len(firsts) == frame[key[0]].n_unique()


def publish_lake(run: Run, shop: Mapping[str, pl.DataFrame], buckets: int = 2) -> Ref:
    """Publish tables of the contract as ingestion does; return the ref of `lake/all`.

    Parameters
    ----------
    shop : table name -> rows; tables that are left out are published without files.
    """
    refs = [
        _publish(run, contract, shop.get(name), buckets) for name, contract in tables.TABLES.items()
    ]
    return dataset.produce(run, "lake/all", _as_ingestion(lambda _draft: None), inputs=refs)


def _publish(run: Run, contract: Table, rows: pl.DataFrame | None, buckets: int) -> Ref:
    # The content enters the version, as the pinned source files do in ingestion.
    content = rows.sort(contract.key).write_csv() if rows is not None else ""
    source = dataset.produce(
        run,
        f"sources/{contract.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}",
        _as_ingestion(lambda draft: draft.metrics.update(country="GB")),
    )

    def build(draft: Draft) -> None:
        if rows is None or rows.is_empty():
            return
        if not contract.buckets:
            draft.write_frame("rows.parquet", rows.sort(contract.key))
        for entity in contract.buckets:
            numbers = rows[entity].map_elements(
                lambda value: bucket_of(value, buckets), return_dtype=pl.Int64, skip_nulls=False
            )
            for number in range(buckets):
                path = f"by_{entity.removesuffix('_id')}/bucket={number:03d}.parquet"
                draft.write_frame(path, rows.filter(numbers == number).sort(contract.key))

    return dataset.produce(run, f"lake/{contract.name}", _as_ingestion(build), inputs=[source])


def _as_ingestion(build: Any) -> Any:
    """Say that ingestion made it: a version is named after the code of its domain."""
    build.__module__ = "ecom_tasks.ingestion.tasks"
    return build
