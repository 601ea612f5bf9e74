"""What may be recommended to whom, and how much more or less than its orders say."""

from __future__ import annotations

import difflib
import functools
import operator
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecom_tasks.errors import ConfigError
from ecom_tasks.recommendation.rules import Goods, Rules, named
from ecom_tasks.recommendation.segments import LAPSING, LOYAL, NEW, OCCASIONAL
from ecom_tasks.recommendation.snapshots import PAIR, Overview

BoolMatrix = NDArray[np.bool_]


@dataclass(frozen=True)
class Shop:
    """What the shop says of goods and people, beside what the features know.

    Attributes
    ----------
    catalogue : lake table products
    stock : lake table stock, or None where the shop has none
    customers : lake table customers, or None
    exclusions : lake table exclusions, or None
    """

    catalogue: pl.DataFrame
    stock: pl.DataFrame | None = None
    customers: pl.DataFrame | None = None
    exclusions: pl.DataFrame | None = None


@dataclass(frozen=True)
class Limits:
    """Goods that only some customers may see.

    Attributes
    ----------
    goods : which limit a product falls under, shape (products, limits)
    refused : which limit keeps a customer out, shape (customers, limits)
    """

    goods: BoolMatrix
    refused: BoolMatrix


def among(goods: Goods) -> pl.Expr:
    """Return whether a product (columns product_id, category, brand) is among `goods`."""
    category = pl.col("category").fill_null("")
    parts = [
        pl.col("product_id").is_in(list(goods.products)),
        pl.col("brand").fill_null("").is_in(list(goods.brands)),
        *((category == path) | category.str.starts_with(f"{path}/") for path in goods.categories),
    ]
    return functools.reduce(operator.or_, parts)


def check(rules: Rules, catalogue: pl.DataFrame, customers: pl.DataFrame | None) -> list[str]:
    """Return the product ids that rules name and the catalogue has not: they do nothing.

    Parameters
    ----------
    catalogue : lake table products
    customers : lake table customers, or None

    Raises
    ------
    ConfigError
        A rule names a category, brand, segment or region that there is not. A misspelt one would
        let through what it is there to keep out, or keep out everyone.
    """
    paths = catalogue["category"].drop_nulls().unique()
    wanted, pins = named(rules), rules.pins
    regions = [*(pin.regions for pin in pins), *(e.regions for e in rules.eligibility.only_in)]
    _refuse(
        "category",
        {name for goods in wanted for name in goods.categories},
        {path.rsplit("/", up)[0] for path in paths for up in range(path.count("/") + 1)},
    )
    _refuse(
        "brand",
        {name for goods in wanted for name in goods.brands},
        set(catalogue["brand"].drop_nulls()),
    )
    said = {
        name: set() if customers is None else set(customers[name].drop_nulls())
        for name in ("segment", "region")
    }
    _refuse(
        "segment",
        {name for pin in pins for name in pin.segments},
        said["segment"] | {NEW, LAPSING, LOYAL, OCCASIONAL},
    )
    _refuse("region", {name for each in regions for name in each}, said["region"])
    products = {name for goods in wanted for name in goods.products}
    products |= {pin.product for pin in pins}
    return sorted(products - set(catalogue["product_id"]))


def _refuse(kind: str, asked: set[str], known: set[str]) -> None:
    for name in sorted(asked - known):
        near = difflib.get_close_matches(name, sorted(known), 3)
        raise ConfigError(
            f"The rules name the {kind} {name!r}, which nothing has",
            f"Is it one of these: {', '.join(near)}?" if near else "Look into the shop's tables",
        )


def shelf(overview: Overview, shop: Shop, rules: Rules) -> pl.DataFrame:
    """Return what may be recommended: sold or launched lately, in stock, not ruled out.

    A product that the latest counts find nowhere is left out; one never counted is kept.

    Returns
    -------
    DataFrame
        product_id, category, brand, bonus: what boosts and value add to the logarithm of the
        expected orders; sorted by product_id
    """
    columns = ["product_id", "category", "brand"]
    price = pl.coalesce("last_price", "mean_price").alias("price")
    lately = pl.col("days_since_last_sale") <= rules.eligibility.stale_days
    sold = overview.products.select(*columns, price, lately.alias("lately"))
    age = (pl.lit(overview.cutoff) - pl.col("launched_on")).dt.total_days()
    launched = shop.catalogue.filter(
        pl.col("sellable").fill_null(value=True) & age.is_between(0, rules.eligibility.stale_days)
    ).select(*columns, pl.col("regular_price").cast(pl.Float64).alias("price"))
    unsold = launched.join(sold, on="product_id", how="anti").with_columns(
        pl.lit(value=True).alias("lately")
    )
    goods = pl.concat([sold, unsold.select(sold.columns)]).filter(
        pl.col("lately") & ~among(rules.eligibility.never)
    )
    if shop.stock is not None:
        goods = goods.join(_gone(shop.stock), on="product_id", how="anti")
    costs = shop.catalogue.select("product_id", pl.col("unit_cost").cast(pl.Float64))
    return (
        goods
        .join(costs, on="product_id", how="left")
        .select(*columns, _bonus(rules).round(9).alias("bonus"))
        .sort("product_id")
    )


