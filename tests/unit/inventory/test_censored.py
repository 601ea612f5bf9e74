"""Planted stock-outs: found, and their demand recovered."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from ecom_tasks import tables
from ecom_tasks.inventory import censored
from tests.builders import MONDAY, table
from tests.unit.inventory import shop

WEEKS, SERIES = 52, 200
CONFIG = shop.small()
IMPROBABLE = 1e-3


def demand() -> np.ndarray:
    """Return true weekly demand around levels of 5 to 25, with a December of twice as much."""
    random = np.random.default_rng(0)
    level = random.uniform(5, 25, SERIES)[:, None] * np.ones(WEEKS)
    level[:, 46:50] *= 2
    return np.maximum(random.poisson(level), 1).astype(float)


def counts(closed: list[tuple[int, int, int]]) -> pl.LazyFrame:
    """Return daily counts of every product: (row, week, days) close at zero on its last days."""
    empty = {(row, week): days for row, week, days in closed}
    rows = [
        {
            "product_id": shop.product(row), "location_id": "all",
            "snapshot_on": MONDAY + timedelta(days=7 * week + day),
            "on_hand": 0.0 if day >= 7 - empty.get((row, week), 0) else 9.0, "on_order": 0.0,
        }
        for row in sorted({row for row, _, _ in closed})
        for week in range(WEEKS)
        for day in range(7)
    ]  # fmt: skip
    return table(tables.STOCK, rows).lazy()


def order(panel: object) -> list[int]:
    return [int(each[1:]) for each in panel.keys["product_id"]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("days", [3, 7])
def test_counted_stock_outs_are_recovered_within_five_percent(days: int) -> None:
    truth = demand()
    out = [(row, week, days) for row in range(0, SERIES, 2) for week in (20, 21, 47)]
    sold = truth.copy()
    for row, week, closed in out:
        sold[row, week] = np.round(truth[row, week] * (1 - closed / 7))
    panel = shop.panel(sold, CONFIG)
    shares = censored.closed_share(panel, [counts(out)])
    assert shares is not None
    found = censored.recover(panel, shares, IMPROBABLE, judged=2)
    real = truth[order(panel)]
    marked = ~found.known()
    assert marked.sum() == len(out)
    assert shares[marked] == pytest.approx(days / 7)
    assert found.units[marked].sum() == pytest.approx(real[marked].sum(), rel=0.05)
    assert found.units[marked].min() > 0
    np.testing.assert_array_equal(found.units[~marked], panel.units[~marked])


def test_improbable_runs_are_recovered_within_five_percent() -> None:
    truth = demand()
    sold = truth.copy()
    sold[::2, 20:24] = 0
    panel = shop.panel(sold, CONFIG)
    found = censored.recover(panel, None, IMPROBABLE, judged=2)
    marked = ~found.known()
    assert marked.sum() == SERIES / 2 * 4
    assert found.units[marked].sum() == pytest.approx(truth[order(panel)][marked].sum(), rel=0.05)


def test_levels_of_some_series_at_a_time_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    units = np.float32(demand())
    observed = np.random.default_rng(2).random(units.shape) < 0.7
    whole = censored.level_around(units, observed)
    monkeypatch.setattr(censored, "_AT_ONCE", 7)
    np.testing.assert_array_equal(censored.level_around(units, observed), whole)


def test_zeros_of_slow_products_are_demand() -> None:
    random = np.random.default_rng(1)
    slow = random.poisson(0.4, size=(SERIES, WEEKS)).astype(float)
    slow[:, 0] = 1
    found = censored.recover(shop.panel(slow, CONFIG), None, IMPROBABLE, judged=2)
    # One run in a thousand is as long by chance, of about three thousand that there are.
    assert (~found.known()).mean() < 5e-3


def test_a_product_that_stops_selling_is_not_out_of_stock() -> None:
    units = np.full((2, WEEKS), 9.0)
    units[0, -10:] = 0  # gone
    units[1, :10] = 0  # not launched yet
    found = censored.recover(shop.panel(units, CONFIG), None, IMPROBABLE, judged=2)
    assert found.known().all()


def test_weeks_that_judge_are_not_supposed_to_be_anything() -> None:
    units = np.full((1, WEEKS), 9.0)
    units[0, 30:44] = 0
    panel = shop.panel(units, CONFIG)
    for judged, marked in ((4, 14), (WEEKS - 40, 10)):
        found = censored.recover(panel, None, IMPROBABLE, judged=judged)
        assert (~found.known()).sum() == marked


def test_locations_are_averaged_where_series_cover_them_all() -> None:
    panel = shop.panel(np.full((1, WEEKS), 9.0), CONFIG)
    rows = counts([(0, 5, 7)]).collect()
    two = pl.concat([rows, rows.with_columns(location_id=pl.lit("b"), on_hand=pl.lit(3.0))])
    shares = censored.closed_share(panel, [two.lazy()])
    assert shares is not None
    assert shares[0, 5] == 0.5
    assert shares.sum() == 0.5
    assert censored.closed_share(panel, []) is None
    others = two.with_columns(product_id=pl.lit("another"))
    parts = [others.lazy(), two.lazy()]
    assert censored.closed_share(panel, parts) == pytest.approx(shares)
