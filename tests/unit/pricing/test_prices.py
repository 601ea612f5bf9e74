"""Proposed prices: the best among those allowed, never outside the rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecom_tasks.errors import ConfigError, ModelRejectedError
from ecom_tasks.pricing import optimise, rules, today
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.optimise import Product
from ecom_tasks.run import Run
from tests import builders

CENTS = tuple(number / 100 for number in range(100))
FREE = PricingConfig(
    largest_step=0.9, floor=0.01, ceiling=10.0, endings=CENTS, minimum_margin=0.0,
    largest_response=1e6,
)  # fmt: skip
SURE = Product(
    current=4.0, regular=4.0, cost=2.0, units=100.0, elasticity=-3.0, error=1e-9,
    grade="strong", why="", assumed=False,
)  # fmt: skip


def test_the_best_price_of_constant_elasticity() -> None:
    # Profit q (p - c) with q ~ p^e is largest at p = c e / (1 + e).
    found = optimise.propose(SURE, FREE)
    assert found["proposed_price"] == 2.0 * -3.0 / (1 - 3.0)
    units = 100.0 * (3.0 / 4.0) ** -3.0
    assert found["units_change"] == pytest.approx(units - 100.0)
    assert found["revenue_change"] == pytest.approx(units * 3.0 - 100.0 * 4.0)
    assert found["profit_change"] == pytest.approx(units * (3.0 - 2.0) - 100.0 * (4.0 - 2.0))
    assert found["binding"] == ""
    assert found["reason"].startswith("lower by 25.0%: each percent is expected to gain 3.0%")
    # At the break-even cost both prices earn the same.
    cost = found["break_even_cost"]
    assert units * (3.0 - cost) == pytest.approx(100.0 * (4.0 - cost))


def test_an_interval_is_what_the_ends_of_the_elasticity_give() -> None:
    wide = replace(SURE, error=0.5, cost=3.9, current=4.0)
    found = optimise.propose(wide, FREE)
    price = found["proposed_price"]
    for end, score in (("upper", 1.959964), ("lower", -1.959964)):
        units = 100.0 * (price / 4.0) ** (-3.0 + score * 0.5)
        assert found[f"units_change_{end}"] == pytest.approx(units - 100.0, rel=1e-5)
    assert found["profit_change_lower"] < found["profit_change"] < found["profit_change_upper"]


@pytest.mark.parametrize(
    ("config", "product", "price", "binding"),
    [
        (PricingConfig(endings=CENTS), replace(SURE, elasticity=-0.5), 4.40, "largest step"),
        (
            PricingConfig(endings=CENTS, ceiling=1.05),
            replace(SURE, elasticity=-0.5),
            4.20,
            "ceiling",
        ),
        (PricingConfig(endings=CENTS), SURE, 3.60, "largest step"),
        (PricingConfig(endings=CENTS, floor=0.95), SURE, 3.80, "floor"),
        (
            PricingConfig(endings=CENTS, largest_step=0.5, minimum_margin=0.2),
            replace(SURE, elasticity=-9.0, cost=2.4, current=3.2),
            3.0,  # 2.4 / (1 - 0.2)
            "minimum margin",
        ),
    ],
)  # fmt: skip
def test_the_guardrail_that_binds_is_named(
    config: PricingConfig, product: Product, price: float, binding: str
) -> None:
    found = optimise.propose(product, config)
    assert (found["proposed_price"], found["binding"]) == (pytest.approx(price), binding)


def test_what_cannot_be_told_keeps_its_price() -> None:
    found = optimise.propose(replace(SURE, grade="cannot tell", why="one price only"), FREE)
    assert found["proposed_price"] == SURE.current
    assert found["reason"] == "keep: cannot tell how buyers answer (one price only)"
    assert found["profit_change"] == 0.0


def test_two_rules_that_collide_are_named_and_the_price_is_kept() -> None:
    dear = replace(SURE, cost=4.2)  # minimum margin wants 4.2 / .95 = 4.42, the step allows 4.40
    found = optimise.propose(dear, PricingConfig())
    assert found["proposed_price"] == dear.current
    assert found["binding"] == "minimum margin (at least 4.42) x largest step (at most 4.40)"
    assert found["reason"] == "keep: two rules collide"


def test_no_allowed_ending_keeps_the_price() -> None:
    found = optimise.propose(replace(SURE, current=0.34, regular=0.34, cost=0.2), PricingConfig())
    assert (found["proposed_price"], found["binding"]) == (0.34, "allowed endings")


def test_an_unsure_gain_is_not_proposed() -> None:
    # At c = p (1 + 1/e) today's price is best if the elasticity is -2: moves gain half the time.
    unsure = replace(SURE, elasticity=-2.0, error=1.0, cost=2.0)
    found = optimise.propose(unsure, PricingConfig(endings=CENTS, sure_enough=0.8))
    assert found["proposed_price"] == unsure.current
    assert "no allowed price earns more with 80% probability" in found["reason"]


def test_demand_is_bounded_and_never_rises_with_price() -> None:
    ratio = np.array([0.1, 1.0, 10.0])
    factor = optimise.demand_factor(ratio, np.array([-5.0, 2.0]), 3.0)
    assert factor[:, 0] == pytest.approx([3.0, 1.0, 1 / 3.0])
    assert factor[:, 1] == pytest.approx([1.0, 1.0, 1.0])


products = st.builds(
    Product,
    current=st.integers(20, 900).map(lambda cents: cents / 100),
    regular=st.floats(0.5, 10),
    cost=st.floats(0.1, 8),
    units=st.floats(0.1, 500),
    elasticity=st.floats(-6, 0.5),
    error=st.floats(0.01, 1.5),
    grade=st.sampled_from(["strong", "weak", "cannot tell"]),
    why=st.just(""),
    assumed=st.booleans(),
)
configs = st.builds(
    PricingConfig,
    largest_step=st.floats(0.02, 0.5),
    floor=st.floats(0.3, 0.95),
    ceiling=st.floats(1.0, 1.5),
    minimum_margin=st.floats(0.0, 0.25),
    endings=st.sampled_from([(0.99,), (0.49, 0.99), CENTS]),
)


def table(product: Product, price: float | None) -> pl.DataFrame:
    return pl.DataFrame({
        "product_id": ["p"],
        "current_price": [product.current],
        "proposed_price": pl.Series([price], dtype=pl.Float64),
        "regular_price": [product.regular],
        "unit_cost": [product.cost],
        "grade": [product.grade],
    })


@settings(max_examples=100, deadline=None)
@given(products, configs)
def test_no_proposal_breaks_a_rule_and_none_allowed_is_better(
    product: Product, config: PricingConfig
) -> None:
    price = optimise.propose(product, config)["proposed_price"]
    assert rules.violations(table(product, price), config).is_empty()
    if product.grade == "cannot tell":
        assert price == product.current
        return
    elasticity = np.minimum(product.elasticity + product.error * optimise._SCORES, 0.0)

    def gains(candidates: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        factor = np.clip((candidates[:, None] / product.current) ** elasticity, 1 / 3.0, 3.0)
        profit = factor * (candidates[:, None] - product.cost)
        return np.asarray(product.units * (profit - (product.current - product.cost)))

    # By brute force: every cent up to twice the price, less those that the check refuses.
    every = np.arange(1, int(product.current * 200) + 1) / 100
    tried = pl.concat(table(product, 0.0) for _ in every).with_columns(
        pl.Series("product_id", [str(number) for number in range(len(every))]),
        pl.Series("proposed_price", every),
    )
    refused = set(rules.violations(tried, config)["product_id"].to_list())
    allowed = np.array([p for number, p in enumerate(every) if str(number) not in refused])
    gain = gains(allowed) if len(allowed) else np.zeros((0, len(elasticity)))
    sure = (gain > 0).mean(axis=1) >= config.sure_enough
    best = max([0.0, *gain.mean(axis=1)[sure]])
    assert gains(np.array([price])).mean() == pytest.approx(best, abs=1e-9)


BREAKING = {
    "a price is a number above zero": (SURE, None),
    "largest step": (SURE, 4.99),
    "floor": (replace(SURE, regular=9.0), 3.99),
    "ceiling": (replace(SURE, regular=3.0), 3.99),
    "minimum margin": (replace(SURE, cost=3.9), 3.99),
    "allowed endings": (SURE, 4.03),
    "evidence: cannot tell keeps its price": (replace(SURE, grade="cannot tell"), 3.99),
}


@pytest.mark.parametrize("rule", BREAKING)
def test_each_broken_rule_is_found(rule: str) -> None:
    product, price = BREAKING[rule]
    prices = table(product, price)
    assert rule in rules.violations(prices, PricingConfig())["rule"].to_list()
    with pytest.raises(ModelRejectedError, match="break a rule"):
        rules.check(prices, PricingConfig())


def test_kept_prices_break_nothing_and_are_not_counted() -> None:
    odd = replace(SURE, current=4.03, regular=9.0, cost=8.0)
    assert rules.check(table(odd, 4.03), PricingConfig()) == 0
    assert rules.check(table(SURE, 3.99), PricingConfig()) == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"floor": 1.2, "ceiling": 1.1}, ("floor 1.2", "ceiling 1.1")),
        (
            {"minimum_margin": 0.4, "assumed_margin": 0.3},
            ("minimum_margin 0.4", "assumed_margin 0.3"),
        ),
        (
            {"assumed_margin": 0.8, "margin_doubt": 0.3},
            ("assumed_margin 0.8", "margin_doubt 0.3"),
        ),
        ({"endings": (1.5,)}, ("endings (1.5,)",)),
        ({"endings": ()}, ("endings",)),
        ({"largest_step": 0.0}, ("largest_step",)),
    ],
)
def test_contradictory_guardrails_are_refused_by_name(
    run: Run, settings: dict[str, object], named: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as error:
        PricingConfig.of(replace(run, overrides={"pricing": settings}))
    assert all(name in str(error.value) for name in named)


def weeks(values: list[float], regular: float | None = None) -> pl.DataFrame:
    return pl.DataFrame({
        "product_id": "p",
        "location_id": "all",
        "category": "c",
        "department": "d",
        "week_starts_on": [builders.MONDAY + timedelta(weeks=n) for n in range(len(values))],
        "price": values,
        "regular_price": pl.Series([regular] * len(values), dtype=pl.Float64),
        "units": 2.0,
    })


def costs(value: float | None) -> pl.DataFrame:
    return pl.DataFrame({"product_id": ["p"], "unit_cost": pl.Series([value], dtype=pl.Float64)})


def test_todays_price_is_no_promotion() -> None:
    [row] = today.positions(weeks([3.0] * 20 + [2.0] * 2), costs(1.0), PricingConfig()).to_dicts()
    assert row["current_price"] == 3.0
    [row] = today.positions(weeks([3.0] * 20 + [4.0] * 3), costs(1.0), PricingConfig()).to_dicts()
    assert row["current_price"] == 4.0  # a new price in three of the last five weeks
    assert row["weekly_units"] == 2.0


@pytest.mark.parametrize("missing", [None, 0.0, -1.0])
def test_a_missing_cost_is_assumed_and_marked(missing: float | None) -> None:
    [row] = today.positions(weeks([3.0] * 20), costs(missing), PricingConfig()).to_dicts()
    assert row["assumed"] is True
    assert row["unit_cost"] == pytest.approx(3.0 * (1 - 0.30))
    [row] = today.positions(weeks([3.0] * 20), costs(1.25), PricingConfig()).to_dicts()
    assert (row["assumed"], row["unit_cost"]) == (False, 1.25)


def test_the_regular_price_falls_back_on_the_usual_one() -> None:
    known = today.positions(weeks([3.0] * 20, regular=3.5), costs(1.0), PricingConfig())
    unknown = today.positions(weeks([3.0] * 20), costs(1.0), PricingConfig())
    assert (known["regular_price"][0], unknown["regular_price"][0]) == (3.5, 3.0)


def test_products_no_longer_sold_get_no_proposal() -> None:
    old = weeks([3.0] * 30).with_columns(product_id=pl.lit("old")).head(10)
    found = today.positions(pl.concat([weeks([3.0] * 30), old]), costs(1.0), PricingConfig())
    assert found["product_id"].to_list() == ["p"]


def answers(estimate: float, error: float, grade: str = "strong") -> pl.DataFrame:
    return pl.DataFrame({
        "product_id": ["p"], "estimate": [estimate], "error": [error], "lower": [estimate],
        "upper": [estimate], "grade": [grade], "why": [""], "shared_error": [0.0],
    })  # fmt: skip


def test_usual_units_are_those_of_todays_price() -> None:
    # 12 weeks at 2 and one at 4: the last five are 2, 2, 2, 2, 4, and their upper median is 2.
    config = PricingConfig()
    prices = [2.0] * 12 + [4.0]
    positions = today.positions(weeks(prices), costs(1.0), config)
    found = optimise.propose_all(positions, answers(-2.0, 1e-6).drop("shared_error"), config)
    mean_log = (12 * np.log(2.0) + np.log(4.0)) / 13
    ratio = np.exp(mean_log - np.log(2.0))
    assert found["weekly_units"][0] == pytest.approx(2.0 * ratio**2.0, abs=1e-4)


def test_products_drawn_some_at_a_time_add_up_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    told = pl.concat([
        answers(-1.0 - number / 10, 0.2).with_columns(
            product_id=pl.lit(f"p{number}"), shared_error=pl.lit(0.1)
        )
        for number in range(9)
    ])  # fmt: skip
    prices = told.select(
        "product_id",
        (pl.int_range(9) % 2).cast(pl.String).alias("category"),
        current_price=2.0, proposed_price=1.8, unit_cost=1.2, weekly_units=30.0, change=-0.1,
        assumed=pl.int_range(9) % 3 == 0,
        weekly_units_available=pl.when(pl.int_range(9) < 2).then(31.0),
    )  # fmt: skip
    whole = optimise.total(prices, told, PricingConfig(), seed=1)
    assert whole["lower"] < whole["expected"] < whole["upper"]
    monkeypatch.setattr(optimise, "_DRAWN_AT_ONCE", 4)
    assert optimise.total(prices, told, PricingConfig(), seed=1) == pytest.approx(whole, abs=0.01)


def test_the_total_adds_up_and_doubts_the_margin() -> None:
    positions = today.positions(weeks([2.0] * 20), costs(None), PricingConfig())
    told = answers(-1.0, 1e-9)
    sure = PricingConfig(margin_doubt=0.0)
    prices = optimise.propose_all(positions, told.drop("shared_error"), sure)
    exact = optimise.total(prices, told, sure, seed=1)
    assert exact["products"] == 1
    assert exact["expected"] == pytest.approx(prices["profit_change"][0], abs=0.01)
    assert exact["upper"] - exact["lower"] == pytest.approx(0.0, abs=0.011)
    doubted = optimise.total(prices, told, PricingConfig(margin_doubt=0.2), seed=1)
    # A margin of 50% instead of 30%: each lost unit costs 0.2 * 2.0 more; a raise of 9.5% at -1
    # loses 2 (1 - 1 / 1.095) units.
    lost = 2.0 * (1 - 2.0 / prices["proposed_price"][0])
    assert doubted["upper"] - doubted["lower"] == pytest.approx(
        0.95 * 2 * lost * 0.2 * 2.0, rel=0.1
    )
    kept = prices.with_columns(change=pl.lit(0.0))
    assert optimise.total(kept, told, sure, seed=1)["products"] == 0
