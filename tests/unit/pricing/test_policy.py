"""Prices drawn by what is believed, and price tests with the power they claim."""

from __future__ import annotations

import numpy as np
import pytest

from ecom_tasks.errors import ConfigError
from ecom_tasks.pricing import policy, trials
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.policy import Belief

PRICES = np.array([3.6, 3.8, 4.0, 4.2, 4.4])


def test_a_sure_belief_takes_the_best_price_but_for_exploration() -> None:
    # c e / (1 + e) = 2 * -2 / -1 = 4.
    odds = policy.propensities(Belief(-2.0, 1e-9, 10.0), PRICES, 4.0, 2.0, explore=0.1)
    assert odds == pytest.approx([0.02, 0.02, 0.92, 0.02, 0.02])


def test_an_unsure_belief_draws_prices_as_often_as_they_are_best() -> None:
    belief = Belief(-2.0, 0.3, 10.0)
    odds = policy.propensities(belief, PRICES, 4.0, 2.0, explore=0.05)
    rng = np.random.default_rng(0)
    answers = belief.mean + belief.error * rng.standard_normal(40_000)
    profit = (PRICES[:, None] / 4.0) ** answers * (PRICES - 2.0)[:, None]
    often = np.bincount(profit.argmax(axis=0), minlength=5) / 40_000
    assert odds == pytest.approx(0.95 * often + 0.01, abs=0.01)
    assert odds.sum() == pytest.approx(1.0)


def test_what_is_logged_is_how_often_it_is_drawn() -> None:
    belief, rng = Belief(-2.0, 0.5, 10.0), np.random.default_rng(1)
    drawn = [policy.draw(belief, PRICES, 4.0, 2.0, rng) for _ in range(4000)]
    for price, odds in zip(PRICES, drawn[0].propensities, strict=True):
        share = np.mean([each.price == price for each in drawn])
        assert share == pytest.approx(odds, abs=0.03)
        assert all(each.propensity == odds for each in drawn if each.price == price)


def test_weeks_at_drawn_prices_teach() -> None:
    rng = np.random.default_rng(2)
    ratio = np.log(rng.choice(PRICES / 4.0, 400))
    units = rng.poisson(40.0 * np.exp(-3.0 * ratio)).astype(float)
    learnt = Belief(-1.5, 1.0, 40.0)
    for part in np.split(np.arange(400), 8):
        learnt = policy.update(learnt, ratio[part], units[part], noise=0.05)
    assert learnt.mean == pytest.approx(-3.0, abs=3 * learnt.error)
    assert learnt.error < 0.25


def test_no_price_and_no_exploration_are_refused() -> None:
    with pytest.raises(ConfigError, match="No price is allowed"):
        policy.propensities(Belief(-2.0, 1.0, 1.0), np.zeros(0), 4.0, 2.0)
    with pytest.raises(ConfigError, match="explore 0"):
        policy.propensities(Belief(-2.0, 1.0, 1.0), PRICES, 4.0, 2.0, explore=0.0)


def test_a_planned_test_has_the_power_it_claims() -> None:
    config = PricingConfig(test_detects=1.5, test_step=0.1, switch_weeks=1)
    test = trials.plan("p", 4.0, 30.0, 0.2, 10, config)
    assert test.enough
    names = [f"s{number}" for number in range(test.locations)]
    rng, told = np.random.default_rng(3), 0
    for repeat in range(400):
        plan = trials.assign(test, names, repeat)
        x = np.log(plan["price"].to_numpy() / 4.0).reshape(test.locations, -1)
        # Weeks of a location correlate as the plan reckons.
        noise = rng.standard_normal(x.shape)
        for week in range(1, x.shape[1]):
            noise[:, week] = 0.3 * noise[:, week - 1] + np.sqrt(1 - 0.09) * noise[:, week]
        y = -1.5 * x + test.noise * noise
        x, y = x - x.mean(), y - y.mean()
        slope = (x * y).sum() / (x**2).sum()
        told += abs(slope) > 1.96 * test.standard_error
    # A switchback cancels what lasts, so the plan may promise less than comes.
    assert told / 400 >= test.power - 0.05


def test_half_of_the_locations_are_dear_in_each_week_and_each_is_half_of_the_time() -> None:
    test = trials.plan("p", 4.0, 30.0, 0.3, 8, PricingConfig())
    plan = trials.assign(test, [f"s{number}" for number in range(8)], 1)
    high = plan.with_columns(high=plan["price"] == test.high)
    by_week = high.group_by("week").mean()["high"]
    assert by_week.to_list() == [0.5] * test.weeks
    assert (test.low, test.high) == (round(4 / 1.08, 2), round(4 * 1.08, 2))


def test_too_little_is_said_and_impossible_is_refused() -> None:
    slow = trials.plan("p", 4.0, 0.1, 0.5, 1, PricingConfig())
    assert not slow.enough
    assert slow.power < 0.8
    with pytest.raises(ConfigError, match="No test can be planned for p"):
        trials.plan("p", 4.0, 0.0, 0.5, 1, PricingConfig())
