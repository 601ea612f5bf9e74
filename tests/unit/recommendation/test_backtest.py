"""Backtests of generators on data whose right answer is planted."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import sparse

from ecom_tasks import cli
from ecom_tasks.errors import ConfigError
from ecom_tasks.metrics.ranking import bootstrap_interval
from ecom_tasks.recommendation import backtest, protocols
from ecom_tasks.recommendation.candidates import Generator, ease, graph_filter, sequence
from ecom_tasks.recommendation.config import RecommendationConfig

CONFIG = RecommendationConfig(
    neighbour_shrinkage=1.0, als_factors=4, graph_dimensions=2, ease_l2=1.0
)
BLOCKS, CUSTOMERS, PRODUCTS = 2, 12, 6


def checkerboard() -> pl.DataFrame:
    """Customers who have all products of their block but one; that one comes last."""
    rows = []
    for block in range(BLOCKS):
        for customer in range(CUSTOMERS):
            missing = customer % PRODUCTS
            order = [p for p in range(PRODUCTS) if p != missing] + [missing]
            rows += [
                (f"b{block}-c{customer:02}", f"b{block}-p{product}", place)
                for place, product in enumerate(order)
            ]
    names = ["customer_id", "product_id", "order"]
    return pl.DataFrame(rows, schema=names, orient="row").sort("order", maintain_order=True)


@pytest.fixture(scope="module")
def judged() -> dict[str, dict[str, dict[str, float]]]:
    split = protocols.split(checkerboard(), "leave-one-out", None, 0.1)
    return backtest.run(split, ["neighbours", "als", "ease", "graph_filter"], CONFIG)


@pytest.mark.parametrize("name", ["neighbours", "als", "ease", "graph_filter"])
def test_the_missing_product_of_the_block_is_found_first(
    judged: dict[str, dict[str, dict[str, float]]], name: str
) -> None:
    found = judged["generators"][name]
    assert found["ndcg@10"] == found["recall@5"] == found["mrr@50"] == found["map@20"] == 1


def test_popularity_cannot_tell_the_blocks_apart(
    judged: dict[str, dict[str, dict[str, float]]],
) -> None:
    # All products are equally popular, so that ids decide.
    popular = judged["baselines"]["popular"]
    assert popular["hit_rate@10"] == 1
    half = CUSTOMERS
    first = 1.0  # block b0: its missing product has the smallest id of what is left
    behind = 1 / 7  # block b1: behind the 6 products of b0
    assert popular["mrr@10"] == pytest.approx((half * first + half * behind) / (2 * half), abs=1e-6)


def test_own_purchases_are_a_baseline_only_where_they_can_be_right(
    judged: dict[str, dict[str, dict[str, float]]],
) -> None:
    assert set(judged["baselines"]) == {"popular"}
    board = checkerboard()
    later = board.with_columns(pl.col("order") + 10)
    split = protocols.split(pl.concat([board, later]), "time-split", None, 0.5)
    again = backtest.run(split, ["popular"], CONFIG)
    # Everyone buys all six products again, which are all that they had.
    assert again["baselines"]["repeat"]["recall@10"] == 1
    # Popularity may name what is owned too: of 12 products by id the first 6 are those of block b0.
    assert again["baselines"]["popular"]["recall@5"] == pytest.approx(5 / 6 / 2, abs=1e-6)


def test_cohorts_count_everyone_once(judged: dict[str, dict[str, dict[str, float]]]) -> None:
    cohorts = judged["generators"]["ease"]["cohorts"]
    assert cohorts == {"5 to 19 products": {"customers": BLOCKS * CUSTOMERS, "ndcg@10": 1.0}}


def test_lists_are_judged_by_their_diversity_and_popularity_too(
    judged: dict[str, dict[str, dict[str, float]]],
) -> None:
    popular = judged["baselines"]["popular"]
    # Shown: the one product missing, and 6 of the other block. Of the 12 customers of a block each
    # product has 10 and two of them share 8; products of two blocks share none.
    shared, in_one_block, in_all = 8 / 10, 6 * 5 / 2, 7 * 6 / 2
    expected = 1 - in_one_block * shared / in_all
    assert popular["intra_list_diversity@10"] == pytest.approx(expected, abs=1e-6)
    # All products are equally popular: nothing is biased, and nothing to be weighed.
    assert popular["popularity_bias@10"] == 1
    assert popular["ips_recall@20"] == popular["recall@20"] == 1
    assert popular["ips_ndcg@10"] == popular["ndcg@10"] < 1


def table(text: str) -> pl.DataFrame:
    """`ann:milk ann:tea` as customer_id, product_id and, from 0, order."""
    rows = [pair.split(":") for pair in text.split()]
    names = ["customer_id", "product_id"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    return frame.with_row_index("order").select(*names, pl.col("order").cast(pl.Int64))


# "hit" makes up 6 of 12 interactions; t1 to t3 make up the others.
UNEVEN = protocols.Split(
    table("a:hit b:hit c:hit d:hit e:hit f:hit x:t1 y:t1 x:t2 y:t2 a:t3 b:t3"),
    table("x:hit y:hit a:t1 b:t2 c:new").drop("order"),
    repeats=False,
)


def test_what_is_found_among_popular_and_rare_products_is_told_apart() -> None:
    found = backtest.run(UNEVEN, ["popular"], CONFIG)["generators"]["popular"]
    assert found["product_cohorts"] == {
        "head": {"products": 1, "customers": 2, "recall@20": 1.0},
        # Nobody had what c bought.
        "tail": {"products": 3, "customers": 3, "recall@20": pytest.approx(2 / 3, abs=1e-6)},
    }
    # Weights: 1 for the hit, of 6 customers; of 2 customers; and of none, which counts as 1.
    hit, rare, new = 1, math.sqrt(6 / 2), math.sqrt(6 / 1)
    expected = (2 * hit + 2 * rare) / (2 * hit + 2 * rare + new)
    assert found["ips_recall@20"] == pytest.approx(expected, abs=1e-6)


def test_nothing_to_find_among_popular_products_is_no_cohort() -> None:
    rare = protocols.Split(UNEVEN.known, table("a:t1").drop("order"), repeats=False)
    found = backtest.run(rare, ["popular"], CONFIG)["generators"]["popular"]
    assert list(found["product_cohorts"]) == ["tail"]


def test_recall_has_an_interval_over_customers() -> None:
    found = backtest.run(UNEVEN, ["popular"], CONFIG)["generators"]["popular"]
    each = np.array([1.0, 1, 0, 1, 1])  # a, b, c, x, y
    low, high = bootstrap_interval(
        each, level=CONFIG.confidence, resamples=CONFIG.resamples, seed=CONFIG.seed
    )
    interval = found["recall@20_lower"], found["recall@20"], found["recall@20_upper"]
    assert interval == pytest.approx((low, 4 / 5, high), abs=1e-6)


def test_what_is_not_defined_is_none() -> None:
    # Own products are wrong by definition here, so that nothing is shown.
    found = backtest.run(UNEVEN, ["repeat"], CONFIG)["generators"]["repeat"]
    assert found["ndcg@10"] == 0
    assert found["novelty@10"] is None
    assert found["intra_list_diversity@10"] is None
    assert found["popularity_bias@10"] is None


def lists(text: str) -> pl.DataFrame:
    """`ann:milk ann:tea` as customer_id, product_id, rank: first milk, then tea."""
    place = pl.int_range(1, pl.len() + 1).over("customer_id")
    return table(text).select("customer_id", "product_id", place.alias("rank"))


def test_fusion_adds_reciprocal_ranks() -> None:
    one, other = lists("ann:a ann:b ann:c bob:a"), lists("ann:c ann:b bob:d")
    found = backtest.fuse([one, other], 2)
    assert found.select("customer_id", "product_id", "rank").rows() == [
        ("ann", "c", 1),  # ranks 3 and 1: a little more than 2 and 2
        ("ann", "b", 2),
        ("bob", "a", 1),  # of equal scores the smaller id
        ("bob", "d", 2),
    ]
    expected = [1 / 63 + 1 / 61, 1 / 62 + 1 / 62, 1 / 61, 1 / 61]
    assert found["score"].to_list() == pytest.approx(expected)


def test_the_order_of_the_lists_decides_nothing() -> None:
    # Both have the ranks 1, 2 and 7; unrounded, b would score more in the last digit.
    parts = []
    for rank_of_a, rank_of_b in ((1, 7), (7, 2), (2, 1)):
        products = [f"x{place}" for place in range(8)]
        products[rank_of_a - 1], products[rank_of_b - 1] = "a", "b"
        parts.append(lists(" ".join(f"ann:{product}" for product in products)))
    found = backtest.fuse(parts, 20).filter(pl.col("product_id").is_in(["a", "b"]))
    assert found["product_id"].to_list() == ["a", "b"]


def proposing(text: str) -> Generator:
    """Return a generator that proposes these products, best first."""
    proposed = table(text).select(
        "customer_id", "product_id", (-pl.col("order")).cast(pl.Float64).alias("score")
    )
    return lambda _interactions, _config: proposed


def test_the_model_blends_what_the_generators_propose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backtest.FURTHER, "one", proposing("x:t3 x:hit a:hit a:t2 a:t1"))
    monkeypatch.setitem(backtest.FURTHER, "other", proposing("x:t1 x:hit a:t1 y:t3 y:hit"))
    found = backtest.run(UNEVEN, ["one", "other"], CONFIG)
    # What a and x have already is taken out before it counts: t1 of a has ranks 2 and 1, behind and
    # above t2; hit of x has ranks 2 and 1. What only one proposes stays: hit of y is second.
    assert found["model"]["mrr@10"] == pytest.approx((1 + 1 + 1 / 2) / 5, abs=1e-6)
    assert found["generators"]["one"]["mrr@10"] == pytest.approx((1 / 2 + 1 / 2) / 5)
    assert list(backtest.contenders(found)) == [
        "popular (baseline)", "one", "other", "blend (model)",
    ]  # fmt: skip


def test_the_model_takes_as_long_as_all_its_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(interactions: pl.DataFrame, config: RecommendationConfig) -> pl.DataFrame:
        time.sleep(0.2)
        return proposing("a:t1")(interactions, config)

    monkeypatch.setitem(backtest.FURTHER, "slow", slow)
    found = backtest.run(UNEVEN, ["slow", "popular"], CONFIG)
    spent = [values["seconds"] for values in found["generators"].values()]
    assert found["model"]["seconds"] >= sum(spent) >= 0.2


def test_of_equal_scores_the_blend_has_the_smaller_id_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    products = [f"p{product}" for product in range(9)]
    there, back = (" ".join(f"a:{p}" for p in each) for each in (products, products[::-1]))
    monkeypatch.setitem(backtest.FURTHER, "there", proposing(there))
    monkeypatch.setitem(backtest.FURTHER, "back", proposing(back))
    known = table(f"a:hit {there.replace('a:', 'x:')}")
    split = protocols.Split(known, table("a:p8").drop("order"), repeats=False)
    model = backtest.run(split, ["there", "back"], CONFIG)["model"]
    # The outermost, p0 and p8, share ranks 1 and 9 and with them the highest score.
    assert model["mrr@10"] == 1 / 2


def test_the_model_of_one_generator_is_that_generator(
    judged: dict[str, dict[str, dict[str, float]]],
) -> None:
    assert judged["model"]["ndcg@10"] == 1  # all four put the same product first
    found = backtest.run(UNEVEN, ["popular", "popular"], CONFIG)
    assert found["model"] is found["generators"]["popular"]
    assert list(backtest.contenders(found)) == ["popular (baseline)"]


def test_no_generator_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="No generator is named"):
        backtest.run(UNEVEN, [], CONFIG)


def test_an_unknown_generator_is_named_beside_those_there_are() -> None:
    split = protocols.split(checkerboard(), "leave-one-out", None, 0.1)
    with pytest.raises(ConfigError, match="no generator magic") as error:
        backtest.run(split, ["magic"], CONFIG)
    assert "graph_filter" in str(error.value)


def test_one_customer_and_one_product_have_a_defined_result() -> None:
    one = pl.DataFrame({"customer_id": ["a", "a"], "product_id": ["x", "y"], "order": [1, 2]})
    split = protocols.split(one, "leave-one-out", None, 0.1)
    found = backtest.run(split, backtest.names(), CONFIG)
    assert {each["ndcg@10"] for each in found["generators"].values()} == {0.0}


def test_one_product_is_found_by_what_may_repeat() -> None:
    split = protocols.split(table("ann:a bob:a eve:a ann:a bob:a"), "time-split", None, 0.4)
    found = backtest.run(split, backtest.names(), CONFIG)
    for name in ("popular", "repeat"):
        values = found["baselines"][name]
        assert values["ndcg@10"] == values["recall@50"] == values["coverage@10"] == 1
        assert values["novelty@10"] == 0  # everyone has it
        assert values["popularity_bias@10"] == 1
        assert values["intra_list_diversity@10"] is None
    # Neighbours of a product are other products: there are none.
    assert found["generators"]["neighbours"]["ndcg@10"] == 0


def test_one_customer_alone_is_judged() -> None:
    split = protocols.split(table("ann:a ann:b ann:a ann:c"), "time-split", None, 0.5)
    found = backtest.run(split, backtest.names(), CONFIG)
    assert found["customers"] == 1
    best = found["baselines"]["repeat"]
    # Of a and c only a is known; all of one customer leaves the interval no width.
    assert best["recall@20_lower"] == best["recall@20"] == best["recall@20_upper"] == 1 / 2


def test_lists_end_with_the_catalogue() -> None:
    split = protocols.split(checkerboard(), "leave-one-out", None, 0.1)
    values = backtest.run(split, ["popular"], CONFIG)["generators"]["popular"]
    # Of 12 products 5 are owned: 7 are left, whether 10, 20 or 50 are asked for.
    assert values["recall@10"] == values["recall@50"] == 1
    assert values["ndcg@10"] == values["ndcg@20"] == values["ndcg@50"]
    assert values["coverage@10"] == 1


def test_the_command_refuses_what_cannot_be_judged(tmp_path: Path) -> None:
    file, out = tmp_path / "same.parquet", tmp_path / "out.json"
    table("ann:a bob:a ann:a bob:a").write_parquet(file)
    arguments = ["backtest", "recommendation", "--interactions", str(file), "--product",
                 "product_id", "--position", "order", "--protocol", "leave-one-out",
                 "--json", str(out), "--customer"]  # fmt: skip
    assert cli.main([*arguments, "customer_id"]) == 2
    assert cli.main([*arguments, "client"]) == 2
    assert not out.exists()


def test_ease_solves_the_ridge_of_each_product_on_the_others() -> None:
    random = np.random.default_rng(3)
    orders = (random.random((40, 5)) < 0.5).astype(np.float32)
    found = ease.weights(sparse.csr_matrix(orders), 2.0)
    for product in range(5):
        others = [p for p in range(5) if p != product]
        x, y = orders[:, others].astype(float), orders[:, product].astype(float)
        expected = np.linalg.solve(x.T @ x + 2.0 * np.eye(4), x.T @ y)
        assert found[others, product] == pytest.approx(expected, abs=1e-4)
        assert found[product, product] == 0


def low_rank(products: int) -> NDArray[np.float32]:
    """Return orders of 40 customers that six directions explain."""
    random = np.random.default_rng(4)
    orders = random.random((40, 6)) @ random.random((6, products))
    return orders.astype(np.float32)


def test_truncated_ease_is_ease_where_no_direction_is_left_out() -> None:
    orders = low_rank(15)
    orders[:, 3] = 0
    known = sparse.csr_matrix(orders)
    found = ease.truncate(known, 2.0, 6, 7)(known)
    assert found == pytest.approx(orders @ ease.weights(known, 2.0), rel=1e-3, abs=1e-3)


def test_truncated_ease_is_the_formula_with_the_strongest_directions_alone() -> None:
    orders = low_rank(15)
    _, values, turned = np.linalg.svd(orders.astype(float), full_matrices=False)
    only = turned[:3].T * (values[:3] ** 2 / (values[:3] ** 2 + 2.0)) @ turned[:3]
    own = np.diag(only).copy()
    np.fill_diagonal(only, 0)
    known = sparse.csr_matrix(orders)
    found = ease.truncate(known, 2.0, 3, 7)(known[5:9])
    assert found == pytest.approx(orders[5:9] @ only / (1 - own), rel=1e-3)


def test_ease_is_truncated_above_the_bound_and_finds_the_missing_product_too() -> None:
    split = protocols.split(checkerboard(), "leave-one-out", None, 0.1)
    config = CONFIG.model_copy(update={"ease_exact": BLOCKS * PRODUCTS - 1, "ease_dimensions": 2})
    assert backtest.run(split, ["ease"], config)["model"]["mrr@10"] == 1
    known = sparse.csr_matrix(np.ones((3, BLOCKS * PRODUCTS), dtype=np.float32))
    assert isinstance(ease.mixer(ease.mixture(known, config)), ease.Truncated)
    assert not isinstance(ease.mixer(ease.mixture(known[:, 1:], config)), ease.Truncated)


def few_bought(seed: int) -> NDArray[np.float32]:
    """Return purchases in which everyone and everything has at least one."""
    random = np.random.default_rng(seed)
    return (random.random((9, 6)) < 0.5).astype(np.float32) + np.eye(9, 6, dtype=np.float32)


def filtered(orders: NDArray[np.float32], **dials: float) -> NDArray[np.float32]:
    plain = {"smooth_weight": 0.0, "sharpening": 0.0, "popularity": 0.0}
    dialled = {f"graph_{name}": value for name, value in (plain | dials).items()}
    config = CONFIG.model_copy(update=dialled)
    known = sparse.csr_matrix(orders)
    return graph_filter.score(known, graph_filter.fit(known, config), config)


def blurring(orders: NDArray[np.float32]) -> NDArray[np.float64]:
    normal = orders / orders.sum(1)[:, None] ** 0.5 / orders.sum(0)[None, :] ** 0.5
    return np.asarray(normal.T @ normal, dtype=np.float64)


def one_step(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve dx/dt = -x over z at once, by the classic method of Runge and Kutta."""
    first = -1.0
    second = -(1 + z / 2 * first)
    third = -(1 + z / 2 * second)
    fourth = -(1 + z * third)
    return 1 + z / 6 * (first + 2 * second + 2 * third + fourth)


