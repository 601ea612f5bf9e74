"""A seeded shop of any size, written file by file: never more than a million lines in memory.

Customers order about 25 times in two years, a handful of lines each; products have a power law of
popularity; some lines are returned, some discounted. Ids are texts, as shops have them.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

FIRST, DAYS = date(2022, 1, 3), 728
AS_OF = FIRST + timedelta(days=DAYS - 1)
PRODUCTS, LOCATIONS = 20_000, 10
LINES_A_CUSTOMER, LINES_AN_ORDER = 200, 8
FILE_LINES = 1_000_000


def products() -> pl.DataFrame:
    """Return the catalogue; one product of a hundred is not sold (a deposit, a bag)."""
    import numpy as np
    import polars as pl

    number = np.arange(PRODUCTS)
    return pl.DataFrame({
        "product_id": pl.Series(number).cast(pl.String),
        "title": "Product " + pl.Series(number).cast(pl.String),
        "category": "d" + pl.Series(number % 10).cast(pl.String)
        + "/c" + pl.Series(number % 100).cast(pl.String),
        "brand": "b" + pl.Series(number % 500).cast(pl.String),
        "sellable": number % 100 != 0,
    })  # fmt: skip


def files(lines: int) -> int:
    """Return the number of files that `lines` order lines are written to."""
    return max(-(-lines // FILE_LINES), 1)


def orders(lines: int, file: int) -> pl.DataFrame:
    """Return the order lines of one file: those of one stretch of time, in its order."""
    import numpy as np
    import polars as pl

    count = files(lines)
    rows = lines * (file + 1) // count - lines * file // count
    rng = np.random.default_rng([7, file])
    order = np.sort(rng.integers(0, max(rows // LINES_AN_ORDER, 1), rows))
    customers = rng.integers(0, max(lines // LINES_A_CUSTOMER, 1), order[-1] + 1)
    minutes = np.sort(rng.integers(0, DAYS * 24 * 60 // count, order[-1] + 1))
    minutes += file * (DAYS * 24 * 60 // count)
    product = (rng.random(rows) ** 3 * PRODUCTS).astype(np.int64)
    # The usual price of a product, moved by up to a tenth in steps of four weeks.
    usual = 100 + product * 37 % 900
    step = 1 + ((product + minutes[order] // (28 * 24 * 60)) % 5 - 2) / 20
    return pl.DataFrame({
        "order_id": pl.Series(order + file * FILE_LINES).cast(pl.String),
        "line_number": np.arange(rows) - np.searchsorted(order, order) + 1,
        "customer_id": "customer-" + pl.Series(customers[order]).cast(pl.String),
        "product_id": pl.Series(product).cast(pl.String),
        "quantity": rng.integers(1, 4, rows).astype(float),
        "unit_price": np.round(usual * step) / 100,
        "ordered_at": np.datetime64(FIRST, "us") + minutes[order].astype("timedelta64[m]"),
        "location_id": "store-" + pl.Series(customers[order] % LOCATIONS).cast(pl.String),
        "discount": np.where(rng.random(rows) < 0.2, 0.25, 0.0),
        "returned": rng.random(rows) < 0.02,
    })


def write_source(folder: Path, lines: int) -> Path:
    """Write `orders/*.parquet`, `products.parquet` and the source file, whose path is returned.

    One line of a thousand has a quantity below zero, which is for quarantine.
    """
    import polars as pl

    (folder / "orders").mkdir(parents=True, exist_ok=True)
    products().write_parquet(folder / "products.parquet")
    for file in range(files(lines)):
        spoilt = pl.int_range(pl.len()) % 1000 == 7
        rows = orders(lines, file).with_columns(
            pl.when(spoilt).then(-1.0).otherwise("quantity").alias("quantity")
        )
        rows.write_parquet(folder / f"orders/{file:03}.parquet")
    source = folder / "generated.toml"
    source.write_text(
        'name = "generated"\n'
        '[inputs.orders]\npath = "orders/*.parquet"\n'
        '[inputs.products]\npath = "products.parquet"\n'
        '[tables.order_lines]\nsql = "SELECT * FROM orders"\n'
        '[tables.products]\nsql = "SELECT * FROM products"\n'
    )
    return source


def write_buckets(folder: Path, lines: int, buckets: int) -> None:
    """Write `bucket=*/*.parquet`, each with whole customers, and `products.parquet`."""
    import polars as pl

    from ecom_tasks.artefacts import bucketing

    products().write_parquet(folder / "products.parquet")
    for bucket in range(buckets):
        (folder / f"bucket={bucket:03}").mkdir(parents=True)
    for file in range(files(lines)):
        rows = orders(lines, file).with_columns(pl.lit(None, pl.Float64).alias("regular_price"))
        for bucket, part in bucketing.partition(rows, "customer_id", buckets).items():
            part.write_parquet(folder / f"bucket={bucket:03}/{file:03}.parquet")
