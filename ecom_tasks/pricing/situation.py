"""What the other tables know of today's products: stock, delivery, rivals, expected demand.

Each column is null where the shop's data does not say; a rule that needs it then leaves the product
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

from ecom_tasks.pricing.guardrails import Guardrails
from ecom_tasks.pricing.panel import WEEK

_DAYS = 7
# Rounding and cents between stores are no change of a price.
_SAME = 0.005
RECENT = "recent weeks"


@dataclass(frozen=True)
class Known:
    """Tables that a shop may lack, then None.

    Attributes
    ----------
    stock, rivals : see `newest_stock` and `newest_rivals`
    supply : see `ecom_tasks.tables`
    forecasts : of an earlier release of inventory: product_id, location_id, week_starts_on, mean
    released : the version that they are of
    """

    stock: pl.DataFrame | None = None
    rivals: pl.DataFrame | None = None
    supply: pl.DataFrame | None = None
    forecasts: pl.DataFrame | None = None
    released: str = ""


def newest_stock(stock: pl.LazyFrame) -> pl.LazyFrame:
    """Keep product_id, on_hand and on_order of each place's newest count.

    Parameters
    ----------
    stock : see `ecom_tasks.tables`, whole products
    """
    return stock.filter(_newest("snapshot_on")).select("product_id", "on_hand", "on_order")


def newest_rivals(prices: pl.LazyFrame) -> pl.LazyFrame:
    """Keep product_id and competitor_price of each place's newest price of a rival.

    Parameters
    ----------
    prices : see `ecom_tasks.tables`, whole products
    """
    told = prices.filter(pl.col("competitor_price").is_not_null())
    return told.filter(_newest("valid_from")).select("product_id", "competitor_price")


def _newest(day: str) -> pl.Expr:
    return pl.col(day) == pl.col(day).max().over("product_id", "location_id")


def add(
    positions: pl.DataFrame, panel: pl.DataFrame, known: Known, guardrails: Guardrails, as_of: date
) -> pl.DataFrame:
    """Add what joint rules and scarcity need to know.

    Parameters
    ----------
    positions : see `today.positions`
    panel : see `panel.weekly`

    Returns
    -------
    positions with on_hand (units on the shelf and on order, all locations), cover_weeks (until more
    can be had), clear_weeks (until a date by which `guardrails` want the stock sold), key_value,
    competitor_price (store currency), weeks_since_change (null: its price never moved) and
    units_from; weekly_units are those of the forecast where it covers all places of the product.
    """
    rows = positions
    for part in (
        _stock(known.stock), _cover(known.supply), _rivals(known.rivals), _since_change(panel),
        _cleared(guardrails, as_of), _expected(known.forecasts, panel, as_of),
    ):  # fmt: skip
        rows = rows.join(part, on="product_id", how="left")
    forecast = pl.col("forecast_units").is_not_null()
    return rows.with_columns(
        pl.col("product_id").is_in(guardrails.key_value).alias("key_value"),
        pl.coalesce("forecast_units", "weekly_units").alias("weekly_units"),
        # A forecast is of the usual price: it needs no taking back from the prices paid of late.
        pl.when(forecast).then(0.0).otherwise("price_ratio").alias("price_ratio"),
        pl.when(forecast).then(pl.lit(known.released)).otherwise(pl.lit(RECENT)).alias("units_from"),
    ).drop("forecast_units").sort("product_id")  # fmt: skip


def reach(rows: pl.DataFrame) -> pl.Expr:
    """Units a week that there are until the next delivery; infinite where nothing is known."""
    if not {"on_hand", "cover_weeks"} <= set(rows.columns):
        return pl.lit(float("inf"))
    weeks = pl.col("cover_weeks").clip(lower_bound=1.0)
    return (pl.col("on_hand") / weeks).fill_null(float("inf"))


def _empty(**columns: pl.DataType) -> pl.DataFrame:
    return pl.DataFrame(schema={"product_id": pl.String(), **columns})


def _stock(stock: pl.DataFrame | None) -> pl.DataFrame:
    if stock is None:
        return _empty(on_hand=pl.Float64())
    return stock.group_by("product_id").agg(
        (pl.col("on_hand") + pl.col("on_order").fill_null(0.0)).sum().clip(lower_bound=0.0)
        .alias("on_hand")
    )  # fmt: skip


def _cover(supply: pl.DataFrame | None) -> pl.DataFrame:
    if supply is None:
        return _empty(cover_weeks=pl.Float64())
    return supply.group_by("product_id").agg(
        (pl.col("lead_time_days").max() / _DAYS).alias("cover_weeks")
    )


def _rivals(rivals: pl.DataFrame | None) -> pl.DataFrame:
    if rivals is None:
        return _empty(competitor_price=pl.Float64())
    return rivals.group_by("product_id").agg(pl.col("competitor_price").min())


def _since_change(panel: pl.DataFrame) -> pl.DataFrame:
    """Weeks since the regular price moved, or the price paid where the shop names none."""
    weekly = (
        panel
        .group_by("product_id", WEEK)
        .agg(pl.coalesce("regular_price", "price").median().alias("price"))
        .sort("product_id", WEEK)
    )
    off = (pl.col("price") / pl.col("price").last() - 1).abs() > _SAME
    since = (pl.col(WEEK).last() - pl.col(WEEK).filter(off).last()).dt.total_days() // _DAYS
    return weekly.group_by("product_id").agg(since.alias("weeks_since_change"))


def _cleared(guardrails: Guardrails, as_of: date) -> pl.DataFrame:
    if not guardrails.clear:
        return _empty(clear_weeks=pl.Float64())
    weeks = {each.product: max((each.by - as_of).days, 1) / _DAYS for each in guardrails.clear}
    return pl.DataFrame({"product_id": list(weeks), "clear_weeks": list(weeks.values())})


def _expected(forecasts: pl.DataFrame | None, panel: pl.DataFrame, as_of: date) -> pl.DataFrame:
    if forecasts is None:
        return _empty(forecast_units=pl.Float64())
    ahead = forecasts.filter(pl.col("week_starts_on") > as_of)
    if ahead.is_empty():
        return _empty(forecast_units=pl.Float64())
    places = panel.filter(pl.col(WEEK) == pl.col(WEEK).max().over("product_id")).group_by(
        "product_id"
    ).agg(pl.col("location_id").n_unique().alias("places"))  # fmt: skip
    weeks = ahead["week_starts_on"].n_unique()
    return (
        ahead
        .group_by("product_id")
        .agg(
            (pl.col("mean").sum().cast(pl.Float64) / weeks).alias("forecast_units"),
            pl.col("location_id").n_unique().alias("forecast_places"),
            (pl.col("location_id") == "all").all().alias("whole"),
        )
        .join(places, on="product_id")
        .filter(pl.col("whole") | (pl.col("forecast_places") >= pl.col("places")))
        .select("product_id", "forecast_units")
    )
