"""The whole path over sizes: wall time, peak memory, and what is spent outside computing.

    python -m benchmarks.pipeline [--millions 1 10] [--flows ingestion features ...] [--json OUT]
                                  [--folder FOLDER]

A generated shop goes through the flows as `python -m ecom_tasks run` does it, one command a flow,
with the settings of the demonstration. Each task says how long it took to make its artefact; the
rest of the command is starting up, importing and reading what is there. What Airflow adds on top is
measured on the demonstration (`python -m benchmarks.orchestration`).

With `--folder` what is done stays there when the benchmark is cut off, and is not measured again; a
flow that was cut off begins anew.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

FLOWS = ("ingestion", "features", "recommendation", "pricing", "inventory")
BUCKET_LINES = 1_250_000
KEY = "00" * 32
_MADE = re.compile(r"made \S+ \S+: .*? files, (\d+\.\d+) s")


def run_flow(flow: str, folder: Path, lines: int, key: str) -> dict[str, Any]:
    """Run one flow on what is in `folder`; return its figures."""
    from benchmarks.measure import measure

    log = folder / f"{flow}.log"
    buckets = max(8, -(-lines // BUCKET_LINES))
    arguments = ["--flow", flow, str(folder), str(log), str(buckets)]
    done = measure(["-m", "benchmarks.pipeline", *arguments], {"ECOM_PSEUDONYM_KEY": key})
    made = sum(map(float, _MADE.findall(log.read_text())))
    return {
        "lines": lines, "flow": flow, "seconds": done.seconds, "peak_bytes": done.peak_bytes,
        "outside": max(1 - made / done.seconds, 0.0),
    }  # fmt: skip


def _run(flow: str, folder: Path, log: Path, buckets: str) -> int:
    """Be the command of one flow, its log in a file."""
    from benchmarks.orders import AS_OF
    from ecom_tasks.cli import main as command
    from ecom_tasks.demo.quick import QUICK

    with log.open("w") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    settings = [
        f"--set={domain}.{name}={json.dumps(value) if not isinstance(value, str) else value}"
        for domain, dials in QUICK.items()
        for name, value in dials.items()
    ]
    source = ["--source", str(folder / "generated.toml")] if flow == "ingestion" else []
    code = command([
        "run", flow, "--as-of", str(AS_OF), "--root", f"file://{folder}/lake", *source,
        f"--set=ingestion.buckets={buckets}", *settings,
    ])  # fmt: skip
    # Generated sales do not answer to prices, so that the gate refuses what was made of them.
    refused = flow == "pricing" and "ModelRejectedError" in log.read_text()
    return 0 if refused else code


def power(sizes: list[float], values: list[float]) -> float:
    """Return the power of the size by which the values grow; 1 is linear."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measure_all(
    millions: list[float], flows: list[str], kept: Path | None = None
) -> list[dict[str, Any]]:
    """Return the figures of every flow at every size."""
    from benchmarks.measure import folder_for, once
    from benchmarks.orders import write_source

    rows: list[dict[str, Any]] = []
    for size in millions:
        lines = int(size * 1e6)
        with folder_for(kept, f"pipeline-{size:g}") as folder:
            if not (folder / "generated.toml").exists():  # written last
                _tell(f"{size:g} million: writing the source to {folder}")
                write_source(folder, lines)
            for flow in flows:
                rows.append(once(folder, flow, partial(_begin_anew, flow, folder, lines)))
                _tell(f"{flow}, {size:g} million: {rows[-1]['seconds']:.0f} s")
    return rows


def _begin_anew(flow: str, folder: Path, lines: int) -> dict[str, Any]:
    """Run a flow as if it had never been begun."""
    made = {"ingestion": ["."], "features": ["features"]}
    for place in made.get(flow, [f"work/{flow}", f"artefacts/{flow}"]):
        shutil.rmtree(folder / "lake" / place, ignore_errors=True)
    _tell(f"{flow}, {lines / 1e6:g} million: begun; its log is {folder / flow}.log")
    return run_flow(flow, folder, lines, KEY)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown, and how each flow grows."""
    told = [
        "| order lines | flow | seconds | lines a second | peak memory | outside the tasks' work |",
        "|---|---|---|---|---|---|",
    ]
    told += [
        f"| {row['lines'] / 1e6:g} million | {row['flow']} | {row['seconds']:.1f} "
        f"| {row['lines'] / row['seconds']:,.0f} | {row['peak_bytes'] / (1 << 20):,.0f} MiB "
        f"| {100 * row['outside']:.0f}% |"
        for row in rows
    ]
    if len({row["lines"] for row in rows}) > 1:
        powers = ", ".join(f"{flow} {value:.2f}" for flow, value in growth(rows).items())
        told += ["", f"Power of the order lines by which the time grows (1: linear): {powers}."]
    return "\n".join(told)


def growth(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the power of growth of each flow, and of all together."""
    sizes = sorted({row["lines"] for row in rows})
    flows = list(dict.fromkeys(row["flow"] for row in rows))
    seconds = {(row["flow"], row["lines"]): row["seconds"] for row in rows}
    found = {flow: power(sizes, [seconds[flow, size] for size in sizes]) for flow in flows}
    return found | {"all": power(sizes, [sum(seconds[f, s] for f in flows) for s in sizes])}


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw seconds and peak memory over order lines, both scales logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "pipeline", "svg.fonttype": "none"}
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for flow in dict.fromkeys(row["flow"] for row in rows):
        known = [row for row in rows if row["flow"] == flow]
        lines = [row["lines"] for row in known]
        left.plot(lines, [row["seconds"] for row in known], marker="o", label=flow)
        right.plot(lines, [row["peak_bytes"] / (1 << 30) for row in known], marker="o", label=flow)
    for axes, title in ((left, "seconds"), (right, "peak memory of all processes, GiB")):
        axes.set(xscale="log", yscale="log", xlabel="order lines", title=title)
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Measure, and print the table."""
    from benchmarks.measure import machine

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--flows", nargs="+", choices=FLOWS, default=list(FLOWS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="keeps what is done when this is cut off")
    parser.add_argument("--plot", type=Path, help="SVG of how cost grows")
    options = parser.parse_args()
    rows = measure_all(options.millions, options.flows, options.folder)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if options.plot:
        plot(rows, options.plot)
    print(f"{machine()}\n\n{table(rows)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--flow"]:
        raise SystemExit(_run(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5]))
    main()
