"""Where a manager prices by what only he sees, an instrument finds the truth that prices hide."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from ecom_tasks.errors import DataContractError
from ecom_tasks.pricing import instruments, model
from ecom_tasks.pricing.config import PricingConfig
from tests.unit.pricing.simulated import START

TRUTH = -2.0
PRODUCTS, PLACES, WEEKS = 10, 10, 80
CONFIG = PricingConfig(trees=30)


def shop(seed: int, *, costs: float = 0.12) -> pl.DataFrame:
    """Return a panel whose prices follow costs, and what a store sees coming of one product.

    What it sees lifts its demand and no other's, and is in no column.

    Parameters
    ----------
    costs : standard deviation of a week's log cost
    """
    rng = np.random.default_rng(seed)
    shape = (PRODUCTS, PLACES, WEEKS)
    cost = costs * rng.standard_normal((PRODUCTS, 1, WEEKS)) + np.zeros(shape)
    seen = 0.3 * rng.standard_normal(shape)
    log_price = np.log(3.0) + cost + 0.4 * seen + 0.03 * rng.standard_normal(shape)
    mean = 40 * np.exp(TRUTH * (log_price - np.log(3.0)) + seen)
    week = [START + timedelta(weeks=number) for number in range(WEEKS)]
    return pl.DataFrame({
        "product_id": np.repeat([f"p{n}" for n in range(PRODUCTS)], PLACES * WEEKS),
        "location_id": np.tile(np.repeat([f"s{n}" for n in range(PLACES)], WEEKS), PRODUCTS),
        "week_starts_on": week * (PRODUCTS * PLACES),
        "units": rng.poisson(mean).ravel().astype(float),
        "price": np.exp(log_price).ravel(),
        "unit_cost": 2.0 * np.exp(cost).ravel(),
        "regular_price": pl.Series([None] * mean.size, dtype=pl.Float64),
        "price_locations": 1.0,
        "price_mixed": 0.0,
        "price_spread": pl.Series([None] * mean.size, dtype=pl.Float64),
        **dict.fromkeys(("display", "mailer", "price_cut", "coupon"), 0.0),
        "category": "food/c",
        "department": "food",
    })


def fit(panel: pl.DataFrame, instrument: str) -> model.Fitted:
    config = CONFIG.model_copy(update={"instrument": instrument})
    return model.fit(panel, START + timedelta(weeks=WEEKS), config)


@pytest.fixture(scope="module")
def panel() -> pl.DataFrame:
    return shop(0)


def test_the_plain_answer_is_wrong_and_sure_of_itself(panel: pl.DataFrame) -> None:
    plain = fit(panel, "none").products
    assert plain["first_stage_f"].null_count() == plain["instrument"].null_count() == PRODUCTS
    assert (plain["lower"] > TRUTH).all()
    assert plain["estimate"].mean() > TRUTH + 0.5  # type: ignore[operator]


@pytest.mark.parametrize("instrument", ["cost", "other_locations"])
def test_the_instrument_covers_the_truth(panel: pl.DataFrame, instrument: str) -> None:
    fitted = fit(panel, instrument)
    found = fitted.products
    covered = (found["own_estimate"] - TRUTH).abs() <= 2 * found["own_error"]
    assert covered.sum() >= PRODUCTS - 2
    assert found["estimate"].to_list() == pytest.approx([TRUTH] * PRODUCTS, abs=0.25)
    assert (found["first_stage_f"] > instruments.LEAST_F).all()
    assert found["instrument"].to_list() == [instrument] * PRODUCTS
    shop_wide = fitted.shop["elasticity"]
    assert shop_wide["lower"] <= TRUTH <= shop_wide["upper"]
    # An interval that covers everything would pass above.
    assert shop_wide["upper"] - shop_wide["lower"] < 0.5


def test_a_weak_instrument_is_refused_in_words() -> None:
    with pytest.raises(DataContractError, match="first-stage F is below 10") as refused:
        fit(shop(1, costs=0.001), "cost")
    assert "pricing.instrument" in str(refused.value)


def test_a_product_with_a_weak_instrument_has_no_answer_and_others_do(panel: pl.DataFrame) -> None:
    rng = np.random.default_rng(3)
    noise = pl.Series(np.exp(0.1 * rng.standard_normal(panel.height)))
    blind = pl.when(pl.col("product_id") == "p4").then(2.0 * noise).otherwise("unit_cost")
    found = fit(panel.with_columns(blind.alias("unit_cost")), "cost").products
    [p4] = found.filter(pl.col("product_id") == "p4").to_dicts()
    assert p4["own_estimate"] is None
    assert p4["first_stage_f"] < instruments.LEAST_F
    assert (p4["grade"], p4["why"]) == ("cannot tell", instruments.WEAK)
    assert found["own_estimate"].null_count() == found["instrument"].null_count() == 1


def test_a_product_without_costs_has_no_answer_and_others_do(panel: pl.DataFrame) -> None:
    cost = pl.when(pl.col("product_id") != "p4").then("unit_cost").alias("unit_cost")
    found = fit(panel.with_columns(cost), "cost").products
    [p4] = found.filter(pl.col("product_id") == "p4").to_dicts()
    assert (p4["grade"], p4["why"]) == ("cannot tell", instruments.MISSING)
    assert p4["instrument"] is p4["own_estimate"] is p4["first_stage_f"] is None
    assert found["own_estimate"].null_count() == 1


def test_a_part_of_the_shop_without_costs_is_refused_in_words(panel: pl.DataFrame) -> None:
    unknown = panel.with_columns(pl.lit(None, dtype=pl.Float64).alias("unit_cost"))
    with pytest.raises(DataContractError, match="no week has an instrument"):
        fit(unknown, "cost")


@pytest.mark.parametrize(
    ("instrument", "said"),
    [("cost", "no unit cost of each week"), ("other_locations", "the panel has one location")],
)
def test_what_an_instrument_needs_is_said(panel: pl.DataFrame, instrument: str, said: str) -> None:
    alone = panel.filter(pl.col("location_id") == "s0").drop("unit_cost")
    with pytest.raises(DataContractError, match=said):
        fit(alone, instrument)
