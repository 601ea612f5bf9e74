"""A tiny shop's published artefacts, with figures that can be reckoned by hand, for the console."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import polars as pl

from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.run import Ref, Run
from tests.builders import bucket_of

CUSTOMER = "0" * 32
WEEK = date(2024, 4, 1)
NASTY = "<script>alert(1)</script>"
PRODUCTS = {"p1": "Milk", "p2": "Bread", "p3": NASTY}


def made(
    run: Run, name: str, frames: Mapping[str, pl.DataFrame], *,
    inputs: Sequence[Ref] = (), metrics: Mapping[str, Any] | None = None,
    more: Callable[[Draft], None] | None = None, config: Any = None,
) -> Ref:  # fmt: skip
    """Produce a version that holds these tables."""

    def build(draft: Draft) -> None:
        for path, frame in frames.items():
            draft.write_frame(path, frame)
        draft.metrics.update(metrics or {})
        if more:
            more(draft)

    area, _, domain = name.partition("/")
    build.__module__ = f"ecom_tasks.{domain if area == 'artefacts' else 'ingestion'}.tasks"
    return dataset.produce(run, name, build, inputs=inputs, config=config)


def lake(run: Run) -> dict[str, Ref]:
    """Publish products, order lines with a quarantine, and the day's validation."""
    products = made(run, "lake/products", {
        "rows.parquet": pl.DataFrame({
            "product_id": list(PRODUCTS), "title": list(PRODUCTS.values()),
            "category": ["Food/Dairy", "Food/Bakery", "Food/Odd"]})})  # fmt: skip
    lines = pl.DataFrame({
        "order_id": ["o1", "o1", "o2"], "line_number": [1, 2, 1],
        "customer_id": [CUSTOMER, CUSTOMER, "f" * 32], "product_id": ["p1", "p2", "p1"],
        "quantity": [2.0, 1.0, 5.0], "unit_price": [1.5, 3.0, 1.5],
        "ordered_at": [datetime.combine(run.as_of, time(12)) - timedelta(days=days)
                       for days in (3, 3, 40)]})  # fmt: skip
    counts = {"rows_read": 5, "rows_published": 3, "rows_quarantined": 2,
              "quarantined_by_reason": {"unknown product": 2}}  # fmt: skip
    orders = made(run, "lake/order_lines", {"by_customer/bucket=000.parquet": lines},
                  inputs=[products], metrics=counts)  # fmt: skip
    made(run, "quarantine/order_lines", {"quarantine-000.parquet": pl.DataFrame({
        "order_id": ["o8", "o9"], "product_id": ["p7", NASTY],
        "reason": ["unknown product"] * 2})}, inputs=[products], metrics=counts)  # fmt: skip
    checks = [
        {"table": "order_lines", "column": "order_id", "aspect": "completeness",
         "expected": "never null", "observed": "0 of 3", "severity": "critical", "success": True},
        {"table": "order_lines", "column": "unit_price", "aspect": "range",
         "expected": "0 or above", "observed": "1 of 3", "severity": "warning", "success": False},
    ]  # fmt: skip

    def docs(draft: Draft) -> None:
        draft.write_json("result.json", checks)
        draft.write_text("report.html", f"<h1>Checks</h1>{NASTY}")

    judged = made(run, "lake/data_docs", {}, inputs=[orders], more=docs,
                  metrics={"expectations": 2, "critical_failures": 0, "warnings": 1})  # fmt: skip
    everything = made(run, "lake/all", {}, inputs=[orders, products, judged],
                      metrics={"order_lines": counts, "events": {}})  # fmt: skip
    return {"products": products, "orders": orders, "all": everything}


