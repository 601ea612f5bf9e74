"""One suite for both devices: each check is written once, and runs on the CPU and on a GPU.

What is learnt must hold what was planted on either device, and be near to what the CPU gives; how
near stands beside each comparison. Cases of a GPU are skipped, with the reason, where none is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from ecom_tasks import device
from ecom_tasks.artefacts import dataset
from ecom_tasks.device import Device, Work
from ecom_tasks.features import tables
from ecom_tasks.features.tasks import flow
from ecom_tasks.run import Ref, Run, run_locally
from tests import builders

SETTING: dict[Device, str] = {"cpu": "cpu", "cuda": "gpu"}


@pytest.fixture(params=["cpu", "cuda"])
def place(request: pytest.FixtureRequest) -> Device:
    chosen: Device = request.param
    if chosen == "cuda" and not device.gpus():
        pytest.skip("no GPU: libcuda.so.1 is missing or shows no device")
    return chosen


class On:
    """Runs work on a device, and sees to it that it ran there and nowhere else."""

    def __init__(self, place: Device, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self._patch = place, monkeypatch

    def __call__(self, work: Work, do: Any) -> Any:
        if self.place == "cuda" and (lacking := device._lacking(work)):
            pytest.skip(f"GPU visible, but {lacking}")
        return self._run(self.place, do)

    def cpu(self, do: Any) -> Any:
        """Run the reference."""
        return self._run("cpu", do)

    def _run(self, place: Device, do: Any) -> Any:
        self._patch.setenv("ECOM_DEVICE", SETTING[place])
        with device.recording() as seen:
            result = do()
        assert seen.fallbacks == []
        assert seen.device == place
        return result


@pytest.fixture
def on(place: Device, monkeypatch: pytest.MonkeyPatch) -> On:
    return On(place, monkeypatch)


SHOP = builders.block_shop(blocks=3, customers=10, goods=6, weeks=30)


def _features(root: Path) -> Ref:
    run = Run("test", SHOP.as_of, root.as_uri(), overrides={"features": {"snapshots": 2}})
    plan = builders.promotions([
        builders.promotion("b0-p01", builders.day(14), builders.day(27)),
    ])
    lake = {"order_lines": SHOP.order_lines, "products": SHOP.products, "promotions": plan}
    builders.publish_lake(run, lake)
    return run_locally(flow, run)


def test_feature_tables(on: On, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, counts and days are equal; measures, rounded to 1e-6, differ by at most that."""
    monkeypatch.setenv("ECOM_DEVICE", "cpu")
    expected = _features(tmp_path / "reference")
    if on.place == "cuda" and (lacking := device._lacking("tables")):
        pytest.skip(f"GPU visible, but {lacking}")
    monkeypatch.setenv("ECOM_DEVICE", SETTING[on.place])
    found = _features(tmp_path / "found")
    for name, table in tables.FEATURES.items():
        ours, theirs = (
            dataset.input_named(collection, f"features/{name}") for collection in (found, expected)
        )
        made = dataset.manifest(ours)
        assert made.provenance.device == on.place, made.assumptions
        assert_frame_equal(
            dataset.scan(ours).collect().sort(table.key),
            dataset.scan(theirs).collect().sort(table.key),
            check_exact=False, rel_tol=1e-9, abs_tol=1.1e-6,
        )  # fmt: skip
    lines = SHOP.order_lines
    people = dataset.scan(dataset.input_named(found, "features/customers")).collect()
    orders = lines.group_by("customer_id").agg(pl.col("order_id").n_unique().alias("orders"))
    assert people.filter(cutoff=SHOP.as_of)["orders"].sum() == orders["orders"].sum()


def _planted(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 5)).astype(np.float32)
    mean = np.exp(0.5 * features[:, 0] - 0.7 * (features[:, 1] > 0) + 1)
    return features, random.poisson(mean).astype(np.float64)


