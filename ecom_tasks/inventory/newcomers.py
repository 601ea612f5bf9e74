"""Products too new for a series of their own, forecast by what similar ones sold at the same age.

Similar: of a like price, and of the same category; where these are too few, of the same department;
then, most of all where a shop has no categories, those that a recommendation model holds to be most
like it by what they are (brand, price, title); then of the category or department at any price,
then all. Weekly demand of a product is taken to be Poisson around the mean of the similar ones
times a factor of its own, which varies between products like a gamma variable; its first weeks of
sales tell about the factor as much as they can (Bayes), so that a product begins as its like did
and becomes its own (the gamma-Poisson model of empirical Bayes, Robbins, 1956).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import nbinom

from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.inventory.layout import quantile_column
from ecom_tasks.inventory.series import WEEK, last_complete_week
from ecom_tasks.metrics.forecast import Array

ALIKE = (
    "category and price", "department and price", "embedding and price", "category", "department",
    "all",
)  # fmt: skip
_FEWEST_ALIKE = 5
_NEAREST = 30
"""Products of a like price whose embeddings lie nearest."""
_PRICE_BAND = 1.5
"""Factor within which prices are alike."""
_UNSEEN_WEEKS = 4
"""Weeks at the beginning in which a first sale need not be a launch."""
_LEAST_VARIATION = 0.05
_TINY = 1e-9
_SCHEMA: dict[str, pl.DataType] = {
    "product_id": pl.String(), "title": pl.String(), "category": pl.String(),
    "weeks_on_sale": pl.Int64(), "alike": pl.Int64(), "basis": pl.String(),
    "week": pl.List(pl.Date()),
}  # fmt: skip
Product = dict[str, Any]


@dataclass(frozen=True)
class Factor:
    """What is known of the factor by which a product outsells its like: a gamma distribution."""

    shape: float
    rate: float

    @property
    def mean(self) -> float:
        return self.shape / self.rate


def factor(alike: Array, own: float, expected: float) -> Factor:
    """Return the factor of a product after its first sales.

    Parameters
    ----------
    alike : (products,), units that each of the similar products sold over the same ages
    own : units that the product has sold so far
    expected : units that the similar ones sold on average in as many weeks

    Returns
    -------
    Factor. Before it is known that products differ by less, their squared variation is at least
    0.05, of which the share that counting alone explains is taken off.
    """
    mean = float(alike.mean())
    variation = float(alike.var() / mean**2 - 1 / mean) if mean > 0 else 0.0
    prior = 1 / max(variation, _LEAST_VARIATION)
    return Factor(prior + own, prior + expected)


def forecast(
    demand: Sequence[pl.LazyFrame],
    products: pl.LazyFrame,
    series: pl.DataFrame,
    as_of: date,
    config: InventoryConfig,
    embeddings: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Forecast, by weeks, products first sold too late to be among the series, or starting soon.

    Parameters
    ----------
    demand, products : `features/demand`, in parts of whole products, and `lake/products`
    series : keys of the panel; their products are forecast there
    as_of : last day known, inclusive
    embeddings : product_id and embedding (of length 1), of a model in service before; None: none

    Returns
    -------
    A row a product (over all locations) and week: product_id, title, category, weeks_on_sale (so
    far), alike (similar products), basis (one of `ALIKE`), week_starts_on, mean and quantiles.
    Products first sold after the choice of the series with `config.minimum_orders` orders, at most
    `config.products` with the most units; and those whose `launched_on` lies in the weeks ahead.
    """
    config = _in_weeks(config)
    last = last_complete_week(as_of)
    parts = [_weekly(part, last) for part in demand]
    weekly = pl.concat(parts).sort("product_id", "week_starts_on")
    start = weekly["week_starts_on"].min()
    chosen_before = last - (config.test_windows * config.horizon - 1) * WEEK
    assert isinstance(start, date)
    life = _lives(weekly, products, start, last)
    # What hardly ever sold is not what a product that is to be ordered is like.
    launched = life.filter(
        (pl.col("first") >= start + _UNSEEN_WEEKS * WEEK)
        & (pl.col("orders") >= config.minimum_orders)
    )
    sold = _sold_by_age(weekly, launched, last)
    new = _newcomers(life, series, chosen_before, last, config)
    ours, others = _vectors(new, embeddings), _vectors(launched, embeddings)
    mondays = [last + (step + 1) * WEEK for step in range(config.horizon)]
    rows = []
    for number, product in enumerate(new.iter_rows(named=True)):
        basis, alike = _alike(launched, product, others @ ours[number])
        if len(alike):
            ahead = _ahead(sold[alike], product, config.horizon)
            rows.append(_row(product, basis, len(alike), ahead, config) | {"week": mondays})
    names = [quantile_column(level) for level in config.quantiles]
    schema = _SCHEMA | {name: pl.List(pl.Float64) for name in ("mean", *names)}
    return (
        pl
        .DataFrame(rows, schema=schema)
        .explode("week", "mean", *names)
        .rename({"week": "week_starts_on"})
    )


