"""What other tables say of a product, each figure worked out by hand."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from ecom_tasks.errors import ConfigError
from ecom_tasks.pricing import guardrails, situation
from ecom_tasks.pricing.guardrails import Guardrails

AS_OF = date(2024, 3, 31)  # a Sunday
WEEKS = 10
FIRST = AS_OF - timedelta(days=7 * WEEKS - 1)


def panel() -> pl.DataFrame:
    """Two places; `a` was 2.00 until four weeks ago and is 2.50 since, `b` never moved."""
    return pl.DataFrame([
        {
            "product_id": product, "location_id": place,
            "week_starts_on": FIRST + timedelta(days=7 * week),
            "price": (2.0 if week < WEEKS - 4 else 2.5) if product == "a" else 3.0,
            "regular_price": None, "units": 5.0,
        }
        for product in ("a", "b") for place in ("north", "south") for week in range(WEEKS)
    ], schema_overrides={"regular_price": pl.Float64})  # fmt: skip


def positions() -> pl.DataFrame:
    return pl.DataFrame({"product_id": ["a", "b"], "weekly_units": [10.0, 10.0],
                         "price_ratio": [0.1, 0.1]})  # fmt: skip


def described(
    known: situation.Known | None = None, rules: Guardrails | None = None
) -> dict[str, dict[str, object]]:
    rows = situation.add(
        positions(), panel(), known or situation.Known(), rules or Guardrails(), AS_OF
    )
    return {row["product_id"]: row for row in rows.to_dicts()}


def test_a_shop_that_has_nothing_else_is_told_by_its_sales() -> None:
    found = described()
    assert found["a"]["weeks_since_change"] == 4
    assert found["b"]["weeks_since_change"] is None
    for row in found.values():
        assert row["units_from"] == situation.RECENT
        assert (row["weekly_units"], row["price_ratio"]) == (10.0, 0.1)
        for name in ("on_hand", "cover_weeks", "clear_weeks", "competitor_price"):
            assert row[name] is None


def test_newest_counts_of_all_places_and_what_is_on_order_add_up() -> None:
    stock = pl.DataFrame(
        [
            ("a", "north", AS_OF - timedelta(days=7), 99.0, None),
            ("a", "north", AS_OF, 4.0, 6.0),
            ("a", "south", AS_OF - timedelta(days=1), 5.0, None),
            ("b", "north", AS_OF, -3.0, None),
        ],
        schema=["product_id", "location_id", "snapshot_on", "on_hand", "on_order"], orient="row",
    )  # fmt: skip
    supply = pl.DataFrame({"product_id": ["a", "a"], "lead_time_days": [7.0, 21.0]})
    newest = situation.newest_stock(stock.lazy()).collect()
    rows = situation.add(
        positions(), panel(), situation.Known(stock=newest, supply=supply), Guardrails(), AS_OF
    )
    assert rows["on_hand"].to_list() == [15.0, 0.0]
    assert rows["cover_weeks"].to_list() == [3.0, None]
    # Without a lead time nobody knows how long it must last.
    assert rows.select(situation.reach(rows))["on_hand"].to_list() == [5.0, float("inf")]


def test_newest_lowest_rival_counts() -> None:
    prices = pl.DataFrame(
        [
            ("a", "north", AS_OF - timedelta(days=30), 1.0),
            ("a", "north", AS_OF, 2.4),
            ("a", "south", AS_OF, 2.2),
            ("b", "north", AS_OF, None),
        ],
        schema=["product_id", "location_id", "valid_from", "competitor_price"], orient="row",
    )  # fmt: skip
    rivals = situation.newest_rivals(prices.lazy()).collect()
    found = described(situation.Known(rivals=rivals), Guardrails(key_value=("a",)))
    assert (found["a"]["competitor_price"], found["a"]["key_value"]) == (2.2, True)
    assert (found["b"]["competitor_price"], found["b"]["key_value"]) == (None, False)


def test_a_date_to_clear_by_counts_in_weeks_from_the_day() -> None:
    rules = guardrails.parse('[[clear]]\nproduct = "a"\nby = 2024-04-21\n', "rules")
    found = described(rules=rules)
    assert found["a"]["clear_weeks"] == pytest.approx(3.0)
    assert found["b"]["clear_weeks"] is None
    with pytest.raises(ConfigError, match="clear"):
        guardrails.parse('[[clear]]\nproduct = "a"\nby = "soon"\n', "rules")


def test_a_forecast_counts_where_it_covers_all_places() -> None:
    ahead = [AS_OF + timedelta(days=1), AS_OF + timedelta(days=8)]
    forecasts = pl.DataFrame(
        [("a", place, week, 20.0) for place in ("north", "south") for week in ahead]
        + [("a", "north", AS_OF - timedelta(days=6), 999.0)]  # that week is over
        + [("b", "north", week, 20.0) for week in ahead],
        schema=["product_id", "location_id", "week_starts_on", "mean"], orient="row",
    )  # fmt: skip
    found = described(situation.Known(forecasts=forecasts, released="forecast x"))
    assert (found["a"]["weekly_units"], found["a"]["units_from"]) == (40.0, "forecast x")
    # It is of the usual price, and needs no taking back from what was paid of late.
    assert found["a"]["price_ratio"] == 0.0
    assert (found["b"]["weekly_units"], found["b"]["units_from"]) == (10.0, situation.RECENT)
