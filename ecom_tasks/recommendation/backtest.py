"""Judge candidate generators on any table of interactions, over all products.

Every product is ranked: no sample of negatives. A generator's list is its best 50 of all products;
of equal scores the smaller product id goes first. Until a ranker stands at their head, the model of
several generators is a blend of their lists.
"""

from __future__ import annotations

import logging
import math
import resource
import time
from dataclasses import dataclass
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
    "ease_candidates", "graph_candidates", "propagation_candidates",
    "sequence_candidates",
)  # fmt: skip
_KNOWN = ("matrix_products", "ease_products")
_FEW, _MANY = 5, 20
COHORTS = (f"fewer than {_FEW} products", f"{_FEW} to {_MANY - 1} products",
           f"{_MANY} products and more")  # fmt: skip
PRODUCT_COHORTS = ("head", "tail")
_HEAD_SHARE = 0.5
_FUSION = 60
_PAIR = ["customer_id", "product_id"]


@dataclass(frozen=True)
class Truth:
    """What every contender is judged by.

    Attributes
    ----------
    own : customer_id, product_id, each pair once: what customers had before
    bought : product_id, customers (who had it before)
    head : ids of the fewest products that make up half of all known interactions
    right : customer_id, product_id, weight: what must be found, and its inverse propensity
    repeats : whether a product that the customer already has may be right
    """

    own: pl.DataFrame
    bought: pl.DataFrame
    head: pl.Series
    right: pl.DataFrame
    repeats: bool


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
    `_upper`, `coverage@10`, ..., `seconds`, `cohorts` and `product_cohorts`; None where a value is
    not defined); `model`: metrics of the generators' blend, or of the only generator;
    `customers`, `products`, `seconds`, `peak_memory_bytes`

    Raises
    ------
    ConfigError
        A name is no generator's, or there is none.
    """
    began = time.monotonic()
    generators = _named(generators)
    interactions = pairs(split.known)
    products = interactions["product_id"].n_unique()
    config = config.model_copy(
        update=dict.fromkeys(_SIZES, DEPTH) | dict.fromkeys(_KNOWN, max(products, 2))
    )
    truth = _truth(interactions, split)
    plain = [name for name in BASELINES if name != repeat.NAME or split.repeats]
    judged: dict[str, Any] = {}
    lists = []
    for name in dict.fromkeys([*plain, *generators]):
        started = time.monotonic()
        generate = (GENERATORS | FURTHER)[name]
        if name == popular.NAME and split.repeats:
            generate = _popular_again
        proposed = generate(interactions, config)
        seconds = round(time.monotonic() - started, 2)
        ranked = _ranked(proposed, truth)
        judged[name] = _judge(ranked, truth, config) | {"seconds": seconds}
        if name in generators:
            lists.append(_compact(ranked, truth))
        log.info("%s: NDCG@10 %.4f in %.1f s", name, judged[name]["ndcg@10"], seconds)
    spent = sum(judged[name]["seconds"] for name in generators)
    return {
        "model": (
            _blend(lists, truth, config, spent) if len(generators) > 1 else judged[generators[0]]
        ),
        "baselines": {name: judged[name] for name in plain},
        "generators": {name: judged[name] for name in generators},
        "customers": split.held_out["customer_id"].n_unique(),
        "products": products,
        "seconds": round(time.monotonic() - began, 2),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _named(generators: list[str]) -> list[str]:
    """Return the names, each once, if all of them are known."""
    unknown = sorted(set(generators) - set(names()))
    if unknown or not generators:
        raise ConfigError(
            f"There is no generator {', '.join(unknown)}" if unknown else "No generator is named",
            f"There are: {', '.join(names())}",
        )
    return list(dict.fromkeys(generators))


def contenders(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the metrics of `run` by label: baselines, then generators, then their blend."""
    baselines, generators = found["baselines"], found["generators"]
    blend = {"blend (model)": found["model"]} if len(generators) > 1 else {}
    return (
        {f"{name} (baseline)": values for name, values in baselines.items()}
        | {name: values for name, values in generators.items() if name not in baselines}
        | blend
    )


def fuse(lists: list[pl.DataFrame], depth: int) -> pl.DataFrame:
    """Blend rankings by reciprocal-rank fusion: a product's score is the sum of 1 / (60 + rank).

    A list without the product adds nothing.

    Parameters
    ----------
    lists : each customer_id, product_id, rank (from 1)
    depth : length of the blended lists

    Returns
    -------
    DataFrame with customer_id, product_id, score, rank; ids as text

    References
    ----------
    Cormack et al. (2009), "Reciprocal rank fusion outperforms Condorcet and individual rank
    learning methods", SIGIR.
    """
    score = (1 / (_FUSION + pl.col("rank").cast(pl.Float64))).sum()
    # Rounded, because the same ranks from lists in another order must add up to the same score.
    fused = pl.concat(lists).group_by(_PAIR).agg(score.round(12).alias("score"))
    return ranking.rank_within(fused, depth).with_columns(pl.col(_PAIR).cast(pl.String))


