"""How far predicted units lie off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def poisson_deviance(actual: Array, expected: Array, weight: Array) -> float:
    """Return the weighted mean Poisson deviance of counts around their expected values.

    Twice the mean of ``actual * ln(actual / expected) - (actual - expected)``, where the first term
    is 0 for ``actual == 0``. It is 0 for a perfect prediction, and on average least for the true
    mean, which the error of a logarithm is not.

    Parameters
    ----------
    actual : counts, at least 0, shape (n,)
    expected : predicted means, above 0, shape (n,)
    weight : at least 0, shape (n,)

    Raises
    ------
    ValueError
        No rows, a negative count, or an expectation that is not above 0.

    Examples
    --------
    >>> exact = np.array([3.0, 5.0])
    >>> poisson_deviance(exact, exact, np.ones(2))
    0.0
    >>> nothing = np.array([0.0])
    >>> poisson_deviance(nothing, np.array([1.0]), np.ones(1))  # 2 * (0 - (0 - 1))
    2.0
    """
    if len(actual) == 0 or (actual < 0).any() or not (expected > 0).all():
        raise ValueError("deviance needs rows, counts of at least 0 and expectations above 0")
    ratio = np.where(actual > 0, actual / expected, 1.0)
    deviance = 2 * (actual * np.log(ratio) - (actual - expected))
    return float(np.average(deviance, weights=weight))
