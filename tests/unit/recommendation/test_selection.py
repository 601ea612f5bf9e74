"""Rules stand inside top-k: lists are full whenever enough eligible products exist."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecom_tasks.recommendation import selection
from ecom_tasks.recommendation.eligibility import Limits
from ecom_tasks.recommendation.rules import Rules
from ecom_tasks.recommendation.selection import Offer

TEXT = pl.String
PAIRS = {"customer_id": TEXT, "product_id": TEXT}
SCORED = {**PAIRS, "score": pl.Float64, "generator": TEXT}


def offer(
    goods: dict[str, str | None],
    ranked: dict[tuple[str, str], float],
    *,
    people: dict[str, str] | None = None,
    **other: Any,
) -> Offer:
    """Return an offer: goods by category, scores by pair, people by segment."""
    people = people or {name: "any" for name, _ in ranked}
    rows = [
        {"customer_id": name, "segment": segment, "region": segment, "birth_year": None}
        for name, segment in sorted(people.items())
    ]
    who = pl.DataFrame(rows, schema={"customer_id": TEXT, "segment": TEXT, "region": TEXT,
                                     "birth_year": pl.Int64})  # fmt: skip
    bonus = other.pop("bonus", {})
    shelf = pl.DataFrame(
        [(name, goods[name], None, bonus.get(name, 0.0)) for name in sorted(goods)],
        schema={"product_id": TEXT, "category": TEXT, "brand": TEXT, "bonus": pl.Float64},
        orient="row",
    )
    none = np.zeros((len(goods), 0), dtype=bool), np.zeros((len(rows), 0), dtype=bool)
    popular = other.pop("popular", {})
    fresh = other.pop("fresh", {})
    return Offer(
        people=who,
        shelf=shelf,
        limits=other.pop("limits", Limits(*none)),
        barred=pl.DataFrame(sorted(other.pop("barred", set())), schema=PAIRS, orient="row"),
        ranked=_scored(ranked, "als"),
        popular=pl.DataFrame(
            [(segment, product, score) for (segment, product), score in popular.items()],
            schema={"segment": TEXT, "product_id": TEXT, "score": pl.Float64}, orient="row",
        ),
        fresh=_scored(fresh, "two_tower"),
        **other,
    )  # fmt: skip


def _scored(scores: dict[tuple[str, str], float], generator: str) -> pl.DataFrame:
    rows = [(*pair, float(score), generator) for pair, score in scores.items()]
    return pl.DataFrame(rows, schema=SCORED, orient="row")


def chosen(what: Offer, k: int, **ruled: Any) -> dict[str, str]:
    """Return each customer's list, as one word a product."""
    rules = Rules.model_validate({"exploration": {"places": 0}} | ruled)
    lists = selection.top_k(what, rules, k, "day")
    assert lists.columns == ["customer_id", "product_id", "rank", "score", "generator"]
    return {
        str(name): " ".join(rows.sort("rank")["product_id"])
        for (name,), rows in lists.group_by("customer_id")
    }


PLAIN = dict.fromkeys("abcdef")


def test_parts_of_an_offer_give_the_lists_of_the_whole() -> None:
    people = {"ann": "x", "bob": "y", "cat": "x", "dan": "y", "eve": "y"}
    ranked = {("ann", "c"): 2.0, ("bob", "f"): 0.0, ("bob", "a"): 3.0, ("eve", "b"): 1.0}
    limits = Limits(
        np.array([[name == "a"] for name in PLAIN]),
        np.array([[name in {"bob", "dan"}] for name in people]),
    )
    whole = offer(
        PLAIN, ranked, people=people, popular={(None, "e"): 9.0, ("y", "a"): 8.0}, limits=limits,
        barred={("ann", "e"), ("eve", "c"), ("dan", "b")},
        fresh={("cat", "d"): 1.0, ("eve", "d"): 1.0},
    )  # fmt: skip
    blocks = [
        whole.ranked.filter(pl.col("customer_id").is_in(who))
        for who in (["eve", "ann"], ["nobody"], ["bob"])
    ]
    parts = list(selection.parts(whole, blocks))
    assert [part.people["customer_id"].to_list() for part in parts] == [
        ["ann", "eve"], [], ["bob"], ["cat", "dan"],
    ]  # fmt: skip
    assert parts[-1].ranked.is_empty()
    assert [part.fresh.height for part in parts] == [1, 0, 0, 1]
    ruled = {"exploration": {"places": 1}}
    expected = chosen(whole, 4, **ruled)
    found = [chosen(part, 4, **ruled) for part in parts]
    assert {name: word for each in found for name, word in each.items()} == expected
    assert expected["bob"][0] == "f"  # a is kept from bob and dan
    assert "b" not in expected["dan"].split()


