"""Sparse weekly sales -> a dense panel: one row per series, one column per week."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from ecom_tasks.errors import DataContractError
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.panel import Booleans, Floats, Panel

ALL_LOCATIONS = "all"
KEY = ["product_id", "location_id"]
MECHANICS = ("display", "mailer", "price_cut", "coupon")
MEASURES = ("units", "sales", "orders", "locations", "price", "discount_depth")
WEEK = timedelta(weeks=1)


def last_complete_week(as_of: date) -> date:
    """Return the Monday of the last week whose Sunday is not after `as_of`."""
    return as_of - timedelta(days=(as_of.weekday() + 1) % 7) - timedelta(days=6)


def build(
    demand: pl.LazyFrame,
    calendar: pl.LazyFrame | None,
    products: pl.LazyFrame,
    as_of: date,
    config: InventoryConfig,
) -> Panel:
    """Choose the best-selling series and lay their weeks out.

    The choice looks at sales before the first test window only, so that a product is not judged
    for having sold well in the weeks that judge. Returns can exceed sales: such a week counts as
    no demand.

    Parameters
    ----------
    demand, calendar : `features/demand` and `features/promotion_calendar`; None without promotions
    products : `lake/products`, for categories
    as_of : last day known, inclusive

    Raises
    ------
    DataContractError
        There are fewer weeks than `config.weeks_needed`, or no product has sold enough.
    """
    last = last_complete_week(as_of)
    sold = demand.filter((pl.col("week_starts_on") <= last) & (pl.col("units") != 0))
    first = sold.select(pl.col("week_starts_on").min()).collect().item()
    weeks = 0 if first is None else (last - first).days // 7 + 1
    if weeks < config.weeks_needed:
        raise DataContractError(
            f"Inventory needs {config.weeks_needed} complete weeks of sales up to {as_of}, "
            f"got {weeks}",
            f"Deliver a longer history, or lower inventory.test_windows ({config.test_windows}), "
            f"inventory.calibration_windows ({config.calibration_windows}) or "
            f"inventory.horizon ({config.horizon}): {config.weeks_needed} = "
            "(test_windows + calibration_windows + 1) x horizon + history",
        )
    weekly = _weekly(sold, config)
    origin = last - (config.test_windows * config.horizon - 1) * WEEK
    keys = _best_sellers(weekly, origin, config)
    keys = _with_category(keys, products)
    return _dense(weekly, calendar, keys, (first, weeks), config)


def _weekly(sold: pl.LazyFrame, config: InventoryConfig) -> pl.LazyFrame:
    """Sum the locations, or keep them; weeks with sales only."""
    known = pl.col("discount_depth").is_not_null() & (pl.col("units") > 0)
    bought = pl.col("unit_price").is_not_null() & (pl.col("units") > 0)
    place = pl.col("location_id") if config.by_location else pl.lit(ALL_LOCATIONS)
    price = pl.col("unit_price").filter(bought).dot(pl.col("units").filter(bought))
    depth = pl.col("discount_depth").filter(known).dot(pl.col("units").filter(known))
    return sold.group_by("product_id", place.alias("location_id"), "week_starts_on").agg(
        pl.col("units").sum().clip(lower_bound=0),
        pl.col("sales").sum().clip(lower_bound=0),
        pl.col("orders").sum(),
        (pl.col("units") > 0).sum().alias("locations"),
        (price / pl.col("units").filter(bought).sum()).fill_nan(None).alias("price"),
        (depth / pl.col("units").filter(known).sum()).fill_nan(None).alias("discount_depth"),
    )


def _best_sellers(weekly: pl.LazyFrame, origin: date, config: InventoryConfig) -> pl.DataFrame:
    """Return the keys of the series, by units before the Monday `origin`."""
    before = weekly.filter(pl.col("week_starts_on") < origin)
    totals = before.group_by(KEY).agg(pl.col("units").sum(), pl.col("orders").sum()).collect()
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
    weekly: pl.LazyFrame,
    calendar: pl.LazyFrame | None,
    keys: pl.DataFrame,
    span: tuple[date, int],
    config: InventoryConfig,
) -> Panel:
    first, weeks = span
    ahead = weeks + config.horizon
    column = ((pl.col("week_starts_on") - first).dt.total_days() // 7).alias("column")
    rows = keys.with_row_index("row")
    cells = weekly.join(rows.lazy(), on=KEY).with_columns(column).collect()
    measures = {
        name: _scatter(cells, name, (keys.height, weeks), empty=fill)
        for name, fill in zip(MEASURES, (0, 0, 0, 0, np.nan, np.nan), strict=True)
    }
    plans: dict[str, Floats] = {}
    announced = np.zeros((keys.height, ahead), np.float32)
    if calendar is not None:
        planned = calendar.join(rows.lazy(), on="product_id").with_columns(column)
        planned = planned.filter(pl.col("column").is_between(0, ahead - 1)).with_columns(
            # Known after n weeks: announced not later than the Sunday of week n.
            ((pl.col("announced_on") - first).dt.total_days().fill_null(0) // 7 + 1).alias("known")
        )
        promoted = planned.collect()
        announced = _scatter(promoted, "known", (keys.height, ahead), empty=0)
        for name in MECHANICS:
            most = promoted[f"{name}_locations"].max()
            if isinstance(most, float) and most > 0:
                places = _scatter(promoted, f"{name}_locations", (keys.height, ahead), empty=0)
                plans[name] = places / np.float32(most)
    observed = np.ones((keys.height, weeks), np.bool_)
    return _panel(keys, first, measures, plans, announced, observed, config.season)


def _scatter(cells: pl.DataFrame, name: str, shape: tuple[int, int], empty: float) -> Floats:
    matrix = np.full(shape, empty, dtype=np.float32)
    values = cells[name].cast(pl.Float32).fill_null(empty).to_numpy()
    matrix[cells["row"].to_numpy(), cells["column"].to_numpy()] = values
    return matrix


def to_frames(panel: Panel) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the panel as two tables: series, and series x week (with the weeks ahead)."""
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
    mondays = [panel.day(column) for column in range(panel.periods + ahead)]
    index = pl.select(row=pl.int_range(panel.series, dtype=pl.Int32)).join(
        pl.DataFrame({"week_starts_on": mondays}), how="cross"
    )
    return panel.keys, index.hstack(pl.DataFrame(columns))


def from_frames(keys: pl.DataFrame, cells: pl.DataFrame, season: int = 52) -> Panel:
    """Rebuild the panel that `to_frames` wrote."""
    cells = cells.sort("row", "week_starts_on")

    def matrix(name: str) -> Floats:
        values = cells[name].fill_null(np.nan).to_numpy()
        return np.asarray(values, np.float32).reshape(keys.height, -1)

    units = matrix("units")
    weeks = int(np.isfinite(units[0]).sum())
    first = cells["week_starts_on"].to_list()[0]
    measures = {name: matrix(name)[:, :weeks] for name in MEASURES}
    plans = {name: matrix(name) for name in MECHANICS if name in cells.columns}
    observed = matrix("observed")[:, :weeks] > 0
    return _panel(keys, first, measures, plans, matrix("announced"), observed, season)


def _panel(  # noqa: PLR0913
    keys: pl.DataFrame,
    first: date,
    measures: dict[str, Floats],
    plans: dict[str, Floats],
    announced: Floats,
    observed: Booleans,
    season: int,
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
        season=season,
    )
