"""Many series over the same periods: one row per series, one column per day, week or month."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float32]
Booleans = npt.NDArray[np.bool_]
Frequency = Literal["D", "W", "M"]
SEASONS: dict[Frequency, int] = {"D": 7, "W": 52, "M": 12}
"""Periods after which what sells repeats by nature: a week of days, a year of weeks or months."""
VALUE_PERIODS: dict[Frequency, int] = {"D": 28, "W": 4, "M": 1}
"""Last periods known whose value weighs a series: about a month."""
_DAYS = {"D": 1, "W": 7}


@dataclass(frozen=True)
class Panel:
    """Demand of many series over the same periods, oldest first.

    Attributes
    ----------
    keys : a row per series; its identifiers and `category`, a path (`department/category`).
    first : first day of column 0, of a week its Monday.
    units : (series, periods), a number everywhere; where `observed` is false, what is supposed.
    sales : (series, periods), value by which a series weighs, for example paid amounts.
    orders, locations : (series, periods), orders with it, and locations that sold it.
    price : (series, periods), paid per unit; NaN where nothing sold.
    discount_depth : (series, periods), 0 to 1; NaN where unknown.
    plans : name -> (series, periods + horizon), what is known ahead: promotions as shares of the
        shop's promoting locations, or any other column.
    announced : (series, periods + horizon), the least number of known periods at which the plans
        of that period are known.
    planned_to : last column that plans are known for; None: the last with any plan announced.
    observed : (series, periods), false where there was no count, or no stock to sell from: such a
        period trains and judges nothing. None: all were.
    weights : (series, periods), by which errors count in WMAE. None: all alike.
    frequency : of the periods.
    season : periods after which a pattern repeats.
    paydays : days of the month on which customers are paid, 31 for the last.
    """

    keys: pl.DataFrame
    first: date
    units: Floats
    sales: Floats
    orders: Floats | None
    locations: Floats | None
    price: Floats | None
    discount_depth: Floats | None
    plans: dict[str, Floats]
    announced: Floats
    planned_to: int | None = None
    observed: Booleans | None = None
    weights: Floats | None = None
    frequency: Frequency = "W"
    season: int = 52
    paydays: tuple[int, ...] = ()

    @property
    def series(self) -> int:
        return int(self.units.shape[0])

    @property
    def periods(self) -> int:
        """Complete periods known."""
        return int(self.units.shape[1])

    @property
    def horizon(self) -> int:
        """Periods after the last known one that plans are laid out for."""
        return int(self.announced.shape[1]) - self.periods

    @property
    def seasons(self) -> int:
        """Whole seasons known."""
        return self.periods // self.season

    def known(self) -> Booleans:
        """Tell where there is a count, (series, periods)."""
        return np.ones(self.units.shape, np.bool_) if self.observed is None else self.observed

    def sold_before(self, origin: int) -> Booleans:
        """Tell which series had sold anything in the first `origin` periods, (series,)."""
        past = self.units[:, :origin] != 0
        if self.observed is not None:
            past &= self.observed[:, :origin]
        return np.asarray(past.any(axis=1))

    def take(self, rows: npt.NDArray[Any]) -> Panel:
        """Return the panel of these series alone."""

        def some(values: npt.NDArray[Any] | None) -> Any:
            return None if values is None else values[rows]

        return replace(
            self,
            keys=self.keys[rows],
            units=some(self.units),
            sales=some(self.sales),
            orders=some(self.orders),
            locations=some(self.locations),
            price=some(self.price),
            discount_depth=some(self.discount_depth),
            plans={name: some(values) for name, values in self.plans.items()},
            announced=some(self.announced),
            observed=some(self.observed),
            weights=some(self.weights),
        )

    def last(self, count: int) -> Panel:
        """Return the panel of the last `count` periods, or itself where it has no more."""
        drop = self.periods - count
        if drop <= 0:
            return self

        def cut(values: npt.NDArray[Any] | None) -> Any:
            return None if values is None else values[:, drop:]

        return replace(
            self,
            first=self.day(drop),
            units=cut(self.units),
            sales=cut(self.sales),
            orders=cut(self.orders),
            locations=cut(self.locations),
            price=cut(self.price),
            discount_depth=cut(self.discount_depth),
            plans={name: cut(values) for name, values in self.plans.items()},
            announced=np.maximum(cut(self.announced) - drop, 0),
            planned_to=None if self.planned_to is None else self.planned_to - drop,
            observed=cut(self.observed),
            weights=cut(self.weights),
        )

    @property
    def time_column(self) -> str:
        """Column of tables that names the first day of a period."""
        return {"D": "day", "W": "week_starts_on", "M": "month"}[self.frequency]

    def day(self, column: int) -> date:
        """Return the first day of a period."""
        if self.frequency == "M":
            months = self.first.year * 12 + self.first.month - 1 + column
            return date(months // 12, months % 12 + 1, 1)
        return self.first + column * timedelta(days=_DAYS[self.frequency])
