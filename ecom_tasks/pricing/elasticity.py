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

import polars as pl
from scipy import stats

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import SERIES, WEEK

# An elasticity outside is no answer of a customer but of too little data.
LOWEST, HIGHEST = -10.0, 5.0
_START = -1.0
_STEPS = 12
# Weight of the category's usual noise beside the product's own, in weeks: half a year of weeks
# measures a variance only to a third.
_NOISE_PRIOR_WEEKS = 10.0


def solve(rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Solve the moment condition for each group by Newton's method.

    Parameters
    ----------
    rows : see `nuisance.partial_out`
    by : columns that name a group; empty: one for all

    Returns
    -------
    rows with `slope` (the elasticity of its group) and `rest` (relative demand that neither
    controls nor price explain, mean 0 in each series).
    """
    weight, shock = pl.col("weight"), pl.col("price_left")
    up = (weight * shock * pl.col("rest")).sum()
    curvature = (weight * shock**2 * (1 + pl.col("rest"))).sum()
    # Damped: a full step from far away can overshoot.
    step = (up / curvature).fill_nan(0.0).clip(-1.0, 1.0)
    rows = _rest(rows.with_columns(pl.lit(_START).alias("slope")))
    for _ in range(_STEPS):
        moved = pl.col("slope") + (step.over(by) if by else step)
        rows = _rest(rows.with_columns(moved.clip(LOWEST, HIGHEST).alias("slope")))
    return rows


def _rest(rows: pl.DataFrame) -> pl.DataFrame:
    at_usual_price = pl.col("demand_ratio") * (-pl.col("slope") * pl.col("price_left")).exp()
    return rows.with_columns(
        (at_usual_price / at_usual_price.mean().over(SERIES) - 1).alias("rest")
    )


def _scores(rows: pl.DataFrame, cluster: list[str]) -> pl.DataFrame:
    """Sum scores and information over clusters; their order is that of `cluster`."""
    weight, shock = pl.col("weight"), pl.col("price_left")
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

    Standard errors allow for shocks that last several weeks (Newey and West 1987, Bartlett weights
    up to `lags`; never less than without them) and for weeks that bend the line towards themselves
    (each score over 1 - its share of the information, as in the jackknife). Their noise is drawn
    towards the category's median as if that were ten weeks more: a short series may look calm by
    luck, and would then be believed too much.

    Returns
    -------
    DataFrame
        product_id, category, department, weeks, own_estimate, own_error (standard error; both null
        where the product's weeks have no answer).
    """
    key = ["category", "department", "product_id"]
    scored = _scores(solve(rows, ["product_id"]), [*key, WEEK])
    weeks = pl.len().cast(pl.Float64)
    score = pl.col("score") / (1 - pl.col("information") / pl.col("information").sum())
    white = lasting = (score**2).sum()
    for lag in range(1, config.lags + 1):
        bartlett = 1 - lag / (config.lags + 1)
        lasting = lasting + 2 * bartlett * (score * score.shift(lag)).sum()
    found = scored.group_by(key).agg(
        weeks.alias("weeks"),
        pl.col("slope").first().alias("own_estimate"),
        pl.col("information").sum(),
        pl.max_horizontal(lasting, white).alias("variance"),
    )
    noise = pl.col("variance") / pl.col("information")
    drawn = (noise * pl.col("weeks") + noise.median().over("category") * _NOISE_PRIOR_WEEKS) / (
        pl.col("weeks") + _NOISE_PRIOR_WEEKS
    )
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


def pooled(rows: pl.DataFrame, by: list[str], confidence: float) -> pl.DataFrame:
    """Estimate one elasticity for each group, with an interval that allows for clusters.

    Errors may be correlated within a product over all weeks and within a week over all products
    (two-way clusters, Cameron, Gelbach and Miller 2011; never less than by product alone), each
    cluster's score over 1 - its share of the information, close to leaving it out in turn: where
    one product brings most of what is known, the interval is wide. Quantiles are those of Student's
    t with one degree of freedom fewer than the scarcer clusters.

    Parameters
    ----------
    rows : see `nuisance.partial_out`
    by : columns that name a group; empty: one for the whole shop

    Returns
    -------
    DataFrame
        `by`, products, weeks, estimate, standard_error, lower, upper; no row for a group with fewer
        than two products.
    """
    return _interval(solve(rows, by), by, confidence)


def _interval(solved: pl.DataFrame, by: list[str], confidence: float) -> pl.DataFrame:
    scored = _scores(solved, [*by, "product_id", WEEK])
    group: list[pl.Expr] = [pl.col(each) for each in by] or [pl.lit("shop").alias("group")]
    name = by or ["group"]

    def squares(cluster: list[str], prefix: str) -> pl.DataFrame:
        summed = scored.group_by(*by, *cluster, maintain_order=True).agg(
            pl.col("score", "information").sum()
        )
        share = pl.col("information") / pl.col("information").sum()
        return summed.group_by(group, maintain_order=True).agg(
            ((pl.col("score") / (1 - share)) ** 2).sum().alias(f"{prefix}_squares"),
            pl.len().cast(pl.Float64).alias(f"{prefix}s"),
        )

    product, week = pl.col("product_squares"), pl.col("week_squares")
    variance = pl.max_horizontal(product, product + week - pl.col("row_squares"))
    scarcer = pl.min_horizontal("products", "weeks")
    found = (
        scored
        .group_by(group)
        .agg(pl.col("slope").first().alias("estimate"), pl.col("information").sum())
        .join(squares(["product_id"], "product"), on=name)
        .join(squares([WEEK], "week"), on=name)
        .join(squares(["product_id", WEEK], "row"), on=name)
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
    follows = pl.col(WEEK).shift(-1).over(SERIES) - pl.col(WEEK) == pl.duration(weeks=1)
    weight, shock, ahead = pl.col("weight"), pl.col("price_left"), pl.col("next")
    both = (
        solve(rows, by)
        .filter("sold")
        .sort(*SERIES, WEEK)
        .with_columns(pl.when(follows).then(shock.shift(-1).over(SERIES)).alias("next"))
        .drop_nulls("next")
        .with_columns(
            pl.col("rest") - pl.col("rest").mean().over(SERIES), ahead - ahead.mean().over(SERIES)
        )
    )
    if not by:
        return placebo(rows.with_columns(pl.lit("shop").alias("shop")), ["shop"], confidence).drop(
            "shop"
        )
    # Frisch-Waugh: what of next week's price is not this week's, against what is left of demand.
    for target in ("next", "rest"):
        on_price = (weight * shock * pl.col(target)).sum() / (weight * shock**2).sum()
        both = both.with_columns(pl.col(target) - on_price.over(by) * shock)
    slope = (weight * ahead * pl.col("rest")).sum() / (weight * ahead**2).sum()
    linear = both.with_columns(slope.over(by).alias("slope")).with_columns(
        (pl.col("rest") - pl.col("slope") * ahead).alias("rest"), ahead.alias("price_left")
    )
    return _interval(linear, by, confidence)
