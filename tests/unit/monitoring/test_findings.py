"""Limits: what is fine, what warns, what alerts, and whether training may help."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from ecom_tasks.errors import ConfigError
from ecom_tasks.monitoring import drift, findings
from ecom_tasks.monitoring.config import MonitoringConfig
from ecom_tasks.run import Run

CONFIG = MonitoringConfig()
NOTHING = pl.DataFrame(
    schema={"domain": pl.String(), "table": pl.String(), "release": pl.String()} | drift.SCHEMA
)
CALM = {
    "kind": "number", "psi": 0.0, "psi_by_chance": 0.01, "js_distance": 0.0, "missing_before": 0.0,
    "missing_now": 0.0, "new_share": 0.0, "new_categories": "", "rows_before": 1000,
    "rows_now": 1000,
}  # fmt: skip


def moved(table: str, **column: object) -> pl.DataFrame:
    row = {"domain": "pricing", "table": table, "release": "v", "column": "price"} | CALM | column
    return pl.DataFrame([row], schema=NOTHING.schema)


def judged(
    domain: str = "", figures: dict[str, Any] | None = None, drifted: pl.DataFrame = NOTHING,
    config: MonitoringConfig = CONFIG,
) -> pl.DataFrame:  # fmt: skip
    facts = {
        "judged": dict.fromkeys(("recommendation", "pricing", "inventory"), "v"),
        "realised": {domain: figures} if figures else {},
    }
    return findings.judge(facts, drifted, config)


def only(found: pl.DataFrame, what: str) -> tuple[str, bool]:
    row = found.row(by_predicate=pl.col("what").str.starts_with(what), named=True)
    return row["verdict"], row["retrain"]


@pytest.mark.parametrize(
    ("psi", "verdict"),
    [(0.05, None), (0.1, None), (0.11, "warning"), (0.25, "warning"), (0.26, "alert")],
)  # fmt: skip
def test_drift_is_held_against_both_limits(psi: float, verdict: str | None) -> None:
    found = judged(drifted=moved("demand", psi=psi)).filter(what="population stability index")
    assert found["verdict"].to_list() == ([verdict] if verdict else [])
    assert found["retrain"].to_list() == ([verdict == "alert"] if verdict else [])
    calm = judged(drifted=moved("demand", psi=psi)).filter(what="columns that have not drifted")
    assert calm["value"].to_list() == [0.0 if verdict else 1.0]


def test_drift_that_few_rows_show_by_chance_is_none() -> None:
    found = judged(drifted=moved("demand", psi=0.9, psi_by_chance=1.0))
    assert set(found["verdict"]) == {"shown"}


def test_what_grows_with_the_history_is_not_judged() -> None:
    columns = moved("customers", psi=2.0, column="orders").with_columns(
        domain=pl.lit("recommendation")
    )
    found = judged(drifted=columns)
    assert set(found["verdict"]) == {"shown"}
    assert "Of 1, 1 of which grow with the history" in found["said"][0]
    judging = MonitoringConfig(growing=())
    assert "alert" in set(judged(drifted=columns, config=judging)["verdict"])


def test_training_is_no_remedy_for_a_hole_nor_for_two_releases_that_differ() -> None:
    hole = judged(drifted=moved("demand", missing_before=0.1, missing_now=0.4))
    assert only(hole, "rise of the share of missing") == ("alert", False)
    apart = judged(drifted=moved("predictions", psi=2.0))
    assert only(apart, "population stability index") == ("alert", False)
    new = judged(drifted=moved("demand", new_share=0.5, new_categories="z"))
    assert only(new, "share of rows in new categories") == ("warning", False)


def promised(**figures: float) -> dict[str, Any]:
    return {
        "forecasts": 100, "wape": 0.4, "bias": 0.0, "coverage": 0.8,
        "promised": {"wape": 0.4, "bias": 0.1, "coverage": None},
    } | figures  # fmt: skip


@pytest.mark.parametrize(
    ("figures", "what", "verdict"),
    [
        ({"wape": 0.5}, "WAPE", "fine"),
        ({"wape": 0.51}, "WAPE", "warning"),
        ({"wape": 0.61}, "WAPE", "alert"),
        ({"bias": 0.15}, "bias", "fine"),
        ({"bias": -0.2}, "bias", "warning"),
        ({"bias": -0.31}, "bias", "alert"),
        ({"coverage": 0.6}, "coverage", "fine"),
        ({"coverage": 0.59}, "coverage", "alert"),
        ({"coverage": 0.96}, "coverage", "alert"),
    ],
)
def test_forecasts_are_held_against_the_backtest(
    figures: dict[str, float], what: str, verdict: str
) -> None:
    assert only(judged("inventory", promised(**figures)), what) == (verdict, verdict == "alert")


def hits(rate: float, customers: int) -> dict[str, Any]:
    worst, best = (
        {"hit_rate_at_10": value, "ndcg_at_10": value / 2, "customers": 1000}
        for value in (0.6, 0.9)
    )
    return {
        "since": "2024-01-07", "until": "2024-02-04", "customers": customers, "new_customers": 3,
        "left_out": 5, "hit_rate": rate, "hit_rate_lower": rate, "hit_rate_upper": rate,
        "ndcg": rate / 2, "ndcg_lower": rate / 2, "ndcg_upper": rate / 2,
        "promised": {"best": best, "worst": worst},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rate", "customers", "verdict"),
    [
        (0.62, 1000, "fine"),
        # 54% of 60% would alert, were ten customers not too few to tell.
        (0.5, 10, "fine"),
        # Beyond chance, but less than a tenth is lost.
        (0.55, 100_000, "warning"),
        (0.5, 1000, "alert"),
    ],
)
def test_a_lower_hit_rate_must_be_more_than_chance(
    rate: float, customers: int, verdict: str
) -> None:
    found = judged("recommendation", hits(rate, customers))
    assert only(found, "hit rate") == (verdict, verdict == "alert")
    said = found.filter(what="hit rate at 10")["said"][0]
    assert "evaluation, worst, promised 60.0%" in said
    assert "3 customers who had no list and 5 purchases" in said


def followed(outside: float, number: int = 50) -> dict[str, Any]:
    return {
        "proposed": 100, "followed": number, "not_followed": 100 - number, "kept": 9, "level": 1.1,
        "weeks": 4, "units": 90.0, "expected": 100.0, "outside": outside,
    }  # fmt: skip


def test_units_after_price_changes_are_judged_where_enough_were_followed() -> None:
    for outside, verdict in ((0.2, "fine"), (0.21, "warning"), (0.41, "alert")):
        found = judged("pricing", followed(outside))
        assert only(found, "share of products") == (verdict, verdict == "alert")
    few = judged("pricing", followed(1.0, number=19))
    assert only(few, "share of products") == ("shown", False)
    nobody = {"proposed": 4, "followed": 0, "not_followed": 4, "level": 1.0, "weeks": 4}
    assert only(judged("pricing", nobody), "units after price changes") == ("shown", False)


def test_alerts_come_first_and_say_what_where_value_limit_and_remedy() -> None:
    found = judged("inventory", promised(wape=0.51, bias=0.5))
    assert found.select("what", "verdict").rows()[:2] == [("bias", "alert"), ("WAPE", "warning")]
    found = judged("inventory", promised(wape=0.8, bias=0.2))
    (alert,) = findings.alerts(found)
    assert findings.in_words(alert) == (
        "inventory: WAPE of 100 forecasts is 0.8, limit 0.6. 2.00 times the 0.400 of the backtest. "
        "Models are trained anew by themselves; look at the departments and weeks it comes from"
    )


def test_limits_that_contradict_are_refused(run: Run) -> None:
    wrong = Run(run.run_id, run.as_of, run.root, overrides={"monitoring": {"wape_warning": 2.0}})
    with pytest.raises(ConfigError, match=r"wape_warning \(2\) is above wape_alert \(1.5\)"):
        MonitoringConfig.of(wrong)


def test_measuring_does_not_depend_on_limits() -> None:
    strict = MonitoringConfig(wape_alert=3.0, stability_warning=0.01, judged_after_days=14)
    assert strict.for_measuring() == MonitoringConfig(judged_after_days=14)
