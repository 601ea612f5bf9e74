"""Second stage of a backtest: a ranker over what generators propose, on any file of interactions.

It sees what each generator says of a product, how much the customer, the product and the pair were
seen, how long ago, and how often the product directly followed those that the customer had last.
It learns on a split within what is known: generators are fitted without the newest part of it, and
that part is what the ranker has to find. Then generators are fitted on all that is known, and the
same ranker orders what they propose.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import xgboost as xgb
from numpy.typing import NDArray
from scipy import sparse

from ecom_tasks.logs import track
from ecom_tasks.recommendation.candidates import rank_name, score_name
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.protocols import Split
from ecom_tasks.recommendation.ranker import THREADS
from ecom_tasks.training import boosted_trees

log = logging.getLogger(__name__)
_PAIR = ["customer_id", "product_id"]
_ROWS = 2_000
"""Customers whose candidates are held in memory at once."""
_LAST = 5
_NEWEST = 0.1
_FEWEST = 10
Lists = Mapping[str, pl.DataFrame]
FloatMatrix = NDArray[np.float32]


@dataclass(frozen=True)
class Ranker:
    """A trained second stage.

    Attributes
    ----------
    columns : what it sees, in this order
    curve : NDCG@10 of held-out customers after each tree
    rounds : trees used, those up to the best of the curve
    found : examples with a product to find among the candidates
    """

    model: xgb.Booster
    columns: list[str]
    curve: list[float]
    rounds: int
    found: int


@dataclass(frozen=True)
class Known:
    """What is known, as features need it; ids as in `known_of`.

    Attributes
    ----------
    customers, products, pairs : facts by id, each `_PAIR` column of which is a number
    follows : how often the column's product directly followed the row's, shape (products, products)
    last : each customer's newest products, shape (customers, `_LAST`), newest first, -1 for none
    """

    ids: dict[str, pl.Enum]
    customers: pl.DataFrame
    products: pl.DataFrame
    pairs: pl.DataFrame
    follows: sparse.csr_matrix
    last: NDArray[np.int64]


def learn(split: Split, lists: Lists, config: RecommendationConfig) -> Ranker | None:
    """Train a ranker on what must be found in a split.

    Parameters
    ----------
    split : within what is known: its held-out part is what is learnt to be found
    lists : generator -> customer_id, product_id, score, rank: what it proposes from `split.known`

    Returns
    -------
    The ranker, stopped by customers that it did not learn from; None where fewer than
    `smallest_training` of the candidates must be found.
    """
    known = known_of(split.known)
    frames = list(_labelled(known, lists, learners(split, config), split.held_out))
    found = int(sum(frame["found"].sum() for frame in frames))
    if found < max(config.smallest_training, _FEWEST):
        log.warning("No ranker: of what must be found %s are among the candidates, and it needs %s",
                    found, config.smallest_training)  # fmt: skip
        return None
    frame = pl.concat(frames)
    columns = [name for name in frame.columns if name not in {*_PAIR, "found"}]
    stops = _stop_by(frame["customer_id"], config.seed)
    values: list[float] = []
    model = boosted_trees.train(
        "the second stage's trees",
        _settings(config),
        _rows(frame.filter(~stops), columns),
        config.second_stage_rounds,
        boosted_trees.Watch(
            _rows(frame.filter(stops), columns), "ndcg@10", config.patience, values
        ),
    )
    rounds = model.best_iteration + 1
    log.info("ranker: NDCG@10 %.4f of held-out customers' candidates after %s trees",
             values[rounds - 1], rounds)  # fmt: skip
    return Ranker(model[:rounds], columns, values, rounds, found)


def learners(split: Split, config: RecommendationConfig) -> pl.Series:
    """Draw the customers from whom the ranker learns; the lists of others are not needed."""
    asked = split.held_out["customer_id"].unique().sort()
    most = min(config.second_stage_customers, len(asked))
    return asked.sample(most, seed=config.seed, shuffle=True).sort()


def _stop_by(customers: pl.Series, seed: int) -> pl.Series:
    """Return which rows are of customers by whom the training is stopped: every fifth, drawn."""
    each = customers.unique().sort()
    drawn = each.sample(-(-len(each) // 5), seed=seed, shuffle=True)
    return customers.is_in(drawn.implode())


def rank(ranker: Ranker, known: pl.DataFrame, lists: Lists, customers: pl.Series) -> pl.DataFrame:
    """Score what generators propose to these customers.

    Parameters
    ----------
    known : of a `Split`: all that is known
    lists : as for `learn`, proposed from `known`

    Returns
    -------
    DataFrame with customer_id, product_id (text), score
    """
    held = known_of(known)
    parts = []
    for frame in features(held, lists, customers):
        values = _values(frame, ranker.columns)
        data = xgb.DMatrix(values, feature_names=ranker.columns, nthread=THREADS)
        scores = ranker.model.predict(data, output_margin=True)
        parts.append(
            frame.select(
                pl.col(name).cast(pl.UInt32).cast(kind).cast(pl.String)
                for name, kind in held.ids.items()
            ).with_columns(pl.Series("score", scores).cast(pl.Float64))
        )
    none = {"customer_id": pl.String, "product_id": pl.String, "score": pl.Float64}
    return pl.concat(parts) if parts else pl.DataFrame(schema=none)


def importance(ranker: Ranker) -> dict[str, float]:
    """Return each feature's share of the gain of all splits, the largest first."""
    told = ranker.model.get_score(importance_type="total_gain")
    gains = {name: float(np.sum(gain)) for name, gain in told.items()}
    total = sum(gains.values()) or 1.0
    order = sorted(gains, key=lambda name: (-gains[name], name))
    return {name: round(gains[name] / total, 4) for name in order}


