"""Judge candidate generators on any table of interactions, over all products.

Every product is ranked: no sample of negatives. A generator's list is its best 50 of all products
that it knows (EASE knows the `ease_products` most bought only); of equal scores the smaller product
id goes first.
"""

from __future__ import annotations

import logging
import resource
import time
from typing import Any

import polars as pl

from ecom_tasks.errors import ConfigError
from ecom_tasks.metrics import ranking
from ecom_tasks.recommendation.candidates import FURTHER, GENERATORS, popular, repeat
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.protocols import Split, pairs

log = logging.getLogger(__name__)
CUTS = (5, 10, 20, 50)
DEPTH = max(CUTS)
BASELINES = (popular.NAME, repeat.NAME)
_SIZES = (
    "repeat_candidates", "neighbour_candidates", "als_candidates", "popular_candidates",
    "ease_candidates", "graph_candidates",
)  # fmt: skip
_FEW, _MANY = 5, 20


def names() -> list[str]:
    """Return every generator that can be judged."""
    return [*GENERATORS, *FURTHER]


def run(split: Split, generators: list[str], config: RecommendationConfig) -> dict[str, Any]:
    """Judge generators and, beside them, the plain baselines.

    Parameters
    ----------
    split : what is known and what must be found
    generators : names of `names()`
    config : their dials; how many products each proposes is set to the depth of the lists

    Returns
    -------
    `generators` and `baselines`: name -> metrics (`ndcg@10`, its interval as `ndcg@10_lower` and
    `_upper`, `coverage@10`, ..., `seconds`, and `cohorts`); `customers`, `products`,
    `seconds`, `peak_memory_bytes`

    Raises
    ------
    ConfigError
        A name is no generator's.
    """
    unknown = sorted(set(generators) - set(names()))
    if unknown:
        raise ConfigError(
            f"There is no generator {', '.join(unknown)}", f"There are: {', '.join(names())}"
        )
    began = time.monotonic()
    interactions = pairs(split.known)
    products = interactions["product_id"].n_unique()
    config = config.model_copy(
        update=dict.fromkeys(_SIZES, DEPTH) | {"matrix_products": max(products, 2)}
    )
    plain = [name for name in BASELINES if name != repeat.NAME or split.repeats]
    judged: dict[str, Any] = {}
    for name in dict.fromkeys([*plain, *generators]):
        started = time.monotonic()
        generate = (GENERATORS | FURTHER)[name]
        if name == popular.NAME and split.repeats:
            generate = _popular_again
        proposed = generate(interactions, config)
        seconds = round(time.monotonic() - started, 2)
        judged[name] = _judge(proposed, interactions, split, config) | {"seconds": seconds}
        log.info("%s: NDCG@10 %.4f in %.1f s", name, judged[name]["ndcg@10"], seconds)
    return {
        "baselines": {name: judged[name] for name in plain},
        "generators": {name: judged[name] for name in generators},
        "customers": split.held_out["customer_id"].n_unique(),
        "products": products,
        "seconds": round(time.monotonic() - began, 2),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _popular_again(interactions: pl.DataFrame, _config: RecommendationConfig) -> pl.DataFrame:
    """Propose the most popular products to everyone, owned or not: any of them may be right."""
    everyone = interactions.select("customer_id").unique()
    return everyone.join(popular.popularity(interactions).head(DEPTH), how="cross")


def _judge(
    proposed: pl.DataFrame, interactions: pl.DataFrame, split: Split, config: RecommendationConfig
) -> dict[str, Any]:
    own = interactions.select("customer_id", "product_id")
    if not split.repeats:
        proposed = proposed.join(own, on=["customer_id", "product_id"], how="anti")
    ranked = ranking.rank_within(proposed.select("customer_id", "product_id", "score"), DEPTH)
    known = own["customer_id"].unique()
    hits = ranking.hits(ranked, split.held_out, known, DEPTH)
    per_customer = _per_customer(hits)
    found: dict[str, Any] = {name: float(values.mean()) for name, values in per_customer.items()}
    low, high = ranking.bootstrap_interval(
        per_customer["ndcg@10"], level=config.confidence, resamples=config.resamples,
        seed=config.seed,
    )  # fmt: skip
    bought = own.group_by("product_id").len("customers")
    judged = ranked.join(hits_frame(hits), on="customer_id", how="semi")
    found |= {
        "ndcg@10_lower": low,
        "ndcg@10_upper": high,
        "coverage@10": ranking.coverage(judged, bought.height, 10),
        "novelty@10": ranking.novelty(judged, bought, len(known), 10),
        "cohorts": _cohorts(hits, per_customer["ndcg@10"], own),
    }
    return {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in found.items()
    }


def _per_customer(hits: ranking.Hits) -> dict[str, ranking.FloatArray]:
    at, positives = hits.at_rank, hits.positives
    found = {}
    for k in CUTS:
        found[f"ndcg@{k}"] = ranking.ndcg_at_k(at, positives, k)
        found[f"recall@{k}"] = ranking.recall_at_k(at, positives, k)
        found[f"mrr@{k}"] = ranking.mrr_at_k(at, k)
        found[f"map@{k}"] = ranking.map_at_k(at, positives, k)
        found[f"hit_rate@{k}"] = ranking.hit_rate_at_k(at, k)
    return found


def hits_frame(hits: ranking.Hits) -> pl.DataFrame:
    """Return customer_id of those who were judged, in the order of the hits' rows."""
    return pl.DataFrame({"customer_id": hits.customers}, schema={"customer_id": pl.String})


def _cohorts(
    hits: ranking.Hits, ndcg: ranking.FloatArray, own: pl.DataFrame
) -> dict[str, dict[str, float]]:
    """NDCG@10 of customers with few, some and many known products."""
    size = pl.col("size")
    cohort = (
        pl.when(size < _FEW).then(pl.lit(f"fewer than {_FEW} products"))
        .when(size < _MANY).then(pl.lit(f"{_FEW} to {_MANY - 1} products"))
        .otherwise(pl.lit(f"{_MANY} products and more"))
    )  # fmt: skip
    rows = (
        hits_frame(hits)
        .with_columns(pl.Series("ndcg@10", ndcg))
        .join(own.group_by("customer_id").len("size"), on="customer_id", how="left")
        .group_by(cohort.alias("cohort"))
        .agg(pl.len().alias("customers"), pl.col("ndcg@10").mean().round(6), size.min())
        .sort("size")
    )
    return {
        row["cohort"]: {"customers": row["customers"], "ndcg@10": row["ndcg@10"]}
        for row in rows.to_dicts()
    }
