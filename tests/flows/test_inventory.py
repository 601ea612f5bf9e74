"""The inventory flow, from published features to a release that a buyer can use."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import xgboost as xgb

from ecom_tasks import tables
from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.errors import DataContractError, ModelRejectedError
from ecom_tasks.features import tasks as features
from ecom_tasks.inventory import tasks
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.run import Ref, Run, run_locally
from tests import builders

WEEKS = 36
SHOP = builders.block_shop(blocks=2, customers=10, goods=6, weeks=WEEKS)
SETTINGS: dict[str, object] = {
    "horizon": 2, "samples": 200, "network_rows": 1000, "network_epochs": 1,
}  # fmt: skip
PRODUCTS = 2 * 6


def with_features(run: Run, **lake: pl.DataFrame) -> Run:
    """Publish the shop and its features; return the run of that day."""
    day = replace(
        run, as_of=SHOP.as_of,
        overrides={"inventory": SETTINGS, "features": {"snapshots": 1}},
    )  # fmt: skip
    shop = {"order_lines": SHOP.order_lines, "products": SHOP.products} | lake
    builders.publish_lake(day, shop)
    run_locally(features.flow, day)
    return day


def changed(run: Run, **settings: object) -> Run:
    return replace(run, run_id="again", overrides={"inventory": SETTINGS | settings})


def table(release: Ref, name: str) -> pl.DataFrame:
    return dataset.scan(release, f"{name}.parquet").collect()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Ref]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ECOM_DASK", "threads")
        root = tmp_path_factory.mktemp("inventory").as_uri()
        day = with_features(Run("test", SHOP.as_of, root))
        return day, run_locally(tasks.flow, day)


def test_holidays_are_those_of_the_shop_unless_a_country_is_given(
    published: tuple[Run, Ref],
) -> None:
    day, release = published
    assert "Public holidays are those of GB" in dataset.manifest(release).assumptions
    pinned = tasks.pin_features(day)
    series = tasks.build_series(changed(day, country="US"), pinned)
    assert dataset.manifest(series).metrics["country"] == "US"


def test_a_release_holds_all_that_a_consumer_needs(
    published: tuple[Run, Ref], tmp_path: Path
) -> None:
    day, release = published
    made = dataset.manifest(release)
    assert {entry.path for entry in made.files} == {
        "forecasts.parquet", "orders.parquet", "orders.csv", "policy.parquet", "metrics.json",
        "hierarchy.parquet", "classes.parquet", "exceptions.parquet", "whatif.parquet",
        "model/mean.ubj", "model/quantiles.ubj", "model/network.npz", "model/calibration.json",
        "evidence.parquet",
        "report.html", "new_products.parquet",
    }  # fmt: skip
    forecasts = table(release, "forecasts")
    assert forecasts.height == PRODUCTS * 2
    assert forecasts["week_starts_on"].min() > day.as_of
    levels = [f"q{level:02d}" for level in (1, 5, 10, 25, 50, 75, 90, 95, 99)]
    assert forecasts.columns == ["product_id", "location_id", "week_starts_on", "mean", *levels]
    for below, above in pairwise(levels):
        assert (forecasts[below] <= forecasts[above]).all()
    folder = dataset.fetch(release, tmp_path, "model/*")
    for name in ("mean", "quantiles"):
        model = xgb.Booster(model_file=folder / "model" / f"{name}.ubj")
        assert "lag_1" in (model.feature_names or [])


def test_the_headline_beats_the_best_plain_method(published: tuple[Run, Ref]) -> None:
    made = dataset.manifest(published[1])
    assert made.headline is not None
    assert made.headline.metric == "wrmsse"
    assert made.headline.value < made.headline.baseline
    plain = {name: each["wrmsse"] for name, each in made.metrics["baselines"].items()}
    assert made.headline.baseline == min(plain.values()) == plain[made.headline.baseline_name]
    added = made.metrics["forecast_value_added"]
    assert added["over"] == "naive"  # 36 weeks hold no whole season
    assert added["wrmsse"] == pytest.approx(1 - made.headline.value / plain["naive"], abs=1e-5)
    assert len(made.metrics["windows"]) == 2
    assert made.metrics["windows"][-1]["origin"] == "2024-08-26"  # 36 weeks, the last two judge


def test_orders_without_stock_claim_no_quantity(published: tuple[Run, Ref]) -> None:
    orders, policy = table(published[1], "orders"), table(published[1], "policy")
    assert policy.height == PRODUCTS
    assert orders["order_quantity"].null_count() == orders.height > 0
    assert (orders["quantity_before_stock"] >= orders["order_up_to"]).all()
    assert orders["assumed"].str.contains("lead_time_days").all()
    assert orders["value"].is_sorted(descending=True)
    assert (policy["base_stock_level"] > policy["continuous_reorder_point"]).all()
    assert (policy["order_up_to"] >= policy["reorder_point"]).all()
    said = " ".join(dataset.manifest(published[1]).assumptions)
    for assumed in ("lead_time_days", "unit_cost", "before subtracting stock", "No promotions"):
        assert assumed in said


def test_categories_and_total_are_the_sums_of_their_products(published: tuple[Run, Ref]) -> None:
    forecasts, nodes = table(published[1], "forecasts"), table(published[1], "hierarchy")
    total = nodes.filter(level="total").sort("week_starts_on")
    summed = forecasts.group_by("week_starts_on").agg(pl.col("mean").sum()).sort("week_starts_on")
    assert total["mean"].to_list() == pytest.approx(summed["mean"].to_list(), rel=1e-5)
    for level in ("department", "category"):
        parts = nodes.filter(level=level).group_by("week_starts_on").agg(pl.col("mean").sum())
        assert parts.sort("week_starts_on")["mean"].to_list() == pytest.approx(
            total["mean"].to_list(), rel=1e-9
        )
    assert (total["q95"] > total["mean"]).all()


def test_reconciled_orders_follow_moved_forecasts(published: tuple[Run, Ref]) -> None:
    day, release = published
    moved = run_locally(tasks.flow, changed(day, reconciliation="min_trace"))
    forecasts, nodes = table(moved, "forecasts"), table(moved, "hierarchy")
    assert not forecasts["mean"].equals(table(release, "forecasts")["mean"])
    assert nodes.filter(level="total")["mean"].sum() == pytest.approx(
        forecasts["mean"].sum(), rel=1e-5
    )


def test_products_are_classed(published: tuple[Run, Ref]) -> None:
    lists = table(published[1], "classes")
    assert lists.height == PRODUCTS
    assert set(lists["abc"]) <= {"A", "B", "C"}
    assert lists["overstock_units"].null_count() == PRODUCTS  # stock is unknown


def test_the_buyers_file_says_the_same(published: tuple[Run, Ref], tmp_path: Path) -> None:
    text = (dataset.fetch(published[1], tmp_path, "orders.csv") / "orders.csv").read_bytes()
    orders = table(published[1], "orders")
    read = pl.read_csv(io.BytesIO(text))
    assert read["product_id"].to_list() == orders["product_id"].to_list()
    assert read["quantity_before_stock"].to_list() == orders["quantity_before_stock"].to_list()


def test_the_report_opens_with_the_result(published: tuple[Run, Ref], tmp_path: Path) -> None:
    html = (dataset.fetch(published[1], tmp_path, "*.html") / "report.html").read_text()
    value = dataset.manifest(published[1]).headline
    assert value is not None
    assert f"WRMSSE {value.value:.3f}" in html
    assert html.count("<svg") == 3
    assert "before subtracting stock on hand" in html
    missed = table(published[1], "exceptions")
    assert set(missed["exception"]) == {"forecast missed"}  # the stock of no product is known
    assert missed["value"].is_sorted(descending=True)
    assert missed["reason"][0] in html
    assert "stock that runs out" not in html


def test_the_same_input_is_made_once_and_the_same_elsewhere(
    published: tuple[Run, Ref], run: Run
) -> None:
    day, release = published
    assert run_locally(tasks.flow, replace(day, run_id="again")) == release
    elsewhere = run_locally(tasks.flow, with_features(run))
    first, second = (
        {entry.path: entry.sha256 for entry in dataset.manifest(ref).files}
        for ref in (release, elsewhere)
    )
    assert second == first


def test_another_lead_time_trains_nothing_again(published: tuple[Run, Ref]) -> None:
    day, release = published
    slow = run_locally(tasks.flow, changed(day, lead_time_days=21.0))
    before, after = (dataset.manifest(ref) for ref in (release, slow))
    assert after.version != before.version
    for kept in ("work/inventory/forecaster", "work/inventory/backtest"):
        assert after.inputs[kept] == before.inputs[kept]
    both = table(release, "policy").join(table(slow, "policy"), on="product_id")
    assert (both["base_stock_level_right"] > both["base_stock_level"]).all()
    assert any("order must last longer" in each for each in after.assumptions)


def test_known_stock_and_terms_make_orders_that_can_be_placed(run: Run) -> None:
    ids = SHOP.products["product_id"].to_list()
    stock = [
        {"product_id": each, "location_id": "shop", "snapshot_on": SHOP.as_of, "on_hand": 3.0,
         "on_order": 1.0}
        for each in ids
    ]  # fmt: skip
    supply = [
        {"product_id": each, "location_id": "shop", "lead_time_days": 3.0, "pack_size": 6.0}
        for each in ids
    ]
    day = with_features(
        run, stock=builders.table(tables.STOCK, stock), supply=builders.table(tables.SUPPLY, supply)
    )
    orders = table(run_locally(tasks.flow, day), "orders")
    assert orders.height > 0
    for order in orders.iter_rows(named=True):
        missing = order["order_up_to"] - 3 - 1
        assert missing <= order["order_quantity"] < missing + 6
        assert order["order_quantity"] % 6 == 0
        assert "lead_time_days," not in order["assumed"]


def test_locations_wait_for_their_warehouse(published: tuple[Run, Ref]) -> None:
    day, _ = published
    made = run_locally(tasks.flow, changed(day, by_location=True, warehouse_lead_time_days=14.0))
    warehouse, policy = table(made, "warehouse"), table(made, "policy")
    assert warehouse.height == PRODUCTS
    both = policy.join(warehouse.select("product_id", "wait_days"), on="product_id")
    assert both["lead_time_days"].to_list() == (both["wait_days"] + 7).to_list()
    assert any("one warehouse" in each for each in dataset.manifest(made).assumptions)


def test_days_are_forecast_and_ordered_for(run: Run) -> None:
    day = with_features(run)
    settings = {
        "frequency": "daily", "horizon": 7, "samples": 100, "calibration_windows": 1,
        "test_windows": 1, "paydays": [15, 31], "network": False,
    }  # fmt: skip
    daily = replace(day, run_id="daily", overrides={"inventory": settings})
    release = run_locally(tasks.flow, daily)
    made = dataset.manifest(release)
    forecasts, policy = table(release, "forecasts"), table(release, "policy")
    assert forecasts["day"].unique().sort().to_list() == [
        day.as_of + timedelta(days=ahead) for ahead in range(1, 8)
    ]
    assert forecasts.height == PRODUCTS * 7
    # Each customer comes on one weekday of his own: a day is not a seventh of a week.
    assert made.headline is not None
    assert made.headline.value < 0.9 * made.headline.baseline
    weekly = forecasts.group_by("product_id").agg(pl.col("mean").sum())
    both = policy.join(weekly, on="product_id")
    assert both["weekly_demand"].to_list() == pytest.approx(both["mean"].to_list(), rel=1e-5)
    assert set(policy["review_days"]) == {1.0}
    assert 0.8 < made.metrics["service"]["model"]["fill_rate"] <= 1


def test_a_short_history_says_what_is_needed(run: Run) -> None:
    day = with_features(run)
    long = changed(day, test_windows=6)
    needed = InventoryConfig(horizon=2, test_windows=6).periods_needed
    assert needed < WEEKS
    run_locally(tasks.flow, long)
    with pytest.raises(DataContractError, match=f"needs 38 complete weeks.*got {WEEKS}"):
        run_locally(tasks.flow, changed(day, test_windows=12))


def test_a_model_that_beats_nothing_is_not_published(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecom_tasks.inventory import evaluate

    perfect: Any = lambda panel, origin, config: {  # noqa: E731
        "clairvoyant": evaluate.actual(panel, origin, config)
    }
    monkeypatch.setattr("ecom_tasks.inventory.baselines.forecast", perfect)
    day = with_features(run)
    with pytest.raises(ModelRejectedError, match=r"does not beat 0\.0000 of the clairvoyant"):
        run_locally(tasks.flow, day)
    with pytest.raises(DataContractError, match="No artefacts/inventory"):
        dataset.find(day, "artefacts/inventory")


def test_new_products_are_likened_by_the_recommendation_of_an_earlier_day(run: Run) -> None:
    start = SHOP.as_of + timedelta(days=1)
    # Of no category: only the embedding says what it is like.
    soon = SHOP.products.head(1).with_columns(
        pl.lit("new").alias("product_id"), pl.lit(start).cast(pl.Date).alias("launched_on"),
        pl.lit("").alias("category"), pl.lit(1.2).alias("regular_price"),
    )  # fmt: skip
    known = SHOP.products.with_columns(pl.lit(None, pl.Date).alias("launched_on"))
    # A shop whose products all start at once has none that was launched: these start later.
    late = SHOP.order_lines.filter(pl.col("ordered_at").dt.date() >= builders.day(7 * 8))
    first = SHOP.order_lines.head(1)
    day = with_features(
        run, order_lines=pl.concat([first, late]), products=pl.concat([known, soon])
    )
    ids = [*known["product_id"], "new"]
    vectors = [[1.0, 0.0] if name[:2] in {ids[-2][:2], "ne"} else [0.0, 1.0] for name in ids]

    def likeness(draft: Draft) -> None:
        draft.write_frame("product_embeddings.parquet", pl.DataFrame({
            "product_id": ids, "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, 2)),
        }))  # fmt: skip

    for before in (7, 0):
        earlier = replace(day, as_of=SHOP.as_of - timedelta(days=before))
        dataset.release(earlier, dataset.produce(earlier, "artefacts/recommendation", likeness))
        pinned = tasks.pin_embeddings(day)
        if before:
            made = pinned
    # A release of the day itself is not waited for, so that the day run again gives the same.
    assert pinned == made
    assert (
        dataset
        .manifest(made)
        .metrics["recommendation"]
        .startswith(str(SHOP.as_of - timedelta(days=7)))
    )
    release = run_locally(tasks.flow, day)
    assert set(table(release, "new_products").filter(product_id="new")["basis"]) == {
        "embedding and price"
    }


def test_without_a_recommendation_there_are_no_embeddings(published: tuple[Run, Ref]) -> None:
    assert not dataset.has_rows(tasks.pin_embeddings(published[0]))
