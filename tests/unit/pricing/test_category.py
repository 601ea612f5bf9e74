"""Prices of a category together: the best there are, none that breaks a rule."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ecom_tasks.errors import ConfigError
from ecom_tasks.pricing import category, guardrails
from ecom_tasks.pricing.category import Problem
from ecom_tasks.pricing.guardrails import Aim, Guardrails, Ladder


def problem(seed: int, *, count: int = 3, options: int = 5, crossed: bool = False) -> Problem:
    rng = np.random.default_rng(seed)
    current = np.round(rng.uniform(2, 6, count), 2)
    prices = [
        np.unique(np.append(np.round(price * np.linspace(0.9, 1.1, options), 2), price))
        for price in current
    ]
    cross = np.zeros((count, count))
    if crossed:
        cross = rng.uniform(-0.2, 0.8, (count, count))
        np.fill_diagonal(cross, 0.0)
    return Problem(
        products=[f"p{number}" for number in range(count)],
        prices=prices,
        current=current,
        cost=current * rng.uniform(0.4, 0.8, count),
        units=rng.uniform(5, 50, count),
        elasticity=-rng.uniform(0.5, 4.0, (count, 1)) + 0.2 * rng.standard_normal((count, 9)),
        cross=cross,
    )


def brute_force(given: Problem) -> float | None:
    """The best value over all combinations that break no rule."""
    values = [
        category.value_of(given, np.array(prices))
        for prices in itertools.product(*given.grid())
        if not category.broken(given, np.array(prices))
    ]
    return max(values) if values else None


RULES = [
    Guardrails(),
    Guardrails(aim=Aim(objective="revenue")),
    Guardrails(aim=Aim(objective="units")),
    Guardrails(aim=Aim(objective="weighted", profit=1.0, revenue=0.3, units=0.1)),
    Guardrails(aim=Aim(objective="revenue_at_margin", margin=0.35)),
    Guardrails(ladders=(Ladder(lower="p0", higher="p1", at_least=0.8, at_most=1.6),)),
    Guardrails(most_changes=1),
    Guardrails(markdown_budget=3.0),
    Guardrails(most_changes=2, markdown_budget=5.0, ladders=(Ladder(lower="p2", higher="p0"),)),
]


@pytest.mark.parametrize("rules", RULES, ids=range(len(RULES)))
@pytest.mark.parametrize("seed", range(4))
def test_without_cross_effects_the_answer_is_exact(rules: Guardrails, seed: int) -> None:
    given = replace(problem(seed), guardrails=rules)
    best = brute_force(given)
    if best is None:
        with pytest.raises(ConfigError, match="collide"):
            category.solve(given)
        return
    found = category.solve(given)
    assert found.exact
    assert found.value == pytest.approx(best, abs=1e-5)
    assert category.broken(given, found.prices) == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([RULES[0], RULES[3], RULES[6]]))
def test_with_cross_effects_small_cases_reach_the_best(seed: int, rules: Guardrails) -> None:
    given = replace(problem(seed, crossed=True), guardrails=rules)
    best = brute_force(given)
    assert best is not None
    found = category.solve(given)
    assert found.value == pytest.approx(best, rel=1e-3)
    assert category.broken(given, found.prices) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_lower_quantile_is_what_is_optimised(seed: int) -> None:
    rng = np.random.default_rng(seed)
    unsure = replace(
        problem(seed),
        elasticity=-2.0 + rng.standard_normal((3, 40)),
        guardrails=Guardrails(aim=Aim(quantile=0.1)),
    )
    found = category.solve(unsure)
    assert found.value == pytest.approx(brute_force(unsure), rel=1e-3)
    expected = category.solve(replace(unsure, guardrails=Guardrails()))
    assert found.value >= category.value_of(unsure, expected.prices) - 1e-9


def test_a_neighbours_price_counts() -> None:
    # Raising p0 sends its buyers to p1, which earns more: alone, p0 would rather stay.
    alone = Problem(
        products=["p0", "p1"],
        prices=[np.array([3.0, 3.3]), np.array([5.0])],
        current=np.array([3.0, 5.0]),
        cost=np.array([2.0, 2.0]),
        units=np.array([10.0, 10.0]),
        elasticity=np.array([[-4.0], [-2.0]]),
        cross=np.zeros((2, 2)),
    )
    assert category.solve(alone).prices.tolist() == [3.0, 5.0]
    felt = replace(alone, cross=np.array([[0.0, 0.0], [0.9, 0.0]]))
    found = category.solve(felt)
    assert found.prices.tolist() == [3.3, 5.0]
    assert found.units == pytest.approx([10 * 1.1**-4.0, 10 * 1.1**0.9])
    assert found.value_today == pytest.approx(10.0 + 30.0)


def test_the_same_price_across_a_zone() -> None:
    zone = replace(
        problem(1, count=2),
        prices=[np.array([2.9, 3.0, 3.1])] * 2,
        current=np.array([3.0, 3.0]),
        elasticity=np.array([[-0.5], [-6.0]]),
        cost=np.array([1.5, 1.5]),
        guardrails=Guardrails(same_price=(("p0", "p1"),)),
    )
    found = category.solve(zone)
    assert found.prices[0] == found.prices[1]
    assert found.value == pytest.approx(brute_force(zone))
    apart = category.solve(replace(zone, guardrails=Guardrails()))
    assert apart.prices.tolist() == [3.1, 2.9]


def test_stock_is_cleared_by_its_date_and_what_is_scarce_gets_dearer() -> None:
    one = Problem(
        products=["p"],
        prices=[np.array([3.0, 3.5, 4.0, 4.4])],
        current=np.array([4.0]),
        cost=np.array([2.0]),
        units=np.array([10.0]),
        elasticity=np.array([[-2.0]]),
        cross=np.zeros((1, 1)),
    )
    assert category.solve(one).prices.tolist() == [4.0]  # c e / (1 + e) = 4
    # 65 units in 5 weeks are 13 a week: (p / 4) ** -2 >= 1.3 needs p <= 3.508.
    clearing = replace(one, stock=np.array([65.0]), clear_weeks=np.array([5.0]))
    assert category.solve(clearing).prices.tolist() == [3.5]
    # Only 8 units a week until more come: 4.4 sells 8.26 of them, dearer is better.
    scarce = replace(one, reach=np.array([8.0]))
    assert category.solve(scarce).prices.tolist() == [4.4]
    with pytest.raises(ConfigError, match=r"clear p and the prices that step"):
        category.solve(replace(clearing, stock=np.array([500.0])))


def test_a_price_changed_lately_stays() -> None:
    given = replace(problem(2), locked=np.array([True, False, True]))
    found = category.solve(given)
    assert found.prices[[0, 2]].tolist() == given.current[[0, 2]].tolist()
    assert found.prices[1] != given.current[1]


def test_rules_that_collide_are_named_and_no_others() -> None:
    given = replace(
        problem(0),
        current=np.array([4.0, 4.0, 4.0]),
        prices=[np.array([3.6, 4.0, 4.4])] * 3,
        guardrails=Guardrails(
            ladders=(Ladder(lower="p0", higher="p1", at_least=1.1),), same_price=(("p0", "p2"),),
            most_changes=0,
        ),
    )  # fmt: skip
    with pytest.raises(ConfigError) as error:
        category.solve(given)
    assert "ladder p0 < p1 and most_changes 0 collide" in str(error.value)
    assert "same price" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"ladders": [{"lower": a, "higher": b} for a, b in ("ab", "bc", "ca")]},
            "a < b < c < a",
        ),
        ({"ladders": [{"lower": "a", "higher": "a"}]}, "with itself"),
        (
            {"ladders": [{"lower": "a", "higher": "b", "at_least": 1.2, "at_most": 1.1}]},
            "at_least 1.2 and at_most 1.1 collide",
        ),
        (
            {
                "ladders": [{"lower": "a", "higher": "b", "at_least": 1.1}],
                "same_price": [["a", "b"]],
            },
            "ladder a < b and same_price",
        ),
        ({"same_price": [["a", "b"], ["b", "c"]]}, "twice"),
        ({"competitor": {"low": 1.1, "high": 0.9}}, "low 1.1 and high 0.9 collide"),
        ({"aim": {"objective": "weighted", "profit": 0.0}}, "weigh nothing"),
    ],
)
def test_contradictions_are_refused_by_name(content: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Guardrails.model_validate(content)


def test_a_file_of_rules_is_read_and_its_faults_are_told() -> None:
    text = 'most_changes = 3\n[[ladders]]\nlower = "a"\nhigher = "b"\n'
    assert guardrails.parse(text, "rules").ladders == (Ladder(lower="a", higher="b"),)
    circle = '[[ladders]]\nlower="a"\nhigher="b"\n[[ladders]]\nlower="b"\nhigher="a"\n'
    with pytest.raises(ConfigError, match="a < b < a"):
        guardrails.parse(circle, "rules")
    with pytest.raises(ConfigError, match="no TOML"):
        guardrails.parse("most_changes = ", "rules")
    with pytest.raises(ConfigError, match="most_change: Extra inputs are not permitted"):
        guardrails.parse("most_change = 3", "rules")
    assert guardrails.parse("", "rules") == Guardrails()
