"""Where a manager's prices follow demand, the gate asks how stores differ, not how weeks do."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ecom_tasks.metrics.pricing import poisson_deviance
from ecom_tasks.pricing import absorb, evaluate, layout
from tests.unit.pricing.test_absorb import chain

SLOPE = -2.0


def predicted(*, absorbed: bool) -> pl.DataFrame:
    """Return weeks whose shocks move prices up, foretold by the true slope and by no slope."""
    rows = chain([SLOPE] * 8).with_columns(
        (20 * pl.col("demand")).alias("units"), pl.col("log_price").alias("price_left")
    )
    response = 20 * (SLOPE * pl.col("log_price")).exp()
    flat = rows.with_columns(
        pl.lit(20.0).alias(name) for name in (evaluate.NO_RESPONSE, evaluate.LOG_LOG)
    ).with_columns(response.alias(evaluate.ELASTICITIES), response.alias(evaluate.ONE))
    return evaluate._shared_out(flat.with_columns(pl.lit(absorbed).alias("between_stores")))


def deviance(rows: pl.DataFrame, name: str) -> float:
    return poisson_deviance(rows["units"].to_numpy(), rows[name].to_numpy(), np.ones(rows.height))


def test_the_true_response_foretells_badly_over_time_and_exactly_between_stores() -> None:
    over_time, between = predicted(absorbed=False), predicted(absorbed=True)
    assert deviance(over_time, evaluate.ELASTICITIES) > deviance(over_time, evaluate.NO_RESPONSE)
    assert deviance(between, evaluate.ELASTICITIES) == pytest.approx(0.0, abs=1e-6)
    assert deviance(between, evaluate.NO_RESPONSE) > 1.0
    # Every contender is told the same totals.
    for name in evaluate.CONTENDERS:
        by_week = between.group_by("product_id", "week_starts_on").agg(pl.sum("units", name))
        assert by_week[name].to_numpy() == pytest.approx(by_week["units"].to_numpy(), rel=1e-4)


def test_products_whose_stores_move_together_are_judged_as_they_were() -> None:
    rows = predicted(absorbed=False)
    assert not rows["between_stores"].any()
    assert (rows[evaluate.NO_RESPONSE] == 20.0).all()


def test_of_a_level_that_sold_nothing_next_to_nothing_is_expected() -> None:
    codes = [np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])]
    levels: list[layout.Level] = [layout.Groups(each) for each in codes]
    sold = np.array([0.0, 0.0, 8.0, 8.0])
    left = absorb.shared_out(np.array([1.0, 3.0, 2.0, 2.0]), sold, levels)
    assert (left > 0).all()
    assert left == pytest.approx(sold, abs=1e-3)
