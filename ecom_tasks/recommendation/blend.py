"""Generators blended by rank: for shops with too little history to train a ranker on."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from ecom_tasks.recommendation.candidates import NAMES, VIEWED, propagation, rank_name, repeat
from ecom_tasks.recommendation.snapshots import PAIR

_HEAD = 60


def repeat_share(parts: Iterable[pl.DataFrame]) -> float:
    """Return the share of orders that repeat an earlier one, 0 where there are none.

    Parameters
    ----------
    parts : customer_id, product_id, orders; a pair once in all of them
    """
    orders, pairs = 0.0, 0
    for part in parts:
        orders += float(part["orders"].sum())
        pairs += part.height
    return (orders - pairs) / orders if orders else 0.0


def score(candidates: pl.DataFrame, repeats: float) -> pl.DataFrame:
    """Score own past products by their own frequency, new ones by fusing the generators' ranks.

    What the other generators say of an own product only blurs the customer's own order. A place
    among the own products counts as much more than the same place among the new ones as repeats
    are likelier than first orders in this shop.

    Parameters
    ----------
    candidates : of `candidates.propose`
    repeats : of `repeat_share`

    Returns
    -------
    DataFrame
        customer_id, product_id, is_new (boolean) and score: the logarithm of the reciprocal ranks,
        so that boosts add to it as they do to that of the ranker

    References
    ----------
    Cormack, Clarke and Buettcher (2009), "Reciprocal rank fusion outperforms Condorcet and
    individual rank learning methods", SIGIR.
    """
    odds = repeats / (1 - repeats) if repeats < 1 else float(len(NAMES))
    viewed = [propagation.NAME] if set(VIEWED) <= set(candidates.columns) else []
    place = {
        name: (1 / (_HEAD + pl.col(rank_name(name)).cast(pl.Float64))).fill_null(0.0)
        for name in (*NAMES, *viewed)
    }
    own = odds * place.pop(repeat.NAME)
    new = pl.mean_horizontal(*place.values())
    return candidates.select(
        *PAIR,
        pl.col("is_new") > 0,
        # Rounded, and never 0: of an own product alone in a shop without repeats, for example.
        pl
        .max_horizontal(pl.when(pl.col("is_new") > 0).then(new).otherwise(own), pl.lit(1e-6))
        .log()
        .round(9)
        .alias("score"),
    )