def test_sharpening_runs_blurring_backwards() -> None:
    # Four pairs of products that only occur together: nothing lies beyond the four signals known.
    orders = np.repeat(few_bought(5)[:, :4], 2, axis=1)
    smooth = blurring(orders)
    value, vector = np.linalg.eigh(smooth)
    root = orders.sum(0) ** 0.5
    ideal = vector[:, -4:] @ vector[:, -4:].T
    for long, weight, power in ((0.0, 0.0, 0.0), (0.5, 0.4, 0.0), (2.0, 0.15, 0.3)):
        blurred = orders @ smooth + weight * (orders / root) @ ideal * root
        back = (vector * one_step(long * value)) @ vector.T
        dials = {"smooth_weight": weight, "sharpening": long, "popularity": power}
        found = filtered(orders, dimensions=4, **dials)
        assert found == pytest.approx(blurred @ back * root ** (2 * power), abs=1e-4)


def test_beyond_the_smoothest_signals_a_straight_line_stands_for_the_sharpening() -> None:
    orders = few_bought(5)
    value, vector = np.linalg.eigh(blurring(orders))
    last = value[-3]
    line = 1 + value * (one_step(2 * last) - 1) / last
    kept = np.where(value > last, one_step(2 * value), line)
    blurred = orders @ blurring(orders)
    found = filtered(orders, dimensions=3, sharpening=2.0)
    assert found == pytest.approx(blurred @ (vector * kept) @ vector.T, abs=1e-4)
    exact = blurred @ (vector * one_step(2 * value)) @ vector.T
    off = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(blurred, axis=1)
    assert 0.001 < off.max() <= (2 * last) ** 2 / 8


