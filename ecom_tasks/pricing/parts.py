"""The catalogue in parts that fit in memory, each of whole categories.

Own and cross elasticities, levels and controls of a category know nothing of other categories (a
department's demand is that of its categories in the same part), so that a part is learnt by itself,
on one core, and tells the others little (see `model`). A shop that fits into one part is learnt in
this process.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import polars as pl

from ecom_tasks import compute
from ecom_tasks.pricing import logged, model, promotions, trials
from ecom_tasks.pricing.config import PricingConfig

R = TypeVar("R")
T = TypeVar("T")
# Rows that a nuisance model of a part learns from at least: with a hundred trees, more changes
# little, and all parts together see more than one model of the whole shop would.
_LEAST_NUISANCE_ROWS = 50_000


def split(sizes: pl.DataFrame, most: int) -> list[list[str]]:
    """Deal products into parts of about equal size, keeping categories whole.

    Departments lie together as far as that goes.

    Parameters
    ----------
    sizes : product_id, category, department, rows
    most : rows of a part; a part exceeds it by less than its largest category

    Returns
    -------
    The products of each part, sorted.
    """
    category = sizes.group_by("department", "category").agg(pl.col("rows").sum())
    category = category.sort("department", "category")
    count = max(math.ceil(int(category["rows"].sum()) / most), 1)
    middle = pl.col("rows").cum_sum() - pl.col("rows") / 2
    dealt = category.with_columns(
        (middle * count / pl.col("rows").sum()).floor().cast(pl.Int64).alias("part")
    )
    parts = (
        sizes
        .join(dealt.select("department", "category", "part"), on=["department", "category"])
        .sort("part", "product_id")
        .group_by("part", maintain_order=True)
        .agg("product_id")
    )
    return parts["product_id"].to_list()


def over(function: Callable[[T], R], parts: list[T], what: str) -> list[R]:
    """Apply `function` to each part (its products, or its file), on the cluster if several."""
    if len(parts) <= 1:
        return [function(part) for part in parts]
    return compute.map_buckets(function, parts, what)


def config_of_each(config: PricingConfig, count: int) -> PricingConfig:
    """Let the nuisance models of `count` parts share the rows that one would learn from.

    Of several parts each learns half as many trees, twice as strong: the same reach at half the
    cost.
    """
    rows = max(config.nuisance_rows // count, min(config.nuisance_rows, _LEAST_NUISANCE_ROWS))
    update: dict[str, float] = {"nuisance_rows": rows}
    if count > 1:
        update |= {
            "trees": max(config.trees // 2, 1),
            "learning_rate": min(config.learning_rate * 2, 1.0),
        }
    return config.model_copy(update=update)


@dataclass(frozen=True)
class Studied:
    """What one part's whole history tells.

    Attributes
    ----------
    told : see `model.learn`
    scorecard : see `promotions.scorecard`
    usual : see `trials.usual`
    ran : see `promotions.ran`
    decisions : see `logged.decisions`; None where there are no estimates
    """

    told: model.Told
    scorecard: pl.DataFrame
    usual: pl.DataFrame
    ran: promotions.Ran
    decisions: pl.DataFrame | None


def study(
    weeks: pl.DataFrame, before: date, config: PricingConfig, together: pl.DataFrame | None = None
) -> Studied:
    """Learn all that a part of the panel tells, see `panel.weekly`, with its categories."""
    learnt = model.learn(weeks, before, config, together)
    rows = learnt.rows
    return Studied(
        learnt.told,
        promotions.empty() if rows is None else promotions.scorecard(rows, weeks, config),
        trials.usual(weeks),
        promotions.ran(weeks),
        None if learnt.solved is None else logged.decisions(learnt.solved),
    )
