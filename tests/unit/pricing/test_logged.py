"""Proposed prices judged by logs of a world in which their value is known."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from ecom_tasks.errors import DataContractError
from ecom_tasks.metrics.off_policy import DIRECT, DOUBLY_ROBUST, IPS, SNIPS
from ecom_tasks.pricing import logged
from ecom_tasks.pricing.config import PricingConfig

CONFIG = PricingConfig()
START = date(2024, 1, 1)
STORES, WEEKS, PRODUCTS = 8, 52, 6
USUAL, COST, TRUE = 4.0, 2.5, -2.2
NOW, PROPOSED = 4.0, 4.4


def log(seed: int, *, told: float = TRUE, spread: float = 0.08) -> pl.DataFrame:
    """Decisions: prices spread around what each week's plan foretold, units by the true answer.

    `told` is the elasticity with which the model's `expected` was brought to the usual price.
    """
    rng = np.random.default_rng(seed)
    shape = (PRODUCTS, STORES, WEEKS)
    plan = 0.05 * rng.standard_normal((PRODUCTS, 1, WEEKS))
    shock = spread * rng.standard_normal(shape)
    offset = plan + shock
    lift = np.exp(0.3 * rng.standard_normal((1, 1, WEEKS)) + 2 * plan)  # plans follow demand
    usual = 30 * lift * np.exp(0.4 * rng.standard_normal((PRODUCTS, STORES, 1)))
    units = rng.poisson(usual * np.exp(TRUE * offset) * rng.gamma(10, 0.1, shape))
    # What the model makes of weeks at the usual price: right where price was as usual.
    expected = usual * np.exp((TRUE - told) * plan)
    name, place, week = (each.ravel() for each in np.indices(shape))
    return pl.DataFrame({
        "product_id": [f"p{each}" for each in name],
        "category": [f"c{each % 2}" for each in name],
        "location_id": [f"s{each}" for each in place],
        "week_starts_on": [START + timedelta(weeks=int(each)) for each in week],
        "units": units.ravel().astype(float),
        "usual_log_price": np.log(USUAL),
        "offset": offset.ravel(),
        "shock": shock.ravel(),
        "expected": expected.ravel(),
        "usual_units": np.broadcast_to(usual, shape).ravel(),
    })


def prices(elasticity: float, *, proposed: float = PROPOSED) -> pl.DataFrame:
    names = [f"p{number}" for number in range(PRODUCTS)]
    return pl.DataFrame({
        "product_id": names, "current_price": NOW, "proposed_price": proposed, "unit_cost": COST,
        "elasticity": elasticity,
    })  # fmt: skip


def judge(rows: pl.DataFrame, told: pl.DataFrame, odds: pl.DataFrame | None = None) -> pl.DataFrame:
    return logged.judge([logged.add_up(rows, told, CONFIG, odds)], CONFIG)


def whole(found: pl.DataFrame, method: str) -> dict[str, Any]:
    return found.filter((pl.col("scope") == "all") & (pl.col("method") == method)).row(
        0, named=True
    )


def true_change(rows: pl.DataFrame) -> float:
    """Of the same decisions, by the true answer: the direct method of a model that is right."""
    right = rows.with_columns(pl.col("usual_units").alias("expected"))
    return float(whole(judge(right, prices(TRUE)), DIRECT)["change"])


@pytest.mark.parametrize("told", [TRUE, -1.2], ids=["right model", "wrong model"])
def test_the_doubly_robust_interval_covers_the_true_change(told: float) -> None:
    covered, errors = [], {name: [] for name in (DOUBLY_ROBUST, SNIPS, IPS, DIRECT)}  # type: ignore[var-annotated]
    for seed in range(40):
        rows = log(seed, told=told)
        found, true = judge(rows, prices(told)), true_change(rows)
        row = whole(found, DOUBLY_ROBUST)
        covered.append(row["change_lower"] <= true <= row["change_upper"])
        for name, each in errors.items():
            each.append(whole(found, name)["change"] - true)
    assert np.mean(covered) >= 0.85
    deviation = {name: float(np.sqrt(np.mean(np.square(each)))) for name, each in errors.items()}
    assert deviation[DOUBLY_ROBUST] < deviation[IPS] / 1.5
    if told != TRUE:
        # The model alone promises more than there is; the log takes it back.
        assert np.mean(errors[DIRECT]) > 4 * abs(np.mean(errors[DOUBLY_ROBUST]))


def test_the_true_change_is_that_of_the_formula() -> None:
    rows = log(3, spread=0.3)  # so wide that all weeks are compared
    base = rows["usual_units"].mean()
    ratio = (PROPOSED / USUAL) ** TRUE
    expected = base * (ratio * (PROPOSED - COST) - (NOW - COST))
    assert true_change(rows) == pytest.approx(expected, rel=0.01)


def test_prices_that_were_never_near_the_proposal_are_refused() -> None:
    found = judge(log(1, spread=0.01), prices(TRUE, proposed=5.6))
    row = whole(found, DOUBLY_ROBUST)
    assert row["effective_decisions"] == 0
    assert row["verdict"] == logged.CANNOT_TELL
    assert "too little overlap: 0 effective decisions" in row["why"]
    assert row["change"] is None
    told = logged.told(found)
    assert told["products_by_verdict"] == {logged.CANNOT_TELL: PRODUCTS}


def test_a_few_weeks_at_such_prices_are_too_few() -> None:
    few = log(1).filter(pl.col("location_id") == "s1")
    row = whole(judge(few, prices(TRUE)), DOUBLY_ROBUST)
    assert 10 < row["effective_decisions"] < CONFIG.log_least_decisions
    assert row["verdict"] == logged.CANNOT_TELL
    assert row["why"].startswith("too little overlap")
    asked = CONFIG.model_copy(update={"log_least_decisions": 10})
    cells = logged.add_up(few, prices(TRUE), asked, None)
    assert whole(logged.judge([cells], asked), DOUBLY_ROBUST)["verdict"] != logged.CANNOT_TELL


def test_a_price_that_never_moved_by_itself_tells_nothing() -> None:
    still = log(1).with_columns(pl.lit(0.0).alias("offset"), pl.lit(0.0).alias("shock"))
    assert whole(judge(still, prices(TRUE)), DOUBLY_ROBUST)["verdict"] == logged.CANNOT_TELL


def test_odds_that_do_not_add_up_are_not_believed() -> None:
    # One product's price stands at one of three, which its category's others do not tell.
    rows = log(2)
    first, shock = pl.col("product_id") == "p0", pl.col("shock")
    offset = 0.095 * shock.sign() * (shock.abs() > 0.04) + 0.01 * shock
    rows = rows.with_columns(
        pl.when(first).then(offset).otherwise("offset").alias("offset"),
        pl.when(first).then(offset).otherwise("shock").alias("shock"),
    )
    found = judge(rows, prices(TRUE)).filter(
        (pl.col("scope") == "product") & (pl.col("method") == DOUBLY_ROBUST)
    )
    told = {row["name"]: row for row in found.iter_rows(named=True)}
    assert told["p0"]["mean_weight"] > 1.5
    assert told["p0"]["verdict"] == logged.CANNOT_TELL
    assert "the odds of logged prices are not right" in told["p0"]["why"]
    assert told["p1"]["mean_weight"] == pytest.approx(1.0, abs=0.3)
    assert "odds" not in told["p1"]["why"]


def test_a_gain_beyond_chance_is_called_one_and_a_loss_too() -> None:
    rows = pl.concat([
        log(seed).with_columns(pl.col("location_id") + f" of {seed}") for seed in range(4)
    ])  # fmt: skip
    # Of units (4.6 / 4) ** -2.2 = .74 are left. At a cost of 1 they earn 3.6 in place of 3 each,
    # at one of 3.6 they earn 1 in place of .4.
    for cost, verdict in ((1.0, logged.WORSE), (3.6, logged.BETTER)):
        asked = prices(TRUE, proposed=4.6).with_columns(pl.lit(cost).alias("unit_cost"))
        assert whole(judge(rows, asked), DOUBLY_ROBUST)["verdict"] == verdict


def test_parts_tell_what_the_whole_tells() -> None:
    rows, asked = log(5), prices(TRUE)
    apart = [
        logged.add_up(part, asked, CONFIG, None) for part in rows.partition_by("category")
    ]  # fmt: skip
    one, two = judge(rows, asked), logged.judge(apart, CONFIG)
    assert one["change_lower"].to_list() == pytest.approx(two["change_lower"].to_list())
    # A product's decisions add up to its category's, and these to all.
    counts = one.filter(pl.col("method") == IPS).group_by("scope").agg(pl.col("decisions").sum())
    assert counts["decisions"].n_unique() == 1


def test_decisions_without_a_change_have_no_row() -> None:
    assert judge(log(1), prices(TRUE).head(0)).is_empty()
    assert logged.judge([], CONFIG).is_empty()


def test_logged_odds_take_the_place_of_reckoned_ones() -> None:
    rows = log(7)
    odds = rows.select("product_id", "location_id", "week_starts_on").join(
        pl.DataFrame({"price": [NOW, PROPOSED, 5.0], "propensity": [0.25, 0.25, 0.5]}), how="cross"
    )
    cells = logged.add_up(rows, prices(TRUE), CONFIG, logged.checked_odds(odds, "the log"))
    assert cells.now[..., 0].sum() == rows.height
    near = rows.filter((pl.col("offset") - np.log(PROPOSED / USUAL)).abs() <= CONFIG.log_band)
    assert cells.proposed[..., 1].sum() == pytest.approx(near.height / 0.25)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (pl.lit(0.4).alias("propensity"), "do not add up to 1"),
        (pl.Series("propensity", [-0.5, 1.5]), "one is below 0"),
        (pl.lit(0.0).alias("price"), "a price is not above 0"),
    ],
)
def test_a_log_whose_odds_are_none_is_refused(fault: pl.Expr, said: str) -> None:
    odds = pl.DataFrame({
        "product_id": "p", "location_id": "s", "week_starts_on": START, "price": [4.0, 4.4],
        "propensity": [0.5, 0.5],
    })  # fmt: skip
    assert logged.checked_odds(odds, "the log").height == 2
    with pytest.raises(DataContractError, match=said):
        logged.checked_odds(odds.with_columns(fault), "the log")
    with pytest.raises(DataContractError, match="no column propensity"):
        logged.checked_odds(odds.drop("propensity"), "the log")
