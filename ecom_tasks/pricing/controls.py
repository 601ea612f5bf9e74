"""What else moves demand than the price: season, promotion, trend, and how the category runs."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import MECHANICS, PROMOTION, SERIES, WEEK

CONTROLS = (
    *MECHANICS,
    "trend",
    "season_sine",
    "season_cosine",
    "category_code",
    "department_code",
    "size",
    "price_level",
    "last_price",
    "category_price",
    "category_demand",
    "department_demand",
)
# Weight that "as usual" has beside the neighbours; keeps a mean over none of them from being 0 / 0.
_PRIOR = 1.0
# Elasticity by which neighbours are taken back to their usual price, before any is known. What is
# wrong with it goes into the control, not into the answer.
_PRELIMINARY = -1.5
# Variance of relative demand that remains where units are many; 1 / units is added to it, the
# relative variance of a Poisson count.
_SHOCK_VARIANCE = 0.25


def prepare(panel: pl.DataFrame, before: date, config: PricingConfig) -> pl.DataFrame:
    """Express demand and price relative to the series' own level, and add the controls.

    Parameters
    ----------
    panel : see `panel.fill_quiet_weeks`, with category and department
    before : levels are taken from weeks before this day; series that sold nothing then are dropped
    config : `move` says from which deviation on a price has moved

    Returns
    -------
    DataFrame
        The panel's rows with usual_units (mean of a week), demand (units / usual_units), log_price
        (natural log, minus the series' mean), weight, moved (whether the price lies off the
        series' median by `move`), and the columns of `CONTROLS`.
    """
    known = pl.col(WEEK) < before
    log_price = pl.col("price").log()
    usual = pl.col("units").filter(known).mean().over(SERIES)
    off = log_price - log_price.filter(known).median().over(SERIES)
    day = pl.col(WEEK).dt.ordinal_day() * (2 * np.pi / 365.25)
    following = pl.col(WEEK).diff().over(SERIES) == pl.duration(weeks=1)
    rows = (
        panel
        .sort(*SERIES, WEEK)
        .with_columns(usual.alias("usual_units"))
        .filter(pl.col("usual_units") > 0)
        .with_columns(
            (pl.col("units") / pl.col("usual_units")).alias("demand"),
            (log_price - log_price.filter(known).mean().over(SERIES)).alias("log_price"),
            (off.abs() >= config.move).alias("moved"),
            (1 / (_SHOCK_VARIANCE + 1 / pl.col("usual_units"))).alias("weight"),
            pl.col("usual_units").log().alias("size"),
            log_price.filter(known).median().over(SERIES).alias("price_level"),
            ((pl.col(WEEK) - pl.col(WEEK).min()).dt.total_days() / 7).alias("trend"),
            day.sin().alias("season_sine"),
            day.cos().alias("season_cosine"),
            pl.col("category").rank("dense").alias("category_code"),
            pl.col("department").rank("dense").alias("department_code"),
        )
        .with_columns(
            pl.when(following).then(pl.col("log_price").shift().over(SERIES)).alias("last_price")
        )
    )
    return _neighbours(rows, known)


def _neighbours(rows: pl.DataFrame, known: pl.Expr) -> pl.DataFrame:
    """Add how the category sells and is priced in the week, and how the department sells.

    Demand is first taken back to its usual price by a preliminary elasticity: siblings are often
    reduced together, and a control that rises with them would take the price's own effect away.

    The mean includes the row itself, on purpose. A mean over all others differs within a week only
    by what is left out, so a model that also knows the week could read the own price off it,
    with the sign turned. In weeks that are held out, where models only predict, the row's own
    demand must not help: there the row is left out. The department leaves the whole category out,
    because customers who change brands stay within it.
    """
    weight = pl.col("weight")
    at_usual = pl.col("demand") * (-_PRELIMINARY * pl.col("log_price")).exp()
    above, price = weight * (at_usual - 1), weight * pl.col("log_price")
    category, department = ["category", WEEK], ["department", WEEK]

    def mean(value: pl.Expr) -> pl.Expr:
        everyone = value.sum().over(category) / weight.sum().over(category)
        # Alone in its category, a row has no neighbours: as usual.
        others = (value.sum().over(category) - value) / (
            weight.sum().over(category) - weight + _PRIOR
        )
        return pl.when(known).then(everyone).otherwise(others)

    outside = (above.sum().over(department) - above.sum().over(category)) / (
        weight.sum().over(department) - weight.sum().over(category) + _PRIOR
    )
    controls = {
        "category_price": mean(price),
        "category_demand": mean(above),
        "department_demand": outside,
    }
    # Sums of floats differ in their last bits with the order of addition; trees split on them.
    return rows.with_columns(value.round(6).alias(name) for name, value in controls.items())


def moving(rows: pl.DataFrame) -> list[str]:
    """Return the controls that the shop moves within a week from store to store."""
    return [*MECHANICS, *_further(rows)]


def _further(rows: pl.DataFrame) -> list[str]:
    return sorted(name for name in rows.columns if name.startswith(PROMOTION))


def matrix(rows: pl.DataFrame, without: tuple[str, ...] = ()) -> NDArray[np.float32]:
    """Return the controls, shape (rows, controls); what is unknown is NaN."""
    names = [name for name in (*CONTROLS, *_further(rows)) if name not in without]
    columns = [pl.col(name).cast(pl.Float32) for name in names]
    return rows.select(columns).fill_null(float("nan")).to_numpy()
