"""All that is learnt from the weeks before a day: elasticities, intervals, evidence.

The catalogue is learnt in parts (see `parts`) of whole categories, each by itself: levels,
controls, own and cross elasticities. What parts share is brought together afterwards from small
tables:
products are drawn towards categories and departments, cross effects towards zero, and the shop's
own figures are pooled.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from ecom_tasks.errors import DataContractError
from ecom_tasks.pricing import (
    controls,
    cross,
    elasticity,
    evidence,
    instruments,
    nuisance,
    placebo,
    pooling,
    shrinkage,
    variation,
)
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.nuisance import Nuisance
from ecom_tasks.pricing.panel import WEEK, fill_quiet_weeks

_SEED = 11


@dataclass(frozen=True)
class Estimates:
    """What the products of one part tell; small beside their rows.

    Attributes
    ----------
    own : see `elasticity.by_product`
    tested : product_id and what `placebo` and `nuisance.left_of_price` say of it; None if not asked
    pooled, placebo : see `pooling.pooled`, by category
    cross : see `cross.measure`; None if not asked
    shop, shop_placebo : what the part adds to one elasticity for all, and to its placebo
    foretold : see `nuisance.moments`
    """

    own: pl.DataFrame
    tested: pl.DataFrame | None
    pooled: pl.DataFrame
    placebo: pl.DataFrame
    cross: pl.DataFrame | None
    shop: pooling.Sums
    shop_placebo: pooling.Sums
    foretold: pl.DataFrame


@dataclass(frozen=True)
class Told:
    """What one part of the catalogue tells the whole.

    Attributes
    ----------
    judged : see `variation.products`
    catalogue : product_id, category, department
    estimates : None where prices of too few products moved enough
    """

    judged: pl.DataFrame
    catalogue: pl.DataFrame
    estimates: Estimates | None


@dataclass(frozen=True)
class Learnt:
    """One part of the catalogue, learnt.

    Attributes
    ----------
    told : what the others are told of it
    rows : weeks that taught, with what controls leave of demand and price
    later : rows of the weeks from the day on, with the same controls
    models : demand and price given the controls
    solved : see `elasticity.solve`, by product; None unless the whole was asked for
    The latter four are None where there are no estimates.
    """

    told: Told
    rows: pl.DataFrame | None = None
    later: pl.DataFrame | None = None
    models: Nuisance | None = None
    solved: pl.DataFrame | None = None


@dataclass(frozen=True)
class Fitted:
    """What all parts tell together.

    Attributes
    ----------
    products : see `evidence.of_products`
    categories : see `evidence.of_categories`
    cross : see `cross.shrink`; empty where it was not asked for
    shop : one elasticity for all, its placebo, and how much the controls foretell
    """

    products: pl.DataFrame
    categories: pl.DataFrame
    cross: pl.DataFrame
    shop: dict[str, Any]


def fit(
    panel: pl.DataFrame,
    before: date,
    config: PricingConfig,
    together: pl.DataFrame | None = None,
) -> Fitted:
    """Learn all elasticities of a panel that fits in memory, see `learn` and `pool`."""
    return pool([learn(panel, before, config, together).told], config)


def learn(
    panel: pl.DataFrame,
    before: date,
    config: PricingConfig,
    together: pl.DataFrame | None = None,
    *,
    whole: bool = True,
) -> Learnt:
    """Learn the elasticities of whole categories from the weeks before a day.

    Parameters
    ----------
    panel : see `panel.weekly`, with category and department
    before : the first day that is not learnt from
    together : pairs of products that may feel each other's price, see `cross.measure`
    whole : also cross effects, and placebo and permutation of each product
    """
    panel = _numbered(panel)
    known = panel.filter(pl.col(WEEK) < before)
    judged = variation.products(known, config)
    catalogue = known.select("product_id", "category", "department").unique().sort("product_id")
    moved = judged.filter(pl.col("variation") == variation.ENOUGH).select("product_id")
    if moved.height < config.min_products:
        return Learnt(Told(_named(judged), _named(catalogue), None))
    rows = controls.prepare(
        fill_quiet_weeks(panel.join(moved, on="product_id", how="semi"), config.longest_quiet),
        before,
        config,
    )
    taught = instruments.add(rows.filter(pl.col(WEEK) < before), config)
    if config.instrument != "none":
        judged = instruments.with_one(judged, taught)
        if taught["product_id"].n_unique() < config.min_products:
            return Learnt(Told(_named(judged), _named(catalogue), None))
    learnt, models, further = nuisance.partial_out(taught, config)
    if config.instrument != "none":
        judged = instruments.judge(judged, instruments.first_stage(learnt, config))
        strong = judged.filter(pl.col("variation") == variation.ENOUGH)
        if strong.height < config.min_products:
            return Learnt(Told(_named(judged), _named(catalogue), None))
        learnt = learnt.join(strong, on="product_id", how="semi", maintain_order="left")
    prepared, pairs = elasticity.prepare(learnt, further), None
    alone, near = elasticity.solve_near(learnt, ["product_id"], prepared)
    if whole:
        pairs = cross.measure(learnt, config, together, prepared, near)
        learnt = cross.with_effect(learnt, cross.shrink(pairs, config))
        alone, near = elasticity.solve_near(learnt, ["product_id"], prepared, near)
    category, shop = (
        elasticity.solve_near(learnt, by, prepared, near)[0] for by in (["category"], [])
    )
    estimates = _estimate(learnt, (alone, category, shop), pairs, config)
    told = Told(_named(judged), _named(catalogue), estimates)
    later = _named(rows.filter(pl.col(WEEK) >= before))
    return Learnt(told, _named(learnt), later, models, _named(alone) if whole else None)


def _numbered(panel: pl.DataFrame) -> pl.DataFrame:
    """Let names be numbers in their order: sorting and grouping by text takes twice the time."""
    return panel.with_columns(
        pl.col(name).cast(pl.Enum(panel[name].unique().sort()))
        for name in ("product_id", "location_id", "category", "department")
    )


def _named(rows: pl.DataFrame) -> pl.DataFrame:
    """Let names be text again, as they are in other parts of the shop."""
    return rows.with_columns(pl.selectors.enum().cast(pl.String))


def _estimate(
    rows: pl.DataFrame,
    solved: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame],
    pairs: pl.DataFrame | None,
    config: PricingConfig,
) -> Estimates:
    """Sum up what was solved by product, by category and for all."""
    alone, category, shop = solved
    return Estimates(
        own=_named(elasticity.by_product(alone, config)),
        tested=None if pairs is None else _named(_tested(alone, config)),
        pooled=_named(pooling.pooled(category, ["category"], config.confidence)),
        placebo=_named(
            pooling.pooled(placebo.ahead(category, ["category"]), ["category"], config.confidence)
        ),
        cross=pairs,
        shop=pooling.sums(shop),
        shop_placebo=pooling.sums(placebo.ahead(shop, [])),
        foretold=nuisance.moments(rows),
    )


def _tested(solved: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Return placebo, placebo_lower, placebo_upper, p_value and price_left_share by product."""
    rotated = placebo.permutation(solved, ["product_id"], config.permutations, _SEED)
    left = nuisance.left_of_price(solved)
    following = placebo.by_product(solved, config)
    return rotated.join(following, on="product_id", how="left").join(left, on="product_id")


