"""Forecasts of all levels add up, in the mean and in every future."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import polars as pl
import pytest

from ecom_tasks.inventory import reconcile
from tests.unit.inventory import shop

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
KEYS = pl.DataFrame({
    "product_id": ["a", "b", "c", "c"],
    "location_id": ["west/one", "west/one", "west/two", "east/three"],
    "category": ["food/bread", "food/milk", "toys/balls", "toys/balls"],
})
Z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])


def test_the_levels_are_laid_out() -> None:
    tree = reconcile.hierarchy(KEYS)
    sums = dict(zip(tree.nodes.rows(), tree.sums(np.array([1.0, 2.0, 4.0, 8.0])), strict=True))
    assert sums == {
        ("total", "all"): 15,
        ("department", "food"): 3, ("department", "toys"): 12,
        ("category", "food/bread"): 1, ("category", "food/milk"): 2,
        ("category", "toys/balls"): 12,
        ("region", "east"): 8, ("region", "west"): 7,
        ("location", "east/three"): 8, ("location", "west/one"): 3, ("location", "west/two"): 4,
    }  # fmt: skip
    everywhere = reconcile.hierarchy(KEYS.with_columns(location_id=pl.lit("all")))
    assert set(everywhere.nodes["level"]) == {"total", "department", "category"}


def test_reconciled_means_add_up_exactly_and_lie_between() -> None:
    tree = reconcile.hierarchy(KEYS.with_columns(location_id=pl.lit("all")))
    bottom = np.array([[10.0], [20.0], [30.0], [40.0]])
    same = tree.sums(bottom)
    series, nodes = reconcile.reconcile(tree, bottom, same)
    np.testing.assert_allclose(series, bottom, rtol=1e-9)  # nothing to bring together
    above = same * 1.2
    series, nodes = reconcile.reconcile(tree, bottom, above)
    np.testing.assert_allclose(nodes, tree.sums(series), rtol=1e-12)
    assert 100 < nodes[0, 0] < 120
    assert (series > bottom).all()


def test_every_path_adds_up_and_common_errors_widen_the_sum() -> None:
    keys = KEYS.with_columns(location_id=pl.lit("all"))
    panel = shop.panel(np.full((4, 20), 9.0), shop.small())
    tree = reconcile.hierarchy(keys)
    mean = np.full((4, 2), 100.0, np.float32)
    quantiles = np.asarray(mean[..., None] + 10 * Z, np.float32)
    width = {}
    for shared in (0.0, 1.0):
        paths = reconcile.paths_of(quantiles, LEVELS, shared, 4000, seed=1)
        summed = tree.sums(paths.reshape(4, -1)).reshape(-1, 4000, 2)
        np.testing.assert_allclose(summed[0], paths.sum(axis=0), rtol=1e-5)
        np.testing.assert_allclose(summed[1] + summed[2], summed[0], rtol=1e-5)
        found = reconcile.node_forecasts(panel, tree, mean, paths, LEVELS)
        total = found.filter(level="total")
        assert total["mean"].to_list() == [400, 400]
        width[shared] = (total["q95"] - total["q05"]).to_numpy()
    z = NormalDist().inv_cdf(0.95)
    assert width[0.0] == pytest.approx(2 * z * 10 * np.sqrt(4), rel=0.06)
    assert width[1.0] == pytest.approx(2 * z * 10 * 4, rel=0.06)


@pytest.mark.parametrize("planted", [0.0, 0.2, 0.6])
def test_what_errors_share_is_recovered(planted: float) -> None:
    random = np.random.default_rng(3)
    steps = 400
    common, own = random.normal(size=(1, steps)), random.normal(size=(60, steps))
    actual = 100 + 10 * (np.sqrt(planted) * common + np.sqrt(1 - planted) * own)
    quantiles = np.asarray(np.full((60, steps, 1), 100.0) + 10 * Z, np.float32)
    assert reconcile.shared_error(actual, quantiles, LEVELS) == pytest.approx(planted, abs=0.06)
