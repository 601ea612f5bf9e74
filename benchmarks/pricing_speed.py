"""What elasticities of a catalogue cost, in time and memory, beside EconML, and how that grows.

    python -m benchmarks.pricing speed --sizes 250x10 500x20 1000x50 --peer 100x20 --folder FOLDER

Each size, products x locations over 104 weeks, is a simulated shop in one Parquet file, generated
400 products at a time (not counted). Ours is the backtest: reading and checking of the file, all
elasticities own and cross with their tests. EconML's LinearDML gets its rows ready made in memory,
off the same levels (of series, of a product's and of a store's week), the same controls, trees of
the same size, and an elasticity for each product; only its own work is timed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
WEEKS = 104
BOUND = 8 << 30
TARGET_SECONDS = 600
_AT_ONCE = 400
_COLUMNS = {"product": "product", "time": "week", "price": "price", "units": "units",
            "location": "store", "category": "category"}  # fmt: skip
_PROMOTIONS = ("price_cut", "display", "mailer")


def generate(folder: Path, products: int, stores: int) -> Path:
    """Write a shop's panel and its true elasticities, a block of categories at a time."""
    import polars as pl
    import pyarrow.parquet as pq

    from ecom_tasks.sample_store import panel, world

    path = folder / f"panel-{products}x{stores}.parquet"
    truth = path.with_name(path.name.replace("panel", "truth"))
    if truth.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    writer, truths = None, []
    for block, start in enumerate(range(0, products, _AT_ONCE)):
        scale = world.Scale(products=min(_AT_ONCE, products - start), stores=stores, weeks=WEEKS,
                            customers=max(3000, stores), seed=block)  # fmt: skip
        shop = world.create(scale)
        named = [
            (pl.lit(f"B{block:03d}") + pl.col("product")).alias("product"),
            (pl.col("category") + f" of block {block}").alias("category"),
        ]
        rows = panel.simulate(shop).select(*_COLUMNS.values(), *_PROMOTIONS).with_columns(named)
        writer = writer or pq.ParquetWriter(path, rows.to_arrow().schema)
        writer.write_table(rows.to_arrow(), row_group_size=200_000)
        print(f"generated {start + scale.products} of {products} products", file=sys.stderr)
        truths.append(panel.own_truth(shop).with_columns(named).select("product", "elasticity"))
    if writer:
        writer.close()
    pl.concat(truths).write_parquet(truth)
    return path


def columns() -> Any:
    """Say what the columns of the panel mean."""
    from ecom_tasks.pricing.panel_file import Columns

    return Columns(**_COLUMNS, promotions=_PROMOTIONS)


def error(found: dict[str, float], path: Path) -> float:
    """Return the root mean squared error of products' elasticities."""
    import polars as pl

    truth = pl.read_parquet(path.with_name(path.name.replace("panel", "truth")))
    return (
        float(sum((found[name] - true) ** 2 for name, true in truth.iter_rows()) / truth.height)
        ** 0.5
    )


def ours(path: Path) -> Figures:
    """Read, check and learn all; say on stderr which part is done."""
    from ecom_tasks.pricing import backtest, panel_file
    from ecom_tasks.pricing.config import PricingConfig

    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("ecom_tasks.logs").setLevel(logging.DEBUG)
    began = time.monotonic()
    found, _ = backtest.run(panel_file.read(path, columns()), PricingConfig())
    seconds = time.monotonic() - began
    estimates = {row["product"]: row["estimate"] for row in found["products"]}
    return {
        "seconds": seconds,
        "cpu_seconds": sum(os.times()[:4]),
        "peak_bytes": found["peak_memory_bytes"],
        "rmse": error(estimates, path),
        "rows": found["pooled"]["rows"],
        "cross_found": found["pooled"]["cross_effects_found"],
    }


