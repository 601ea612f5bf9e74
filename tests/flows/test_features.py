"""The features flow, from published tables to the collection that the models read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from ecom_tasks.artefacts import dataset
from ecom_tasks.errors import DataContractError
from ecom_tasks.features import tables
from ecom_tasks.features.tasks import flow
from ecom_tasks.run import Ref, Run, run_locally
from tests import builders

SHOP = builders.block_shop(blocks=2, customers=3, goods=4, weeks=12)
PLAN = builders.promotions([builders.promotion("b0-p00", builders.day(0), builders.day(6))])


@pytest.fixture
def day_run(run: Run) -> Run:
    return replace(run, as_of=SHOP.as_of, overrides={"features": {"snapshots": 2}})


def publish(run: Run, lines: pl.DataFrame, plan: pl.DataFrame | None = PLAN) -> Ref:
    shop = {"order_lines": lines, "products": SHOP.products}
    return builders.publish_lake(run, shop | ({} if plan is None else {"promotions": plan}))


def feature(collection: Ref, name: str) -> Ref:
    return dataset.input_named(collection, f"features/{name}")


def test_every_table_is_published_and_bound_with_the_lake(day_run: Run) -> None:
    publish(day_run, SHOP.order_lines)
    collection = run_locally(flow, day_run)
    inputs = dataset.manifest(collection).inputs
    assert set(inputs) >= {f"features/{name}" for name in tables.FEATURES}
    assert set(inputs) >= {"lake/order_lines", "lake/products", "lake/supply"}
    for name, table in tables.FEATURES.items():
        frame = dataset.scan(feature(collection, name)).collect()
        assert frame.columns == table.column_names
        assert frame.height > 0, name
        assert not frame.select(table.key).is_duplicated().any()
    people = dataset.scan(feature(collection, "customers")).collect()
    assert set(people["cutoff"]) == {SHOP.as_of, SHOP.as_of - timedelta(days=28)}
    assert people.filter(cutoff=SHOP.as_of).height == 2 * 3


def test_a_second_run_finds_everything_finished(day_run: Run) -> None:
    publish(day_run, SHOP.order_lines)
    first = run_locally(flow, day_run)
    made = dataset.manifest(feature(first, "demand")).provenance
    again = run_locally(flow, replace(day_run, run_id="again"))
    assert again == first
    assert dataset.manifest(feature(again, "demand")).provenance == made


def test_later_lines_make_another_version_of_the_same_bytes(day_run: Run) -> None:
    publish(day_run, SHOP.order_lines)
    before = run_locally(flow, day_run)
    tomorrow = [builders.line("b0-c00", "b1-p00", SHOP.as_of + timedelta(days=1), 9)]
    publish(day_run, pl.concat([SHOP.order_lines, builders.order_lines(tomorrow)]))
    after = run_locally(flow, day_run)
    assert after != before
    for name in tables.FEATURES:
        files = [dataset.manifest(feature(ref, name)).files for ref in (before, after)]
        assert [(f.path, f.sha256) for f in files[0]] == [(f.path, f.sha256) for f in files[1]]


def test_new_promotions_rebuild_only_what_reads_them(day_run: Run) -> None:
    publish(day_run, SHOP.order_lines)
    before = dataset.manifest(run_locally(flow, day_run)).inputs
    publish(day_run, SHOP.order_lines, plan=None)
    after = dataset.manifest(run_locally(flow, day_run)).inputs
    rebuilt = {
        name for name in tables.FEATURES if before[f"features/{name}"] != after[f"features/{name}"]
    }
    assert rebuilt == {"demand", "promotion_calendar"}


def test_a_shop_without_promotions_has_an_empty_calendar(day_run: Run) -> None:
    publish(day_run, SHOP.order_lines, plan=None)
    collection = run_locally(flow, day_run)
    assert not dataset.has_rows(feature(collection, "promotion_calendar"))
    weekly = dataset.scan(feature(collection, "demand")).collect()
    assert (
        weekly.select(pl.col("display", "mailer", "price_cut", "coupon").sum()).row(0) == (0,) * 4
    )


def test_without_validated_tables_the_error_names_the_flow_to_run(day_run: Run) -> None:
    with pytest.raises(DataContractError, match="Run ingestion for this day first"):
        run_locally(flow, day_run)
