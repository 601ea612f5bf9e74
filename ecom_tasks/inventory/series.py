"""Sparse sales -> a dense panel: one row per series, one column per week or day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import polars as pl

from ecom_tasks.errors import DataContractError
from ecom_tasks.features.lines import DECIMALS
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.panel import Booleans, Floats, Panel

ALL_LOCATIONS = "all"
KEY = ["product_id", "location_id"]
MECHANICS = ("display", "mailer", "price_cut", "coupon")
MEASURES = ("units", "sales", "orders", "locations", "price", "discount_depth")
DAY, WEEK = timedelta(days=1), timedelta(weeks=1)


def last_complete_week(as_of: date) -> date:
    """Return the Monday of the last week whose Sunday is not after `as_of`."""
    return as_of - timedelta(days=(as_of.weekday() + 1) % 7) - timedelta(days=6)


def build(
    demand: Sequence[pl.LazyFrame],
    calendar: Sequence[pl.LazyFrame],
    products: pl.LazyFrame,
    as_of: date,
    config: InventoryConfig,
) -> Panel:
    """Choose the best-selling series and lay their weeks, or days, out.

    Memory: one part of the demand, a row for each series that could be chosen, and the panel.

    The choice looks at sales before the first test window only, so that a product is not judged
    for having sold well in the weeks that judge. Returns can exceed sales: such a week counts as
    no demand.

    Parameters
    ----------
    demand, calendar : `features/demand` and `features/promotion_calendar`, or the same by day
        (`features.demand.build_daily`, `promotion_days`) where `config.frequency` says so; parts of
        whole products, none of a calendar without promotions
    products : `lake/products`, for categories
    as_of : last day known, inclusive

    Raises
    ------
    DataContractError
        There are fewer periods than `config.periods_needed`, or no product has sold enough.
    """
    daily = config.frequency == "daily"
    last, period = (as_of, DAY) if daily else (last_complete_week(as_of), WEEK)
    time = pl.col("day" if daily else "week_starts_on")
    sold = [
        part.with_columns(starts_on=time).filter(
            (pl.col("starts_on") <= last) & (pl.col("units") != 0)
        )
        for part in demand
    ]
    origin = last - (config.test_windows * config.horizon - 1) * period
    totals = [_totals(_by_place(part, config), origin) for part in sold]
    first: date | None = None
    if totals:
        first = pl.concat(totals).select(pl.col("first").min()).item()
    periods = 0 if first is None else (last - first) // period + 1
    if first is None or periods < config.periods_needed:
        raise DataContractError(
            f"Inventory needs {config.periods_needed} complete {config.period}s of sales up to "
            f"{as_of}, got {periods}",
            f"Deliver a longer history, or lower inventory.test_windows ({config.test_windows}), "
            f"inventory.calibration_windows ({config.calibration_windows}) or "
            f"inventory.horizon ({config.horizon}): {config.periods_needed} = "
            "(test_windows + calibration_windows + 1) x horizon + history",
        )
    keys = _with_category(_best_sellers(pl.concat(totals), origin, config), products)
    plans = [part.with_columns(starts_on=time) for part in calendar]
    return _dense(sold, plans, keys, (first, periods), config)


def _by_place(sold: pl.LazyFrame, config: InventoryConfig) -> pl.LazyFrame:
    """Sum the locations, or keep them; periods with sales only."""
    known = pl.col("discount_depth").is_not_null() & (pl.col("units") > 0)
    bought = pl.col("unit_price").is_not_null() & (pl.col("units") > 0)
    place = pl.col("location_id") if config.by_location else pl.lit(ALL_LOCATIONS)
    price = pl.col("unit_price").filter(bought).dot(pl.col("units").filter(bought))
    depth = pl.col("discount_depth").filter(known).dot(pl.col("units").filter(known))

    def total(name: str) -> pl.Expr:
        # Sums of floats differ in their last bits with the order of addition: -3.1 + 3.1 is 0.
        return pl.col(name).sum().round(DECIMALS).clip(lower_bound=0)

    return sold.group_by("product_id", place.alias("location_id"), "starts_on").agg(
        total("units"),
        total("sales"),
        pl.col("orders").sum(),
        (pl.col("units") > 0).sum().alias("locations"),
        (price / pl.col("units").filter(bought).sum()).fill_nan(None).alias("price"),
        (depth / pl.col("units").filter(known).sum()).fill_nan(None).alias("discount_depth"),
    )


def _totals(sold: pl.LazyFrame, origin: date) -> pl.DataFrame:
    """Return for each series its first period, and its units and orders before `origin`."""
    before = pl.col("starts_on") < origin
    return (
        sold
        .group_by(KEY)
        .agg(
            pl.col("starts_on").min().alias("first"),
            pl.col("units", "orders").filter(before).sum(),
        )
        .collect()
    )


def _best_sellers(totals: pl.DataFrame, origin: date, config: InventoryConfig) -> pl.DataFrame:
    """Return the keys of the series, by units before `origin`."""
    best = (
        totals
        .group_by("product_id")
        .agg(pl.col("units").sum(), pl.col("orders").sum())
        .filter((pl.col("orders") >= config.minimum_orders) & (pl.col("units") > 0))
        .sort("units", "product_id", descending=[True, False])
        .head(config.products)
    )
    if best.is_empty():
        raise DataContractError(
            f"No product was ordered {config.minimum_orders} times before {origin}",
            "Deliver a longer history, or lower inventory.minimum_orders",
        )
    chosen = totals.filter(pl.col("units") > 0).join(best, on="product_id", how="semi")
    return chosen.sort("units", *KEY, descending=[True, False, False]).select(KEY)


def _with_category(keys: pl.DataFrame, products: pl.LazyFrame) -> pl.DataFrame:
    named = products.select("product_id", "category").unique("product_id", keep="first")
    return keys.join(named.collect(), on="product_id", how="left", maintain_order="left").select(
        *KEY, pl.col("category").fill_null("")
    )


def _dense(
    sold: Sequence[pl.LazyFrame],
    calendar: Sequence[pl.LazyFrame],
    keys: pl.DataFrame,
    span: tuple[date, int],
    config: InventoryConfig,
) -> Panel:
    first, periods = span
    ahead, days = periods + config.horizon, config.period_days
    column = ((pl.col("starts_on") - first).dt.total_days() // days).alias("column")
    rows = keys.with_row_index("row").lazy()
    chosen = rows.select("product_id").unique()
    measures = {
        name: np.full((keys.height, periods), empty, np.float32)
        for name, empty in zip(MEASURES, (0, 0, 0, 0, np.nan, np.nan), strict=True)
    }
    for part in sold:
        here = _by_place(part.join(chosen, on="product_id", how="semi"), config)
        cells = here.join(rows, on=KEY).with_columns(column).collect()
        for name, matrix in measures.items():
            _scatter(cells, name, matrix)
    # Known after n periods: announced not later than the last day of the nth.
    known = (pl.col("announced_on") - first).dt.total_days().fill_null(0) // days + 1
    announced = np.zeros((keys.height, ahead), np.float32)
    places = {name: np.zeros((keys.height, ahead), np.float32) for name in MECHANICS}
    for part in calendar:
        planned = part.join(rows, on="product_id").with_columns(column, known.alias("known"))
        cells = planned.filter(pl.col("column").is_between(0, ahead - 1)).collect()
        _scatter(cells, "known", announced)
        for name, matrix in places.items():
            _scatter(cells, f"{name}_locations", matrix)
    plans = {name: matrix / matrix.max() for name, matrix in places.items() if matrix.any()}
    observed = np.ones((keys.height, periods), np.bool_)
    return _panel(keys, first, measures, plans, announced, observed, config)


def _scatter(cells: pl.DataFrame, name: str, matrix: Floats) -> None:
    """Put a column's values where they belong; a null leaves what is there."""
    told = cells.drop_nulls(name)
    at = told["row"].to_numpy(), told["column"].to_numpy()
    matrix[at] = told[name].cast(pl.Float32).to_numpy()


