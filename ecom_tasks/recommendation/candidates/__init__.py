"""Candidate generation: recall first, order later.

A generator is one file with one function: interactions in; customer_id, product_id, score and
generator out. To add one, write its file and enter it in `FURTHER`, where a backtest can judge it;
what earns its time moves to `GENERATORS`, which the flow runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import polars as pl

from ecom_tasks.recommendation.candidates import (
    als,
    ease,
    follows,
    graph_filter,
    lookalikes,
    neighbours,
    popular,
    propagation,
    repeat,
    sequence,
)
from ecom_tasks.recommendation.candidates.kept import Kept
from ecom_tasks.recommendation.candidates.matrix import Interactions, encode
from ecom_tasks.recommendation.config import RecommendationConfig

Generator = Callable[[pl.DataFrame, RecommendationConfig], pl.DataFrame]

GENERATORS: dict[str, Generator] = {
    repeat.NAME: repeat.generate,
    neighbours.NAME: neighbours.generate,
    als.NAME: als.generate,
    ease.NAME: ease.generate,
    popular.NAME: popular.generate,
}
FURTHER: dict[str, Generator] = {
    graph_filter.NAME: graph_filter.generate,
    propagation.NAME: propagation.generate,
    follows.NAME: follows.generate,
    lookalikes.NAME: lookalikes.generate,
    sequence.NAME: sequence.generate,
}
COLD = "two_tower"
"""Generator of products with little history; it is a model of its own, see `cold.py`."""


def score_name(generator: str) -> str:
    return f"{generator}_score"


def rank_name(generator: str) -> str:
    return f"{generator}_rank"


NAMES = (*GENERATORS, sequence.NAME)
"""Whose candidates the ranker sees; the transformer is trained by a task of its own."""
SCORES = tuple(name(each) for each in NAMES for name in (score_name, rank_name))
VIEWED = (score_name(propagation.NAME), rank_name(propagation.NAME))
"""Further columns, where the shop knows what was viewed."""


class Proposing(Protocol):
    """Module of a generator that was fitted on all customers, and proposes to some of them."""

    NAME: str

    def propose(
        self, kept: Kept, interactions: pl.DataFrame, config: RecommendationConfig
    ) -> pl.DataFrame: ...


class Learning(Proposing, Protocol):
    """Module of such a generator that learns from the matrix of all interactions."""

    def fit(self, known: Interactions, config: RecommendationConfig) -> Kept: ...


LEARNING: tuple[Learning, ...] = (neighbours, als, ease)
FITTED: tuple[Proposing, ...] = (*LEARNING, popular)


def fit(parts: Iterable[pl.DataFrame], config: RecommendationConfig) -> dict[str, Kept]:
    """Fit the generators that learn across customers, by name.

    Parameters
    ----------
    parts : rows of the feature table customer_products at one cutoff, of products that have enough
        customers; all of a customer in one part. Gone through several times
    """
    known = encode(parts, config.matrix_products)
    fitted = {each.NAME: each.fit(known, config) for each in LEARNING}
    return fitted | {popular.NAME: popular.fit(parts, config)}


def propose(
    interactions: pl.DataFrame,
    follows: pl.DataFrame,
    config: RecommendationConfig,
    fitted: Mapping[str, Kept] | None = None,
    graph: propagation.Graph | None = None,
) -> pl.DataFrame:
    """Unite the candidates of all generators, with the score and rank that each one gives.

    Own past products come from `repeat` alone; what the other generators say about them is kept
    as evidence for the ranker.

    Parameters
    ----------
    interactions : as for `fit`, of those who are proposed to
    follows : of `sequence.propose`, for them
    fitted : of `fit`, perhaps on an earlier day; None: fitted on the interactions
    graph : of `propagation.fit`, of all customers; None: the shop knows no views

    Returns
    -------
    DataFrame
        customer_id, product_id, is_new (1.0 or 0.0: bought before), `SCORES`, and with views
        `VIEWED`: float32, null where a generator does not know the pair; rank 1 is its best.
        Sorted by pair.
    """
    pair = ["customer_id", "product_id"]
    models = fit([interactions], config) if fitted is None else fitted
    found = {repeat.NAME: repeat.generate(interactions, config)}
    for each in FITTED:
        found[each.NAME] = each.propose(models[each.NAME], interactions, config)
    found[sequence.NAME] = follows
    if graph is not None:
        found[propagation.NAME] = propagation.propose(graph, interactions, config)
    own = interactions.select(pair)
    new = pl.concat([
        frame.select(pair) for name, frame in found.items() if name != repeat.NAME
    ]).unique()
    united = pl.concat([
        found[repeat.NAME].select(*pair, pl.lit(0.0).cast(pl.Float32).alias("is_new")),
        new.join(own, on=pair, how="anti").with_columns(
            pl.lit(1.0).cast(pl.Float32).alias("is_new")
        ),
    ])
    for name, frame in found.items():
        score = pl.col("score")
        rank = score.rank("ordinal", descending=True).over("customer_id", order_by="product_id")
        united = united.join(
            frame.select(
                *pair,
                score.cast(pl.Float32).alias(score_name(name)),
                rank.cast(pl.Float32).alias(rank_name(name)),
            ),
            on=pair,
            how="left",
        )
    return united.sort(pair)
