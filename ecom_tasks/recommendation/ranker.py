"""Ranker: expected orders of each candidate in the coming window, then LambdaMART on top of it.

The first trees (`count:poisson`) learn how often a pair is ordered in a window: more telling than
whether it is ordered at all. The later ones (`rank:ndcg`, top-k pairs) continue the same model and
move what matters at the head of the list. Validation on a later window says how many of each, and
how much a network beside them counts for (`network`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import xgboost as xgb
from numpy.typing import NDArray

from ecom_tasks.metrics import ranking
from ecom_tasks.recommendation import network
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.features import ALL, names
from ecom_tasks.recommendation.network import SHARES, Network
from ecom_tasks.recommendation.snapshots import PAIR
from ecom_tasks.training import boosted_trees

THREADS = 2
"""Fixed: the number of threads decides the order of sums, hence the last bits of a model."""
_ROWS_AT_ONCE = 1 << 17


TREES, NETWORK = "ranker.ubj", "ranker_network.npz"


@dataclass(frozen=True)
class Ranker:
    """What orders candidates: the mean of what trees and a network say.

    Attributes
    ----------
    share : what the network counts for, 0 to 1; 0 without one
    """

    trees: xgb.Booster
    network: Network | None = None
    share: float = 0.0


@dataclass(frozen=True)
class Rounds:
    """How many trees of each kind."""

    count: int
    rank: int


@dataclass(frozen=True)
class Examples:
    """Candidates of one or more windows, with what happened.

    Attributes
    ----------
    features : float32, shape (rows, features), NaN where unknown
    orders : orders of the pair in the window, shape (rows,)
    group : number of the customer within a window, ascending, shape (rows,)
    weight : rows of the window that this one stands for, shape (rows,)
    """

    features: NDArray[np.float32]
    orders: NDArray[np.float32]
    group: NDArray[np.uint32]
    weight: NDArray[np.float32]


def examples(frame: pl.DataFrame, labels: pl.DataFrame) -> Examples:
    """Label the candidates of customers who bought anything in the window.

    Parameters
    ----------
    frame : of `features.build`, sorted by pair
    labels : of `snapshots.bought`
    """
    active = frame.join(labels.select("customer_id").unique(), on="customer_id", how="semi")
    labelled = active.select(PAIR).join(
        labels.select(*PAIR, "orders"), on=PAIR, how="left", maintain_order="left"
    )
    return Examples(
        matrix(active),
        labelled["orders"].fill_null(0).cast(pl.Float32).to_numpy(),
        active["customer_id"].rle_id().to_numpy(),
        np.ones(active.height, dtype=np.float32),
    )


def ordered(window: Examples) -> int:
    """Count the candidates that were ordered."""
    return int((window.orders > 0).sum())


def share_of(candidates: int, config: RecommendationConfig) -> float:
    """Return which share of so many candidates is learnt from, for `thin`."""
    return min(1.0, config.unordered_candidates / max(candidates, 1))


def thin(window: Examples, share: float, seed: int) -> Examples:
    """Keep all that was ordered and a random `share` of the rest, weighted to stand for all.

    Nine in ten candidates were not ordered; a part of them teaches as much, in less time and
    memory. Only for learning: a list is judged with all its candidates.
    """
    drawn = np.random.default_rng(seed).random(len(window.orders)) < share
    ordered = window.orders > 0
    keep = ordered | drawn
    weight = np.where(ordered, 1, 1 / share).astype(np.float32) * window.weight
    return Examples(window.features[keep], window.orders[keep], window.group[keep], weight[keep])


def matrix(frame: pl.DataFrame) -> NDArray[np.float32]:
    """Return the ranker's columns, shape (rows, features)."""
    return frame.select(names(frame.columns)).to_numpy(order="c").astype(np.float32, copy=False)


def join(windows: Sequence[Examples]) -> Examples:
    """Stack the examples of several windows; the same customer is another group in each."""
    starts = np.cumsum([0, *(int(w.group[-1]) + 1 if len(w.group) else 0 for w in windows)])
    return Examples(
        np.concatenate([w.features for w in windows]),
        np.concatenate([w.orders for w in windows]),
        np.concatenate([
            w.group + np.uint32(start) for w, start in zip(windows, starts, strict=False)
        ]),
        np.concatenate([w.weight for w in windows]),
    )