def _gone(stock: pl.DataFrame) -> pl.DataFrame:
    newest = pl.col("snapshot_on").max().over("product_id", "location_id")
    latest = stock.filter(pl.col("snapshot_on") == newest)
    held = latest.group_by("product_id").agg(pl.col("on_hand").sum())
    return held.filter(pl.col("on_hand") <= 0)


def _bonus(rules: Rules) -> pl.Expr:
    bonus = pl.lit(0.0)
    for boost in rules.boosts:
        bonus += pl.when(among(boost)).then(float(np.log(boost.factor))).otherwise(0.0)
    if rules.value.weight:
        price, share = pl.col("price"), rules.value.assumed_margin
        if rules.value.of == "revenue":
            worth = price
        else:
            earned = price - pl.col("unit_cost")
            # What is sold at cost or below counts as worth a hundredth of its price.
            worth = pl.max_horizontal(earned.fill_null(share * price), price / 100)
        relative = worth / worth.median()
        usable = pl.when(relative > 0).then(relative).otherwise(1.0).fill_null(1.0)
        bonus += rules.value.weight * usable.log()
    return bonus


def audience(overview: Overview, shop: Shop, segments: pl.DataFrame) -> pl.DataFrame:
    """Return everyone who gets a list: customers with orders, and those the shop names.

    Parameters
    ----------
    segments : of `segments.segments`

    Returns
    -------
    DataFrame with customer_id, segment, region, birth_year (null where unknown), sorted
    """
    facts = {"region": pl.String, "birth_year": pl.Int64}
    said = pl.DataFrame(schema={"customer_id": pl.String, **facts})
    if shop.customers is not None:
        known = [
            pl.col(name).cast(dtype) if name in shop.customers.columns
            else pl.lit(None).cast(dtype).alias(name)
            for name, dtype in facts.items()
        ]  # fmt: skip
        said = shop.customers.select("customer_id", *known)
    everyone = overview.customers.select("customer_id")
    named = pl.concat([everyone, said.select("customer_id")]).unique()
    return (
        named
        .join(segments, on="customer_id", how="left")
        .join(said, on="customer_id", how="left")
        .sort("customer_id")
    )


def limits(goods: pl.DataFrame, people: pl.DataFrame, rules: Rules, on: date) -> Limits:
    """Return which goods are limited, and whom each limit keeps out.

    Parameters
    ----------
    goods : of `shelf`
    people : of `audience`
    on : the day; who has a birthday this year counts as not yet having had it
    """
    ruled = rules.eligibility
    refused = [
        *((on.year - 1 - pl.col("birth_year") < each.years).fill_null(value=True)
          for each in ruled.age_limits),
        *((~pl.col("region").is_in(list(each.regions))).fill_null(value=True)
          for each in ruled.only_in),
    ]  # fmt: skip
    about = [among(each) for each in (*ruled.age_limits, *ruled.only_in)]
    return Limits(_columns(goods, about), _columns(people, refused))


def _columns(frame: pl.DataFrame, tests: list[pl.Expr]) -> BoolMatrix:
    found = [frame.select(test.alias("found"))["found"].to_numpy() for test in tests]
    return np.stack(found, axis=1) if found else np.zeros((frame.height, 0), dtype=bool)


def barred(overview: Overview, shop: Shop, rules: Rules) -> pl.DataFrame:
    """Return customer_id, product_id of what a customer must not see: owned for good, or excluded.

    An exclusion with a day in `until` ends with that day.
    """
    parts = [pl.DataFrame(schema=dict.fromkeys(PAIR, pl.String))]
    facts = overview.products.select("product_id", "category", "brand")
    for each in rules.eligibility.durable:
        goods = facts.filter(among(each))
        lately = pl.col("days_since_last_order") < each.days
        parts += [
            part.filter(lately).join(goods, on="product_id", how="semi").select(PAIR)
            for part in overview.pairs
        ]
    if shop.exclusions is not None:
        lasting = pl.col("until").is_null() | (pl.col("until") >= overview.cutoff)
        parts.append(shop.exclusions.filter(lasting).select(PAIR))
    return pl.concat(parts).unique().sort(PAIR)
