"""Score with the models of a release, without the package that made them.

Needs the release's folder, numpy, polars, xgboost and onnxruntime:
`python scoring_example.py FOLDER`. It repeats the scores of a few candidates and of a few histories
that came with the release, says how far it is off, and shows what to recommend to each.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

NEXT = 5


def rank_candidates(folder: Path) -> float:
    """Score candidate pairs with the ranker; return the largest difference to the release's."""
    import xgboost as xgb

    model = xgb.Booster(model_file=folder / "models/ranker.ubj")
    names = model.feature_names
    rows = pl.read_parquet(folder / "scoring/candidates.parquet")
    # One column a feature, in the model's order; what is unknown is NaN. The raw output
    # (`output_margin`) is the score: the higher, the better.
    features = rows.select(names).to_numpy().astype(np.float32)
    scores = model.predict(xgb.DMatrix(features, feature_names=names), output_margin=True)
    if (folder / "models/ranker_network.npz").exists():
        with np.load(folder / "models/ranker_network.npz") as network:
            share = network["share"]
            scores = (1 - share) * scores + share * log_rate(network, features)
    best = rows.select("customer_id", "product_id").with_columns(pl.Series("score", scores))
    best = best.sort("customer_id", "score", descending=[False, True])
    print(best.group_by("customer_id", maintain_order=True).head(NEXT))
    return float(np.abs(scores - rows["score"].to_numpy()).max())


def log_rate(network: Mapping[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """Run features through the network beside the trees: the mean of all its members."""
    coded = []
    # Where a value lies among the quantiles of its column, from -1.7 to 1.7; 0 where unknown.
    for column, row in zip(features.T, network["knots"], strict=True):
        knots = row[np.isfinite(row)]
        levels = np.linspace(-1.7, 1.7, len(knots)) if len(knots) > 1 else np.zeros(1)
        places = np.interp(column, knots, levels) if len(knots) else column
        coded.append(np.where(np.isnan(column), 0, places))
    coded += list(np.isnan(features[:, network["unknown"]]).T)
    members = sorted({name.split("_")[1] for name in network if name.startswith("kernel_")})
    found = []
    for member in members:
        values = np.column_stack(coded)
        layers = sorted(name for name in network if name.startswith(f"kernel_{member}_"))
        for name in layers:
            values = values @ network[name] + network[name.replace("kernel", "bias")]
            if name != layers[-1]:
                values = values / (1 + np.exp(-values))
        found.append(values[:, 0])
    mean: np.ndarray = np.mean(found, axis=0)
    return mean


def what_comes_next(folder: Path) -> float:
    """Run histories through the transformer; return the largest difference to the release's."""
    import onnxruntime

    products = pl.read_parquet(folder / "scoring/sequence_products.parquet")
    vectors = products["vector"].to_numpy()
    rows = pl.read_parquet(folder / "scoring/histories.parquet")
    session = onnxruntime.InferenceSession(folder / "models/sequence.onnx")
    off = 0.0
    for customer, history, gaps, expected in rows.iter_rows():
        # Oldest first, products by their number from 1 on; 0 would be padding on the left.
        asked = {"products": np.array([history], np.int32), "gaps": np.array([gaps], np.int32)}
        (state,) = session.run(["state"], asked)
        scores = vectors @ state[0]
        scores[np.array(history) - 1] = -np.inf  # already bought
        following = products["product_id"].gather(np.argsort(-scores, kind="stable")[:NEXT])
        print(customer, "->", ", ".join(following))
        off = max(off, float(np.abs(state[0] - np.array(expected)).max()))
    return off


def main() -> int:
    """Score both ways; return 1 if anything differs from what the release says."""
    folder = Path(sys.argv[1])
    off = {"transformer": what_comes_next(folder)}
    # Where there was too little history for a ranker, the release has none.
    if (folder / "models/ranker.ubj").exists():
        off["ranker"] = rank_candidates(folder)
    for name, value in off.items():
        print(f"{name}: at most {value:.2g} off")
    return int(max(off.values()) > 1e-3)


if __name__ == "__main__":
    sys.exit(main())
