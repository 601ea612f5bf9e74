"""The ranker learns what is planted, and only from what it is given."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import xgboost as xgb

from ecom_tasks.metrics import ranking
from ecom_tasks.recommendation import ranker
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.features import ALL, NAMES
from ecom_tasks.recommendation.ranker import Examples, Ranker, Rounds

CONFIG = RecommendationConfig(
    count_rounds=30, rank_rounds=5, patience=5, min_child_weight=1, column_share=1.0
)
TELLING = NAMES.index("recency_weighted_orders")


def planted(seed: int, customers: int = 60, each: int = 20) -> Examples:
    """Orders follow one feature alone; all others are noise."""
    random = np.random.default_rng(seed)
    rows = customers * each
    features = random.normal(size=(rows, len(NAMES))).astype(np.float32)
    orders = random.poisson(np.exp(1.5 * features[:, TELLING] - 1.5)).astype(np.float32)
    group = np.repeat(np.arange(customers, dtype=np.uint32), each)
    return Examples(features, orders, group, np.ones(rows, dtype=np.float32))


def frame(features: np.ndarray) -> pl.DataFrame:
    ids = [f"{number:05d}" for number in range(len(features))]
    return pl.DataFrame(features, schema=list(NAMES), orient="row").with_columns(
        customer_id=pl.lit("ann"), product_id=pl.Series(ids)
    )


def test_scores_follow_the_planted_feature() -> None:
    model = ranker.train(planted(1, customers=200), Rounds(30, 5), CONFIG)
    later = planted(2).features
    scored = ranker.score(Ranker(model), frame(later))
    assert np.corrcoef(later[:, TELLING], scored["score"].to_numpy())[0, 1] > 0.9
    assert scored.columns == ["customer_id", "product_id", "is_new", "score"]


def test_a_shop_that_knows_views_has_more_columns() -> None:
    few = planted(1)
    random = np.random.default_rng(9)
    views = random.normal(size=(len(few.orders), len(ALL) - len(NAMES))).astype(np.float32)
    more = replace(few, features=np.hstack([few.features, views]))
    seen = frame(few.features).with_columns(
        pl.Series(name, values) for name, values in zip(ALL[len(NAMES) :], views.T, strict=True)
    )
    for window, rows, names in ((few, frame(few.features), NAMES), (more, seen, ALL)):
        model = ranker.train(window, Rounds(10, 3), CONFIG)
        assert model.feature_names == list(names)
        assert ranker.matrix(rows) == pytest.approx(window.features)
        assert ranker.score(Ranker(model), rows)["score"].n_unique() > 1


def test_the_same_examples_give_the_same_bytes() -> None:
    first, second = (ranker.train(planted(1), Rounds(10, 3), CONFIG) for _ in range(2))
    assert first.save_raw("ubj") == second.save_raw("ubj")
    other = ranker.train(planted(2), Rounds(10, 3), CONFIG)
    assert first.save_raw("ubj") != other.save_raw("ubj")


def test_both_kinds_of_trees_stand_in_one_model() -> None:
    assert ranker.train(planted(1), Rounds(10, 3), CONFIG).num_boosted_rounds() == 13
    assert ranker.train(planted(1), Rounds(10, 0), CONFIG).num_boosted_rounds() == 10


def test_trees_grown_side_by_side_are_one_round() -> None:
    four = CONFIG.model_copy(update={"trees_per_round": 4, "ranker_seeds": 1})
    model = ranker.train(planted(1), Rounds(10, 3), four)
    assert model.num_boosted_rounds() == 13
    assert len(model.get_dump()) == 4 * 13
    again = ranker.train(planted(1), Rounds(10, 3), four)
    assert model.save_raw("ubj") == again.save_raw("ubj")


def test_a_ranker_is_the_mean_of_those_of_its_seeds() -> None:
    learn, data = planted(1), xgb.DMatrix(planted(2).features)
    one = CONFIG.model_copy(update={"ranker_seeds": 1, "row_share": 0.5})
    both = ranker.train(learn, Rounds(10, 3), one.model_copy(update={"ranker_seeds": 2}))
    alone = [
        ranker.train(learn, Rounds(10, 3), one.model_copy(update={"seed": one.seed + number}))
        for number in (0, 1)
    ]
    for each in (both, *alone):
        each.feature_names = None
    expected = np.mean([each.predict(data, output_margin=True) for each in alone], axis=0)
    assert both.predict(data, output_margin=True) == pytest.approx(expected, abs=1e-5)


def test_trees_of_expected_orders_end_where_the_later_orders_are_likeliest() -> None:
    config = CONFIG.model_copy(update={"patience": CONFIG.count_rounds, "rank_rounds": 0})
    learn, later = planted(1), planted(2)
    rounds, curves, trees = ranker.choose_rounds(learn, later, config)
    one = config.model_copy(update={"ranker_seeds": 1})
    margins = [
        ranker.score(Ranker(ranker.train(learn, Rounds(count, 0), one)), frame(later.features))[
            "score"
        ].to_numpy()
        for count in (1, rounds.count, config.count_rounds)
    ]
    orders = np.minimum(later.orders, config.label_cap)
    # -log of Poisson: rate - orders * log(rate) + log(orders!)
    factorial = np.array([math.lgamma(value + 1) for value in orders])
    expected = [np.mean(np.exp(log) - orders * log + factorial) for log in margins]
    found = curves["expected orders"]
    told = [found[count - 1] for count in (1, rounds.count, config.count_rounds)]
    assert told == pytest.approx(expected, abs=1e-4)
    assert found[rounds.count - 1] == min(found) < found[0]
    assert trees is not None
    alone = ranker.score(Ranker(trees), frame(later.features))["score"].to_numpy()
    assert alone == pytest.approx(margins[1])
    assert rounds.rank == 0


def test_a_window_without_orders_says_nothing_about_the_number_of_trees() -> None:
    later = planted(2)
    silent = replace(later, orders=np.zeros_like(later.orders))
    most = Rounds(CONFIG.count_rounds, CONFIG.rank_rounds)
    assert ranker.choose_rounds(planted(1), silent, CONFIG) == (most, {}, None)


def test_lambdamart_is_added_only_where_it_gains() -> None:
    learn, later = planted(1), planted(2)
    rounds, curves, _ = ranker.choose_rounds(learn, later, CONFIG)
    ranks = curves["LambdaMART"]
    assert ranks[rounds.rank] == max(ranks)
    without = CONFIG.model_copy(update={"rank_rounds": 0})
    alone, told, _ = ranker.choose_rounds(learn, later, without)
    assert (alone, told["LambdaMART"]) == (Rounds(rounds.count, 0), ranks[:1])


def test_without_lambdamart_ndcg_is_that_of_the_metrics() -> None:
    learn, later = planted(1), planted(2, customers=40)
    # Who ordered nothing has no right order, and does not count.
    silent = replace(later, orders=np.where(later.group % 4 == 0, 0, later.orders))
    without = CONFIG.model_copy(update={"rank_rounds": 0, "ranker_seeds": 1})
    rounds, curves, _ = ranker.choose_rounds(learn, silent, without)
    scored = ranker.score(Ranker(ranker.train(learn, rounds, without)), frame(later.features))
    who = pl.Series("customer_id", [f"{number:03d}" for number in later.group])
    rows = scored.with_columns(who).with_columns(right=pl.Series(silent.orders > 0))
    hits = ranking.hits(
        ranking.rank_within(rows, 10), rows.filter("right").select("customer_id", "product_id"),
        who, 10,
    )  # fmt: skip
    expected = ranking.ndcg_at_k(hits.at_rank, hits.positives, 10)
    assert len(expected) == 30
    assert curves["LambdaMART"] == [pytest.approx(expected.mean(), abs=1e-6)]


def test_examples_label_every_candidate_of_active_customers() -> None:
    candidates = pl.concat([frame(planted(1).features[:3]), frame(planted(2).features[:2])])
    candidates = candidates.with_columns(customer_id=pl.Series(["ann"] * 3 + ["bob"] * 2))
    labels = pl.DataFrame({"customer_id": ["ann"], "product_id": ["00001"], "orders": [4.0]})
    found = ranker.examples(candidates, labels)
    assert found.orders.tolist() == [0, 4, 0]  # bob was not there
    assert found.features.shape == (3, len(NAMES))
    assert found.group.tolist() == [0, 0, 0]


def test_joined_windows_keep_their_customers_apart() -> None:
    joined = ranker.join([planted(1, customers=3, each=2), planted(2, customers=2, each=2)])
    assert joined.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert len(joined.orders) == len(joined.features) == len(joined.weight) == 10


def test_thinning_keeps_all_orders_and_the_weight_of_the_whole() -> None:
    whole = planted(1, customers=400)
    thinned = ranker.thin(whole, 0.25, seed=3)
    assert thinned.orders.sum() == whole.orders.sum()
    rest = thinned.orders == 0
    assert set(thinned.weight[~rest]) == {1.0}
    assert thinned.weight[rest].sum() == pytest.approx((whole.orders == 0).sum(), rel=0.1)
    assert rest.sum() < 0.3 * (whole.orders == 0).sum()
    assert (ranker.thin(whole, 0.25, seed=3).features == thinned.features).all()
