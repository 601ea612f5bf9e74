"""The rules that a proposed price keeps, and an independent check that it does."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ecom_tasks.errors import ModelRejectedError
from ecom_tasks.pricing.config import PricingConfig

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Limit:
    """One side of what a price may be, in store currency, and the rule that sets it."""

    price: float
    rule: str


@dataclass(frozen=True)
class Room:
    """What rules leave to a price: from `lowest` to `highest`, both inclusive."""

    lowest: Limit
    highest: Limit

    @property
    def collision(self) -> str:
        """Name the two rules that leave no price between them; empty where they do."""
        low, high = self.lowest, self.highest
        if low.price <= high.price:
            return ""
        return f"{low.rule} (at least {low.price:.2f}) x {high.rule} (at most {high.price:.2f})"


def room(
    current: float,
    regular: float,
    cost: float,
    config: PricingConfig,
    band: tuple[float, float] | None = None,
) -> Room:
    """Return the prices that step, floor, ceiling and margin allow.

    Parameters
    ----------
    current, regular, cost : store currency per unit, above zero
    band : lowest and highest price beside a competitor's, for a key-value item
    """
    least = () if band is None else (Limit(band[0], "competitor band"),)
    most = () if band is None else (Limit(band[1], "competitor band"),)
    lowest = max(
        (
            *least,
            Limit(current * (1 - config.largest_step), "largest step"),
            Limit(regular * config.floor, "floor"),
            Limit(cost / (1 - config.minimum_margin), "minimum margin"),
        ),
        key=lambda limit: limit.price,
    )
    highest = min(
        (
            *most,
            Limit(current * (1 + config.largest_step), "largest step"),
            Limit(regular * config.ceiling, "ceiling"),
        ),
        key=lambda limit: limit.price,
    )
    return Room(lowest, highest)


def violations(prices: pl.DataFrame, config: PricingConfig) -> pl.DataFrame:
    """Return a row for each rule that a changed price breaks, computed anew from the table.

    A kept price breaks nothing: the shop set it, and no step allowed may lead back into the rules.

    Parameters
    ----------
    prices : product_id, current_price, proposed_price, regular_price, unit_cost, grade

    Returns
    -------
    DataFrame
        product_id, rule, proposed_price.
    """
    proposed, current = pl.col("proposed_price"), pl.col("current_price")
    cents = (proposed * 100).round().cast(pl.Int64)
    endings = [round(ending * 100) for ending in config.endings]
    broken = {
        "a price is a number above zero": ~(proposed > 0) | proposed.is_nan(),
        "largest step": (proposed / current - 1).abs() > config.largest_step + _TOLERANCE,
        "floor": proposed < pl.col("regular_price") * config.floor - _TOLERANCE,
        "ceiling": proposed > pl.col("regular_price") * config.ceiling + _TOLERANCE,
        "minimum margin": proposed - pl.col("unit_cost")
        < config.minimum_margin * proposed - _TOLERANCE,
        "allowed endings": ~(cents % 100).is_in(endings) | ((proposed * 100 - cents).abs() > 1e-6),
        "evidence: cannot tell keeps its price": pl.col("grade") == "cannot tell",
    }
    changed = prices.filter(proposed.is_null() | (proposed != current))
    return pl.concat([
        changed.filter(rule.fill_null(value=True)).select(
            "product_id", pl.lit(name).alias("rule"), "proposed_price"
        )
        for name, rule in broken.items()
    ])


def check(prices: pl.DataFrame, config: PricingConfig) -> int:
    """Return how many changed prices were checked; refuse the release if one breaks a rule.

    Raises
    ------
    ModelRejectedError
        With up to five prices and the rules they break.
    """
    broken = violations(prices, config)
    if broken.height:
        raise ModelRejectedError(
            f"{broken['product_id'].n_unique()} proposed prices break a rule",
            "The release in service stays. This is a fault of the optimiser: report it",
            broken.head(5).to_dicts(),
        )
    return prices.filter(pl.col("proposed_price") != pl.col("current_price")).height