def pool(parts: list[Told], config: PricingConfig) -> Fitted:
    """Bring all parts together.

    Raises
    ------
    DataContractError
        Prices moved too little to learn anything, with the products that come closest.
    """
    judged = pl.concat([part.judged for part in parts], how="diagonal").sort("product_id")
    catalogue = pl.concat([part.catalogue for part in parts]).sort("product_id")
    told = [part.estimates for part in parts if part.estimates]
    if not told:
        raise _too_still(judged)
    pooled, placebos, own = (
        pl.concat([getattr(each, name) for each in told]) for name in ("pooled", "placebo", "own")
    )
    pairs = cross.shrink(
        pl.concat([each.cross for each in told if each.cross is not None] or [cross.empty()]),
        config,
    )
    everyone = (
        judged
        .join(catalogue, on="product_id")
        .join(own.select("product_id", "own_estimate", "own_error"), on="product_id", how="left")
        .sort("product_id")
    )
    products, drawn = shrinkage.shrink(everyone, pooled, config.confidence)
    products = products.join(
        drawn.select("category", "drawn_error"), on="category", how="left", maintain_order="left"
    ).with_columns((pl.col("weight_borrowed") * pl.col("drawn_error")).alias("shared_error"))
    tested = [each.tested for each in told if each.tested is not None]
    if tested:
        products = products.join(
            pl.concat(tested), on="product_id", how="left", maintain_order="left"
        )
    categories = evidence.of_categories(
        variation.categories(judged, catalogue, config).join(drawn, on=["category", "department"]),
        pooled,
        placebos,
    )
    places = pl.concat([each.shop.by_location for each in told])["unit"].n_unique()
    return Fitted(
        products=evidence.of_products(
            instruments.told(products, config), categories, config, places
        ),
        categories=categories,
        cross=pairs,
        shop={
            "elasticity": _only(
                pooling.over_parts([each.shop for each in told], config.confidence)
            ),
            "placebo": _only(
                pooling.over_parts([each.shop_placebo for each in told], config.confidence)
            ),
            "foretold_by_controls": nuisance.explained(pl.concat([each.foretold for each in told])),
            "cross_effects_found": int(pairs["found"].sum()),
        },
    )


def _only(found: pl.DataFrame) -> dict[str, Any]:
    """Return the one row; nulls where a single cluster gives no interval."""
    if found.is_empty():
        return dict.fromkeys(found.columns)
    return found.row(0, named=True)


def _too_still(judged: pl.DataFrame) -> DataContractError:
    reasons = judged["variation"].value_counts(sort=True).rows()
    if judged["variation"].is_in([instruments.WEAK, instruments.MISSING]).any():
        known = [name for name in ("first_stage_f",) if name in judged.columns]
        strongest = judged.sort(known, descending=True, nulls_last=True) if known else judged
        return DataContractError(
            "The instrument moves prices too little to learn from it how demand answers: "
            + "; ".join(f"{count} products: {reason}" for reason, count in reasons),
            "A weak instrument answers at random (Staiger and Stock 1997). Every product keeps its "
            "price. Set pricing.instrument to another or to none, or test prices",
            strongest.head(5).to_dicts(),
        )
    shown = judged.sort("moved_weeks", "weeks", "product_id", descending=[True, True, False])
    return DataContractError(
        "Prices moved too little to learn how demand answers to them: "
        + "; ".join(f"{count} products: {reason}" for reason, count in reasons),
        "Every product keeps its price. Vary some prices for a few weeks (a price test), give a "
        "longer history, or loosen pricing.min_moved_weeks and pricing.move",
        shown.head(5).to_dicts(),
    )
