"""Histograms of buckets add up, and say what moved."""

from __future__ import annotations

from math import log2

import numpy as np
import polars as pl
import pytest

from ecom_tasks.metrics import drift as metrics
from ecom_tasks.monitoring import drift

LEVEL = 0.99


def table(seed: int, rows: int = 3000, shift: float = 0.0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    price = random.normal(10 + shift, 2, rows)
    return pl.DataFrame({
        "product_id": [f"p{n}" for n in range(rows)],
        "price": np.where(random.random(rows) < 0.1, np.nan, price),
        "units": random.poisson(1, rows),
        "sold": random.random(rows) < 0.2,
        "brand": random.choice(["a", "b", "c"], rows),
    })  # fmt: skip


def whole(before: pl.DataFrame, now: pl.DataFrame, every: int = 1) -> pl.DataFrame:
    cut = drift.edges([drift.sample(before.lazy(), every)], 10)
    return drift.compare(*(drift.count(each.lazy(), cut) for each in (before, now)), LEVEL)


def of(found: pl.DataFrame, column: str) -> dict[str, object]:
    return found.row(by_predicate=pl.col("column") == column, named=True)


def test_buckets_give_exactly_what_whole_tables_give() -> None:
    before, now = table(1), table(2, shift=0.3)
    cut = drift.edges([drift.sample(part.lazy(), 1) for part in before.iter_slices(701)], 10)
    buckets = [
        drift.total(drift.count(part.lazy(), cut) for part in side.iter_slices(size))
        for side, size in ((before, 701), (now, 97))
    ]
    assert drift.compare(*buckets, LEVEL).equals(whole(before, now))
    assert buckets[0].rows == before.height


def test_the_counts_are_those_of_all_rows_however_few_were_sampled() -> None:
    before, now = table(1), table(2, shift=1.0)
    cut = drift.edges([drift.sample(before.lazy(), 10)], 10)
    assert drift.count(before.lazy(), cut).bins["price"].sum() == before["price"].is_not_nan().sum()
    few, all_rows = (of(whole(before, now, every), "price")["psi"] for every in (10, 1))
    assert few == pytest.approx(all_rows, rel=0.3)


def test_only_the_column_that_moved_moves() -> None:
    found = whole(table(3), table(4, shift=2.0))
    assert found.filter(pl.col("psi") > pl.col("psi_by_chance"))["column"].to_list() == ["price"]
    # Ten equal bins; moved by one standard deviation, the index is about 1.
    assert 0.5 < of(found, "price")["psi"] < 2  # type: ignore[operator]
    assert found["column"].to_list() == ["brand", "price", "sold", "units"]
    same = whole(table(1), table(1))
    assert same["psi"].to_list() == same["js_distance"].to_list() == [0.0] * 4


def test_a_bin_holds_its_upper_end() -> None:
    column = pl.LazyFrame({"x": [1.0, 2.0, 2.5, 3.0, 9.0]})
    counted = drift.count(column, {"x": np.array([2.0, 3.0])})
    assert counted.bins["x"].tolist() == [2, 2, 1]


@pytest.mark.parametrize("to", [0, 2])
def test_the_only_value_there_was_is_told_from_more_and_from_less(to: int) -> None:
    found = of(whole(pl.DataFrame({"flag": [1] * 50}), pl.DataFrame({"flag": [to] * 50})), "flag")
    assert found["js_distance"] == 1.0
    assert found["psi"] > 1  # type: ignore[operator]


def test_a_value_that_fills_several_bins_has_one_of_its_own() -> None:
    before = pl.DataFrame({"x": [0.0] * 60 + [float(n) for n in range(1, 41)]})
    now = pl.DataFrame({"x": [-1.0] * 60 + [float(n) for n in range(1, 41)]})
    cut = drift.edges([drift.sample(before.lazy(), 1)], 10)
    assert drift.count(before.lazy(), cut).bins["x"][:2].tolist() == [0, 60]
    assert drift.count(now.lazy(), cut).bins["x"][:2].tolist() == [60, 0]


def test_an_empty_bin_counts_as_half_a_row() -> None:
    before, now = pl.DataFrame({"x": [0, 1] * 10}), pl.DataFrame({"x": [0] * 30})
    expected = metrics.population_stability_index(np.array([10.0, 10]), np.array([30, 0.5]))
    assert of(whole(before, now), "x")["psi"] == pytest.approx(expected, abs=1e-6)
    # The Jensen-Shannon distance takes the counts as they are: shares of 1/2 and 1/2, 1 and 0.
    divergence = (0.5 * log2(0.5 / 0.75) + 0.5 * log2(0.5 / 0.25) + log2(1 / 0.75)) / 2
    assert of(whole(before, now), "x")["js_distance"] == pytest.approx(divergence**0.5, abs=1e-6)


def test_few_rows_are_cut_into_few_bins() -> None:
    for rows, bins in ((1000, 10), (40, 4), (7, 2)):
        sampled = pl.DataFrame({"x": [float(n) for n in range(rows)]})
        assert len(drift.edges([sampled], 10)["x"]) == bins - 1 + (bins == 2)


def test_missing_values_are_counted_apart() -> None:
    before = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "brand": ["a", "a", "b", None]})
    now = pl.DataFrame({"x": [1.0, None, float("nan"), 4.0], "brand": [None, None, "a", "b"]})
    found = whole(before, now)
    for column, shares in (("x", (0.0, 0.5)), ("brand", (0.25, 0.5))):
        told = of(found, column)
        assert (told["missing_before"], told["missing_now"]) == shares


def test_a_column_that_is_empty_on_one_side_has_no_index() -> None:
    full, empty = (
        pl.DataFrame({"x": [1.0, 2.0]}),
        pl.DataFrame({"x": pl.Series([None] * 2, dtype=pl.Float64)}),
    )
    assert of(whole(full, empty), "x")["psi"] is None
    assert of(whole(full, empty), "x")["missing_now"] == 1.0
    assert whole(empty, full).is_empty()


def test_new_categories_are_named_and_rare_ones_counted_together() -> None:
    before = pl.DataFrame({
        "brand": ["a"] * 500 + ["b"] * 465 + ["c"] * 15 + [f"rare {n}" for n in range(20)]
    })
    now = pl.DataFrame({
        "brand": ["a"] * 400 + ["b"] * 455 + ["c"] * 25 + ["rare 3"] * 20 + ["z"] * 60 + ["y"] * 40
    })
    found = of(whole(before, now), "brand")
    assert found["new_share"] == 0.1
    assert found["new_categories"] == "z, y"
    # a, b, c, rare, new
    assert found["psi"] == pytest.approx(
        metrics.population_stability_index(
            np.array([500, 465, 15, 20, 0.5]), np.array([400.0, 455, 25, 20, 100])
        ),
        abs=1e-6,
    )


def test_identifiers_and_titles_are_not_compared() -> None:
    rows = pl.DataFrame({"customer_id": ["a"], "title": ["b"], "week_starts_on": [None], "x": [1]})
    assert whole(rows, rows)["column"].to_list() == ["x"]
