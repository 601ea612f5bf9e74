"""Popular lists by category and by segment, and who belongs to which segment."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecom_tasks.recommendation import popular_in as lists
from ecom_tasks.recommendation.segments import segments

PRODUCTS = pl.DataFrame({
    "product_id": ["ale", "jam", "milk", "odd"],
    "category": ["drinks/beer", "food", "drinks", None],
})
BOUGHT = pl.DataFrame(
    [
        ("ann", "ale", 0.0), ("bob", "ale", 28.0), ("eve", "ale", 56.0),
        ("ann", "milk", 0.0), ("bob", "milk", 0.0),
        ("eve", "jam", 84.0), ("zoe", "jam", 28.0),
        ("zoe", "odd", 0.0),
    ],
    schema=["customer_id", "product_id", "days_since_last_order"], orient="row",
)  # fmt: skip
SEGMENTS = pl.DataFrame({
    "customer_id": ["ann", "bob", "eve", "zoe"],
    "segment": ["loyal", "loyal", "lapsing", "new"],
})


def test_each_customer_counts_half_for_every_half_life() -> None:
    found = lists.popular([BOUGHT], PRODUCTS, SEGMENTS, 2, min_customers=1)
    assert found.columns == ["scope", "name", "rank", "product_id", "score"]
    assert found.rows() == [
        ("all", "all", 1, "milk", 1 + 1),
        ("all", "all", 2, "ale", 1 + 1 / 2 + 1 / 4),
        ("category", "drinks", 1, "milk", 1 + 1),
        ("category", "drinks", 2, "ale", 1 + 1 / 2 + 1 / 4),
        ("category", "drinks/beer", 1, "ale", 1 + 1 / 2 + 1 / 4),
        ("category", "food", 1, "jam", 1 / 8 + 1 / 2),
        ("segment", "lapsing", 1, "ale", 1 / 4),
        ("segment", "lapsing", 2, "jam", 1 / 8),
        ("segment", "loyal", 1, "milk", 1 + 1),
        ("segment", "loyal", 2, "ale", 1 + 1 / 2),
        ("segment", "new", 1, "odd", 1.0),
        ("segment", "new", 2, "jam", 1 / 2),
    ]


def test_customers_are_counted_part_by_part_as_all_at_once() -> None:
    parts = [BOUGHT.filter(pl.col("customer_id").is_in(some)) for some in (["eve"], ["bob", "zoe"])]
    parts.append(BOUGHT.filter(customer_id="ann"))
    whole = lists.popular([BOUGHT], PRODUCTS, SEGMENTS, 9, min_customers=2)
    assert lists.popular(parts, PRODUCTS, SEGMENTS, 9, min_customers=2).equals(whole)
    customers = pl.DataFrame({
        "customer_id": ["ann", "bob", "eve", "zoe"], "orders": [2.0, 2.0, 2.0, 2.0],
        "spend": [1.0, 2.0, 3.0, 4.0], "days_since_first_order": [0.0, 28.0, 84.0, 9.0],
        "days_since_last_order": [0.0, 0.0, 56.0, 0.0],
    })  # fmt: skip
    expected = lists.for_newcomers([BOUGHT], customers, 3, 28.0)
    found = lists.for_newcomers(parts, customers, 3, 28.0)
    assert all(found[name].equals(each) for name, each in expected.items())


def test_another_half_life_weighs_otherwise() -> None:
    found = lists.popular_in(
        [BOUGHT], lists.everyone([BOUGHT]), 1, half_life_days=56.0, min_customers=1
    )
    assert found["product_id"].to_list() == ["ale"]
    assert found["score"].to_list() == pytest.approx([1 + 0.5**0.5 + 0.5], abs=1e-6)


def test_what_too_few_of_a_group_bought_is_not_shown() -> None:
    found = lists.popular([BOUGHT], PRODUCTS, SEGMENTS, 9, min_customers=2)
    shown = found.select("name", "product_id").rows()
    assert ("all", "jam") in shown
    assert ("all", "odd") not in shown
    assert found.filter(scope="segment").select("name", "product_id").rows() == [
        ("loyal", "milk"), ("loyal", "ale"),
    ]  # fmt: skip


def test_of_equal_scores_the_smaller_product_id_goes_first() -> None:
    equal = BOUGHT.with_columns(days_since_last_order=pl.lit(3.0)).unique("product_id")
    found = lists.popular_in([equal], lists.everyone([equal]), 9, min_customers=1)
    assert found["product_id"].to_list() == ["ale", "jam", "milk", "odd"]


def test_a_product_belongs_to_its_category_and_to_all_above() -> None:
    deep = pl.DataFrame({"product_id": ["p", "q"], "category": ["a/b/c", "a"]})
    found = lists.categories(deep).sort("product_id", "name")
    assert found.rows() == [
        ("category", "a", "p"), ("category", "a/b", "p"), ("category", "a/b/c", "p"),
        ("category", "a", "q"),
    ]  # fmt: skip
    assert lists.categories(PRODUCTS.filter(product_id="odd")).is_empty()


def customers(rows: list[tuple[str, float, float, float, float]]) -> pl.DataFrame:
    names = ["customer_id", "days_since_first_order", "days_since_last_order", "orders", "spend"]
    schema = dict.fromkeys(names, pl.Float64) | {"customer_id": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


# Of six customers who are not new, one third of each measure lies above the cut: the two best.
KNOWN = customers([
    ("best", 300, 1, 60, 900),
    ("gone", 300, 200, 50, 800),
    ("lots", 300, 2, 9, 1000),
    ("many", 300, 3, 8, 10),
    ("once", 28, 28, 1, 5),
    ("rare", 300, 20, 2, 20),
    ("baby", 27, 0, 99, 9999),
])


def test_the_rule_cuts_where_two_thirds_lie_below() -> None:
    # Silent longest: gone and once. Most orders: best and gone. Most spend: lots and best.
    assert segments(KNOWN).rows() == [
        ("baby", "new"), ("best", "loyal"), ("gone", "lapsing"), ("lots", "occasional"),
        ("many", "occasional"), ("once", "lapsing"), ("rare", "occasional"),
    ]  # fmt: skip


def test_the_shops_own_segment_goes_first_and_who_never_ordered_is_new() -> None:
    named = pl.DataFrame({
        "customer_id": ["best", "gone", "late", "soon"],
        "segment": ["club", None, "club", None],
    })
    found = dict(segments(KNOWN, named).rows())
    assert set(found) == {*KNOWN["customer_id"], "late", "soon"}
    assert found["best"] == found["late"] == "club"
    assert found["gone"] == "lapsing"
    assert found["soon"] == "new"


def test_customers_who_are_all_alike_are_occasional() -> None:
    alike = customers([(name, 100, 9, 3, 30) for name in "abc"])
    assert set(segments(alike)["segment"]) == {"occasional"}
    assert segments(alike.clear()).is_empty()


days = st.integers(0, 400).map(float)


@given(
    rows=st.lists(st.tuples(days, days, st.integers(1, 9).map(float), days), max_size=30),
    seed=st.integers(0, 9),
)
def test_everyone_is_in_one_segment_and_at_most_a_third_is_lapsing_or_loyal(
    rows: list[tuple[float, float, float, float]], seed: int
) -> None:
    frame = customers([
        (f"c{n:02}", max(first, last), last, orders, spend)
        for n, (first, last, orders, spend) in enumerate(rows)
    ])
    found = segments(frame)
    assert found["customer_id"].to_list() == frame["customer_id"].to_list()
    assert found.equals(segments(frame.sample(fraction=1, shuffle=True, seed=seed)))
    old = found.filter(pl.col("segment") != "new").height
    assert old == frame.filter(pl.col("days_since_first_order") >= 28).height
    for name in ("lapsing", "loyal"):
        assert 3 * found.filter(segment=name).height <= old


def test_newcomers_see_what_new_customers_buy_then_what_all_buy() -> None:
    new = [f"n{number}" for number in range(3)]
    old = [f"o{number}" for number in range(6)]
    bought = pl.DataFrame(
        [(who, "ale", 0.0) for who in new]
        + [(who, "milk", 0.0) for who in old]
        + [(who, "jam", 280.0) for who in [*old, *new]],
        schema=["customer_id", "product_id", "days_since_last_order"],
        orient="row",
    )
    customers = pl.DataFrame({
        "customer_id": [*new, *old],
        "orders": [1.0] * 9,
        "spend": [1.0] * 9,
        "days_since_first_order": [5.0] * 3 + [300.0] * 6,
        "days_since_last_order": [0.0] * 9,
    })
    found = lists.for_newcomers([bought], customers, 2, 28.0)
    ranked = {name: each.sort("rank")["product_id"].to_list() for name, each in found.items()}
    assert ranked == {
        lists.SEGMENT_LIST: ["ale", "jam"],  # of the new ones; milk would be third
        lists.ALL_LIST: ["milk", "ale"],
        lists.EVER_LIST: ["jam", "milk"],
    }