def choose_rounds(
    learn: Examples, validate: Examples, config: RecommendationConfig
) -> tuple[Rounds, dict[str, list[float]], xgb.Booster | None]:
    """Find how many trees serve best on a later window.

    Trees of expected orders are counted by what they learn, the likelihood of the orders: it tells
    every tree's worth, where NDCG@10 of a few thousand lists goes up and down by more than that.
    LambdaMART on top of them is counted by NDCG@10. Where nothing was ordered of what the later
    window has, it says nothing, and the most trees are taken.

    Returns
    -------
    rounds, and the validation curves for the report: `expected orders`, the negative log-likelihood
    of a candidate's orders after each tree (lower is better); `LambdaMART`, NDCG@10 without it and
    after each of its trees; and the trees of expected orders, as many as were chosen, None where
    the later window says nothing
    """
    if not ordered(validate):
        return Rounds(config.count_rounds, config.rank_rounds), {}, None
    losses: list[float] = []
    counter = _count_trees(learn, config, config.count_rounds, _Watch(validate, losses))
    count = int(np.argmin(losses)) + 1
    counter = counter[:count]
    found = _with_orders(validate)
    ranks = [_ndcg(counter, found)]
    if config.rank_rounds:
        watch = _Watch(found, ranks)
        _rank_trees(counter, learn, config, config.rank_rounds, watch)
    rounds = Rounds(count, int(np.argmax(ranks)))
    return rounds, {"expected orders": losses, "LambdaMART": ranks}, counter


def choose_share(
    trees: xgb.Booster, beside: Network, validate: Examples, config: RecommendationConfig
) -> tuple[float, list[float]]:
    """Find what a network must count for beside trees, that a later window's orders be likeliest.

    Parameters
    ----------
    trees : of expected orders, of `choose_rounds`
    validate : a window with orders that neither has learnt from

    Returns
    -------
    one of `SHARES`, and the negative log-likelihood of a candidate's orders with each of them, but
    for what is the same for all
    """
    said = _margin(trees, validate.features), network.log_rate(beside, validate.features)
    orders = np.minimum(validate.orders, config.label_cap)
    losses = []
    for share in SHARES:
        log_rate = _mixed(*said, share)
        losses.append(float(np.mean(np.exp(log_rate) - orders * log_rate)))
    return SHARES[int(np.argmin(losses))], losses


def _with_orders(window: Examples) -> Examples:
    """Keep the customers who ordered any of their candidates: all others have no right order."""
    ordered = np.unique(window.group[window.orders > 0])
    keep = np.isin(window.group, ordered)
    return Examples(
        window.features[keep], window.orders[keep], window.group[keep], window.weight[keep]
    )


def _ndcg(model: xgb.Booster, window: Examples) -> float:
    """Return the mean NDCG@10 over the customers of `_with_orders`."""
    margin = _margin(model, window.features)
    customer = np.unique(window.group, return_inverse=True)[1]
    order = np.lexsort((-margin, customer))
    starts = np.searchsorted(customer, np.arange(customer[-1] + 1))
    place = np.arange(len(order)) - starts[customer]
    hit = window.orders[order] > 0
    at_rank = np.zeros((len(starts), 10), dtype=bool)
    top = hit & (place < 10)
    at_rank[customer[top], place[top]] = True
    return float(ranking.ndcg_at_k(at_rank, np.bincount(customer[hit]), 10).mean())


def train(learn: Examples, rounds: Rounds, config: RecommendationConfig) -> xgb.Booster:
    """Train the given numbers of trees, once for each seed, and average; same examples, same bytes.

    What one seed learns beyond chance is what the others learn too.
    """
    models = [
        _train_one(learn, rounds, config.model_copy(update={"seed": config.seed + number}))
        for number in range(config.ranker_seeds)
    ]
    model = boosted_trees.average(models)
    model.feature_names = list(ALL[: learn.features.shape[1]])
    return model


def _train_one(learn: Examples, rounds: Rounds, config: RecommendationConfig) -> xgb.Booster:
    model = _count_trees(learn, config, rounds.count)
    return _rank_trees(model, learn, config, rounds.rank) if rounds.rank else model


