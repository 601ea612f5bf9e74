"""Customer features: Dask over buckets, beside the same on one process and beside DuckDB.

    python -m benchmarks.features [MILLIONS_OF_LINES]      # default 5

Each contender is a fresh interpreter that reads the same bucketed Parquet files and writes what it
makes.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import date
from functools import partial
from pathlib import Path

BUCKETS = 16
CUTOFF = date(2023, 12, 31)
SQL = """
copy (with orders as (
    select customer_id, order_id, count(*) as lines, sum(quantity) as units,
           sum(quantity * unit_price) as spend, sum(discount) as discount,
           min(ordered_at)::date as day
    from read_parquet('{lines}') group by all)
  select customer_id, count(*) as orders, sum(units), sum(spend), min(day), max(day),
         count(distinct day), sum(spend) / count(*), sum(lines) / count(*),
         sum(discount) / (sum(discount) + sum(spend)),
         count(*) filter (where day > date '2023-12-03'), any_value(products)
  from orders join (select customer_id, count(distinct product_id) as products
                    from read_parquet('{lines}') group by all) using (customer_id)
  group by customer_id order by customer_id) to '{out}' (format parquet)
"""


def generate(folder: Path, millions: float) -> None:
    """Write seeded order lines, hash-bucketed by customer, and a product list."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(7)
    per_bucket = int(millions * 1e6 / BUCKETS)
    for bucket in range(BUCKETS):
        order = np.sort(rng.integers(0, per_bucket // 8, per_bucket))
        customers = rng.integers(0, max(per_bucket // 200, 1), per_bucket // 8 + 1)
        days = rng.integers(0, 365 * 24 * 60, per_bucket // 8 + 1)
        pl.DataFrame({
            "order_id": pl.Series(order).cast(pl.String) + f"-{bucket}",
            "line_number": np.arange(per_bucket) + 1,
            "customer_id": pl.Series(customers[order]).cast(pl.String) + f"-{bucket}",
            "product_id": pl.Series(rng.zipf(1.3, per_bucket) % 50_000).cast(pl.String),
            "quantity": rng.integers(1, 4, per_bucket).astype(float),
            "unit_price": rng.integers(50, 2000, per_bucket) / 100,
            "ordered_at": np.datetime64("2023-01-01", "us")
            + days[order].astype("timedelta64[m]"),
            "location_id": pl.Series(["all"] * per_bucket),
            "discount": np.zeros(per_bucket),
            "regular_price": pl.Series([None] * per_bucket, dtype=pl.Float64),
            "returned": pl.Series([None] * per_bucket, dtype=pl.Boolean),
        }).write_parquet(folder / f"bucket={bucket:03}.parquet")  # fmt: skip
    products = [str(i) for i in range(50_000)]
    pl.DataFrame({
        "product_id": products, "title": products, "category": ["x"] * len(products),
        "brand": ["x"] * len(products), "sellable": [True] * len(products),
    }).write_parquet(folder / "products.parquet")  # fmt: skip


def bucket(folder: str, path: str) -> int:
    """Build the features of the lines at `path` and write them beside."""
    import polars as pl

    from ecom_tasks.features import customers

    lines, products = pl.scan_parquet(path), pl.scan_parquet(f"{folder}/products.parquet")
    made = customers.build(lines, products, CUTOFF).collect()
    made.write_parquet(f"{folder}/out-{Path(path).name.replace('*', 'all')}")
    return made.height


def contend(name: str, folder: Path) -> int:
    """Run one contender; return the number of customers."""
    lines = f"{folder}/bucket=*.parquet"
    if name == "ours":
        from ecom_tasks import compute

        paths = [str(path) for path in sorted(folder.glob("bucket=*.parquet"))]
        return sum(compute.map_buckets(partial(bucket, str(folder)), paths, "customers"))
    if name == "polars":
        return bucket(str(folder), lines)
    import duckdb

    duckdb.sql(SQL.format(lines=lines, out=f"{folder}/out-duckdb.parquet"))
    return duckdb.sql(f"select count(*) from '{folder}/out-duckdb.parquet'").fetchall()[0][0]


def main() -> None:
    """Print one line a contender."""
    from benchmarks.measure import machine, measure

    millions = float(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{machine()}; {millions:g} million order lines, {BUCKETS} buckets")
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch), millions)
        reference = None
        for name in ("polars", "ours", "duckdb"):
            done = measure(["-m", "benchmarks.features", "--contend", name, scratch])
            reference = reference or done
            print(
                f"{name}: {done.seconds:.1f} s (ratio {done.seconds / reference.seconds:.2f}), "
                f"{done.peak_bytes / (1 << 20):.0f} MiB "
                f"(ratio {done.peak_bytes / reference.peak_bytes:.2f}), "
                f"{done.output.strip()} customers"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contend"]:
        print(contend(sys.argv[2], Path(sys.argv[3])))
    else:
        main()
