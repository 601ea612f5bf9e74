"""What promotions brought: incremental units and margin by mechanic, dip, cannibalisation, halo.

One weighted log-linear regression a category, of demand within series on the log price, the
mechanics, whether the product was promoted the week before, and how much of the rest of its
category was promoted. It describes what went with promotions; unlike elasticities it is not guarded
against a manager who promotes what would have sold anyway, beyond the levels of `absorb` and the
demand of the category.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from ecom_tasks.errors import DataContractError
from ecom_tasks.pricing import absorb, layout
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import MECHANICS, PROMOTION, SERIES, WEEK

Array = NDArray[np.float64]
# Share of a mechanic that counts as running, and series-weeks in which it must have run.
_RUNNING = 0.5
_LEAST_RUNS = 30
_LEAST_CLUSTERS = 3
# Share of a column's variance that others must leave to it; weight from which another explains it.
_SAME, _MATTERS = 1e-9, 1e-6
_STEPS = 12
_DIP, _OTHERS = "promoted last week", "others promoted"


def scorecard(rows: pl.DataFrame, weeks: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Judge each mechanic of each category.

    Parameters
    ----------
    rows : see `nuisance.partial_out`
    weeks : the panel; its price and the usual price say what a promoted unit gave away
    config : `confidence`, `assumed_margin`

    Returns
    -------
    DataFrame
        category, mechanic, weeks (product-locations and weeks under it), lift (relative: 0.2 is
        +20%), lift_lower, lift_upper, dip (the week after), others (of the category, while all of
        it is promoted), incremental_units (dip counted) and incremental_margin (store currency, at
        the assumed margin of the series' usual price, the price given away taken off), both over
        the whole history; no row for a mechanic that ran too little.
    """
    parts = [
        _category(str(name[0]), part, weeks, config)
        for name, part in rows.group_by("category", maintain_order=True)
    ]
    return pl.concat([part for part in parts if part.height] or [empty()]).sort(
        "category", "mechanic"
    )


@dataclass(frozen=True)
class Ran:
    """How the mechanics of a part of the panel ran together; what parts add up to refuse or not.

    Attributes
    ----------
    names : of all mechanics; runs : rows under each, shape (names,)
    squares : sums of products of a column of ones and the mechanics, shape (1 + names, 1 + names)
    """

    names: list[str]
    runs: Array
    squares: Array


def ran(weeks: pl.DataFrame) -> Ran:
    """Sum up how mechanics ran, see `tell_apart`."""
    names = _mechanics(weeks)
    columns = weeks.select(pl.col(name).cast(pl.Float64).fill_null(0.0) for name in names)
    values = np.column_stack([np.ones(weeks.height), columns.to_numpy()])
    runs = (values[:, 1:] >= _RUNNING).sum(axis=0).astype(np.float64)
    return Ran(names, runs, values.T @ values)


def tell_apart(parts: list[Ran]) -> None:
    """Refuse a history in which a mechanic always ran as others say already.

    Raises
    ------
    DataContractError
        See `refuse_collinear`.
    """
    squares = np.sum([part.squares for part in parts], axis=0)
    runs = np.sum([part.runs for part in parts], axis=0)
    rows, names = squares[0, 0], parts[0].names
    kept = [place for place, count in enumerate(runs) if _LEAST_RUNS <= count <= rows - _LEAST_RUNS]
    centred = squares[1:, 1:] - np.outer(squares[0, 1:], squares[0, 1:]) / max(rows, 1.0)
    refuse_collinear(
        [names[place] for place in kept],
        centred[np.ix_(kept, kept)],
        int(rows),
        "Give promotions.mechanic one of the two names in the SQL that maps it: what always runs "
        "together is one mechanic. Every price and the release in service stay",
    )


def refuse_collinear(columns: list[str], squares: Array, rows: int, hint: str) -> None:
    """Refuse columns of promotions of which one is a combination of those before it.

    Parameters
    ----------
    squares : sums over all rows of products of the columns, each off its mean

    Raises
    ------
    DataContractError
        With the names of both.
    """
    names = [name.removeprefix(PROMOTION) for name in columns]
    for place in range(1, len(names)):
        before, both = squares[:place, :place], squares[:place, place]
        weights = np.linalg.lstsq(before, both, rcond=1e-12)[0]
        left = squares[place, place] - both @ weights
        if left < _SAME * squares[place, place]:
            same = [names[each] for each in np.flatnonzero(np.abs(weights) > _MATTERS)]
            raise DataContractError(
                f"Promotion {names[place]} is perfectly collinear with {', '.join(same)} in "
                f"{rows} rows of the weekly panel: their effects cannot be told apart",
                hint,
            )


