"""The pricing flow where managers price by what only they see: costs of the lake tell the truth."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Any

import polars as pl
import pytest

from ecom_tasks import tables as contract
from ecom_tasks.artefacts import dataset
from ecom_tasks.features.tasks import flow as features_flow
from ecom_tasks.pricing import report, tasks
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.run import Ref, Run, run_locally
from tests import builders
from tests.unit.pricing import test_instruments as costly
from tests.unit.pricing.simulated import START

AS_OF = START + timedelta(days=7 * costly.WEEKS - 1)
UNTOLD = "p9"


def shop() -> dict[str, pl.DataFrame]:
    """Return tables of a shop that tells what its goods cost each week, but of one product."""
    rows = costly.shop(0).filter(pl.col("units") > 0)
    lines = [
        builders.line(
            "someone", row["product_id"], row["week_starts_on"], row["units"],
            row["price"], order_id=f"{row['location_id']} {row['week_starts_on']}",
            ordered_at=datetime.combine(row["week_starts_on"], time(12)),
            location_id=row["location_id"],
        )
        for row in rows.iter_rows(named=True)
    ]  # fmt: skip
    prices = [
        {"product_id": row["product_id"], "location_id": row["location_id"],
         "valid_from": row["week_starts_on"], "regular_price": row["price"],
         "unit_cost": None if row["product_id"] == UNTOLD else row["unit_cost"]}
        for row in rows.iter_rows(named=True)
    ]  # fmt: skip
    names = sorted(rows["product_id"].unique())
    return {
        "order_lines": builders.order_lines(lines),
        "products": builders.products(names, title=names, category=["food/c"] * len(names)),
        "prices": builders.table(contract.PRICES, prices),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOM_DASK", "threads")
        root = (tmp_path_factory.mktemp("costs") / "store").as_uri()
        day = Run("test", AS_OF, root)
        # Three of the buckets have no product, and so no demand.
        builders.publish_lake(day, shop(), buckets=8)
        run_locally(features_flow, replace(day, overrides={"features": {"snapshots": 1}}))
    return day


def learnt(run: Run, settings: dict[str, Any]) -> tuple[pl.DataFrame, PricingConfig]:
    run = replace(run, overrides={"pricing": {"trees": 30, **settings}})
    features = tasks.pin_features(run)
    together = tasks.find_bought_together(run, features)
    found: Ref = tasks.estimate_elasticities(run, tasks.build_panel(run, features), together)
    return dataset.scan(found, "products.parquet").collect(), PricingConfig.of(run)


def test_what_a_unit_costs_today_is_the_newest_where_nothing_else_tells(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOM_DASK", "threads")
    found = dataset.scan(tasks.build_panel(run, tasks.pin_features(run)), "catalogue.parquet")
    last = shop()["prices"].sort("valid_from").group_by("product_id", "location_id").last()
    means = last.group_by("product_id").agg(pl.col("unit_cost").mean()).rows()
    assert dict(found.select("product_id", "unit_cost").collect().rows()) == pytest.approx(
        dict(means), nan_ok=True, abs=1e-4
    )


def test_costs_of_the_lake_find_the_truth_that_prices_hide(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOM_DASK", "threads")
    plain, _ = learnt(run, {})
    assert (plain["lower"] > costly.TRUTH).all()
    assert plain["instrument"].null_count() == plain.height
    found, config = learnt(run, {"instrument": "cost"})
    told = found.filter(pl.col("product_id") != UNTOLD)
    assert told["instrument"].to_list() == ["cost"] * (costly.PRODUCTS - 1)
    assert (told["first_stage_f"] > 10).all()
    assert told["estimate"].to_list() == pytest.approx([costly.TRUTH] * told.height, abs=0.3)
    [untold] = found.filter(pl.col("product_id") == UNTOLD).to_dicts()
    assert untold["instrument"] is None
    assert untold["grade"] == "cannot tell"
    assert "no week has an instrument" in untold["why"]
    [section] = report._instrument(found, config)
    assert "9 products are learnt" in section.text
    assert "nor of 1 products without one" in section.text
