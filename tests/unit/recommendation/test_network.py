"""The network beside the trees: what it sees, what it computes, what it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecom_tasks.recommendation import network, ranker
from ecom_tasks.recommendation.network import REACH, SHARES, Network
from ecom_tasks.recommendation.ranker import Ranker, Rounds
from ecom_tasks.training.count_network import Layer
from tests.unit.recommendation.test_ranker import CONFIG, TELLING, frame, planted

SMALL = CONFIG.model_copy(
    update={
        "network_size": 32, "network_passes": 10, "network_batch": 256,
        "network_learning_rate": 0.01,
        "ranker_seeds": 1,
    }
)  # fmt: skip
NAN = np.nan


def layer(kernel: list[list[float]], bias: list[float]) -> Layer:
    return np.array(kernel, np.float32), np.array(bias, np.float32)


def by_hand(*members: list[Layer]) -> Network:
    """Of one column that is known to lie at 0, 1 or 2, and may be unknown."""
    knots = np.array([[0, 1, 2, NAN]], dtype=np.float32)
    return Network(knots, np.array([0]), list(members))


def test_a_column_is_coded_by_where_it_lies_among_its_quantiles() -> None:
    knots = np.array([[0, 1, 10], [5, NAN, NAN], [NAN, NAN, NAN]], dtype=np.float32)
    rows = [[0, 5, NAN], [1, 7, NAN], [5.5, 5, NAN], [99, 5, 3], [-4, 5, NAN], [NAN, 5, NAN]]
    coded = network.code(np.array(rows, np.float32), knots, np.array([0, 2]))
    assert coded[:, 0] == pytest.approx([-REACH, 0, REACH / 2, REACH, -REACH, 0])
    assert not coded[:, 1:3].any()  # of one value or none: nothing to tell
    assert coded[:, 3].tolist() == [0, 0, 0, 0, 0, 1]
    assert coded[:, 4].tolist() == [1, 1, 1, 0, 1, 1]


def test_quantiles_are_those_of_what_is_known() -> None:
    column = np.append(np.arange(101), [NAN, NAN]).astype(np.float32)
    features = np.column_stack([column, np.repeat([1.0, 2.0], [100, 3]), np.full(103, 4.0)])
    knots, unknown = network._coding(features.astype(np.float32))
    assert knots[0].tolist() == list(range(101))
    assert knots[1][:2].tolist() == [1, 2]
    assert knots[2][0] == 4
    assert np.isfinite(knots).sum(axis=1).tolist() == [101, 2, 1]
    assert unknown.tolist() == [0]


def test_rates_are_the_mean_of_the_members() -> None:
    flat = [layer([[0], [0]], [3.0])]
    steep = [layer([[2], [10]], [1.0])]
    features = np.array([[0], [1], [2], [NAN]], np.float32)
    found = network.log_rate(by_hand(flat, steep), features)
    assert found == pytest.approx([(4 - 2 * REACH) / 2, 2, (4 + 2 * REACH) / 2, (4 + 10) / 2])


def test_hidden_layers_end_in_silu() -> None:
    member = [layer([[1, -1], [0, 0]], [0, 0]), layer([[1], [10]], [0.5])]
    (found,) = network.log_rate(by_hand(member), np.array([[2]], np.float32))
    silu = REACH / (1 + np.exp(-REACH)), -REACH / (1 + np.exp(REACH))
    assert found == pytest.approx(silu[0] + 10 * silu[1] + 0.5)


def test_it_learns_what_is_planted_and_the_same_each_time() -> None:
    windows = [planted(1, customers=300), planted(2, customers=300)]
    first, second = (network.train(windows, SMALL) for _ in range(2))
    later = planted(3).features
    found = network.log_rate(first, later)
    # Orders are capped, so that the highest rates are told as lower ones.
    low = later[:, TELLING] < 1
    assert np.corrcoef(later[low, TELLING], found[low])[0, 1] > 0.85
    assert (found == network.log_rate(second, later)).all()
    rate = np.average(np.minimum(windows[0].orders, CONFIG.label_cap))
    assert np.exp(found).mean() == pytest.approx(rate, rel=0.15)


def test_candidates_stand_for_as_many_as_they_weigh() -> None:
    window = planted(1, customers=300)
    thinned = ranker.thin(window, 0.25, seed=3)
    later = planted(3).features
    rates = [
        np.exp(network.log_rate(network.train([each], SMALL), later)).mean()
        for each in (window, thinned, replace(thinned, weight=np.ones_like(thinned.weight)))
    ]
    assert rates[1] == pytest.approx(rates[0], rel=0.15)
    assert rates[2] > 1.3 * rates[0]


def test_seeds_are_averaged() -> None:
    both = network.train([planted(1)], SMALL.model_copy(update={"ranker_seeds": 2}))
    alone = [
        network.train([planted(1)], SMALL.model_copy(update={"seed": SMALL.seed + number}))
        for number in (0, 1)
    ]
    later = planted(2).features
    expected = np.mean([network.log_rate(each, later) for each in alone], axis=0)
    assert network.log_rate(both, later) == pytest.approx(expected, abs=1e-9)
    assert np.abs(network.log_rate(alone[0], later) - expected).max() > 1e-3


def test_a_window_without_orders_gives_low_rates() -> None:
    window = planted(1)
    silent = replace(window, orders=np.zeros_like(window.orders))
    found = network.log_rate(network.train([silent], SMALL), window.features)
    assert np.isfinite(found).all()
    assert found.max() < -5


def test_who_is_scored_alone_has_the_scores_of_all() -> None:
    beside = network.train([planted(1)], SMALL)
    many = planted(2, customers=90).features
    whole = network.log_rate(beside, many).astype(np.float32)
    alone = [network.log_rate(beside, many[at : at + 7]) for at in range(0, len(many), 7)]
    assert (np.concatenate(alone).astype(np.float32) == whole).all()
    assert len(network.log_rate(beside, many[:0])) == 0


def test_a_ranker_is_kept_with_its_network(tmp_path: Path) -> None:
    trees = ranker.train(planted(1), Rounds(5, 0), SMALL)
    beside = network.train([planted(1)], SMALL.model_copy(update={"ranker_seeds": 2}))
    rows = frame(planted(2).features)
    whole, bare = Ranker(trees, beside, 0.3), Ranker(trees)
    for name, made in (("a", whole), ("b", whole), ("c", bare)):
        ranker.save(made, tmp_path / name)
        again = ranker.load(tmp_path / name)
        assert again.share == made.share
        assert ranker.score(again, rows).equals(ranker.score(made, rows))
    files = [tmp_path / name / ranker.NETWORK for name in "abc"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not files[2].exists()
    only = ranker.score(bare, rows)["score"].to_numpy()
    log_rate = network.log_rate(beside, planted(2).features)
    assert ranker.score(whole, rows)["score"].to_numpy() == pytest.approx(
        0.7 * only + 0.3 * log_rate, abs=1e-5
    )


def test_the_share_is_what_makes_later_orders_likeliest() -> None:
    later = planted(2, customers=400)
    # The truth: log rate 1.5 x - 1.5. Here the trees know nothing, then as much as the network.
    knots = np.full((later.features.shape[1], 2), NAN, dtype=np.float32)
    knots[TELLING] = [-REACH, REACH]
    kernel = np.zeros((later.features.shape[1], 1), dtype=np.float32)

    def knowing(slope: float, start: float) -> Network:
        told = kernel.copy()
        told[TELLING] = slope
        return Network(knots, np.array([], int), [[(told, np.array([start], np.float32))]])

    config = CONFIG.model_copy(update={"label_cap": 1000})
    seen = replace(later, features=np.clip(later.features, -REACH, REACH))
    random = np.random.default_rng(5)
    orders = random.poisson(np.exp(1.5 * seen.features[:, TELLING] - 1.5)).astype(np.float32)
    seen = replace(seen, orders=orders)
    noise = replace(planted(1), features=np.zeros_like(planted(1).features))
    nothing = ranker.train(noise, Rounds(30, 0), config)
    share, losses = ranker.choose_share(nothing, knowing(1.5, -1.5), seen, config)
    assert share == 1.0
    assert len(losses) == len(SHARES)
    log_rate = 1.5 * seen.features[:, TELLING] - 1.5
    assert losses[-1] == pytest.approx(np.mean(np.exp(log_rate) - orders * log_rate), rel=1e-4)
    # Twice as steep as the truth, beside trees that are flat: half of each is right.
    start = float(ranker._margin(nothing, seen.features[:1])[0])
    twice = knowing(3.0, -3.0 - start)
    assert ranker.choose_share(nothing, twice, seen, config)[0] == 0.5
    assert ranker.choose_share(nothing, knowing(-3.0, 0.0), seen, config)[0] == 0.0
