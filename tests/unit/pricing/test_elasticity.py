"""Slopes, their intervals, shrinkage and grades, where the answer can be derived."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ecom_tasks.pricing import elasticity, evidence, shrinkage
from ecom_tasks.pricing.config import PricingConfig
from tests.unit.pricing import simulated
from tests.unit.pricing.simulated import exact_rows

CONFIG = PricingConfig()


def noisy(seed: int, products: int = 5) -> pl.DataFrame:
    rows = exact_rows({f"a{number}": -2.0 for number in range(products)}, seed=seed)
    rng = np.random.default_rng(seed)
    return rows.with_columns(
        pl.col("demand_ratio") * pl.Series(rng.gamma(4.0, 1 / 4.0, rows.height)),
        pl.Series("weight", rng.uniform(0.5, 2.0, rows.height)),
    )


def test_slopes_are_exact_without_noise() -> None:
    truth = {"a1": -2.0, "a2": -0.5, "b1": 0.0, "b2": -4.0}
    found = simulated.by_product(exact_rows(truth), CONFIG)
    slopes = dict(found.select("product_id", "own_estimate").rows())
    assert slopes == pytest.approx(truth, abs=1e-6)
    assert found["own_error"].max() == pytest.approx(0.0, abs=1e-6)


def test_a_category_pools_its_own_products_only() -> None:
    found = simulated.pooled(
        exact_rows({"a1": -2.0, "a2": -2.0, "b1": 1.0, "b2": 1.0}), ["category"], 0.95
    )
    assert found["category"].to_list() == ["a", "b"]
    assert found["estimate"].to_list() == pytest.approx([-2.0, 1.0], abs=1e-6)
    assert found["products"].to_list() == [2.0, 2.0]


def test_the_level_of_a_series_does_not_matter() -> None:
    rows = noisy(1)
    scaled = rows.with_columns(
        pl.col("demand_ratio") * pl.when(pl.col("product_id") == "a1").then(9.0).otherwise(1.0)
    )
    first, second = (simulated.pooled(each, [], 0.95)["estimate"][0] for each in (rows, scaled))
    assert first == pytest.approx(second, abs=1e-9)


def test_the_moment_condition_holds_at_the_answer() -> None:
    solved = elasticity.solve(noisy(2), [])
    weight, shock, rest = (solved[name].to_numpy() for name in ("weight", "shock", "rest"))
    assert (weight * shock * rest).sum() == pytest.approx(0.0, abs=1e-9)


def test_the_interval_is_that_of_two_way_clusters() -> None:
    """An independent computation, cluster by cluster."""
    rows = noisy(3)
    solved = elasticity.solve(rows, [])
    weight, shock, rest = (solved[name].to_numpy() for name in ("weight", "shock", "rest"))
    score = weight * shock * rest
    information = weight * shock**2 * (1 + rest)

    def squares(keys: list[object]) -> float:
        total = 0.0
        for key in set(keys):
            mine = np.array([each == key for each in keys])
            share = information[mine].sum() / information.sum()
            total += (score[mine].sum() / (1 - share)) ** 2
        return float(total)

    products, weeks = solved["product_id"].to_list(), solved["week_starts_on"].to_list()
    by_product = squares(products)
    both = by_product + squares(weeks) - squares(list(zip(products, weeks, strict=True)))
    error = np.sqrt(max(by_product, both)) / information.sum()
    [found] = simulated.pooled(rows, [], 0.95).to_dicts()
    assert found["standard_error"] == pytest.approx(error)
    quantile = stats.t.ppf(0.975, min(5, 30) - 1)
    assert found["upper"] - found["estimate"] == pytest.approx(quantile * error)
    assert found["estimate"] - found["lower"] == pytest.approx(quantile * error)


def test_one_product_alone_gets_no_interval() -> None:
    assert simulated.pooled(exact_rows({"a1": -2.0}), ["category"], 0.95).is_empty()


def test_a_product_whose_price_stands_still_has_no_estimate() -> None:
    rows = noisy(5, products=4).filter(pl.col("product_id") != "a0")
    still = rows.with_columns(
        pl.when(pl.col("product_id") == "a2").then(0.0).otherwise("price_left").alias("price_left")
    )
    found = simulated.by_product(still, CONFIG)
    assert found["own_error"].is_null().to_list() == [False, True, False]
    assert found["own_estimate"].is_null().to_list() == [False, True, False]


def test_the_placebo_finds_customers_who_know_next_weeks_price() -> None:
    rows = noisy(4, products=8)
    ahead = pl.col("price_left").shift(-1).over("product_id").fill_null(0.0)
    waiting = rows.with_columns(pl.col("demand_ratio") * (1.5 * ahead).exp())
    [blind] = simulated.placebo_of(rows, [], 0.95).to_dicts()
    [seeing] = simulated.placebo_of(waiting, [], 0.95).to_dicts()
    assert blind["lower"] < 0 < blind["upper"]
    assert seeing["lower"] > 0
    assert seeing["estimate"] == pytest.approx(1.5, abs=0.5)


def test_the_placebo_asks_only_weeks_with_a_sale_before_weeks_with_a_sale() -> None:
    second = pl.int_range(pl.len()).over("product_id") % 2 == 0
    rows = noisy(6).with_columns(second.alias("sold"))
    assert simulated.placebo_of(rows, [], 0.95).is_empty()


def own(estimates: list[float | None], errors: list[float | None]) -> pl.DataFrame:
    count = len(estimates)
    return pl.DataFrame({
        "product_id": [f"p{number}" for number in range(count)],
        "category": "c",
        "department": "d",
        "own_estimate": pl.Series(estimates, dtype=pl.Float64),
        "own_error": pl.Series(errors, dtype=pl.Float64),
    })


NO_POOLED = pl.DataFrame(schema={"category": pl.String, "standard_error": pl.Float64})


def test_certain_products_keep_their_estimate_and_blind_ones_take_the_categorys() -> None:
    estimates = [-3.0, -2.0, -1.0, None]
    products, categories = shrinkage.shrink(
        own(estimates, [1e-3, 1e-3, 1e-3, None]), NO_POOLED, 0.95
    )
    assert products["estimate"].to_list()[:3] == pytest.approx([-3.0, -2.0, -1.0], abs=1e-3)
    assert products["weight_borrowed"].to_list() == pytest.approx([0, 0, 0, 1.0], abs=1e-3)
    assert products["estimate"][3] == pytest.approx(categories["drawn_estimate"][0])
    assert products["estimate"][3] == pytest.approx(-2.0, abs=0.01)
    # What a product without weeks may be is at least as wide as its siblings differ.
    assert products["upper"][3] - products["lower"][3] > 2 * 1.96 * 0.8


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-4, 1), min_size=3, max_size=12), st.floats(0.1, 3))
def test_a_drawn_estimate_lies_between_its_own_and_its_categorys(
    estimates: list[float], error: float
) -> None:
    products, categories = shrinkage.shrink(
        own(list(estimates), [error] * len(estimates)), NO_POOLED, 0.95
    )
    mean = categories["drawn_estimate"][0]
    for row in products.iter_rows(named=True):
        low, high = sorted([row["own_estimate"], mean])
        assert low - 1e-9 <= row["estimate"] <= high + 1e-9
        assert 0 <= row["weight_borrowed"] <= 1
        assert row["lower"] < row["estimate"] < row["upper"]


def test_the_difference_between_siblings_is_learnt() -> None:
    rng = np.random.default_rng(0)
    count, true = 2000, 0.8
    children = pl.DataFrame({
        "category": [f"c{number % 20}" for number in range(count)],
        "estimate": rng.normal(-1.5, np.hypot(true, 0.5), count),
        "variance": 0.5**2,
    })
    weights = shrinkage.between(children, "category")
    assert weights.sum() == pytest.approx(1.0)
    assert np.sqrt(weights @ np.linspace(0.05, 2.0, 40) ** 2) == pytest.approx(true, abs=0.05)


def test_the_difference_is_weighed_by_its_restricted_likelihood() -> None:
    """The same by integrating over the unknown mean of each category."""
    children = pl.DataFrame({
        "category": ["a", "a", "a", "b", "b"],
        "estimate": [-1.0, -2.5, -0.3, 0.2, -0.4],
        "variance": [0.1, 0.4, 0.2, 0.3, 0.05],
    })
    grid = np.linspace(-15, 15, 6001)
    likelihood = []
    for root in np.linspace(0.05, 2.0, 40):
        value = 1.0
        for category in ("a", "b"):
            mine = children.filter(pl.col("category") == category)
            scale = np.sqrt(mine["variance"].to_numpy() + root**2)[:, None]
            density = stats.norm.pdf(mine["estimate"].to_numpy()[:, None], grid, scale)
            value *= np.trapezoid(density.prod(axis=0), grid)
        likelihood.append(value)
    expected = np.array(likelihood) / np.sum(likelihood)
    assert shrinkage.between(children, "category") == pytest.approx(expected, abs=1e-6)


def test_no_estimate_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no product has an elasticity"):
        shrinkage.shrink(own([None], [None]), NO_POOLED, 0.95)


CATEGORY_CASES = [
    # variation, upper, placebo (lower, upper), grade
    ("enough", -0.1, (-1.0, 1.0), "strong"),
    ("enough", -0.1, (0.1, 1.0), "weak"),
    ("enough", 0.1, (-1.0, 1.0), "cannot tell"),
    ("fewer than 3", -0.1, (-1.0, 1.0), "cannot tell"),
]


@pytest.mark.parametrize(("variation", "upper", "placebo", "grade"), CATEGORY_CASES)
def test_grades_of_categories(
    variation: str, upper: float, placebo: tuple[float, float], grade: str
) -> None:
    judged = pl.DataFrame({"category": ["c"], "department": ["d"], "variation": [variation]})
    pooled = pl.DataFrame({
        "category": ["c"], "estimate": [-1.0], "standard_error": [0.1], "lower": [-2.0],
        "upper": [upper],
    })  # fmt: skip
    tested = pl.DataFrame({
        "category": ["c"], "estimate": [0.0], "lower": [placebo[0]], "upper": [placebo[1]],
    })  # fmt: skip
    assert evidence.of_categories(judged, pooled, tested)["grade"].to_list() == [grade]


@pytest.mark.parametrize(
    ("variation", "upper", "borrowed", "passed", "grade"),
    [
        ("enough", -0.1, 0.4, True, "strong"),
        ("enough", -0.1, 0.6, True, "weak"),
        ("enough", -0.1, 0.4, False, "weak"),
        ("enough", 0.1, 0.1, True, "cannot tell"),
        ("one price only", -0.1, 1.0, True, "cannot tell"),
    ],
)
def test_grades_of_products(
    variation: str,
    upper: float,
    borrowed: float,
    passed: bool,  # noqa: FBT001
    grade: str,
) -> None:
    products = pl.DataFrame({
        "product_id": ["p"], "category": ["c"], "variation": [variation], "upper": [upper],
        "weight_borrowed": [borrowed],
    })  # fmt: skip
    categories = pl.DataFrame({"category": ["c"], "placebo_passed": [passed]})
    assert evidence.of_products(products, categories, CONFIG)["grade"].to_list() == [grade]
