"""Generators blended by rank: for shops with too little history to train a ranker on."""

from __future__ import annotations

import polars as pl

from ecom_tasks.recommendation.candidates import NAMES, VIEWED, propagation, rank_name, repeat
from ecom_tasks.recommendation.snapshots import PAIR

_HEAD = 60


def repeat_share(pairs: pl.DataFrame) -> float:
    """Return the share of orders that repeat an earlier one, 0 where there are none.

    Parameters
    ----------
    pairs : customer_id, product_id, orders
    """
    orders = float(pairs["orders"].sum())
    return (orders - pairs.height) / orders if orders else 0.0


def score(candidates: pl.DataFrame, repeats: float) -> pl.DataFrame:
    """Score each candidate by reciprocal-rank fusion of the generators.

    Own past products count as much more as repeats are likelier than first orders in this shop.

    Parameters
    ----------
    candidates : of `candidates.propose`
    repeats : of `repeat_share`

    Returns
    -------
    DataFrame
        customer_id, product_id, is_new (boolean) and score: the logarithm of the sum, so that
        boosts add to it as they do to that of the ranker

    References
    ----------
    Cormack, Clarke and Buettcher (2009), "Reciprocal rank fusion outperforms Condorcet and
    individual rank learning methods", SIGIR.
    """
    odds = repeats / (1 - repeats) if repeats < 1 else float(len(NAMES))
    viewed = [propagation.NAME] if set(VIEWED) <= set(candidates.columns) else []
    parts = [
        (odds if name == repeat.NAME else 1.0) / (_HEAD + pl.col(rank_name(name)).cast(pl.Float64))
        for name in (*NAMES, *viewed)
    ]
    united = pl.sum_horizontal(part.fill_null(0.0) for part in parts)
    return candidates.select(
        *PAIR,
        pl.col("is_new") > 0,
        # Rounded, and never 0: of an own product alone in a shop without repeats, for example.
        pl.max_horizontal(united, pl.lit(1e-6)).log().round(9).alias("score"),
    )
