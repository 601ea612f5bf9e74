"""Customers as vectors, on a shop whose tastes never cross a block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ecom_tasks.recommendation import cold
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.training import two_tower
from ecom_tasks.training.two_tower import Catalogue, TwoTower
from tests.builders import block_shop
from tests.unit.recommendation.shops import block_of, snapshot

CONFIG = RecommendationConfig(embedding_size=8, vocabulary=256, epochs=30, batch_size=64)
SHOP = block_shop(weeks=6, goods=12)
SNAPSHOT = snapshot(SHOP, SHOP.as_of)


@pytest.fixture(scope="module")
def known() -> Catalogue:
    return two_tower.catalogue(cold.content(SNAPSHOT, SHOP.products), CONFIG.vocabulary)


@pytest.fixture(scope="module")
def towers(known: Catalogue) -> TwoTower:
    return two_tower.train(SNAPSHOT.pairs, known, cold.dials(CONFIG))


def test_a_customers_vector_is_of_length_one_and_points_at_the_own_block(
    towers: TwoTower, known: Catalogue
) -> None:
    found = cold.customer_embeddings(towers, known, SNAPSHOT)
    assert found.schema == {"customer_id": pl.String, "embedding": pl.Array(pl.Float32, 8)}
    assert found["customer_id"].to_list() == SNAPSHOT.customers["customer_id"].sort().to_list()
    vectors = found["embedding"].to_numpy()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert (vectors == vectors.round(6)).all()
    nearest = (vectors @ two_tower.embed(towers.product, known.words).T).argmax(axis=1)
    both = found.select("customer_id").with_columns(product_id=known.product_ids.gather(nearest))
    assert both.select((block_of("customer_id") == block_of("product_id")).mean()).item() > 0.95


def test_the_vectors_propose_what_the_towers_propose(towers: TwoTower, known: Catalogue) -> None:
    everything = known.product_ids
    proposed = cold.propose(towers, known, SNAPSHOT, everything, k=1).filter(rank=1)
    customers = cold.customer_embeddings(towers, known, SNAPSHOT)
    products = pl.DataFrame({
        "product_id": everything,
        "vector": pl.Series(two_tower.embed(towers.product, known.words)),
    })
    both = proposed.join(customers, on="customer_id").join(products, on="product_id")
    cosine = (both["embedding"].to_numpy() * both["vector"].to_numpy()).sum(axis=1)
    assert cosine == pytest.approx(both["score"].to_numpy(), abs=1e-5)


def test_customers_without_a_known_product_have_no_vector(
    towers: TwoTower, known: Catalogue
) -> None:
    first = SNAPSHOT.pairs.head(1)
    stranger = first.with_columns(customer_id=pl.lit("zoe"), product_id=pl.lit("unknown"))
    some = cold.customer_embeddings(
        towers, known, replace(SNAPSHOT, pairs=pl.concat([first, stranger]))
    )
    assert some["customer_id"].to_list() == first["customer_id"].to_list()
    none = cold.customer_embeddings(towers, known, replace(SNAPSHOT, pairs=stranger))
    assert none.is_empty()
    assert none.schema == some.schema


def test_plain_offers_are_the_best_sold_and_those_of_the_own_categories() -> None:
    content = cold.content(SNAPSHOT, SHOP.products)
    fresh = pl.Series("product_id", [f"b{block}-p{n:02d}" for block in range(4) for n in (10, 11)])
    # Nobody has these yet, so that all of them are new to everyone.
    pairs = SNAPSHOT.pairs.filter(~pl.col("product_id").is_in(fresh.implode()))
    offers = cold.plainly(replace(SNAPSHOT, pairs=pairs), content, fresh, k=2)
    assert set(offers) == {cold.POPULAR, cold.CATEGORY}
    for name, offered in offers.items():
        assert offered.columns == ["customer_id", "product_id", "score", "generator", "rank"]
        assert set(offered["generator"]) == {name}
        assert set(offered.group_by("customer_id").len()["len"]) == {2}
    # Unsold, they are offered by id; or as far as the customer buys from their category.
    assert set(offers[cold.POPULAR]["product_id"]) == {"b0-p10", "b0-p11"}
    own = block_of("customer_id") == block_of("product_id")
    assert offers[cold.CATEGORY].select(own.all()).item()


def test_plain_offers_leave_out_what_the_customer_has() -> None:
    content = cold.content(SNAPSHOT, SHOP.products)
    everything = SHOP.products["product_id"]
    for offered in cold.plainly(SNAPSHOT, content, everything, k=5).values():
        both = offered.join(SNAPSHOT.pairs, on=["customer_id", "product_id"], how="semi")
        assert both.is_empty()
