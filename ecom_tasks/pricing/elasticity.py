"""Own-price elasticities by double machine learning.

    mean of units = level * exp(elasticity * log price + g(controls))
    log price     = m(controls) + price shock

which is the log-log demand curve, with the log taken of the mean and not of the count: weeks
without a sale stay in, and slow products are not made to look indifferent to their price.

Two models predict demand and log price from the controls, each on data they were not trained on.
The elasticity solves the orthogonal moment condition of this model,

    sum of  weight * (units * exp(-elasticity * v) / expected units - 1) * v  =  0,
    v = log price - its prediction,

whose answer does not move, to first order, with errors of either model (Chernozhukov et al. 2018,
"Double/debiased machine learning for treatment and structural parameters"; for counts it is the
partialling-out score times exp(-elasticity * v)). Price moves that the controls foretell (the
holiday, the mailer) say nothing; what is left does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from ecom_tasks.pricing import absorb, layout
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import MECHANICS, PROMOTION, SERIES, WEEK

Array = NDArray[np.float64]

# An elasticity outside is no answer of a customer but of too little data.
LOWEST, HIGHEST = -10.0, 5.0
_START = -1.0
_STEPS = 15
# Change of an elasticity below which Newton's method has arrived.
_CLOSE = 1e-6
_FIRST_SWEEPS, _LATER_SWEEPS = 10, 2
CROSS = "cross"
# Weight of the category's usual noise beside the product's own, in clusters: half a year of weeks
# measures a variance only to a third.
_NOISE_PRIOR = 10.0
MANY_PLACES = 8
_TAIL = 0.975


@dataclass(frozen=True)
class Prepared:
    """What all solutions of the same rows begin with, laid out (see `layout.Lattice`).

    Attributes
    ----------
    further : what else each product answers to, on its lattice with weights and levels
    price : price_left
    shock : price_left off levels and `further`; with_price : what of `further` went with it, a row
        a product
    moved_by : the instrument off both; None where there is none
    """

    further: Further
    price: Array
    shock: Array
    with_price: Array
    moved_by: Array | None


def prepare(rows: pl.DataFrame, further: Further | None = None) -> Prepared:
    """Take levels and promotions off the price, see `solve`.

    Parameters
    ----------
    further : of these rows, where that is known: prices and demand may have changed since
    """
    made = further or Further(rows)

    def off(name: str) -> tuple[Array, Array, Array]:
        laid = made.lattice.lay(rows[name].to_numpy())
        values = made.off_levels(laid)
        explained = made.solve(values)
        return laid, values - made.spread(made.off, explained), explained

    price, shock, with_price = off("price_left")
    moved_by = off("instrument_left")[1] if "instrument_left" in rows.columns else None
    return Prepared(made, price, shock, with_price, moved_by)


@dataclass(frozen=True)
class Near:
    """Where a solution of the same rows was found, for the next to begin there.

    Attributes
    ----------
    slope, effects : of each product, shape (products,) and (products, columns)
    level : see `absorb.Ratios`; rest : see `solve_near`; both laid out
    """

    slope: Array
    effects: Array
    level: Array
    rest: Array


def solve(rows: pl.DataFrame, by: list[str], prepared: Prepared | None = None) -> pl.DataFrame:
    """Solve the moment condition for each group, see `solve_near`."""
    return solve_near(rows, by, prepared)[0]


def solve_near(
    rows: pl.DataFrame, by: list[str], prepared: Prepared | None = None, near: Near | None = None
) -> tuple[pl.DataFrame, Near]:
    """Solve the moment condition for each group by Newton's method.

    Parameters
    ----------
    rows : see `nuisance.partial_out`
    by : columns that name a group, of whole products; empty: one for all
    prepared : of these rows, which may have got or lost `CROSS` since
    near : where to begin; None: far away

    Returns
    -------
    rows with `shock` (price_left off its levels, see `layout.levels`), `lever` (what the condition
    is taken with: the shock, or the part of it that an instrument moves, then with `moved_by`, the
    instrument off its levels), `slope` (the elasticity of its group), `rest` (relative demand that
    neither controls, levels nor price explain, mean 0 in each series) and `told` (what levels,
    price, promotions and neighbours' prices make of the demand that the controls foretell); and
    where the solution is, for the next.
    """
    made = prepared or prepare(rows)
    further, shock, price = made.further, made.shock, made.price
    lattice, weight = further.lattice, further.weight
    demand = rows["demand_ratio"].to_numpy()
    if CROSS in rows.columns:
        demand = demand * np.exp(-rows[CROSS].to_numpy())
    demand = lattice.lay(demand)
    ratios = absorb.Ratios(weight, further.levels, None if near is None else near.level)
    group = layout.codes(rows, by)[lattice.first]
    lever = shock if made.moved_by is None else _explained(shock, made.moved_by, weight, group)
    pull = weight * lever
    pull_price = pull * price
    still = pull_price.sum(axis=1)
    group_of_product = np.zeros(further.count, dtype=np.int64)
    group_of_product[further.product] = group
    slope, effects = _begin(group_of_product, further, near)

    def explained() -> Array:
        answer = further.spread(further.raw, effects)
        answer += slope[group][:, None] * price
        return np.exp(answer, out=answer)

    def left(sweeps: int) -> Array:
        rest = ratios.of(demand / explained(), sweeps)
        rest -= 1
        return rest

    rest = left(_FIRST_SWEEPS if near is None else _LATER_SWEEPS)
    for _ in range(_STEPS):
        up = np.bincount(group, _by_series(pull, rest), len(slope))
        curvature = np.bincount(group, still + _by_series(pull_price, rest), len(slope))
        # Damped: a full step from far away can overshoot.
        step = np.where(curvature > 0, up / np.where(curvature > 0, curvature, 1.0), 0.0)
        before, slope = slope, np.clip(slope + np.clip(step, -1.0, 1.0), LOWEST, HIGHEST)
        moved = slope - before
        # What the price explains from now on, promotions that go with it need not.
        further_step = further.solve(rest) - moved[group_of_product][:, None] * made.with_price
        further_step = np.clip(further_step, -1.0, 1.0)
        effects = effects + further_step
        rest = left(_LATER_SWEEPS)
        if max(np.abs(moved).max(initial=0.0), np.abs(further_step).max(initial=0.0)) < _CLOSE:
            break
    told = lattice.take(explained() * ratios.level)
    if CROSS in rows.columns:
        told = told * np.exp(rows[CROSS].to_numpy())
    laid = {"shock": shock, "lever": lever, "rest": rest}
    if made.moved_by is not None:
        laid["moved_by"] = made.moved_by
    solved = {name: lattice.take(values) for name, values in laid.items()}
    slopes = lattice.take(np.repeat(slope[group][:, None], lattice.shape[1], axis=1))
    return (
        rows.with_columns(
            pl.Series(name, values)
            for name, values in {**solved, "slope": slopes, "told": told}.items()
        ),
        Near(slope[group_of_product], effects, ratios.level, rest),
    )


def _by_series(one: Array, other: Array) -> Array:
    """Sum products of cells over weeks, shape (series,)."""
    return np.asarray(np.einsum("sw,sw->s", one, other))


def _begin(group: layout.Codes, further: Further, near: Near | None) -> tuple[Array, Array]:
    """Return the groups' elasticities and the products' effects to begin with."""
    if near is None:
        count = int(group.max()) + 1 if len(group) else 0
        return np.full(count, _START), np.zeros((further.count, len(further.off)))
    return np.bincount(group, near.slope) / np.bincount(group), near.effects


def _explained(price: Array, instrument: Array, weight: Array, group: layout.Codes) -> Array:
    """Return the part of the price that goes with the instrument, by each group's own slope."""
    squares = np.bincount(group, _by_series(weight * instrument, instrument))
    both = np.bincount(group, _by_series(weight * instrument, price))
    return np.asarray(instrument * (both / np.maximum(squares, 1e-12))[group][:, None])


class Further:
    """What else each product answers to, log-linearly: its promotions.

    Trees see all products at once and find what promotions do on average. Where a product has
    several locations, it has weeks enough for effects of its own.

    Attributes
    ----------
    names : of the columns; raw, off : each laid out, as it is and off its levels
    product : of each series; count : of products
    """

    def __init__(self, rows: pl.DataFrame) -> None:
        self.lattice = layout.Lattice(rows)
        self.weight = self.lattice.lay(rows["weight"].to_numpy())
        self.levels = self.lattice.levels(rows)
        self.product = layout.codes(rows, ["product_id"])[self.lattice.first]
        self.count = int(self.product.max()) + 1 if len(self.product) else 0
        self.names = further_columns(rows)
        self.raw = [
            self.lattice.lay(rows[name].cast(pl.Float64).fill_null(0.0).to_numpy())
            for name in self.names
        ]
        self.off = [self.off_levels(column) for column in self.raw]
        self._pull = [self.weight * column for column in self.off]
        self._inverse = self._inverted()

    def off_levels(self, laid: Array) -> Array:
        """Take the levels off."""
        return absorb.demean(laid, self.weight, self.levels)

    def _inverted(self) -> Array:
        """Invert each product's matrix of squares; what does not move has no effect."""
        width = len(self.off)
        squares = np.zeros((self.count, width, width))
        for one in range(width):
            for other in range(one + 1):
                total = self._sum(self._pull[one], self.off[other])
                squares[:, one, other] = squares[:, other, one] = total
        if not width:
            return squares
        return np.asarray(np.linalg.pinv(squares, rcond=1e-6, hermitian=True), dtype=np.float64)

    def _sum(self, one: Array, other: Array) -> Array:
        total = np.bincount(self.product, _by_series(one, other), self.count)
        return np.asarray(total, dtype=np.float64)

    def solve(self, target: Array) -> Array:
        """Return what of a target goes with these columns, shape (products, columns)."""
        if not self.off:
            return np.zeros((self.count, 0))
        up = np.column_stack([self._sum(column, target) for column in self._pull])
        return np.asarray(np.einsum("pij,pj->pi", self._inverse, up))

    def spread(self, columns: list[Array], coefficients: Array) -> Array:
        """Add columns up, each times its product's coefficient."""
        total = np.zeros(self.lattice.shape)
        for column, each in zip(columns, coefficients.T, strict=True):
            total += column * each[self.product][:, None]
        return total


def further_columns(rows: pl.DataFrame) -> list[str]:
    """Return the columns that each product has effects of its own of; none with one location."""
    if rows["location_id"].n_unique() < 2:
        return []
    promotions = [name for name in rows.columns if name.startswith(PROMOTION)]
    moving = [name for name in (*MECHANICS, *promotions) if name in rows.columns]
    return [name for name in moving if rows[name].n_unique() > 1]


def scores(solved: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Return score and information of each row, with its group."""
    weight, lever = pl.col("weight"), pl.col("lever")
    return solved.select(
        *dict.fromkeys([*by, *SERIES, WEEK]),
        "slope",
        (weight * lever * pl.col("rest")).alias("score"),
        (weight * lever * pl.col("shock") * (1 + pl.col("rest"))).alias("information"),
    )


def by_product(solved: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Estimate the elasticity of each product from its own weeks.

    With eight locations or more, errors may be correlated within a location over all weeks and
    within a week over all locations (two-way clusters, never less than by location alone). With
    fewer, standard errors allow for shocks that last several weeks (Newey and West 1987, Bartlett
    weights up to `lags`; never less than without them). Each score is divided by 1 - its cluster's
    share of the information, as in the jackknife: what bends the line towards itself counts more.

    A variance from few clusters may look small by luck, and would then be believed too much; it is
    drawn towards the category's median as if that were ten clusters more.

    Parameters
    ----------
    solved : see `solve`, by product

    Returns
    -------
    DataFrame
        product_id, category, department, weeks, own_estimate, own_error (standard error; both null
        where the product's weeks have no answer).
    """
    key = ["category", "department", "product_id"]
    cells = scores(solved, key)
    weeks, places = _summed(cells, [*key, WEEK]), _summed(cells, [*key, "location_id"])
    score = pl.col("score")
    lasting = white = (score**2).sum()
    for lag in range(1, config.lags + 1):
        bartlett = 1 - lag / (config.lags + 1)
        lasting = lasting + 2 * bartlett * (score * score.shift(lag)).sum()
    by_week = weeks.group_by(key).agg(
        pl.len().cast(pl.Float64).alias("weeks"),
        pl.col("slope").first().alias("own_estimate"),
        pl.col("information").sum(),
        white.alias("week_squares"),
        pl.max_horizontal(lasting, white).alias("lasting"),
    )
    by_place = places.group_by(key).agg(
        pl.len().cast(pl.Float64).alias("places"), white.alias("place_squares")
    )
    by_cell = cells.group_by(key).agg(white.alias("cell_squares"))
    found = by_week.join(by_place, on=key).join(by_cell, on=key)
    two_way = pl.col("place_squares") + pl.col("week_squares") - pl.col("cell_squares")
    many = pl.col("places") >= MANY_PLACES
    variance = pl.when(many).then(pl.max_horizontal(two_way, "place_squares")).otherwise("lasting")
    clusters = pl.when(many).then(pl.col("places")).otherwise(pl.col("weeks"))
    found = found.with_columns(variance.alias("variance"), clusters.alias("clusters"))
    noise = pl.col("variance") / pl.col("information")
    drawn = (noise * pl.col("clusters") + noise.median().over("category") * _NOISE_PRIOR) / (
        pl.col("clusters") + _NOISE_PRIOR
    )
    # Quantiles of Student's t beside the normal's, which shrinkage reckons with.
    freedom = np.maximum(found["clusters"].to_numpy() - 1, 1)
    wider = pl.Series(stats.t.ppf(_TAIL, freedom) / stats.norm.ppf(_TAIL))
    drawn = pl.when(many).then(drawn * wider**2).otherwise(drawn)
    inside = pl.col("own_estimate").is_between(LOWEST, HIGHEST, closed="none")
    answered = inside & (pl.col("information") > 0)
    return found.select(
        "product_id",
        "category",
        "department",
        "weeks",
        pl.when(answered).then(pl.col("own_estimate")),
        pl.when(answered).then((drawn / pl.col("information")).sqrt()).alias("own_error"),
    ).sort("product_id")


def _summed(cells: pl.DataFrame, cluster: list[str]) -> pl.DataFrame:
    """Sum scores of cells over clusters, each over 1 - its share of its product's information."""
    share = pl.col("information") / pl.col("information").sum().over("product_id")
    return (
        cells
        .group_by(cluster)
        .agg(pl.col("slope").first(), pl.col("score", "information").sum())
        .sort(cluster)
        .with_columns(
            pl.when(share < 1).then(pl.col("score") / (1 - share)).otherwise(0.0).alias("score")
        )
    )