def test_sharpening_keeps_a_part_of_what_separate_groups_share() -> None:
    # In a group without any difference all that there is to find is the group. A plain step of
    # length 1 along the equation leaves nothing of it.
    orders = np.kron(np.eye(2), np.ones((4, 3))).astype(np.float32)
    smooth = blurring(orders)
    assert orders @ (smooth - smooth @ smooth) == pytest.approx(0, abs=1e-6)
    for length in (1.0, 2.5):
        left = 1 - length + length**2 / 2 - length**3 / 6 + length**4 / 24
        for dimensions in (1, 2, 5):
            found = filtered(orders, dimensions=dimensions, sharpening=length)
            assert found == pytest.approx(left * orders, abs=1e-5)


def test_of_products_that_stand_alike_the_popular_one_goes_first() -> None:
    found = [
        filtered(few_bought(5), dimensions=3, sharpening=1.0, popularity=power)
        for power in (0.0, 0.5)
    ]
    degree = few_bought(5).sum(0)
    assert found[1] / found[0] == pytest.approx(np.tile(degree**0.5, (9, 1)), rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (1, 1), (2, 2)])
def test_a_graph_too_small_for_any_signal_is_filtered_exactly(shape: tuple[int, int]) -> None:
    orders = np.ones(shape, dtype=np.float32)
    left = 1 - 2 + 2**2 / 2 - 2**3 / 6 + 2**4 / 24
    expected = left * orders @ blurring(orders)
    assert filtered(orders, sharpening=2.0) == pytest.approx(expected, abs=1e-5)


