"""What came true of a release: forecasts, lists and prices against the orders since.

The functions named `of_bucket` take the rows of one bucket and return what is left of it to judge;
the others judge the buckets together.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from scipy import stats

from ecom_tasks.metrics import forecast, ranking
from ecom_tasks.monitoring.config import MonitoringConfig

WEEK = "week_starts_on"
ALL = "all"
DEPTH = 10
"""Places of a list that are judged, as in the releases' own evaluation."""
_PAIR = ["customer_id", "product_id"]
FORECASTS: dict[str, pl.DataType] = {
    "part": pl.String(), "of": pl.String(), "forecasts": pl.Int64(), "units": pl.Float64(),
    "forecast": pl.Float64(), "wape": pl.Float64(), "bias": pl.Float64(), "coverage": pl.Float64(),
}  # fmt: skip
LISTS: dict[str, pl.DataType] = {
    "part": pl.String(), "of": pl.String(), "shown": pl.Int64(), "bought": pl.Int64(),
    "share": pl.Float64(),
}  # fmt: skip
PRICES: dict[str, pl.DataType] = {
    "product_id": pl.String(), "current_price": pl.Float64(), "proposed_price": pl.Float64(),
    "price": pl.Float64(), "units": pl.Float64(), "expected": pl.Float64(), "lower": pl.Float64(),
    "upper": pl.Float64(), "outside": pl.Boolean(),
}  # fmt: skip


def daily(lines: pl.LazyFrame) -> pl.LazyFrame:
    """Bring order_lines to what a product sold at a place: a row a line, returns subtracted."""
    sign = pl.when(pl.col("returned").fill_null(value=False)).then(-1.0).otherwise(1.0)
    return lines.select(
        "product_id",
        pl.col("location_id").fill_null(ALL),
        pl.col("ordered_at").dt.date().alias("day"),
        (sign * pl.col("quantity")).alias("units"),
    )


def forecasts_of_bucket(sold: pl.LazyFrame, promised: pl.LazyFrame, last: date) -> pl.DataFrame:
    """Set what sold beside what was forecast, for the products of one bucket.

    Parameters
    ----------
    sold : product_id, location_id, week_starts_on or day, units; whole products
    promised : product_id, location_id (`all`: over all locations), week_starts_on or day, mean,
        q10, q90
    last : day up to which sales are known, inclusive; only weeks that are complete count

    Returns
    -------
    DataFrame
        product_id, week_starts_on (of a day: its Monday), units (0 where nothing sold), mean, q10,
        q90; a row for each forecast whose time is over
    """
    period, days = ("day", 1) if "day" in promised.collect_schema() else (WEEK, 7)
    everywhere = promised.select((pl.col("location_id") == ALL).all()).collect().item()
    key = ["product_id", period] if everywhere else ["product_id", "location_id", period]
    return (
        promised
        .filter(pl.col(period) + timedelta(days=days - 1) <= last)
        .join(sold.select("product_id").unique(), on="product_id", how="semi")
        .join(sold.group_by(key).agg(pl.col("units").sum()), on=key, how="left")
        .select(
            "product_id", pl.col(period).dt.truncate("1w").alias(WEEK),
            pl.col("units").fill_null(0.0), "mean", "q10", "q90",
        )
        .sort("product_id", WEEK, "mean", "units")
        .collect()
    )  # fmt: skip


def judge_forecasts(rows: pl.DataFrame, products: pl.DataFrame) -> pl.DataFrame:
    """Judge forecasts over all, by week, and by department.

    Parameters
    ----------
    rows : see `forecasts_of_bucket`, of all buckets
    products : product_id, category (path)

    Returns
    -------
    DataFrame
        See `FORECASTS`: part (`all`, `week`, `department`) and of (which), units sold and
        forecast, wape, bias (both over units sold; null where nothing sold), and the share within
        the central 80% interval.
    """
    department = pl.col("category").str.split("/").list.first().fill_null("(none)")
    named = rows.join(products, on="product_id", how="left").select(
        "units", "mean", "q10", "q90",
        pl.lit(ALL).alias("all"),
        pl.col(WEEK).dt.to_string("%Y-%m-%d").alias("week"),
        department.alias("department"),
    )  # fmt: skip
    found = [
        _judge_part(group, part, str(of))
        for part in ("all", "week", "department")
        for (of,), group in named.group_by(part, maintain_order=True)
    ]
    table = pl.DataFrame(found, schema=FORECASTS).sort(
        pl.col("part").replace_strict({"all": 0, "week": 1, "department": 2}, default=3), "of"
    )
    return _told(table)


def _judge_part(group: pl.DataFrame, part: str, of: str) -> dict[str, object]:
    units, mean, low, high = (
        group[name].to_numpy().astype(np.float64)[:, None]
        for name in ("units", "mean", "q10", "q90")
    )
    return {
        "part": part, "of": of, "forecasts": len(units), "units": units.sum(),
        "forecast": mean.sum(), "wape": forecast.wape(units, mean),
        "bias": forecast.bias(units, mean),
        "coverage": forecast.interval_coverage(units, low, high),
    }  # fmt: skip


