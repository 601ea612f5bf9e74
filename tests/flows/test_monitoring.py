"""Monitoring through the flow: a small shop at two days, whose findings can be derived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.features import tasks as features
from ecom_tasks.metrics import drift as metrics
from ecom_tasks.monitoring import drift, findings, tasks
from ecom_tasks.run import Ref, Run, run_locally
from tests import builders

WEEKS, SINCE = 20, 4
SHOP = builders.block_shop(blocks=2, customers=10, goods=6, weeks=WEEKS)
TODAY, THEN = SHOP.as_of, SHOP.as_of - timedelta(weeks=SINCE)
PRODUCTS = SHOP.products["product_id"]
FROM = "features/customers", "features/products", "features/customer_products", "features/demand"


def day_of(root: str, day: date, shop: dict[str, pl.DataFrame], **settings: object) -> Run:
    """Publish what the shop knew at the close of a day, and its features."""
    run = Run(f"of {day}", day, root, overrides={
        "features": {"snapshots": 1}, "monitoring": settings,
    })  # fmt: skip
    lines = shop["order_lines"].filter(pl.col("ordered_at") < day + timedelta(days=1))
    builders.publish_lake(run, shop | {"order_lines": lines})
    run_locally(features.flow, run)
    return run


def release(run: Run, domain: str, build: Callable[[Draft], None], **config: int) -> Ref:
    """Put a release into service whose promises are known."""
    bound = dataset.find(run, "features/all")
    inputs = [dataset.input_named(bound, name) for name in FROM]

    def made(draft: Draft) -> None:
        build(draft)

    made.__module__ = f"ecom_tasks.{domain}.tasks"
    settings: Any = _Settings(**config)
    ref = dataset.produce(run, f"artefacts/{domain}", made, inputs=inputs, config=settings)
    return dataset.release(run, ref)


class _Settings(dataset.BaseModel):  # type: ignore[name-defined]
    min_customers: int = 1
    confidence: float = 0.95
    made: int = 0


def sold_since() -> pl.DataFrame:
    """Return product_id, week_starts_on, units of the weeks since `THEN`, 0 where nothing sold."""
    monday = pl.col("ordered_at").dt.date().dt.truncate("1w").alias("week_starts_on")
    weeks = [THEN + timedelta(days=1, weeks=week) for week in range(SINCE)]
    every = pl.DataFrame({"product_id": PRODUCTS}).join(
        pl.DataFrame({"week_starts_on": weeks}), how="cross"
    )
    units = SHOP.order_lines.group_by("product_id", monday).agg(pl.col("quantity").sum())
    return every.join(units, on=["product_id", "week_starts_on"], how="left").select(
        "product_id", "week_starts_on", pl.col("quantity").fill_null(0.0).alias("units")
    )


def forecasts(times: float) -> Callable[[Draft], None]:
    """Forecast `times` what will be sold; the intervals hold it where it is above 0."""

    def build(draft: Draft) -> None:
        units = pl.col("units")
        draft.write_frame("forecasts.parquet", sold_since().select(
            "product_id", pl.lit("all").alias("location_id"), "week_starts_on",
            (units * times).alias("mean"),
            (units - (units == 0) - 1).alias("q10"), (units + (units > 0) * 1.0 - 0.5).alias("q90"),
        ))  # fmt: skip
        draft.metrics.update(model={"wape": 0.2, "bias": 0.05}, coverage={"0.8": 0.8}, baselines={})

    return build


def lists(hit_rate: float) -> Callable[[Draft], None]:
    """Show half of the customers what they will buy first, the others what nobody will."""

    def build(draft: Draft) -> None:
        bought = (
            SHOP.order_lines
            .filter(pl.col("ordered_at").dt.date() > THEN)
            .group_by("customer_id")
            .agg(pl.col("product_id").sort().first())
            .filter(pl.col("customer_id").str.starts_with("b0"))
        )
        people = SHOP.order_lines.select("customer_id").unique().sort("customer_id")
        shown = people.join(bought, on="customer_id", how="left").select(
            "customer_id", pl.col("product_id").fill_null("never"),
            pl.lit(1, pl.Int64).alias("rank"), pl.lit(1.0).alias("score"),
            pl.lit("repeat").alias("generator"),
        )  # fmt: skip
        draft.write_frame("recommendations/bucket=000.parquet", shown)
        window = f"{THEN - timedelta(days=28)} to {THEN}"
        ranker = {"hit_rate_at_10": hit_rate, "ndcg_at_10": 0.1}
        draft.metrics["windows"] = {
            window: {"all": {"customers": 1000, "contenders": {"ranker": ranker}}}
        }

    return build


def prices(draft: Draft) -> None:
    """Propose what `builders.block_shop` charges for the first half, another price for the rest."""
    paid = (
        SHOP.order_lines.group_by("product_id").agg(pl.col("unit_price").first()).sort("product_id")
    )
    weekly = sold_since().group_by("product_id").agg(pl.col("units").mean().alias("weekly_units"))
    half = pl.col("product_id").str.starts_with("b0")
    known = paid.join(weekly, on="product_id").sort("product_id")
    draft.write_frame("prices.parquet", known.select(
        "product_id",
        (pl.col("unit_price") * pl.when(half).then(1.2).otherwise(1.0)).alias("current_price"),
        (pl.col("unit_price") * pl.when(half).then(1.0).otherwise(1.3)).alias("proposed_price"),
        pl.when(half).then(-0.17).otherwise(0.3).alias("change"), "weekly_units",
        *(pl.lit(value).alias(f"units_change{end}")
          for end, value in (("", 0.0), ("_lower", -0.1), ("_upper", 0.1))),
    ))  # fmt: skip


def table(ref: Ref, name: str) -> pl.DataFrame:
    return dataset.scan(ref, f"{name}.parquet").collect()


def shop() -> dict[str, pl.DataFrame]:
    return {"order_lines": SHOP.order_lines, "products": SHOP.products}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Ref]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ECOM_DASK", "threads")
        root = tmp_path_factory.mktemp("monitoring").as_uri()
        then = day_of(root, THEN, shop())
        release(then, "inventory", forecasts(1.5))
        release(then, "recommendation", lists(0.9))
        release(then, "pricing", prices)
        today = day_of(root, TODAY, shop())
        # Of today: it has had no time to come true.
        release(today, "inventory", forecasts(9.0))
        return today, run_locally(tasks.flow, today)


def finding(ref: Ref, what: str) -> dict[str, Any]:
    found = table(ref, "findings").filter(pl.col("what").str.starts_with(what))
    assert found.height == 1, found
    return found.to_dicts()[0]


def test_forecasts_off_by_a_half_have_that_wape_and_bias(watched: tuple[Run, Ref]) -> None:
    _, ref = watched
    every = table(ref, "realised_forecasts").filter(part="all").to_dicts()[0]
    sold = sold_since()
    assert every["forecasts"] == 12 * SINCE == sold.height
    assert every["units"] == sold["units"].sum()
    assert every["wape"] == every["bias"] == 0.5
    # Weeks without a sale lie above their interval, all others within.
    assert every["coverage"] == pytest.approx((sold["units"] > 0).mean(), abs=1e-6)
    weeks = table(ref, "realised_forecasts").filter(part="week")
    assert weeks["of"].to_list() == sorted(str(day) for day in sold["week_starts_on"].unique())
    departments = table(ref, "realised_forecasts").filter(part="department")
    assert departments["of"].to_list() == ["block 0", "block 1"]
    wape, bias = finding(ref, "WAPE"), finding(ref, "bias")
    assert (wape["verdict"], wape["value"], wape["limit"]) == ("alert", 0.5, 0.3)  # 0.2 * 1.5
    assert (bias["verdict"], bias["retrain"]) == ("alert", True)
    assert "2.50 times the 0.200 of the backtest" in wape["said"]
    assert wape["release"].startswith(str(THEN))


def test_lists_that_hit_by_construction_hit_half(watched: tuple[Run, Ref]) -> None:
    _, ref = watched
    hit = finding(ref, "hit rate")
    assert hit["value"] == 0.5
    assert hit["verdict"] == "alert"
    assert "Of 20 customers" in hit["said"]
    assert f"{THEN} to {TODAY}" in hit["where"]
    shown = table(ref, "realised_recommendations")
    assert shown.select("part", "of", "shown", "bought").rows() == [
        ("place", "01", 20, 10), ("generator", "repeat", 20, 10),
    ]  # fmt: skip


def test_prices_that_were_set_are_told_from_those_that_were_not(watched: tuple[Run, Ref]) -> None:
    _, ref = watched
    made = dataset.manifest(ref).metrics["realised"]["pricing"]
    # Block 0 pays what was proposed; block 1 what it always did, though something else was.
    assert (made["proposed"], made["followed"], made["not_followed"]) == (12, 6, 6)
    assert (made["kept"], made["level"], made["weeks"]) == (6, 1.0, SINCE)
    assert made["units"] == pytest.approx(made["expected"])
    assert made["outside"] == 0.0
    assert set(table(ref, "realised_prices")["product_id"]) == {f"b0-p{n:02d}" for n in range(6)}
    # Six say little.
    assert finding(ref, "share of products with units")["verdict"] == "shown"


def test_the_page_and_the_alerts_say_it(watched: tuple[Run, Ref], tmp_path: Path) -> None:
    _, ref = watched
    made = dataset.manifest(ref)
    assert {entry.path for entry in made.files} == {
        *(f"{name}.parquet" for name in tasks.TABLES), "report.html", "metrics.json",
    }  # fmt: skip
    html = (dataset.fetch(ref, tmp_path, "*.html") / "report.html").read_text()
    told = [each["text"] for each in made.metrics["alerts"]]
    assert any(each.startswith("inventory: WAPE of 48 forecasts") for each in told)
    assert {each["domain"] for each in made.metrics["alerts"] if each["retrain"]} >= {
        "inventory", "recommendation",
    }  # fmt: skip
    assert f"{len(told)} alerts" in html
    assert html.count("<svg") == 4
    assert table(ref, "findings")["verdict"][0] == "alert"


def test_the_same_day_is_measured_once_and_other_thresholds_measure_nothing(
    watched: tuple[Run, Ref],
) -> None:
    day, ref = watched
    assert run_locally(tasks.flow, replace(day, run_id="again")) == ref
    lax = {"wape_warning": 5.0, "wape_alert": 5.0}
    other = run_locally(
        tasks.flow, replace(day, overrides=dict(day.overrides) | {"monitoring": lax})
    )
    before, after = (dataset.manifest(each) for each in (ref, other))
    assert before.inputs == after.inputs
    assert before.version != after.version
    assert finding(other, "WAPE")["verdict"] == "fine"


def test_a_shop_without_an_old_release_has_nothing_to_judge(root: str) -> None:
    today = day_of(root, TODAY, shop())
    release(today, "inventory", forecasts(1.0))
    ref = run_locally(tasks.flow, today)
    assert set(table(ref, "findings")["verdict"]) == {"nothing to judge yet"}
    assert dataset.manifest(ref).metrics["alerts"] == []
    assert table(ref, "drift").is_empty()
    # An earlier day of today's own features needs no release.
    own = replace(today, overrides=dict(today.overrides) | {"monitoring": {"reference_days": 28}})
    drifted = table(run_locally(tasks.flow, own), "drift")
    assert drifted.select("domain", "table", "release").unique().sort("domain").rows() == [
        ("inventory", "demand", ""), ("pricing", "demand", ""),
    ]  # fmt: skip


def test_a_planted_shift_is_found_in_its_column_only(root: str) -> None:
    """From `THEN` on every price is five times what it was; who buys what and when stays."""
    dear = pl.when(pl.col("ordered_at").dt.date() > THEN).then(5.0).otherwise(1.0)
    lines = SHOP.order_lines.with_columns(pl.col("unit_price") * dear)
    moved = {"order_lines": lines, "products": SHOP.products}
    then = day_of(root, THEN, moved)
    release(then, "pricing", prices)
    ref = run_locally(tasks.flow, day_of(root, TODAY, moved))
    found = table(ref, "drift").filter(domain="pricing", table="demand")
    shifted = found.filter(pl.col("psi") > 0.25)["column"].to_list()
    # The shelf price stays, so that the depth is 0 as it was, not below.
    assert shifted == ["median_price", "sales", "unit_price"]
    assert set(found["column"]) >= {"units", "orders", "regular_price", "discount_depth", "mailer"}
    alerts = table(ref, "findings").filter(verdict="alert", what="population stability index")
    assert set(alerts["where"]) == {f"demand.{name} in today's features" for name in shifted}
    assert alerts["retrain"].all()
    # Counted over buckets, the same as over whole tables, to the last bit.
    days = [Run("", day, root) for day in (THEN, TODAY)]
    whole = [
        dataset.scan(dataset.input_named(dataset.find(run, "features/all"), "features/demand"))
        .filter(pl.col("week_starts_on") > run.as_of - timedelta(weeks=4))
        .collect()
        for run in days
    ]  # fmt: skip
    edges = drift.edges([drift.sample(whole[0].lazy(), 1)], 10)
    counted = [drift.count(frame.lazy(), edges) for frame in whole]
    assert drift.compare(*counted, 0.99).equals(found.select(list(drift.SCHEMA)))
    before, now = (each.bins["unit_price"] for each in counted)
    used = before + now > 0
    # An empty bin counts as half a row.
    index = metrics.population_stability_index(
        *(np.maximum(bins[used], 0.5) for bins in (before, now))
    )
    assert found.filter(column="unit_price")["psi"][0] == pytest.approx(index, abs=1e-6)
    assert findings.in_words(alerts.to_dicts()[0]).startswith("pricing: population stability index")


def test_today_can_be_held_against_an_earlier_day_of_its_own(watched: tuple[Run, Ref]) -> None:
    day, _ = watched
    own = replace(day, overrides=dict(day.overrides) | {"monitoring": {"reference_days": 14}})
    ref = run_locally(tasks.flow, own)
    demand = dataset.input_named(dataset.find(day, "features/all"), "features/demand")
    until = TODAY - timedelta(days=14)
    weeks = pl.col("week_starts_on").is_between(until - timedelta(days=27), until)
    rows = dataset.scan(demand).filter(weeks).collect().height
    found = table(ref, "drift").filter(table="demand")
    assert set(found["rows_before"]) == {rows}
    # No customers of that day were published with today's features.
    assert set(table(ref, "drift")["table"]) == {"demand"}
    assert {"pricing", "inventory"} == set(found["domain"])
