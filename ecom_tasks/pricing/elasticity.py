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

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from ecom_tasks.pricing import absorb
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import MECHANICS, PROMOTION, SERIES, WEEK

Array = NDArray[np.float64]

# An elasticity outside is no answer of a customer but of too little data.
LOWEST, HIGHEST = -10.0, 5.0
_START = -1.0
_STEPS = 15
_FIRST_SWEEPS, _LATER_SWEEPS = 10, 2
CROSS = "cross"
# Weight of the category's usual noise beside the product's own, in clusters: half a year of weeks
# measures a variance only to a third.
_NOISE_PRIOR = 10.0
MANY_PLACES = 8
_TAIL = 0.975


def solve(rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Solve the moment condition for each group by Newton's method.

    Parameters
    ----------
    rows : see `nuisance.partial_out`
    by : columns that name a group; empty: one for all

    Returns
    -------
    rows with `shock` (price_left off its levels, see `absorb.levels`), `slope` (the elasticity of
    its group) and `rest` (relative demand that neither controls, levels nor price explain, mean 0
    in each series).
    """
    weight, price = rows["weight"].to_numpy(), rows["price_left"].to_numpy()
    demand = rows["demand_ratio"].to_numpy()
    if CROSS in rows.columns:
        demand = demand * np.exp(-rows[CROSS].to_numpy())
    levels = absorb.levels(rows)
    further = Further(rows, weight, levels)
    shock = further.take_off(absorb.demean(price, weight, levels))
    ratios = absorb.Ratios(weight, levels)
    group = absorb.codes(rows, by)
    slope = np.full(group.max() + 1 if len(group) else 0, _START)

    def left(sweeps: int) -> Array:
        explained = slope[group] * price + further.effect()
        return ratios.of(demand * np.exp(-explained), sweeps) - 1

    rest = left(_FIRST_SWEEPS)
    for _ in range(_STEPS):
        up = np.bincount(group, weight * shock * rest, len(slope))
        curvature = np.bincount(group, weight * shock * price * (1 + rest), len(slope))
        # Damped: a full step from far away can overshoot.
        step = np.where(curvature > 0, up / np.where(curvature > 0, curvature, 1.0), 0.0)
        slope = np.clip(slope + np.clip(step, -1.0, 1.0), LOWEST, HIGHEST)
        further.step(rest)
        rest = left(_LATER_SWEEPS)
    return rows.with_columns(
        pl.Series("shock", shock), pl.Series("slope", slope[group]), pl.Series("rest", rest)
    )


class Further:
    """What else each product answers to, log-linearly: its promotions, last week's price.

    Trees see all products at once and find what promotions do on average. Where a product has
    several locations, it has weeks enough for effects of its own.
    """

    def __init__(self, rows: pl.DataFrame, weight: Array, levels: list[absorb.Codes]) -> None:
        self.names = further_columns(rows)
        self.product = absorb.codes(rows, ["product_id"])
        self._weight = weight
        self.count = int(self.product.max()) + 1 if len(self.product) else 0
        raw = [rows[name].cast(pl.Float64).fill_null(0.0).to_numpy() for name in self.names]
        self._raw = np.column_stack(raw) if raw else np.zeros((rows.height, 0))
        self._off = absorb.demean(self._raw, weight, levels) if raw else self._raw
        self.coefficients = np.zeros((self.count, len(self.names)))
        self.inverse = self._inverse()

    def _inverse(self) -> Array:
        """Invert each product's matrix of squares; what does not move has no effect."""
        width = len(self.names)
        squares = np.zeros((self.count, width, width))
        for one in range(width):
            for other in range(one + 1):
                total = self._sum(self._off[:, one] * self._off[:, other])
                squares[:, one, other] = squares[:, other, one] = total
        if not width:
            return squares
        return np.asarray(np.linalg.pinv(squares, rcond=1e-6, hermitian=True), dtype=np.float64)

    def _sum(self, values: Array) -> Array:
        return np.asarray(
            np.bincount(self.product, self._weight * values, self.count), dtype=np.float64
        )

    def _solve(self, target: Array) -> Array:
        up = np.column_stack([self._sum(column * target) for column in self._off.T])
        return np.asarray(np.einsum("pij,pj->pi", self.inverse, up))

    def take_off(self, values: Array) -> Array:
        """Return values without what these columns explain in each product."""
        if not self.names:
            return values
        return np.asarray(values - (self._off * self._solve(values)[self.product]).sum(axis=1))

    def step(self, rest: Array) -> None:
        """Move the effects towards the answer."""
        if self.names:
            self.coefficients += np.clip(self._solve(rest), -1.0, 1.0)

    def effect(self) -> Array:
        """Return log demand that they explain, shape (rows,)."""
        return np.asarray((self._raw * self.coefficients[self.product]).sum(axis=1))


def further_columns(rows: pl.DataFrame) -> list[str]:
    """Return the columns that each product has effects of its own of; none with one location."""
    if rows["location_id"].n_unique() < 2:
        return []
    promotions = [name for name in rows.columns if name.startswith(PROMOTION)]
    moving = [name for name in (*MECHANICS, *promotions) if name in rows.columns]
    return [name for name in moving if rows[name].n_unique() > 1]


def _scores(rows: pl.DataFrame, cluster: list[str]) -> pl.DataFrame:
    """Sum scores and information over clusters; their order is that of `cluster`."""
    weight, shock = pl.col("weight"), pl.col("shock")
    return (
        rows
        .group_by(cluster)
        .agg(
            pl.col("slope").first(),
            (weight * shock * pl.col("rest")).sum().alias("score"),
            (weight * shock**2 * (1 + pl.col("rest"))).sum().alias("information"),
        )
        .sort(cluster)
    )


def by_product(rows: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
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
    rows : see `nuisance.partial_out`

    Returns
    -------
    DataFrame
        product_id, category, department, weeks, own_estimate, own_error (standard error; both null
        where the product's weeks have no answer).
    """
    return _alone(solve(rows, ["product_id"]), config)


def _alone(solved: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    key = ["category", "department", "product_id"]
    cells = _scores(solved, [*key, "location_id", WEEK])
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


def pooled(rows: pl.DataFrame, by: list[str], confidence: float) -> pl.DataFrame:
    """Estimate one elasticity for each group, with an interval that allows for clusters.

    Errors may be correlated within a product (a location, where these are more) over all weeks and
    within a week over everything (two-way clusters, Cameron, Gelbach and Miller 2011; never less
    than by product or location alone), each cluster's score over 1 - its share of the information,
    close to leaving it out in turn: where one product brings most of what is known, the interval is
    wide. Quantiles are those of Student's t with one degree of freedom fewer than the scarcer
    clusters.

    Parameters
    ----------
    rows : see `nuisance.partial_out`
    by : columns that name a group; empty: one for the whole shop

    Returns
    -------
    DataFrame
        `by`, products, weeks, estimate, standard_error, lower, upper; no row for a group with fewer
        than two clusters.
    """
    return _interval(solve(rows, by), by, confidence)


def _interval(solved: pl.DataFrame, by: list[str], confidence: float) -> pl.DataFrame:
    scored = _scores(solved, [*by, "product_id", "location_id", WEEK])
    group: list[pl.Expr] = [pl.col(each) for each in by] or [pl.lit("shop").alias("group")]
    name = by or ["group"]
    places, products = (pl.col(each).n_unique() for each in ("location_id", "product_id"))
    if by:
        places, products = places.over(by), products.over(by)
    scored = scored.with_columns(
        pl.when(places > products).then("location_id").otherwise("product_id").alias("unit")
    )

    def squares(cluster: list[str], prefix: str) -> pl.DataFrame:
        summed = scored.group_by(*by, *cluster, maintain_order=True).agg(
            pl.col("score", "information").sum()
        )
        share = pl.col("information") / pl.col("information").sum()
        return summed.group_by(group, maintain_order=True).agg(
            ((pl.col("score") / (1 - share)) ** 2).sum().alias(f"{prefix}_squares"),
            pl.len().cast(pl.Float64).alias(f"{prefix}s"),
        )

    unit, week = pl.col("unit_squares"), pl.col("week_squares")
    variance = pl.max_horizontal(unit, unit + week - pl.col("row_squares"))
    scarcer = pl.min_horizontal("units", "weeks")
    found = (
        scored
        .group_by(group)
        .agg(
            pl.col("slope").first().alias("estimate"),
            pl.col("information").sum(),
            pl.col("product_id").n_unique().cast(pl.Float64).alias("products"),
        )
        .join(squares(["unit"], "unit"), on=name)
        .join(squares([WEEK], "week"), on=name)
        .join(squares(["unit", WEEK], "row"), on=name)
        .filter((scarcer > 1) & (pl.col("information") > 0))
        .with_columns((variance.sqrt() / pl.col("information")).alias("standard_error"))
        .sort(name)
    )
    freedom = found.select(scarcer - 1).to_series().to_numpy()
    half = pl.col("standard_error") * pl.Series(stats.t.ppf((1 + confidence) / 2, freedom))
    return found.select(
        *by,
        "products",
        "weeks",
        "estimate",
        "standard_error",
        (pl.col("estimate") - half).alias("lower"),
        (pl.col("estimate") + half).alias("upper"),
    )


def placebo(rows: pl.DataFrame, by: list[str], confidence: float) -> pl.DataFrame:
    """Ask whether next week's price explains this week's demand, given this week's price.

    It should not: customers do not know it. Where its interval excludes zero, demand shocks and
    prices move together in a way that the controls miss, or customers wait for announced offers.
    Only weeks with a sale are asked, whose price was seen and not inferred from the next one.

    Returns
    -------
    DataFrame as of `pooled`, of the slope on next week's price.
    """
    return _interval(_ahead(rows, by), by, confidence)


def placebo_by_product(rows: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Ask the same of each product alone.

    Returns
    -------
    DataFrame with product_id, placebo, placebo_lower, placebo_upper; null where nothing follows.
    """
    found = _alone(_ahead(rows, ["product_id"]), config)
    half = pl.col("own_error") * float(stats.norm.ppf((1 + config.confidence) / 2))
    return found.select(
        "product_id",
        pl.col("own_estimate").alias("placebo"),
        (pl.col("own_estimate") - half).alias("placebo_lower"),
        (pl.col("own_estimate") + half).alias("placebo_upper"),
    )


def _ahead(rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Return rows of a regression of what is left of demand on next week's price."""
    follows = pl.col(WEEK).shift(-1).over(SERIES) - pl.col(WEEK) == pl.duration(weeks=1)
    weight, shock, ahead = pl.col("weight"), pl.col("shock"), pl.col("next")
    both = (
        solve(rows, by)
        .filter("sold")
        .sort(*SERIES, WEEK)
        .with_columns(pl.when(follows).then(shock.shift(-1).over(SERIES)).alias("next"))
        .drop_nulls("next")
        .with_columns(
            pl.col("rest") - pl.col("rest").mean().over(SERIES), ahead - ahead.mean().over(SERIES)
        )
        .with_columns(pl.lit("shop").alias("everything"))
    )
    group = by or ["everything"]
    # Frisch-Waugh: what of next week's price is not this week's, against what is left of demand.
    for target in ("next", "rest"):
        on_price = (weight * shock * pl.col(target)).sum() / (weight * shock**2).sum()
        both = both.with_columns(pl.col(target) - on_price.over(group) * shock)
    slope = (weight * ahead * pl.col("rest")).sum() / (weight * ahead**2).sum()
    return (
        both
        .with_columns(slope.over(group).alias("slope"))
        .with_columns(
            (pl.col("rest") - pl.col("slope") * ahead).alias("rest"), ahead.alias("shock")
        )
        .drop("everything")
    )


def permutation(rows: pl.DataFrame, by: list[str], draws: int, seed: int) -> pl.DataFrame:
    """Ask how often prices of other weeks explain demand as well as those of the week itself.

    All series of a product are turned round in time by the same number of weeks, so that seasons of
    prices, and what stores share, stay as they are; only their place beside demand is lost.

    Parameters
    ----------
    rows : see `nuisance.partial_out`
    draws : rotations

    Returns
    -------
    DataFrame
        `by`, p_value: share of rotations, the real one counted, whose slope lies at least as far
        from zero.
    """
    solved = solve(rows, by).sort(*SERIES, WEEK)
    weight, shock = solved["weight"].to_numpy(), solved["shock"].to_numpy()
    group, series = absorb.codes(solved, by), absorb.codes(solved, SERIES)
    # What demand leaves when no price answers: of the first order, slope * shock put back.
    rest = solved["rest"].to_numpy() + solved["slope"].to_numpy() * shock
    length = np.bincount(series)
    first = np.concatenate([[0], np.cumsum(length)[:-1]])
    place = np.arange(len(series)) - first[series]
    product = absorb.codes(solved, ["product_id"])
    rng = np.random.default_rng(seed)

    def slopes(turned: NDArray[np.float64]) -> NDArray[np.float64]:
        up = np.bincount(group, weight * turned * rest)
        return np.asarray(up / np.maximum(np.bincount(group, weight * turned**2), 1e-12))

    real, beaten = np.abs(slopes(shock)), np.ones(group.max() + 1)
    for _ in range(draws):
        turn = rng.uniform(0.1, 0.9, product.max() + 1)[product]
        by_weeks = np.maximum((turn * length[series]).astype(np.int64), 1)
        beaten += np.abs(slopes(shock[first[series] + (place + by_weeks) % length[series]])) >= real
    found = solved.select(by or [pl.lit("shop").alias("shop")]).with_columns(
        pl.Series("group", group)
    )
    return (
        found
        .unique("group")
        .sort("group")
        .with_columns(pl.Series("p_value", beaten / (draws + 1)))
        .drop("group")
    )
