"""Distances of histograms: textbook values, an independent twin, and what chance does."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from scipy.spatial import distance

from ecom_tasks.metrics import drift


def counts(*rows: int) -> drift.Counts:
    return np.array(rows, np.int64)


def test_stability_index_of_known_histograms() -> None:
    before, now = counts(20, 30, 50), counts(300, 300, 400)
    expected = (
        (0.3 - 0.2) * log(0.3 / 0.2) + (0.3 - 0.3) * log(0.3 / 0.3) + (0.4 - 0.5) * log(0.4 / 0.5)
    )
    assert drift.population_stability_index(before, now) == pytest.approx(expected, rel=1e-12)
    assert drift.population_stability_index(now, before) == pytest.approx(expected, rel=1e-12)


def test_equal_shares_are_no_distance_apart() -> None:
    once, thrice = counts(7, 0, 93), counts(21, 0, 279)
    assert drift.population_stability_index(once, thrice) == pytest.approx(0, abs=1e-15)
    assert drift.jensen_shannon_distance(once, thrice) == pytest.approx(0, abs=1e-7)


def test_an_empty_bin_counts_as_half_a_row_or_the_smallest_share() -> None:
    for rows, least in ((9, 0.5 / 9), (10**6, drift.SMALLEST_SHARE)):
        expected = (least - 0.5) * log(least / 0.5) + (1 - 0.5) * log(1 / 0.5)
        found = drift.population_stability_index(counts(5, 5), counts(0, rows))
        assert found == pytest.approx(expected, rel=1e-12)


def test_jensen_shannon_is_that_of_scipy_and_ends_at_one() -> None:
    before, now = counts(1, 2, 0, 7), counts(3, 3, 3, 1)
    twin = distance.jensenshannon(before / before.sum(), now / now.sum(), base=2)
    assert drift.jensen_shannon_distance(before, now) == pytest.approx(twin, rel=1e-12)
    assert drift.jensen_shannon_distance(counts(4, 0), counts(0, 9)) == 1.0


def test_chance_stays_below_its_level_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    shares = np.full(10, 0.1)
    pairs = zip(
        random.multinomial(2000, shares, 4000), random.multinomial(3000, shares, 4000), strict=True
    )
    above = [
        drift.population_stability_index(a, b) > drift.stability_by_chance(a, b, 0.95)
        for a, b in pairs
    ]
    # Standard error of the share: sqrt(.05 * .95 / 4000) = .0034.
    assert np.mean(above) == pytest.approx(0.05, abs=0.011)
    assert drift.stability_by_chance(counts(5, 0), counts(9, 0), 0.95) == 0.0


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="bins differ"):
        drift.population_stability_index(counts(1, 2), counts(1, 2, 3))
    for side in ((counts(0, 0), counts(1, 1)), (counts(1, 1), counts(0, 0))):
        with pytest.raises(ValueError, match="at least one row"):
            drift.jensen_shannon_distance(*side)
