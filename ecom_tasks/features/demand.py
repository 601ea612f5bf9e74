"""Demand of each product at each location, by week and by day, and the promotions beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from ecom_tasks.features import calendar, tables
from ecom_tasks.features.lines import ALL_LOCATIONS, conform, goods, last_complete_week
from ecom_tasks.features.prices import shelf_price

MECHANICS = ("display", "mailer", "price_cut", "coupon")


def announced_weeks(
    promotions: pl.LazyFrame, products: pl.LazyFrame, as_of: date, last_week: date
) -> pl.LazyFrame:
    """Spread the promotions announced by `as_of` over their weeks.

    Returns
    -------
    LazyFrame
        product_id, location_id, mechanic, announced_on, week_starts_on: a row per week that a
        promotion touches, up to `last_week` (a Monday); rows of several promotions may repeat.
    """
    unsellable = products.filter(~pl.col("sellable").fill_null(value=True)).select("product_id")
    first = pl.col("starts_on").dt.truncate("1w")
    last = pl.min_horizontal(pl.col("ends_on").dt.truncate("1w"), pl.lit(last_week))
    spans = (
        promotions
        .filter(pl.coalesce("announced_on", "starts_on") <= as_of)
        .join(unsellable, on="product_id", how="anti")
        .select(
            "product_id",
            pl.col("location_id").fill_null(ALL_LOCATIONS),
            "mechanic",
            pl.coalesce("announced_on", "starts_on").alias("announced_on"),
            first.alias("week_starts_on"),
            ((last - first).dt.total_days() // 7 + 1).alias("weeks"),
        )
    )
    # Most promotions last one week; spreading only the others saves two thirds of the time.
    one_week = spans.filter(pl.col("weeks") == 1).drop("weeks")
    longer = (
        spans
        .filter(pl.col("weeks") > 1)
        .with_columns(pl.int_ranges("weeks").alias("week"))
        .explode("week")
        .with_columns(pl.col("week_starts_on") + pl.duration(weeks=pl.col("week")))
        .drop("weeks", "week")
    )
    return pl.concat([one_week, longer])


def _sold(known: pl.LazyFrame, time: str = "week_starts_on") -> pl.LazyFrame:
    bought = pl.col("bought")
    gross = pl.col("quantity").filter(bought).sum()
    return known.group_by("product_id", "location_id", time).agg(
        pl.col("units").sum(),
        pl.col("spend").sum().alias("sales"),
        pl.col("order_id").filter(bought).n_unique().alias("orders"),
        pl.when(gross > 0).then(pl.col("sales").filter(bought).sum() / gross).alias("unit_price"),
        (pl.col("sales") / pl.col("quantity"))
        .filter(bought & (pl.col("sales") > 0))
        .median()
        .alias("median_price"),
        shelf_price().alias("regular_price"),
    )


def _flags(weeks: pl.LazyFrame, sold: pl.LazyFrame) -> pl.LazyFrame:
    """Return a row per product, location and week with promotion, for pairs sold before."""
    pairs = sold.group_by("product_id", "location_id").agg(
        pl.col("week_starts_on").min().alias("first_week")
    )
    everywhere = pl.col("location_id") == ALL_LOCATIONS
    here = weeks.join(pairs, on=["product_id", "location_id"])
    # A promotion without location runs at every location of the product.
    there = (
        weeks
        .filter(everywhere)
        .drop("location_id")
        .join(pairs.filter(~everywhere), on="product_id")
        .select(here.collect_schema().names())
    )
    return (
        pl
        .concat([here, there])
        .filter(pl.col("week_starts_on") >= pl.col("first_week"))
        .group_by("product_id", "location_id", "week_starts_on")
        .agg(((pl.col("mechanic") == name).any()).alias(name) for name in MECHANICS)
    )


def build(
    lines: pl.LazyFrame, promotions: pl.LazyFrame, products: pl.LazyFrame, as_of: date
) -> pl.LazyFrame:
    """Return one row per product, location and complete week with sales, returns or promotion.

    Weeks with promotion only are kept from the first sale of the product at the location on:
    before it, whether the product was on the shelf at all is unknown.

    Parameters
    ----------
    lines, promotions : tables of the data contract, whole products (a bucket by product_id)
    products : products of the data contract
    as_of : last day known, inclusive; later weeks and later announcements are not read

    Returns
    -------
    LazyFrame with the columns of `features.tables.DEMAND`, in units and store currency.
    """
    last_week = last_complete_week(as_of)
    key = ["product_id", "location_id", "week_starts_on"]
    sold = _sold(goods(lines, products, as_of).filter(pl.col("week_starts_on") <= last_week))
    flags = _flags(announced_weeks(promotions, products, as_of, last_week), sold)
    return conform(
        sold.join(flags, on=key, how="full", coalesce=True).with_columns(
            pl.col("units", "sales", "orders").fill_null(0),
            pl.col(MECHANICS).fill_null(value=False),
            _discount_depth(),
        ),
        tables.DEMAND,
    )


def _discount_depth() -> pl.Expr:
    depth = (1 - pl.col("unit_price") / pl.col("regular_price")).clip(0, 1)
    return pl.when(pl.col("regular_price") > 0).then(depth).alias("discount_depth")


def build_daily(
    lines: pl.LazyFrame,
    products: pl.LazyFrame,
    as_of: date,
    country: str = "",
    paydays: Sequence[int] = (),
) -> pl.LazyFrame:
    """Return one row per product, location and day with sales or returns, and what day it was.

    Parameters
    ----------
    lines, products, as_of : as of `build`
    country : ISO 3166 code, for public holidays; empty: none are known
    paydays : days of the month on which customers are paid, 31 for the last

    Returns
    -------
    LazyFrame with the columns of `features.tables.DEMAND_DAILY`, in units and store currency.
    Made where it is asked for and not published with the others: it has almost as many rows as
    there are order lines.
    """
    known = goods(lines, products, as_of)
    span = known.select(pl.col("day").min().alias("first"), pl.col("day").max().alias("last"))
    first, last = span.collect().row(0)
    days = calendar.days(first or as_of, last or as_of, country, paydays)
    return conform(
        _sold(known, "day").with_columns(_discount_depth()).join(days.lazy(), on="day"),
        tables.DEMAND_DAILY,
    )


def promotion_calendar(
    promotions: pl.LazyFrame, products: pl.LazyFrame, as_of: date, horizon_weeks: int
) -> pl.LazyFrame:
    """Count the locations that promote each product in each week, as far as announced.

    Parameters
    ----------
    promotions : table of the data contract, whole products (a bucket by product_id)
    products : products of the data contract
    as_of : last day known, inclusive; what was announced later is not read
    horizon_weeks : weeks after the last complete one that are expanded at most

    Returns
    -------
    LazyFrame with the columns of `features.tables.PROMOTION_CALENDAR`. A promotion without
    location counts as one location.
    """
    last_week = last_complete_week(as_of) + timedelta(weeks=horizon_weeks)
    weeks = announced_weeks(promotions, products, as_of, last_week)
    locations = pl.col("location_id")
    return conform(
        weeks.group_by("product_id", "week_starts_on").agg(
            pl.col("announced_on").max(),
            *(
                locations.filter(pl.col("mechanic") == name).n_unique().alias(f"{name}_locations")
                for name in MECHANICS
            ),
        ),
        tables.PROMOTION_CALENDAR,
    )


def promotion_days(
    promotions: pl.LazyFrame, products: pl.LazyFrame, as_of: date, horizon_days: int
) -> pl.LazyFrame:
    """Count the locations that promote each product on each day, as far as announced.

    Parameters
    ----------
    promotions, products, as_of : as of `promotion_calendar`
    horizon_days : days after `as_of` that are expanded at most

    Returns
    -------
    LazyFrame: product_id, day, announced_on (of the last of the day's promotions) and
    `<mechanic>_locations`. A promotion without location counts as one location.
    """
    unsellable = products.filter(~pl.col("sellable").fill_null(value=True)).select("product_id")
    announced = pl.coalesce("announced_on", "starts_on")
    last = pl.min_horizontal("ends_on", pl.lit(as_of + timedelta(days=horizon_days)))
    # Those of the same days first, since each is then spread over its days.
    spans = (
        promotions
        .filter((announced <= as_of) & (pl.col("starts_on") <= last))
        .join(unsellable, on="product_id", how="anti")
        .group_by("product_id", "mechanic", "starts_on", last.alias("ends_on"))
        .agg(
            announced.max().alias("announced_on"),
            pl.col("location_id").fill_null(ALL_LOCATIONS).unique(),
        )
    )
    each_day = spans.with_columns(pl.date_ranges("starts_on", "ends_on").alias("day")).explode(
        "day"
    )
    locations = pl.col("location_id").filter
    return (
        each_day
        .group_by("product_id", "day")
        .agg(
            pl.col("announced_on").max(),
            *(
                locations(pl.col("mechanic") == name)
                .list.explode(keep_nulls=False, empty_as_null=False)
                .n_unique()
                .cast(pl.Float64)
                .alias(f"{name}_locations")
                for name in MECHANICS
            ),
        )
        .sort("product_id", "day")
    )
