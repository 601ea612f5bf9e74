"""Full ranking over a held-out window, beside plain baselines, with intervals over customers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from ecom_tasks.errors import DataContractError, ModelRejectedError
from ecom_tasks.metrics import ranking
from ecom_tasks.recommendation.candidates import COLD
from ecom_tasks.recommendation.candidates.popular import popularity
from ecom_tasks.recommendation.config import RecommendationConfig

RANKER, FREQUENCY, POPULAR = "ranker", "own purchase frequency", "popularity"
DEPTH = 20


def heads(blocks: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return what judging reads of the model's candidates, of all and of what is new.

    Parameters
    ----------
    blocks : customer_id, product_id, is_new, score; all candidates of a customer in one of them

    Returns
    -------
    The same columns: of each customer the `DEPTH` best and the `DEPTH` best new ones.
    """
    return pl.concat([_heads_of(block) for block in blocks])


def _heads_of(block: pl.DataFrame) -> pl.DataFrame:
    read = [ranking.rank_within(each, DEPTH) for each in (block, block.filter("is_new"))]
    return block.join(pl.concat(read), on=["customer_id", "product_id"], how="semi")


def rankings(
    scored: pl.DataFrame, interactions: pl.DataFrame
) -> dict[str, dict[str, pl.DataFrame]]:
    """Rank with the model and with both baselines.

    Parameters
    ----------
    scored : customer_id, product_id, is_new, score: the model's candidates, at least their `heads`
    interactions : customer_products at the window's start, of products with enough customers

    Returns
    -------
    by question (`all` products; `new` to the customer) and contender: customer_id, product_id, rank
    """
    pair = ["customer_id", "product_id"]
    own = interactions.select(*pair, pl.col("recency_weighted_orders").alias("score"))
    everyone = interactions.select("customer_id").unique()
    # Of the most popular, enough that DEPTH are left when a customer's own are taken out.
    liked = popularity(interactions)
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


def judge(
    scored: pl.DataFrame,
    interactions: pl.DataFrame,
    bought: pl.DataFrame,
    config: RecommendationConfig,
) -> dict[str, Any]:
    """Compare the model with the baselines over one window.

    Parameters
    ----------
    scored, interactions : see `rankings`
    bought : `snapshots.bought` of the window, of products with enough customers

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
    known = interactions["customer_id"].unique()
    found: dict[str, Any] = {}
    for question, contenders in rankings(scored, interactions).items():
        positives = bought.filter("is_new") if question == "new" else bought
        right = positives.select("customer_id", "product_id").filter(
            pl.col("customer_id").is_in(known.implode())
        )
        if right.is_empty() and question == "new":
            continue
        if right.is_empty():
            raise DataContractError(
                "In a test window no known customer bought a product with enough customers: "
                "there is nothing to judge by",
                "Load a longer history, or lower recommendation.min_customers",
            )
        hits = {
            name: ranking.hits(ranked, right, known, DEPTH) for name, ranked in contenders.items()
        }
        baseline = FREQUENCY if FREQUENCY in hits else POPULAR
        found[question] = {
            "customers": len(hits[RANKER].customers),
            "contenders": {name: _metrics(each, config) for name, each in hits.items()},
            "gain": _gain(hits[RANKER], hits[baseline], config) | {"over": baseline},
        }
    return found


def evidence(
    scored: pl.DataFrame, interactions: pl.DataFrame, bought: pl.DataFrame, window: str
) -> pl.DataFrame:
    """Return what the release's gate is told: 1 - NDCG@10 of each customer, all products ranked.

    Returns
    -------
    window, unit (customer_id), weight (1), model, baseline (own purchase frequency)
    """
    known = interactions["customer_id"].unique()
    right = bought.select("customer_id", "product_id")
    contenders = rankings(scored, interactions)["all"]
    hits = {
        name: ranking.hits(contenders[name], right, known, DEPTH) for name in (RANKER, FREQUENCY)
    }
    losses = {
        name: 1 - ranking.ndcg_at_k(each.at_rank, each.positives, 10) for name, each in hits.items()
    }
    return pl.DataFrame({
        "window": window, "unit": hits[RANKER].customers, "weight": 1.0,
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


def judge_cold(
    offers: dict[str, pl.DataFrame], cold: pl.Series, bought: pl.DataFrame, k: int
) -> dict[str, float]:
    """Share of customers whose k cold products hold one that they then bought, for each way.

    Parameters
    ----------
    offers : by name, customer_id, product_id, rank
    cold : ids of the cold products
    bought : `snapshots.bought` of the window, of all products

    Returns
    -------
    `customers` (who bought a cold product that was new to them) and the share for each way; without
    such customers only their number, 0
    """
    right = bought.filter(pl.col("is_new") & pl.col("product_id").is_in(cold.implode()))
    right = right.select("customer_id", "product_id")
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