def test_the_best_ranked_go_first_and_popular_ones_fill_up() -> None:
    ranked = {("ann", "c"): 2.0, ("ann", "a"): -1.0, ("bob", "f"): 0.0}
    popular = {(None, "e"): 9.0, (None, "a"): 8.0, (None, "d"): 7.0}
    assert chosen(offer(PLAIN, ranked, popular=popular), 5) == {
        "ann": "c a e d b",  # b: nobody bought it, and its name comes before f
        "bob": "f e a d b",
    }


def test_of_equal_scores_the_smaller_id_goes_first() -> None:
    ranked = dict.fromkeys([("ann", each) for each in "fbd"], 1.0)
    assert chosen(offer(PLAIN, ranked), 3) == {"ann": "b d f"}


def test_a_segment_is_filled_with_its_own_favourites_first() -> None:
    people = {"ann": "new", "bob": "loyal"}
    popular = {(None, "a"): 9.0, (None, "b"): 8.0, ("new", "f"): 1.0}
    assert chosen(offer(PLAIN, {}, people=people, popular=popular), 3) == {
        "ann": "f a b", "bob": "a b c",
    }  # fmt: skip


def test_boosts_move_what_is_ranked() -> None:
    ranked = {("ann", "a"): 0.0, ("ann", "b"): -0.6}
    assert chosen(offer(PLAIN, ranked), 2) == {"ann": "a b"}
    doubled = offer(PLAIN, ranked, bonus={"b": float(np.log(2))})
    assert chosen(doubled, 2) == {"ann": "b a"}


def test_a_barred_product_is_replaced_by_the_next() -> None:
    ranked = {("ann", "a"): 3.0, ("ann", "b"): 2.0, ("bob", "a"): 1.0}
    got = chosen(offer(PLAIN, ranked, barred={("ann", "a")}), 2)
    assert got == {"ann": "b c", "bob": "a b"}


def test_a_limited_product_is_replaced_by_the_next() -> None:
    ranked = {("ann", "a"): 3.0, ("bob", "a"): 1.0, ("bob", "b"): 0.5}
    goods = np.array([[each == "a"] for each in PLAIN])
    got = chosen(offer(PLAIN, ranked, limits=Limits(goods, np.array([[True], [False]]))), 2)
    assert got == {"ann": "b c", "bob": "a b"}


PATHS = {"a": "x/1", "b": "x/1", "c": "x/2", "d": "y", "e": "y", "f": None}
FALLING = {("ann", each): -float(place) for place, each in enumerate("abcdef")}


@pytest.mark.parametrize(
    ("diversity", "k", "got"),
    [
        ({}, 4, "a b c d"),
        ({"most_per_category": 1}, 4, "a c d f"),  # x/1, x/2, y, and none
        ({"most_per_category": 1, "category_levels": 1}, 3, "a d f"),
        ({"most_per_category": 2, "category_levels": 1}, 5, "a b d e f"),
        ({"most_per_category": 1, "category_levels": 1}, 6, "a d f b c e"),  # gives way at last
        # After a: b shares two of two levels, c one of two, d none.
        ({"weight": 0.9}, 3, "a d f"),
        ({"weight": 0.01}, 4, "a b c d"),
    ],
)
def test_categories_are_capped_and_likeness_costs(
    diversity: dict[str, object], k: int, got: str
) -> None:
    assert chosen(offer(PATHS, FALLING), k, diversity=diversity) == {"ann": got}


def test_the_cap_prefers_what_is_popular_to_breaking_it() -> None:
    goods = {"a": "x", "b": "x", "c": "y"}
    ranked = {("ann", "a"): 2.0, ("ann", "b"): 1.0}
    cap = {"most_per_category": 1, "category_levels": 1}
    assert chosen(offer(goods, ranked), 3, diversity=cap) == {"ann": "a c b"}


def test_pins_stand_at_their_place_for_their_audience() -> None:
    ranked = {("ann", each): -float(place) for place, each in enumerate("abcd")}
    ranked |= {("bob", each): score for (_, each), score in ranked.items()}
    what = offer(PLAIN, ranked, people={"ann": "new", "bob": "loyal"})
    pins = [{"product": "c", "place": 1}, {"product": "a", "place": 3, "segments": ["new"]}]
    assert chosen(what, 4, pins=pins) == {"ann": "c b a d", "bob": "c a b d"}
    lists = selection.top_k(what, Rules.model_validate({"pins": pins}), 4)
    assert lists.filter(generator="pinned")["rank"].to_list() == [1, 3, 1]


