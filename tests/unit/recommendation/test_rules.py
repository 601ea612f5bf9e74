"""Rules stand inside top-k: lists are full whenever enough eligible products exist."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecom_tasks.recommendation import rules
from ecom_tasks.recommendation.config import RecommendationConfig
from tests import builders

PRODUCTS = pl.DataFrame({
    "product_id": ["ale", "beer", "jam", "old"],
    "category": ["drinks/beer", "drinks/beer/dark", "drinksome", None],
    "days_since_last_sale": [0.0, 84.0, 1.0, 85.0],
})


def eligible(stock: pl.DataFrame | None = None, **settings: object) -> list[str]:
    config = RecommendationConfig(**settings)  # type: ignore[arg-type]
    return rules.eligible(PRODUCTS, stock, config)["product_id"].to_list()


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, ["ale", "beer", "jam"]),
        ({"stale_days": 100}, ["ale", "beer", "jam", "old"]),
        ({"excluded_products": ("jam",)}, ["ale", "beer"]),
        ({"excluded_categories": ("drinks",)}, ["jam"]),
        ({"excluded_categories": ("drinks/beer/dark",)}, ["ale", "jam"]),
    ],
)
def test_eligible_products(settings: dict[str, object], left: list[str]) -> None:
    assert eligible(**settings) == left


def test_a_product_that_the_latest_count_finds_nowhere_is_left_out() -> None:
    def counted(product: str, location: str, on: int, hand: float) -> dict[str, object]:
        return {"product_id": product, "location_id": location,
                "snapshot_on": builders.day(on), "on_hand": hand}  # fmt: skip

    stock = builders.table(
        builders.tables.STOCK,
        [
            counted("ale", "north", 0, 5), counted("ale", "north", 1, 0),
            counted("jam", "north", 1, 0), counted("jam", "south", 0, 2),
        ],
    )  # fmt: skip
    assert eligible(stock) == ["beer", "jam"]  # of beer nothing is known


NAMES = [f"p{n}" for n in range(8)]
scores = st.dictionaries(
    st.tuples(st.sampled_from(["ann", "bob"]), st.sampled_from(NAMES)),
    st.floats(-5, 5),
    min_size=1,
)


@given(scored=scores, allowed=st.sets(st.sampled_from(NAMES)), k=st.integers(1, 10))
def test_every_list_has_k_products_whenever_k_are_eligible(
    scored: dict[tuple[str, str], float], allowed: set[str], k: int
) -> None:
    frame = pl.DataFrame(
        [(*pair, value, "als") for pair, value in scored.items()],
        schema=["customer_id", "product_id", "score", "generator"], orient="row",
    )  # fmt: skip
    may = pl.DataFrame({"product_id": sorted(allowed)}, schema={"product_id": pl.String})
    liked = pl.DataFrame({"product_id": NAMES, "score": [float(n) for n in range(8, 0, -1)]})
    lists = rules.top_k(frame, may, liked, k)
    assert set(lists["product_id"]) <= allowed
    for customer in {customer for customer, _ in scored}:
        mine = lists.filter(customer_id=customer)
        assert mine.height == min(k, len(allowed))
        assert mine["rank"].to_list() == list(range(1, mine.height + 1))
        assert mine["product_id"].is_unique().all()
        own = mine.filter(generator="als")
        assert own["rank"].to_list() == list(range(1, own.height + 1))  # fill stands behind
        best = sorted(
            (value for (who, what), value in scored.items() if who == customer and what in allowed),
            reverse=True,
        )
        assert own["score"].to_list() == best[:k]