def test_the_command_writes_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "board.parquet", tmp_path / "out.json"
    checkerboard().write_parquet(file)
    arguments = ["backtest", "recommendation", "--interactions", str(file), "--customer",
                 "customer_id", "--product", "product_id", "--protocol", "leave-one-out",
                 "--generators", "ease", "--json", str(out)]  # fmt: skip
    assert cli.main(arguments) == 2  # which one came last is not said
    assert cli.main([*arguments, "--position", "order"]) == 0
    written = json.loads(out.read_text())
    assert written["generators"]["ease"]["ndcg@10"] == written["model"]["ndcg@10"] == 1
    printed = capsys.readouterr().out
    assert "ease" in printed
    assert "popular (baseline)" in printed


def test_the_command_ranks_several_generators_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "board.parquet"
    checkerboard().write_parquet(file)
    learnt_from: list[protocols.Split | None] = []

    def spy(*arguments: object) -> dict[str, object]:
        learnt_from.append(cast("protocols.Split | None", arguments[-1]))
        raise ConfigError("seen", "enough")

    monkeypatch.setattr(backtest, "run", spy)
    command = ["backtest", "recommendation", "--interactions", str(file), "--customer",
               "customer_id", "--product", "product_id", "--protocol", "leave-one-out",
               "--position", "order", "--generators"]  # fmt: skip
    for further in ("ease", "ease als", "ease --ranker", "ease als --no-ranker"):
        assert cli.main([*command, *further.split()]) == 2
    one, several, asked, refused = learnt_from
    assert one is refused is None
    assert several is not None
    assert asked is not None
    # The last known product of each of the 24 customers, which is the second last of all.
    assert several.held_out.equals(asked.held_out)
    assert several.held_out.height == BLOCKS * CUSTOMERS
    assert several.known["order"].max() == 3