def known_of(known: pl.DataFrame) -> Known:
    """Return what the features of candidates are made from.

    Parameters
    ----------
    known : customer_id, product_id, order; oldest first
    """
    ids = {name: pl.Enum(known[name].unique().sort()) for name in _PAIR}
    place = pl.int_range(pl.len(), 0, -1).cast(pl.Float32)
    events = known.select(
        *_numbers(ids),
        (place / pl.len()).alias("since"),
    )
    # From 1, the newest, on.
    back = pl.int_range(pl.len(), 0, -1).over("customer_id")
    events = events.with_columns(back.cast(pl.Float32).alias("back"))
    newest = (pl.col("since") <= _NEWEST).sum().cast(pl.Float32)
    seen = pl.len().cast(pl.Float32)
    return Known(
        ids,
        events.group_by("customer_id").agg(
            seen.alias("customer_interactions"),
            pl.col("product_id").n_unique().cast(pl.Float32).alias("customer_products"),
            pl.col("since").min().alias("customer_since"),
        ),
        events.group_by("product_id").agg(
            seen.alias("product_interactions"),
            pl.col("customer_id").n_unique().cast(pl.Float32).alias("product_customers"),
            newest.alias("product_newest"),
            pl.col("since").min().alias("product_since"),
        ),
        events.group_by(_PAIR).agg(
            seen.alias("pair_interactions"), pl.col("back").min().alias("pair_back")
        ),
        _follows(events, len(ids["product_id"].categories)),
        _last(events, len(ids["customer_id"].categories)),
    )


def _numbers(ids: dict[str, pl.Enum]) -> list[pl.Expr]:
    """Return ids as their places among the known ones, null for those that are not known."""
    return [
        pl.col(name).cast(kind, strict=False).to_physical().cast(pl.UInt32)
        for name, kind in ids.items()
    ]  # fmt: skip


def _follows(events: pl.DataFrame, products: int) -> sparse.csr_matrix:
    before = pl.col("product_id").shift(1).over("customer_id")
    steps = events.select(before.alias("before"), "product_id").drop_nulls()
    ones = np.ones(steps.height, dtype=np.float32)
    at = (steps["before"].to_numpy(), steps["product_id"].to_numpy())
    follows = sparse.csr_matrix((ones, at), shape=(products, products))
    follows.sum_duplicates()
    return follows


def _last(events: pl.DataFrame, customers: int) -> NDArray[np.int64]:
    newest = events.filter(pl.col("back") <= _LAST)
    last = np.full((customers, _LAST), -1, dtype=np.int64)
    back = newest["back"].cast(pl.Int64).to_numpy() - 1
    last[newest["customer_id"].to_numpy(), back] = newest["product_id"].to_numpy()
    return last