def _category(
    category: str, rows: pl.DataFrame, weeks: pl.DataFrame, config: PricingConfig
) -> pl.DataFrame:
    names = _ran(rows)
    if not names or rows["product_id"].n_unique() < _LEAST_CLUSTERS:
        return empty()
    rows = _around(rows.sort(*SERIES, WEEK), names)
    columns = ["log_price", *names, _DIP, _OTHERS, "category_demand"]
    estimate, error = _fit(rows, columns)
    place = {name: number for number, name in enumerate(columns)}
    half = float(stats.norm.ppf((1 + config.confidence) / 2))
    dip, others = (float(np.expm1(estimate[place[name]])) for name in (_DIP, _OTHERS))
    usual = weeks.group_by(SERIES).agg(pl.col("price").median().alias("usual_price"))
    rows = rows.join(usual, on=SERIES, how="left", maintain_order="left")
    price = float(estimate[0])
    found = []
    for name in names:
        at, off = float(estimate[place[name]]), half * float(error[place[name]])
        units, margin = _brought(rows, name, at, price, dip, config)
        found.append({
            "category": category,
            "mechanic": name.removeprefix(PROMOTION),
            "weeks": rows.filter(pl.col(name) >= _RUNNING).height,
            "lift": float(np.expm1(at)),
            "lift_lower": float(np.expm1(at - off)),
            "lift_upper": float(np.expm1(at + off)),
            "dip": dip,
            "others": others,
            "incremental_units": units,
            "incremental_margin": margin,
        })
    return pl.DataFrame(found, schema=empty().schema)


def _mechanics(rows: pl.DataFrame) -> list[str]:
    names = [name for name in rows.columns if name.startswith(PROMOTION)]
    return [name for name in (*MECHANICS, *sorted(names)) if name in rows.columns]


def _ran(rows: pl.DataFrame) -> list[str]:
    """Return the mechanics that ran often enough, and not always."""
    known = _mechanics(rows)
    runs = {name: rows.filter(pl.col(name) >= _RUNNING).height for name in known}
    return [name for name in known if _LEAST_RUNS <= runs[name] <= rows.height - _LEAST_RUNS]


def _around(rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Add whether a row was promoted the week before, and the promoted share of all others."""
    any_now = pl.max_horizontal([pl.col(name) >= _RUNNING for name in names]).cast(pl.Float64)
    rows = rows.with_columns(any_now.alias("promoted"))
    here = ["location_id", WEEK]
    follows = pl.col(WEEK).diff().over(SERIES) == pl.duration(weeks=1)
    others = (pl.col("promoted").sum().over(here) - pl.col("promoted")) / (
        pl.len().over(here) - 1
    ).clip(lower_bound=1)
    before = pl.when(follows).then(pl.col("promoted").shift().over(SERIES)).fill_null(0.0)
    return rows.with_columns((before * (1 - pl.col("promoted"))).alias(_DIP), others.alias(_OTHERS))


def _fit(rows: pl.DataFrame, columns: list[str]) -> tuple[Array, Array]:
    """Regress demand within its levels on columns, log-linearly; errors clustered by product."""
    weight = rows["weight"].to_numpy()
    levels = layout.levels(rows, (layout.PRODUCT_WEEK,))
    raw = rows.select(pl.col(name).cast(pl.Float64).fill_null(0.0) for name in columns).to_numpy()
    off = np.column_stack([absorb.demean(column, weight, levels) for column in raw.T])
    ratios = absorb.Ratios(weight, levels)
    inverse = np.linalg.pinv((off * weight[:, None]).T @ off, rcond=1e-9, hermitian=True)
    estimate = np.zeros(len(columns))
    demand = rows["demand"].to_numpy()
    rest = ratios.of(demand, 10) - 1
    for _ in range(_STEPS):
        estimate = estimate + np.clip(inverse @ (off.T @ (weight * rest)), -1.0, 1.0)
        rest = ratios.of(demand * np.exp(-raw @ estimate), 2) - 1
    scores = off * (weight * rest)[:, None]
    product = layout.codes(rows, ["product_id"])
    summed = np.zeros((product.max() + 1, len(columns)))
    np.add.at(summed, product, scores)
    clusters = len(summed)
    meat = summed.T @ summed * clusters / max(clusters - 1, 1)
    return estimate, np.sqrt(np.maximum(np.diagonal(inverse @ meat @ inverse), 0.0))


def _brought(
    rows: pl.DataFrame, name: str, lift: float, price: float, dip: float, config: PricingConfig
) -> tuple[float, float]:
    """Return incremental units and margin of all weeks under a mechanic."""
    under = rows.filter((pl.col(name) >= _RUNNING) & (pl.col("usual_price") > 0))
    units, usual = under["units"].to_numpy(), under["usual_price"].to_numpy()
    cut = np.minimum(under["price"].to_numpy() / usual, 1.0)
    # Without the mechanic there would have been neither its lift nor the price cut's.
    without = units * np.exp(-lift) * cut ** (-min(price, 0.0))
    after = without * min(dip, 0.0)
    margin = usual * config.assumed_margin
    gained = (units - without + after) * margin - units * usual * (1 - cut)
    return float((units - without + after).sum()), float(gained.sum())


def empty() -> pl.DataFrame:
    """Return no mechanic, with the columns of `scorecard`."""
    number = pl.Float64
    return pl.DataFrame(schema={
        "category": pl.String, "mechanic": pl.String, "weeks": pl.Int64, "lift": number,
        "lift_lower": number, "lift_upper": number, "dip": number, "others": number,
        "incremental_units": number, "incremental_margin": number,
    })  # fmt: skip
