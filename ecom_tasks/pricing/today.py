"""Where each product stands today: its price, its regular price, its cost, what it sells."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from ecom_tasks.errors import DataContractError
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import WEEK, last_week

_CENTS = 2
_SHOWN = 5
_PRICE_WEEKS = 5


def positions(panel: pl.DataFrame, catalogue: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Describe the products sold in the last `recent_weeks`.

    The current price is the upper median of the last five weekly prices: two weeks of a promotion
    among them do not pass for the price. Reference for floor and ceiling is the regular price, or
    the usual price paid where the shop gives none. Where it gives no unit cost, the usual price
    less `assumed_margin` stands for it.

    Parameters
    ----------
    panel : see `panel.weekly`, with category and department
    catalogue : product_id, unit_cost (store currency; null or not above zero: unknown)

    Returns
    -------
    DataFrame
        product_id, category, department, current_price, regular_price, unit_cost (all store
        currency per unit), assumed (whether the cost is), weekly_units (at the prices of those
        weeks), price_ratio (mean log of those prices over the current one, weighted by units).
    """
    start = last_week(panel) - timedelta(weeks=config.recent_weeks - 1)
    weekly = (
        panel
        .filter(pl.col(WEEK) >= start)
        .group_by("product_id", "category", "department", WEEK)
        .agg(pl.col("price").median(), pl.col("regular_price").median(), pl.col("units").sum())
        .sort("product_id", WEEK)
    )
    price, units = pl.col("price"), pl.col("units")
    current = price.tail(_PRICE_WEEKS).quantile(0.5, "higher").round(_CENTS)
    stood = (
        weekly
        .group_by("product_id", "category", "department")
        .agg(
            current.alias("current_price"),
            price.median().round(_CENTS).alias("usual_price"),
            pl.col("regular_price").median().round(_CENTS),
            (units.sum() / config.recent_weeks).alias("weekly_units"),
            ((units * price.log()).sum() / units.sum()).exp().alias("mean_price"),
        )
        .filter(pl.col("current_price") > 0)
    )
    cost = pl.when(pl.col("unit_cost") > 0).then(pl.col("unit_cost"))
    assumed = pl.col("usual_price") * (1 - config.assumed_margin)
    return (
        stood
        .join(catalogue.select("product_id", cost), on="product_id", how="left")
        .with_columns(
            pl.col("unit_cost").is_null().alias("assumed"),
            pl.col("unit_cost").fill_null(assumed),
            pl.coalesce("regular_price", "usual_price").alias("regular_price"),
            (pl.col("mean_price") / pl.col("current_price")).log().alias("price_ratio"),
        )
        .drop("usual_price", "mean_price")
        .sort("product_id")
    )


def check_costs(positions: pl.DataFrame, config: PricingConfig) -> None:
    """Refuse products without a unit cost, where the shop wants none assumed.

    Raises
    ------
    DataContractError
        `missing_cost` is `refuse` and costs are missing, with up to five products.
    """
    missing = positions.filter("assumed")
    if config.missing_cost == "refuse" and missing.height:
        raise DataContractError(
            f"products.unit_cost is missing, or not above zero, for {missing.height} of "
            f"{positions.height} products on sale",
            "Give it in products or in supply, or let pricing.missing_cost be 'assume': then a "
            f"margin of {config.assumed_margin:.0%} stands for it. Every price and the release in "
            "service stay",
            missing.select("product_id", "category", "current_price").head(_SHOWN).to_dicts(),
        )
