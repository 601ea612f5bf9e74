"""Rules: nothing forbidden is listed, and no list is shorter than it could be."""

from __future__ import annotations

from datetime import date

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from ecom_tasks.recommendation import rules
from ecom_tasks.recommendation.config import RecommendationConfig

PRODUCTS = [f"p{i}" for i in range(8)]
CONFIG = RecommendationConfig()


@given(
    scores=st.dictionaries(st.sampled_from(PRODUCTS), st.floats(-5, 5), min_size=1),
    allowed=st.sets(st.sampled_from(PRODUCTS)),
    k=st.integers(1, 9),
)
def test_a_list_has_k_products_whenever_k_are_eligible(
    scores: dict[str, float], allowed: set[str], k: int
) -> None:
    scored = pl.DataFrame({
        "customer_id": ["ann"] * len(scores),
        "product_id": list(scores),
        "score": list(scores.values()),
        "generator": ["repeat"] * len(scores),
    })
    popular = pl.DataFrame({"product_id": PRODUCTS, "score": [9.0 - i for i in range(8)]})
    eligible = pl.DataFrame({"product_id": sorted(allowed)}, schema={"product_id": pl.String})
    listed = rules.top_k(scored, eligible, popular, k)
    assert set(listed["product_id"]) <= allowed
    assert listed.height == min(k, len(allowed))
    assert listed["product_id"].n_unique() == listed.height
    assert listed["rank"].to_list() == list(range(1, listed.height + 1))
    ranked = sorted((p for p in scores if p in allowed), key=lambda p: (-scores[p], p))
    assert listed["product_id"].to_list()[: len(ranked)] == ranked[:k]


def catalogue() -> pl.DataFrame:
    return pl.DataFrame({
        "product_id": ["fresh", "stale", "wine", "winegum", "secret", "gone"],
        "category": ["Food", "Food", "Drinks/Wine", "Drinks/Winegum", None, "Food"],
        "days_since_last_sale": [0.0, 85.0, 1.0, 1.0, 1.0, 1.0],
    })


def test_each_rule_takes_out_what_it_names() -> None:
    config = RecommendationConfig(
        excluded_products=("secret",), excluded_categories=("Drinks/Wine",), stale_days=84
    )
    stock = pl.DataFrame({
        "product_id": ["gone", "gone", "fresh", "fresh"],
        "location_id": ["north", "north", "north", "south"],
        "snapshot_on": [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 2), date(2024, 1, 1)],
        "on_hand": [5.0, 0.0, 0.0, 1.0],
    })
    found = rules.eligible(catalogue(), stock, config)["product_id"].to_list()
    assert found == ["fresh", "winegum"]


def test_without_stock_everything_on_sale_is_eligible() -> None:
    found = rules.eligible(catalogue(), None, CONFIG)["product_id"].to_list()
    assert found == ["fresh", "gone", "secret", "wine", "winegum"]
