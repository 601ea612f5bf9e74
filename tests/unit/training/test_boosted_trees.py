"""Trees where they do not fit: the ways round are planted, what comes out is real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from ecom_tasks import device
from ecom_tasks.training import boosted_trees
from ecom_tasks.training.boosted_trees import Rows, Watch

SETTINGS: dict[str, Any] = {"objective": "reg:squarederror", "nthread": 1, "max_depth": 3}
RANKING = SETTINGS | {"objective": "rank:ndcg"}


def rows(seed: int = 1, count: int = 3000) -> Rows:
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 4)).astype(np.float32)
    label = features[:, 0] * 2 + np.abs(features[:, 1]) + 0.1 * random.normal(size=count)
    return Rows(features, label, {"weight": np.ones(count)})


def questions(seed: int = 1, count: int = 200) -> Rows:
    """Groups of 5 to 20 candidates, of which those of the highest first feature are wanted."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(count), random.integers(5, 21, count))
    features = random.normal(size=(len(group), 3)).astype(np.float32)
    return Rows(features, (features[:, 0] > 0.5).astype(np.float32), {"qid": group})


def error(model: xgb.Booster, some: Rows) -> float:
    """Squared error as a share of the variance."""
    missed = model.inplace_predict(some.features) - some.label
    return float(np.mean(missed**2) / np.var(some.label))


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU is there, on which no matrix fits whole; pages of it are real, on the CPU."""
    monkeypatch.setenv("ECOM_DEVICE", "gpu")
    monkeypatch.setattr(device, "gpus", lambda: 1)
    monkeypatch.setattr(device, "_ABLE", {"trees": lambda: True})
    monkeypatch.setattr(boosted_trees, "_CUDA", {"device": "cpu", "verbosity": "1"})
    monkeypatch.setattr(boosted_trees, "PAGE_ROWS", 700)
    train = xgb.train

    def crowded_train(settings: dict[str, Any], data: xgb.DMatrix, *args: Any, **more: Any) -> Any:
        if "verbosity" in settings and not isinstance(data, xgb.ExtMemQuantileDMatrix):
            raise xgb.core.XGBoostError("Check failed: cudaErrorMemoryAllocation: out of memory")
        return train(settings, data, *args, **more)

    monkeypatch.setattr(xgb, "train", crowded_train)


@pytest.mark.usefixtures("crowded")
def test_what_does_not_fit_whole_is_read_in_pages() -> None:
    with device.recording() as seen:
        model = boosted_trees.train("trees", SETTINGS, rows(), 40)
    assert seen.device == "cuda"
    assert seen.fallbacks == ["trees: out of memory on the GPU, so done on the GPU in pages"]
    assert error(model, rows(2)) < 0.1


def test_pages_teach_what_the_whole_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = boosted_trees.train("trees", SETTINGS, rows(), 40)
    monkeypatch.setattr(boosted_trees, "PAGE_ROWS", 700)
    data = boosted_trees.paged(tmp_path, {"nthread": 1}, rows())
    assert (data.num_row(), data.num_col()) == (3000, 4)
    paged = xgb.train(SETTINGS, data, 40)
    assert error(paged, rows(2)) == pytest.approx(error(whole, rows(2)), rel=0.1)


@pytest.mark.usefixtures("crowded")
def test_rankers_are_read_in_pages_too() -> None:
    curve: list[float] = []
    base = boosted_trees.train("trees", SETTINGS, _alone(questions()), 2)
    watch = Watch(questions(2), "ndcg@10", 5, curve)
    with device.recording() as seen:
        boosted_trees.train("ranker", RANKING, questions(), 30, watch, base)
    assert len(seen.fallbacks) == 1
    assert max(curve) > 0.95


def _alone(some: Rows) -> Rows:
    return Rows(some.features, some.label)


def test_pages_hold_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosted_trees, "PAGE_ROWS", 6)
    group = np.repeat([0, 1, 2, 3], [4, 4, 9, 1])
    some = Rows(np.zeros((18, 1), np.float32), np.zeros(18), {"qid": group})
    cuts = [(each.start, each.stop) for each in boosted_trees._cuts(some)]
    assert cuts == [(0, 4), (4, 8), (8, 17), (17, 18)]
    cuts = [(each.start, each.stop) for each in boosted_trees._cuts(_alone(some))]
    assert cuts == [(0, 6), (6, 12), (12, 18)]


def test_the_cpu_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = boosted_trees.train("trees", SETTINGS, rows(), 10)
    monkeypatch.setenv("ECOM_DEVICE", "gpu")
    monkeypatch.setattr(device, "gpus", lambda: 1)
    monkeypatch.setattr(device, "_ABLE", {"trees": lambda: True})
    train = xgb.train

    def no_gpu(settings: dict[str, Any], *args: Any, **more: Any) -> Any:
        if settings.get("device") == "cuda":
            raise xgb.core.XGBoostError("cudaErrorMemoryAllocation: out of memory")
        return train(settings, *args, **more)

    monkeypatch.setattr(xgb, "train", no_gpu)
    with device.recording() as seen:
        model = boosted_trees.train("trees", SETTINGS, rows(), 10)
    assert seen.device == "cpu"
    assert len(seen.fallbacks) == 2
    assert model.save_raw() == plain.save_raw()


@pytest.mark.parametrize("parallel", [1, 2])
def test_the_mean_of_models_is_one_model_that_predicts_the_mean(parallel: int) -> None:
    counted = SETTINGS | {
        "objective": "count:poisson", "subsample": 0.5, "num_parallel_tree": parallel,
    }  # fmt: skip
    asked = questions()
    noise = np.random.default_rng(3).normal(size=len(asked.label))
    some = Rows(asked.features, (asked.features[:, 0] + noise > 0.5).astype(np.float32), asked.told)
    ordered = Rows(some.features, some.label, {})

    def trained(seed: int) -> xgb.Booster:
        base = boosted_trees.train("trees", counted | {"seed": seed}, ordered, 4)
        return boosted_trees.train("trees", RANKING | {"seed": seed}, some, 2, base=base)

    models = [trained(seed) for seed in (1, 2, 3)]
    merged = boosted_trees.average(models)
    matrix = xgb.DMatrix(some.features)
    each = [model.predict(matrix, output_margin=True) for model in models]
    assert not np.allclose(each[0], each[1], atol=1e-3)
    assert merged.predict(matrix, output_margin=True) == pytest.approx(
        np.mean(each, axis=0), abs=1e-5
    )
    assert merged.num_boosted_rounds() == 6
    after = [model.predict(matrix, output_margin=True, iteration_range=(0, 2)) for model in models]
    assert merged.predict(matrix, output_margin=True, iteration_range=(0, 2)) == pytest.approx(
        np.mean(after, axis=0), abs=1e-5
    )
    assert boosted_trees.average([trained(seed) for seed in (1, 2, 3)]).save_raw(
        "ubj"
    ) == merged.save_raw("ubj")
    assert boosted_trees.average(models[:1]) is models[0]


def test_models_of_other_rows_have_no_mean() -> None:
    models = [boosted_trees.train("trees", SETTINGS, rows(seed), 2) for seed in (1, 2)]
    with pytest.raises(ValueError, match="differ in more than their seed"):
        boosted_trees.average(models)
    longer = boosted_trees.train("trees", SETTINGS, rows(1), 3)
    with pytest.raises(ValueError, match="differ in more than their seed"):
        boosted_trees.average([models[0], longer])


def test_what_is_watched_is_read_as_values_and_gives_the_curve_of_bins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = questions(2)
    curve: list[float] = []
    seen: dict[str, Any] = {}
    watched.features[::7, 1] = np.nan
    train = xgb.train

    def spied(*args: Any, **more: Any) -> Any:
        seen["kinds"] = (type(args[1]), type(more["evals"][0][0]))
        return train(*args, **more)

    monkeypatch.setattr(xgb, "train", spied)
    model = boosted_trees.train(
        "ranker", RANKING, questions(), 20, Watch(watched, "ndcg@10", 50, curve)
    )
    assert seen["kinds"] == (xgb.QuantileDMatrix, xgb.DMatrix)
    some = questions()
    data = xgb.QuantileDMatrix(some.features, some.label, **some.told)
    bins = xgb.QuantileDMatrix(watched.features, watched.label, ref=data, **watched.told)
    found: dict[str, Any] = {}
    expected = train(
        RANKING | {"eval_metric": "ndcg@10"}, data, 20, evals=[(bins, "watched")],
        evals_result=found, verbose_eval=False,
    )  # fmt: skip
    assert curve == found["watched"]["ndcg@10"]
    assert model.get_dump() == expected.get_dump()
