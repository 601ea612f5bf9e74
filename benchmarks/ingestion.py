"""Ingestion of order lines beside its floor and beside plain Great Expectations.

    python -m benchmarks.ingestion [--millions 1 10] [--json OUT]

Each contender is a fresh interpreter on the same Parquet files:

floor   Polars reads the files, sorts by the key and writes one file: no work on rows at all
ours    the whole flow: mapping, contract, quarantine, pseudonyms, two bucketed copies, the suite of
        Great Expectations with its documents, hashes and manifests
pandas  plain Great Expectations: pandas reads the files, the same suite judges them, pandas writes
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any

CONTENDERS = ("floor", "ours", "pandas")
KEY = ["order_id", "line_number"]


def _floor(folder: Path) -> None:
    import polars as pl

    pl.read_parquet(folder / "orders/*.parquet").sort(KEY).write_parquet(folder / "floor.parquet")


def _ours(folder: Path) -> None:
    from benchmarks.orders import AS_OF
    from ecom_tasks.cli import main as command

    arguments = [
        "run", "ingestion", "--as-of", str(AS_OF), "--root", f"file://{folder}/lake",
        "--source", str(folder / "generated.toml"),
    ]  # fmt: skip
    if code := command(arguments):
        raise SystemExit(code)


def _pandas(folder: Path) -> None:
    import logging

    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    rows = pd.read_parquet(folder / "orders").sort_values(KEY)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("lake").add_dataframe_asset("order_lines")
    batch = asset.add_batch_definition_whole_dataframe("all")
    # What the suite asks of single columns; the rest of ours are queries, which pandas has not.
    suite = json.loads((Path(__file__).parents[1] / "expectations/order_lines.json").read_text())
    asked = [
        each for each in suite["expectations"]
        if each["kwargs"].get("column") in rows.columns
        and "$" not in json.dumps(each["kwargs"])
    ]  # fmt: skip
    for each in asked:
        each.pop("meta", None)
    checked = context.suites.add(gx.ExpectationSuite(name="order_lines", expectations=asked))
    definition = gx.ValidationDefinition(name="order_lines", data=batch, suite=checked)
    context.validation_definitions.add(definition)
    definition.run(batch_parameters={"dataframe": rows})
    rows.to_parquet(folder / "pandas.parquet")


def contend(name: str, folder: Path) -> None:
    """Run one contender in this process."""
    {"floor": _floor, "ours": _ours, "pandas": _pandas}[name](folder)


def measure_all(lines: int, folder: Path) -> list[dict[str, Any]]:
    """Return seconds and memory of every contender at one size."""
    from benchmarks.measure import measure
    from benchmarks.orders import write_source

    write_source(folder, lines)
    rows: list[dict[str, Any]] = []
    for name in CONTENDERS:
        done = measure(
            ["-m", "benchmarks.ingestion", "--contend", name, str(folder)],
            {"ECOM_PSEUDONYM_KEY": secrets.token_hex(32)},
        )
        rows.append({
            "lines": lines, "contender": name, "seconds": done.seconds,
            "peak_bytes": done.peak_bytes,
        })  # fmt: skip
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown, with ratios to the floor at the same size."""
    told = [
        "| order lines | contender | seconds | ratio | lines a second | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        floor = next(r for r in rows if r["lines"] == row["lines"] and r["contender"] == "floor")
        told.append(
            f"| {row['lines'] / 1e6:g} million | {row['contender']} | {row['seconds']:.1f} "
            f"| {row['seconds'] / floor['seconds']:.2f} | {row['lines'] / row['seconds']:,.0f} "
            f"| {row['peak_bytes'] / (1 << 20):,.0f} MiB |"
        )
    return "\n".join(told)


def main() -> None:
    """Measure, and print the table."""
    from benchmarks.measure import machine

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for millions in options.millions:
        with tempfile.TemporaryDirectory(prefix="ecom-bench-") as scratch:
            rows += measure_all(int(millions * 1e6), Path(scratch))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{machine()}\n\n{table(rows)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contend"]:
        contend(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
