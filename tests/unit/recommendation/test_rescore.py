"""Lists made anew only for whom something changed are those of making all anew."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecom_tasks.recommendation import rescore, selection
from ecom_tasks.recommendation.rules import Rules
from ecom_tasks.recommendation.selection import Offer
from tests.unit.recommendation.test_selection import PLAIN, offer

RULES = Rules()
HOW = (RULES, 3, "day")
PEOPLE = {"ann": "new", "bob": "loyal", "eve": "loyal"}
RANKED = {("ann", "a"): 2.0, ("ann", "b"): 1.0, ("bob", "c"): 3.0, ("eve", "c"): 3.0}
OFFER = offer(PLAIN, RANKED, people=PEOPLE, fresh={("bob", "f"): 1.0})


def released(what: Offer, rules: Rules = RULES) -> tuple[pl.DataFrame, pl.DataFrame]:
    how = (rules, 3, "day")
    return selection.top_k(what, *how), rescore.fingerprints(what, *how)


def made_anew(
    monkeypatch: pytest.MonkeyPatch, what: Offer, rules: Rules = RULES
) -> tuple[list[str], pl.DataFrame]:
    """Return whose lists were made anew after OFFER was released, and all lists."""
    former, made = released(OFFER), []
    top_k = selection.top_k

    def watched(part: Offer, *how: object) -> pl.DataFrame:
        made.extend(part.people["customer_id"])
        return top_k(part, *how)  # type: ignore[arg-type]

    how = (rules, 3, "day")
    with monkeypatch.context() as patch:
        patch.setattr(selection, "top_k", watched)
        lists = rescore.top_k(what, how, rescore.fingerprints(what, *how), former)
    assert lists.equals(top_k(what, *how))
    return made, lists


def changed(**what: object) -> Offer:
    """Return OFFER with other contents."""
    given = {"ranked": RANKED, "people": PEOPLE, "fresh": {("bob", "f"): 1.0}} | what
    return offer(PLAIN, **given)  # type: ignore[arg-type]


def test_nothing_is_made_anew_where_nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = replace(OFFER, ranked=OFFER.ranked.reverse())
    assert made_anew(monkeypatch, shuffled)[0] == []


def test_what_is_a_customers_own_touches_that_customer_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, lists = made_anew(monkeypatch, changed(barred={("eve", "c")}))
    assert made == ["eve"]
    assert lists.filter(customer_id="eve", product_id="c").is_empty()
    assert made_anew(monkeypatch, changed(ranked=RANKED | {("ann", "a"): 0.5}))[0] == ["ann"]
    assert made_anew(monkeypatch, changed(people=PEOPLE | {"eve": "new"}))[0] == ["eve"]
    assert made_anew(monkeypatch, changed(people=PEOPLE | {"zoe": "new"}))[0] == ["zoe"]
    assert made_anew(monkeypatch, changed(fresh={("bob", "e"): 1.0}))[0] == ["bob"]
    without = {name: segment for name, segment in PEOPLE.items() if name != "bob"}
    made, lists = made_anew(monkeypatch, changed(people=without))
    assert made == []
    assert set(lists["customer_id"]) == {"ann", "eve"}


def test_what_all_share_touches_all(monkeypatch: pytest.MonkeyPatch) -> None:
    everyone = sorted(PEOPLE)
    assert made_anew(monkeypatch, changed(popular={(None, "d"): 2.0}))[0] == everyone
    assert made_anew(monkeypatch, changed(bonus={"b": 0.5}))[0] == everyone
    other = Rules.model_validate({"exploration": {"places": 0}})
    assert made_anew(monkeypatch, OFFER, other)[0] == everyone


def test_without_a_former_release_all_lists_are_made() -> None:
    marks = rescore.fingerprints(OFFER, *HOW)
    assert rescore.top_k(OFFER, HOW, marks, None).equals(selection.top_k(OFFER, *HOW))


@settings(max_examples=25)
@given(st.data())
def test_any_change_gives_what_making_all_anew_gives(data: st.DataObject) -> None:
    people, goods = st.sampled_from(sorted(PEOPLE)), st.sampled_from(sorted(PLAIN))
    pairs = st.dictionaries(st.tuples(people, goods), st.integers(0, 3).map(float), max_size=8)

    segments = st.fixed_dictionaries(dict.fromkeys(PEOPLE, st.sampled_from(["new", "loyal"])))
    parts = {"ranked": pairs, "fresh": pairs, "barred": pairs.map(set), "people": segments}
    before = {name: data.draw(part) for name, part in parts.items()}
    other = data.draw(st.sampled_from(sorted(parts)))
    first, after = changed(**before), changed(**before | {other: data.draw(parts[other])})
    marks = rescore.fingerprints(after, *HOW)
    found = rescore.top_k(after, HOW, marks, released(first))
    assert found.equals(selection.top_k(after, *HOW))
