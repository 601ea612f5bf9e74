"""The features flow, from published tables to the collection that the models read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

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


def parts(collection: Ref, name: str) -> pl.DataFrame:
    table = tables.FEATURES[name]
    return dataset.scan(feature(collection, name)).collect().sort(table.key)


def test_twice_as_many_buckets_give_the_same_rows(day_run: Run, tmp_path: Path) -> None:
    shop = {"order_lines": SHOP.order_lines, "products": SHOP.products, "promotions": PLAN}
    made = []
    for buckets in (2, 4):
        run = replace(day_run, root=(tmp_path / str(buckets)).as_uri())
        builders.publish_lake(run, shop, buckets)
        made.append(run_locally(flow, run))
    for name in tables.FEATURES:
        assert parts(made[0], name).equals(parts(made[1], name)), name
    files = [len(dataset.paths(feature(each, "demand"))) for each in made]
    assert files == [2, 4]


@pytest.mark.parametrize("buckets", [1, 2, 8])
def test_tables_of_both_numbers_of_buckets_are_read_together(
    buckets: int, day_run: Run, tmp_path: Path
) -> None:
    """Order lines in 4 buckets beside promotions in fewer or more: every byte as with 4 of both."""
    plan = builders.promotions([
        builders.promotion(each, builders.day(0), builders.day(6))
        for each in SHOP.products["product_id"]
    ])
    shop = {"order_lines": SHOP.order_lines, "products": SHOP.products, "promotions": plan}
    builders.publish_lake(day_run, shop, 4)
    expected = run_locally(flow, day_run)
    mixed = replace(day_run, root=(tmp_path / "mixed").as_uri())
    lake = builders.publish_lake(mixed, shop, 4)
    other = builders.publish_lake(
        replace(mixed, as_of=SHOP.as_of + timedelta(days=1)), shop, buckets
    )
    inputs = dataset.manifest(lake).inputs | {
        "lake/promotions": dataset.manifest(other).inputs["lake/promotions"]
    }

    def bind(draft: dataset.Draft) -> None:
        draft.metrics["promotions"] = f"in {buckets} buckets"

    bind.__module__ = "ecom_tasks.ingestion.tasks"
    dataset.produce(mixed, "lake/all", bind, inputs=[Ref(each) for each in inputs.values()])
    found = run_locally(flow, mixed)
    for name in tables.FEATURES:
        files = [dataset.manifest(feature(ref, name)).files for ref in (expected, found)]
        assert [(f.path, f.sha256) for f in files[0]] == [(f.path, f.sha256) for f in files[1]]
    demand = parts(found, "demand")
    assert demand.filter(pl.col("display") > 0).height > 0
