"""Recommendation at scale: ALS and the best 100 products of every customer, beside its peers.

    python -m benchmarks.recommendation --data gowalla FILE [--json OUT]
    python -m benchmarks.recommendation --generated 1000000 100000 50000000 [--json OUT]
    python -m benchmarks.recommendation --growth [--json OUT] [--plot OUT.svg]

`--only PART ...` runs some of the contenders; with `--json OUT` their figures join those that OUT
has of the same data, settings and machine, so that a large size can be measured in several calls.

Contenders, each a fresh interpreter on the same matrix with the same settings:

ours      `als.factorise`, then blocks of scores and the best new products, as arrays
implicit  the library alone: `fit`, then `recommend` for all, filtering what is owned
rectools  the same model through RecTools, tables in, tables out. It is not among this project's
          dependencies; give the interpreter of an environment that has it:

              python3.11 -m venv ENV && ENV/bin/pip install rectools==0.19.0
              ... --rectools-python ENV/bin/python

`encode` is what ours needs before that: from a table of ids to the matrix. `scoring` sets our
scoring, with owned products left out and the best chosen, beside BLAS that only multiplies the
same factors, in alternating rounds over the same customers. Both peers run with one thread in BLAS,
as implicit asks, since it has threads of its own.

Other work on the machine moves wall times; `cpu s` is the time of all cores for all steps. Peak
memory is a process's largest resident set, with its input. Growth adds customers, with as many
purchases each, to the same products. Generated purchases have a power law of popularity, and
tastes: most are of a customer's own group of products.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

BOUND = 12 << 30
MILLIONS = (1, 2, 5, 10, 20, 50)
TASTES = 50
OWN_TASTE = 0.7
STEEPNESS = 2.5
CHUNK = 20_000
ROUNDS = 3
SAMPLE = 50_000
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
Settings = dict[str, Any]


# Data, written once by a process of its own


def generate(path: str, customers: int, products: int, interactions: int) -> Settings:
    """Write seeded purchases, chunk by chunk of customers, as a matrix customers x products."""
    import numpy as np
    from scipy import sparse

    rng = np.random.default_rng(7)
    names = rng.permutation(products).astype(np.int32)
    tastes = min(TASTES, products)
    size = products // tastes
    columns, orders, counts = [], [], []
    for start in range(0, customers, CHUNK):
        stop = min(start + CHUNK, customers)
        # What is to be spread is the difference of two roundings, so that the sum is exact.
        total = interactions * stop // customers - interactions * start // customers
        weight = rng.lognormal(size=stop - start)
        each = 1 + rng.multinomial(total - len(weight), weight / weight.sum())
        customer = np.repeat(np.arange(len(weight)), each)
        draw = rng.random(total) ** STEEPNESS
        # Ranks that leave the same remainder by the number of tastes form one taste.
        rank = (draw * size).astype(np.int64) * tastes + (customer + start) % tastes
        any_rank = (draw * products).astype(np.int64)
        product = names[np.where(rng.random(total) < OWN_TASTE, rank, any_rank)]
        chunk = sparse.csr_matrix(
            (np.ones(total, dtype=np.float32), (customer, product)), shape=(len(weight), products)
        )
        columns.append(chunk.indices.astype(np.int32))
        orders.append(chunk.data)
        counts.append(np.diff(chunk.indptr))
    start_of = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int32)
    matrix = sparse.csr_matrix(
        (np.concatenate(orders), np.concatenate(columns), start_of), shape=(customers, products)
    )
    return _write(path, matrix)


def convert(path: str, source: str) -> Settings:
    """Write the pairs of a Parquet file, columns user and item, as such a matrix."""
    import numpy as np
    import polars as pl
    from scipy import sparse

    pairs = pl.read_parquet(source, columns=["user", "item"])
    ones = np.ones(pairs.height, dtype=np.float32)
    at = pairs["user"].to_numpy(), pairs["item"].to_numpy()
    return _write(path, sparse.csr_matrix((ones, at)))


def _write(path: str, orders: Any) -> Settings:
    from scipy import sparse

    unfinished = Path(path).with_suffix(".part.npz")
    sparse.save_npz(unfinished, orders, compressed=False)
    unfinished.rename(path)
    return shape_of(path)


def shape_of(path: str) -> Settings:
    """Return how large the data are."""
    from scipy import sparse

    orders = sparse.load_npz(path)
    customers, products = orders.shape
    return {
        "customers": customers,
        "products": products,
        "interactions": int(orders.data.sum()),
        "pairs": int(orders.nnz),
    }


def load(path: str) -> Any:
    """Return log(1 + orders), shape (customers, products), float32."""
    import numpy as np
    from scipy import sparse

    orders = sparse.load_npz(path).tocsr()
    orders.sort_indices()
    np.log1p(orders.data, out=orders.data)
    return orders


# Parts; each prints what it measured, as JSON


class Laps:
    """A stopwatch that counts the seconds of the wall's clock and of all cores."""

    def __init__(self) -> None:
        self.figures: Settings = {}
        self._at = time.perf_counter(), time.process_time()

    def lap(self, name: str) -> None:
        """Enter what has passed since the last lap."""
        now = time.perf_counter(), time.process_time()
        for suffix, before, after in zip(("", "_cpu"), self._at, now, strict=True):
            self.figures[name + suffix] = after - before
        self._at = time.perf_counter(), time.process_time()


