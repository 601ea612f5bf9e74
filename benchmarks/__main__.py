"""Measure everything beside its peers, and write the tables and plots (`make bench`).

    python -m benchmarks [PART ...] [--long]

Each part is a program of its own with `--help`. Its table replaces the one between its markers in
`benchmarks/RESULTS.md`. `--long` adds the largest sizes, and takes an hour or more; features and
pipeline go on where they were cut off. Peers that are
not among this project's dependencies (RecTools, mlforecast, EconML) are measured where
`ECOM_BENCH_PEERS` names the interpreter of an environment that has them, and left out elsewhere.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
PEERS = os.environ.get("ECOM_BENCH_PEERS", "")
SCRATCH = Path(tempfile.gettempdir()) / "ecom-benchmarks"


def parts(*, long: bool) -> dict[str, list[str]]:
    """Return the command of each part."""
    millions = ["1", "10", "50"] if long else ["1", "10"]
    rectools = ["--rectools-python", PEERS] if PEERS else []
    return {
        "features": ["benchmarks.features", "--millions", *millions, "--folder", str(SCRATCH)],
        "ingestion": ["benchmarks.ingestion", "--millions", "1", "10"],
        "recommendation": [
            "benchmarks.recommendation", "--generated", "100000", "20000", "5000000",
            "--scratch", str(SCRATCH / "recommendation"), *rectools,
        ],
        "inventory": [
            "benchmarks.inventory", "speed", "--series", *(["1000", "10000", "100000"] if long
                                                          else ["1000"]),
            "--scratch", str(SCRATCH), "--peers", PEERS or sys.executable,
            *(["--plot", str(HERE.parent / "docs/images/inventory-speed.svg")] if long else []),
        ],
        "pricing": [
            "benchmarks.pricing", "speed", "--sizes", "250x10", *(["500x20", "1000x50"] if long
                                                                 else []),
            "--folder", str(SCRATCH / "pricing"),
            *(["--plot", str(HERE / "pricing-growth.svg")] if long else []),
        ],
        "pipeline": [
            "benchmarks.pipeline", "--millions", *millions, "--flows", "ingestion", "features",
            "--plot", str(HERE / "pipeline-growth.svg"), "--folder", str(SCRATCH),
        ],
        "publish": ["benchmarks.publish"],
    }  # fmt: skip


def written(text: str, name: str, table: str) -> str:
    """Return `text` with what stands between the markers of `name` replaced by `table`."""
    start, end = f"<!-- {name}: written by make bench -->", f"<!-- {name}: end -->"
    block = f"{start}\n{table.strip()}\n{end}"
    found = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not found.search(text):
        title = f"## {name.capitalize()} (`python -m benchmarks {name}`)"
        return f"{text.rstrip()}\n\n{title}\n\n{block}\n"
    return found.sub(lambda _: block, text)


def _as_markdown(output: str) -> str:
    """Leave tables as they are; what has none is shown as it was printed."""
    return output if "|---" in output else f"```\n{output.strip()}\n```"


def main() -> int:
    """Run the parts one after the other; a part that fails leaves its table as it was."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts(long=False)))
    parser.add_argument("--long", action="store_true", help="the largest sizes, too")
    options = parser.parse_args()
    commands = parts(long=options.long)
    if unknown := set(options.parts) - set(commands):
        parser.error(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(commands)}")
    for folder in ("recommendation", "pricing"):
        (SCRATCH / folder).mkdir(parents=True, exist_ok=True)
    failed = []
    for name in options.parts or commands:
        started = time.monotonic()
        print(f"{name}: {' '.join(commands[name])}", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", *commands[name]], stdout=subprocess.PIPE, text=True, check=False
        )
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        if done.returncode:
            failed.append(name)
            continue
        text = RESULTS.read_text(encoding="utf-8")
        RESULTS.write_text(written(text, name, _as_markdown(done.stdout)), encoding="utf-8")
    if failed:
        print(f"failed, tables left as they were: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
