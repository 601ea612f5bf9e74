"""The pricing flow on a small shop whose elasticities are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ecom_tasks import tables as contract
from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.errors import DataContractError, ModelRejectedError
from ecom_tasks.features.tasks import flow as features_flow
from ecom_tasks.pricing import cross, evaluate, optimise, rules, tasks
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.steps import reading
from ecom_tasks.run import Ref, Run, run_locally
from tests import builders
from tests.unit.pricing import simulated

WEEKS = 60
AS_OF = simulated.START + timedelta(days=7 * WEEKS - 1)
RELEASE = {
    "elasticities.parquet", "category_elasticities.parquet", "prices.parquet", "prices.csv",
    "metrics.json", "report.html", "cross_elasticities.parquet", "price_tests.parquet",
    "promotions.parquet", "upload.csv", "discounts_by_segment.parquet", "evidence.parquet",
    "off_policy.parquet",
}  # fmt: skip


def shop(*, constant: bool = False, cost: float | None = None) -> dict[str, pl.DataFrame]:
    """Tables of the contract: the simulated panel as order lines of two stores."""
    panel, _ = simulated.panel(11, products=16, weeks=WEEKS, units=20.0)
    if constant:
        panel = panel.with_columns(price=pl.lit(2.5))
    lines = []
    for row in panel.iter_rows(named=True):
        first = (row["units"] + 1) // 2
        for store, units in (("north", first), ("south", row["units"] - first)):
            if units:
                lines.append(
                    builders.line(
                        f"someone in {store}", row["product_id"], row["week_starts_on"], units,
                        round(row["price"], 2), order_id=f"{store} {row['week_starts_on']}",
                        ordered_at=datetime.combine(row["week_starts_on"], time(12)),
                        location_id=store,
                    )
                )  # fmt: skip
    names = sorted(panel["product_id"].unique())
    category = dict(panel.select("product_id", "category").unique().rows())
    mailed = panel.filter(pl.col("mailer") > 0)
    plans = [
        builders.promotion(
            row["product_id"], row["week_starts_on"], row["week_starts_on"] + timedelta(days=6),
            mechanic="mailer",
        )
        for row in mailed.iter_rows(named=True)
    ]  # fmt: skip
    return {
        "order_lines": builders.order_lines(lines),
        "products": builders.products(
            names,
            title=names,
            category=[f"{category[name]}/shelf" for name in names],
            unit_cost=[cost] * len(names),
        ),
        "promotions": builders.promotions(plans),
    }


def publish(run: Run, tables: Mapping[str, pl.DataFrame]) -> Run:
    day = replace(run, as_of=AS_OF)
    builders.publish_lake(day, tables)
    run_locally(features_flow, replace(day, overrides={"features": {"snapshots": 1}}))
    return day


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    return shop()


@pytest.fixture(scope="module")
def published(
    tables: dict[str, pl.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Ref]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOM_DASK", "threads")
        root = (tmp_path_factory.mktemp("pricing") / "store").as_uri()
        run = publish(Run("test", AS_OF, root), tables)
        return run, run_locally(tasks.flow, run)


def frame(ref: Ref, path: str) -> pl.DataFrame:
    return dataset.scan(ref, path).collect()


def test_the_release_is_whole_and_in_service(published: tuple[Run, Ref]) -> None:
    run, ref = published
    manifest = dataset.manifest(ref)
    assert {entry.path for entry in manifest.files} == RELEASE
    assert dataset.find(run, "artefacts/pricing") == ref
    assert manifest.headline is not None
    assert manifest.headline.beats_baseline
    assert manifest.headline.baseline_name == "no price response"
    # Without a cost in the catalogue the manifest says what was assumed.
    assert any("16 of 16 products is assumed to be 70%" in each for each in manifest.assumptions)


def test_elasticities_are_near_the_truth(published: tuple[Run, Ref]) -> None:
    _, ref = published
    found = frame(ref, "elasticities.parquet")
    assert found.height == 16
    assert set(found["category"]) == {"food/c0", "food/c1"}
    # The truth is -1.5 for all.
    assert found.filter(pl.col("lower").le(-1.5) & pl.col("upper").ge(-1.5)).height >= 14
    assert found["weight_borrowed"].is_between(0, 1).all()
    assert set(frame(ref, "category_elasticities.parquet")["grade"]) <= {"strong", "weak"}


def test_prices_are_consistent_and_keep_the_rules(published: tuple[Run, Ref]) -> None:
    _, ref = published
    prices = frame(ref, "prices.parquet")
    assert prices.height == 16
    assert rules.violations(prices, PricingConfig()).is_empty()
    changed = prices.filter(pl.col("change") != 0)
    assert changed.height > 0
    assert (changed["profit_change"] > 0).all()
    ratio = prices["proposed_price"] / prices["current_price"] - 1
    assert (ratio - prices["change"]).abs().max() < 1e-4  # type: ignore[operator]
    assert prices["assumed"].all()
    text = dataset.open_store(ref.rsplit("/", 1)[0]).read("prices.csv").data.decode()
    assert text.count("\n") == 16 + 1
    assert text.startswith("product_id,category,current_price,proposed_price,change,reason,")


def test_the_report_tells_what_the_metrics_say(published: tuple[Run, Ref]) -> None:
    _, ref = published
    metrics = dataset.read_json(ref, "metrics.json")
    page = dataset.open_store(ref.rsplit("/", 1)[0]).read("report.html").data.decode()
    assert f"{metrics['proposals']['products']} prices are proposed" in page
    prices = frame(ref, "prices.parquet")
    strong = prices.filter((pl.col("grade") == "strong") & (pl.col("change") != 0)).height > 0
    assert page.count("<svg") == 3 + strong
    assert "What cannot be told" in page
    assert "someone" not in page
    assert metrics["categories"]["enough"] == 2


def test_no_table_of_the_release_has_a_customer(published: tuple[Run, Ref]) -> None:
    _, ref = published
    for entry in dataset.manifest(ref).files:
        assert not any("customer" in column for column in entry.columns or {})


def test_a_second_run_finds_everything_made(
    published: tuple[Run, Ref], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, ref = published

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("ecom_tasks.pricing.parts.study", refuse)
    monkeypatch.setattr("ecom_tasks.pricing.evaluate.foretell", refuse)
    assert run_locally(tasks.flow, run) == ref


def test_the_same_rows_give_the_same_bytes_in_another_store(
    published: tuple[Run, Ref], tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    _, ref = published
    other = publish(Run("again", AS_OF, (tmp_path / "other").as_uri()), tables)
    made = dataset.manifest(run_locally(tasks.flow, other))
    first = dataset.manifest(ref)
    assert made.version == first.version
    assert {e.path: e.sha256 for e in made.files} == {e.path: e.sha256 for e in first.files}


def test_the_next_weeks_change_nothing(
    published: tuple[Run, Ref], tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    _, ref = published
    later = tables["order_lines"].with_columns(
        pl.col("ordered_at") + pl.duration(weeks=WEEKS),
        pl.col("order_id") + " later",
        pl.col("unit_price") * 3,
    )
    future = tables | {"order_lines": pl.concat([tables["order_lines"], later])}
    other = publish(Run("test", AS_OF, (tmp_path / "other").as_uri()), future)
    made = dataset.manifest(run_locally(tasks.flow, other))
    assert {e.path: e.sha256 for e in made.files} == {
        e.path: e.sha256 for e in dataset.manifest(ref).files
    }


def proposed(day: Run) -> Ref:
    """Run the flow as far as the prices."""
    features = tasks.pin_features(day)
    panel = tasks.build_panel(day, features)
    together = tasks.find_bought_together(day, features)
    elasticities = tasks.estimate_elasticities(day, panel, together)
    return tasks.propose_prices(
        day, panel, elasticities, tasks.pin_guardrails(day), features, tasks.pin_forecasts(day)
    )


def test_stock_and_an_earlier_forecast_are_what_prices_are_made_with(run: Run) -> None:
    tables = shop(cost=1.25)
    names = tables["products"]["product_id"].to_list()
    # Of the first there is next to nothing until more comes in two weeks, of the others plenty.
    stock = [
        {"product_id": name, "location_id": place, "snapshot_on": AS_OF,
         "on_hand": 1.0 if name == names[0] else 5000.0, "on_order": 0.0}
        for name in names for place in ("north", "south")
    ]  # fmt: skip
    supply = [{"product_id": name, "location_id": "north", "lead_time_days": 14.0}
              for name in names]  # fmt: skip
    day = publish(run, tables | {
        "stock": builders.table(contract.STOCK, stock),
        "supply": builders.table(contract.SUPPLY, supply),
    })  # fmt: skip
    rows = frame(proposed(day), "prices.parquet")
    plain = rows.filter(pl.col("product_id") == names[0]).row(0, named=True)
    assert plain["weekly_units_available"] == 1.0
    # Nothing is lost by what cannot be had anyway: as dear as the rules allow.
    assert plain["change"] == pytest.approx(PricingConfig().largest_step, abs=0.02)
    assert plain["units_change"] == 0.0
    assert "more is wanted than the 1 a week" in plain["reason"]
    assert set(rows["units_from"]) == {"recent weeks"}

    # What inventory foretold the week before; a release of the day itself is not waited for.
    foretold = pl.DataFrame([
        {"product_id": name, "location_id": "all",
         "week_starts_on": AS_OF + timedelta(days=1 + 7 * week), "mean": 40.0 + week}
        for name in names[1:] for week in range(2)
    ])  # fmt: skip
    for before in (7, 0):
        earlier = replace(day, as_of=AS_OF - timedelta(days=before))
        factor = 1.0 if before else 9.0

        def foretell(draft: Draft, factor: float = factor) -> None:
            draft.write_frame("forecasts.parquet", foretold.with_columns(pl.col("mean") * factor))

        dataset.release(earlier, dataset.produce(earlier, "artefacts/inventory", foretell))
    rows = frame(proposed(day), "prices.parquet").sort("product_id")
    known = rows.filter(pl.col("product_id") != names[0])
    assert set(known["units_from"]) == {f"forecast {AS_OF - timedelta(days=7)}"}
    assert known["weekly_units"].to_list() == [pytest.approx(40.5)] * 15
    assert rows["units_from"][0] == "recent weeks"


def test_a_known_cost_is_used_and_not_marked(run: Run) -> None:
    day = publish(run, shop(cost=1.25))
    prices = frame(proposed(day), "prices.parquet")
    assert prices["unit_cost"].to_list() == [1.25] * 16
    assert not prices["assumed"].any()


def test_a_shop_with_constant_prices_is_refused(run: Run) -> None:
    day = publish(run, shop(constant=True))
    with pytest.raises(DataContractError) as error:
        run_locally(tasks.flow, day)
    assert "Prices moved too little" in error.value.reason
    assert "16 products: price moved in fewer than 6 weeks" in error.value.reason
    assert "price test" in error.value.hint
    assert len(error.value.examples) == 5
    with pytest.raises(DataContractError, match=r"No artefacts/pricing"):
        dataset.find(day, "artefacts/pricing")


def test_too_short_a_history_is_refused(published: tuple[Run, Ref]) -> None:
    run, _ = published
    short = replace(run, overrides={"pricing": {"min_weeks": 53}})
    panel = tasks.build_panel(short, tasks.pin_features(short))
    with pytest.raises(DataContractError, match="Only 52 weeks before the first held-out window"):
        tasks.evaluate_elasticities(short, panel)


def test_a_price_that_breaks_a_rule_stops_the_release(
    published: tuple[Run, Ref], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, ref = published
    honest = optimise.propose

    def reckless(
        product: optimise.Product, config: PricingConfig, chosen: float | None = None
    ) -> dict[str, object]:
        return honest(product, config, chosen) | {"proposed_price": product.current * 2}

    monkeypatch.setattr(optimise, "propose", reckless)
    stepped = replace(run, overrides={"pricing": {"largest_step": 0.09}})
    with pytest.raises(ModelRejectedError, match="16 proposed prices break a rule"):
        run_locally(tasks.flow, stepped)
    assert dataset.find(run, "artefacts/pricing") == ref


def test_the_gate_stands_before_the_release(
    published: tuple[Run, Ref], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, ref = published
    honest = evaluate.score

    def worse(predicted: pl.DataFrame) -> dict[str, Any]:
        scores = honest(predicted)
        scores["moved_prices"][evaluate.ELASTICITIES] *= 2
        return scores

    monkeypatch.setattr(evaluate, "score", worse)
    other = replace(run, overrides={"pricing": {"trees": 20}})
    with pytest.raises(ModelRejectedError, match="do not foretell held-out weeks"):
        run_locally(tasks.flow, other)
    assert dataset.find(run, "artefacts/pricing") == ref


def test_a_shop_in_two_parts_goes_the_same_way(
    published: tuple[Run, Ref], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, ref = published
    monkeypatch.setenv("ECOM_DASK", "threads")
    apart = replace(run, overrides={"pricing": {"part_rows": 500}})
    panel = tasks.build_panel(apart, tasks.pin_features(apart))
    dealt, _, _ = reading.dealt(panel, PricingConfig.of(apart))
    assert [len(products) for products in dealt] == [8, 8]
    together = tasks.find_bought_together(apart, tasks.pin_features(apart))
    learnt = tasks.estimate_elasticities(apart, panel, together)
    found, whole = frame(learnt, "products.parquet"), frame(ref, "elasticities.parquet")
    assert found["product_id"].to_list() == whole["product_id"].to_list()
    # Parts of 500 rows are too small for their trees to find the season; nothing else differs.
    off = (found["own_estimate"] - whole["own_estimate"]).abs() / whole["own_error"]
    assert off.median() < 1.0  # type: ignore[operator]
    assert found["own_estimate"].null_count() == 0
    scores = dataset.read_json(tasks.evaluate_elasticities(apart, panel), "scores.json")
    known = dataset.read_json(ref, "metrics.json")["held_out"]
    for name in ("moved_prices", "all_prices"):
        assert scores[name]["rows"] == known[name]["rows"]
        assert scores[name][evaluate.ELASTICITIES] < scores[name][evaluate.NO_RESPONSE]


def test_a_held_out_week_does_not_foretell_itself(published: tuple[Run, Ref]) -> None:
    run, _ = published
    built = tasks.build_panel(run, tasks.pin_features(run))
    [products], first_week, _ = reading.dealt(built, PricingConfig())
    panel = reading.weeks(built, first_week, products)
    last = pl.col("week_starts_on") == AS_OF - timedelta(days=6)
    busier = panel.with_columns(
        pl
        .when(last & (pl.col("product_id") == "p003"))
        .then(500.0)
        .otherwise("units")
        .alias("units")
    )
    config = PricingConfig(test_windows=1, trees=20)
    chosen = last & (pl.col("product_id") == "p003")
    start = AS_OF - timedelta(days=6) - timedelta(weeks=config.test_weeks - 1)

    def told(rows: pl.DataFrame) -> tuple[float, ...]:
        part = evaluate.foretell(rows, start, config)
        fitted, slope = evaluate.pooled([part], config)
        assert part.rows is not None
        predicted = evaluate.predict(part.rows, fitted, slope, start)
        return predicted.filter(chosen).select(evaluate.CONTENDERS).row(0)

    assert told(panel) == told(busier)


@pytest.mark.parametrize("baseline", evaluate.BASELINES)
def test_a_model_no_better_than_a_baseline_is_refused(baseline: str) -> None:
    figures = dict.fromkeys(evaluate.CONTENDERS, 2.0) | {evaluate.ELASTICITIES: 1.5, "rows": 10}
    evaluate.gate({"moved_prices": figures})
    with pytest.raises(ModelRejectedError, match=baseline):
        evaluate.gate({"moved_prices": figures | {baseline: 1.5}})


def test_elasticities_beat_the_baselines_where_prices_matter(published: tuple[Run, Ref]) -> None:
    _, ref = published
    scores = dataset.read_json(ref, "metrics.json")["held_out"]
    for part in ("moved_prices", "all_prices"):
        figures = scores[part]
        assert figures["elasticities"] < min(figures["no price response"], figures["plain log-log"])
    assert set(scores["moved_prices_by_window"]) == {
        str(AS_OF + timedelta(days=1) - timedelta(weeks=8)),
        str(AS_OF + timedelta(days=1) - timedelta(weeks=4)),
    }


def test_a_series_can_be_a_product_at_a_store(published: tuple[Run, Ref]) -> None:
    run, _ = published
    local = replace(run, overrides={"pricing": {"panel_level": "product_location"}})
    features = tasks.pin_features(local)
    panel, together = (
        tasks.build_panel(local, features),
        tasks.find_bought_together(local, features),
    )
    rows = dataset.scan(panel, "panel/*.parquet").collect()
    assert set(rows["location_id"]) == {"north", "south"}
    found = frame(tasks.estimate_elasticities(local, panel, together), "products.parquet")
    assert found.height == 16
    assert found["estimate"].mean() == pytest.approx(-1.5, abs=0.5)


def test_proposals_are_judged_by_what_is_logged(published: tuple[Run, Ref]) -> None:
    _, ref = published
    found = frame(ref, "off_policy.parquet")
    changed = frame(ref, "prices.parquet").filter(pl.col("change") != 0)
    assert set(found["method"]) == {"IPS", "SNIPS", "direct", "doubly robust"}
    by_product = found.filter(pl.col("scope") == "product")
    assert set(by_product["name"]) == set(changed["product_id"])
    whole = found.filter((pl.col("scope") == "all") & (pl.col("method") == "doubly robust"))
    [row] = whole.to_dicts()
    told = dataset.manifest(ref).metrics["off_policy"]
    assert told["methods"]["doubly robust"]["change"] == pytest.approx(row["change"])
    assert told["products"] == changed.height
    # Few weeks of one place are near the proposed prices: that is said, and not a figure.
    assert row["effective_decisions"] < PricingConfig().log_least_decisions
    assert row["verdict"] == "cannot tell"
    page = dataset.open_store(ref.rsplit("/", 1)[0]).read("report.html").data.decode()
    assert "cannot be told from the logs: too little overlap" in page


def test_odds_of_drawn_prices_are_what_decisions_are_weighed_with(
    published: tuple[Run, Ref], tmp_path: Path
) -> None:
    run, ref = published
    elasticities, prices = (
        dataset.input_named(ref, f"work/pricing/{name}") for name in ("elasticities", "prices")
    )
    panel = frame(dataset.input_named(elasticities, "work/pricing/panel"), "panel/*.parquet")
    # Told to be drawn: as likely today's price or the proposed one.
    changed = frame(prices, "prices.parquet").filter(pl.col("change") != 0)
    odds = pl.concat([
        panel.join(changed, on="product_id").select(
            "product_id", "location_id", "week_starts_on", pl.col(name).alias("price"),
            pl.lit(0.5).alias("propensity"),
        )
        for name in ("current_price", "proposed_price")
    ])  # fmt: skip
    path = tmp_path / "odds.parquet"
    odds.write_parquet(path)
    drawn = replace(run, overrides={"pricing": {"price_log": str(path)}})
    found = frame(
        tasks.judge_by_logs(drawn, elasticities, prices, tasks.pin_price_log(drawn)),
        "off_policy.parquet",
    ).filter((pl.col("scope") == "all") & (pl.col("method") == "doubly robust"))
    # All logged weeks without a promotion, each as likely: none is left out, and none weighs more.
    assert found["compared_share"].item() == 1.0
    before = frame(ref, "off_policy.parquet").filter(pl.col("scope") == "all")
    assert before["compared_share"].max() < 1.0  # type: ignore[operator]

    odds.with_columns(pl.col("propensity") * 0.9).write_parquet(path)
    with pytest.raises(DataContractError, match="odds do not add up to 1") as error:
        tasks.pin_price_log(drawn)
    assert 0 < len(error.value.examples) <= 5


def test_what_is_bought_together_reaches_the_cross_effects(
    run: Run, tables: dict[str, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two products of one category that share small orders, beside the large ones of the shop.
    pair = sorted(tables["products"].filter(pl.col("category") == "food/c0/shelf")["product_id"])[
        :2
    ]
    more = builders.order_lines([
        builders.line(
            "someone else", name, AS_OF, 1, 2.5, order_id=f"small {number}",
            ordered_at=datetime.combine(AS_OF, time(12)), location_id="north",
        )
        for number in range(400) for name in (pair if number < 100 else [f"other {number % 3}"])
    ])  # fmt: skip
    others = builders.products(
        [f"other {number}" for number in range(3)], category=["food/c0/shelf"] * 3
    )
    day = publish(run, tables | {
        "order_lines": pl.concat([tables["order_lines"], more]),
        "products": pl.concat([tables["products"], others], how="diagonal"),
    })  # fmt: skip
    features = tasks.pin_features(day)
    together = tasks.find_bought_together(day, features)
    found = frame(together, "bought_together.parquet")
    assert found.filter(pl.col("product_id") == pair[0]).sort("score")["other_id"][-1] == pair[1]
    told = []
    honest = cross.measure

    def listening(rows: Any, config: Any, pairs: Any, *others: Any) -> pl.DataFrame:
        told.append(pairs)
        return honest(rows, config, pairs, *others)

    monkeypatch.setattr(cross, "measure", listening)
    tasks.estimate_elasticities(day, tasks.build_panel(day, features), together)
    assert told[0].equals(found)