def _in_weeks(config: InventoryConfig) -> InventoryConfig:
    """Return the settings with a horizon in weeks: a launch has too few sales for days."""
    weeks = -(-config.horizon * config.period_days // WEEK.days)
    return config.model_copy(update={"horizon": weeks})


def _weekly(demand: pl.LazyFrame, last: date) -> pl.DataFrame:
    return (
        demand
        .filter((pl.col("week_starts_on") <= last) & (pl.col("units") > 0))
        .group_by("product_id", "week_starts_on")
        .agg(pl.col("units", "sales", "orders").sum())
        .collect()
    )


def _lives(weekly: pl.DataFrame, products: pl.LazyFrame, start: date, last: date) -> pl.DataFrame:
    """Return a row a product of the catalogue: first week of sale, price, category, totals."""
    known = weekly.group_by("product_id").agg(
        pl.col("week_starts_on").min().alias("first"),
        pl.col("units", "orders").sum(),
        (pl.col("sales").sum() / pl.col("units").sum()).alias("paid"),
    )
    catalogue = products.select(
        "product_id", "title", "regular_price", "launched_on",
        pl.col("category").fill_null(""),
    ).unique("product_id", keep="first").collect()  # fmt: skip
    return (
        catalogue
        .join(known, on="product_id", how="left")
        .with_columns(
            price=pl.coalesce("paid", "regular_price"),
            department=pl.col("category").str.split("/").list.first(),
            first=pl.coalesce("first", pl.col("launched_on").dt.truncate("1w")),
            units=pl.col("units").fill_null(0.0),
            orders=pl.col("orders").fill_null(0.0),
        )
        .filter(pl.col("first").is_not_null() & (pl.col("first") >= start))
        .with_columns(weeks_on_sale=((last - pl.col("first")).dt.total_days() // 7 + 1))
        .sort("product_id")
    )


def _sold_by_age(weekly: pl.DataFrame, launched: pl.DataFrame, last: date) -> Array:
    """Return what each launched product sold at each age in weeks, NaN where it is not so old."""
    rows = launched.select("product_id", "first", "weeks_on_sale").with_row_index("row")
    oldest = int(rows["weeks_on_sale"].max() or 0)  # type: ignore[arg-type]
    ages = np.arange(max(oldest, 0))
    known = ages[None, :] < rows["weeks_on_sale"].to_numpy()[:, None]
    sold = np.where(known, 0.0, np.nan)
    cells = weekly.join(rows, on="product_id").filter(pl.col("week_starts_on") <= last)
    age = (cells["week_starts_on"] - cells["first"]).dt.total_days() // 7
    sold[cells["row"].to_numpy(), age.to_numpy()] = cells["units"].to_numpy()
    return sold


def _newcomers(
    life: pl.DataFrame,
    series: pl.DataFrame,
    chosen_before: date,
    last: date,
    config: InventoryConfig,
) -> pl.DataFrame:
    others = life.join(series.select("product_id").unique(), on="product_id", how="anti")
    sold = others.filter(
        (pl.col("first") >= chosen_before)
        & (pl.col("first") <= last)
        & (pl.col("orders") >= config.minimum_orders)
    )
    soon = others.filter(
        (pl.col("first") > last) & (pl.col("first") <= last + config.horizon * WEEK)
    )
    best = sold.sort("units", "product_id", descending=[True, False]).head(config.products)
    return pl.concat([best, soon])


def _vectors(products: pl.DataFrame, embeddings: pl.DataFrame | None) -> Array:
    """Return the embedding of each product, shape (products, dimensions); NaN where it has none."""
    if embeddings is None or embeddings.is_empty():
        return np.full((products.height, 1), np.nan)
    rows = products.select("product_id").with_row_index("row")
    known = rows.join(embeddings, on="product_id", maintain_order="left")
    vectors = np.full((products.height, len(embeddings["embedding"][0])), np.nan)
    vectors[known["row"].to_numpy()] = known["embedding"].to_numpy()
    return vectors


def _alike(launched: pl.DataFrame, product: Product, near: Array) -> tuple[str, NDArray[np.uint32]]:
    """Return by what products are similar, and which rows of `launched` are.

    Parameters
    ----------
    near : cosine with each row of `launched`, NaN where it is not known
    """
    others = launched.with_row_index("row").filter(
        (pl.col("product_id") != product["product_id"]) & (pl.col("weeks_on_sale") > 0)
    )
    price = pl.col("price") / product["price"]
    priced = (price <= _PRICE_BAND) & (price >= 1 / _PRICE_BAND)
    category = (pl.col("category") == product["category"]) & (pl.col("category") != "")
    department = (pl.col("department") == product["department"]) & (pl.col("category") != "")
    nearest = pl.col("row").is_in(_nearest(_rows(others, priced), near))
    conditions = (
        category & priced, department & priced, nearest, category, department, pl.lit(value=True)
    )  # fmt: skip
    for basis, condition in zip(ALIKE, conditions, strict=True):
        found = _rows(others, condition)
        if len(found) >= _FEWEST_ALIKE:
            return basis, found
    return ALIKE[-1], _rows(others, pl.lit(value=True))


def _rows(launched: pl.DataFrame, condition: pl.Expr) -> NDArray[np.uint32]:
    return launched.filter(condition.fill_null(value=False))["row"].to_numpy()


def _nearest(rows: NDArray[np.uint32], near: Array) -> list[int]:
    """Return those of the rows whose embeddings lie nearest, at most `_NEAREST`."""
    known = rows[np.isfinite(near[rows])]
    order = np.argsort(-near[known], kind="stable")[:_NEAREST]
    return [int(row) for row in known[order]]


def _ahead(sold: Array, product: Product, horizon: int) -> tuple[Array, Factor]:
    """Return what those alike sold in the weeks ahead at their age, (steps,), and the factor.

    Parameters
    ----------
    sold : (products alike, ages), NaN where one is not so old
    """
    age = max(int(product["weeks_on_sale"]), 0)
    steps = int(product["weeks_on_sale"]) + np.arange(horizon)
    usual = _by_age(sold, age + horizon)
    whole = sold[:, : max(age, horizon)]
    whole = np.where(np.isnan(whole), usual[: whole.shape[1]], whole)
    known = factor(whole.sum(axis=1), float(product["units"]), float(usual[:age].sum()))
    return np.where(steps >= 0, usual[np.maximum(steps, 0)], 0.0), known


def _by_age(sold: Array, ages: int) -> Array:
    """Return the mean of those known at each age; where too few are, its last four go on."""
    known = np.isfinite(sold)
    count = known.sum(axis=0)
    mean = np.where(known, sold, 0).sum(axis=0) / np.maximum(count, 1)
    mean = mean[: max(int((count >= min(_FEWEST_ALIKE, len(sold))).sum()), 1)]
    return np.concatenate([mean, np.full(max(ages - len(mean), 0), mean[-4:].mean())])


def _row(
    product: Product, basis: str, alike: int, ahead: tuple[Array, Factor], config: InventoryConfig
) -> Product:
    usual, known = ahead
    mean = usual * known.mean
    # Poisson around a gamma variable is negative binomial.
    chance = known.shape / (known.shape + np.maximum(mean, _TINY))
    levels = nbinom.ppf(np.asarray(config.quantiles)[:, None], known.shape, chance[None, :])
    quantiles = zip(config.quantiles, np.where(mean > 0, levels, 0.0), strict=True)
    named = {name: product[name] for name in ("product_id", "title", "category", "weeks_on_sale")}
    made = {quantile_column(level): values.tolist() for level, values in quantiles}
    return named | {"alike": alike, "basis": basis, "mean": mean.tolist()} | made