@pytest.mark.parametrize("objective", ["reg:squarederror", "count:poisson"])
def test_trees_of_a_mean(objective: str, on: On) -> None:
    """The share of variance explained on further rows is the CPU's within 0.02."""
    from ecom_tasks.training import boosted_trees

    features, label = _planted(20_000, 1)
    asked, truth = _planted(20_000, 2)
    settings = {"objective": objective, "max_depth": 4, "eta": 0.1, "nthread": 1, "max_bin": 64}
    rows = boosted_trees.Rows(features, label, {"weight": np.ones(len(label))})

    def explained() -> float:
        model = boosted_trees.train("trees", settings, rows, 60)
        return float(1 - np.var(truth - model.inplace_predict(asked)) / np.var(truth))

    found = on("trees", explained)
    assert found == pytest.approx(on.cpu(explained), abs=0.02)
    # Poisson noise leaves mean / variance unexplained; most of the rest is found.
    assert found > 0.9 * (1 - truth.mean() / truth.var())


def test_trees_of_quantiles(on: On) -> None:
    """The pinball loss is the CPU's within 2%, and as many lie below a level as it says."""
    from ecom_tasks.inventory.forecast import QUANTILE
    from ecom_tasks.metrics.forecast import pinball_loss
    from ecom_tasks.training import boosted_trees

    levels = np.array([0.1, 0.5, 0.9])
    features, label = _planted(20_000, 1)
    asked, truth = _planted(20_000, 2)
    settings = QUANTILE | {"quantile_alpha": levels.tolist(), "nthread": 1, "tree_method": "hist"}
    # A tree a quantile: GPUs of older versions know no other.
    settings.pop("multi_strategy")

    def quantiles() -> NDArray[np.float32]:
        rows = boosted_trees.Rows(features, label)
        return boosted_trees.train("quantiles", settings, rows, 60).inplace_predict(asked)

    found, expected = on("trees", quantiles), on.cpu(quantiles)
    for at, level in enumerate(levels):
        loss, theirs = (pinball_loss(truth, each[:, at], level) for each in (found, expected))
        assert loss == pytest.approx(theirs, rel=0.02)
        # Counts are whole: about a tenth of all lie right at a quantile.
        assert np.mean(truth <= found[:, at]) == pytest.approx(level, abs=0.12)


def test_trees_of_a_ranking(on: On) -> None:
    """NDCG@10 of further customers is the CPU's within 0.01."""
    from ecom_tasks.training import boosted_trees

    def questions(seed: int) -> boosted_trees.Rows:
        random = np.random.default_rng(seed)
        group = np.repeat(np.arange(300), random.integers(5, 21, 300))
        features = random.normal(size=(len(group), 3)).astype(np.float32)
        wanted = features[:, 0] + 0.3 * random.normal(size=len(group)) > 0.7
        return boosted_trees.Rows(features, wanted.astype(np.float32), {"qid": group})

    settings = {"objective": "rank:ndcg", "nthread": 1, "max_depth": 3}

    def best() -> float:
        curve: list[float] = []
        watch = boosted_trees.Watch(questions(2), "ndcg@10", 10, curve)
        boosted_trees.train("ranker", settings, questions(1), 40, watch)
        return max(curve)

    found = on("trees", best)
    assert found == pytest.approx(on.cpu(best), abs=0.01)
    assert found > 0.85


def test_sequence_model(on: On) -> None:
    """Each product is followed by the next number, which is what both devices say."""
    from ecom_tasks.training import sequence_model
    from tests.unit.training.test_sequence_model import DIALS, PRODUCTS, follows, history, rounds

    asked = [history([(n + step) % 10 + 1 for step in range(4)]) for n in range(10)]

    def answers() -> list[int]:
        model = sequence_model.train(rounds(200), PRODUCTS, replace(DIALS, negatives=6))
        assert model.dtype_policy.name == "float32"
        return follows(model, asked)

    assert on("networks", answers) == [(n + 4) % 10 + 1 for n in range(10)]


