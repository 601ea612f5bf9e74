"""Full ranking over a held-out window, beside plain baselines, with intervals over customers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from ecom_tasks.errors import DataContractError, ModelRejectedError
from ecom_tasks.metrics import ranking
from ecom_tasks.recommendation.candidates import COLD
from ecom_tasks.recommendation.config import RecommendationConfig

RANKER, FREQUENCY, POPULAR = "ranker", "own purchase frequency", "popularity"
DEPTH = 20


def rankings(
    scored: pl.DataFrame, interactions: pl.DataFrame, liked: pl.DataFrame
) -> dict[str, dict[str, pl.DataFrame]]:
    """Rank with the model and with both baselines.

    Parameters
    ----------
    scored : customer_id, product_id, is_new, score: the model's candidates
    interactions : customer_products at the window's start, of products with enough customers; of
        the same customers
    liked : `popularity` of all customers' interactions

    Returns
    -------
    by question (`all` products; `new` to the customer) and contender: customer_id, product_id, rank
    """
    pair = ["customer_id", "product_id"]
    own = interactions.select(*pair, pl.col("recency_weighted_orders").alias("score"))
    everyone = interactions.select("customer_id").unique()
    # Of the most popular, enough that DEPTH are left when a customer's own are taken out.
    popular = everyone.join(liked.head(DEPTH), how="cross")
    popular_new = everyone.join(liked.head(300), how="cross").join(own, on=pair, how="anti")
    return {
        "all": {
            RANKER: ranking.rank_within(scored, DEPTH),
            FREQUENCY: ranking.rank_within(own, DEPTH),
            POPULAR: ranking.rank_within(popular, DEPTH),
        },
        "new": {
            RANKER: ranking.rank_within(scored.filter("is_new"), DEPTH),
            POPULAR: ranking.rank_within(popular_new, DEPTH),
        },
    }


def hits(
    blocks: Iterable[tuple[pl.DataFrame, pl.DataFrame]], liked: pl.DataFrame, bought: pl.DataFrame
) -> dict[str, dict[str, ranking.Hits]]:
    """Return what each contender got right over one window, of the customers who were known.

    Parameters
    ----------
    blocks : scored and interactions of some customers at a time, see `rankings`
    liked : see `rankings`
    bought : `snapshots.bought` of the window, of products with enough customers

    Returns
    -------
    by question and contender
    """
    found: dict[str, dict[str, list[ranking.Hits]]] = {}
    for scored, interactions in blocks:
        known = interactions["customer_id"].unique()
        theirs = bought.join(known.to_frame(), on="customer_id", how="semi")
        for question, contenders in rankings(scored, interactions, liked).items():
            right = theirs.filter("is_new") if question == "new" else theirs
            for name, ranked in contenders.items():
                made = ranking.hits(ranked, right, known, DEPTH)
                found.setdefault(question, {}).setdefault(name, []).append(made)
    return {
        question: {name: ranking.joined(parts) for name, parts in contenders.items()}
        for question, contenders in found.items()
    }


def judge(
    found: dict[str, dict[str, ranking.Hits]], config: RecommendationConfig
) -> dict[str, Any]:
    """Compare the model with the baselines over one window.

    Parameters
    ----------
    found : of `hits`

    Returns
    -------
    by question: `customers`, for each contender metrics with an interval of ndcg_at_10, and
    `gain` of the model over the best baseline with its paired interval; without `new` where nobody
    bought anything new

    Raises
    ------
    DataContractError
        Nobody who was known bought anything.
    """
    judged: dict[str, Any] = {}
    for question, contenders in found.items():
        customers = len(contenders[RANKER].customers)
        if not customers and question == "new":
            continue
        if not customers:
            raise DataContractError(
                "In a test window no known customer bought a product with enough customers: "
                "there is nothing to judge by",
                "Load a longer history, or lower recommendation.min_customers",
            )
        baseline = FREQUENCY if FREQUENCY in contenders else POPULAR
        judged[question] = {
            "customers": customers,
            "contenders": {name: _metrics(each, config) for name, each in contenders.items()},
            "gain": _gain(contenders[RANKER], contenders[baseline], config) | {"over": baseline},
        }
    return judged


def evidence(found: dict[str, dict[str, ranking.Hits]], window: str) -> pl.DataFrame:
    """Return what the release's gate is told: 1 - NDCG@10 of each customer, all products ranked.

    Parameters
    ----------
    found : of `hits`

    Returns
    -------
    window, unit (customer_id), weight (1), model, baseline (own purchase frequency)
    """
    everything = found["all"]
    losses = {
        name: 1 - ranking.ndcg_at_k(everything[name].at_rank, everything[name].positives, 10)
        for name in (RANKER, FREQUENCY)
    }
    return pl.DataFrame({
        "window": window, "unit": everything[RANKER].customers, "weight": 1.0,
        "model": losses[RANKER], "baseline": losses[FREQUENCY],
    })  # fmt: skip


def _metrics(hits: ranking.Hits, config: RecommendationConfig) -> dict[str, float]:
    ndcg = ranking.ndcg_at_k(hits.at_rank, hits.positives, 10)
    low, high = _interval(ndcg, config)
    values = {
        "ndcg_at_10": ndcg.mean(),
        "ndcg_at_10_lower": low,
        "ndcg_at_10_upper": high,
        "recall_at_10": ranking.recall_at_k(hits.at_rank, hits.positives, 10).mean(),
        "recall_at_20": ranking.recall_at_k(hits.at_rank, hits.positives, 20).mean(),
        "mrr_at_10": ranking.mrr_at_k(hits.at_rank, 10).mean(),
        "hit_rate_at_10": ranking.hit_rate_at_k(hits.at_rank, 10).mean(),
    }
    return {name: round(float(value), 6) for name, value in values.items()}


def _gain(
    model: ranking.Hits, baseline: ranking.Hits, config: RecommendationConfig
) -> dict[str, Any]:
    difference = ranking.ndcg_at_k(model.at_rank, model.positives, 10) - ranking.ndcg_at_k(
        baseline.at_rank, baseline.positives, 10
    )
    low, high = _interval(difference, config)
    values = {"ndcg_at_10": float(difference.mean()), "lower": low, "upper": high}
    return {name: round(value, 6) for name, value in values.items()}


def _interval(values: ranking.FloatArray, config: RecommendationConfig) -> tuple[float, float]:
    return ranking.bootstrap_interval(
        values, level=config.confidence, resamples=config.resamples, seed=config.seed
    )


def judge_newcomers(
    offers: dict[str, pl.DataFrame], known: pl.Series, bought: pl.DataFrame, k: int
) -> dict[str, Any]:
    """Judge the one list that customers get of whom nothing is known yet.

    Parameters
    ----------
    offers : by name, product_id and rank: a list that is the same for all of them
    known : ids of the customers who had ordered by the window's start
    bought : `snapshots.bought` of the window, of products with enough customers

    Returns
    -------
    `customers` (whose first order lies in the window) and `contenders`: for each list ndcg_at_10
    and hit_rate_at_10; without such customers only their number, 0
    """
    right = bought.filter(~pl.col("customer_id").is_in(known.implode()))
    right = right.select("customer_id", "product_id")
    newcomers = right["customer_id"].unique().sort()
    if newcomers.is_empty():
        return {"customers": 0}
    contenders = {}
    for name, products in offers.items():
        lists = newcomers.to_frame().join(
            products.filter(pl.col("rank") <= k).select("product_id", "rank"), how="cross"
        )
        hits = ranking.hits(lists, right, newcomers, k)
        contenders[name] = {
            "ndcg_at_10": round(
                float(ranking.ndcg_at_k(hits.at_rank, hits.positives, 10).mean()), 6
            ),
            "hit_rate_at_10": round(float(ranking.hit_rate_at_k(hits.at_rank, 10).mean()), 6),
        }
    return {"customers": len(newcomers), "contenders": contenders}


def new_cold(bought: pl.DataFrame, cold: pl.Series) -> pl.DataFrame:
    """Return customer_id, product_id of the cold products that customers bought for the first time.

    Parameters
    ----------
    bought : `snapshots.bought` of the window, of all products
    cold : ids of the cold products
    """
    right = bought.filter(pl.col("is_new") & pl.col("product_id").is_in(cold.implode()))
    return right.select("customer_id", "product_id")


def judge_cold(offers: dict[str, pl.DataFrame], right: pl.DataFrame, k: int) -> dict[str, float]:
    """Share of customers whose k cold products hold one that they then bought, for each way.

    Parameters
    ----------
    offers : by name, customer_id, product_id, rank
    right : of `new_cold`

    Returns
    -------
    `customers` (who bought a cold product that was new to them) and the share for each way; without
    such customers only their number, 0
    """
    known = right["customer_id"].unique()
    found: dict[str, float] = {"customers": len(known)}
    if known.is_empty():
        return found
    for name, lists in offers.items():
        hits = ranking.hits(lists, right, known, k)
        found[name] = round(float(ranking.hit_rate_at_k(hits.at_rank, k).mean()), 6)
    return found


def best_cold(judged: dict[str, float]) -> str:
    """Return the way that found most; the two towers where nothing tells them apart."""
    shares = {name: value for name, value in judged.items() if name != "customers"}
    best = max(shares.values(), default=0.0)
    return COLD if shares.get(COLD, 0.0) >= best else max(shares, key=shares.__getitem__)


def gate(windows: dict[str, Any], smallest_gain: float) -> None:
    """Refuse a ranker that does not beat own purchase frequency in every window.

    Parameters
    ----------
    smallest_gain : NDCG@10 above the baseline that is not enough

    Raises
    ------
    ModelRejectedError
        Naming window and figures.
    """
    for window, found in windows.items():
        gain = found["all"]["gain"]
        if gain["ndcg_at_10"] <= smallest_gain:
            raise ModelRejectedError(
                f"From {window} the ranker gains {gain['ndcg_at_10']:.4f} NDCG@10 over "
                f"{gain['over']} ({gain['lower']:.4f} to {gain['upper']:.4f}), more than "
                f"{smallest_gain} is needed",
                "The lists in service stay. Look whether the window is unusual, or give a longer "
                "history",
            )
