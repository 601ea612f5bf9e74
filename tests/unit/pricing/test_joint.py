"""Which products are priced together: those that feel each other, or that a rule binds."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from ecom_tasks.pricing import category, joint
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.guardrails import Guardrails, Ladder

CONFIG = PricingConfig(sure_enough=0.5)


def shelf(*products: str, elasticity: float = -2.0) -> pl.DataFrame:
    """Products of one category at a price of 2.99 and a cost of 1.50, known without error."""
    return pl.DataFrame({
        "product_id": products,
        "category": "jam",
        "current_price": 2.99,
        "regular_price": 2.99,
        "unit_cost": 1.5,
        "weekly_units": 40.0,
        "estimate": elasticity,
        "error": 0.0,
        "shared_error": 0.0,
        "grade": "strong",
    })


def pairs(*found: tuple[str, str, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [(*each, True) for each in found],
        schema={"product_id": pl.String, "other_id": pl.String,
                "estimate": pl.Float64, "found": pl.Boolean},
        orient="row",
    )  # fmt: skip


def best(given: category.Problem) -> tuple[float, ...]:
    """The best prices, of all combinations that there are."""
    return max(
        itertools.product(*(prices.tolist() for prices in given.prices)),
        key=lambda prices: category.value_of(given, np.array(prices)),
    )


def solved(rows: pl.DataFrame, told: pl.DataFrame, rules: Guardrails) -> list[category.Problem]:
    return list(joint.problems(rows, told, rules, CONFIG, seed=0))


def test_only_what_a_pair_ties_is_priced_together() -> None:
    told = pairs(("a", "b", 0.9), ("b", "a", 0.9))
    (given,) = solved(shelf("a", "b", "c"), told, Guardrails())
    assert given.products == ["a", "b"]
    chosen = joint.choose(shelf("a", "b", "c"), told, Guardrails(), CONFIG, seed=0)
    assert tuple(chosen.prices.values()) == best(given)


def test_a_product_that_nothing_ties_is_priced_as_it_would_be_alone() -> None:
    told = pairs(("a", "b", 0.9), ("b", "a", 0.9))
    # A ladder asks for the whole category, and never binds here.
    rules = Guardrails(ladders=(Ladder(lower="a", higher="b", at_least=0.1),))
    together = joint.choose(shelf("a", "b", "c"), told, rules, CONFIG, seed=0)
    alone = joint.choose(shelf("c"), told, rules, CONFIG, seed=0)
    tied = joint.choose(shelf("a", "b"), told, rules, CONFIG, seed=0)
    assert together.prices == tied.prices | alone.prices
    assert together.value == pytest.approx(tied.value + alone.value)


def test_substitutes_cost_more_than_each_would_alone() -> None:
    rules = Guardrails(ladders=(Ladder(lower="a", higher="b", at_least=0.1),))
    tied = joint.choose(
        shelf("a", "b"), pairs(("a", "b", 0.9), ("b", "a", 0.9)), rules, CONFIG, seed=0
    )
    alone = joint.choose(shelf("a", "b"), pairs(), rules, CONFIG, seed=0)
    # Elasticity -2 and cost 1.50: alone best at 3.00; who raises both loses half as many.
    assert all(tied.prices[name] > alone.prices[name] for name in ("a", "b"))


def test_without_pairs_and_rules_there_is_nothing_to_price_together() -> None:
    assert solved(shelf("a", "b"), pairs(), Guardrails()) == []