def features(known: Known, lists: Lists, customers: pl.Series) -> Iterator[pl.DataFrame]:
    """Yield the candidates of some customers at a time, with what the ranker sees of them.

    Parameters
    ----------
    lists : as for `learn`; ids as text or as categories of `known.ids`
    customers : ids as text; those without a list have no rows

    Yields
    ------
    DataFrame
        customer_id, product_id as numbers, sorted, then float32 columns: of each generator
        `_score`, `_rank` (1 is its best) and `_gap` to its best score, null where it does not
        propose the product; `generators` that propose it; facts of customer, product and pair;
        `follows_last`, how often it followed the customer's last product, `follows_last_share` of
        all that followed that, and `follows_recent`, the same share for each of the last five
        products, by 1 / place.
    """
    rows = customers.cast(known.ids["customer_id"], strict=False).drop_nulls().unique()
    rows = rows.to_physical().cast(pl.UInt32).sort()
    coded = {name: _coded(frame, known, name) for name, frame in lists.items()}
    for start in track(range(0, len(rows), _ROWS), "blocks of candidates", -(-len(rows) // _ROWS)):
        frame = _united(coded, rows[start : start + _ROWS])
        if frame.height:
            yield _followed(
                frame
                .join(known.customers, on="customer_id", how="left")
                .join(known.products, on="product_id", how="left")
                .join(known.pairs, on=_PAIR, how="left")
                .sort(_PAIR),
                known,
            )


def _coded(frame: pl.DataFrame, known: Known, name: str) -> pl.DataFrame:
    best = pl.col("score").max().over("customer_id")
    return frame.select(
        *(
            pl.col(each).cast(kind).to_physical().cast(pl.UInt32)
            for each, kind in known.ids.items()
        ),
        pl.col("score").cast(pl.Float32).alias(score_name(name)),
        pl.col("rank").cast(pl.Float32).alias(rank_name(name)),
        (best - pl.col("score")).cast(pl.Float32).alias(f"{name}_gap"),
    )


def _united(coded: Lists, rows: pl.Series) -> pl.DataFrame:
    parts = {
        name: frame.filter(pl.col("customer_id").is_in(rows.implode()))
        for name, frame in coded.items()
    }
    united = pl.concat([frame.select(_PAIR) for frame in parts.values()]).unique()
    for frame in parts.values():
        united = united.join(frame, on=_PAIR, how="left")
    proposed = [pl.col(rank_name(name)).is_not_null().cast(pl.Float32) for name in coded]
    return united.with_columns(pl.sum_horizontal(proposed).alias("generators"))


def _followed(frame: pl.DataFrame, known: Known) -> pl.DataFrame:
    row, column = (frame[name].to_numpy().astype(np.int64) for name in _PAIR)
    total = np.maximum(np.asarray(known.follows.sum(axis=1)).ravel(), 1)
    people, at = np.unique(row, return_inverse=True)
    recent = np.zeros(len(row), dtype=np.float32)
    last = np.zeros(len(row), dtype=np.float32)
    share = np.zeros(len(row), dtype=np.float32)
    for place in range(_LAST):
        before = known.last[people, place]
        # One row a customer, of which few products are looked up.
        counts = known.follows[np.maximum(before, 0)]
        counts.sort_indices()
        values = np.asarray(counts[at, column]).ravel().astype(np.float32)
        values[before[at] < 0] = 0
        shares = values / total[np.maximum(before, 0)][at]
        recent += shares / (place + 1)
        if place == 0:
            last, share = values, shares.astype(np.float32)
    return frame.with_columns(
        pl.Series("follows_last", last),
        pl.Series("follows_last_share", share),
        pl.Series("follows_recent", recent),
    )


def _labelled(
    known: Known, lists: Lists, asked: pl.Series, held_out: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Yield the features of customers with something to find among their candidates."""
    right = held_out.select(_numbers(known.ids)).drop_nulls()
    right = right.with_columns(pl.lit(1.0, dtype=pl.Float32).alias("found"))
    for frame in features(known, lists, asked):
        labelled = frame.join(right, on=_PAIR, how="left", maintain_order="left").with_columns(
            pl.col("found").fill_null(0.0)
        )
        yield labelled.filter(pl.col("found").max().over("customer_id") > 0)


def _rows(frame: pl.DataFrame, columns: list[str]) -> boosted_trees.Rows:
    group = frame["customer_id"].rle_id().to_numpy()
    told = {"qid": group, "feature_names": columns}
    return boosted_trees.Rows(_values(frame, columns), frame["found"].to_numpy(), told)


def _values(frame: pl.DataFrame, columns: list[str]) -> NDArray[np.float32]:
    return frame.select(pl.col(columns).cast(pl.Float32)).to_numpy(order="c")


def _settings(config: RecommendationConfig) -> dict[str, object]:
    return {
        "objective": "rank:ndcg",
        "lambdarank_pair_method": "topk",
        "lambdarank_num_pair_per_sample": 10,
        "tree_method": "hist",
        "max_depth": config.max_depth,
        "min_child_weight": config.second_stage_child_weight,
        "learning_rate": config.rank_learning_rate,
        "subsample": config.row_share,
        "colsample_bytree": config.column_share,
        "seed": config.seed,
        "nthread": THREADS,
    }
