"""Instruments: what moves a price and nothing else, where managers know more than the controls.

A manager who raises one product's price in one store because he sees that it will sell leaves no
trace that levels or controls could take off. What moves his price for other reasons does tell: what
the goods cost, or what the same product is sold for elsewhere in the week (Hausman 1996, "Valuation
of new goods under perfect and imperfect competition"), if what lifts demand here does not lift it
there. Demand, price and instrument lose what the controls explain of them, by the same models; the
moment condition of `elasticity` is then taken with the instrument's part of the price.

A weak instrument answers with confidence and at random. A product whose first-stage F lies below 10
(Staiger and Stock 1997, "Instrumental variables regression with weak instruments") has no answer.
"""

from __future__ import annotations

import polars as pl

from ecom_tasks.errors import DataContractError
from ecom_tasks.pricing import elasticity
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import SERIES, WEEK
from ecom_tasks.pricing.variation import ENOUGH

INSTRUMENT, COST = "instrument", "unit_cost"
LEAST_F = 10.0
WEAK = f"the instrument is weak: its first-stage F is below {LEAST_F:.0f}"
MISSING = "nothing is known that moves its price alone: no week has an instrument"


def add(rows: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Add the instrument, off its series' mean; rows that have none are dropped.

    Parameters
    ----------
    rows : see `controls.prepare`; for costs with unit_cost (store currency, of the week)

    Raises
    ------
    DataContractError
        There is nothing to make the instrument of.
    """
    if config.instrument == "none":
        return rows
    if config.instrument == "cost":
        if COST not in rows.columns:
            raise DataContractError(
                "pricing.instrument is 'cost', and the panel has no unit cost of each week",
                "Give prices.unit_cost (backtest: name its column with --cost), or set "
                "pricing.instrument to other_locations or none",
            )
        value = pl.when(pl.col(COST) > 0).then(pl.col(COST).log())
    else:
        if rows["location_id"].n_unique() < 2:
            raise DataContractError(
                "pricing.instrument is 'other_locations', and the panel has one location",
                "Set pricing.panel_level to product_location where stores sell enough, or "
                "pricing.instrument to none",
            )
        week = ["product_id", WEEK]
        price, others = pl.col("log_price"), pl.len().over(week) - 1
        value = pl.when(others > 0).then((price.sum().over(week) - price) / others)
    return (
        rows
        .with_columns(value.alias(INSTRUMENT))
        .drop_nulls(INSTRUMENT)
        .with_columns(pl.col(INSTRUMENT) - pl.col(INSTRUMENT).mean().over(SERIES))
    )


def first_stage(rows: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Ask how well the instrument tells each product's price, beside controls and promotions.

    Parameters
    ----------
    rows : see `nuisance.partial_out`, with an instrument

    Returns
    -------
    DataFrame
        product_id, first_stage_f: the squared ratio of the price's slope on the instrument to its
        standard error, clustered as elasticities are; null where nothing moves.
    """
    weight, moved = pl.col("weight"), pl.col("moved_by")
    slope = (weight * moved * pl.col("shock")).sum() / (weight * moved**2).sum()
    solved = (
        elasticity
        .solve(rows, ["product_id"])
        .with_columns(slope.over("product_id").alias("slope"))
        .with_columns(
            (pl.col("shock") - pl.col("slope") * moved).alias("rest"), moved.alias("shock"),
            moved.alias("lever"),
        )
    )  # fmt: skip
    found = elasticity.by_product(solved, config)
    ratio = pl.col("own_estimate") / pl.col("own_error")
    return found.select("product_id", (ratio**2).alias("first_stage_f"))


def with_one(judged: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Say of products that have no instrument that nothing can be learnt of them.

    Parameters
    ----------
    judged : see `variation.products`
    rows : see `add`
    """
    known = pl.col("product_id").is_in(rows["product_id"].unique().to_list())
    lacks = (pl.col("variation") == ENOUGH) & ~known
    return judged.with_columns(
        pl.when(lacks).then(pl.lit(MISSING)).otherwise("variation").alias("variation")
    )


def judge(judged: pl.DataFrame, strength: pl.DataFrame) -> pl.DataFrame:
    """Say of products whose instrument is weak that nothing can be learnt of them.

    Parameters
    ----------
    judged : see `with_one`
    strength : see `first_stage`
    """
    weak = ~(pl.col("first_stage_f") >= LEAST_F).fill_null(value=False)
    asked = pl.col("variation") == ENOUGH
    return judged.join(strength, on="product_id", how="left", maintain_order="left").with_columns(
        pl.when(asked & weak).then(pl.lit(WEAK)).otherwise("variation").alias("variation")
    )


def told(products: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Add `instrument`, by which each product's own estimate was found, and `first_stage_f`.

    Null where there is neither.
    """
    if config.instrument == "none":
        nothing = {"instrument": pl.String, "first_stage_f": pl.Float64}
        return products.with_columns(
            pl.lit(None, dtype=dtype).alias(name) for name, dtype in nothing.items()
        )
    used = pl.col("variation") == ENOUGH
    return products.with_columns(pl.when(used).then(pl.lit(config.instrument)).alias("instrument"))
