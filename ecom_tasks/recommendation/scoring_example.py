"""Score with the models of a release, without the package that made them.

Needs the release's folder, numpy, polars, xgboost and onnxruntime:
`python scoring_example.py FOLDER`. It repeats the scores of a few candidates and of a few histories
that came with the release, says how far it is off, and shows what to recommend to each.
"""

from __future__ import annotations

import sys
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
    best = rows.select("customer_id", "product_id").with_columns(pl.Series("score", scores))
    best = best.sort("customer_id", "score", descending=[False, True])
    print(best.group_by("customer_id", maintain_order=True).head(NEXT))
    return float(np.abs(scores - rows["score"].to_numpy()).max())


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
