"""The recommendation flow on a small shop whose tastes are planted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.pull import pull, verify
from ecom_tasks.errors import DataContractError, ModelRejectedError
from ecom_tasks.features.tasks import flow as features_flow
from ecom_tasks.recommendation import evaluate, tasks
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.run import Run, run_locally
from tests import builders

QUICK = {
    "recommendation": {
        "count_rounds": 20, "rank_rounds": 5, "epochs": 1, "batch_size": 32, "als_factors": 4,
        "als_iterations": 3, "min_child_weight": 1, "top_k": 8, "resamples": 50,
    },
}  # fmt: skip
RELEASE = {
    "recommendations.parquet", "similar_products.parquet", "popular.parquet",
    "product_embeddings.parquet", "metrics.json", "report.html", "models/ranker.ubj",
    "models/customer_tower.keras", "models/product_tower.keras",
}  # fmt: skip


def publish(root: str, shop: builders.Shop, **overrides: object) -> Run:
    run = Run("test", shop.as_of, root, overrides=QUICK | overrides)  # type: ignore[arg-type]
    builders.publish_lake(
        run,
        {"order_lines": shop.order_lines, "products": shop.products, "promotions": shop.promotions},
    )
    run_locally(features_flow, run)
    return run


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOM_DASK", "threads")
        # The shop's customers buy their staples without fail, so nothing can beat repeating them:
        # the gate is asked only not to be much worse.
        patch.setattr(evaluate, "gate", lambda *_: None)
        run = publish((tmp_path_factory.mktemp("store") / "root").as_uri(), builders.block_shop())
        run_locally(tasks.flow, run)
    return run


def test_release_is_whole_and_pulls(released: Run, tmp_path: Path) -> None:
    pulled = pull(released.root, "artefacts/recommendation", tmp_path)
    made = verify(pulled.folder)
    assert {entry.path for entry in made.files} == RELEASE
    assert made.headline is not None
    assert made.headline.rows == pl.read_parquet(pulled.folder / "recommendations.parquet").height


def test_lists_stay_in_the_customers_block_and_are_full(released: Run) -> None:
    ref = dataset.find(released, "artefacts/recommendation")
    lists = dataset.scan(ref, "recommendations.parquet").collect()
    first = lists.filter(pl.col("rank") <= 3)
    same = first["customer_id"].str.head(2) == first["product_id"].str.head(2)
    assert same.all()
    assert lists.group_by("customer_id").agg(pl.col("rank").max())["rank"].min() == 8
    assert not lists.select("customer_id", "product_id").is_duplicated().any()
    assert lists["reason"].str.len_chars().min() > 0
    assert lists["reason"].str.contains("buy again: every").any()


def test_similar_products_are_of_the_same_block(released: Run) -> None:
    ref = dataset.find(released, "artefacts/recommendation")
    near = dataset.scan(ref, "similar_products.parquet").filter(pl.col("rank") == 1).collect()
    assert (near["product_id"].str.head(2) == near["similar_product_id"].str.head(2)).all()


def test_own_staples_are_found_in_every_window(released: Run) -> None:
    ref = dataset.find(released, "artefacts/recommendation")
    windows = dataset.read_json(ref, "metrics.json")["windows"]
    assert len(windows) == 2
    for found in windows.values():
        contenders = found["all"]["contenders"]
        assert (
            contenders[evaluate.RANKER]["ndcg_at_10"] > contenders[evaluate.POPULAR]["ndcg_at_10"]
        )


def test_running_again_makes_the_same_bytes_elsewhere(
    released: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "gate", lambda *_: None)
    again = publish((tmp_path / "root").as_uri(), builders.block_shop())
    made = [
        dataset.manifest(run_locally(tasks.flow, again)),
        dataset.manifest(dataset.find(released, "artefacts/recommendation")),
    ]
    assert made[0].version == made[1].version
    assert {e.path: e.sha256 for e in made[0].files} == {e.path: e.sha256 for e in made[1].files}


def test_too_short_a_history_says_what_is_needed(run: Run) -> None:
    shop = builders.block_shop(weeks=10)
    short = publish(run.root, shop, features={"snapshots": 3})
    with pytest.raises(DataContractError, match=r"known at 3 cutoffs, and 4 are needed"):
        run_locally(tasks.flow, short)


def test_a_ranker_that_gains_nothing_is_refused() -> None:
    gain = {"ndcg_at_10": 0.0, "lower": -0.1, "upper": 0.1, "over": evaluate.FREQUENCY}
    with pytest.raises(ModelRejectedError, match=r"gains 0\.0000 NDCG@10 over own purchase"):
        evaluate.gate({"2024-01-01": {"all": {"gain": gain}}}, RecommendationConfig())
    evaluate.gate({"w": {"all": {"gain": gain | {"ndcg_at_10": 0.01}}}}, RecommendationConfig())


def test_nothing_after_the_day_is_read(tmp_path: Path) -> None:
    shop = builders.block_shop(weeks=30)
    later = builders.order_lines([builders.line("b0-c00", "b3-p00", shop.as_of)])
    future = later.with_columns(
        pl.col("ordered_at") + pl.duration(days=1), order_id=pl.lit("future")
    )
    longer = replace(shop, order_lines=pl.concat([shop.order_lines, future]))
    pairs = []
    for place, each in (("a", shop), ("b", longer)):
        made = publish((tmp_path / place).as_uri(), each)
        ref = dataset.find(made, "features/customer_products")
        pairs.append([entry.sha256 for entry in dataset.manifest(ref).files])
    assert pairs[0] == pairs[1]
