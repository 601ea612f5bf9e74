"""Interactions as a sparse matrix, for the generators that look across customers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ecom_tasks import texts

_MOST_ROWS = 1024
_GOOD_ROWS = 128
"""With fewer rows BLAS is busy with laying out its input."""
_NEAR = 1 << 20
"""Scores that stay near to the core, 4 MiB."""
_MOST = 1 << 24
"""Scores of a block at most, 64 MiB."""
_FOLDS = 16
_FOLDS_AGAIN = 4
_MOST_FIRST = (-pl.col("customers").cast(pl.Int64), "product_id")
_SMALL = 512
"""Rows or columns of a matrix that is decomposed at once."""
FloatMatrix = NDArray[np.float32]
IntArray = NDArray[np.integer]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Interactions:
    """Who bought what, as rows and columns.

    Attributes
    ----------
    customers, products : ids, ascending; their positions are the rows and columns
    orders : log(1 + orders), shape (customers, products)
    recent : log(1 + 3 * recency-weighted orders), same shape
    """

    customers: pl.DataFrame
    products: pl.DataFrame
    orders: sparse.csr_matrix
    recent: sparse.csr_matrix


def encode(parts: Iterable[pl.DataFrame], most_products: int) -> Interactions:
    """Build the matrices over the `most_products` products with the most customers.

    Every customer keeps a row, also one who bought none of these products.

    Memory: 12 bytes a pair, twice while parts are put together; never all pairs with their ids.

    Parameters
    ----------
    parts : customer_id, product_id, orders, recency_weighted_orders; a pair once, all pairs of a
        customer in one part. Gone through twice
    """
    return encode_among(parts, most_bought(parts, most_products))


def most_bought(parts: Iterable[pl.DataFrame], most_products: int) -> pl.DataFrame:
    """Return `numbered` the products with the most customers; see `by_customers`."""
    return numbered(by_customers(parts).head(most_products))


def by_customers(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return product_id and customers, the products with the most customers first.

    Parameters
    ----------
    parts : customer_id, product_id; a pair once in all of them
    """
    counts = pl.concat(
        texts.own(part.group_by("product_id").agg(pl.len().alias("customers"))) for part in parts
    )
    return counts.group_by("product_id").agg(pl.col("customers").sum()).sort(_MOST_FIRST)


def numbered(products: pl.DataFrame) -> pl.DataFrame:
    """Return product_id, ascending, and column: what `encode_among` encodes by."""
    return products.select("product_id").sort("product_id").with_row_index("column")


def encode_among(parts: Iterable[pl.DataFrame], products: pl.DataFrame) -> Interactions:
    """Build the matrices over given products; what was bought of others is left out.

    Parameters
    ----------
    parts : as for `encode`; gone through once
    products : of `numbered`
    """
    made = [_encoded(part, products) for part in parts]
    return made[0] if len(made) == 1 else _together(made, products)


def _together(parts: list[Interactions], products: pl.DataFrame) -> Interactions:
    """Put parts together, with the customers of all in the order of their ids; empties the list."""
    customers = pl.concat([each.customers.select("customer_id") for each in parts])
    order = customers["customer_id"].arg_sort().to_numpy()
    row_of = np.empty(len(order), dtype=np.int64)
    row_of[order] = np.arange(len(order))
    held = np.concatenate([np.diff(each.orders.indptr) for each in parts])
    starts = np.concatenate([[0], np.cumsum(held[order])])
    columns = np.empty(starts[-1], dtype=np.int32)
    orders, recent = np.empty((2, starts[-1]), dtype=np.float32)
    first = 0
    while parts:
        part = parts.pop(0)  # what is placed is let go of
        own, rows = part.orders.indptr, row_of[first : first + part.customers.height]
        place = np.arange(own[-1]) + np.repeat(starts[rows] - own[:-1], np.diff(own))
        columns[place], orders[place] = part.orders.indices, part.orders.data
        recent[place] = part.recent.data
        first += part.customers.height
    shape = (customers.height, products.height)
    places = sparse.csr_matrix((orders, columns, starts), shape=shape)
    return Interactions(
        customers.sort("customer_id").with_row_index("row"),
        products,
        orders=_canonical(orders, places),
        recent=_canonical(recent, places),
    )


def _encoded(interactions: pl.DataFrame, products: pl.DataFrame) -> Interactions:
    customers = texts.own(interactions.select("customer_id").unique().sort("customer_id"))
    customers = customers.with_row_index("row")
    row = _positions(interactions["customer_id"], customers["customer_id"])
    column = _positions(interactions["product_id"], products["product_id"])
    kept = column.is_not_null()
    at = (row.filter(kept).to_numpy(), column.filter(kept).to_numpy())
    del row, column
    # The places are sorted once, and both matrices share them; what is sorted is a place's number.
    places = sparse.csr_matrix(
        (np.arange(len(at[0]), dtype=np.int32), at), shape=(customers.height, products.height)
    )
    places.sort_indices()

    def matrix(values: pl.Series) -> sparse.csr_matrix:
        data = np.log1p(values.filter(kept).to_numpy()).astype(np.float32)[places.data]
        return _canonical(data, places)

    return Interactions(
        customers,
        products,
        orders=matrix(interactions["orders"]),
        recent=matrix(3 * interactions["recency_weighted_orders"]),
    )


