"""What may be recommended to whom."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from ecom_tasks import tables
from ecom_tasks.recommendation import eligibility, segments
from ecom_tasks.recommendation.eligibility import Shop
from ecom_tasks.recommendation.rules import Rules
from ecom_tasks.recommendation.snapshots import Snapshot
from tests import builders
from tests.unit.recommendation import shops

TODAY = builders.day(100)
IDS = ["ale", "beer", "jam", "old", "sofa"]
CATALOGUE = builders.products(
    [*IDS, "launched", "announced"],
    category=["drinks/beer", "drinks/beer/dark", "drinksome", None, "furniture", "food", "food"],
    brand=["Ours", None, "Ours", None, None, "Ours", None],
    unit_cost=[1.0, 1.0, None, 1.0, 9.0, 1.0, 1.0],
    regular_price=[None, None, None, None, None, 4.0, 4.0],
    launched_on=[None] * 5 + [TODAY - timedelta(days=3), TODAY + timedelta(days=1)],
)
LINES = builders.order_lines([
    builders.line("ann", "ale", builders.day(100), unit_price=2.0),
    builders.line("ann", "sofa", builders.day(90), unit_price=10.0),
    builders.line("bob", "beer", builders.day(16), unit_price=4.0),
    builders.line("bob", "jam", builders.day(99), unit_price=2.0),
    builders.line("bob", "old", builders.day(15), unit_price=2.0),
])


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    shop = builders.Shop(LINES, CATALOGUE, builders.promotions([]), TODAY)
    return shops.snapshot(shop, TODAY)


def shelf(snapshot: Snapshot, shop: Shop | None = None, **rules: object) -> pl.DataFrame:
    return eligibility.shelf(
        shops.overview(snapshot), shop or Shop(CATALOGUE), Rules.model_validate(rules)
    )


@pytest.mark.parametrize(
    ("ruled", "left"),
    [
        ({}, "ale beer jam launched sofa"),  # old: unsold for 85 days
        ({"stale_days": 85}, "ale beer jam launched old sofa"),
        ({"stale_days": 2}, "ale jam"),
        ({"never": {"products": ["jam"]}}, "ale beer launched sofa"),
        ({"never": {"categories": ["drinks"]}}, "jam launched sofa"),
        ({"never": {"categories": ["drinks/beer/dark"], "brands": ["Ours"]}}, "sofa"),
    ],
)
def test_what_is_on_the_shelf(snapshot: Snapshot, ruled: dict[str, object], left: str) -> None:
    found = shelf(snapshot, eligibility=ruled)
    assert found["product_id"].to_list() == left.split()
    assert found["bonus"].to_list() == [0.0] * found.height


def test_a_product_that_the_latest_count_finds_nowhere_is_left_out(snapshot: Snapshot) -> None:
    def counted(product: str, location: str, on: int, hand: float) -> dict[str, object]:
        return {"product_id": product, "location_id": location,
                "snapshot_on": builders.day(on), "on_hand": hand}  # fmt: skip

    stock = builders.table(
        tables.STOCK,
        [
            counted("ale", "north", 0, 5), counted("ale", "north", 1, 0),
            counted("jam", "north", 1, 0), counted("jam", "south", 0, 2),
        ],
    )  # fmt: skip
    left = shelf(snapshot, Shop(CATALOGUE, stock))["product_id"].to_list()
    assert left == ["beer", "jam", "launched", "sofa"]  # of beer nothing is known


def test_boosts_multiply_expected_orders(snapshot: Snapshot) -> None:
    boosts = [{"brands": ["Ours"], "factor": 3.0}, {"products": ["jam"], "factor": 0.5}]
    bonus = dict(shelf(snapshot, boosts=boosts).select("product_id", "bonus").iter_rows())
    assert np.exp(bonus["ale"]) == pytest.approx(3)
    assert np.exp(bonus["jam"]) == pytest.approx(3 * 0.5)
    assert bonus["beer"] == 0


def test_value_weighs_by_margin_and_assumes_one_where_no_cost_is_known(snapshot: Snapshot) -> None:
    value = {"of": "margin", "weight": 1.0, "assumed_margin": 0.5}
    bonus = dict(shelf(snapshot, value=value).select("product_id", "bonus").iter_rows())
    # Margins: ale 2-1, beer 4-1, jam half of 2, launched 4-1, sofa 10-9; their median is 1.
    assert {name: round(np.exp(each)) for name, each in bonus.items()} == {
        "ale": 1, "beer": 3, "jam": 1, "launched": 3, "sofa": 1,
    }  # fmt: skip


def test_value_can_be_revenue(snapshot: Snapshot) -> None:
    found = shelf(snapshot, value={"of": "revenue", "weight": 2.0})
    bonus = dict(found.select("product_id", "bonus").iter_rows())
    # Prices 2, 4, 2, 4, 10: relative to their median of 4, squared.
    assert np.exp(bonus["sofa"]) == pytest.approx((10 / 4) ** 2)
    assert np.exp(bonus["ale"]) == pytest.approx((2 / 4) ** 2)


def people(snapshot: Snapshot, rows: list[dict[str, object]]) -> pl.DataFrame:
    customers = builders.table(tables.CUSTOMERS, rows)
    named = segments.segments(snapshot.customers, customers)
    return eligibility.audience(
        shops.overview(snapshot), Shop(CATALOGUE, customers=customers), named
    )


def test_everyone_gets_a_list_also_who_has_not_ordered(snapshot: Snapshot) -> None:
    found = people(snapshot, [{"customer_id": "cy", "region": "north"}])
    assert found["customer_id"].to_list() == ["ann", "bob", "cy"]
    assert found["region"].to_list() == [None, None, "north"]
    assert found.filter(customer_id="cy")["segment"].item() == segments.NEW


def test_limits_keep_out_who_is_too_young_elsewhere_or_unknown(snapshot: Snapshot) -> None:
    ruled = Rules.model_validate({"eligibility": {
        "age_limits": [{"categories": ["drinks"], "years": 18}],
        "only_in": [{"products": ["jam"], "regions": ["north"]}],
    }})  # fmt: skip
    goods = shelf(snapshot)
    found = eligibility.limits(goods, people(snapshot, [
        {"customer_id": "ann", "birth_year": TODAY.year - 19, "region": "north"},
        # 18 in this year, perhaps not yet.
        {"customer_id": "bob", "birth_year": TODAY.year - 18, "region": "south"},
        {"customer_id": "cy"},
    ]), ruled, TODAY)  # fmt: skip
    named = {limit: goods.filter(pl.Series(found.goods[:, limit]))["product_id"].to_list()
             for limit in (0, 1)}  # fmt: skip
    assert named == {0: ["ale", "beer"], 1: ["jam"]}
    assert found.refused.tolist() == [[False, False], [True, True], [True, True]]


def test_what_is_owned_for_good_or_excluded_is_barred(snapshot: Snapshot) -> None:
    exclusions = builders.table(tables.EXCLUSIONS, [
        {"customer_id": "ann", "product_id": "jam"},
        {"customer_id": "bob", "product_id": "ale", "until": TODAY},
        {"customer_id": "bob", "product_id": "jam", "until": TODAY - timedelta(days=1)},
    ])  # fmt: skip
    durable = [{"categories": ["furniture"], "days": 11}, {"products": ["ale"], "days": 0 + 1}]

    def barred(**first: object) -> list[tuple[str, str]]:
        each = [durable[0] | first, durable[1]]
        ruled = Rules.model_validate({"eligibility": {"durable": each}})
        shop = Shop(CATALOGUE, exclusions=exclusions)
        return eligibility.barred(shops.overview(snapshot), shop, ruled).rows()

    # The sofa was ordered ten days ago, the ale today.
    assert barred() == [("ann", "ale"), ("ann", "jam"), ("ann", "sofa"), ("bob", "ale")]
    assert barred(days=10) == [("ann", "ale"), ("ann", "jam"), ("bob", "ale")]
