"""Off-policy values against a world in which they are known."""

from __future__ import annotations

import numpy as np
import pytest

from ecom_tasks.metrics import off_policy

LOGGING, NEW = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
MEAN = np.array([1.0, 2.0, 4.0])
TRUE = float(NEW @ MEAN)  # .1 + .4 + 2.8


def log(seed: int, rows: int = 2000) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    action = rng.choice(3, rows, p=LOGGING)
    store = np.arange(rows) % 40
    reward = MEAN[action] + 0.3 * rng.standard_normal(40)[store] + rng.standard_normal(rows)
    return action, reward, store


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "dr, wrong model"])
def test_values_are_unbiased_and_intervals_cover(name: str) -> None:
    found = []
    for seed in range(200):
        action, reward, store = log(seed, 400)
        logged, proposed = LOGGING[action], NEW[action]
        model = MEAN if name == "dr" else np.array([3.0, 0.0, 1.0])
        if name in {"ips", "snips"}:
            found.append(getattr(off_policy, name)(reward, logged, proposed, store))
        else:
            expected = np.full(len(reward), NEW @ model)
            found.append(
                off_policy.doubly_robust(reward, logged, proposed, (expected, model[action]), store)
            )
    assert np.mean([each.value for each in found]) == pytest.approx(TRUE, abs=0.06)
    covered = np.mean([each.lower <= TRUE <= each.upper for each in found])
    assert 0.9 <= covered <= 0.995


def test_a_good_model_narrows_the_interval_and_a_wrong_one_alone_is_wrong() -> None:
    action, reward, store = log(1)
    logged, proposed = LOGGING[action], NEW[action]
    plain = off_policy.ips(reward, logged, proposed, store)
    expected = np.full(len(reward), NEW @ MEAN)
    doubly = off_policy.doubly_robust(reward, logged, proposed, (expected, MEAN[action]), store)
    assert doubly.upper - doubly.lower < (plain.upper - plain.lower) / 1.5
    wrong = off_policy.direct(np.full(len(reward), 1.0) + 0.01 * (store % 2), store)
    assert wrong.upper < TRUE


def test_snips_is_the_weighted_mean() -> None:
    reward, logged = np.array([1.0, 3.0, 5.0]), np.array([0.5, 0.25, 0.25])
    proposed = np.array([0.25, 0.5, 0.25])
    found = off_policy.snips(reward, logged, proposed, np.arange(3))
    assert found.value == pytest.approx((0.5 * 1 + 2 * 3 + 1 * 5) / (0.5 + 2 + 1))
    assert found.effective_rows == pytest.approx(3.5**2 / (0.25 + 4 + 1))
    # Scaling all weights changes IPS, and not SNIPS.
    half = off_policy.snips(reward, logged, proposed / 2, np.arange(3))
    assert half.value == pytest.approx(found.value)


@pytest.mark.parametrize(
    ("logged", "proposed", "cluster"),
    [([0.0, 0.5], [0.5, 0.5], [0, 1]), ([0.5, 0.5], [1.5, 0.5], [0, 1]),
     ([0.5, 0.5], [0.5, 0.5], [0, 0]), ([0.5, 0.5], [0.0, 0.0], [0, 1])],
)  # fmt: skip
def test_logs_that_tell_nothing_are_refused(
    logged: list[float], proposed: list[float], cluster: list[int]
) -> None:
    with pytest.raises(ValueError, match=r"probabilities|clusters|none of"):
        off_policy.snips(np.ones(2), np.array(logged), np.array(proposed), np.array(cluster))
