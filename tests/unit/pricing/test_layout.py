"""Groups of rows, and rows laid out as series x weeks: the same sums, whatever is missing."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from ecom_tasks.pricing import absorb, elasticity, layout
from tests.unit.pricing.simulated import START
from tests.unit.pricing.test_absorb import chain


def with_gaps() -> pl.DataFrame:
    """Return rows of which a third is missing, in no order; one product has no level of its own."""
    rows = chain([-2.0, -1.0, -3.0, -1.5] * 3, stores=9, weeks=16)
    still = pl.col("product_id") == "p3"
    rows = rows.with_columns(
        pl.when(~still).then(name).alias(name) for name in layout.BOTH
    ).with_columns(pl.Series("weight", np.random.default_rng(2).uniform(0.5, 2.0, rows.height)))
    return rows.sample(fraction=2 / 3, seed=1, shuffle=True)


def test_laid_out_rows_lose_the_same_levels() -> None:
    rows = with_gaps()
    lattice = layout.Lattice(rows)
    assert lattice.shape == (12 * 9, 16)
    price, weight = rows["log_price"].to_numpy(), rows["weight"].to_numpy()
    laid_weight = lattice.lay(weight)
    assert (laid_weight == 0).sum() == 12 * 9 * 16 - rows.height
    expected = absorb.demean(price, weight, layout.levels(rows))
    found = absorb.demean(lattice.lay(price), laid_weight, lattice.levels(rows))
    assert len(lattice.levels(rows)) == 3
    assert lattice.take(found) == pytest.approx(expected, abs=1e-5)
    assert np.abs(expected).max() > 0.1
    demand = rows["demand"].to_numpy()
    expected = absorb.Ratios(weight, layout.levels(rows)).of(demand, 100)
    found = absorb.Ratios(laid_weight, lattice.levels(rows)).of(lattice.lay(demand), 100)
    assert lattice.take(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("full", [True, False])
def test_elasticities_do_not_depend_on_the_order_of_rows(*, full: bool) -> None:
    whole = chain([-2.0, -1.0] * 5, stores=9, weeks=16)
    rows = whole.sample(fraction=1.0, seed=1, shuffle=True) if full else with_gaps()
    key = ["product_id", "location_id", "week_starts_on"]
    mixed = elasticity.solve(rows, ["product_id"]).sort(key)
    sorted_ = elasticity.solve(rows.sort(key), ["product_id"])
    for name in ("slope", "shock", "rest", "told"):
        assert mixed[name].to_numpy() == pytest.approx(sorted_[name].to_numpy(), abs=1e-9)


def test_a_series_stands_in_the_row_of_its_product_and_place() -> None:
    rows = with_gaps()
    lattice = layout.Lattice(rows)
    series = rows.select("product_id", "location_id")
    expected = series.unique().sort("product_id", "location_id")
    assert series[lattice.first].equals(expected)
    assert lattice.take(lattice.lay(rows["demand"].to_numpy())).tolist() == rows["demand"].to_list()


@pytest.mark.parametrize("many", [50_000_000, 10])
def test_groups_are_numbered_in_their_order(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_MANY_GROUPS", many)
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({
        "text": rng.choice(["b", "a", "z"], 200),
        "number": rng.choice([5, -3, 900], 200),
        "week": [START + timedelta(weeks=int(week)) for week in rng.integers(0, 9, 200)],
        "share": rng.choice([0.25, 0.5], 200),
    })
    rows = rows.with_columns(pl.col("text").cast(pl.Enum(["z", "b", "a", "none"])).alias("named"))
    for by in (["text"], ["named", "week"], ["number", "share", "week", "text"]):
        expected = rows.select(pl.struct(by).rank("dense").cast(pl.Int64) - 1).to_series()
        assert layout.codes(rows, by).tolist() == expected.to_list()
    assert layout.codes(rows, []).tolist() == [0] * 200
