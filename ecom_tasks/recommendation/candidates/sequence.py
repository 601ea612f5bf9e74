"""What comes next: a sequential transformer over each customer's history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ecom_tasks import texts
from ecom_tasks.recommendation.candidates.matrix import (
    blocks,
    encode_among,
    most_bought,
    own_and_best,
)
from ecom_tasks.recommendation.config import RecommendationConfig

if TYPE_CHECKING:
    import keras

    from ecom_tasks.training import sequence_model

NAME, EVENT = "sequence", "event"
PROPOSED = {
    "customer_id": pl.String, "product_id": pl.String, "score": pl.Float64, "generator": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """A trained transformer, with what it was trained on.

    Attributes
    ----------
    products : product_id and column: what it knows; its numbers are one more than the columns
    customers : customer_id, ascending, and row, of those it was trained on; none once it was stored
    histories : one for each of them
    kinds : names of the kinds of events that it knows; their places from 1 are its numbers
    """

    model: keras.Model
    products: pl.DataFrame
    customers: pl.DataFrame
    histories: list[sequence_model.History]
    kinds: tuple[str, ...] = ()


def generate(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
    """Propose what follows on what the customer bought last, by a transformer trained on all.

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator: own products and the best new ones
    """
    return propose(fit([interactions], config), interactions, config)


def fit(parts: Iterable[pl.DataFrame], config: RecommendationConfig) -> Fitted:
    """Train the transformer on the order in which customers bought.

    Parameters
    ----------
    parts : of the feature table customer_products, or of `protocols.pairs`, all of a customer in
        one of them; with a column `event`, what kind of event each was is read too
    """
    # Ten seconds of import, which no other generator needs.
    from ecom_tasks.training import sequence_model

    products = most_bought(parts, config.matrix_products)
    everyone = pl.concat(texts.own(part.select("customer_id").unique()) for part in parts)
    customers = everyone.sort("customer_id").with_row_index("row")
    kinds: tuple[str, ...] = ()
    if EVENT in next(iter(parts)).columns:
        kinds = tuple(sorted(set[str]().union(*(part[EVENT] for part in parts))))
    past = histories(parts, customers, products, config, kinds)
    folder = Path(config.sequence_folder) if config.sequence_folder else None
    model = sequence_model.train(past, products.height, dials(config), folder, kinds=len(kinds))
    return Fitted(model, products, customers, past, kinds)


def load(file: Path, products: pl.Series) -> Fitted:
    """Read a trained transformer.

    Parameters
    ----------
    file : of `scoring.save`
    products : ids of the products that it knows, in the order of their numbers
    """
    from ecom_tasks.training import sequence_model

    numbered = products.alias("product_id").to_frame().with_row_index("column")
    customers = pl.DataFrame(schema={"row": pl.UInt32, "customer_id": pl.String})
    return Fitted(sequence_model.load(file), numbered, customers, [])


def propose(
    fitted: Fitted, interactions: pl.DataFrame, config: RecommendationConfig
) -> pl.DataFrame:
    """Propose what the transformer expects next, to every customer with a history.

    Products that came after it was trained are not known to it, nor customers who bought nothing
    else.

    Parameters
    ----------
    interactions : as for `fit`, of those who are proposed to, perhaps of a later day
    """
    from ecom_tasks.training import sequence_model

    held = interactions.join(fitted.products, on="product_id", how="semi")
    known = encode_among([held], fitted.products)
    if known.customers.is_empty():
        return pl.DataFrame(schema=PROPOSED)
    past = histories([held], known.customers, known.products, config, fitted.kinds)
    states = sequence_model.last_states(fitted.model, past, config.sequence_length)
    vectors = sequence_model.product_vectors(fitted.model)
    parts = []
    for part in blocks(known.customers.height):
        scores = states[part] @ vectors.T
        # Only the order counts, and 0 means not proposed.
        scores -= scores.min(axis=1, keepdims=True) - 1e-6
        parts.append(own_and_best(known, part, scores, config.sequence_candidates, NAME))
    return pl.concat(parts)


def histories(
    parts: Iterable[pl.DataFrame],
    customers: pl.DataFrame,
    products: pl.DataFrame,
    config: RecommendationConfig,
    kinds: tuple[str, ...] = (),
) -> list[sequence_model.History]:
    """Return the history of each customer: the products by their last order, oldest first.

    Of a long history only the newest ones are kept, as many as are ever learnt from.

    Parameters
    ----------
    parts : customer_id, product_id, days_since_last_order, all of a customer in one of them; event,
        if there are kinds
    customers, products : customer_id and row; product_id and column
    kinds : names of the kinds of events, in the order of their numbers; others get number 0
    """
    from ecom_tasks.training import sequence_model

    nothing = np.zeros(0, dtype=np.int32)
    found = [sequence_model.History(nothing, nothing)] * customers.height
    for part in parts:
        placed = part.join(products, on="product_id").join(customers, on="customer_id")
        for row, history in _histories_of(placed, config, kinds):
            found[row] = history
    return found


def _histories_of(
    placed: pl.DataFrame, config: RecommendationConfig, kinds: tuple[str, ...]
) -> Iterator[tuple[int, sequence_model.History]]:
    from ecom_tasks.training import sequence_model

    ordered = placed.sort(
        ["row", "days_since_last_order", "column"], descending=[False, True, False]
    )
    rows, starts = np.unique(ordered["row"].to_numpy(), return_index=True)
    ends = np.append(starts, ordered.height)
    products = (ordered["column"].to_numpy() + 1).astype(np.int32)
    since = ordered["days_since_last_order"].to_numpy().astype(np.float64)
    gaps = np.zeros(len(products), dtype=np.int32)
    if config.sequence_gaps and len(products):
        # To the next event, and from the last one to now.
        passed = np.append(since[:-1] - since[1:], 0.0)
        passed[ends[1:] - 1] = since[ends[1:] - 1]
        gaps = sequence_model.gap_bucket(passed)
    number = np.zeros(0, dtype=np.int32)
    if kinds:
        numbers = {name: place for place, name in enumerate(kinds, 1)}
        number = ordered[EVENT].replace_strict(numbers, default=0, return_dtype=pl.Int32).to_numpy()
    # One more than the pieces hold to be asked for, and one that the first of them follows on.
    most = config.sequence_pieces * config.sequence_length + 2
    for row, (start, end) in zip(rows.tolist(), pairwise(ends.tolist()), strict=True):
        kept = slice(max(start, end - most), end)
        yield row, sequence_model.History(*(each[kept].copy() for each in (products, gaps, number)))


def dials(config: RecommendationConfig) -> sequence_model.Dials:
    from ecom_tasks.training import sequence_model

    return sequence_model.Dials(
        size=config.sequence_size,
        pieces=config.sequence_pieces,
        blocks=config.sequence_blocks,
        heads=config.sequence_heads,
        length=config.sequence_length,
        dropout=config.sequence_dropout,
        negatives=config.sequence_negatives,
        epochs=config.sequence_epochs,
        patience=config.sequence_patience,
        batch_places=config.sequence_batch,
        learning_rate=config.sequence_learning_rate,
        validation_customers=config.sequence_validation,
        bfloat16=config.sequence_bfloat16,
        seed=config.seed,
    )