@dataclass(frozen=True)
class Bought:
    """What the customers of one bucket, or of all, bought of what they were shown.

    Attributes
    ----------
    hit, ndcg : a value for each customer who has a list and bought what could be in one.
    shown : part (`place`, `generator`), of, shown, bought: sums over these customers.
    new_customers : who bought and had no list.
    left_out : pairs of customer and product bought that no list could hold, the product being new
        or bought by too few before.
    """

    hit: ranking.FloatArray
    ndcg: ranking.FloatArray
    shown: pl.DataFrame
    new_customers: int
    left_out: int


def lists_of_bucket(
    lines: pl.LazyFrame, lists: pl.LazyFrame, known: pl.LazyFrame, since: date, until: date
) -> Bought:
    """Judge the lists of one bucket's customers.

    Parameters
    ----------
    lines : order_lines of whole customers
    lists : customer_id, product_id, rank (from 1), generator; of all customers
    known : product_id of the products that the release could rank
    since : last day that the release knew, exclusive
    until : last day, inclusive
    """
    ordered = (
        lines
        .filter(
            pl.col("customer_id").is_not_null(),
            ~pl.col("returned").fill_null(value=False),
            pl.col("ordered_at").dt.date().is_between(since, until, closed="right"),
        )
        .select(_PAIR)
        .unique()
        .collect()
    )
    buyers = ordered.lazy().select("customer_id").unique()
    shown = (
        lists
        .filter(pl.col("rank") <= DEPTH)
        .select(*_PAIR, "rank", "generator")
        .join(buyers, on="customer_id", how="semi")
        .collect(engine="streaming")
    )
    rankable = ordered.lazy().join(known, on="product_id", how="semi").collect()
    served = shown["customer_id"].unique()
    hits = ranking.hits(shown, rankable, served, DEPTH)
    judged = pl.DataFrame({"customer_id": hits.customers}, schema={"customer_id": pl.String})
    places = (
        shown
        .join(judged, on="customer_id", how="semi")
        .join(rankable.with_columns(bought=pl.lit(value=True)), on=_PAIR, how="left")
        .with_columns(pl.col("rank").cast(pl.String).str.zfill(2).alias("place"))
    )
    return Bought(
        hit=ranking.hit_rate_at_k(hits.at_rank, DEPTH),
        ndcg=ranking.ndcg_at_k(hits.at_rank, hits.positives, DEPTH),
        shown=pl.concat([
            places.group_by(pl.col(part).alias("of")).agg(
                pl.lit(part).alias("part"), pl.len().cast(pl.Int64).alias("shown"),
                pl.col("bought").sum().cast(pl.Int64),
            ).select("part", "of", "shown", "bought")
            for part in ("place", "generator")
        ]),
        new_customers=ordered["customer_id"].n_unique() - len(served),
        left_out=ordered.height - rankable.height,
    )  # fmt: skip


def judge_lists(
    parts: list[Bought], config: MonitoringConfig
) -> tuple[pl.DataFrame, dict[str, float]]:
    """Add up the buckets.

    Returns
    -------
    DataFrame
        See `LISTS`: by place in the list and by generator, how often a product was shown to
        customers who bought since, and how often it was bought.
    dict
        customers, hit_rate and ndcg with their bootstrap intervals (`_lower`, `_upper`; over the
        first `resampled_customers`), new_customers, left_out. No rates without a customer.
    """
    hit, ndcg = (np.concatenate([getattr(part, name) for part in parts] or [np.empty(0)])
                 for name in ("hit", "ndcg"))  # fmt: skip
    facts: dict[str, float] = {
        "customers": len(hit),
        "new_customers": sum(part.new_customers for part in parts),
        "left_out": sum(part.left_out for part in parts),
    }
    for name, values in (("hit_rate", hit), ("ndcg", ndcg)):
        if len(values):
            low, high = ranking.bootstrap_interval(
                values[: config.resampled_customers], level=config.confidence,
                resamples=config.resamples, seed=config.seed,
            )  # fmt: skip
            facts |= {name: values.mean(), f"{name}_lower": low, f"{name}_upper": high}
    shown = pl.concat([part.shown for part in parts]) if parts else pl.DataFrame()
    if shown.is_empty():
        return pl.DataFrame(schema=LISTS), _few(facts)
    table = shown.group_by("part", "of").agg(pl.col("shown", "bought").sum())
    table = table.with_columns((pl.col("bought") / pl.col("shown")).alias("share"))
    table = table.sort("part", "of", descending=[True, False]).select(*LISTS)
    return _told(table), _few(facts)


def lower_by_chance(share: float, n: int, before: float, m: int) -> float:
    """Return the probability that a share is this much lower where nothing changed.

    One-sided test of two independent shares with pooled variance (z-test).

    Parameters
    ----------
    share, n : now, of how many
    before, m : then, of how many

    Examples
    --------
    >>> lower_by_chance(0.5, 100, 0.5, 100)
    0.5
    """
    pooled = (share * n + before * m) / (n + m)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    if error == 0:
        return 0.5
    return float(stats.norm.cdf((share - before) / error))