def inventory(run: Run, sources: dict[str, Ref]) -> Ref:
    """Release forecasts of 10 and 12 units a week of milk, with an order of 7."""
    key = {"product_id": ["p1", "p3"], "location_id": ["all", "all"]}
    weeks = [WEEK, WEEK + timedelta(days=7)]
    series = made(run, "work/inventory/series", {
        "series.parquet": pl.DataFrame(key),
        "weeks.parquet": pl.DataFrame({
            "row": pl.Series([0, 0, 1], dtype=pl.Int32),
            "week_starts_on": [date(2024, 3, 18), date(2024, 3, 25), date(2024, 3, 25)],
            "units": [9.0, 11.0, 4.0], "observed": [1.0, 1.0, 1.0]}),
    }, inputs=[sources["products"]])  # fmt: skip
    levels = {"q05": 0.5, "q25": 0.8, "q50": 1.0, "q75": 1.2, "q95": 1.5}
    forecasts = pl.DataFrame({
        "product_id": ["p1", "p1"],
        "location_id": ["all", "all"],
        "week_starts_on": weeks,
        "mean": [10.0, 12.0],
    }).with_columns((pl.col("mean") * factor).alias(name) for name, factor in levels.items())
    orders = pl.DataFrame(
        key
        | {
            "title": ["Milk", NASTY],
            "order_quantity": [7.0, None],
            "quantity_before_stock": [30.0, 5.0],
            "order_up_to": [30.0, 5.0],
            "on_hand": [20.0, None],
            "on_order": [3.0, None],
            "unit_cost": [1.0, 2.0],
            "value": [7.0, 10.0],
            "lead_time_days": [7.0, 7.0],
            "basis": ["", "before stock"],
            "assumed": ["", "unit_cost"],
        }
    )
    policy = pl.DataFrame(key).with_columns(
        pl.lit(1.0).alias(name) for name in
        ("weekly_demand", "safety_stock", "reorder_point", "base_stock_level", "order_up_to",
         "lead_time_days", "lead_time_days_std", "review_days", "service_level", "pack_size",
         "minimum_order_quantity", "order_quantity_economic", "safety_stock_cost_per_year")
    )  # fmt: skip
    service = {
        "model": {"fill_rate": 0.95, "total_cost": 100.0, "holding_cost": 40.0,
                  "ordering_cost": 20.0, "shortage_cost": 40.0, "waste_cost": 0.0},
        "textbook": {"fill_rate": 0.9, "total_cost": 200.0, "holding_cost": 50.0,
                     "ordering_cost": 100.0, "shortage_cost": 50.0, "waste_cost": 0.0},
        "clairvoyant": {"total_cost": 30.0}}  # fmt: skip

    def headline(draft: Draft) -> None:
        draft.write_text("report.html", f"<h1>Report</h1>{NASTY}")
        draft.headline(metric="wrmsse", value=0.66, baseline_name="moving average", baseline=0.78,
                       higher_is_better=False, rows=2, unit="order proposals")  # fmt: skip

    return dataset.release(
        run,
        made(
            run,
            "artefacts/inventory",
            {
                "orders.parquet": orders,
                "policy.parquet": policy,
                "forecasts.parquet": forecasts,
                "classes.parquet": pl.DataFrame(key | {"abc": ["A", "C"], "xyz": ["X", "Z"]}),
                "exceptions.parquet": pl.DataFrame({
                    "exception": ["overstock"],
                    "product_id": ["p1"],
                    "location_id": ["all"],
                    "title": ["Milk"],
                    "units": [3.0],
                    "value": [4.0],
                    "reason": ["too much"],
                }),
                "whatif.parquet": pl.DataFrame({
                    "product_id": ["p1"],
                    "location_id": ["all"],
                    "promotion": ["mailer"],
                    "weeks_promoted": [4],
                    "units_without": [10.0],
                    "units_with": [15.0],
                    "uplift": [5.0],
                    "uplift_q10": [-2.0],
                    "uplift_q90": [8.0],
                }),
            },
            inputs=[series],
            config=InventoryConfig(),
            more=headline,
            metrics={
                "service": service,
                "coverage": {"0.8": 0.79},
                "model": {"wape": 0.45, "bias": -0.1},
            },
        ),
    )


