"""Judge candidate generators on any table of interactions, over all products.

Every product is ranked: no sample of negatives. A generator's list is its best 50 of all products;
of equal scores the smaller product id goes first. The model is a ranker over the candidates of the
generators, see `second_stage`; without one, or where there is too little to train it, a blend of
their lists.
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
from ecom_tasks.recommendation import second_stage
from ecom_tasks.recommendation.candidates import FURTHER, GENERATORS, popular, repeat, sequence
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.protocols import Split, pairs

log = logging.getLogger(__name__)
CUTS = (5, 10, 20, 50)
DEPTH = max(CUTS)
BASELINES = (popular.NAME, repeat.NAME)
_SIZES = (
    "repeat_candidates", "neighbour_candidates", "als_candidates", "popular_candidates",
    "ease_candidates", "graph_candidates", "propagation_candidates", "follows_candidates",
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
Trained = dict[str, sequence.Fitted]


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


def run(
    split: Split,
    generators: list[str],
    config: RecommendationConfig,
    within: Split | None = None,
) -> dict[str, Any]:
    """Judge generators and, beside them, the plain baselines.

    Parameters
    ----------
    split : what is known and what must be found
    generators : names of `names()`
    config : their dials; how many products each proposes is set to the depth of the lists
    within : a split of what is known, from which a ranker learns; generators are fitted on its
        known part too, which takes about as long again. None: no ranker.

    Returns
    -------
    `generators` and `baselines`: name -> metrics (`ndcg@10`, its interval as `ndcg@10_lower` and
    `_upper`, `coverage@10`, ..., `seconds`, `cohorts` and `product_cohorts`; None where a value is
    not defined); `blend` of several generators; `model`: metrics of the ranker, else of the blend,
    or of the only generator; `ranker`: None where there is none, else `rounds`, `found` (what it
    learnt to find), `ndcg@10` of its held-out customers, `importance` of its features; `customers`,
    `products`, `seconds`, `peak_memory_bytes`

    Raises
    ------
    ConfigError
        A name is no generator's, or there is none.
    """
    began = time.monotonic()
    generators = _named(generators)
    trained: Trained = {}
    ranker, spent = _learn(within, generators, config, trained) if within else (None, 0.0)
    interactions = pairs(split.known)
    products = interactions["product_id"].n_unique()
    truth = _truth(interactions, split)
    plain = [name for name in BASELINES if name != repeat.NAME or split.repeats]
    judged: dict[str, Any] = {}
    lists = {}
    for name in dict.fromkeys([*plain, *generators]):
        ranked, seconds = _proposed(name, interactions, split, config, trained)
        judged[name] = _judge(ranked, truth, config) | {"seconds": seconds}
        if name in generators:
            lists[name] = _compact(ranked, truth)
        log.info("%s: NDCG@10 %.4f in %.1f s", name, judged[name]["ndcg@10"], seconds)
    taken = sum(judged[name]["seconds"] for name in generators)
    blend = _blend(lists, truth, config, taken) if len(generators) > 1 else None
    model = blend or judged[generators[0]]
    if ranker:
        model = _rank(ranker, split, lists, truth, config, spent + taken)
    return {
        "model": model,
        "baselines": {name: judged[name] for name in plain},
        "generators": {name: judged[name] for name in generators},
        "blend": blend,
        "ranker": ranker and _described(ranker),
        "customers": split.held_out["customer_id"].n_unique(),
        "products": products,
        "seconds": round(time.monotonic() - began, 2),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _proposed(
    name: str,
    interactions: pl.DataFrame,
    split: Split,
    config: RecommendationConfig,
    trained: Trained,
) -> tuple[pl.DataFrame, float]:
    """Return a generator's lists (customer_id, product_id, score, rank), and the seconds taken.

    Parameters
    ----------
    trained : models that are not trained again; those that need not be are entered
    """
    started = time.monotonic()
    products = max(interactions["product_id"].n_unique(), 2)
    dials = config.model_copy(update=dict.fromkeys(_SIZES, DEPTH) | dict.fromkeys(_KNOWN, products))
    if name == sequence.NAME and not config.sequence_refit:
        if name not in trained:
            trained[name] = sequence.fit([interactions], dials)
        proposed = sequence.propose(trained[name], interactions, dials)
    elif name == popular.NAME and split.repeats:
        proposed = _popular_again(interactions)
    else:
        proposed = (GENERATORS | FURTHER)[name](interactions, dials)
    seconds = round(time.monotonic() - started, 2)
    if not split.repeats:
        # What cannot be right: the customer has it.
        proposed = proposed.join(interactions, on=_PAIR, how="anti")
    return ranking.rank_within(proposed.select(*_PAIR, "score"), DEPTH), seconds


def _learn(
    within: Split, generators: list[str], config: RecommendationConfig, trained: Trained
) -> tuple[second_stage.Ranker | None, float]:
    """Train the ranker; the seconds include those of the generators."""
    started = time.monotonic()
    interactions = pairs(within.known)
    asked = second_stage.learners(within, config).rename("customer_id").to_frame()
    lists = {}
    for name in generators:
        ranked, seconds = _proposed(name, interactions, within, config, trained)
        lists[name] = ranked.join(asked, on="customer_id", how="semi")
        log.info("%s: fitted for the ranker in %.1f s", name, seconds)
    return second_stage.learn(within, lists, config), time.monotonic() - started


def _rank(
    ranker: second_stage.Ranker,
    split: Split,
    lists: dict[str, pl.DataFrame],
    truth: Truth,
    config: RecommendationConfig,
    spent: float,
) -> dict[str, Any]:
    """Judge the ranker's lists; `spent` are the seconds of its training and of the generators."""
    started = time.monotonic()
    scored = second_stage.rank(ranker, split.known, lists, split.held_out["customer_id"])
    ranked = ranking.rank_within(scored, DEPTH)
    seconds = round(spent + time.monotonic() - started, 2)
    judged = _judge(ranked, truth, config) | {"seconds": seconds}
    log.info("ranker: NDCG@10 %.4f in %.1f s", judged["ndcg@10"], seconds)
    return judged


