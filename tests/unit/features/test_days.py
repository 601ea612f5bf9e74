"""Demand and promotions by day, and what is known of a day."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from ecom_tasks.errors import ConfigError
from ecom_tasks.features import calendar, demand
from tests import builders
from tests.builders import day, line, promotion

GOODS = builders.products(["a", "b"], sellable=[True, False])


def test_days_are_summed_by_location_and_returns_netted() -> None:
    lines = builders.order_lines([
        line("x", "a", day(0), 3, 2.0, location_id="north", regular_price=4.0),
        line("y", "a", day(0), 1, 2.0, location_id="north", regular_price=4.0),
        line("y", "a", day(0), 1, 2.0, location_id="north", returned=True),
        line("z", "a", day(0), 5, 4.0, location_id="south", regular_price=4.0),
        line("x", "a", day(2), 1, 4.0, location_id="north"),
        line("x", "b", day(2), 1, 4.0, location_id="north"),  # not for sale
        line("x", "a", day(3), 1, 4.0, location_id="north"),  # after the last day known
    ])
    found = demand.build_daily(lines.lazy(), GOODS.lazy(), day(2), "US", [1, 15]).collect()
    places = found.select("location_id", "day").rows()
    assert places == [("north", day(0)), ("north", day(2)), ("south", day(0))]
    first = found.row(0, named=True)
    assert (first["units"], first["sales"], first["orders"]) == (3.0, 6.0, 2.0)
    assert first["unit_price"] == 2.0
    assert first["discount_depth"] == 0.5
    # The first day of the year is a holiday, a Monday and a payday.
    assert (first["weekday"], first["holiday"], first["days_since_payday"]) == (1.0, 1.0, 0.0)
    assert found.row(1, named=True)["days_since_payday"] == 2.0


def test_nothing_sold_is_an_empty_table() -> None:
    none = demand.build_daily(builders.order_lines([]).lazy(), GOODS.lazy(), day(2)).collect()
    assert none.is_empty()
    assert "holiday" in none.columns


def test_promotions_are_spread_over_their_days() -> None:
    rows = builders.promotions([
        promotion("a", day(2), day(3), location_id="north", announced_on=day(0)),
        promotion("a", day(3), day(30), location_id="south", announced_on=day(1)),
        promotion("a", day(3), day(3), location_id="north", announced_on=day(0)),  # again
        promotion("a", day(3), day(3), mechanic="coupon", location_id=None),
        promotion("a", day(2), day(5), announced_on=day(9)),  # not yet announced
        promotion("b", day(2), day(5), announced_on=day(0)),  # not for sale
    ])
    found = demand.promotion_days(rows.lazy(), GOODS.lazy(), day(4), 2).collect()
    columns = ["day", "announced_on", "display_locations", "coupon_locations"]
    assert found.select(columns).rows() == [
        (day(2), day(0), 1.0, 0.0),
        (day(3), day(3), 2.0, 1.0),
        (day(4), day(1), 1.0, 0.0),
        (day(5), day(1), 1.0, 0.0),
        (day(6), day(1), 1.0, 0.0),
    ]


def test_a_payday_that_the_month_lacks_is_its_last_day() -> None:
    assert calendar.days_since_payday(date(2024, 2, 29), [31]) == 0
    assert calendar.days_since_payday(date(2024, 3, 1), [31]) == 1
    assert calendar.days_since_payday(date(2024, 3, 20), [31, 15]) == 5


def test_days_without_country_or_paydays_say_nothing_of_them() -> None:
    found = calendar.days(date(2024, 12, 24), date(2024, 12, 25))
    assert found["holiday"].null_count() == found["days_since_payday"].null_count() == 2
    known = calendar.days(date(2024, 12, 24), date(2024, 12, 25), "GB")
    assert known.select(pl.col("holiday")).to_series().to_list() == [0.0, 1.0]


def test_an_unknown_country_is_named() -> None:
    with pytest.raises(ConfigError, match="'XX' is no country"):
        calendar.days(date(2024, 1, 1), date(2024, 1, 2), "XX")
