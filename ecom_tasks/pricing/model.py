"""All that is learnt from the weeks before a day: elasticities, intervals, evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from ecom_tasks.errors import DataContractError
from ecom_tasks.pricing import controls, cross, elasticity, evidence, nuisance, shrinkage, variation
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.nuisance import Nuisance
from ecom_tasks.pricing.panel import WEEK, fill_quiet_weeks

_SEED = 11


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
    cross : see `cross.estimate`; empty where it was not asked for
    shop : one elasticity for all, its placebo, and how much the controls foretell
    """

    rows: pl.DataFrame
    later: pl.DataFrame
    models: Nuisance
    products: pl.DataFrame
    categories: pl.DataFrame
    cross: pl.DataFrame
    shop: dict[str, Any]


def fit(
    panel: pl.DataFrame,
    before: date,
    config: PricingConfig,
    together: pl.DataFrame | None = None,
    *,
    whole: bool = True,
) -> Fitted:
    """Learn the elasticities from the weeks before a day.

    Parameters
    ----------
    panel : see `panel.weekly`, with category and department
    before : the first day that is not learnt from
    together : pairs of products that may feel each other's price, see `cross.estimate`
    whole : also cross effects, and placebo and permutation of each product

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
    pairs = cross.estimate(learnt, config, together) if whole else cross.empty()
    learnt = cross.with_effect(learnt, pairs)
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
    if whole:
        products = _tested(products, learnt, config)
    return Fitted(
        rows=learnt,
        later=rows.filter(pl.col(WEEK) >= before),
        models=models,
        products=evidence.of_products(
            products, categories, config, learnt["location_id"].n_unique()
        ),
        categories=categories,
        cross=pairs,
        shop={
            "elasticity": _only(elasticity.pooled(learnt, [], config.confidence)),
            "placebo": _only(elasticity.placebo(learnt, [], config.confidence)),
            "foretold_by_controls": nuisance.explained(learnt),
            "cross_effects_found": int(pairs["found"].sum()),
        },
    )


def _only(found: pl.DataFrame) -> dict[str, Any]:
    """Return the one row; nulls where a single cluster gives no interval."""
    if found.is_empty():
        return dict.fromkeys(found.columns)
    return found.row(0, named=True)


def _tested(products: pl.DataFrame, rows: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Add placebo, placebo_lower, placebo_upper, p_value and price_left_share of each product."""
    rotated = elasticity.permutation(rows, ["product_id"], config.permutations, _SEED)
    left = nuisance.left_of_price(rows)
    for tested in (elasticity.placebo_by_product(rows, config), rotated, left):
        products = products.join(tested, on="product_id", how="left", maintain_order="left")
    return products


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
