"""What a price does to units and profit, by the elasticity that was published with its doubt.

The same arithmetic as the optimiser's, so that a curve agrees with the price it proposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ecom_console import published
from ecom_console.published import Version

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POINTS = 61
_DRAWS = 99
_WIDEST = 0.4
"""A curve goes at least this far from the current price, relative to it."""


@dataclass(frozen=True)
class Answer:
    """How buyers answer a price: expected factors on units, with the ends of their interval.

    Attributes
    ----------
    price : shape (prices,)
    expected, low, high : units over those at the current price, shape (prices,)
    """

    price: NDArray[np.float64]
    expected: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def position(found: Version, product_id: str) -> dict[str, Any] | None:
    """Return price, cost, units and elasticity with its interval; None for an unknown product."""
    import polars as pl

    mine = pl.col("product_id") == product_id
    price = published.frame(found, "prices.parquet").filter(mine)
    if price.is_empty():
        return None
    known = published.frame(found, "elasticities.parquet").filter(mine)
    own = known.row(0, named=True) if known.height else {}
    return own | price.row(0, named=True)


def answer(found: Version, known: dict[str, Any], prices: NDArray[np.float64]) -> Answer:
    """Return what units become at each price.

    Parameters
    ----------
    known : see `position`.
    """
    from statistics import NormalDist

    import numpy as np

    settings = found.made.config
    normal = NormalDist()
    score = normal.inv_cdf((1 + settings["confidence"]) / 2)
    error = (known["upper"] - known["lower"]) / 2 / score
    scores = np.array([normal.inv_cdf((each + 0.5) / _DRAWS) for each in range(_DRAWS)])
    ends = np.array([known["lower"], known["upper"]])
    spread = _factor(prices / known["current_price"], known["estimate"] + error * scores, settings)
    outer = _factor(prices / known["current_price"], ends, settings)
    return Answer(prices, spread.mean(axis=1), outer.min(axis=1), outer.max(axis=1))


def _factor(ratio: Any, elasticity: Any, settings: dict[str, Any]) -> Any:
    """Return units over today's, (prices, elasticities); `optimise.demand_factor` without SciPy.

    SciPy takes a second to load, which somebody at a page would wait for.
    """
    import numpy as np

    bound = np.log(settings["largest_response"])
    exponent = np.log(ratio)[:, None] * np.minimum(elasticity, 0.0)
    return np.exp(np.clip(exponent, -bound, bound))


def grid_of_prices(known: dict[str, Any]) -> NDArray[np.float64]:
    """Return prices around the current one that reach the proposal and the cost's neighbourhood."""
    import numpy as np

    current, proposed = known["current_price"], known["proposed_price"]
    low = min(current * (1 - _WIDEST), proposed * 0.95)
    high = max(current * (1 + _WIDEST), proposed * 1.05)
    marks = [current, proposed]
    return np.unique(np.concatenate([np.linspace(max(low, 0.01), high, POINTS), marks]))
