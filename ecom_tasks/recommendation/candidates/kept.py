"""What is kept of a fitted generator: enough to propose to anybody later, without the others.

A generator that learns across customers comes apart in two: `fit` on all of them, and `propose` to
some, by their own interactions alone. Whoever is proposed to later gets what he would have got
with all the others at his side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

_IDS = "product_id"


@dataclass(frozen=True)
class Kept:
    """A fitted generator.

    Attributes
    ----------
    products : product_id, ascending, and column: what it knows
    arrays : what it learnt, by name; the generator says what each of them is
    """

    products: pl.DataFrame
    arrays: Mapping[str, NDArray[Any]]


def flat(matrix: sparse.csr_matrix) -> dict[str, NDArray[Any]]:
    """Return a sparse matrix as arrays."""
    return {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}


def sparse_of(kept: Kept) -> sparse.csr_matrix:
    """Return the sparse matrix, shape (products, products), that `flat` took apart."""
    parts = (kept.arrays["data"], kept.arrays["indices"], kept.arrays["indptr"])
    return sparse.csr_matrix(parts, shape=(kept.products.height, kept.products.height))


def save(folder: Path, fitted: Mapping[str, Kept]) -> None:
    """Write one file a generator; same content, same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, kept in fitted.items():
        ids = np.array(kept.products[_IDS].to_list(), dtype=np.str_)
        arrays: dict[str, Any] = {_IDS: ids} | dict(kept.arrays)
        np.savez(folder / f"{name}.npz", **arrays)


def load(folder: Path) -> dict[str, Kept]:
    """Read what `save` wrote into the folder."""
    found = {}
    for file in sorted(folder.glob("*.npz")):
        with np.load(file, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        ids = pl.Series(_IDS, arrays.pop(_IDS).tolist(), dtype=pl.String)
        found[file.stem] = Kept(ids.to_frame().with_row_index("column"), arrays)
    return found