def encode(path: str, _settings: Settings) -> Settings:
    """Time the way from a table of ids to the matrices."""
    import numpy as np
    import polars as pl

    from ecom_tasks.recommendation.candidates import matrix

    orders = load(path)
    customers, products = orders.shape
    customer_ids = pl.Series([f"customer-{each:08}" for each in range(customers)])
    product_ids = pl.Series([f"product-{each:07}" for each in range(products)])
    row = np.repeat(np.arange(customers, dtype=np.uint32), np.diff(orders.indptr))
    table = pl.DataFrame({
        "customer_id": customer_ids.gather(row),
        "product_id": product_ids.gather(orders.indices.astype(np.uint32)),
        "orders": np.expm1(orders.data, dtype=np.float64),
        "recency_weighted_orders": np.full(orders.nnz, 0.5),
    })
    pairs = orders.nnz
    del orders, row
    laps = Laps()
    known = matrix.encode([table], products)
    laps.lap("prepare")
    assert known.orders.nnz == pairs
    return laps.figures | {"table_bytes": int(table.estimated_size())}


def ours(path: str, settings: Settings) -> Settings:
    """Time `als.factorise` and our scoring; leave the factors beside the data."""
    import numpy as np

    from ecom_tasks.recommendation.candidates import als

    known, config = _known(load(path)), _config(settings)
    laps = Laps()
    customers, products = als.factorise(known, config)
    laps.lap("fit")
    _, value = top_of_all(known.orders, customers, products, settings["k"])
    laps.lap("score")
    np.savez(_factors(path), customers=customers[:SAMPLE], products=products)
    return laps.figures | {"mean_score": _mean(value)}


def _known(orders: Any) -> Any:
    import polars as pl

    from ecom_tasks.recommendation.candidates.matrix import Interactions

    return Interactions(pl.DataFrame(), pl.DataFrame(), orders, orders)


def _config(settings: Settings) -> Any:
    from ecom_tasks.recommendation.config import RecommendationConfig

    dials = {f"als_{name}": value for name, value in settings["model"].items()}
    return RecommendationConfig(seed=settings["seed"], **dials)


def top_of_all(orders: Any, customers: Any, products: Any, k: int) -> tuple[Any, Any]:
    """Return the best new products of all and their scores, found as `als.generate` does."""
    import numpy as np

    from ecom_tasks.recommendation.candidates import matrix

    k = min(k, len(products))
    column = np.empty((len(customers), k), dtype=np.int32)
    value = np.empty((len(customers), k), dtype=np.float32)

    score = matrix.inner_products(customers, products)

    def best(part: slice) -> None:
        owned = matrix.owned_places(orders[part])
        column[part], value[part] = matrix.best_new(score(part), owned, k, -np.inf)

    matrix.in_threads(best, matrix.blocks(len(customers), len(products)))
    return column, value


def _mean(values: Any) -> float:
    """Average the scores of real proposals: contenders that do the same work agree on it."""
    import numpy as np

    return float(values[values > np.finfo(np.float32).min / 2].mean(dtype=np.float64))


def implicit(path: str, settings: Settings) -> Settings:
    """Time the library alone."""
    import numpy as np

    orders = load(path)
    model = _implicit_model(settings)
    laps = Laps()
    model.fit(orders, show_progress=False)
    laps.lap("fit")
    _, value = model.recommend(
        np.arange(orders.shape[0]), orders, N=settings["k"], filter_already_liked_items=True
    )
    laps.lap("score")
    return laps.figures | {"mean_score": _mean(value)}