def _canonical(data: NDArray[np.float32], places: sparse.csr_matrix) -> sparse.csr_matrix:
    """Put values at the places of another matrix, which both then share."""
    made = sparse.csr_matrix((data, places.indices, places.indptr), shape=places.shape)
    made.has_canonical_format = True
    return made


def narrowed(known: Interactions, most_products: int) -> Interactions:
    """Return what `encode` would build of no more than `most_products` products."""
    if known.products.height <= most_products:
        return known
    count = np.bincount(known.orders.indices, minlength=known.products.height)
    popular = known.products.with_columns(customers=count).sort(_MOST_FIRST).head(most_products)
    products = numbered(popular)
    at = popular["column"].sort().to_numpy()
    orders, recent = known.orders[:, at], known.recent[:, at]
    return Interactions(
        known.customers,
        products,
        orders=_canonical(orders.data, orders),
        recent=_canonical(recent.data, orders),
    )


def _positions(ids: pl.Series, among: pl.Series) -> pl.Series:
    """Return where each id stands in `among`, null where it does not; 4 bytes each."""
    return ids.cast(pl.Enum(among), strict=False).to_physical().cast(pl.Int32)


def blocks(rows: int, columns: int = 0) -> Iterator[slice]:
    """Cut rows into slices whose dense scores of `columns` each fit in memory."""
    size = _block(columns)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def _block(columns: int) -> int:
    columns = max(columns, 1)
    return max(1, min(_MOST_ROWS, max(_GOOD_ROWS, _NEAR // columns), _MOST // columns))


def in_threads(make: Callable[[slice], Made], parts: Iterable[slice]) -> list[Made]:
    """Call `make` for each part, a thread a core, and return what it makes, in order.

    BLAS gets one thread, since two pools fight for the cores; and so the last bits of a product of
    matrices do not depend on how many cores there are.
    """
    with (
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
    ):
        return list(pool.map(make, parts))


def inner_products(left: FloatMatrix, right: FloatMatrix) -> Callable[[slice], FloatMatrix]:
    """Return what scores some rows of `left` by their inner products with all of `right`.

    The rows are a block of `blocks(len(left), len(right))`. Each thread writes to the same place
    again and again: fresh memory would cost half as much as the multiplication.
    """
    turned = np.ascontiguousarray(right.T)
    of_thread = threading.local()

    def score(part: slice) -> FloatMatrix:
        if not hasattr(of_thread, "scores"):
            shape = (min(_block(len(right)), len(left)), len(right))
            of_thread.scores = np.empty(shape, dtype=np.float32)
        scores: FloatMatrix = of_thread.scores[: part.stop - part.start]
        return np.matmul(left[part], turned, out=scores)

    return score


def directions(
    matrix: sparse.csr_matrix, most: int, seed: int
) -> tuple[NDArray[np.float64], FloatMatrix]:
    """Return the largest singular values, at most `most`, and their right singular vectors.

    At least one is left out, so that the smallest one bounds what is not there.

    Returns
    -------
    shapes (directions,), largest first, and (columns, directions)
    """
    most = min(most, min(matrix.shape) - 1)
    if most < 1:
        return np.zeros(0), np.zeros((matrix.shape[1], 0), dtype=np.float32)
    # In double precision, so that the last bits of a float32 do not depend on the start.
    exact = matrix.astype(np.float64)
    if min(matrix.shape) <= _SMALL:
        _, values, turned = np.linalg.svd(exact.toarray(), full_matrices=False)
        return values[:most], turned[:most].T.astype(np.float32)
    start = np.random.default_rng(seed).standard_normal(min(matrix.shape))
    # Not PROPACK, which is quicker, and wrong where directions are equally strong.
    _, values, turned = svds(exact, most, v0=start, solver="arpack", return_singular_vectors="vh")
    order = np.argsort(-values, kind="stable")
    return values[order], turned[order].T.astype(np.float32)


def best_new(
    scores: FloatMatrix, owned: tuple[IntArray, IntArray], best: int, above: float = 0.0
) -> tuple[IntArray, FloatMatrix]:
    """Find the `best` columns of each row that are not owned; of equal scores the smaller column.

    Each row is folded into the maxima of disjoint groups of columns, and these once more. Every
    group holds columns of its own, so the k-th largest maximum is at most the k-th largest score:
    only the few groups, and in them the few scores, that reach this bound are looked at.

    Parameters
    ----------
    scores : shape (rows, columns), not NaN; those of owned columns are overwritten
    owned : rows and columns of what is left out
    above : only scores above it count

    Returns
    -------
    columns and scores, shape (rows, best or the number of columns if that is less), best first;
    where there is no more: column -1 and score minus infinity
    """
    rows, columns = scores.shape
    best = min(best, columns)
    scores[owned] = -np.inf
    folds, again = _folds(columns, best)
    width = columns // (folds * again) * again
    folded = folds * width
    top = scores[:, :folded].reshape(rows, folds, width).max(axis=1)
    coarse = top.reshape(rows, again, width // again).max(axis=1)
    bound = np.partition(coarse, -best, axis=1)[:, -best]
    kind = scores.dtype.type
    bound = np.maximum(bound, np.nextafter(kind(above), kind(np.inf)))

    flat = scores.reshape(-1)
    row, first = np.divmod(np.flatnonzero(top >= bound[:, None]), width)
    place = (row * columns + first)[:, None] + width * np.arange(folds)
    place = place[flat.take(place) >= bound[row][:, None]]
    row, column = np.nonzero(scores[:, folded:] >= bound[:, None])
    place = np.sort(np.concatenate([place, row * columns + folded + column]))

    row, column = np.divmod(place, columns)
    count = np.bincount(row, minlength=rows)
    nth = np.arange(len(place)) - (np.cumsum(count) - count)[row]
    shape = (rows, max(best, count.max(initial=0)))
    found = np.full(shape, -1, dtype=np.int32)
    found[row, nth] = column
    value = np.full(shape, -np.inf, dtype=scores.dtype)
    value[row, nth] = flat.take(place)
    order = np.argsort(-value, axis=1, kind="stable")[:, :best]
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(value, order, axis=1)


def _folds(columns: int, best: int) -> tuple[int, int]:
    """Return how often to fold a row, and its maxima again.

    Of groups several times as many as are asked for, few hold two of the best, and the bound is
    near to what it bounds.
    """
    most = columns // (4 * best)
    if most >= _FOLDS * _FOLDS_AGAIN:
        return _FOLDS, _FOLDS_AGAIN
    return max(1, min(_FOLDS, most)), 1


def owned_places(orders: sparse.csr_matrix) -> tuple[IntArray, IntArray]:
    """Return rows and columns of what was bought, as `best_new` takes them."""
    bought = orders.data > 0
    row = np.repeat(np.arange(orders.shape[0]), np.diff(orders.indptr))
    return row[bought], orders.indices[bought]


def own_and_best(
    known: Interactions, part: slice, scores: FloatMatrix, best: int, generator: str
) -> pl.DataFrame:
    """Return the scores of products the customers own, and of the `best` new ones of each.

    Parameters
    ----------
    part : rows of `known` that `scores` is about
    scores : shape (rows of part, products), higher is better; below or at 0: not proposed;
        overwritten

    Returns
    -------
    DataFrame with customer_id, product_id, score, generator
    """
    return _named(known, generator, _own_and_best(known, part, scores, best))


def own_and_best_of_all(
    known: Interactions, score: Callable[[slice], FloatMatrix], best: int, generator: str
) -> pl.DataFrame:
    """Do `own_and_best` for all customers, block by block and a thread a core.

    Parameters
    ----------
    score : makes the scores of some rows of `known`
    """
    found = in_threads(
        lambda part: _own_and_best(known, part, score(part), best), blocks(*known.orders.shape)
    )
    return _named(known, generator, *found)


_Found = tuple[IntArray, IntArray, FloatMatrix]
_NOTHING: _Found = (np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0, np.float32))


def _own_and_best(known: Interactions, part: slice, scores: FloatMatrix, best: int) -> _Found:
    scores = np.ascontiguousarray(scores)
    owned = owned_places(known.orders[part])
    own = scores[owned]
    column, value = best_new(scores, owned, best)
    row, nth = np.nonzero(column >= 0)
    rows = np.concatenate([owned[0][own > 0], row])
    columns = np.concatenate([owned[1][own > 0], column[row, nth]])
    order = np.lexsort((columns, rows))
    values = np.concatenate([own[own > 0], value[row, nth]])
    at = (rows[order] + part.start).astype(np.uint32)
    return at, columns[order].astype(np.uint32), values[order]


def _named(known: Interactions, generator: str, *found: _Found) -> pl.DataFrame:
    row, column, score = (np.concatenate(each) for each in zip(_NOTHING, *found, strict=True))
    return pl.DataFrame({
        "customer_id": known.customers["customer_id"].gather(row),
        "product_id": known.products["product_id"].gather(column),
        "score": score.astype(np.float64),
    }).with_columns(generator=pl.lit(generator))
