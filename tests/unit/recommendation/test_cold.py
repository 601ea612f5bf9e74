"""Customers as vectors, on a shop whose tastes never cross a block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ecom_tasks.recommendation import cold
from ecom_tasks.recommendation.candidates import COLD
from ecom_tasks.recommendation.cold import Fitted
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.training import two_tower
from tests.builders import block_shop
from tests.unit.recommendation import shops
from tests.unit.recommendation.shops import block_of, snapshot

CONFIG = RecommendationConfig(embedding_size=8, vocabulary=256, epochs=30, batch_size=64)
SHOP = block_shop(weeks=6, goods=12)
SNAPSHOT = snapshot(SHOP, SHOP.as_of)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return cold.fit(shops.overview(SNAPSHOT), SHOP.products, CONFIG)


def offering(fitted: Fitted, fresh: pl.Series, pairs: pl.DataFrame) -> Fitted:
    """The same with other products to offer."""
    return replace(fitted, fresh=fresh, liked=cold.liked(fitted.content, fresh, [pairs]))


def test_a_customers_vector_is_of_length_one_and_points_at_the_own_block(fitted: Fitted) -> None:
    found = cold.customer_embeddings(fitted, shops.overview(SNAPSHOT).pairs)
    assert found.schema == {"customer_id": pl.String, "embedding": pl.Array(pl.Float32, 8)}
    assert found["customer_id"].to_list() == SNAPSHOT.customers["customer_id"].sort().to_list()
    vectors = found["embedding"].to_numpy()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert (vectors == vectors.round(6)).all()
    nearest = (vectors @ two_tower.embed(fitted.towers.product, fitted.known.words).T).argmax(
        axis=1
    )
    both = found.select("customer_id").with_columns(
        product_id=fitted.known.product_ids.gather(nearest)
    )
    assert both.select((block_of("customer_id") == block_of("product_id")).mean()).item() > 0.95


def test_the_vectors_propose_what_the_towers_propose(fitted: Fitted) -> None:
    everything, pairs = fitted.known.product_ids, SNAPSHOT.pairs
    proposed = cold.offers(offering(fitted, everything, pairs), [pairs], 1)[COLD].filter(rank=1)
    customers = cold.customer_embeddings(fitted, [pairs])
    products = pl.DataFrame({
        "product_id": everything,
        "vector": pl.Series(two_tower.embed(fitted.towers.product, fitted.known.words)),
    })
    both = proposed.join(customers, on="customer_id").join(products, on="product_id")
    cosine = (both["embedding"].to_numpy() * both["vector"].to_numpy()).sum(axis=1)
    assert cosine == pytest.approx(both["score"].to_numpy(), abs=1e-5)


def test_customers_without_a_known_product_have_no_vector(fitted: Fitted) -> None:
    first = SNAPSHOT.pairs.head(1)
    stranger = first.with_columns(customer_id=pl.lit("zoe"), product_id=pl.lit("unknown"))
    some = cold.customer_embeddings(fitted, [first, stranger])
    assert some["customer_id"].to_list() == first["customer_id"].to_list()
    none = cold.customer_embeddings(fitted, [stranger])
    assert none.is_empty()
    assert none.schema == some.schema


def test_plain_offers_are_the_best_sold_and_those_of_the_own_categories(fitted: Fitted) -> None:
    fresh = pl.Series("product_id", [f"b{block}-p{n:02d}" for block in range(4) for n in (10, 11)])
    # Nobody has these yet, so that all of them are new to everyone.
    pairs = SNAPSHOT.pairs.filter(~pl.col("product_id").is_in(fresh.implode()))
    plain = (cold.POPULAR, cold.CATEGORY)
    offers = cold.offers(offering(fitted, fresh, pairs), [pairs], 2, plain)
    assert set(offers) == set(plain)
    for name, offered in offers.items():
        assert offered.columns == ["customer_id", "product_id", "score", "generator", "rank"]
        assert set(offered["generator"]) == {name}
        assert set(offered.group_by("customer_id").len()["len"]) == {2}
    # Unsold, they are offered by id; or as far as the customer buys from their category.
    assert set(offers[cold.POPULAR]["product_id"]) == {"b0-p10", "b0-p11"}
    own = block_of("customer_id") == block_of("product_id")
    assert offers[cold.CATEGORY].select(own.all()).item()


def test_offers_leave_out_what_the_customer_has_and_need_not_see_all_at_once(
    fitted: Fitted,
) -> None:
    every = offering(fitted, SHOP.products["product_id"], SNAPSHOT.pairs)
    whole = cold.offers(every, [SNAPSHOT.pairs], 5)
    for offered in whole.values():
        both = offered.join(SNAPSHOT.pairs, on=["customer_id", "product_id"], how="semi")
        assert both.is_empty()
    for name, offered in cold.offers(every, shops.overview(SNAPSHOT).pairs, 5).items():
        assert_frame_equal(offered, whole[name], abs_tol=1e-6)