def econml(path: Path) -> Figures:
    """Estimate an elasticity of each product by LinearDML; only its own work is timed."""
    import resource
    import warnings
    from datetime import timedelta

    import numpy as np
    import polars as pl
    from econml.dml import LinearDML
    from xgboost import XGBRegressor

    from ecom_tasks.pricing import absorb, controls, layout, panel_file
    from ecom_tasks.pricing.config import PricingConfig
    from ecom_tasks.pricing.panel import WEEK, fill_quiet_weeks

    config = PricingConfig()
    weeks = panel_file.read(path, columns()).weeks.collect()
    after = pl.Series([weeks[WEEK].max()])[0] + timedelta(weeks=1)
    rows = controls.prepare(fill_quiet_weeks(weeks, 0), after, config).filter(pl.col("units") > 0)
    rows = absorb.choose(rows)
    even, levels = np.ones(rows.height), layout.levels(rows)
    units = absorb.demean(rows["units"].log().to_numpy(), even, levels)
    price = absorb.demean(rows["log_price"].to_numpy(), even, levels)
    names = rows["product_id"].unique().sort().to_list()
    # An elasticity for each product: one column each, the first of them the intercept.
    effects = np.zeros((rows.height, len(names) - 1))
    place = rows["product_id"].rank("dense").to_numpy().astype(int) - 1
    effects[np.flatnonzero(place), place[place > 0] - 1] = 1.0
    others = np.nan_to_num(controls.matrix(rows, ("last_price",)))

    def trees() -> Any:
        return XGBRegressor(
            n_estimators=config.trees, max_depth=config.depth, learning_rate=config.learning_rate,
            max_bin=64, n_jobs=len(os.sched_getaffinity(0)), random_state=0,
        )  # fmt: skip

    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = LinearDML(model_y=trees(), model_t=trees(), cv=config.folds, random_state=0)
        peer.fit(units, price, X=effects, W=others)
        each = np.vstack([np.zeros(len(names) - 1), np.eye(len(names) - 1)])
        estimates = peer.const_marginal_effect_inference(each).point_estimate.ravel()
    seconds = time.monotonic() - began
    return {
        "seconds": seconds,
        "cpu_seconds": sum(os.times()[:4]),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "rmse": error(dict(zip(names, estimates.tolist(), strict=True)), path),
        "rows": rows.height,
    }


def child(name: str, path: Path) -> Figures:
    """Measure one contender in a process of its own; a failure is told, not raised."""
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.pricing_speed", "--part", name, str(path)],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if told.returncode:
        return {"failed": f"ended with {told.returncode}"}
    figures: Figures = json.loads(told.stdout.splitlines()[-1])
    return figures


def power(sizes: list[Figures]) -> Figures:
    """Return the power of the rows by which seconds and memory grow; 1 is linear."""
    import numpy as np

    known = [each["ours"] for each in sizes if "failed" not in each["ours"]]
    if len(known) < 2:
        return {}
    log = np.log([each["rows"] for each in known])
    return {
        name: round(float(np.polyfit(log, np.log([each[name] for each in known]), 1)[0]), 3)
        for name in ("seconds", "cpu_seconds", "peak_bytes")
    }


def plot(sizes: list[Figures], path: Path) -> None:
    """Draw seconds and peak memory over rows, both scales logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    # Same figures, same bytes.
    mpl.rcParams |= {"svg.hashsalt": "pricing", "svg.fonttype": "none"}
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for name in ("ours", "econml"):
        known = [each[name] for each in sizes if name in each and "failed" not in each[name]]
        rows = [each["rows"] for each in known]
        left.plot(rows, [each["seconds"] for each in known], marker="o", label=name)
        right.plot(rows, [each["peak_bytes"] / (1 << 30) for each in known], marker="o", label=name)
    left.axhline(TARGET_SECONDS, color="grey", linestyle="--", label="must reach, 52 million rows")
    right.axhline(BOUND / (1 << 30), color="grey", linestyle="--", label="bound")
    for axes, title in ((left, "seconds"), (right, "peak memory, GiB")):
        axes.set(xscale="log", yscale="log", xlabel="rows", title=title)
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main(words: list[str]) -> None:
    """Measure ours at all sizes, EconML at some, each alone; write figures and plot."""
    from benchmarks.measure import machine

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pricing speed", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--sizes", nargs="+", required=True, help="PRODUCTSxLOCATIONS, over 104 weeks")
    add("--peer", nargs="*", default=[], help="sizes at which EconML runs, too")
    add("--folder", type=Path, required=True, help="where shops are kept between runs")
    add("--json", type=Path, help="write all figures there; sizes that are there are kept")
    add("--plot", type=Path, help="figure, .svg or .png")
    arguments = parser.parse_args(words)
    kept: Figures = {}
    if arguments.json and arguments.json.exists():
        kept = {each["size"]: each for each in json.loads(arguments.json.read_text())["sizes"]}
    for size in arguments.sizes:
        path = generate(arguments.folder, *map(int, size.split("x")))
        found = kept.setdefault(size, {"size": size})
        for name in ("ours", "econml") if size in arguments.peer else ("ours",):
            if name not in found:
                found[name] = child(name, path) | {"load": os.getloadavg()[0]}
        print(json.dumps(found), flush=True)
        if arguments.json:
            figures = {"machine": machine(), "sizes": list(kept.values())}
            arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    sizes = sorted(kept.values(), key=lambda each: each["ours"].get("rows", 0))
    print(json.dumps({"machine": machine(), "power": power(sizes)}))
    if arguments.plot:
        plot(sizes, arguments.plot)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        print(json.dumps({"ours": ours, "econml": econml}[sys.argv[2]](Path(sys.argv[3]))))
    else:
        main(sys.argv[1:])
