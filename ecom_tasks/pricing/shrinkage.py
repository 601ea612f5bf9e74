"""Empirical Bayes: thin products borrow from their category, it from its department, that from all.

Each estimate is taken as its truth plus noise of known size, each truth as its parent's plus a
difference whose size is learnt from all siblings. The share taken from the parent, noise variance /
(noise variance + difference variance), is reported as `weight_borrowed`.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

_LEVELS = ("product_id", "category", "department", "shop")
# Standard deviations of elasticities among siblings that are weighed against each other.
_ROOTS = np.linspace(0.05, 2.0, 40)
# No estimate is certain; keeps weights finite.
_LEAST_VARIANCE = 1e-6


def shrink(
    own: pl.DataFrame, categories: pl.DataFrame, confidence: float
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw product estimates towards their category, and categories towards their department.

    Parameters
    ----------
    own : product_id, category, department, own_estimate, own_error; the latter two null for a
        product that has no estimate of its own
    categories : category, standard_error of its pooled estimate, which allows for shocks that its
        products share; categories may be missing
    confidence : probability inside the interval

    Returns
    -------
    products : `own` with estimate, error (standard deviation), lower, upper and weight_borrowed (0:
        own data only, 1: the category's only)
    categories : category, department, drawn_estimate, drawn_error, weight_borrowed (from the
        department)

    Raises
    ------
    ValueError
        No product has an estimate.
    """
    everyone = own.with_columns(pl.lit("shop").alias("shop"))
    known = everyone.drop_nulls("own_estimate").select(
        *_LEVELS,
        pl.col("own_estimate").alias("estimate"),
        (pl.col("own_error") ** 2).clip(lower_bound=_LEAST_VARIANCE).alias("variance"),
    )
    if known.is_empty():
        raise ValueError("no product has an elasticity of its own")
    by_product = between(known, "category")
    category = _at_least(_means(known, "category", by_product), categories)
    by_category = between(category, "department")
    department = _means(category, "department", by_category)
    by_department = between(department, "shop")
    top = _means(department, "shop", by_department)
    departments = _draw(everyone, department, top, by_department)
    drawn = _draw(everyone, category, departments, by_category)
    products = _draw(everyone, known, drawn, by_product)
    half = pl.col("error") * float(stats.norm.ppf((1 + confidence) / 2))
    error = pl.col("variance").sqrt().alias("error")
    return own.join(
        products.with_columns(error).select(
            "product_id",
            "estimate",
            "error",
            (pl.col("estimate") - half).alias("lower"),
            (pl.col("estimate") + half).alias("upper"),
            "weight_borrowed",
        ),
        on="product_id",
    ).sort("product_id"), drawn.with_columns(error).select(
        "category",
        "department",
        pl.col("estimate").alias("drawn_estimate"),
        pl.col("error").alias("drawn_error"),
        "weight_borrowed",
    )


def between(children: pl.DataFrame, parent: str) -> Array:
    """Weigh how much true values differ around their parent's: a probability for each of `_ROOTS`.

    Restricted likelihood of normal estimates around one mean a parent, under an even prior. Keeping
    the whole distribution, not its peak, matters in a small shop: the likeliest difference is often
    zero by luck, and each product would be declared a copy of its category.

    Parameters
    ----------
    children : `parent`, estimate, variance (of the estimate's noise)

    Returns
    -------
    Array of shape (40,), sum 1.
    """
    noise, estimate = children["variance"].to_numpy()[:, None], children["estimate"].to_numpy()
    weight = 1 / (noise + _ROOTS**2)
    group = children[parent].rank("dense").cast(pl.Int64).to_numpy() - 1
    total, weighted = (
        np.zeros((group.max() + 1, len(_ROOTS))) for _ in range(2)
    )  # sums over the children of each parent
    np.add.at(total, group, weight)
    np.add.at(weighted, group, weight * estimate[:, None])
    off = estimate[:, None] - (weighted / total)[group]
    twice = np.log(weight).sum(axis=0) - np.log(total).sum(axis=0) - (weight * off**2).sum(axis=0)
    likelihood = np.exp((twice - twice.max()) / 2)
    return np.asarray(likelihood / likelihood.sum())


def _means(children: pl.DataFrame, parent: str, differences: Array) -> pl.DataFrame:
    weight = 1 / (pl.col("variance") + float(differences @ _ROOTS**2))
    return (
        children
        .group_by(_LEVELS[_LEVELS.index(parent) :])
        .agg(
            ((weight * pl.col("estimate")).sum() / weight.sum()).alias("estimate"),
            (1 / weight.sum()).alias("variance"),
        )
        .sort(parent)
    )


def _at_least(category: pl.DataFrame, pooled: pl.DataFrame) -> pl.DataFrame:
    """Keep a category's variance from falling below that of its pooled estimate."""
    least = (pl.col("standard_error") ** 2).alias("least")
    return category.join(
        pooled.select("category", least), on="category", how="left", maintain_order="left"
    ).with_columns(pl.max_horizontal("variance", "least").alias("variance"))


def _draw(
    everyone: pl.DataFrame, measured: pl.DataFrame, parents: pl.DataFrame, differences: Array
) -> pl.DataFrame:
    """Draw each child towards its parent; a child without estimate becomes its parent's.

    Parameters
    ----------
    everyone : all levels of each product, to know children without estimate
    measured : the children's own estimates
    parents : the level above, drawn already
    differences : see `between`
    """
    parent = next(level for level in _LEVELS if level in parents.columns)
    child = _LEVELS[_LEVELS.index(parent) - 1]
    above = parents.select(
        parent, pl.col("estimate").alias("mean"), pl.col("variance").alias("spread")
    )
    rows = (
        everyone
        .select(_LEVELS[_LEVELS.index(child) :])
        .unique()
        .sort(child)
        .join(measured.select(child, "estimate", "variance"), on=child, how="left")
        .join(above, on=parent, how="left")
        .sort(child)
    )
    noise = rows["variance"].fill_null(np.inf).to_numpy()[:, None]
    mean, spread = rows["mean"].to_numpy(), rows["spread"].to_numpy()
    off = (rows["estimate"].to_numpy() - mean)[:, None]
    own = _ROOTS**2 / (noise + _ROOTS**2)
    # Law of total variance over how much siblings may differ.
    shift = np.where(np.isinf(noise), 0.0, own * np.nan_to_num(off)) @ differences
    moved = np.where(np.isinf(noise), 0.0, own * np.nan_to_num(off)) - shift[:, None]
    share = 1 - own @ differences
    inside = ((1 - own) * _ROOTS**2 + moved**2) @ differences
    return rows.drop("mean", "spread").with_columns(
        pl.Series("estimate", mean + shift),
        pl.Series("variance", inside + share**2 * spread),
        pl.Series("weight_borrowed", share),
    )