def test_the_command_blends_where_the_ranker_has_nothing_to_learn_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "two.parquet", tmp_path / "out.json"
    # Two events a customer: one is known, and nothing of it can be held out.
    table("ann:a bob:a ann:b bob:c").write_parquet(file)
    arguments = ["backtest", "recommendation", "--interactions", str(file), "--customer",
                 "customer_id", "--product", "product_id", "--protocol", "leave-one-out",
                 "--position", "order", "--generators", "ease", "popular",
                 "--json", str(out)]  # fmt: skip
    assert cli.main(arguments) == 0
    assert "blend (model)" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert written["ranker"] is None
    assert written["model"] == written["blend"]


def test_a_transformer_need_not_be_trained_again_to_read_longer_histories(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = CONFIG.model_copy(
        update={"sequence_epochs": 1, "sequence_size": 4, "sequence_refit": False}
    )
    split = protocols.split(checkerboard(), "leave-one-out", None, 0.1)
    within = protocols.within(split.known, "leave-one-out", 0.1, 7)
    fits, read = [], []
    fit, propose = sequence.fit, sequence.propose

    def watched_fit(parts: Iterable[pl.DataFrame], config: RecommendationConfig) -> sequence.Fitted:
        fits.append(sum(part.height for part in parts))
        return fit(parts, config)

    def watched_propose(
        fitted: sequence.Fitted, interactions: pl.DataFrame, config: RecommendationConfig
    ) -> pl.DataFrame:
        read.append(interactions.join(fitted.products, on="product_id", how="semi").height)
        return propose(fitted, interactions, config)

    monkeypatch.setattr(sequence, "fit", watched_fit)
    monkeypatch.setattr(sequence, "propose", watched_propose)
    backtest.run(split, ["sequence", "follows"], config, within)
    assert fits == [within.known.height]
    # What was not known then stays unknown.
    longer = split.known.join(within.known, on="product_id", how="semi").height
    assert read == [within.known.height, longer]
    assert longer > within.known.height


def test_the_kind_of_an_event_is_read_where_a_column_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What is put into the basket is followed by x, what is only looked at by y.
    rows = [
        row
        for person in range(60)
        for kind, then in [(("cart", "x"), ("view", "y"))[person % 2]]
        for row in (
            (f"c{person:02}", f"a{person % 5}", 1, kind),
            (f"c{person:02}", then, 2, "cart"),
        )
    ]
    table = pl.DataFrame(rows, schema=["who", "what", "place", "kind"], orient="row")
    settings = {"epochs": 60, "size": 16, "validation": 0, "batch": 16, "learning_rate": 0.01,
                "blocks": 1, "dropout": 0.0, "negatives": 0}  # fmt: skip
    taught = table.filter((pl.col("place") == 1) | (pl.col("who") < "c50"))
    asked = table.filter((pl.col("place") == 2) & (pl.col("who") >= "c50"))
    taught.write_parquet(tmp_path / "taught.parquet")
    asked.write_parquet(tmp_path / "asked.parquet")
    command = [
        "backtest", "recommendation", "--interactions", str(tmp_path / "taught.parquet"),
        "--customer", "who", "--product", "what", "--position", "place", "--protocol",
        "given-split", "--test", str(tmp_path / "asked.parquet"), "--generators", "sequence",
        "--json", str(tmp_path / "out.json"),
        *(f"--set=recommendation.sequence_{name}={value}" for name, value in settings.items()),
    ]  # fmt: skip

    assert cli.main([*command, "--event", "kind"]) == 0
    # Every product came before x and before y: without its kind nobody could tell.
    assert json.loads((tmp_path / "out.json").read_text())["model"]["mrr@5"] == 1
    capsys.readouterr()
    assert cli.main([*command, "--event", "none"]) != 0
    assert "has no column none" in capsys.readouterr().err
