"""How far a distribution has moved from a reference: two figures over the same classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LEAST = 1e-4
"""Share that an empty class is given, so that its logarithm exists."""


def population_stability_index(reference: Array, recent: Array) -> float:
    """Return ``sum((q - p) * ln(q / p))`` over classes, p the reference's share and q the recent.

    Below 0.1 is usually read as stable, above 0.25 as moved. An empty class counts as a share of
    0.0001.

    Parameters
    ----------
    reference, recent : counts of the same classes, shape (classes,)

    Raises
    ------
    ValueError
        A side is empty, or the sides have not the same classes.

    Examples
    --------
    >>> population_stability_index(np.array([5.0, 5.0]), np.array([50.0, 50.0]))
    0.0
    >>> moved = population_stability_index(np.array([5.0, 5.0]), np.array([8.0, 2.0]))
    >>> round(moved, 6)  # .3 * ln(1.6) - .3 * ln(.4)
    0.415888
    """
    p, q = (np.maximum(each, _LEAST) for each in _shares(reference, recent))
    return float(np.sum((q - p) * np.log(q / p)))


def jensen_shannon_divergence(reference: Array, recent: Array) -> float:
    """Return the Jensen-Shannon divergence in bits: 0 for the same shares, 1 for nothing shared.

    The mean of the Kullback-Leibler divergences of both sides from their midpoint (Lin 1991).

    Parameters
    ----------
    reference, recent : counts of the same classes, shape (classes,)

    Raises
    ------
    ValueError
        A side is empty, or the sides have not the same classes.

    Examples
    --------
    >>> jensen_shannon_divergence(np.array([3.0, 0.0]), np.array([0.0, 7.0]))
    1.0
    """
    p, q = _shares(reference, recent)
    middle = (p + q) / 2

    def from_middle(side: Array) -> float:
        there = side > 0
        return float(np.sum(side[there] * np.log2(side[there] / middle[there])))

    return (from_middle(p) + from_middle(q)) / 2


def stability_by_chance(reference: Array, recent: Array, level: float) -> float:
    """Return the stability index that two samples of one population stay below.

    It is close to ``1 / n + 1 / m`` times a chi-square of as many degrees of freedom as there are
    classes in use, less one; 0 where one class holds everything.

    Parameters
    ----------
    reference, recent : counts of the same classes, shape (classes,)
    level : probability of staying below, in (0, 1)

    Raises
    ------
    ValueError
        A side is empty, or the sides have not the same classes.

    References
    ----------
    Yurdakul (2018), "Statistical properties of the population stability index", Western Michigan
    University, dissertation 3208.
    """
    from scipy import stats  # not at the top: the console's server has none

    _shares(reference, recent)
    used = int(((reference + recent) > 0).sum())
    noise = 1 / reference.sum() + 1 / recent.sum()
    return float(noise * stats.chi2.ppf(level, used - 1)) if used > 1 else 0.0


def _shares(reference: Array, recent: Array) -> tuple[Array, Array]:
    if reference.shape != recent.shape or reference.sum() <= 0 or recent.sum() <= 0:
        raise ValueError("drift needs counts of the same classes, with something on each side")
    return reference / reference.sum(), recent / recent.sum()