def prices_of_bucket(demand: pl.LazyFrame, since: date, last: date) -> pl.DataFrame:
    """Sum what each product of one bucket sold since a release, and at which price.

    The price of a week is the median over locations, that of the product the upper median of its
    last five weeks, as a release of prices takes it.

    Parameters
    ----------
    demand : product_id, location_id, week_starts_on, units, median_price; whole products
    since : last day that the release knew; weeks that begin later count
    last : day up to which demand is known, inclusive

    Returns
    -------
    DataFrame
        product_id, units (over the whole weeks since), price (null without a sale at a price)
    """
    week = pl.col(WEEK)
    priced = (pl.col("units") > 0) & (pl.col("median_price") > 0)
    return (
        demand
        .filter(week > since, week + timedelta(days=6) <= last)
        .group_by("product_id", WEEK)
        .agg(pl.col("units").sum(), pl.col("median_price").filter(priced).median().alias("price"))
        .sort("product_id", WEEK)
        .group_by("product_id")
        .agg(
            pl.col("units").sum(),
            pl.col("price").drop_nulls().tail(5).quantile(0.5, "higher"),
        )
        .sort("product_id")
        .collect()
    )


def judge_prices(
    proposals: pl.DataFrame, sold: pl.DataFrame, weeks: int, config: MonitoringConfig
) -> tuple[pl.DataFrame, dict[str, float]]:
    """Compare units after price changes with what was expected of them.

    A proposal was followed if the price is near the proposed one and nearer to it than to the old.
    What all products sell more or less than then (a season, a shop that grows) is taken from those
    whose price was kept, and so is how widely units spread around an expectation; the interval
    holds that spread and the doubt about the elasticity.

    Parameters
    ----------
    proposals : product_id, current_price, proposed_price, change, weekly_units, units_change with
        _lower and _upper (units a week)
    sold : see `prices_of_bucket`, of all buckets
    weeks : whole weeks since the release

    Returns
    -------
    DataFrame
        See `PRICES`: a row for each proposal that was followed, units over these weeks.
    dict
        proposed, followed, kept (at the old price, whatever was proposed), not_followed, level
        (units of the kept over what they sold before) and, where any was followed, units,
        expected and outside (share).
    """
    near = config.price_tolerance
    away, aside = (
        (pl.col("price") / pl.col(name) - 1).abs() for name in ("proposed_price", "current_price")
    )
    moved = pl.col("change") != 0
    rows = proposals.join(sold, on="product_id", how="left").with_columns(
        pl.col("units").fill_null(0.0),
        (moved & (away <= near) & (away < aside)).fill_null(value=False).alias("followed"),
        ((aside <= near) & ~(moved & (away < aside))).fill_null(value=False).alias("kept"),
    )
    kept = rows.filter("kept", pl.col("weekly_units") > 0)
    before = weeks * kept["weekly_units"].to_numpy()
    level = float(kept["units"].sum() / before.sum()) if len(before) else 1.0
    expected = before * level
    spread = 1.0
    if len(expected) > 1 and level > 0:
        squares = (kept["units"].to_numpy() - expected) ** 2 / expected
        spread = max(float(squares.mean()), 1.0)
    deviations = float(stats.norm.ppf((1 + config.confidence) / 2))

    def units(change: str) -> pl.Expr:
        weekly = (pl.col("weekly_units") + pl.col(change)).clip(lower_bound=0)
        return weeks * level * weekly

    low, high = units("units_change_lower"), units("units_change_upper")
    table = (
        rows
        .filter("followed")
        .with_columns(
            units("units_change").alias("expected"),
            (low - deviations * (spread * low).sqrt()).clip(lower_bound=0).alias("lower"),
            (high + deviations * (spread * high).sqrt()).alias("upper"),
        )
        .with_columns((~pl.col("units").is_between("lower", "upper")).alias("outside"))
        .sort("product_id")
        .select(PRICES.keys())
    )
    proposed = rows.filter(moved).height
    facts: dict[str, float] = {
        "proposed": proposed, "followed": table.height, "kept": kept.height,
        "not_followed": proposed - table.height, "level": level, "spread": spread,
    }  # fmt: skip
    if table.height:
        facts |= {
            "units": float(table["units"].sum()), "expected": float(table["expected"].sum()),
            "outside": table.filter("outside").height / table.height,
        }  # fmt: skip
    return _told(table), _few(facts)


def _told(table: pl.DataFrame) -> pl.DataFrame:
    """Drop the last bits, which differ with the order of addition; what is not known is null."""
    return table.with_columns(pl.col(pl.Float64).fill_nan(None).round(6))


def _few(facts: dict[str, float]) -> dict[str, float]:
    return {name: round(float(v), 6) if isinstance(v, float) else v for name, v in facts.items()}


def whole_weeks(since: date, last: date) -> int:
    """Count the weeks that begin after `since` and whose Sunday is not after `last`."""
    monday = since + timedelta(days=7 - since.weekday())
    return max((last - monday + timedelta(days=1)).days // 7, 0)
