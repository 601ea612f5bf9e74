"""The weekly panel: units, shelf price and promotion of each series.

A series is a product over all locations, or a product at one location (`panel_level`). One series
a product is the default: where a location sells an article about once a week, the log of its units
says nothing, while the chain's total does.

The price of a week is the median over locations of each location's median price paid per unit.
Sales divided by units would stand on both sides of the regression, since units are what it
explains: a week in which large packs of a deal are bought looks cheap and busy at once. The
median over equally weighted locations does not move with who bought how much. What noise is left
in it (locations that disagree) pulls an elasticity towards zero, never away from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from ecom_tasks.errors import DataContractError

SERIES = ["product_id", "location_id"]
WEEK = "week_starts_on"
MECHANICS = ("display", "mailer", "price_cut", "coupon")
PROMOTION = "promotion: "
"""Start of the names of further promotion columns, which a panel from a file may have."""
ALL_LOCATIONS = "all"
_DECIMALS = 6
_STEADY, _FEW_WEEKS, _DENSE_SHARE, _LEAST_LOCATIONS = 0.75, 8, 0.5, 5
_SAME_PRICE = 0.01
_MIXED = 0.05


def level_of(demand: Sequence[pl.LazyFrame]) -> str:
    """Decide whether locations sell enough to be series of their own.

    Parameters
    ----------
    demand : `features.tables.DEMAND`, all products, in parts of whole ones

    Returns
    -------
    str
        `product_location` if half of all units are sold by products and locations that sell in at
        least three quarters of their weeks, at five locations or more; else `product`.
    """
    if not demand:
        return "product"  # and nothing of it: what is missing is told where it is read
    counted = pl.concat([_sold_by_place(part) for part in demand])
    share, locations = counted.select(
        (pl.col("steady_units").sum() / pl.col("units").sum()).alias("share"),
        pl.col("location_id").filter(pl.col("steady_units") > 0).n_unique().alias("locations"),
    ).row(0)
    dense = (share or 0.0) >= _DENSE_SHARE and locations >= _LEAST_LOCATIONS
    return "product_location" if dense else "product"


def _sold_by_place(demand: pl.LazyFrame) -> pl.DataFrame:
    """Return location_id, units and steady_units: of those that sell in most of their weeks."""
    span = (pl.col(WEEK).max() - pl.col(WEEK).min()).dt.total_days() / 7 + 1
    steady = pl.col("weeks") / pl.col("span") >= _STEADY
    return (
        demand
        .filter(pl.col("units") > 0)
        .group_by(SERIES)
        .agg(pl.len().alias("weeks"), span.alias("span"), pl.col("units").sum())
        .filter(pl.col("weeks") >= _FEW_WEEKS)
        .group_by("location_id")
        .agg(pl.col("units").sum(), pl.col("units").filter(steady).sum().alias("steady_units"))
        .collect()
    )


def weekly(demand: pl.LazyFrame, level: str, weights_before: date) -> pl.DataFrame:
    """Bring demand to one row per series and week with a sale at a price.

    Parameters
    ----------
    demand : `features.tables.DEMAND`, whole products
    level : `product` or `product_location`
    weights_before : day from which sales no longer weigh the locations, so that what is held out
        for judgement shapes nothing before it

    Returns
    -------
    DataFrame
        product_id, location_id (`all` at level `product`), week_starts_on, units, price (store
        currency per unit), regular_price (null if unknown), price_locations, price_spread
        (variance of the log price over locations; null with one location), price_mixed (share of
        the locations whose mean price is not their median one), and for each promotion mechanic
        the share, 0 to 1, of the product's usual units whose location ran it.
    """
    if level == "product_location":
        weighted = demand.with_columns(pl.lit(1.0).alias("weight"))
    else:
        weighted = _weigh(demand, weights_before)
    priced = (pl.col("units") > 0) & (pl.col("median_price") > 0)
    price = pl.col("median_price").filter(priced)
    mixed = (pl.col("unit_price") / pl.col("median_price")).log().abs() >= _MIXED
    return (
        weighted
        .group_by(*SERIES, WEEK)
        .agg(
            pl.col("units").filter(priced).sum(),
            price.median().alias("price"),
            pl.col("regular_price").filter(priced).median(),
            priced.sum().cast(pl.Float64).alias("price_locations"),
            price.log().var().alias("price_spread"),
            mixed.filter(priced).mean().alias("price_mixed"),
            *[(pl.col(name) * pl.col("weight")).sum().alias(name) for name in MECHANICS],
        )
        .filter(pl.col("price").is_not_null())
        .with_columns(pl.col(pl.Float64).round(_DECIMALS))
        .sort(*SERIES, WEEK)
        .collect()
    )


def with_costs(panel: pl.DataFrame, prices: pl.LazyFrame) -> pl.DataFrame:
    """Add unit_cost: what a unit costs on the week's Monday, null where no cost is known by then.

    Of a product over all locations it is the mean of those whose cost is known.

    Parameters
    ----------
    panel : see `weekly`
    prices : `prices` of the data contract, whole products
    """
    told = (
        prices
        .filter(pl.col("unit_cost") > 0)
        .select(*SERIES, "valid_from", pl.col("unit_cost").cast(pl.Float64))
        .collect()
        .sort("valid_from")
    )
    weeks = panel.select(*SERIES, WEEK)
    asked = weeks.rename({"location_id": "series"}).join(
        told.select(SERIES).unique(), on="product_id"
    )
    here = (pl.col("series") == ALL_LOCATIONS) | (pl.col("series") == pl.col("location_id"))
    costs = (
        asked
        .filter(here)
        .sort(WEEK)
        .join_asof(told, left_on=WEEK, right_on="valid_from", by=SERIES, check_sortedness=False)
        .group_by("product_id", pl.col("series").alias("location_id"), WEEK)
        .agg(pl.col("unit_cost").mean().round(_DECIMALS))
    )
    return panel.join(costs, on=[*SERIES, WEEK], how="left", maintain_order="left")


def newest_costs(prices: pl.LazyFrame, as_of: date) -> pl.LazyFrame:
    """Return product_id, unit_cost: the mean over locations of the newest known on a day.

    Parameters
    ----------
    prices : see `with_costs`
    """
    return (
        prices
        .filter(pl.col("unit_cost") > 0, pl.col("valid_from") <= as_of)
        .group_by(SERIES)
        .agg(pl.col("unit_cost").cast(pl.Float64).sort_by("valid_from").last())
        .group_by("product_id")
        .agg(pl.col("unit_cost").sort().mean().round(_DECIMALS))
    )


def _weigh(demand: pl.LazyFrame, weights_before: date) -> pl.LazyFrame:
    """Weigh each location of a product by its units, and call all of them `all`."""
    before = (pl.col(WEEK) < weights_before) & (pl.col("units") > 0)
    usual = demand.group_by(SERIES).agg(pl.col("units").filter(before).sum().alias("weight"))
    total = pl.col("weight").sum().over("product_id")
    share = pl.when(total > 0).then(pl.col("weight") / total)
    equal = 1 / pl.len().over("product_id")
    return demand.join(usual.with_columns(share.fill_null(equal)), on=SERIES).with_columns(
        pl.lit(ALL_LOCATIONS).alias("location_id")
    )


def broken(demand: pl.LazyFrame) -> dict[str, int]:
    """Count the rows of demand that cannot be priced, by reason."""
    sold = pl.col("units") > 0
    no_price = pl.col("median_price").is_null() | (pl.col("median_price") <= 0)
    counts = demand.select(
        (pl.col("units") < 0).sum().alias("more returned than sold"),
        (sold & no_price).sum().alias("sold without a price above zero"),
    )
    return {name: int(count) for name, count in counts.collect().row(0, named=True).items()}


def nothing_usable(counts: dict[str, int]) -> DataContractError:
    """Say that no row of demand can be priced, and why, as counted by `broken`."""
    said = "; ".join(f"{count} rows {reason}" for reason, count in counts.items() if count)
    return DataContractError(
        "features/demand has no week in which a product was sold at a price above zero: "
        + (said or "it has no rows"),
        "Correct order_lines.quantity and order_lines.unit_price at their source, or the SQL that "
        "maps them, and run ingestion again. Every price and the release in service stay",
    )


def first_whole_week(totals: pl.DataFrame) -> date:
    """Return the first week that the data covers in full.

    Of a panel's first week with less than half the units of a usual one, part is taken to be
    missing.

    Parameters
    ----------
    totals : week_starts_on, units of all products and locations
    """
    totals = totals.sort(WEEK)
    usual = float(totals.select(pl.col("units").median()).item() or 0.0)
    whole = totals.height < 3 or totals["units"][0] >= usual / 2
    first: date = totals[WEEK][0 if whole else 1]
    return first


def fill_quiet_weeks(panel: pl.DataFrame, longest: int) -> pl.DataFrame:
    """Add the weeks without a sale whose price is beyond doubt, with zero units.

    A week in which nothing sold is an observation: leaving it out makes slow products look as if
    their buyers did not mind the price. Its price is known if the weeks with sales before and after
    it, at most `longest` weeks away, agree to 1%; promotion is then taken from the week before.

    Parameters
    ----------
    panel : see `weekly`
    longest : weeks to look back and ahead; 0 adds nothing

    Returns
    -------
    The panel with the column `sold` (false in the weeks added).
    """
    if not longest:
        return panel.with_columns(pl.lit(True).alias("sold"))
    ahead = panel.with_columns(
        pl.col(WEEK).shift(-1).over(SERIES).alias("next_week"),
        pl.col("price").shift(-1).over(SERIES).alias("next_price"),
    )
    gap = (pl.col("next_week") - pl.col(WEEK)).dt.total_days() // 7 - 1
    quiet = (
        ahead
        .with_columns(gap.alias("gap"))
        .filter(
            pl.col("gap").is_between(1, longest)
            & ((pl.col("next_price") / pl.col("price") - 1).abs() <= _SAME_PRICE)
        )
        .with_columns(pl.int_ranges(1, pl.col("gap") + 1).alias("later"))
        .explode("later", empty_as_null=True)
        .with_columns(
            (pl.col(WEEK) + pl.duration(weeks=pl.col("later"))).alias(WEEK),
            pl.lit(0.0).alias("units"),
            pl.lit(False).alias("sold"),
        )
        .select(*panel.columns, "sold")
    )
    sold = panel.with_columns(pl.lit(True).alias("sold"))
    return pl.concat([sold, quiet]).sort(*SERIES, WEEK)


def with_catalogue(panel: pl.DataFrame, products: pl.DataFrame) -> pl.DataFrame:
    """Add category (the first two levels of the path, joined by `/`) and department (the first).

    Parameters
    ----------
    panel : has product_id
    products : product_id, category (path or null)
    """
    levels = pl.col("category").fill_null("unknown").str.split("/")
    return panel.join(
        products.select(
            "product_id",
            levels.list.head(2).list.join("/").alias("category"),
            levels.list.first().alias("department"),
        ),
        on="product_id",
        how="left",
        maintain_order="left",
    ).with_columns(pl.col("category", "department").fill_null("unknown"))


def last_week(panel: pl.DataFrame) -> date:
    """Return the Monday of the panel's last week."""
    week = panel[WEEK].max()
    assert isinstance(week, date)
    return week


def last_complete_week(as_of: date) -> date:
    """Return the Monday of the last week that ends by `as_of`, inclusive."""
    monday = as_of - timedelta(days=as_of.weekday())
    return monday if as_of.weekday() == 6 else monday - timedelta(weeks=1)


def cutoffs(last: date, windows: int, weeks: int) -> list[date]:
    """Return for each held-out window, oldest first, the Monday of its first week."""
    return [last - timedelta(weeks=weeks * (windows - n) - 1) for n in range(windows)]
