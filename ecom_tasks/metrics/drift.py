"""How far two distributions lie apart, from counts in the same bins.

Counts add up: the histogram of a table is the sum of those of its buckets, so that nothing here
ever needs the whole table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

SMALLEST_SHARE = 1e-4
"""Stands for a bin that is empty on one side, or half a row where that is more."""


def population_stability_index(reference: Counts, counts: Counts) -> float:
    """Sum over bins of `(share - share before) * ln(share / share before)`; 0 for equal shares.

    Parameters
    ----------
    reference, counts : rows in each bin, shape (bins,); each with at least one row

    Raises
    ------
    ValueError
        The bins differ in number, or one side has no row.

    Examples
    --------
    >>> half, less = np.array([5, 5]), np.array([2, 8])
    >>> round(population_stability_index(half, less), 6)  # (.2 - .5) ln(.2/.5) + .3 ln(.8/.5)
    0.415888

    References
    ----------
    Siddiqi (2006), "Credit Risk Scorecards", Wiley: below .1 nothing to see, above .25 a shift.
    """
    _shares(reference, counts)
    used = (reference + counts) > 0
    before, now = (
        np.maximum(each[used] / each.sum(), max(SMALLEST_SHARE, 0.5 / int(each.sum())))
        for each in (reference, counts)
    )
    return float(((now - before) * np.log(now / before)).sum())


def stability_by_chance(reference: Counts, counts: Counts, level: float) -> float:
    """Return the index that two samples of one population stay below with probability `level`.

    Their index is close to `(1/n + 1/m)` times a chi-square of as many degrees of freedom as there
    are bins in use, less one. 0 where one bin holds everything.

    Parameters
    ----------
    reference, counts : see `population_stability_index`
    level : in (0, 1)

    References
    ----------
    Yurdakul (2018), "Statistical properties of the population stability index", Western Michigan
    University, dissertation 3208.
    """
    _shares(reference, counts)
    used = int(((reference + counts) > 0).sum())
    if used < 2:
        return 0.0
    noise = 1 / int(reference.sum()) + 1 / int(counts.sum())
    return float(noise * stats.chi2.ppf(level, used - 1))


def jensen_shannon_distance(reference: Counts, counts: Counts) -> float:
    """Square root of the Jensen-Shannon divergence to base 2: 0 for equal shares, 1 for disjoint.

    Parameters
    ----------
    reference, counts : see `population_stability_index`

    References
    ----------
    Endres and Schindelin (2003), "A new metric for probability distributions", IEEE TIT.
    """
    before, now = _shares(reference, counts)
    middle = (before + now) / 2

    def divergence(shares: Array) -> float:
        some = shares > 0
        return float((shares[some] * np.log2(shares[some] / middle[some])).sum())

    return float(np.sqrt(max((divergence(before) + divergence(now)) / 2, 0.0)))


def _shares(reference: Counts, counts: Counts) -> tuple[Array, Array]:
    if reference.shape != counts.shape:
        raise ValueError(f"bins differ: {reference.shape} and {counts.shape}")
    if not (reference.sum() > 0 and counts.sum() > 0):
        raise ValueError("a distribution needs at least one row on each side")
    return reference / reference.sum(), counts / counts.sum()
