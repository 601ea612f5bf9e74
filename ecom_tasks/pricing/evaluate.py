"""Do elasticities foretell what happens when a price changes? Asked of weeks held out.

For each window, everything is learnt from the weeks before it, including which products count. Then
units of the window are predicted, given what the shop planned (prices, promotion) and how the
neighbours fare, in four ways:

* `no price response`: level, season, promotion and neighbours by boosted trees, price ignored;
* `plain log-log`: level, and one slope for the shop by least squares of log units on log price;
* `one elasticity`: the first, times price to the shop's elasticity by double machine learning;
* `elasticities`: the first, times price to each product's elasticity, as would be published.

All take a product's level from the same last weeks before the window.

A manager who sees demand coming and raises prices makes every true price response foretell badly
over time: dear weeks sell well. Where elasticities were learnt from how stores differ (see
`absorb`), that is what is asked: all four are told what a product sold in a week over all stores,
and a store over all products, and are judged by how they share it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecom_tasks.errors import DataContractError, ModelRejectedError
from ecom_tasks.metrics.pricing import poisson_deviance
from ecom_tasks.pricing import absorb, layout, nuisance, plain
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.model import Fitted, Told, learn, pool
from ecom_tasks.pricing.panel import SERIES, WEEK, cutoffs

Array = NDArray[np.float64]

ELASTICITIES, NO_RESPONSE, LOG_LOG = "elasticities", "no price response", "plain log-log"
ONE = "one elasticity"
CONTENDERS = (ELASTICITIES, ONE, NO_RESPONSE, LOG_LOG)
BASELINES = (NO_RESPONSE, LOG_LOG)
# Units of a usual week that stand for "as usual" when a level is taken from few weeks.
_LEVEL_PRIOR = 2.0


@dataclass(frozen=True)
class Foretold:
    """One part's rows of one window, foretold as far as that goes without the other parts.

    Attributes
    ----------
    told : see `model.learn`
    rows : the window and the weeks before it that give the level, with `expected` units (controls
        alone), `shock` (log price that the controls do not foretell) and `between_stores` (judged
        by shares of what sold); None where the part has no estimates
    slope : sums whose quotient is the plain slope, see `plain.sums`
    """

    told: Told
    rows: pl.DataFrame | None
    slope: Array


def starts(first: date, last: date, config: PricingConfig) -> list[date]:
    """Return the first day of each held-out window, from the panel's first and last week.

    Raises
    ------
    DataContractError
        Too little history before the first window.
    """
    found = cutoffs(last, config.test_windows, config.test_weeks)
    before = (found[0] - first).days // 7
    if before < config.min_weeks:
        raise DataContractError(
            f"Only {before} weeks before the first held-out window, {config.min_weeks} are needed",
            "Give a longer history, or lower pricing.test_windows, pricing.test_weeks or "
            "pricing.min_weeks",
        )
    return found


def foretell(panel: pl.DataFrame, start: date, config: PricingConfig) -> Foretold:
    """Learn a part of the panel from the weeks before a window, and foretell the window.

    Parameters
    ----------
    panel : see `panel.weekly`, with category and department
    """
    end = start + timedelta(weeks=config.test_weeks)
    learnt = learn(panel.filter(pl.col(WEEK) < end), start, config, whole=False)
    taught, later, models = learnt.rows, learnt.later, learnt.models
    if taught is None or later is None or models is None:
        return Foretold(learnt.told, None, np.zeros(2))
    known = taught.select(later.columns)
    chosen = absorb.chosen(known)
    instrumented = config.instrument != "none"
    # Models of what levels leave cannot foretell a week whose level is unknown.
    if instrumented or absorb.any_chosen(taught):
        models = nuisance.train(known, config)
    if instrumented:
        chosen = chosen.with_columns(pl.lit(value=False).alias("absorbed"))
    rows = pl.concat([known, later])
    demand, price = models.predict(rows)
    rows = rows.with_columns(
        (pl.col("usual_units") * pl.Series(demand)).alias("expected"),
        (pl.col("log_price") - pl.Series(price)).alias("price_left"),
    )
    # As in training: what is left of a price is measured from the series' own mean.
    own = pl.col("price_left").filter(pl.col(WEEK) < start).mean().over(SERIES)
    rows = rows.with_columns((pl.col("price_left") - own).alias("shock"))
    recent = rows.filter(pl.col(WEEK) >= start - timedelta(weeks=config.level_weeks)).select(
        *SERIES, WEEK, "units", "usual_units", "moved", "log_price", "expected", "shock"
    )
    recent = recent.join(chosen.rename({"absorbed": "between_stores"}), on="product_id")
    return Foretold(learnt.told, recent, plain.sums(taught, SERIES))


def pooled(parts: list[Foretold], config: PricingConfig) -> tuple[Fitted, float]:
    """Return what all parts of a window tell together, and the shop's plain log-log slope."""
    fitted = pool([part.told for part in parts], config)
    return fitted, plain.slope([part.slope for part in parts]) or 0.0


