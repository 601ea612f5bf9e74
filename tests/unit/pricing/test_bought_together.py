"""Pairs that share more orders than chance gives, and what they do for cross effects."""

from __future__ import annotations

from datetime import datetime, time

import numpy as np
import polars as pl
import pytest

from ecom_tasks.pricing import bought_together, cross
from ecom_tasks.pricing.config import PricingConfig
from tests import builders
from tests.unit.pricing.test_absorb import chain

AS_OF = builders.day(30)
COUNT = 60


def lines(orders: list[list[str]], **other: object) -> pl.LazyFrame:
    return builders.order_lines([
        builders.line(
            f"c{number}", name, builders.day(1), 1, 2.0, order_id=f"o{number}",
            ordered_at=datetime.combine(builders.day(1), time(12)), **other,
        )
        for number, order in enumerate(orders) for name in order
    ]).lazy()  # fmt: skip


def catalogue(names: list[str], category: str = "food/shelf") -> pl.DataFrame:
    return pl.DataFrame({"product_id": names, "category": [category] * len(names)})


def test_pairs_beyond_chance_are_told_both_ways() -> None:
    # 100 orders with something of the category; a and b in 20 each, 16 of them together.
    orders = [["a", "b"]] * 16 + [["a"]] * 4 + [["b"]] * 4 + [["c"]] * 76
    known = catalogue(["a", "b", "c"])
    found = bought_together.pairs([bought_together.count(lines(orders), known, AS_OF)], known)
    assert found.rows() == [
        ("a", "b", 16, 20 * 20 / 100, (16 - 4) / 2), ("b", "a", 16, 4.0, 6.0)
    ]  # fmt: skip


def test_buckets_add_up_and_chance_is_no_pair() -> None:
    rng = np.random.default_rng(0)
    names = [f"p{number}" for number in range(12)]
    orders = [[str(name) for name in rng.choice(names, 3, replace=False)] for _ in range(400)]
    orders = [[*order, "p0", "p1"] if number % 8 == 0 else order
              for number, order in enumerate(orders)]  # fmt: skip
    orders = [sorted(set(order)) for order in orders]
    known = catalogue(names)
    whole = bought_together.count(lines(orders), known, AS_OF)
    found = bought_together.pairs([whole], known)
    assert set(found.select("product_id", "other_id").rows()) == {("p0", "p1"), ("p1", "p0")}
    both = lines(orders).with_columns(pl.col("order_id").str.slice(1).cast(pl.Int64).alias("n"))
    apart = (
        bought_together.count(both.filter(pl.col("n") % 5 == bucket).drop("n"), known, AS_OF)
        for bucket in range(5)
    )
    assert bought_together.pairs(apart, known).equals(found)
    assert bought_together.pairs([], known).equals(bought_together.empty())


@pytest.mark.parametrize("why", ["other category", "returned", "after the day", "whole range"])
def test_what_is_no_basket_makes_no_pair(why: str) -> None:
    orders = [["a", "b"]] * 16 + [["a"]] * 4 + [["b"]] * 4 + [["c"]] * 76
    known, day = catalogue(["a", "b", "c"]), AS_OF
    if why == "other category":
        known = pl.concat([catalogue(["a", "c"]), catalogue(["b"], "drinks/shelf")])
    if why == "after the day":
        day = builders.day(0)
    if why == "whole range":
        more = [f"x{number}" for number in range(60)]
        orders = [[*order, *more] if len(order) > 1 else order for order in orders]
        known = catalogue(["a", "b", "c", *more])
    rows = lines(orders, returned=True) if why == "returned" else lines(orders)
    assert bought_together.pairs([bought_together.count(rows, known, day)], known).is_empty()


def test_a_complement_of_another_price_is_found_by_what_is_bought_together() -> None:
    """Of 60 products eight candidates each; the complement is the least alike in price."""
    config = PricingConfig(cross_candidates=8)
    plain = chain([-2.0] * COUNT, stores=8, weeks=52, seed=3)
    names = plain["product_id"].unique().sort().to_list()
    first, second = names[0], names[-1]
    level = {name: float(place) for place, name in enumerate(names)}
    plain = plain.with_columns(
        pl.col("product_id").replace_strict(level, return_dtype=pl.Float64).alias("price_level")
    )
    price = plain.filter(pl.col("product_id") == second).select(
        "location_id", "week_starts_on", pl.col("log_price").alias("other")
    )
    noise = np.random.default_rng(4).gamma(20.0, 1 / 20.0, plain.height)
    effect = pl.when(pl.col("product_id") == first).then(-0.6 * pl.col("other")).otherwise(0.0)
    rows = (
        plain
        .join(price, on=["location_id", "week_starts_on"], how="left", maintain_order="left")
        .with_columns(pl.col("demand_ratio") * pl.Series(noise) * effect.exp())
        .drop("other")
    )
    rng = np.random.default_rng(5)
    orders = [[str(name) for name in rng.choice(names[1:-1], 2, replace=False)] for _ in range(300)]
    orders += [[first, second]] * 30
    known = catalogue(names)
    pairs = bought_together.pairs([bought_together.count(lines(orders), known, AS_OF)], known)

    def found(together: pl.DataFrame | None) -> set[tuple[str, str]]:
        measured = cross.shrink(cross.measure(rows, config, together), config)
        return set(measured.filter("found").select(*cross.PAIR).rows())

    assert (first, second) not in found(None)
    assert (first, second) in found(pairs)


def test_half_of_the_choices_stay_with_what_is_alike() -> None:
    names = [f"p{number:02d}" for number in range(40)]
    # The first went with all of the dearest twenty.
    pairs = pl.DataFrame({
        "product_id": ["p00"] * 20, "other_id": names[20:], "score": np.arange(20.0) + 4,
    })  # fmt: skip
    price = np.arange(40.0)
    price[0] = -50.0  # so far off that none of the others chooses it for its price
    chosen = cross.candidates(names, price, 12, pairs)
    # Six of its own: the three surest, and the three next in price.
    assert {37, 38, 39} <= set(chosen[0].tolist())
    assert {1, 2, 3} <= set(chosen[0].tolist())