def _implicit_model(settings: Settings) -> Any:
    from implicit.cpu.als import AlternatingLeastSquares

    return AlternatingLeastSquares(random_state=settings["seed"], **settings["model"])


def rectools(path: str, settings: Settings) -> Settings:
    """Time RecTools, from a table to a table; runs in an environment that has it."""
    import numpy as np
    import pandas as pd
    from rectools.dataset import Dataset
    from rectools.models import ImplicitALSWrapperModel

    orders = load(path)
    table = pd.DataFrame({
        "user_id": np.repeat(np.arange(orders.shape[0], dtype=np.int32), np.diff(orders.indptr)),
        "item_id": orders.indices,
        "weight": orders.data,
        "datetime": np.datetime64("2024-01-01", "ns"),
    })
    del orders
    model = ImplicitALSWrapperModel(_implicit_model(settings))
    laps = Laps()
    data = Dataset.construct(table)
    laps.lap("prepare")
    model.fit(data)
    laps.lap("fit")
    users = data.user_id_map.external_ids
    found = model.recommend(users, data, k=settings["k"], filter_viewed=True)
    laps.lap("score")
    return laps.figures | {"mean_score": float(found["score"].mean())}


def scoring(path: str, settings: Settings) -> Settings:
    """Time our scoring and BLAS alone, with the factors that `ours` left, in alternating rounds."""
    import numpy as np

    orders = load(path)
    with np.load(_factors(path)) as factors:
        customers, products = factors["customers"], factors["products"]
    orders = orders[: len(customers)]
    out = np.empty((min(1024, len(customers)), len(products)), dtype=np.float32)

    def multiply() -> None:
        for start in range(0, len(customers), len(out)):
            some = customers[start : start + len(out)]
            np.matmul(some, products.T, out=out[: len(some)])

    def score() -> None:
        top_of_all(orders, customers, products, settings["k"])

    rounds = []
    for _ in range(ROUNDS):
        laps = Laps()
        score()
        laps.lap("score")
        multiply()
        laps.lap("sgemm")
        rounds.append(laps.figures)
    figures = middle(rounds)
    work = 2 * len(customers) * products.size
    return figures | {
        "customers": len(customers),
        "ratio": figures["score"] / figures["sgemm"],
        "ratio_cpu": figures["score_cpu"] / figures["sgemm_cpu"],
        "sgemm_gflops": work / figures["sgemm"] / 1e9,
    }


def _factors(path: str) -> Path:
    return Path(path).with_suffix(".factors.npz")


PARTS = {
    "encode": encode, "ours": ours, "implicit": implicit, "rectools": rectools, "scoring": scoring,
}  # fmt: skip
MAKERS = {"generate": generate, "convert": convert}


# The benchmark


def child(name: str, *arguments: object, python: str = sys.executable) -> Settings:
    """Run a part in a fresh interpreter; return what it printed and its peak."""
    from benchmarks.measure import measure_one

    environment = {} if name == "scoring" else ONE_THREAD
    words = ["-m", "benchmarks.recommendation", "--part", name, json.dumps(arguments)]
    try:
        done = measure_one(words, python, environment)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return {"failed": str(error).rsplit("ended", 1)[-1].strip()}
    return json.loads(done.output.splitlines()[-1]) | {"peak_bytes": done.peak_bytes}


def prepare(arguments: argparse.Namespace, shape: tuple[int, int, int] | None) -> Path:
    """Return the path of the data, made now where they are not there yet."""
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    if shape is None:
        path = arguments.scratch / f"{arguments.data[0]}.npz"
        made = child("convert", str(path), str(Path(arguments.data[1]).resolve()))
    else:
        path = arguments.scratch / f"generated-{'x'.join(map(str, shape))}.npz"
        made = {} if path.exists() else child("generate", str(path), *shape)
    if "failed" in made:
        raise SystemExit(f"The data could not be made: {made['failed']}")
    return path