def pricing(run: Run, sources: dict[str, Ref], value: float = 0.4) -> Ref:
    """Release a raise of milk from 1.50 to 1.59 at a cost of 1.00, and bread that is kept."""
    elasticities = pl.DataFrame({
        "product_id": ["p1", "p2"], "estimate": [-2.0, -1.0], "lower": [-2.5, -2.0],
        "upper": [-1.5, 0.0], "weight_borrowed": [0.2, 1.0], "why": ["", "too few weeks"],
        "own_estimate": [-2.0, None], "own_error": [0.2, None], "weeks": [50, 3],
        "moved_weeks": [20, 0]})  # fmt: skip
    prices = pl.DataFrame({
        "product_id": ["p1", "p2"], "category": ["Food/Dairy", "Food/Bakery"],
        "current_price": [1.5, 3.0], "proposed_price": [1.59, 3.0], "change": [0.06, 0.0],
        "reason": ["raise by 6%", "keep: cannot tell"], "binding_guardrail": ["largest step", ""],
        "units_change": [-1.0, 0.0], "profit_change": [2.5, 0.0],
        "profit_change_lower": [1.0, 0.0], "profit_change_upper": [3.0, 0.0],
        "break_even_cost": [0.5, None], "weekly_units": [10.0, 4.0], "regular_price": [1.6, 3.0],
        "unit_cost": [1.0, 2.0], "assumed": [True, True], "elasticity": [-2.0, -1.0],
        "grade": ["strong", "cannot tell"]})  # fmt: skip
    category = {name: [None] for name in ("estimate", "lower", "upper", "placebo")}

    def headline(draft: Draft) -> None:
        draft.headline(metric="deviance", value=value, baseline_name="no response", baseline=0.5,
                       higher_is_better=False, rows=2, unit="prices")  # fmt: skip

    return dataset.release(run, made(run, "artefacts/pricing", {
        "prices.parquet": prices, "elasticities.parquet": elasticities,
        "category_elasticities.parquet": pl.DataFrame(
            {"category": ["Food/Dairy"], "grade": ["weak"], "products_enough": [3],
             "products": [5], "why": [""]} | category,
            schema_overrides=dict.fromkeys(category, pl.Float64)),
        "cross_elasticities.parquet": pl.DataFrame({
            "product_id": ["p1"], "other_id": ["p2"], "estimate": [0.5], "lower": [0.1],
            "upper": [0.9], "found": [True]}),
        "promotions.parquet": pl.DataFrame({
            "category": ["Food/Dairy"], "mechanic": ["mailer"], "lift": [2.0], "lift_lower": [1.5],
            "lift_upper": [2.5], "dip": [0.1], "others": [-0.2], "incremental_units": [30.0],
            "incremental_margin": [12.0], "weeks": [9]}),
        "price_tests.parquet": pl.DataFrame({
            "product_id": ["p2"], "low": [2.8], "high": [3.2], "design": ["switchback"],
            "weeks": [26], "power": [0.3], "enough": [False], "weekly_units": [4.0]}),
    }, inputs=[sources["products"]], config=PricingConfig(), more=headline, metrics={
        "products_on_sale_by_grade": {"strong": 1, "cannot tell": 1},
        "off_policy": {"methods": {"doubly robust": {
            "value_now": 4.0, "change": 0.1, "change_lower": 0.02, "change_upper": 0.18,
            "verdict": "better", "why": "the interval of the change lies above zero"}}},
        "proposals": {"expected": 2.5, "lower": 1.0, "upper": 3.0, "products": 1}}))  # fmt: skip


def recommendation(run: Run, sources: dict[str, Ref]) -> Ref:
    """Release a list of two products for one customer; the other buckets are empty, so no files."""
    rows = pl.DataFrame({
        "customer_id": [CUSTOMER] * 2, "product_id": ["p2", "p1"], "rank": [2, 1],
        "score": [0.5, 0.9], "generator": ["popular", "repeat"],
        "reason": ["popular now", f"buy again {NASTY}"]})  # fmt: skip
    settings = RecommendationConfig(list_buckets=8)
    bucket = bucket_of(CUSTOMER, settings.list_buckets)
    judged = {"ndcg_at_10": 0.4, "ndcg_at_10_lower": 0.35, "ndcg_at_10_upper": 0.45,
              "hit_rate_at_10": 0.8, "recall_at_20": 0.1}  # fmt: skip

    def headline(draft: Draft) -> None:
        draft.headline(metric="ndcg_at_10", value=0.4, baseline_name="popularity", baseline=0.2,
                       higher_is_better=True, rows=2, unit="recommendations")  # fmt: skip

    return dataset.release(
        run,
        made(
            run,
            "artefacts/recommendation",
            {
                f"recommendations/bucket={bucket:03}.parquet": rows,
                "segments.parquet": pl.DataFrame({"customer_id": [CUSTOMER], "segment": ["loyal"]}),
                "new_products.parquet": pl.DataFrame({
                    "customer_id": [CUSTOMER],
                    "product_id": ["p3"],
                    "score": [1.0],
                    "generator": ["new_in_category"],
                    "rank": [1],
                }),
                "similar_products.parquet": pl.DataFrame({
                    "product_id": ["p1"],
                    "similar_product_id": ["p2"],
                    "score": [0.3],
                    "rank": [1],
                }),
                "bought_together.parquet": pl.DataFrame({
                    "product_id": ["p1"],
                    "with_product_id": ["p2"],
                    "rank": [1],
                    "orders_together": [17],
                    "confidence": [0.25],
                    "lift": [3.0],
                    "lift_low": [2.0],
                }),
            },
            inputs=[sources["products"], sources["orders"]],
            more=headline,
            config=settings,
            metrics={
                "windows": {"March": {"all": {"customers": 10, "contenders": {"ranker": judged}}}}
            },
        ),
    )


def shop(run: Run) -> dict[str, Ref]:
    """Publish all of it."""
    sources = lake(run)
    return sources | {
        "inventory": inventory(run, sources),
        "pricing": pricing(run, sources),
        "recommendation": recommendation(run, sources),
    }
