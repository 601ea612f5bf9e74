"""Judging: baselines beside the model, intervals, and the gate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from ecom_tasks.errors import DataContractError, ModelRejectedError
from ecom_tasks.metrics.ranking import Hits
from ecom_tasks.recommendation import evaluate
from ecom_tasks.recommendation.candidates.popular import popularity
from ecom_tasks.recommendation.config import RecommendationConfig

CONFIG = RecommendationConfig(resamples=50)
KNOWN = pl.DataFrame({
    "customer_id": ["ann", "ann", "bob", "eve"],
    "product_id": ["milk", "tea", "milk", "jam"],
    "recency_weighted_orders": [2.0, 1.0, 1.0, 1.0],
    "orders_28d": [1.0, 1.0, 1.0, 1.0],
})


def scored(rows: list[tuple[str, str, float, bool]]) -> pl.DataFrame:
    names = ["customer_id", "product_id", "score", "is_new"]
    return pl.DataFrame(rows, schema=names, orient="row")


BOUGHT = pl.DataFrame({
    "customer_id": ["ann", "ann", "bob", "new"],
    "product_id": ["tea", "jam", "jam", "milk"],
    "is_new": [False, True, True, True],
})


def hits(model: pl.DataFrame, bought: pl.DataFrame = BOUGHT) -> dict[str, dict[str, Hits]]:
    return evaluate.hits([(model, KNOWN)], popularity([KNOWN]), bought)


def test_model_and_baselines_are_judged_on_the_same_customers() -> None:
    model = scored([("ann", "tea", 9, False), ("ann", "jam", 8, True), ("bob", "milk", 3, False),
                    ("bob", "jam", 2, True)])  # fmt: skip
    found = evaluate.judge(hits(model), CONFIG)
    everything = found["all"]
    assert everything["customers"] == 2  # eve bought nothing, `new` was unknown
    second = 1 / math.log2(3)
    contenders = everything["contenders"]
    # ann's list is perfect; bob's only product stands second.
    assert contenders[evaluate.RANKER]["ndcg_at_10"] == pytest.approx((1 + second) / 2, abs=1e-6)
    # Own frequency: ann gets milk, tea (one of two found, at rank 2), bob milk.
    assert contenders[evaluate.FREQUENCY]["ndcg_at_10"] == pytest.approx(
        second / (1 + second) / 2, abs=1e-6
    )
    # Popularity: milk, then jam and tea by id.
    third = 1 / math.log2(4)
    assert contenders[evaluate.POPULAR]["ndcg_at_10"] == pytest.approx(
        ((second + third) / (1 + second) + second) / 2, abs=1e-6
    )
    assert everything["gain"]["over"] == evaluate.FREQUENCY
    assert everything["gain"]["ndcg_at_10"] == pytest.approx(
        (1 + second) / 2 - second / (1 + second) / 2, abs=1e-6
    )


def test_evidence_says_customer_by_customer_what_is_judged() -> None:
    model = scored([("ann", "tea", 9, False), ("ann", "jam", 8, True), ("bob", "milk", 3, False),
                    ("bob", "jam", 2, True)])  # fmt: skip
    evidence = evaluate.evidence(hits(model), "w")
    assert evidence["unit"].to_list() == ["ann", "bob"]
    second = 1 / math.log2(3)
    assert evidence["model"].to_list() == pytest.approx([0, 1 - second])
    assert evidence["baseline"].to_list() == pytest.approx([1 - second / (1 + second), 1])
    gain = evaluate.judge(hits(model), CONFIG)["all"]["gain"]["ndcg_at_10"]
    saved = (evidence["baseline"] - evidence["model"]).to_list()
    assert sum(saved) / 2 == pytest.approx(gain, abs=1e-6)
    assert evidence.columns == ["window", "unit", "weight", "model", "baseline"]


def test_new_products_are_ranked_without_what_the_customer_owns() -> None:
    model = scored([("ann", "tea", 9, False), ("ann", "jam", 8, True), ("bob", "milk", 3, False),
                    ("bob", "tea", 2, True)])  # fmt: skip
    new = evaluate.judge(hits(model), CONFIG)["new"]
    assert new["customers"] == 2
    assert new["contenders"][evaluate.RANKER]["ndcg_at_10"] == pytest.approx(1 / 2)
    assert new["contenders"][evaluate.POPULAR]["hit_rate_at_10"] == 1
    assert new["gain"]["over"] == evaluate.POPULAR


def windows(*gains: float) -> dict[str, Any]:
    gain = {"over": evaluate.FREQUENCY, "lower": -1.0, "upper": 1.0}
    return {f"w{n}": {"all": {"gain": gain | {"ndcg_at_10": g}}} for n, g in enumerate(gains)}


def test_the_gate_needs_a_gain_in_every_window() -> None:
    evaluate.gate(windows(0.01, 0.02), 0.0)
    for gains in ((0.01, 0.0), (-0.01, 0.5)):
        with pytest.raises(ModelRejectedError, match="own purchase frequency"):
            evaluate.gate(windows(*gains), 0.0)
    with pytest.raises(ModelRejectedError, match=r"From w0 the ranker gains 0\.0100"):
        evaluate.gate(windows(0.01, 0.02), 0.015)


def test_cold_products_are_judged_by_new_purchases_of_them_only() -> None:
    proposed = pl.DataFrame({"customer_id": ["ann", "bob"], "product_id": ["kiwi", "kiwi"],
                             "rank": [1, 1]})  # fmt: skip
    bought = pl.DataFrame({
        "customer_id": ["ann", "bob", "eve", "eve"],
        "product_id": ["kiwi", "lime", "milk", "kiwi"],
        "is_new": [True, True, True, False],
    })
    cold = pl.Series("product_id", ["kiwi", "lime"])
    nothing = proposed.clear()
    right = evaluate.new_cold(bought, cold)
    found = evaluate.judge_cold({"towers": proposed, "plain": nothing}, right, 1)
    # Ann found the kiwi, Bob wanted the lime; Eve had the kiwi, and milk is not cold.
    assert found == {"customers": 2, "towers": 1 / 2, "plain": 0}
    assert evaluate.judge_cold({"plain": nothing}, right.clear(), 1) == {"customers": 0}


@pytest.mark.parametrize(
    ("judged", "best"),
    [
        ({"customers": 9, "two_tower": 0.1, "new_popular": 0.4, "new_in_category": 0.3},
         "new_popular"),
        ({"customers": 9, "two_tower": 0.4, "new_popular": 0.4}, "two_tower"),
        ({"customers": 0}, "two_tower"),
    ],
)  # fmt: skip
def test_the_best_way_for_cold_products_is_taken(judged: dict[str, float], best: str) -> None:
    assert evaluate.best_cold(judged) == best


def test_where_nobody_bought_anything_new_there_is_nothing_to_say_of_it() -> None:
    model = scored([("ann", "tea", 9, False), ("bob", "milk", 3, False)])
    again = BOUGHT.filter(~pl.col("is_new"))
    found = evaluate.judge(hits(model, again), CONFIG)
    assert list(found) == ["all"]
    assert found["all"]["contenders"][evaluate.RANKER]["ndcg_at_10"] == 1
    # A stranger's purchase is nobody's whom a list was made for.
    stranger = BOUGHT.filter(pl.col("customer_id") == "new")
    with pytest.raises(DataContractError, match="nothing to judge by"):
        evaluate.judge(hits(model, stranger), CONFIG)


def test_newcomers_are_those_who_had_not_ordered_and_all_get_the_same_list() -> None:
    offers = {
        "good": pl.DataFrame({"product_id": ["milk", "tea"], "rank": [1, 2]}),
        "poor": pl.DataFrame({"product_id": ["oil", "milk"], "rank": [1, 2]}),
    }
    known = pl.Series("customer_id", ["ann", "bob", "eve"])
    found = evaluate.judge_newcomers(offers, known, BOUGHT, 10)
    assert found["customers"] == 1  # `new` alone, who bought milk
    second = round(1 / math.log2(3), 6)
    assert found["contenders"] == {
        "good": {"ndcg_at_10": 1.0, "hit_rate_at_10": 1.0},
        "poor": {"ndcg_at_10": second, "hit_rate_at_10": 1.0},
    }
    everybody = pl.Series("customer_id", ["ann", "bob", "eve", "new"])
    assert evaluate.judge_newcomers(offers, everybody, BOUGHT, 10) == {"customers": 0}


def test_customers_are_judged_block_by_block_as_all_at_once() -> None:
    random = np.random.default_rng(3)
    names = [f"p{number:02d}" for number in range(60)]
    people = ("ann", "bob", "eve", "idle")
    model = scored([
        (who, name, float(random.integers(0, 9)), number % 3 == 0)
        for who in people
        for number, name in enumerate(names)
    ])  # fmt: skip
    known = pl.DataFrame({
        "customer_id": [who for who in people for _ in range(5)],
        "product_id": random.choice(names, 20).tolist(),
        "recency_weighted_orders": random.random(20),
        "orders_28d": random.integers(0, 2, 20).astype(float),
    }).unique(["customer_id", "product_id"], maintain_order=True)
    bought = pl.DataFrame({
        "customer_id": [who for who in people[:3] for _ in range(8)],
        "product_id": [name for _ in range(3) for name in random.choice(names, 8, replace=False)],
        "is_new": random.random(24) < 0.5,
    })
    liked = popularity([known])
    whole = evaluate.hits([(model, known)], liked, bought)
    parts = [
        tuple(frame.filter(pl.col("customer_id").is_in(some)) for frame in (model, known))
        for some in (["eve", "idle"], ["ann"], ["bob"])
    ]
    found = evaluate.hits(parts, liked, bought)
    for question, contenders in whole.items():
        for name, hit in contenders.items():
            assert found[question][name].customers == hit.customers == ["ann", "bob", "eve"]
            assert (found[question][name].at_rank == hit.at_rank).all()
            assert (found[question][name].positives == hit.positives).all()
    assert evaluate.judge(found, CONFIG) == evaluate.judge(whole, CONFIG)
    assert whole["all"][evaluate.RANKER].at_rank.any()
