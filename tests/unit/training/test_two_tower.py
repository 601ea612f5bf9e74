"""The two-tower model finds a planted taste by content alone, and the same one each time."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import polars as pl
import pytest

from ecom_tasks.training import two_tower
from ecom_tasks.training.two_tower import Catalogue, Dials, TwoTower

DIALS = Dials(
    embedding_size=8, vocabulary=256, epochs=30, batch_size=64, largest_sample=10_000, seed=3
)
TASTES = ("tea", "screws")


def products() -> pl.DataFrame:
    return pl.DataFrame({
        "product_id": [f"{taste}{i}" for taste in TASTES for i in range(10)],
        "title": [f"{taste} number {i}" for taste in TASTES for i in range(10)],
        "category": [f"Shop/{taste}" for taste in TASTES for _ in range(10)],
        "brand": [None] * 20,
        "price": [1.0 + i for _ in TASTES for i in range(10)],
    })  # fmt: skip


def pairs() -> pl.DataFrame:
    """Twenty customers of each taste, who buy five of its first eight products."""
    rng = np.random.default_rng(5)
    rows = [
        (f"{taste}-lover{c}", f"{taste}{p}", 1.0 + p)
        for taste in TASTES
        for c in range(20)
        for p in sorted(rng.choice(8, 5, replace=False))
    ]
    return pl.DataFrame(
        rows, schema=["customer_id", "product_id", "recency_weighted_orders"], orient="row"
    )


@pytest.fixture(scope="module")
def known() -> Catalogue:
    return two_tower.catalogue(products(), DIALS.vocabulary)


@pytest.fixture(scope="module")
def towers(known: Catalogue) -> TwoTower:
    return two_tower.train([pairs()], known, DIALS)


def test_products_nobody_bought_go_to_those_who_like_their_kind(
    towers: TwoTower, known: Catalogue
) -> None:
    customers, words = two_tower.histories([pairs()], known)
    scores = (
        two_tower.embed(towers.customer, words) @ two_tower.embed(towers.product, known.words).T
    )
    never = known.product_ids.is_in(["tea8", "tea9", "screws8", "screws9"]).to_numpy()
    names = known.product_ids.filter(pl.Series(never))
    for customer, row in zip(customers, scores[:, never], strict=True):
        best = names[int(np.argmax(row))]
        assert best.rstrip("0123456789") == customer.split("-")[0]


def test_pairs_in_parts_train_the_same_towers(towers: TwoTower, known: Catalogue) -> None:
    tea = pl.col("customer_id").str.starts_with("tea")
    again = two_tower.train([pairs().filter(tea), pairs().filter(~tea)], known, DIALS)
    for one, other in ((towers.customer, again.customer), (towers.product, again.product)):
        assert all(map(np.array_equal, one.get_weights(), other.get_weights()))


def test_vectors_have_length_one(towers: TwoTower, known: Catalogue) -> None:
    vectors = two_tower.embed(towers.product, known.words)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(vectors)), abs=1e-5)


def test_the_same_training_gives_the_same_bytes(
    towers: TwoTower, known: Catalogue, tmp_path: Path
) -> None:
    again = two_tower.train([pairs()], known, DIALS)
    two_tower.save(towers.product, tmp_path / "a.keras")
    two_tower.save(again.product, tmp_path / "b.keras")
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    assert np.array_equal(
        two_tower.embed(loaded, known.words), two_tower.embed(towers.product, known.words)
    )


def test_words_go_from_special_to_general() -> None:
    assert two_tower._words("Green Tea, 20 bags", "Food/Tea", "Leaf", 3) == [
        "category Food/Tea", "category Food", "brand Leaf", "price 3",
        "title green", "title tea", "title 20", "title bags",
    ]  # fmt: skip
    assert two_tower._words(None, None, None, None) == []