def test_demand_network(on: On) -> None:
    """Twice what is planned is sold; forecasts are the CPU's within 10% of their spread."""
    from ecom_tasks.training import demand_network
    from ecom_tasks.training.demand_network import Dials, Windows

    random = np.random.default_rng(3)
    past = random.normal(size=(800, 8, 1)).astype(np.float32)
    ahead = random.integers(0, 2, size=(800, 3, 1)).astype(np.float32)
    target = 2 * ahead[..., 0] + 0.1 * random.normal(size=(800, 3)).astype(np.float32)
    windows = Windows(past, ahead, target.astype(np.float32), np.ones((800, 3), np.float32))
    dials = Dials((0.1, 0.5, 0.9), size=16, epochs=12, batch=64)

    def mean() -> NDArray[np.float32]:
        return demand_network.predict(demand_network.train(windows, dials), past, ahead)[0]

    found = on("networks", mean)
    assert found[ahead[..., 0] > 0].mean() == pytest.approx(2, abs=0.1)
    assert found[ahead[..., 0] == 0].mean() == pytest.approx(0, abs=0.1)
    assert np.abs(found - on.cpu(mean)).mean() < 0.1 * found.std()


def test_count_network(on: On) -> None:
    """exp(x) is expected where the column is x; in mixed precision products have three digits."""
    from ecom_tasks.training import count_network
    from ecom_tasks.training.count_network import Dials

    random = np.random.default_rng(11)
    columns = random.uniform(-1, 1, size=(8000, 3)).astype(np.float32)
    counts = random.poisson(np.exp(columns[:, 0])).astype(np.float32)
    dials = Dials((16, 8), passes=10, batch=256, dropout=0.1, learning_rate=0.01, seed=1)

    def log_rates() -> NDArray[Any]:
        values = columns[:200]
        *hidden, last = count_network.train(columns, counts, np.ones_like(counts), dials)
        for kernel, bias in hidden:
            values = values @ kernel + bias
            values /= 1 + np.exp(-values)
        return (values @ last[0] + last[1])[:, 0]

    found = on("networks", log_rates)
    assert np.abs(found - columns[:200, 0]).mean() < 0.12
    assert np.abs(found - on.cpu(log_rates)).mean() < 0.1


def test_two_towers(on: On) -> None:
    """Who likes tea is nearer to every tea than to any screw, also to teas that nobody bought."""
    from ecom_tasks.training import two_tower
    from tests.unit.training.test_two_tower import DIALS, pairs, products

    known = two_tower.catalogue(products(), DIALS.vocabulary)

    def score() -> NDArray[np.float32]:
        towers = two_tower.train([pairs()], known, DIALS)
        _, words = two_tower.histories([pairs()], known)
        return (
            two_tower.embed(towers.customer, words) @ two_tower.embed(towers.product, known.words).T
        )

    found = on("networks", score)
    customers = two_tower.histories([pairs()], known)[0].str.starts_with("tea").to_numpy()
    tea = known.product_ids.str.starts_with("tea").to_numpy()
    assert (found[customers][:, tea].min(axis=1) > found[customers][:, ~tea].max(axis=1)).all()
    assert (found[~customers][:, ~tea].min(axis=1) > found[~customers][:, tea].max(axis=1)).all()


def test_factors(on: On) -> None:
    """On a checkerboard the field left out is the best of those not bought, on both devices."""
    from ecom_tasks.recommendation.candidates import als
    from ecom_tasks.recommendation.candidates.matrix import encode
    from ecom_tasks.recommendation.config import RecommendationConfig

    size = 12
    board = pl.DataFrame(
        [
            (f"c{row:02}", f"p{column:02}", 1.0, 1.0)
            for row in range(size)
            for column in range(size)
            if row % 2 == column % 2 and row != column
        ],
        schema=["customer_id", "product_id", "orders", "recency_weighted_orders"],
        orient="row",
    )
    config = RecommendationConfig(als_factors=4)
    known = encode([board], size)

    def best() -> list[int]:
        people, goods = als.factorise(known, config)
        score = people @ goods.T
        score[known.orders.toarray() > 0] = -np.inf
        return [int(each) for each in np.argmax(score, axis=1)]

    assert on("factors", best) == list(range(size))
