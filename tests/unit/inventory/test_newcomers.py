"""New products begin as their like did, and become their own."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import nbinom

from ecom_tasks.inventory import newcomers
from tests.builders import MONDAY
from tests.unit.inventory import shop

CONFIG = shop.small(products=50)
WEEKS = 30
LAST = shop.last_day(WEEKS)
CATEGORY = "shelf 0/board"
OLD = 8
"""Launches of each category, in weeks 6 to 13."""


def sales(product: str, first: int, units: float, price: float = 2.0) -> pl.DataFrame:
    """Return demand of the same units every week from its first on."""
    made = shop.demand(np.r_[np.zeros(first), np.full(WEEKS - first, units)][None, :], price)
    return made.with_columns(pl.lit(product).alias("product_id"))


def catalogue(category_of: dict[str, str], **launched: date) -> pl.LazyFrame:
    names = list(category_of)
    return pl.LazyFrame({
        "product_id": names,
        "title": [f"title of {name}" for name in names],
        "category": list(category_of.values()),
        "regular_price": [2.0] * len(names),
        "launched_on": [launched.get(name) for name in names],
    }, schema_overrides={"launched_on": pl.Date})  # fmt: skip


def launches() -> tuple[list[pl.DataFrame], dict[str, str]]:
    """Return boards that sold 20 a week, dear boards that sold 4, and nails that sold 50."""
    demand, of = [sales("first", 0, 1)], {"first": "other/thing"}
    for number in range(OLD):
        for name, units, price, category in (
            ("board", 20, 2.0, CATEGORY), ("dear", 4, 9.0, CATEGORY), ("nail", 50, 2.0, "nails/x"),
        ):  # fmt: skip
            demand.append(sales(f"{name}{number}", 6 + number, units, price))
            of[f"{name}{number}"] = category
    return demand, of


def found(
    *extra: pl.DataFrame,
    of: dict[str, str],
    embeddings: pl.DataFrame | None = None,
    **launched: date,
) -> pl.DataFrame:
    demand, known = launches()
    series = pl.DataFrame({"product_id": [*known], "location_id": "all"})
    return newcomers.forecast(
        [part.lazy() for part in (*demand, *extra)],
        catalogue(known | of, **launched),
        series,
        LAST,
        CONFIG,
        embeddings,
    )


def embedded(angles: dict[str, float]) -> pl.DataFrame:
    """Return an embedding of two dimensions for each product: a point of the unit circle."""
    points = [[np.cos(angle), np.sin(angle)] for angle in angles.values()]
    vectors = pl.Series(points, dtype=pl.Array(pl.Float32, 2))
    return pl.DataFrame({"product_id": [*angles], "embedding": vectors})


def test_without_a_category_the_nearest_embeddings_of_a_like_price_are_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(newcomers, "_NEAREST", OLD)
    start = MONDAY + timedelta(weeks=WEEKS)
    # Boards and nails cost the same: the embedding says that it is a nail. The dear boards are
    # nearer still, and cost too much.
    angles = {f"{name}{n}": angle for n in range(OLD)
              for name, angle in (("board", 1.5), ("dear", 0.0), ("nail", 0.3))}  # fmt: skip
    made = found(of={"new": ""}, embeddings=embedded(angles | {"new": 0.0}), new=start)
    assert set(made["basis"]) == {"embedding and price"}
    assert made["mean"].to_list() == pytest.approx([50, 50])
    without = found(of={"new": ""}, embeddings=embedded(angles), new=start)
    assert set(without["basis"]) == {"all"}
    few = {name: angle for name, angle in angles.items() if name in {"nail0", "nail1", "board0"}}
    too_few = found(of={"new": ""}, embeddings=embedded(few | {"new": 0.0}), new=start)
    assert set(too_few["basis"]) == {"all"}
    filed = found(of={"new": CATEGORY}, embeddings=embedded(angles | {"new": 0.0}), new=start)
    assert set(filed["basis"]) == {"category and price"}


def test_a_product_that_starts_next_week_is_forecast_as_its_like() -> None:
    start = MONDAY + timedelta(weeks=WEEKS)
    made = found(of={"new": CATEGORY}, new=start)
    assert made["week_starts_on"].to_list() == [start, start + timedelta(weeks=1)]
    assert set(made["basis"]) == {"category and price"}
    assert set(made["alike"]) == {OLD}
    assert made["mean"].to_list() == pytest.approx([20, 20])
    # A squared variation of 0.05 is a gamma variable of shape 20.
    assert made["q90"].to_list() == [nbinom.ppf(0.9, 20, 20 / (20 + 20))] * 2
    later = found(of={"new": CATEGORY}, new=start + timedelta(weeks=1))
    assert later["mean"].to_list() == pytest.approx([0, 20])
    assert later["q99"].to_list()[0] == 0


def test_own_sales_count_for_more_the_more_there_are() -> None:
    weeks = 2
    made = found(sales("new", WEEKS - weeks, 10), of={"new": CATEGORY})
    # Of 20 expected a week 10 came; the prior weighs as much as 20 units.
    assert made["mean"].to_list() == pytest.approx([20 * (20 + 10 * weeks) / (20 + 20 * weeks)] * 2)
    assert set(made["weeks_on_sale"]) == {weeks}


def test_without_its_like_a_product_is_compared_more_widely() -> None:
    dear = found(sales("new", WEEKS - 1, 10, price=50.0), of={"new": CATEGORY})
    assert set(dear["basis"]) == {"category"}
    assert set(dear["alike"]) == {2 * OLD}
    elsewhere = found(sales("new", WEEKS - 1, 10), of={"new": "shelf 0/plank"})
    assert set(elsewhere["basis"]) == {"department and price"}
    nowhere = found(sales("new", WEEKS - 1, 10), of={"new": ""})
    assert set(nowhere["basis"]) == {"all"}


def test_products_that_have_a_series_or_hardly_sell_are_left_out() -> None:
    assert found(of={}).is_empty()
    early = found(sales("new", WEEKS - 3, 10), of={"new": CATEGORY})
    assert early.is_empty()  # sold before the test window of two weeks: it could be chosen
    seldom = shop.small(products=50, minimum_orders=3)
    demand, known = launches()
    series = pl.DataFrame({"product_id": [*known], "location_id": "all"})
    few = newcomers.forecast(
        [part.lazy() for part in (*demand, sales("new", WEEKS - 2, 10))],
        catalogue(known | {"new": CATEGORY}), series, LAST, seldom,
    )  # fmt: skip
    assert few.is_empty()


def test_the_factor_is_what_bayes_says() -> None:
    # Totals of 10 and 30: mean 20, squared variation 100 / 400, less 1 / 20 for counting.
    known = newcomers.factor(np.array([10.0, 30.0]), own=8, expected=16)
    assert known.mean == pytest.approx((1 / 0.2 + 8) / (1 / 0.2 + 16))
