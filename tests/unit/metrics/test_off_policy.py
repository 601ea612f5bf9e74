"""Off-policy values against a world in which they are known."""

from __future__ import annotations

import numpy as np
import pytest

from ecom_tasks.metrics import off_policy
from ecom_tasks.metrics.off_policy import DIRECT, DOUBLY_ROBUST, IPS, METHODS, SNIPS

LOGGING, NEW = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
MEAN = np.array([1.0, 2.0, 4.0])
TRUE = float(NEW @ MEAN)  # .1 + .4 + 2.8
STORES = 40


def log(seed: int, rows: int = 2000) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    action = rng.choice(3, rows, p=LOGGING)
    store = np.arange(rows) % STORES
    reward = MEAN[action] + 0.3 * rng.standard_normal(STORES)[store] + rng.standard_normal(rows)
    return action, reward, store


def by_store(seed: int, rows: int, model: np.ndarray) -> np.ndarray:
    """Sums of a log by store, shape (stores, 6)."""
    action, reward, store = log(seed, rows)
    expected = (np.full(rows, NEW @ model), model[action])
    added = off_policy.contributions(reward, LOGGING[action], NEW[action], expected)
    sums = np.zeros((STORES, added.shape[1]))
    np.add.at(sums, store, added)
    return sums


def judged(sums: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Value, lower and upper end by method."""
    value = off_policy.values(sums.sum(axis=0))
    drawn = off_policy.values(off_policy.resampled(sums, 200, 5))
    found = {}
    for name in METHODS:
        lower, upper = off_policy.interval(value[name], drawn[name], STORES, 0.95)
        found[name] = float(value[name]), float(lower), float(upper)
    return found


@pytest.mark.parametrize("model", [MEAN, np.array([3.0, 0.0, 1.0])], ids=["right", "wrong"])
def test_values_are_unbiased_and_intervals_cover(model: np.ndarray) -> None:
    found = [judged(by_store(seed, 400, model)) for seed in range(200)]
    for name in (IPS, SNIPS, DOUBLY_ROBUST):
        each = np.array([one[name] for one in found])
        assert each[:, 0].mean() == pytest.approx(TRUE, abs=0.06), name
        assert 0.9 <= np.mean((each[:, 1] <= TRUE) & (each[:, 2] >= TRUE)) <= 0.995, name


def test_a_good_model_narrows_the_interval_and_a_wrong_one_alone_is_wrong() -> None:
    right = judged(by_store(1, 2000, MEAN))
    width = {name: upper - lower for name, (_, lower, upper) in right.items()}
    assert width[DOUBLY_ROBUST] < width[IPS] / 1.5
    assert right[DIRECT][0] == pytest.approx(TRUE)
    wrong = judged(by_store(1, 2000, np.array([3.0, 0.0, 1.0])))
    assert wrong[DIRECT][0] == pytest.approx(0.1 * 3 + 0.7 * 1)  # and sure of it
    assert wrong[DIRECT][2] < TRUE


def test_values_are_what_their_formulas_say() -> None:
    reward, logged = np.array([1.0, 3.0, 5.0]), np.array([0.5, 0.25, 0.25])
    proposed = np.array([0.25, 0.5, 0.25])
    model = (np.array([2.0, 2.0, 2.0]), np.array([1.0, 2.0, 4.0]))
    sums = off_policy.contributions(reward, logged, proposed, model).sum(axis=0)
    found = off_policy.values(sums)
    assert found[IPS] == pytest.approx((0.5 * 1 + 2 * 3 + 1 * 5) / 3)
    assert found[SNIPS] == pytest.approx((0.5 * 1 + 2 * 3 + 1 * 5) / (0.5 + 2 + 1))
    assert found[DIRECT] == pytest.approx(2.0)
    assert found[DOUBLY_ROBUST] == pytest.approx(2 + (0.5 * (1 - 1) + 2 * (3 - 2) + (5 - 4)) / 3)
    assert off_policy.effective_rows(sums) == pytest.approx(3.5**2 / (0.25 + 4 + 1))
    # Scaling all weights changes IPS, and not SNIPS.
    half = off_policy.contributions(reward, logged, proposed / 2, model).sum(axis=0)
    assert off_policy.values(half)[SNIPS] == pytest.approx(found[SNIPS])
    assert off_policy.values(half)[IPS] == pytest.approx(found[IPS] / 2)


def test_clusters_are_drawn_whole() -> None:
    sums = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    drawn = off_policy.resampled(sums, 300, 0)
    assert drawn.shape == (300, 2)
    assert (drawn[:, 1] == 10 * drawn[:, 0]).all()
    # Three clusters, each one to three times: from 3 * 1 to 3 * 4, and 7 on average.
    assert (drawn[:, 0].min(), drawn[:, 0].max()) == (3.0, 12.0)
    assert drawn[:, 0].mean() == pytest.approx(7.0, abs=0.4)
    with pytest.raises(ValueError, match="two clusters"):
        off_policy.resampled(sums[:1], 10, 0)


@pytest.mark.parametrize(
    ("logged", "proposed"), [([0.0, 0.5], [0.5, 0.5]), ([0.5, 0.5], [1.5, 0.5])]
)
def test_probabilities_that_are_none_are_refused(
    logged: list[float], proposed: list[float]
) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        off_policy.contributions(
            np.ones(2), np.array(logged), np.array(proposed), (np.ones(2), np.ones(2))
        )
