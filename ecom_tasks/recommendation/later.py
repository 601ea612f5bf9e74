"""Score customers on a later day with models that were trained before.

Who did nothing new since is as the models saw him, and keeps his scores; who did is scored as of
the day of the change. Days that merely pass change nobody's scores: with models kept for some days
only those are scored who came, and the result is that of scoring everybody as of his own day.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import polars as pl

from ecom_tasks.recommendation import candidates, features, reasons
from ecom_tasks.recommendation.candidates import propagation, sequence
from ecom_tasks.recommendation.candidates.kept import Kept
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.snapshots import PAIR, Snapshot

SCORED = {
    "customer_id": pl.String, "product_id": pl.String, "is_new": pl.Boolean, "score": pl.Float64,
    "generator": pl.String,
}  # fmt: skip
Score = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True)
class Models:
    """What was trained, and serves on later days too.

    Attributes
    ----------
    generators : of `candidates.fit`
    follows : a trained transformer
    score : candidates with features -> customer_id, product_id, is_new, score
    """

    generators: Mapping[str, Kept]
    follows: sequence.Fitted
    score: Score


def changed(before: Snapshot, now: Snapshot) -> pl.DataFrame:
    """Return customer_id of those who are new, or whose purchases are no longer the same.

    What alone follows from the passing of days, such as how long ago they were, does not count.
    """
    then, today = _purchases(before), _purchases(now)
    rows = list(then.columns)
    either = pl.concat([
        today.join(then, on=rows, how="anti"),
        then.join(today, on=rows, how="anti"),
    ])
    known = now.pairs.select("customer_id")
    return (either.select("customer_id").unique().join(known, on="customer_id", how="semi")).sort(
        "customer_id"
    )


def _purchases(snapshot: Snapshot) -> pl.DataFrame:
    return snapshot.pairs.select(
        *PAIR,
        pl.col("orders", "units", "spend").round(6),
        *(
            (pl.lit(snapshot.cutoff) - pl.duration(days=pl.col(since).cast(pl.Int64))).alias(since)
            for since in ("days_since_first_order", "days_since_last_order")
        ),
    )


def only(snapshot: Snapshot, customers: pl.DataFrame) -> Snapshot:
    """Return what is known of some customers."""
    return replace(
        snapshot,
        pairs=snapshot.pairs.join(customers, on="customer_id", how="semi"),
        customers=snapshot.customers.join(customers, on="customer_id", how="semi"),
    )


def score(
    models: Models,
    own: Snapshot,
    config: RecommendationConfig,
    graph: propagation.Graph | None = None,
) -> pl.DataFrame:
    """Propose products to some customers as of a day, and score them.

    Parameters
    ----------
    own : of the day, of these customers `only`
    graph : of `propagation.fit`, of all customers that day; None: the shop knows no views

    Returns
    -------
    DataFrame
        customer_id, product_id, is_new, score, generator; sorted by pair. None of a customer all
        of whose products are bought by too few.
    """
    some = own.interactions(config.min_customers)
    if some.is_empty():
        return pl.DataFrame(schema=SCORED)
    follows = sequence.propose(models.follows, some, config)
    proposed = candidates.propose(some, follows, config, models.generators, graph)
    built = features.build(proposed, own)
    return named(built, models.score(built))


def named(proposed: pl.DataFrame, scored: pl.DataFrame) -> pl.DataFrame:
    """Name the generator that puts each candidate highest.

    Parameters
    ----------
    proposed : of `features.build`
    scored : customer_id, product_id, is_new, score of the same

    Returns
    -------
    DataFrame with the columns of `SCORED`, sorted by pair
    """
    by = reasons.generator_of(proposed)
    return scored.join(by, on=PAIR).select(list(SCORED)).sort(PAIR)
