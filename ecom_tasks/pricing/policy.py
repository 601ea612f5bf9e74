"""Learning by doing: prices drawn as likely as they are best, within guardrails, with their odds.

Thompson sampling: draw an elasticity from what is believed, take the price that would be best if it
were true. The odds of each allowed price are logged with it, so that later any other policy can be
judged on the same weeks (see `metrics.off_policy`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecom_tasks.errors import ConfigError
from ecom_tasks.pricing.optimise import demand_factor

Array = NDArray[np.float64]
_DRAWS = 1001
# Demand may grow or shrink by this factor at most, as in the optimiser's default.
_LARGEST = 3.0


@dataclass(frozen=True)
class Belief:
    """What is believed of a product: normal elasticity, and weekly units at the current price."""

    mean: float
    error: float
    units: float


@dataclass(frozen=True)
class Drawn:
    """A price that was drawn, and the odds of it and of every other allowed one."""

    price: float
    propensity: float
    prices: Array
    propensities: Array


def propensities(
    belief: Belief,
    prices: Array,
    current: float,
    cost: float,
    *,
    explore: float = 0.05,
) -> Array:
    """Return the probability of each allowed price, shape (prices,), sum 1.

    How often each would be best over the belief's quantiles; `explore` of all is spread evenly, so
    that no allowed price has probability zero and every one can be judged later.

    Parameters
    ----------
    prices : what guardrails allow, store currency, shape (prices,)
    explore : share that is spread evenly, 0 to 1

    Raises
    ------
    ConfigError
        No price is allowed, or explore is no share.
    """
    from scipy import stats

    if not len(prices):
        raise ConfigError("No price is allowed", "Loosen the guardrails that leave none")
    if not 0 < explore <= 1:
        raise ConfigError(f"explore {explore} is no share above 0", "Give 0.05, for example")
    scores = stats.norm.ppf((np.arange(_DRAWS) + 0.5) / _DRAWS)
    factor = demand_factor(prices / current, belief.mean + belief.error * scores, _LARGEST)
    best = np.argmax(belief.units * factor * (prices - cost)[:, None], axis=0)
    odds = np.bincount(best, minlength=len(prices)) / _DRAWS
    return np.asarray((1 - explore) * odds + explore / len(prices))


def draw(
    belief: Belief,
    prices: Array,
    current: float,
    cost: float,
    rng: np.random.Generator,
    *,
    explore: float = 0.05,
) -> Drawn:
    """Draw a price by Thompson sampling; what to log stands in the answer."""
    odds = propensities(belief, prices, current, cost, explore=explore)
    place = int(rng.choice(len(prices), p=odds))
    return Drawn(float(prices[place]), float(odds[place]), prices, odds)


def update(belief: Belief, log_ratio: Array, units: Array, noise: float = 0.3) -> Belief:
    """Learn from weeks that were sold at drawn prices.

    One Newton step of a log-normal likelihood: log units are normal around log usual units plus
    elasticity times the log price ratio, with the variance of counts and `noise` added.

    Parameters
    ----------
    log_ratio : log of drawn over current price, shape (weeks,)
    units : sold, shape (weeks,)
    noise : standard deviation of log demand beyond chance
    """
    expected = np.maximum(belief.units * np.exp(belief.mean * log_ratio), 1e-9)
    variance = noise**2 + 1 / expected
    precision = 1 / belief.error**2 + (log_ratio**2 / variance).sum()
    up = (log_ratio * (units / expected - 1) / variance).sum()
    return Belief(
        mean=float(belief.mean + up / precision),
        error=float(1 / np.sqrt(precision)),
        units=belief.units,
    )