def predict(rows: pl.DataFrame, fitted: Fitted, slope: float, start: date) -> pl.DataFrame:
    """Predict one part's window in all ways, with elasticities drawn together over all parts.

    Parameters
    ----------
    rows : see `Foretold`
    fitted, slope : see `pooled`

    Returns
    -------
    DataFrame
        product_id, location_id, week_starts_on, window (first day), units, usual_units, moved
        (price off its usual level), price_left, between_stores (judged by shares of what sold, in
        its part), and a prediction in units for each of `CONTENDERS`.
    """
    return (
        _shared_out(_predict(rows, fitted, slope, start))
        .sort(*SERIES, WEEK)
        .with_columns(pl.lit(start).alias("window"))
        .select(
            *SERIES, WEEK, "window", "units", "usual_units", "moved", "price_left",
            "between_stores", *CONTENDERS,
        )
    )  # fmt: skip


def _predict(rows: pl.DataFrame, fitted: Fitted, slope: float, start: date) -> pl.DataFrame:
    """Predict the rows from `start` on in all ways; those before it give the level."""
    rows = rows.join(
        fitted.products.select("product_id", "estimate"),
        on="product_id",
        how="left",
        maintain_order="left",
    )
    shock = pl.col("shock")
    shop = fitted.shop["elasticity"]["estimate"]
    predictions = {
        ELASTICITIES: pl.col("expected") * (pl.col("estimate") * shock).exp(),
        ONE: pl.col("expected") * (shop * shock).exp(),
        NO_RESPONSE: pl.col("expected"),
        LOG_LOG: pl.col("usual_units") * (slope * pl.col("log_price")).exp(),
    }
    recent = pl.col(WEEK) < start
    prior = _LEVEL_PRIOR * pl.col("usual_units").first().over(SERIES)
    rows = rows.with_columns(value.alias(name) for name, value in predictions.items())
    sold = pl.col("units").filter(recent).sum().over(SERIES)
    levels = {
        name: (sold + prior) / (pl.col(name).filter(recent).sum().over(SERIES) + prior)
        for name in CONTENDERS
    }
    return (
        rows
        .with_columns((pl.col(name) * level).alias(name) for name, level in levels.items())
        .with_columns(shock.alias("price_left"))
        .filter(pl.col(WEEK) >= start)
    )


def _shared_out(rows: pl.DataFrame) -> pl.DataFrame:
    """Let all contenders share out the totals of weeks, where stores teach the elasticity.

    Parameters
    ----------
    rows : of one window, with between_stores, price_left and a prediction for each of `CONTENDERS`

    Returns
    -------
    rows; where judged between stores, price_left is what the week's levels leave of it.
    """
    apart = rows.filter("between_stores")
    if apart.is_empty():
        return rows
    levels: list[layout.Level] = [
        layout.Groups(layout.codes(apart, [each, WEEK])) for each in SERIES
    ]
    units, even = apart["units"].cast(pl.Float64).to_numpy(), np.ones(apart.height)
    apart = apart.with_columns(
        pl.Series("price_left", absorb.demean(apart["price_left"].to_numpy(), even, levels)),
        *(
            pl.Series(name, absorb.shared_out(apart[name].to_numpy(), units, levels))
            for name in CONTENDERS
        ),
    )
    return pl.concat([rows.filter(~pl.col("between_stores")), apart])


