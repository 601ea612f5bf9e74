"""Candidate generation on a shop whose blocks are planted: tastes never cross a block."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from ecom_tasks.recommendation import candidates
from ecom_tasks.recommendation.candidates import (
    als,
    lookalikes,
    matrix,
    neighbours,
    popular,
    repeat,
)
from ecom_tasks.recommendation.config import RecommendationConfig
from tests.builders import block_shop
from tests.unit.recommendation import shops
from tests.unit.recommendation.shops import block_of, snapshot

CONFIG = RecommendationConfig(
    repeat_candidates=5, neighbour_candidates=4, als_candidates=4, popular_candidates=3,
    als_factors=8, neighbour_shrinkage=1.0,
)  # fmt: skip
SHOP = block_shop(weeks=6, goods=12)
SNAPSHOT = snapshot(SHOP, SHOP.as_of)
KNOWN = SNAPSHOT.interactions(CONFIG.min_customers)
OWN = KNOWN.select("customer_id", "product_id")


@pytest.mark.parametrize("name", candidates.GENERATORS)
def test_every_generator_has_the_same_form(name: str) -> None:
    found = candidates.GENERATORS[name](KNOWN, CONFIG)
    assert found.columns == ["customer_id", "product_id", "score", "generator"]
    assert found["generator"].unique().to_list() == [name]
    assert not found.select("customer_id", "product_id").is_duplicated().any()
    assert set(found["customer_id"]) == set(KNOWN["customer_id"])
    again = candidates.GENERATORS[name](KNOWN.sample(fraction=1, shuffle=True, seed=1), CONFIG)
    key = ["customer_id", "product_id"]
    assert found.sort(key).equals(again.sort(key))


@pytest.mark.parametrize("generate", [neighbours.generate, als.generate, lookalikes.generate])
def test_new_products_come_from_the_customers_own_block(generate: candidates.Generator) -> None:
    found = generate(KNOWN, CONFIG).join(OWN, on=["customer_id", "product_id"], how="anti")
    best = found.sort("score", descending=True).group_by("customer_id").head(1)
    assert best.height > 0.8 * KNOWN["customer_id"].n_unique()
    assert best.filter(block_of("customer_id") != block_of("product_id")).is_empty()


LIKE = pl.DataFrame(
    [
        # a, b and c share rare goods; d, e and f others; milk is everybody's.
        *[(who, "rare", 1, 1.0, 0) for who in "abc"],
        *[(who, "other", 1, 1.0, 0) for who in "def"],
        *[(who, "milk", 1, 1.0, 0) for who in "abcdef"],
        ("b", "lately", 1, 1.0, 1),
        ("c", "long ago", 1, 1.0, 0),
        ("d", "elsewhere", 1, 1.0, 1),
    ],
    schema=["customer_id", "product_id", "orders", "recency_weighted_orders", "orders_28d"],
    orient="row",
)


def test_lookalikes_share_what_is_rare_and_propose_what_they_bought_lately() -> None:
    found = lookalikes.generate(LIKE, CONFIG.model_copy(update={"lookalikes": 2}))
    proposed = {who: frame for (who,), frame in found.group_by("customer_id")}
    assert proposed["a"]["product_id"].to_list() == ["lately"]
    # b and c both hold one thing more than they share with a, of the same rarity: half of the two.
    assert proposed["a"]["score"].to_list() == pytest.approx([1 / 2])
    # Nobody is his own lookalike: what b alone bought is no evidence for b.
    assert "b" not in proposed
    assert set(proposed["e"]["product_id"]) == {"elsewhere"}


def test_rarity_is_the_logarithm_of_how_few_buy() -> None:
    orders = sparse.csr_matrix(np.array([[1, 1], [0, 1], [0, 1], [0, 1]], dtype=np.float32))
    assert lookalikes.rarity(orders) == pytest.approx([np.log(4 / 2), 0.1])


def test_lookalikes_are_looked_for_among_no_more_than_asked_for() -> None:
    config = CONFIG.model_copy(update={"lookalike_customers": 5})
    kept = lookalikes.fit(KNOWN, config)
    assert len(kept.arrays["customers"]) == 5
    assert list(kept.arrays["customers"]) == sorted(kept.arrays["customers"])
    other = lookalikes.fit(KNOWN, config.model_copy(update={"seed": 8}))
    assert list(other.arrays["customers"]) != list(kept.arrays["customers"])
    assert not lookalikes.propose(kept, KNOWN, config).is_empty()


def test_who_buys_everything_says_little_where_purchases_are_weighed() -> None:
    # 0 and 1 share a customer of four products, 2 and 3 one of two, and all have one more each.
    orders = sparse.csr_matrix(
        np.array([[1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0]], dtype=np.float32)
    )
    nearness = {
        weighting: neighbours.similarity(neighbours.weighted(orders, weighting), 3, 0.0)
        for weighting in ("plain", "tf-idf", "bm25")
    }
    assert nearness["plain"][0, 1] == pytest.approx(1 / 2)
    # Of four products: the weight of who has n of them is log(4) - log(1 + n).
    everything, one = np.log(4 / 5), np.log(4 / 2)
    expected = everything**2 / (everything**2 + one**2)
    assert nearness["tf-idf"][0, 1] == pytest.approx(expected, rel=1e-5)
    # All products are bought twice: of texts of one length bm25 has only the words' weights.
    assert nearness["bm25"][0, 1] == pytest.approx(expected, rel=1e-5)
    assert nearness["tf-idf"][2, 3] == pytest.approx(1, rel=1e-5)
    config = CONFIG.model_copy(update={"neighbour_weighting": "bm25"})
    plain = neighbours.generate(KNOWN, CONFIG).sort(OWN.columns)
    assert not neighbours.generate(KNOWN, config).sort(OWN.columns).equals(plain)


def test_factors_are_learnt_on_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    known = matrix.encode([KNOWN], 100)
    expected = als.factorise(known, CONFIG)
    cpu, asked = als.als.AlternatingLeastSquares, []

    class OnGpu:
        """Stands for a model on the device, which has to be brought back."""

        def __init__(self, **dials: object) -> None:
            asked.append(dials.pop("use_gpu"))
            self.model = cpu(**dials)

        def fit(self, orders: object, **how: object) -> None:
            self.model.fit(orders, **how)

        def to_cpu(self) -> object:
            return self.model

    monkeypatch.setattr(als.device, "choose", lambda *_: "cuda")
    monkeypatch.setattr(als.als, "AlternatingLeastSquares", OnGpu)
    found = als.factorise(known, CONFIG)
    assert asked == [True]
    np.testing.assert_array_equal(found[1], expected[1])


def test_repeat_takes_the_most_and_most_recently_bought() -> None:
    found = repeat.generate(KNOWN, CONFIG)
    sizes = found.group_by("customer_id").len().join(OWN.group_by("customer_id").len("own"),
                                                     on="customer_id")  # fmt: skip
    assert (sizes["len"] == sizes["own"].clip(upper_bound=5)).all()
    left_out = KNOWN.join(found, on=["customer_id", "product_id"], how="anti")
    worst = found.group_by("customer_id").agg(pl.col("score").min())
    compared = left_out.join(worst, on="customer_id")
    assert compared.height > 0
    assert (compared["recency_weighted_orders"] <= compared["score"]).all()


def test_the_typical_interval_is_drawn_to_the_product_by_two_gaps() -> None:
    pairs = pl.DataFrame({
        "customer_id": ["ann", "bob", "eve", "zoe"],
        "product_id": ["milk", "milk", "new", "new"],
        "orders": [7.0, 1.0, 3.0, 1.0],
        "mean_days_between_orders": [10.0, None, 4.0, None],
    })
    usual = pl.DataFrame({
        "product_id": ["milk", "new"],
        "mean_days_between_purchases": [30.0, None],
    })
    found = repeat.typical_interval(pairs, usual).sort("customer_id")
    assert found["interval_days"].to_list() == [(6 * 10 + 2 * 30) / 8, 30.0, 4.0, None]


def test_a_product_is_due_when_its_interval_has_passed() -> None:
    pairs = pl.DataFrame({
        "customer_id": ["zoe", "ann", "bob", "eve"],
        "product_id": ["new", "milk", "milk", "new"],
        "orders": [1.0, 7.0, 1.0, 3.0],
        "mean_days_between_orders": [None, 10.0, None, 4.4],
        "days_since_last_order": [2.0, 3.0, 45.0, 4.0],
    })
    usual = pl.DataFrame({
        "product_id": ["milk", "new"],
        "mean_days_between_purchases": [30.0, None],
    })
    assert repeat.due(pairs, usual).rows() == [
        ("zoe", "new", None),
        ("ann", "milk", (6 * 10 + 2 * 30) // 8 - 3),
        ("bob", "milk", 30 - 45),  # overdue
        ("eve", "new", 4 - 4),
    ]


@given(
    orders=st.integers(1, 50),
    own=st.none() | st.floats(0.5, 400),
    usual=st.none() | st.floats(0.5, 400),
    passed=st.integers(0, 800),
)
def test_waiting_a_day_brings_every_due_day_one_day_nearer(
    orders: int, own: float | None, usual: float | None, passed: int
) -> None:
    def due_after(days: int) -> int | None:
        pair = pl.DataFrame(
            [("ann", "milk", float(orders), own, float(days))],
            schema={"customer_id": pl.String, "product_id": pl.String, "orders": pl.Float64,
                    "mean_days_between_orders": pl.Float64, "days_since_last_order": pl.Float64},
            orient="row",
        )  # fmt: skip
        goods = pl.DataFrame(
            [("milk", usual)],
            schema={"product_id": pl.String, "mean_days_between_purchases": pl.Float64},
            orient="row",
        )
        found: int | None = repeat.due(pair, goods)["due_in_days"].item()
        return found

    today, tomorrow = due_after(passed), due_after(passed + 1)
    if own is None and usual is None:
        assert today is None
        assert tomorrow is None
    else:
        assert today is not None
        assert tomorrow == today - 1
        ends = [each for each in (own, usual) if each is not None]
        assert min(ends) - 0.51 <= today + passed <= max(ends) + 0.51


def interactions(rows: list[tuple[str, str, float]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["customer_id", "product_id", "orders_28d"], orient="row")
    return frame.with_columns(orders=pl.lit(1.0), recency_weighted_orders=pl.lit(1.0))


def test_popular_counts_recent_customers_and_leaves_out_what_is_owned() -> None:
    known = interactions([
        ("ann", "old", 0), ("bob", "old", 0), ("eve", "old", 0),
        ("ann", "now", 9), ("bob", "now", 1), ("zoe", "one", 1),
    ])  # fmt: skip
    assert popular.popularity([known])["product_id"].to_list() == ["now", "one", "old"]
    found = popular.generate(known, CONFIG).sort("score", descending=True)
    assert found.filter(customer_id="ann")["product_id"].to_list() == ["one"]
    assert found.filter(customer_id="zoe")["product_id"].to_list() == ["now", "old"]


def test_similarity_is_the_cosine_with_shrinkage() -> None:
    orders = sparse.csr_matrix(np.array([[1, 1, 0], [1, 0, 2]], dtype=np.float32))
    near = neighbours.similarity(orders, neighbours=3, shrinkage=2.0).toarray()
    assert near[0, 1] == pytest.approx(1 / (np.sqrt(2) * 1 + 2))
    assert near[0, 2] == pytest.approx(2 / (np.sqrt(2) * 2 + 2))
    assert near[1, 2] == 0
    assert np.diag(near).tolist() == [0, 0, 0]
    nearest = neighbours.similarity(orders, neighbours=1, shrinkage=2.0).toarray()
    assert (nearest > 0).sum(axis=1).tolist() == [1, 1, 1]
    assert nearest[0, 2] > 0


def test_the_strongest_reason_is_a_product_the_customer_owns() -> None:
    known = matrix.encode(
        [interactions([("ann", "milk", 1), ("bob", "milk", 1), ("bob", "jam", 1), ("eve", "jam", 1),
                       ("eve", "nut", 1)])], 9)  # fmt: skip
    near = neighbours.similarity(known.orders, 9, 1.0)
    asked = pl.DataFrame({"customer_id": ["ann", "ann"], "product_id": ["jam", "nut"]})
    found = neighbours.strongest(asked, known, near)
    assert found.rows() == [("ann", "jam", "milk")]  # nobody who bought nuts bought milk


def test_reasons_of_some_pairs_at_a_time_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    known = matrix.encode([KNOWN], 100)
    near = neighbours.similarity(known.orders, 9, 1.0)
    pairs = KNOWN.select("customer_id").unique().sort("customer_id").join(
        known.products.select("product_id"), how="cross"
    )  # fmt: skip
    whole = neighbours.strongest(pairs, known, near)
    monkeypatch.setattr(neighbours, "_PAIRS", 7)
    assert 0 < whole.height < pairs.height
    assert neighbours.strongest(pairs, known, near).equals(whole)
    assert neighbours.strongest(pairs.clear(), known, near).equals(whole.clear())


def test_encoding_keeps_the_products_with_most_customers_and_every_customer() -> None:
    known = matrix.encode(
        [interactions([("ann", "milk", 1), ("bob", "milk", 1), ("eve", "jam", 1)])], 1
    )
    assert known.products["product_id"].to_list() == ["milk"]
    assert known.customers["customer_id"].to_list() == ["ann", "bob", "eve"]
    assert known.orders.toarray().ravel() == pytest.approx([np.log(2), np.log(2), 0])


def test_the_union_holds_own_products_from_repeat_alone() -> None:
    united = candidates.propose(KNOWN, shops.NOTHING, CONFIG)
    pair = ["customer_id", "product_id"]
    own = united.filter(pl.col("is_new") == 0)
    assert own.select(pair).equals(repeat.generate(KNOWN, CONFIG).select(pair).sort(pair))
    assert united.filter(pl.col("is_new") == 1).join(OWN, on=pair, how="semi").is_empty()
    assert not united.select(pair).is_duplicated().any()
    best = united.filter(pl.col("popular_rank") == 1)
    assert best["customer_id"].is_unique().all()
    assert best.height == united["customer_id"].n_unique()
