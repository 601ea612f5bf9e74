"""All that is learnt from the weeks before a day: elasticities, intervals, evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from ecom_tasks.errors import DataContractError
from ecom_tasks.pricing import controls, elasticity, evidence, nuisance, shrinkage, variation
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.nuisance import Nuisance
from ecom_tasks.pricing.panel import WEEK, fill_quiet_weeks


@dataclass(frozen=True)
class Fitted:
    """What `fit` found.

    Attributes
    ----------
    rows : weeks that taught, with what controls leave of demand and price
    later : rows of the weeks from the day on, with the same controls
    models : demand and price given the controls
    products : see `evidence.of_products`
    categories : see `evidence.of_categories`
    shop : one elasticity for all, its placebo, and how much the controls foretell
    """

    rows: pl.DataFrame
    later: pl.DataFrame
    models: Nuisance
    products: pl.DataFrame
    categories: pl.DataFrame
    shop: dict[str, Any]


def fit(panel: pl.DataFrame, before: date, config: PricingConfig) -> Fitted:
    """Learn the elasticities from the weeks before a day.

    Parameters
    ----------
    panel : see `panel.weekly`, with category and department
    before : the first day that is not learnt from

    Raises
    ------
    DataContractError
        Prices moved too little to learn anything, with the products that come closest.
    """
    known = panel.filter(pl.col(WEEK) < before)
    judged = variation.products(known, config)
    catalogue = known.select("product_id", "category", "department").unique().sort("product_id")
    moved = judged.filter(pl.col("variation") == variation.ENOUGH).select("product_id")
    if moved.height < config.min_products:
        raise _too_still(judged)
    rows = controls.prepare(
        fill_quiet_weeks(panel.join(moved, on="product_id", how="semi"), config.longest_quiet),
        before,
        config,
    )
    learnt, models = nuisance.partial_out(rows.filter(pl.col(WEEK) < before), config)
    pooled = elasticity.pooled(learnt, ["category"], config.confidence)
    own = elasticity.by_product(learnt, config)
    everyone = judged.join(catalogue, on="product_id").join(
        own.select("product_id", "own_estimate", "own_error"), on="product_id", how="left"
    )
    everyone = everyone.sort("product_id")
    products, drawn = shrinkage.shrink(everyone, pooled, config.confidence)
    products = products.join(
        drawn.select("category", "drawn_error"), on="category", how="left", maintain_order="left"
    ).with_columns((pl.col("weight_borrowed") * pl.col("drawn_error")).alias("shared_error"))
    categories = evidence.of_categories(
        variation.categories(judged, catalogue, config).join(drawn, on=["category", "department"]),
        pooled,
        elasticity.placebo(learnt, ["category"], config.confidence),
    )
    return Fitted(
        rows=learnt,
        later=rows.filter(pl.col(WEEK) >= before),
        models=models,
        products=evidence.of_products(products, categories, config),
        categories=categories,
        shop={
            "elasticity": elasticity.pooled(learnt, [], config.confidence).row(0, named=True),
            "placebo": elasticity.placebo(learnt, [], config.confidence).row(0, named=True),
            "foretold_by_controls": nuisance.explained(learnt),
        },
    )


def _too_still(judged: pl.DataFrame) -> DataContractError:
    reasons = judged["variation"].value_counts(sort=True).rows()
    shown = judged.sort("moved_weeks", "weeks", "product_id", descending=[True, True, False])
    return DataContractError(
        "Prices moved too little to learn how demand answers to them: "
        + "; ".join(f"{count} products: {reason}" for reason, count in reasons),
        "Every product keeps its price. Vary some prices for a few weeks (a price test), give a "
        "longer history, or loosen pricing.min_moved_weeks and pricing.move",
        shown.head(5).to_dicts(),
    )
