"""The fast choice of the best products beside the plain one."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from ecom_tasks.recommendation.candidates import matrix


def plain(scores: matrix.FloatMatrix, owned: np.ndarray, best: int, above: float) -> list[list]:
    """Sort all of a row; of equal scores the smaller column first."""
    return [
        sorted(
            ((-score, column) for column, score in enumerate(row)
             if score > above and not owned[at, column]),
        )[:best]
        for at, row in enumerate(scores.tolist())
    ]  # fmt: skip


# Few different scores make many ties; beyond 64 columns a fold the rows are folded.
@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 700) | st.integers(1, 12),
    best=st.integers(1, 40),
    different=st.sampled_from([1, 2, 50, 100_000]),
    share=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    above=st.sampled_from([0.0, -np.inf]),
    seed=st.integers(0, 1 << 30),
)
def test_the_best_new_are_those_of_a_plain_sort(
    rows: int, columns: int, best: int, different: int, share: float, above: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-different, different + 1, (rows, columns)).astype(np.float32)
    owned = rng.random((rows, columns)) < share
    wanted = plain(scores, owned, best, above)
    column, value = matrix.best_new(scores, np.nonzero(owned), best, above)
    assert column.shape == value.shape == (rows, min(best, columns))
    for at in range(rows):
        real = column[at] >= 0
        found = list(zip((-value[at, real]).tolist(), column[at, real].tolist(), strict=True))
        assert found == wanted[at]
        assert np.isneginf(value[at, ~real]).all()


@given(
    customers=st.integers(1, 6), products=st.integers(2, 300), best=st.integers(1, 9),
    seed=st.integers(0, 1 << 30),
)  # fmt: skip
def test_own_and_best_keeps_what_the_plain_form_keeps(
    customers: int, products: int, best: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pairs = pl.DataFrame([
        {"customer_id": f"c{row}", "product_id": f"p{column:03}",
         "orders": float(rng.integers(0, 3)), "recency_weighted_orders": 1.0}
        for row in range(customers)
        for column in range(products)
        if column == row or rng.random() < 0.3
    ])  # fmt: skip
    known = matrix.encode([pairs], products)
    shape = known.orders.shape
    scores = rng.standard_normal(shape).astype(np.float32)
    owned = known.orders.toarray() > 0
    new = np.where(owned, -np.inf, scores)
    keep = owned.copy()
    top = np.argsort(-new, axis=1)[:, :best]
    np.put_along_axis(keep, top, values=True, axis=1)
    row, column = np.nonzero(keep & (scores > 0))
    wanted = pl.DataFrame({
        "customer_id": known.customers["customer_id"].gather(row),
        "product_id": known.products["product_id"].gather(column),
        "score": scores[row, column].astype(np.float64),
    }).with_columns(generator=pl.lit("x"))
    part = slice(0, shape[0])
    assert matrix.own_and_best(known, part, scores.copy(), best, "x").equals(wanted)
    for size in (1, 4):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(matrix, "_MOST_ROWS", size)
            found = matrix.own_and_best_of_all(known, lambda at: scores[at].copy(), best, "x")
        assert found.equals(wanted)


def test_blocks_bound_the_scores_and_cover_every_row_once() -> None:
    for rows, columns in ((5000, 8), (5000, 100_000), (3, 10**9), (0, 5)):
        parts = list(matrix.blocks(rows, columns))
        assert [at for part in parts for at in range(part.start, part.stop)] == list(range(rows))
        assert all(
            (part.stop - part.start) * columns <= 1 << 24 or part.stop - part.start == 1
            for part in parts
        )


def forty_customers(seed: int) -> tuple[pl.DataFrame, tuple[np.ndarray, np.ndarray]]:
    """Return what they bought of 30 products, and its rows and columns."""
    rng = np.random.default_rng(seed)
    customers, products = np.nonzero(rng.random((40, 30)) < 0.2)
    pairs = pl.DataFrame({
        "customer_id": [f"c{each:02}" for each in customers],
        "product_id": [f"p{each:02}" for each in products],
        "orders": rng.integers(0, 9, len(products)).astype(float),
        "recency_weighted_orders": rng.random(len(products)),
    })
    return pairs, (customers, products)


def test_encoding_takes_pairs_in_any_order() -> None:
    pairs, at = forty_customers(3)
    popular = pairs.group_by("product_id").len().sort("len", "product_id", descending=[True, False])
    kept = popular["product_id"].head(20).sort()
    expected = pairs.pivot("product_id", index="customer_id", values="orders").sort("customer_id")
    known = matrix.encode([pairs.sample(fraction=1, shuffle=True, seed=1)], 20)
    assert known.products["product_id"].equals(kept)
    assert known.customers["customer_id"].equals(expected["customer_id"])
    wanted = np.log1p(expected.select(kept.to_list()).fill_null(0).to_numpy())
    assert known.orders.toarray() == pytest.approx(wanted, abs=1e-6)
    recent = np.log1p(3 * pairs["recency_weighted_orders"].to_numpy())
    dense = sparse.csr_matrix((recent, at), shape=(40, 30)).toarray()
    columns = [int(name[1:]) for name in kept]
    rows = [int(name[1:]) for name in known.customers["customer_id"]]
    assert known.recent.toarray() == pytest.approx(dense[rows][:, columns], abs=1e-6)
    for made in (known.orders, known.recent):
        assert made.has_canonical_format
        assert made.dtype == np.float32


def test_encoding_part_by_part_is_encoding_all_at_once() -> None:
    pairs, (customers, _) = forty_customers(4)
    part = pl.Series(customers * 7 % 3)
    parts = [pairs.filter(part == 2), pairs.clear(), pairs.filter(part == 0)]
    parts.append(pairs.filter(part == 1))
    for most in (99, 20, 1):
        whole, found = matrix.encode([pairs], most), matrix.encode(parts, most)
        same(found, whole)
    same(matrix.narrowed(matrix.encode(parts, 25), 20), matrix.encode([pairs], 20))


def same(found: matrix.Interactions, expected: matrix.Interactions) -> None:
    assert found.customers.equals(expected.customers)
    assert found.products.equals(expected.products)
    for name in ("orders", "recent"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.shape == other.shape
        assert all((getattr(one, of) == getattr(other, of)).all()
                   for of in ("data", "indices", "indptr"))  # fmt: skip
        assert one.has_canonical_format
    assert np.shares_memory(found.recent.indices, found.orders.indices)


def test_inner_products_of_every_block_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(5)
    left, right = (rng.standard_normal((rows, 4)).astype(np.float32) for rows in (2500, 7))
    score = matrix.inner_products(left, right)
    parts = matrix.in_threads(lambda part: score(part).copy(), matrix.blocks(2500, 7))
    assert np.concatenate(parts) == pytest.approx(left @ right.T, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("small", [512, 4])
def test_directions_are_the_largest_singular_values_and_vectors(
    monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(matrix, "_SMALL", small)
    random = np.random.default_rng(2)
    some = ((random.random((40, 25)) < 0.3) * random.random((40, 25))).astype(np.float32)
    apart = np.kron(np.eye(5), np.ones((8, 5))).astype(np.float32)
    for dense in (some, some.T, apart):
        values, vectors = matrix.directions(sparse.csr_matrix(dense), 4, 7)
        exact = np.linalg.svd(dense, compute_uv=False)
        assert values == pytest.approx(exact[:4], rel=1e-5)
        assert vectors.T @ vectors == pytest.approx(np.eye(4), abs=1e-5)
        assert np.linalg.norm(dense @ vectors, axis=0) == pytest.approx(exact[:4], rel=1e-4)
    assert len(matrix.directions(sparse.csr_matrix(some), 99, 7)[0]) == 24
    assert matrix.directions(sparse.csr_matrix(some[:1]), 4, 7)[1].shape == (25, 0)
