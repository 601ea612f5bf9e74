"""What other prices would have earned, from logs of prices that were drawn with known probability.

A log has a row a decision: its reward (profit of the week), the probability with which the logged
action was drawn, the probability with which the new policy would draw it, and for two estimators
what a model expects. Intervals are those of the mean over clusters (for example stores), since
weeks of one store are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A policy's mean reward a decision, with its interval and the weights' effective sample."""

    value: float
    lower: float
    upper: float
    effective_rows: float


def ips(
    reward: Array, logged: Array, proposed: Array, cluster: Array, confidence: float = 0.95
) -> Estimate:
    """Inverse propensity scoring: mean of ``reward * proposed / logged``.

    Unbiased where every action that is proposed was possible; wide where weights are.

    Parameters
    ----------
    reward : shape (n,)
    logged, proposed : probability of the logged action under each policy, shape (n,); logged > 0
    cluster : label of each row's cluster, shape (n,)

    Raises
    ------
    ValueError
        A logged probability that is not above 0 and at most 1, or fewer than two clusters.

    Examples
    --------
    >>> one = np.ones(4)
    >>> ips(np.array([1.0, 2.0, 3.0, 4.0]), one, one, np.arange(4)).value  # the same policy
    2.5
    """
    weight = _weights(logged, proposed)
    return _mean(weight * reward, np.ones(len(reward)), cluster, confidence, weight)


def snips(
    reward: Array, logged: Array, proposed: Array, cluster: Array, confidence: float = 0.95
) -> Estimate:
    """Self-normalised inverse propensity scoring: weights are made to average 1.

    A small bias for a much smaller variance (Swaminathan and Joachims 2015).
    """
    weight = _weights(logged, proposed)
    return _mean(weight * reward, weight, cluster, confidence, weight)


def direct(expected: Array, cluster: Array, confidence: float = 0.95) -> Estimate:
    """Direct method: mean of what a model expects under the new policy.

    The interval knows nothing of the model's own error.

    Parameters
    ----------
    expected : model's expected reward, averaged over the new policy's actions, shape (n,)
    """
    one = np.ones(len(expected))
    return _mean(expected, one, cluster, confidence, one)


def doubly_robust(
    reward: Array,
    logged: Array,
    proposed: Array,
    model: tuple[Array, Array],
    cluster: Array,
    confidence: float = 0.95,
) -> Estimate:  # fmt: skip
    """Doubly robust: the model's value, corrected by what it got wrong on logged actions.

    Right if either propensities or the model are (Dudik, Langford and Li 2011).

    Parameters
    ----------
    model : its expected reward averaged over the new policy's actions, as in `direct`, and of the
        logged action, shape (n,) each
    """
    weight = _weights(logged, proposed)
    expected, expected_logged = model
    value = expected + weight * (reward - expected_logged)
    return _mean(value, np.ones(len(reward)), cluster, confidence, weight)


def _weights(logged: Array, proposed: Array) -> Array:
    if not ((logged > 0) & (logged <= 1)).all():
        raise ValueError("probabilities of logged actions must be above 0 and at most 1")
    if not ((proposed >= 0) & (proposed <= 1)).all():
        raise ValueError("probabilities of proposed actions must be from 0 to 1")
    return np.asarray(proposed / logged)


def _mean(total: Array, base: Array, cluster: Array, confidence: float, weight: Array) -> Estimate:
    """Return the ratio of sums with a linearised interval over clusters."""
    _, code = np.unique(cluster, return_inverse=True)
    groups = int(code.max()) + 1
    if groups < 2:
        raise ValueError("an interval needs at least two clusters")
    if base.sum() <= 0:
        raise ValueError("the new policy would have taken none of the logged actions")
    value = total.sum() / base.sum()
    off = np.bincount(code, total - value * base)
    error = np.sqrt((off**2).sum() * groups / (groups - 1)) / base.sum()
    half = float(stats.t.ppf((1 + confidence) / 2, groups - 1)) * error
    effective = weight.sum() ** 2 / max((weight**2).sum(), 1e-300)
    return Estimate(float(value), float(value - half), float(value + half), float(effective))