def score(predicted: pl.DataFrame) -> dict[str, Any]:
    """Score the contenders: mean Poisson deviance a product-week, all weeks and moved prices.

    A product's weeks count by 1 / (1 + its usual units / 4): the deviance of a best-seller grows
    with its units, and would else be all that is seen.

    Parameters
    ----------
    predicted : see `predict`
    """
    moved = predicted.filter("moved")
    if moved.is_empty():
        raise DataContractError(
            "No price moved in the held-out weeks, so nothing shows whether elasticities hold",
            "Lengthen pricing.test_weeks or pricing.test_windows",
        )
    windows = moved.partition_by("window", as_dict=True, maintain_order=True)
    return {
        "rows_judged_between_stores": int(moved["between_stores"].sum()),
        "moved_prices": _deviances(moved) | {"rows": moved.height},
        "all_prices": _deviances(predicted) | {"rows": predicted.height},
        "moved_prices_by_window": {
            str(window[0]): _deviances(rows) | {"rows": rows.height}
            for window, rows in windows.items()
        },
    }


def _deviances(rows: pl.DataFrame) -> dict[str, float]:
    actual = rows["units"].to_numpy()
    weight = 1 / (1 + rows["usual_units"].to_numpy() / 4)
    return {
        name: round(poisson_deviance(actual, rows[name].to_numpy(), weight), 6)
        for name in CONTENDERS
    }


def evidence(predicted: pl.DataFrame) -> pl.DataFrame:
    """Return what the release's gate is told: the deviance of each held-out row of a moved price.

    Returns
    -------
    window, unit (product_id), weight, model, baseline (no price response)
    """
    moved = predicted.filter("moved")

    def deviance(name: str) -> pl.Expr:
        ratio = pl.when(pl.col("units") > 0).then(pl.col("units") / pl.col(name)).otherwise(1.0)
        return 2 * (pl.col("units") * ratio.log() - (pl.col("units") - pl.col(name)))

    return moved.select(
        pl.col("window").cast(pl.String),
        pl.col("product_id").alias("unit"),
        (1 / (1 + pl.col("usual_units") / 4)).alias("weight"),
        deviance(ELASTICITIES).alias("model"),
        deviance(NO_RESPONSE).alias("baseline"),
    ).group_by("window", "unit").agg(
        pl.col("weight").sum(),
        *((pl.col(each) * pl.col("weight")).sum() / pl.col("weight").sum()
          for each in ("model", "baseline")),
    ).sort("window", "unit")  # fmt: skip


def calibration(predicted: pl.DataFrame, bins: int) -> pl.DataFrame:
    """Compare told and seen change of units over equal parts of the price changes.

    Returns
    -------
    DataFrame
        price_change, told, seen (each relative: 0.1 is +10%, against no price response), rows.
    """
    ordered = predicted.filter("moved").sort("price_left", *SERIES, WEEK)
    part = (pl.int_range(pl.len()) * bins // pl.len()).alias("part")
    return (
        ordered
        .with_columns(part)
        .group_by("part")
        .agg(
            (pl.col("price_left").mean().exp() - 1).alias("price_change"),
            (pl.col(ELASTICITIES).sum() / pl.col(NO_RESPONSE).sum() - 1).alias("told"),
            (pl.col("units").sum() / pl.col(NO_RESPONSE).sum() - 1).alias("seen"),
            pl.len().alias("rows"),
        )
        .sort("part")
        .drop("part")
    )


def gate(scores: dict[str, Any]) -> None:
    """Refuse elasticities that foretell changed prices no better than each plain baseline.

    Raises
    ------
    ModelRejectedError
        Naming the baseline and both figures.
    """
    figures = scores["moved_prices"]
    for baseline in BASELINES:
        if not figures[ELASTICITIES] < figures[baseline]:
            raise ModelRejectedError(
                f"Elasticities do not foretell held-out weeks better than {baseline!r}: deviance "
                f"{figures[ELASTICITIES]:.4f} against {figures[baseline]:.4f} over "
                f"{figures['rows']} product-weeks whose price had moved",
                "The release in service stays. Look at the evaluation's windows, and at the "
                "placebo and the categories in the elasticities",
            )
