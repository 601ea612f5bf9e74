"""Candidate generation: recall first, order later.

A generator is one file with one function: interactions in; customer_id, product_id, score and
generator out. To add one, write its file and enter it in `FURTHER`, where a backtest can judge it;
what earns its time moves to `GENERATORS`, which the flow runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
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
    models = fit([interactions], config) if fitted is None else fitted
    found = {repeat.NAME: repeat.generate(interactions, config)}
    for each in FITTED:
        found[each.NAME] = each.propose(models[each.NAME], interactions, config)
    found[sequence.NAME] = follows
    if graph is not None:
        found[propagation.NAME] = propagation.propose(graph, interactions, config)
    return _united(interactions, found)


def _united(own: pl.DataFrame, found: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Unite what generators found, with the scores and ranks of each.

    Pairs are numbered meanwhile, in the order of their names: joins by one number take a third of
    the time of joins by two names.
    """
    customers = pl.concat([own["customer_id"], *_column(found, "customer_id")]).unique().sort()
    products = pl.concat([own["product_id"], *_column(found, "product_id")]).unique().sort()
    row = pl.col("customer_id").cast(pl.Enum(customers)).to_physical().cast(pl.UInt64)
    pair = row * len(products) + pl.col("product_id").cast(pl.Enum(products)).to_physical()
    customer, score = pl.col("pair") // len(products), pl.col("score")
    scored = {
        name: frame
        .select(pair.alias("pair"), "score")
        .sort("pair")
        .select(
            "pair",
            score.cast(pl.Float32).alias(score_name(name)),
            score
            .rank("ordinal", descending=True)
            .over(customer)
            .cast(pl.Float32)
            .alias(rank_name(name)),
        )
        for name, frame in found.items()
    }
    new = pl.concat([frame.select("pair") for name, frame in scored.items() if name != repeat.NAME])
    united = pl.concat([
        scored[repeat.NAME].select("pair", pl.lit(0.0).cast(pl.Float32).alias("is_new")),
        new
        .unique()
        .join(own.select(pair.alias("pair")), on="pair", how="anti")
        .with_columns(pl.lit(1.0).cast(pl.Float32).alias("is_new")),
    ]).sort("pair")
    for frame in scored.values():
        united = united.join(frame, on="pair", how="left", maintain_order="left")
    number = united["pair"]
    return united.select(
        customers.gather(number // len(products)).alias("customer_id"),
        products.gather(number % len(products)).alias("product_id"),
        pl.all().exclude("pair"),
    )


def _column(found: Mapping[str, pl.DataFrame], name: str) -> Iterator[pl.Series]:
    return (frame[name] for frame in found.values())