def save(ranker: Ranker, folder: Path) -> None:
    """Write the trees (`TREES`) and, if there is one, the network (`NETWORK`, with its share)."""
    folder.mkdir(parents=True, exist_ok=True)
    ranker.trees.save_model(folder / TREES)
    if ranker.network:
        network.save(ranker.network, folder / NETWORK, ranker.share)


def load(folder: Path) -> Ranker:
    """Read what `save` wrote."""
    trees = xgb.Booster(model_file=folder / TREES)
    if not (folder / NETWORK).exists():
        return Ranker(trees)
    return Ranker(trees, *network.load(folder / NETWORK))


def score(ranker: Ranker, frame: pl.DataFrame) -> pl.DataFrame:
    """Return customer_id, product_id, is_new and score (higher is better) of candidates."""
    parts = [_scores(ranker, matrix(part)) for part in frame.iter_slices(_ROWS_AT_ONCE)]
    values = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
    return frame.select(*PAIR, pl.col("is_new") > 0).with_columns(
        pl.Series("score", values).cast(pl.Float64)
    )


def _scores(ranker: Ranker, features: NDArray[np.float32]) -> NDArray[np.float32]:
    values = _margin(ranker.trees, features)
    if ranker.network:
        values = _mixed(values, network.log_rate(ranker.network, features), ranker.share)
    return values


def _margin(trees: xgb.Booster, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the trees say, some rows at a time: a DMatrix takes twice what it is made of."""
    found = np.zeros(len(features), dtype=np.float32)
    for start in range(0, len(features), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        data = xgb.DMatrix(features[part], feature_names=trees.feature_names, nthread=THREADS)
        found[part] = trees.predict(data, output_margin=True)
    return found


def _mixed(
    trees: NDArray[np.float32], beside: NDArray[np.float64], share: float
) -> NDArray[np.float32]:
    return ((1 - share) * trees + share * beside).astype(np.float32)


@dataclass(frozen=True)
class _Watch:
    """A later window to stop by, and where the curve is written."""

    window: Examples
    curve: list[float]


def _tree_settings(config: RecommendationConfig) -> dict[str, object]:
    return {
        "tree_method": "hist",
        "max_depth": config.max_depth,
        "subsample": config.row_share,
        "colsample_bytree": config.column_share,
        "seed": config.seed,
        "nthread": THREADS,
    }


def _count_trees(
    learn: Examples, config: RecommendationConfig, rounds: int, watch: _Watch | None = None
) -> xgb.Booster:
    settings = _tree_settings(config) | {
        "objective": "count:poisson",
        "num_parallel_tree": config.trees_per_round,
        "learning_rate": config.learning_rate,
        "min_child_weight": config.min_child_weight,
    }

    def label(orders: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.minimum(orders, config.label_cap).astype(np.float32)

    return _boost(settings, (learn, label, rounds), config, watch)


def _rank_trees(
    base: xgb.Booster,
    learn: Examples,
    config: RecommendationConfig,
    rounds: int,
    watch: _Watch | None = None,
) -> xgb.Booster:
    settings = _tree_settings(config) | {
        "objective": "rank:ndcg",
        "lambdarank_pair_method": "topk",
        "lambdarank_num_pair_per_sample": 10,
        "learning_rate": config.rank_learning_rate,
        "max_depth": max(1, config.max_depth - 1),
        "min_child_weight": 1,
    }

    def label(orders: NDArray[np.float32]) -> NDArray[np.float32]:
        return (orders > 0).astype(np.float32)

    return _boost(settings, (learn, label, rounds), config, watch, base)


Label = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def _boost(
    settings: dict[str, object],
    work: tuple[Examples, Label, int],
    config: RecommendationConfig,
    watch: _Watch | None,
    base: xgb.Booster | None = None,
) -> xgb.Booster:
    learn, label, rounds = work

    def rows(window: Examples) -> boosted_trees.Rows:
        # XGBoost weighs rows, or whole groups where there are any: pairs are compared unweighted.
        told = {"qid": window.group} if base else {"weight": window.weight}
        return boosted_trees.Rows(window.features, label(window.orders), told)

    later = None
    if watch:
        metric = "ndcg@10" if base else "poisson-nloglik"
        later = boosted_trees.Watch(rows(watch.window), metric, config.patience, watch.curve)
    return boosted_trees.train("the ranker's trees", settings, rows(learn), rounds, later, base)