def _blend(
    lists: list[pl.DataFrame], truth: Truth, config: RecommendationConfig, spent: float
) -> dict[str, Any]:
    """Judge the generators' lists as one; `spent` are the seconds that they took."""
    started = time.monotonic()
    blended = fuse(lists, DEPTH)
    seconds = round(spent + time.monotonic() - started, 2)
    judged = _judge(blended, truth, config) | {"seconds": seconds}
    log.info("blend: NDCG@10 %.4f in %.1f s", judged["ndcg@10"], seconds)
    return judged


def _compact(ranked: pl.DataFrame, truth: Truth) -> pl.DataFrame:
    """Store ids as numbers in the order of the ids: the lists of all generators are kept."""
    ids = {name: pl.Enum(truth.own[name].unique().sort()) for name in _PAIR}
    return ranked.select(
        *(pl.col(name).cast(kind) for name, kind in ids.items()), pl.col("rank").cast(pl.UInt8)
    )


def _truth(interactions: pl.DataFrame, split: Split) -> Truth:
    own = interactions.select(_PAIR)
    bought = own.group_by("product_id").len("customers")
    times = interactions.group_by("product_id").agg(pl.col("orders").sum())
    before = pl.col("orders").cum_sum() - pl.col("orders")
    head = (
        times.sort(["orders", "product_id"], descending=[True, False]).filter(
            before < _HEAD_SHARE * pl.col("orders").sum()
        )
    )["product_id"]
    right = ranking.inverse_propensity(split.held_out, bought)
    return Truth(own, bought, head, right, repeats=split.repeats)


def _popular_again(interactions: pl.DataFrame, _config: RecommendationConfig) -> pl.DataFrame:
    """Propose the most popular products to everyone, owned or not: any of them may be right."""
    everyone = interactions.select("customer_id").unique()
    return everyone.join(popular.popularity(interactions).head(DEPTH), how="cross")


def _ranked(proposed: pl.DataFrame, truth: Truth) -> pl.DataFrame:
    """Return each customer's best products, without what cannot be right."""
    if not truth.repeats:
        proposed = proposed.join(truth.own, on=_PAIR, how="anti")
    return ranking.rank_within(proposed.select(*_PAIR, "score"), DEPTH)


def _judge(ranked: pl.DataFrame, truth: Truth, config: RecommendationConfig) -> dict[str, Any]:
    known = truth.own["customer_id"].unique()
    hits = ranking.hits(ranked, truth.right, known, DEPTH)
    per_customer = _per_customer(hits)
    found: dict[str, Any] = {name: float(values.mean()) for name, values in per_customer.items()}
    for name in ("ndcg@10", "recall@20"):
        found[f"{name}_lower"], found[f"{name}_upper"] = ranking.bootstrap_interval(
            per_customer[name], level=config.confidence, resamples=config.resamples,
            seed=config.seed,
        )  # fmt: skip
    judged = ranked.join(hits_frame(hits), on="customer_id", how="semi")
    found |= {
        "coverage@10": ranking.coverage(judged, truth.bought.height, 10),
        "novelty@10": ranking.novelty(judged, truth.bought, len(known), 10),
        "intra_list_diversity@10": ranking.intra_list_diversity(judged, truth.own, 10),
        "popularity_bias@10": ranking.popularity_bias(judged, truth.own, 10),
        "ips_recall@20": ranking.ips_recall_at_k(judged, truth.right, 20),
        "ips_ndcg@10": ranking.ips_ndcg_at_k(judged, truth.right, 10),
        "cohorts": _cohorts(hits, per_customer["ndcg@10"], truth.own),
        "product_cohorts": _product_cohorts(ranked, truth),
    }
    return {name: _rounded(value) for name, value in found.items()}


def _rounded(value: Any) -> Any:
    """Round a figure; JSON knows no NaN."""
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else round(value, 6)


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
        pl.when(size < _FEW).then(pl.lit(COHORTS[0]))
        .when(size < _MANY).then(pl.lit(COHORTS[1]))
        .otherwise(pl.lit(COHORTS[2]))
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


def _product_cohorts(ranked: pl.DataFrame, truth: Truth) -> dict[str, dict[str, float]]:
    """Recall@20 of what must be found among the most popular products, and among the others.

    A customer counts where there is something to find.
    """
    known = truth.own["customer_id"].unique()
    in_head = pl.col("product_id").is_in(truth.head.implode())
    found = {}
    for name, inside in zip(PRODUCT_COHORTS, (in_head, ~in_head), strict=True):
        right = truth.right.filter(inside)
        if right.is_empty():
            continue
        hits = ranking.hits(ranked, right, known, DEPTH)
        recall = ranking.recall_at_k(hits.at_rank, hits.positives, 20)
        found[name] = {"products": truth.bought.filter(inside).height,
                       "customers": len(hits.customers),
                       "recall@20": round(float(recall.mean()), 6)}  # fmt: skip
    return found
