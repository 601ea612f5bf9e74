"""What another policy would have earned, from a log of what was done and how likely that was.

A log has a row a decision: its reward (profit of a week), the probability with which the logged
action was drawn, the probability with which the new policy would draw it, and what a model expects.
Everything is sums over rows, so that a log is added up by cluster, part by part, and the sums are
all that is kept. Rows of one cluster (a block of weeks, a store) need not be independent: whole
clusters are drawn again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

IPS, SNIPS, DIRECT, DOUBLY_ROBUST = "IPS", "SNIPS", "direct", "doubly robust"
METHODS = (DOUBLY_ROBUST, SNIPS, IPS, DIRECT)
COLUMNS = ("rows", "weight", "weight_squares", "weighted_reward", "expected", "corrected")
"""What is added up: the last axis of all sums."""


def contributions(
    reward: Array, logged: Array, proposed: Array, model: tuple[Array, Array]
) -> Array:
    """Return what each decision adds to `COLUMNS`, shape (n, 6).

    Parameters
    ----------
    reward : shape (n,)
    logged, proposed : probability of the logged action under each policy, shape (n,); logged > 0
    model : its expected reward averaged over the new policy's actions, and of the logged action,
        shape (n,) each

    Raises
    ------
    ValueError
        A logged probability that is not above 0 and at most 1, or a proposed one outside 0 to 1.
    """
    if not ((logged > 0) & (logged <= 1)).all():
        raise ValueError("probabilities of logged actions must be above 0 and at most 1")
    if not ((proposed >= 0) & (proposed <= 1)).all():
        raise ValueError("probabilities of proposed actions must be from 0 to 1")
    weight = proposed / logged
    expected, expected_logged = model
    corrected = expected + weight * (reward - expected_logged)
    one = np.ones(len(reward))
    return np.column_stack([one, weight, weight**2, weight * reward, expected, corrected])


def values(sums: Array) -> dict[str, Array]:
    """Return the mean reward a decision by each method, shape (...,); NaN where nothing is like it.

    * IPS, inverse propensity scoring: unbiased where every action that is proposed was possible;
      wide where weights are.
    * SNIPS, self-normalised: weights are made to average 1; a small bias for a much smaller
      variance (Swaminathan and Joachims 2015).
    * direct: what the model expects; its interval knows nothing of the model's own error.
    * doubly robust: the model's value, corrected by what it got wrong on logged actions; right if
      either propensities or the model are (Dudik, Langford and Li 2011).

    Parameters
    ----------
    sums : of `contributions`, shape (..., 6)

    Examples
    --------
    >>> reward, even = np.array([1.0, 2.0, 3.0, 6.0]), np.full(4, 0.5)
    >>> added = contributions(reward, even, np.array([0.5, 0.5, 0.5, 1.0]), (even, even))
    >>> float(values(added.sum(axis=0))["IPS"])  # (1 + 2 + 3 + 2 * 6) / 4
    4.5
    >>> float(values(added.sum(axis=0))["SNIPS"])  # over 1 + 1 + 1 + 2
    3.6
    """
    rows, weight, _, weighted, expected, corrected = np.moveaxis(np.asarray(sums), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            DOUBLY_ROBUST: np.asarray(corrected / rows),
            SNIPS: np.asarray(weighted / weight),
            IPS: np.asarray(weighted / rows),
            DIRECT: np.asarray(expected / rows),
        }


def effective_rows(sums: Array) -> Array:
    """Return of how many equally weighted decisions a value hangs (Kish 1965), shape (...,)."""
    squares = np.maximum(sums[..., 2], 1e-300)
    return np.asarray(sums[..., 1] ** 2 / squares)


def resampled(by_cluster: Array, draws: int, seed: int) -> Array:
    """Draw whole clusters again, with replacement, and add each draw up.

    Parameters
    ----------
    by_cluster : sums of each cluster, shape (clusters, ...)

    Returns
    -------
    Shape (draws, ...); the same seed draws the same clusters, whatever stands in them.

    Raises
    ------
    ValueError
        Fewer than two clusters.
    """
    clusters = len(by_cluster)
    if clusters < 2:
        raise ValueError("an interval needs at least two clusters")
    rng = np.random.default_rng(seed)
    times = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws)
    return np.tensordot(times.astype(np.float64), by_cluster, axes=1)


def interval(value: Array, drawn: Array, clusters: int, confidence: float) -> tuple[Array, Array]:
    """Return lower and upper end around a value, from its deviation over draws.

    Clusters are few: the deviation is widened by clusters / (clusters - 1), and Student's
    quantile taken.

    Parameters
    ----------
    value : shape (...,); drawn : shape (draws, ...)
    """
    deviation = np.std(drawn, axis=0) * np.sqrt(clusters / (clusters - 1))
    half = float(stats.t.ppf((1 + confidence) / 2, clusters - 1)) * deviation
    return np.asarray(value - half), np.asarray(value + half)
