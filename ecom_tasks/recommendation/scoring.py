"""What a consumer needs to score with the models of a release, without this package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ecom_tasks.recommendation.candidates.sequence import Fitted
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.snapshots import PAIR

if TYPE_CHECKING:
    import keras

CUSTOMERS = 3


def sequence_sample(fitted: Fitted, config: RecommendationConfig) -> dict[str, pl.DataFrame]:
    """Return the transformer's products, and a few histories with where they lead.

    Returns
    -------
    `sequence_products`: product_id and vector, the product of number 1 first;
    `histories`: customer_id, products (numbers, oldest first), gaps, state
    """
    # TensorFlow is for those who trained; the making of lists needs none.
    from ecom_tasks.training import sequence_model

    length = config.sequence_length
    vectors = sequence_model.product_vectors(fitted.model)
    some = [row for row, each in enumerate(fitted.histories) if len(each.products)][:CUSTOMERS]
    past = [fitted.histories[row] for row in some]
    states = sequence_model.last_states(fitted.model, past, length)
    return {
        "sequence_products": fitted.products.select("product_id").with_columns(
            pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))
        ),
        "histories": pl.DataFrame(
            {
                "customer_id": fitted.customers["customer_id"].gather(some),
                "products": [each.products[-length:].tolist() for each in past],
                "gaps": [each.gaps[-length:].tolist() for each in past],
                "state": states.tolist(),
            },
            schema_overrides={
                "products": pl.List(pl.Int32),
                "gaps": pl.List(pl.Int32),
                "state": pl.List(pl.Float32),
            },
        ),
    }


def ranker_sample(candidates: pl.DataFrame, scored: pl.DataFrame) -> pl.DataFrame:
    """Return the candidates of a few customers with all features and the ranker's score."""
    some = candidates.select("customer_id").unique().sort("customer_id").head(CUSTOMERS)
    rows = candidates.join(some, on="customer_id", how="semi")
    return rows.join(scored.select(*PAIR, "score"), on=PAIR).sort(PAIR)


def save(model: keras.Model, folder: Path) -> None:
    """Write the transformer as Keras file and as ONNX."""
    from ecom_tasks.training import sequence_model, two_tower

    two_tower.save(model, folder / "sequence.keras")
    sequence_model.export_onnx(model, folder / "sequence.onnx")


def example() -> str:
    """Return the text of the program that scores."""
    return resources.files(__package__).joinpath("scoring_example.py").read_text(encoding="utf-8")