def compare(arguments: argparse.Namespace, path: Path, settings: Settings) -> Settings:
    """Run the contenders asked for on the data at `path`, in turn and round by round."""
    rounds: dict[str, list[Settings]] = {name: [] for name in PARTS if name in arguments.only}
    for _ in range(arguments.rounds):
        for name, found in rounds.items():
            python = arguments.rectools_python if name == "rectools" else sys.executable
            if python is None:
                found.append({"failed": "not installed"})
            else:
                found.append(child(name, str(path), settings, python=python))
            print(f"{name}: {json.dumps(found[-1])}", file=sys.stderr, flush=True)
    # A later call may want to score with them.
    if "scoring" in rounds:
        _factors(str(path)).unlink(missing_ok=True)
    return {name: middle(found) for name, found in rounds.items()}


def joined(figures: Settings, earlier: Path | None) -> Settings:
    """Return the figures with the parts that an earlier call wrote and this one did not run.

    Raises
    ------
    SystemExit
        They are of other data, settings or another machine, and cannot stand beside these.
    """
    if earlier is None or not earlier.exists():
        return figures
    before = json.loads(earlier.read_text())
    for what in ("machine", "settings", "data"):
        if before.get(what) != figures[what]:
            raise SystemExit(
                f"{earlier} has figures of another {what}: {before.get(what)}, not "
                f"{figures[what]}. Name another file, or remove it"
            )
    parts = before["parts"] | figures["parts"]
    return figures | {"parts": {name: parts[name] for name in PARTS if name in parts}}


def middle(found: list[Settings]) -> Settings:
    """Return the median of each figure, or the first failure."""
    failed = [each for each in found if "failed" in each]
    if failed:
        return failed[0]
    return {name: statistics.median(each[name] for each in found) for name in found[0]}


def show(data: Settings, parts: Settings) -> None:
    """Print one row a contender, with ratios to implicit alone."""
    from rich.console import Console
    from rich.table import Table

    from benchmarks.measure import machine

    title = "{customers:,} customers, {products:,} products, {interactions:,} interactions, "
    table = Table(title=(title + "{pairs:,} pairs").format(**data), caption=machine())
    for heading in (
        "part",
        "prepare s",
        "fit s",
        "score s",
        "cpu s",
        "fit+score",
        "GiB",
        "in bound",
    ):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    base = _total(parts.get("implicit", {}))  # 0 where it failed or was not run
    for name, part in parts.items():
        if "failed" in part:
            table.add_row(name, part["failed"])
            continue
        seconds = [f"{part[each]:.1f}" if each in part else "" for each in _STEPS]
        total = _total(part) if "fit" in part else None
        ratio = f"{total / base:.2f} x" if total and base else ""
        peak = part["peak_bytes"]
        within = "yes" if peak <= BOUND else "NO"
        cores = sum(part.get(f"{each}_cpu", 0) for each in _STEPS)
        table.add_row(name, *seconds, f"{cores:.1f}", ratio, f"{peak / (1 << 30):.1f}", within)
    console = Console(width=100)
    console.print(table)
    if "ratio" in parts.get("scoring", {}):
        text = "scoring {customers:,.0f} customers: {score:.2f} s, sgemm alone {sgemm:.2f} s "
        text += "({sgemm_gflops:.0f} GFLOPS), ratio {ratio:.2f} (target: at most 2), "
        text += "of the cores' time {ratio_cpu:.2f}"
        console.print(text.format(**parts["scoring"]))


_STEPS = ("prepare", "fit", "score")


def _total(part: Settings) -> float:
    return part.get("fit", 0.0) + part.get("score", 0.0)


