"""Price tests for what history cannot tell: how long, how far, at how many locations.

Locations are dealt into two groups, of which one sells at a moved price, and the groups change
places every `switch_weeks` (a switchback): what differs between locations, and what moves all of
them, cancels. With one location, the price itself goes up and down from block to block.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from ecom_tasks.errors import ConfigError
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.evidence import CANNOT_TELL
from ecom_tasks.pricing.panel import SERIES, WEEK

# Blocks that a comparison needs at least, so that one odd week does not decide.
_LEAST_BLOCKS = 4
_LONGEST_WEEKS = 26


@dataclass(frozen=True)
class PriceTest:
    """A test of one product.

    Attributes
    ----------
    product_id : whose price moves
    low, high : prices to alternate, store currency
    locations, weeks, switch_weeks : size and rhythm; design: switchback over locations or time
    weekly_units, noise : usual units of a location, and standard deviation of their log in a week
    standard_error : of the elasticity that the test gives
    power : probability that the test tells `detect` from 0
    enough : whether power reaches what was asked within half a year
    """

    product_id: str
    low: float
    high: float
    locations: int
    weeks: int
    switch_weeks: int
    design: str
    weekly_units: float
    noise: float
    standard_error: float
    power: float
    enough: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def power(detect: float, standard_error: float, confidence: float) -> float:
    """Return the probability that an elasticity is told from zero, two-sided.

    Examples
    --------
    >>> round(power(2.8, 1.0, 0.95), 2)  # 2.8 standard errors: the textbook's 80%
    0.8
    """
    quantile = float(stats.norm.ppf((1 + confidence) / 2))
    away = detect / standard_error
    return float(stats.norm.cdf(away - quantile) + stats.norm.cdf(-away - quantile))


def standard_error(
    noise: float, step: float, locations: int, weeks: int, *, within: float
) -> float:
    """Return the standard error of an elasticity from a switchback.

    Each location and week has log price `+step / 2` or `-step / 2`, half of them each. With `n`
    independent cells of noise `s` the slope's error is `s / (step / 2) / sqrt(n)`; weeks of one
    block correlate by `within`, which makes fewer of them.

    Parameters
    ----------
    noise : standard deviation of log units of a location in a week
    step : log of high over low price
    within : correlation of a location's successive weeks, 0 to 1
    """
    cells = locations * weeks * (1 - within) / (1 + within)
    return noise / (step / 2) / math.sqrt(cells)


def plan(
    product_id: str,
    price: float,
    units: float,
    noise: float,
    locations: int,
    config: PricingConfig,
) -> PriceTest:
    """Plan the shortest test of a product that reaches `test_power`.

    Parameters
    ----------
    price : today's, store currency
    units : usual weekly units of a location
    noise : standard deviation of relative demand in a week beyond chance; counting's is added

    Raises
    ------
    ConfigError
        A price, units or locations that are not above zero.
    """
    if not (price > 0 and units > 0 and locations > 0):
        raise ConfigError(
            f"No test can be planned for {product_id}: price {price}, units {units} a week, "
            f"{locations} locations",
            "All three must be above zero",
        )
    step = 2 * math.log1p(config.test_step)
    spread = math.sqrt(noise**2 + 1 / units)
    switch = config.switch_weeks
    least = _LEAST_BLOCKS * switch
    options = range(least, max(_LONGEST_WEEKS, least) + 1, switch)
    for weeks in options:
        error = standard_error(spread, step, locations, weeks, within=_CARRIED)
        told = power(config.test_detects, error, config.confidence)
        if told >= config.test_power:
            break
    return PriceTest(
        product_id=product_id,
        low=round(price / (1 + config.test_step), 2),
        high=round(price * (1 + config.test_step), 2),
        locations=locations,
        weeks=weeks,
        switch_weeks=switch,
        design="switchback over locations" if locations > 1 else "switchback over time",
        weekly_units=units,
        noise=spread,
        standard_error=error,
        power=told,
        enough=told >= config.test_power,
    )


_CARRIED = 0.3


def usual(weeks: pl.DataFrame) -> pl.DataFrame:
    """Describe what a location usually sells of each product.

    Parameters
    ----------
    weeks : the panel, or a part of it with whole products

    Returns
    -------
    DataFrame
        product_id, usual (mean weekly units of a location), beyond (variance of relative demand
        beyond that of counting), price (the last, store currency), places (locations).
    """
    units = pl.col("units")
    return (
        weeks
        .sort(*SERIES, WEEK)
        .group_by(SERIES, maintain_order=True)
        .agg(
            units.mean().alias("usual"),
            (units.var() / units.mean() ** 2 - 1 / units.mean()).alias("beyond"),
            pl.col("price").last(),
        )
        .group_by("product_id", maintain_order=True)
        .agg(
            pl.col("usual").mean(), pl.col("beyond").median(), pl.col("price").median(),
            pl.len().alias("places"),
        )
    )  # fmt: skip


def propose(products: pl.DataFrame, usual: pl.DataFrame, config: PricingConfig) -> list[PriceTest]:
    """Plan a test for each product whose evidence is `cannot tell`, best sellers first.

    Parameters
    ----------
    products : product_id, grade
    usual : see `usual`
    """
    unknown = products.filter(pl.col("grade") == CANNOT_TELL).select("product_id")
    candidates = (
        usual
        .join(unknown, on="product_id", how="semi")
        .filter(pl.col("usual") > 0)
        .sort(pl.col("usual") * pl.col("places"), "product_id", descending=[True, False])
        .head(config.tests_proposed)
    )
    return [
        plan(
            row["product_id"],
            row["price"],
            row["usual"],
            float(np.sqrt(max(row["beyond"] or 0.0, 0.0))),
            row["places"],
            config,
        )
        for row in candidates.iter_rows(named=True)
    ]


def table(tests: list[PriceTest]) -> pl.DataFrame:
    """Return the tests as a table; the same columns where there is none."""
    kinds = {"str": pl.String, "float": pl.Float64, "int": pl.Int64, "bool": pl.Boolean}
    schema = {name: kinds[str(kind)] for name, kind in PriceTest.__annotations__.items()}
    return pl.DataFrame([asdict(test) for test in tests], schema=schema)


def assign(test: PriceTest, locations: list[str], seed: int) -> pl.DataFrame:
    """Say which location sells at which price in which week.

    Each block of `switch_weeks` turns the groups round; which half begins high is drawn by lot.
    With one location, high and low blocks come in random pairs.

    Returns
    -------
    DataFrame with location_id, week (from 0), price.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(sorted(locations))
    group = np.arange(len(order)) % 2
    blocks = -(-test.weeks // test.switch_weeks)
    first = rng.integers(2, size=-(-blocks // 2))
    rows: list[tuple[str, int, float]] = []
    for block in range(blocks):
        turn = block % 2 if len(order) > 1 else (first[block // 2] + block) % 2
        for place, name in enumerate(order):
            price = test.high if (group[place] + turn) % 2 else test.low
            start = block * test.switch_weeks
            last = min(start + test.switch_weeks, test.weeks)
            rows.extend((str(name), week, price) for week in range(start, last))
    return pl.DataFrame(rows, schema=["location_id", "week", "price"], orient="row").sort(
        "location_id", "week"
    )
