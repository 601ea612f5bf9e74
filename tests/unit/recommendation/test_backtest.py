"""Backtests of generators on data whose right answer is planted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from ecom_tasks import cli
from ecom_tasks.errors import ConfigError
from ecom_tasks.recommendation import backtest, protocols
from ecom_tasks.recommendation.candidates import ease, graph_filter
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


def test_the_graph_filter_is_the_formula_on_a_small_matrix() -> None:
    random = np.random.default_rng(5)
    orders = (random.random((9, 6)) < 0.5).astype(np.float32) + np.eye(9, 6, dtype=np.float32)
    config = CONFIG.model_copy(
        update={"graph_dimensions": 3, "graph_smooth_weight": 0.4, "graph_sharpening": 0.5}
    )
    known = sparse.csr_matrix(orders)
    found = graph_filter.score(known, graph_filter.fit(known, config), config)
    by_customer, by_product = orders.sum(1) ** 0.5, orders.sum(0) ** 0.5
    normal = orders / by_customer[:, None] / by_product[None, :]
    _, _, right = np.linalg.svd(normal)
    ideal = right[:3].T @ right[:3]
    smooth = normal.T @ normal
    blurred = orders @ smooth + 0.4 * (orders / by_product) @ ideal * by_product
    assert found == pytest.approx(blurred - 0.5 * blurred @ smooth, abs=1e-4)


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
    assert json.loads(out.read_text())["generators"]["ease"]["ndcg@10"] == 1
    printed = capsys.readouterr().out
    assert "ease" in printed
    assert "popular (baseline)" in printed
