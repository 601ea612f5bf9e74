"""What the ranker knows: derivable figures, nothing from after the cutoff."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import ModuleType

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ecom_tasks.features import customers, interactions, products
from ecom_tasks.recommendation import candidates, features
from ecom_tasks.recommendation.config import RecommendationConfig
from tests import builders
from tests.builders import Shop, block_shop, line, promotion
from tests.unit.recommendation import shops
from tests.unit.recommendation.shops import snapshot

CONFIG = RecommendationConfig(als_factors=4, repeat_candidates=6)
FULL = block_shop(blocks=2, customers=6, goods=6, weeks=12)
CUTOFF = builders.day(8 * 7 - 1)
MONDAY = CUTOFF + timedelta(days=1)


def built(shop: Shop) -> pl.DataFrame:
    known = snapshot(shop, CUTOFF)
    return features.build(candidates.propose(known.interactions(3), shops.NOTHING, CONFIG), known)


def planned(*rows: dict[str, object]) -> Shop:
    return replace(FULL, promotions=builders.promotions(rows))


def test_columns_types_and_pairs() -> None:
    known = snapshot(FULL, CUTOFF)
    proposed = candidates.propose(known.interactions(3), shops.NOTHING, CONFIG)
    frame = features.build(proposed, known)
    assert frame.columns == ["customer_id", "product_id", *features.NAMES]
    assert len(set(features.NAMES)) == len(features.NAMES)
    assert set(frame.select(features.NAMES).dtypes) == {pl.Float32}
    assert frame.select("customer_id", "product_id").equals(
        proposed.select("customer_id", "product_id")
    )
    finite = frame.select(pl.col(features.NAMES).is_finite().fill_null(value=True).all())
    assert finite.row(0) == (True,) * len(features.NAMES)


def test_what_happens_after_the_cutoff_changes_nothing() -> None:
    later = [line("b0-c00", "b1-p00", MONDAY, 50, order_id=f"planted {n}") for n in range(9)]
    with_leak = replace(
        FULL, order_lines=pl.concat([FULL.order_lines, builders.order_lines(later)])
    )
    assert_frame_equal(built(with_leak), built(FULL), check_exact=True)


def test_ratios_by_hand() -> None:
    frame = built(FULL).filter(pl.col("is_new") == 0)
    two = frame.filter(pl.col("mean_days_between_orders") > 0)
    assert two.height > 0
    expected = two["days_since_last_order"] / two["mean_days_between_orders"]
    assert two["overdue"].to_list() == pytest.approx(expected.to_list(), rel=1e-5)
    shares = frame.group_by("customer_id", "category_recent_orders", "category_orders").agg(
        pl.col("category_own_share").sum()
    )
    # The shares of a category's own products add up to one, where all of them are candidates.
    assert (shares["category_own_share"] <= 1 + 1e-5).all()
    assert shares["category_own_share"].max() == pytest.approx(1)


def test_groups_sum_over_the_customers_products() -> None:
    known = snapshot(FULL, CUTOFF)
    row = built(FULL).filter(customer_id="b0-c00", is_new=0).row(0, named=True)
    brand = known.products.filter(product_id=row["product_id"])["brand"].item()
    same = known.products.filter(brand=brand)["product_id"].implode()
    mine = known.pairs.filter(
        (pl.col("customer_id") == "b0-c00") & pl.col("product_id").is_in(same)
    )
    assert row["brand_orders"] == mine["orders"].sum()
    assert row["brand_products"] == mine.height


@pytest.mark.parametrize(
    ("starts", "announced", "column"),
    [
        (MONDAY, CUTOFF, "next_display"),
        (MONDAY + timedelta(days=21), CUTOFF, "next_display"),
        (MONDAY - timedelta(days=28), None, "past_display"),
        (MONDAY + timedelta(days=28), CUTOFF, None),  # the fifth week from now
        (MONDAY, MONDAY, None),  # not known yet
        (MONDAY - timedelta(days=35), None, None),
    ],
)
def test_promotions_count_from_their_announcement(
    starts: object, announced: object, column: str | None
) -> None:
    ends = starts + timedelta(days=6)  # type: ignore[operator]
    shop = planned(promotion("b0-p00", starts, ends, announced_on=announced))  # type: ignore[arg-type]
    sums = built(shop).filter(product_id="b0-p00").select(
        pl.col("next_display", "past_display").mean()
    ).row(0, named=True)  # fmt: skip
    expected = {"next_display": 0.0, "past_display": 0.0} | ({column: 1.0} if column else {})
    assert sums == expected


def sees_the_future() -> bool:
    """Whether anything that happened after the cutoff shows in what is built for it."""
    before = FULL.order_lines.filter(pl.col("ordered_at").dt.date() <= CUTOFF)
    return not built(replace(FULL, order_lines=before)).equals(built(FULL))


@pytest.mark.parametrize(
    ("module", "guards"),
    [
        (customers, ["goods"]),
        (products, ["goods"]),
        # Orders are gathered once for several cutoffs, and bounded again for each.
        (interactions, ["goods", "_known_by"]),
    ],
)
def test_a_planted_leak_is_caught(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, guards: list[str]
) -> None:
    assert not sees_the_future()

    def late(guard: Callable[..., pl.LazyFrame]) -> Callable[..., pl.LazyFrame]:
        # The cutoff is where all features begin; a week too late is a week of the labels.
        return lambda *given: guard(*given[:-1], given[-1] + timedelta(days=7))

    for name in guards:
        monkeypatch.setattr(module, name, late(getattr(module, name)))
    assert sees_the_future()
