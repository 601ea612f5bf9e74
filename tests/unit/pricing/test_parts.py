"""A shop learnt in parts is the shop learnt whole, as far as parts know nothing of each other."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from ecom_tasks.pricing import backtest, panel_file, parts, pooling
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.model import Fitted
from ecom_tasks.sample_store import panel, world
from tests.unit.pricing import simulated

CONFIG = PricingConfig(trees=30)
COLUMNS = panel_file.Columns(
    "product", "week", "price", "units", "store", "category", ("price_cut", "display", "mailer")
)


def test_categories_stay_whole_and_parts_are_alike() -> None:
    rng = np.random.default_rng(0)
    sizes = pl.DataFrame({
        "product_id": [f"p{number:03d}" for number in range(300)],
        "category": [f"c{number // 10:02d}" for number in range(300)],
        "department": [f"d{number // 150}" for number in range(300)],
        "rows": rng.integers(50, 150, 300),
    })
    dealt = parts.split(sizes, 5000)
    assert sorted(name for part in dealt for name in part) == sizes["product_id"].to_list()
    frames = [sizes.filter(pl.col("product_id").is_in(part)) for part in dealt]
    categories = [set(frame["category"]) for frame in frames]
    assert sum(len(each) for each in categories) == len(set().union(*categories)) == 30
    rows = [int(frame["rows"].sum()) for frame in frames]
    assert len(rows) == -(-int(sizes["rows"].sum()) // 5000)
    largest = sizes.group_by("category").agg(pl.col("rows").sum())["rows"].max()
    assert max(rows) < 5000 + largest  # type: ignore[operator]
    assert min(rows) > 2500
    assert parts.split(sizes, 10**9) == [sizes["product_id"].to_list()]


def test_the_shops_elasticity_is_that_of_its_parts() -> None:
    rows = simulated.exact_rows({"a1": -1.5, "a2": -1.5, "b1": -1.5, "b2": -1.5})
    noise = np.random.default_rng(1).gamma(20.0, 1 / 20.0, rows.height)
    rows = rows.with_columns(pl.col("demand_ratio") * pl.Series(noise))
    [whole] = simulated.pooled(rows, []).to_dicts()
    solved = [
        simulated.elasticity.solve(rows.filter(pl.col("category") == name), []) for name in "ab"
    ]
    assert abs(solved[0]["slope"][0] - solved[1]["slope"][0]) > 0.01
    [both] = pooling.over_parts([pooling.sums(each) for each in solved], 0.95).to_dicts()
    for name, value in whole.items():
        assert both[name] == pytest.approx(value, rel=0.02), name


@pytest.fixture(scope="module")
def learnt() -> tuple[dict[str, Any], dict[str, Any], Fitted, world.World]:
    """One shop of four categories, learnt whole and in two parts."""
    scale = world.Scale(products=40, stores=12, weeks=60, category_size=10, seed=3)
    shop = world.create(scale)
    read = panel_file.check(panel.simulate(shop), COLUMNS)
    whole, _ = backtest.run(read, CONFIG)
    in_parts = CONFIG.model_copy(update={"part_rows": int(read.sizes["rows"].sum()) // 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOM_DASK", "threads")
        apart, fitted = backtest.run(read, in_parts)
    assert fitted is not None
    return whole, apart, fitted, shop


def test_parts_find_what_the_whole_finds(
    learnt: tuple[dict[str, Any], dict[str, Any], Fitted, world.World],
) -> None:
    whole, apart, fitted, shop = learnt
    assert [row["product"] for row in apart["products"]] == shop.product_ids
    one, two = (np.array([row["own_estimate"] for row in each["products"]])
                for each in (whole, apart))  # fmt: skip
    error = np.array([row["own_error"] for row in whole["products"]])
    # Trees of other rows, that is all.
    assert np.abs(one - two).max() < 0.5 * error.mean()
    assert not np.array_equal(one, two)
    for name in ("estimate", "lower", "upper"):
        assert apart["pooled"][name] == pytest.approx(whole["pooled"][name], abs=0.05)
    for name in ("rows", "plain_log_log", "plain_log_log_fixed_effects"):
        assert apart["pooled"][name] == pytest.approx(whole["pooled"][name])
    found = [{(row["product"], row["price_of"]) for row in each["cross"]}
             for each in (whole, apart)]  # fmt: skip
    assert len(found[0] & found[1]) > 0.8 * len(found[0] | found[1]) > 0
    truth = shop.elasticity.diagonal()
    lower, upper = (fitted.products[name].to_numpy() for name in ("lower", "upper"))
    assert np.mean((lower <= truth) & (truth <= upper)) >= 0.85


def test_parts_share_what_they_know_of_elasticities(
    learnt: tuple[dict[str, Any], dict[str, Any], Fitted, world.World],
) -> None:
    """Shrinkage sees all categories, not those of a part: the same share is borrowed."""
    whole, apart, _, _ = learnt
    one, two = (np.array([row["weight_borrowed"] for row in each["products"]])
                for each in (whole, apart))  # fmt: skip
    assert two == pytest.approx(one, abs=0.05)


def test_the_same_parts_give_the_same_figures(
    learnt: tuple[dict[str, Any], dict[str, Any], Fitted, world.World],
) -> None:
    _, apart, _, shop = learnt
    read = panel_file.check(panel.simulate(shop), COLUMNS)
    dealt = parts.split(read.sizes, int(read.sizes["rows"].sum()) // 2)
    config = parts.config_of_each(CONFIG, len(dealt))
    again = [backtest._part(read, config, each).told for each in reversed(dealt)]
    products = backtest.model.pool(again, config).products
    told = [backtest._rounded(value) for value in products["estimate"]]
    assert told == [row["estimate"] for row in apart["products"]]
    assert json.dumps(apart["products"])


def test_several_parts_learn_half_the_trees_twice_as_strong() -> None:
    assert parts.config_of_each(CONFIG, 1) == CONFIG
    each = parts.config_of_each(CONFIG, 2)
    assert each.trees * each.learning_rate == CONFIG.trees * CONFIG.learning_rate
    assert each.trees == CONFIG.trees // 2
    assert each.nuisance_rows == CONFIG.nuisance_rows // 2
