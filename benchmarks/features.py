"""Customer features: Dask over buckets, beside Polars alone, DuckDB and Dask DataFrame.

    python -m benchmarks.features [--millions 1 10 50] [--json OUT] [--folder FOLDER]

Each contender is a fresh interpreter that reads the same Parquet files, computes the same columns
of each customer and writes them; what it wrote is compared with what Polars alone wrote. All use
both cores; `ours, 1 worker` is there to show what the second one brings. With `--folder` what is
done stays there when the benchmark is cut off, and is not measured again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

BUCKET_LINES = 640_000
CONTENDERS = ("polars", "ours", "ours, 1 worker", "duckdb", "dask dataframe")
WORKERS = {"ours": "2", "ours, 1 worker": "1"}

SQL = """
copy (
  with known as (
    select *, not coalesce(returned, false) as bought, ordered_at::date as day,
           quantity * unit_price as sales
    from read_parquet('{lines}')
    where customer_id is not null and ordered_at < timestamp '{after}'
      and product_id not in (
        select product_id from '{products}' where not coalesce(sellable, true)))
  select customer_id,
    count(distinct order_id) filter (bought) as orders,
    sum(if(bought, quantity, -quantity)) as units,
    sum(if(bought, sales, -sales)) as spend,
    date '{cutoff}' - min(day) filter (bought) as days_since_first_order,
    date '{cutoff}' - max(day) filter (bought) as days_since_last_order,
    case when count(distinct day) filter (bought) > 1
         then (max(day) filter (bought) - min(day) filter (bought))
              / (count(distinct day) filter (bought) - 1) end as mean_days_between_orders,
    spend / orders as mean_basket_spend,
    count(*) filter (bought) / orders as mean_basket_products,
    coalesce(sum(discount) filter (bought)
             / nullif(sum(discount) filter (bought) + sum(sales) filter (bought), 0), 0)
      as discount_share,
    count(distinct order_id) filter (bought and day > date '{cutoff}' - 28) as orders_28d,
    count(distinct product_id) filter (bought) as distinct_products
  from known group by customer_id having orders > 0 order by customer_id
) to '{out}' (format parquet)
"""


def _customers(folder: Path, lines: str, out: str) -> int:
    """Build the features of the lines at `lines` by our own expressions; return the rows."""
    import polars as pl

    from benchmarks.orders import AS_OF
    from ecom_tasks.features import customers

    products = pl.scan_parquet(folder / "products.parquet")
    made = customers.build(pl.scan_parquet(lines), products, AS_OF).collect()
    made.write_parquet(folder / out)
    return made.height


def _bucket(folder: Path, bucket: Path) -> int:
    return _customers(folder, f"{bucket}/*.parquet", f"out-ours-{bucket.name}.parquet")


def _ours(folder: Path) -> None:
    from ecom_tasks import compute

    buckets = sorted(folder.glob("bucket=*"))
    compute.map_buckets(partial(_bucket, folder), buckets, "customers")


def _polars(folder: Path) -> None:
    _customers(folder, f"{folder}/bucket=*/*.parquet", "out-polars.parquet")


def _duckdb(folder: Path) -> None:
    from datetime import timedelta

    import duckdb

    from benchmarks.orders import AS_OF

    duckdb.sql(
        SQL.format(
            lines=f"{folder}/bucket=*/*.parquet", products=folder / "products.parquet",
            cutoff=AS_OF, after=AS_OF + timedelta(days=1), out=folder / "out-duckdb.parquet",
        )
    )  # fmt: skip


def _dask(folder: Path) -> None:
    """Compute the same by groups of a Dask DataFrame: sums, then what has to be distinct."""
    import dask.dataframe as dd
    import numpy as np
    import pandas as pd
    from distributed import Client, LocalCluster

    from benchmarks.orders import AS_OF

    cutoff = pd.Timestamp(AS_OF)
    sold = pd.read_parquet(folder / "products.parquet").query("not sellable")["product_id"]
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        columns = [
            "customer_id", "order_id", "product_id", "quantity", "unit_price", "ordered_at",
            "discount", "returned",
        ]  # fmt: skip
        paths = sorted(str(path) for path in folder.glob("bucket=*/*.parquet"))
        known = dd.read_parquet(paths, columns=columns)
        after = cutoff + pd.Timedelta(days=1)
        known = known[~known["product_id"].isin(list(sold)) & (known["ordered_at"] < after)]
        sign = 1 - 2 * known["returned"].astype(float)
        known = known.assign(
            day=known["ordered_at"].dt.floor("D"),
            sales=known["quantity"] * known["unit_price"],
            units=sign * known["quantity"],
            spend=sign * known["quantity"] * known["unit_price"],
        )
        bought = known[~known["returned"]]
        signed = known.groupby("customer_id")[["units", "spend"]].sum()
        sums = bought.groupby("customer_id").agg({
            "sales": "sum", "discount": "sum", "day": ["min", "max"], "quantity": "count",
        })  # fmt: skip
        recent = bought[bought["day"] > cutoff - pd.Timedelta(days=28)]
        groups = bought.groupby("customer_id")
        distinct = {
            "orders": groups["order_id"].nunique(),
            "distinct_products": groups["product_id"].nunique(),
            "order_days": groups["day"].nunique(),
            "orders_28d": recent.groupby("customer_id")["order_id"].nunique(),
        }
        import dask

        signed, sums, distinct = dask.compute(signed, sums, distinct)
    sums.columns = ["sales", "discount", "first", "last", "lines"]
    made = sums.join(signed).join(pd.DataFrame(distinct))
    gaps = (made["order_days"] - 1).replace(0, np.nan)
    everything = made["discount"] + made["sales"]
    made = made.assign(
        orders_28d=made["orders_28d"].fillna(0),
        days_since_first_order=(cutoff - made["first"]).dt.days,
        days_since_last_order=(cutoff - made["last"]).dt.days,
        mean_days_between_orders=(made["last"] - made["first"]).dt.days / gaps,
        mean_basket_spend=made["spend"] / made["orders"],
        mean_basket_products=made["lines"] / made["orders"],
        discount_share=(made["discount"] / everything.replace(0, np.nan)).fillna(0),
    )
    made.sort_index().reset_index().to_parquet(folder / "out-dask dataframe.parquet")


def contend(name: str, folder: Path) -> None:
    """Run one contender in this process."""
    contenders = {
        "polars": _polars, "ours": _ours, "ours, 1 worker": _ours, "duckdb": _duckdb,
        "dask dataframe": _dask,
    }  # fmt: skip
    contenders[name](folder)


def differs(name: str, folder: Path) -> str:
    """Return which columns a contender computed otherwise than Polars alone; empty: none."""
    import polars as pl
    from polars.testing import assert_series_equal

    expected = pl.read_parquet(folder / "out-polars.parquet").sort("customer_id")
    files = "out-ours-*.parquet" if name in WORKERS else f"out-{name}.parquet"
    made = pl.read_parquet(folder / files).sort("customer_id")
    wrong = []
    for column in expected.columns:
        if column == "cutoff":
            continue
        kind = pl.String if column == "customer_id" else pl.Float64
        pair = [frame[column].cast(kind).fill_nan(None) if kind == pl.Float64 else frame[column]
                for frame in (expected, made)]  # fmt: skip
        try:
            assert_series_equal(*pair, rel_tol=1e-6, abs_tol=1e-5)
        except AssertionError:
            wrong.append(column)
    return ", ".join(wrong)


def measure_all(lines: int, folder: Path) -> list[dict[str, Any]]:
    """Return seconds, memory and equality of every contender at one size."""
    from benchmarks.measure import once
    from benchmarks.orders import write_buckets

    written = folder / "written"
    if not written.exists():
        print(f"writing {lines:,} lines to {folder}", file=sys.stderr, flush=True)
        for unfinished in folder.glob("bucket=*"):
            shutil.rmtree(unfinished)
        write_buckets(folder, lines, max(16, lines // BUCKET_LINES))
        written.touch()
    rows: list[dict[str, Any]] = []
    for name in CONTENDERS:
        rows.append(once(folder, name, partial(_figures, name, lines, folder)))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _figures(name: str, lines: int, folder: Path) -> dict[str, Any]:
    from benchmarks.measure import measure

    for file in folder.glob("out-ours-*.parquet"):
        file.unlink()
    done = measure(
        ["-m", "benchmarks.features", "--contend", name, str(folder)],
        {"ECOM_WORKERS": WORKERS.get(name, "2")},
    )
    return {
        "lines": lines, "contender": name, "seconds": done.seconds,
        "peak_bytes": done.peak_bytes, "differs": differs(name, folder),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown, with ratios to Polars alone at the same size."""
    told = [
        "| order lines | contender | seconds | ratio | lines a second | peak memory | same |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        alone = next(r for r in rows if r["lines"] == row["lines"] and r["contender"] == "polars")
        told.append(
            f"| {row['lines'] / 1e6:g} million | {row['contender']} | {row['seconds']:.1f} "
            f"| {row['seconds'] / alone['seconds']:.2f} | {row['lines'] / row['seconds']:,.0f} "
            f"| {row['peak_bytes'] / (1 << 20):,.0f} MiB "
            f"| {'yes' if not row['differs'] else 'no: ' + row['differs']} |"
        )
    return "\n".join(told)


def main() -> None:
    """Measure, and print the table."""
    from benchmarks.measure import folder_for, machine

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="keeps what is done when this is cut off")
    options = parser.parse_args()
    rows = []
    for millions in options.millions:
        with folder_for(options.folder, f"features-{millions:g}") as folder:
            rows += measure_all(int(millions * 1e6), folder)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{machine()}\n\n{table(rows)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contend"]:
        contend(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