def grow(arguments: argparse.Namespace, settings: Settings) -> list[Settings]:
    """Measure encoding and ours at each size; customers grow with interactions."""
    customers, products, largest = arguments.generated
    found = []
    for millions in arguments.millions:
        interactions = int(millions * 1e6)
        path = prepare(arguments, (customers * interactions // largest, products, interactions))
        parts = {name: child(name, str(path), settings) for name in ("encode", "ours")}
        _factors(str(path)).unlink(missing_ok=True)
        found.append(shape_of(str(path)) | {"parts": parts})
        print(json.dumps(found[-1]), file=sys.stderr)
    return found


def summarise(sizes: list[Settings]) -> Settings:
    """Return the power of the interactions by which seconds and memory grow; 1 is linear."""
    import numpy as np

    sizes = [each for each in sizes if not any("failed" in part for part in each["parts"].values())]
    log = np.log([each["interactions"] for each in sizes])
    rows = {
        "seconds": [sum(_total(p) + p.get("prepare", 0) for p in each["parts"].values())
                    for each in sizes],
        "peak_bytes": [max(p["peak_bytes"] for p in each["parts"].values()) for each in sizes],
    }  # fmt: skip
    if len(sizes) < 2:
        return {}
    return {name: float(np.polyfit(log, np.log(values), 1)[0]) for name, values in rows.items()}


def plot(sizes: list[Settings], path: Path) -> None:
    """Draw seconds and peak memory over interactions, both scales logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    lines = {"encode": ("encode", "prepare"), "fit": ("ours", "fit"), "score": ("ours", "score")}
    for label, (part, step) in lines.items():
        _line(left, sizes, label, [each["parts"][part].get(step) for each in sizes])
    for part in ("encode", "ours"):
        peaks = [each["parts"][part].get("peak_bytes", float("nan")) for each in sizes]
        _line(right, sizes, part, [peak / (1 << 30) for peak in peaks])
    right.axhline(BOUND / (1 << 30), color="grey", linestyle="--", label="bound")
    for axes, title in ((left, "seconds"), (right, "peak memory, GiB")):
        axes.set(xscale="log", yscale="log", xlabel="interactions", title=title)
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
    figure.savefig(path)
    pyplot.close(figure)


def _line(axes: Any, sizes: list[Settings], label: str, values: list[Any]) -> None:
    known = [float("nan") if value is None else value for value in values]
    axes.plot([each["interactions"] for each in sizes], known, marker="o", label=label)


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recommendation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", nargs=2, metavar=("gowalla", "FILE"), help="Parquet with columns user and item")
    add("--generated", nargs=3, type=int, metavar=("CUSTOMERS", "PRODUCTS", "INTERACTIONS"),
        default=(1_000_000, 100_000, 50_000_000), help="where there is no --data")  # fmt: skip
    add("--growth", action="store_true", help="cost of ours by size instead of contenders")
    add("--millions", nargs="+", type=float, default=MILLIONS, help="sizes of --growth")
    add("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART",
        help=f"of {', '.join(PARTS)}; scoring needs what ours leaves")  # fmt: skip
    add("--rectools-python", help="interpreter of an environment with RecTools")
    add("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "recommendation-benchmark",
        help="where data are kept between runs")  # fmt: skip
    add("--k", type=int, default=100, help="products a customer")
    add("--factors", type=int, help="dimensions, else the demonstration's")
    add("--iterations", type=int, help="sweeps of ALS, else the demonstration's")
    add("--rounds", type=int, default=1, help="of all contenders; medians are given")
    add("--json", type=Path, help="write all figures there")
    add("--plot", type=Path, default=Path("growth.svg"), help="figure of --growth, .svg or .png")
    return parser.parse_args(words)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return the settings that all contenders share: the defaults, or what was asked for."""
    from ecom_tasks.recommendation.config import RecommendationConfig

    config = RecommendationConfig()
    model = {
        "factors": arguments.factors or config.als_factors,
        "iterations": arguments.iterations or config.als_iterations,
        "regularization": config.als_regularization,
        "alpha": config.als_alpha,
    }
    return {"seed": config.seed, "k": arguments.k, "model": model}


def main(words: list[str]) -> None:
    """Print a table, or draw the growth; write the figures where asked."""
    from benchmarks.measure import machine

    arguments = parse(words)
    settings = settings_of(arguments)
    figures: Settings = {"machine": machine(), "settings": settings, "bound_bytes": BOUND}
    if arguments.growth:
        sizes = grow(arguments, settings)
        figures |= {"growth": sizes, "power": summarise(sizes)}
        plot(sizes, arguments.plot)
        print(f"seconds and memory grow with the interactions to the power of {figures['power']}")
    else:
        path = prepare(arguments, None if arguments.data else tuple(arguments.generated))
        figures |= {"data": shape_of(str(path)), "parts": {}}
        joined(figures, arguments.json)  # refused before anything is measured
        figures["parts"] = compare(arguments, path, settings)
        figures = joined(figures, arguments.json)
        show(figures["data"], figures["parts"])
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def part(name: str, arguments: list[Any]) -> None:
    """Be the child that measures one part."""
    # Should memory run out, this process goes, and nothing else of the machine.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    print(json.dumps((PARTS | MAKERS)[name](*arguments)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        part(sys.argv[2], json.loads(sys.argv[3]))
    else:
        main(sys.argv[1:])