def test_a_pin_does_not_overrule_eligibility_and_a_far_one_is_found() -> None:
    goods = {f"p{n:03}": None for n in range(200)}
    what = offer(goods, {("ann", "p000"): 1.0, ("bob", "p000"): 1.0}, barred={("ann", "p199")})
    pins = [{"product": "p199", "place": 1}, {"product": "gone", "place": 2}]
    assert chosen(what, 2, pins=pins) == {"ann": "p000 p001", "bob": "p199 p000"}


def test_the_last_places_are_kept_for_new_products() -> None:
    ranked = {("ann", each): 1.0 for each in "abcd"}
    fresh = {("ann", "f"): 0.9, ("ann", "e"): 0.8, ("ann", "a"): 0.7}
    what = offer(PLAIN, ranked, fresh=fresh)
    assert chosen(what, 3, exploration={"places": 1})["ann"][:3] == "a b"
    assert chosen(what, 3, exploration={"places": 1})["ann"][4] in "ef"
    assert sorted(chosen(what, 4, exploration={"places": 2})["ann"][4:].split()) == ["e", "f"]
    # With nothing new the places are used all the same.
    assert chosen(offer(PLAIN, ranked), 3, exploration={"places": 2}) == {"ann": "a b c"}


def test_every_new_product_is_drawn_now_and_then_the_first_more_often() -> None:
    people = {f"c{n}": "any" for n in range(600)}
    fresh = {(name, what): -float(n) for name in people for n, what in enumerate("abc")}
    what = offer(PLAIN, {}, people=people, fresh=fresh)
    drawn = list(chosen(what, 1, exploration={"places": 1}).values())
    share = {each: drawn.count(each) / 600 for each in "abc"}
    # Chances as 1 : 1/2 : 1/3; three standard errors of 600 draws are .06.
    expected = {"a": 6 / 11, "b": 3 / 11, "c": 2 / 11}
    assert all(abs(share[each] - expected[each]) < 0.06 for each in "abc")
    assert drawn == list(chosen(what, 1, exploration={"places": 1}).values())


NAMES = [f"p{n:02}" for n in range(14)]
WHO = ["ann", "bob", "cy"]
pairs = st.tuples(st.sampled_from(WHO), st.sampled_from(NAMES))


@settings(max_examples=150, deadline=None)
@given(
    goods=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["a/b", "a/c", "d", None])),
    ranked=st.dictionaries(pairs, st.floats(-5, 5)),
    fresh=st.dictionaries(pairs, st.floats(0, 1)),
    barred=st.sets(pairs),
    limited=st.sets(st.sampled_from(NAMES)),
    refused=st.sets(st.sampled_from(WHO)),
    pins=st.dictionaries(st.integers(1, 6), st.sampled_from(NAMES)),
    ruled=st.fixed_dictionaries({
        "most_per_category": st.integers(0, 3), "category_levels": st.integers(1, 3),
        "weight": st.sampled_from([0.0, 0.4]),
    }),
    places=st.integers(0, 4),
    k=st.integers(1, 12),
)  # fmt: skip
def test_every_list_has_k_products_whenever_k_are_eligible(
    goods: dict[str, str | None], ranked: dict[tuple[str, str], float],
    fresh: dict[tuple[str, str], float], barred: set[tuple[str, str]], limited: set[str],
    refused: set[str], pins: dict[int, str], ruled: dict[str, object], places: int, k: int,
) -> None:  # fmt: skip
    limits = Limits(
        np.array([[each in limited] for each in sorted(goods)], dtype=bool).reshape(-1, 1),
        np.array([[each in refused] for each in WHO]),
    )
    what = offer(goods, ranked, people=dict.fromkeys(WHO, "any"), fresh=fresh, barred=barred,
                 limits=limits)  # fmt: skip
    rules = Rules.model_validate({
        "diversity": ruled, "exploration": {"places": places},
        "pins": [{"product": product, "place": place} for place, product in pins.items()],
    })  # fmt: skip
    lists = selection.top_k(what, rules, k)
    for name in WHO:
        mine = lists.filter(customer_id=name)
        may = {
            each for each in goods
            if (name, each) not in barred and not (each in limited and name in refused)
        }  # fmt: skip
        assert set(mine["product_id"]) <= may
        assert mine["product_id"].is_unique().all()
        assert mine.height == min(k, len(may))
        assert mine["rank"].to_list() == list(range(1, mine.height + 1))
        first = pins.get(1)
        if first in may and mine.height:
            assert mine["product_id"][0] == first