def to_frames(panel: Panel) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the panel as two tables: series, and series x period (with those ahead)."""
    ahead = panel.announced.shape[1] - panel.periods
    columns: dict[str, pl.Series] = {}
    for name in MEASURES:
        known = getattr(panel, name)
        matrix = np.pad(known, ((0, 0), (0, ahead)), constant_values=np.nan)
        columns[name] = pl.Series(matrix.ravel()).fill_nan(None)
    for name, matrix in panel.plans.items():
        columns[name] = pl.Series(matrix.ravel())
    counted = np.pad(panel.known().astype(np.float32), ((0, 0), (0, ahead)))
    columns["observed"] = pl.Series(counted.ravel())
    columns["announced"] = pl.Series(panel.announced.ravel())
    days = [panel.day(column) for column in range(panel.periods + ahead)]
    index = pl.select(row=pl.int_range(panel.series, dtype=pl.Int32)).join(
        pl.DataFrame({panel.time_column: days}), how="cross"
    )
    return panel.keys, index.hstack(pl.DataFrame(columns))


def from_frames(keys: pl.DataFrame, cells: pl.DataFrame, config: InventoryConfig) -> Panel:
    """Rebuild the panel that `to_frames` wrote."""
    time = "day" if config.frequency == "daily" else "week_starts_on"
    cells = cells.sort("row", time)

    def matrix(name: str) -> Floats:
        values = cells[name].fill_null(np.nan).to_numpy()
        return np.asarray(values, np.float32).reshape(keys.height, -1)

    units = matrix("units")
    periods = int(np.isfinite(units[0]).sum())
    first = cells[time].to_list()[0]
    measures = {name: matrix(name)[:, :periods] for name in MEASURES}
    plans = {name: matrix(name) for name in MECHANICS if name in cells.columns}
    observed = matrix("observed")[:, :periods] > 0
    return _panel(keys, first, measures, plans, matrix("announced"), observed, config)


def _panel(  # noqa: PLR0913
    keys: pl.DataFrame,
    first: date,
    measures: dict[str, Floats],
    plans: dict[str, Floats],
    announced: Floats,
    observed: Booleans,
    config: InventoryConfig,
) -> Panel:
    return Panel(
        keys,
        first,
        measures["units"],
        measures["sales"],
        measures["orders"],
        measures["locations"],
        measures["price"],
        measures["discount_depth"],
        plans=plans,
        announced=announced,
        observed=observed,
        frequency="D" if config.frequency == "daily" else "W",
        season=config.season,
        paydays=config.paydays,
    )
