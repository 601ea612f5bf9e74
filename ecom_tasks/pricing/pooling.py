"""One elasticity for many products: for each category, and for the whole shop from its parts.

A part is what fits in memory (see `parts`). What it adds to the shop's elasticity are sums over
clusters, so that the shop never has to be there at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from scipy import stats

from ecom_tasks.pricing import elasticity
from ecom_tasks.pricing.panel import WEEK


def pooled(solved: pl.DataFrame, by: list[str], confidence: float) -> pl.DataFrame:
    """Estimate one elasticity for each group, with an interval that allows for clusters.

    Errors may be correlated within a product (a location, where these are more) over all weeks and
    within a week over everything (two-way clusters, Cameron, Gelbach and Miller 2011; never less
    than by product or location alone), each cluster's score over 1 - its share of the information,
    close to leaving it out in turn: where one product brings most of what is known, the interval is
    wide. Quantiles are those of Student's t with one degree of freedom fewer than the scarcer
    clusters.

    Parameters
    ----------
    solved : see `elasticity.solve`, by the same columns
    by : columns that name a group; empty: one for all

    Returns
    -------
    DataFrame
        `by`, products, weeks, estimate, standard_error, lower, upper; no row for a group with fewer
        than two clusters.
    """
    if not by:
        return over_parts([sums(solved)], confidence)
    scored = elasticity.scores(solved, by)
    places, products = (pl.col(each).n_unique().over(by) for each in ("location_id", "product_id"))
    unit = (
        pl
        .when(places > products)
        .then(pl.col("location_id").cast(pl.String))
        .otherwise(pl.col("product_id").cast(pl.String))
    )
    told = scored.group_by(by).agg(
        pl.col("slope").first(), pl.col("product_id").n_unique().cast(pl.Float64).alias("products")
    )
    return _interval(_cells(scored.with_columns(unit.alias("unit")), by), told, by, confidence)


def _cells(scored: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Sum scores and information over clusters: units and weeks."""
    return scored.group_by(*by, "unit", WEEK, maintain_order=True).agg(
        pl.col("score", "information").sum()
    )


@dataclass(frozen=True)
class Sums:
    """What one part of the shop adds to the elasticity of all of it.

    Attributes
    ----------
    slope : elasticity of the part alone
    by_product, by_location : unit, week_starts_on, score (at the part's slope), information
    """

    slope: float
    by_product: pl.DataFrame
    by_location: pl.DataFrame


def sums(solved: pl.DataFrame) -> Sums:
    """Sum up rows that share one elasticity, see `elasticity.solve` with no column."""
    scored = elasticity.scores(solved, [])
    by_product, by_location = (
        _cells(scored.with_columns(pl.col(each).alias("unit")), []).cast({"unit": pl.String})
        for each in ("product_id", "location_id")
    )
    slope = float(scored["slope"][0]) if scored.height else 0.0
    return Sums(slope, by_product, by_location)


def over_parts(parts: list[Sums], confidence: float) -> pl.DataFrame:
    """Estimate one elasticity for all parts together, as `pooled` would if they fitted in memory.

    Of the first order: a part's scores are moved from its own elasticity to that of all in
    proportion to the information. Of one part nothing moves.

    Returns
    -------
    DataFrame of one row as of `pooled`; none with fewer than two clusters.
    """
    parts = [part for part in parts if part.by_product["information"].sum() > 0]
    if not parts:
        return _nothing()
    known = [float(part.by_product["information"].sum()) for part in parts]
    first = parts[0].slope
    off = sum(each * (part.slope - first) for each, part in zip(known, parts, strict=True)) / sum(
        known
    )
    slope = first + off
    products, places = (
        pl.concat([getattr(part, name) for part in parts])["unit"].n_unique()
        for name in ("by_product", "by_location")
    )
    unit = "by_location" if places > products else "by_product"
    cells = pl.concat([
        getattr(part, unit).with_columns(
            pl.col("score") - pl.col("information") * (slope - part.slope)
        )
        for part in parts
    ])
    summed = cells.group_by("unit", WEEK, maintain_order=True).agg(
        pl.col("score", "information").sum()
    )
    told = pl.DataFrame({"shop": ["shop"], "slope": [slope], "products": [float(products)]})
    summed = summed.with_columns(pl.lit("shop").alias("shop"))
    return _interval(summed, told, ["shop"], confidence).drop("shop")


def _nothing() -> pl.DataFrame:
    number = pl.Float64
    names = ("products", "weeks", "estimate", "standard_error", "lower", "upper")
    return pl.DataFrame(schema=dict.fromkeys(names, number))


def _interval(
    cells: pl.DataFrame, told: pl.DataFrame, by: list[str], confidence: float
) -> pl.DataFrame:
    def squares(cluster: list[str], prefix: str) -> pl.DataFrame:
        summed = cells.group_by(*by, *cluster, maintain_order=True).agg(
            pl.col("score", "information").sum()
        )
        share = pl.col("information") / pl.col("information").sum()
        return summed.group_by(by, maintain_order=True).agg(
            ((pl.col("score") / (1 - share)) ** 2).sum().alias(f"{prefix}_squares"),
            pl.len().cast(pl.Float64).alias(f"{prefix}s"),
        )

    unit, week = pl.col("unit_squares"), pl.col("week_squares")
    variance = pl.max_horizontal(unit, unit + week - pl.col("row_squares"))
    scarcer = pl.min_horizontal("units", "weeks")
    found = (
        told
        .rename({"slope": "estimate"})
        .join(cells.group_by(by).agg(pl.col("information").sum()), on=by)
        .join(squares(["unit"], "unit"), on=by)
        .join(squares([WEEK], "week"), on=by)
        .join(squares(["unit", WEEK], "row"), on=by)
        .filter((scarcer > 1) & (pl.col("information") > 0))
        .with_columns((variance.sqrt() / pl.col("information")).alias("standard_error"))
        .sort(by)
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
