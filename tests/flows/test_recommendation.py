"""The recommendation flow on a shop with planted tastes, from features to the release."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import xgboost as xgb

from ecom_tasks import cli
from ecom_tasks.artefacts import dataset
from ecom_tasks.errors import DataContractError, ModelRejectedError
from ecom_tasks.features.tasks import flow as features_flow
from ecom_tasks.recommendation import tasks
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.features import NAMES
from ecom_tasks.recommendation.snapshots import Window
from ecom_tasks.recommendation.tasks import flow
from ecom_tasks.run import Ref, Run, run_locally
from tests import builders

SHOP = builders.block_shop(blocks=3, customers=8, goods=10, weeks=26)
TABLES = {"order_lines": SHOP.order_lines, "products": SHOP.products}
QUICK = {
    "top_k": 8, "als_factors": 8, "als_iterations": 3, "count_rounds": 20, "rank_rounds": 3,
    "min_child_weight": 1, "epochs": 1, "vocabulary": 256, "embedding_size": 8, "batch_size": 64,
    "resamples": 50, "unordered_share": 1.0,
}  # fmt: skip


def at(root: str, **settings: object) -> Run:
    run = Run("test", SHOP.as_of, root, overrides={"recommendation": QUICK | settings})
    builders.publish_lake(run, TABLES)
    run_locally(features_flow, run)
    return run


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Ref]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOM_DASK", "threads")
        run = at((tmp_path_factory.mktemp("flow") / "store").as_uri())
        return run, run_locally(flow, run)


def test_every_customer_gets_a_full_list_of_the_own_block(released: tuple[Run, Ref]) -> None:
    lists = dataset.scan(released[1], "recommendations.parquet").collect()
    ranked = lists.filter(pl.col("rank") <= 8)
    assert set(ranked.group_by("customer_id").len()["len"]) == {8}
    assert ranked["customer_id"].n_unique() == 3 * 8
    assert not lists.select("customer_id", "product_id").is_duplicated().any()
    own_block = pl.col("customer_id").str.head(2) == pl.col("product_id").str.head(2)
    assert ranked.select(own_block.mean()).item() > 0.95
    assert lists.columns == ["customer_id", "product_id", "rank", "score", "generator", "reason"]
    assert lists["reason"].null_count() == 0
    again = lists.filter(generator="repeat")["reason"]
    assert again.str.contains(r"^buy again: every (day|\d+ days)$").all()


def test_the_release_holds_models_tables_report_and_judgement(
    released: tuple[Run, Ref], tmp_path: Path
) -> None:
    made = dataset.manifest(released[1])
    paths = {entry.path for entry in made.files}
    assert paths >= {
        "recommendations.parquet", "similar_products.parquet", "popular.parquet", "metrics.json",
        "report.html", "models/ranker.ubj", "models/customer_tower.keras",
        "models/product_tower.keras",
    }  # fmt: skip
    assert made.headline is not None
    assert made.headline.value > made.headline.baseline
    for both in made.metrics["windows"].values():
        assert set(both["all"]["contenders"]) == {
            "ranker", "own purchase frequency", "popularity",
        }  # fmt: skip
    dataset.fetch(released[1], tmp_path)
    model = xgb.Booster(model_file=tmp_path / "models/ranker.ubj")
    assert model.feature_names == list(NAMES)
    similar = pl.read_parquet(tmp_path / "similar_products.parquet")
    same = pl.col("product_id").str.head(2) == pl.col("similar_product_id").str.head(2)
    assert similar.select(same.all()).item()


def test_a_second_run_recomputes_nothing(released: tuple[Run, Ref]) -> None:
    run, ref = released
    assert run_locally(flow, replace(run, run_id="again")) == ref


def test_the_ranker_is_tuned_on_windows_before_the_test_windows(
    released: tuple[Run, Ref], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = released
    looked_at = []
    examples = tasks._examples

    def watched(features: Ref, proposed: Ref, window: Window, config: RecommendationConfig) -> Any:
        looked_at.append(window)
        return examples(features, proposed, window, config)

    monkeypatch.setattr(tasks, "_examples", watched)
    settings = [f"--set=recommendation.{name}={value}" for name, value in QUICK.items()]
    command = ["tune", "recommendation", "--ranker", "--as-of", str(run.as_of), "--root", run.root,
               "--folder", str(tmp_path), "--trials", "2", *settings]  # fmt: skip
    assert cli.main(command) == 0
    best = json.loads((tmp_path / "best.json").read_text())["ranker"]
    assert best["trials"] == 2
    assert best["best"] >= best["defaults"] > 0
    # QUICK sets two dials, which therefore stay.
    assert set(best["settings"]) == {"max_depth", "column_share", "row_share", "learning_rate"}
    plan = tasks._plan(dataset.find(run, "features/all"), RecommendationConfig.of(run))
    assert 2 <= len(looked_at) <= 3
    assert looked_at[-1].until <= plan.test[0].cutoff
    assert looked_at == sorted(looked_at, key=lambda window: window.cutoff)
    one = replace(run, overrides={"recommendation": QUICK | {"train_windows": 1}})
    with pytest.raises(DataContractError, match="1 window before the first test window"):
        tasks.ranker_windows(one)


def test_a_ranker_without_enough_gain_is_refused_and_nothing_is_published(root: str) -> None:
    run = at(root, smallest_gain=2.0)
    with pytest.raises(ModelRejectedError, match="own purchase frequency"):
        run_locally(flow, run)
    with pytest.raises(DataContractError):
        dataset.find(run, "artefacts/recommendation")