def _described(ranker: second_stage.Ranker) -> dict[str, Any]:
    return {
        "rounds": ranker.rounds,
        "found": ranker.found,
        "ndcg@10": round(ranker.curve[ranker.rounds - 1], 6),
        "importance": second_stage.importance(ranker),
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
    """Return the metrics of `run` by label: baselines, generators, their blend, the ranker."""
    baselines, generators = found["baselines"], found["generators"]
    ranker, blend = found["ranker"], found["blend"]
    return (
        {f"{name} (baseline)": values for name, values in baselines.items()}
        | {name: values for name, values in generators.items() if name not in baselines}
        | ({"blend" if ranker else "blend (model)": blend} if blend else {})
        | ({"ranker (model)": found["model"]} if ranker else {})
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
    lists: dict[str, pl.DataFrame], truth: Truth, config: RecommendationConfig, spent: float
) -> dict[str, Any]:
    """Judge the generators' lists as one; `spent` are the seconds that they took."""
    started = time.monotonic()
    blended = fuse([ranked.select(*_PAIR, "rank") for ranked in lists.values()], DEPTH)
    seconds = round(spent + time.monotonic() - started, 2)
    judged = _judge(blended, truth, config) | {"seconds": seconds}
    log.info("blend: NDCG@10 %.4f in %.1f s", judged["ndcg@10"], seconds)
    return judged


def _compact(ranked: pl.DataFrame, truth: Truth) -> pl.DataFrame:
    """Store ids as numbers in the order of the ids: the lists of all generators are kept."""
    ids = {name: pl.Enum(truth.own[name].unique().sort()) for name in _PAIR}
    return ranked.select(
        *(pl.col(name).cast(kind) for name, kind in ids.items()),
        pl.col("score").cast(pl.Float32),
        pl.col("rank").cast(pl.UInt8),
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


def _popular_again(interactions: pl.DataFrame) -> pl.DataFrame:
    """Propose the most popular products to everyone, owned or not: any of them may be right."""
    everyone = interactions.select("customer_id").unique()
    return everyone.join(popular.popularity([interactions]).head(DEPTH), how="cross")


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
