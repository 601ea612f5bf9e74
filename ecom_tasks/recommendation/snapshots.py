"""What was known at each cutoff, and what customers did until the next one.

Two snapshots of the feature tables are one window: features come from the first, labels from what
the second has and the first has not. No feature can therefore see its label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from ecom_tasks.errors import DataContractError
from ecom_tasks.recommendation.config import RecommendationConfig

PAIR = ("customer_id", "product_id")


@dataclass(frozen=True)
class Parts:
    """A table part by part, all rows of a customer in one of them.

    It is read anew each time that it is gone through, and never held as a whole.

    Attributes
    ----------
    read : starts anew
    """

    read: Callable[[], Iterator[pl.DataFrame]]

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return self.read()


def among(parts: Iterable[pl.DataFrame], products: pl.DataFrame) -> Parts:
    """Return the rows of some products.

    Parameters
    ----------
    parts : with product_id; gone through as often as what is returned
    products : product_id
    """
    return Parts(lambda: (part.join(products, on="product_id", how="semi") for part in parts))


@dataclass(frozen=True)
class Overview:
    """What is known at one cutoff of all customers.

    Attributes
    ----------
    cutoff : last day known, inclusive
    customers, products : feature tables
    pairs : what generators read of the feature table customer_products
    """

    cutoff: date
    customers: pl.DataFrame
    products: pl.DataFrame
    pairs: Iterable[pl.DataFrame]


@dataclass(frozen=True)
class Snapshot:
    """The feature tables of one cutoff.

    Attributes
    ----------
    cutoff : last day known, inclusive
    customers, products, pairs : feature tables customers, products and customer_products
    calendar : promotions, product_id x week_starts_on; may be empty
    """

    cutoff: date
    customers: pl.DataFrame
    products: pl.DataFrame
    pairs: pl.DataFrame
    calendar: pl.DataFrame

    def interactions(self, min_customers: int) -> pl.DataFrame:
        """Return the pairs of products with enough customers."""
        return self.pairs.join(warm(self.products, min_customers), on="product_id", how="semi")


def warm(products: pl.DataFrame, min_customers: int) -> pl.DataFrame:
    """Return the rows of the feature table products that have enough customers to be ranked."""
    return products.filter(pl.col("customers") >= min_customers)


def some_warm(products: pl.DataFrame, cutoff: date, min_customers: int) -> pl.DataFrame:
    """Return the rows of `warm`.

    Raises
    ------
    DataContractError
        There are none.
    """
    found = warm(products, min_customers)
    if found.is_empty():
        raise DataContractError(
            f"Of {products.height} products sold by {cutoff} none has {min_customers} customers, "
            "and nothing can be learnt across customers",
            "Load a longer history, or lower recommendation.min_customers",
        )
    return found


@dataclass(frozen=True)
class Window:
    """Labels from `cutoff`, exclusive, to `until`, inclusive."""

    cutoff: date
    until: date

    def __str__(self) -> str:
        return f"{self.cutoff} to {self.until}"


@dataclass(frozen=True)
class Plan:
    """Which window serves what; each list is ordered oldest first.

    Attributes
    ----------
    serve : the cutoff whose lists are published
    test : held-out windows
    windows : all windows; the newest is a test window
    """

    serve: date
    test: list[Window]
    windows: list[Window]

    def train_before(self, cutoff: date, most: int) -> list[Window]:
        """Return the newest `most` windows whose labels were complete at `cutoff`."""
        return [window for window in self.windows if window.until <= cutoff][-most:]


def plan(cutoffs: list[date], config: RecommendationConfig) -> Plan:
    """Lay out training, validation and test windows over the cutoffs there are.

    With cutoffs closer than windows are long (`window_cutoffs`), windows overlap: a ranker then
    learns from more of them over the same time. Test windows never overlap. With a short history
    there are fewer of them, and of a single window nothing is left to train on.

    Raises
    ------
    DataContractError
        There is no window at all.
    """
    known, length = sorted(cutoffs), config.window_cutoffs
    windows = [Window(*both) for both in zip(known, known[length:], strict=False)]
    if not windows:
        raise DataContractError(
            f"Customers are known at {len(known)} cutoffs, and {length + 1} are needed: one to "
            "start from and one to judge by",
            "Load a longer history, raise features.snapshots, or lower features.snapshot_days",
        )
    separate = apart(windows)
    tested = min(config.test_windows, max(1, len(separate) - 1))
    return Plan(serve=known[-1], test=separate[-tested:], windows=windows)


def apart(windows: list[Window]) -> list[Window]:
    """Return the newest window, the newest that ended before it began, and so on; oldest first."""
    found: list[Window] = []
    for window in reversed(windows):
        if not found or window.until <= found[-1].cutoff:
            found.append(window)
    return found[::-1]


def learn_and_validate(early: list[Window]) -> tuple[list[Window], Window]:
    """Return the windows that ended before the newest one began, and the newest one."""
    newest = early[-1]
    return [window for window in early if window.until <= newest.cutoff], newest


def days_of(day: date, kept: int) -> list[date]:
    """Return the days up to this one on which the same models serve, oldest first.

    Parameters
    ----------
    kept : days that models are kept; 7: from Monday to Sunday
    """
    passed = (day.toordinal() - 1) % kept
    return [day - timedelta(days=back) for back in range(passed, -1, -1)]


def bought(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Return what was ordered between two snapshots of customer_products.

    Returns
    -------
    DataFrame
        customer_id, product_id, orders (in the window, at least 1), is_new (not bought before)
    """
    earlier = before.select(*PAIR, pl.col("orders").alias("orders_before"))
    return (
        after
        .select(*PAIR, "orders")
        .join(earlier, on=PAIR, how="left")
        .with_columns(
            (pl.col("orders") - pl.col("orders_before").fill_null(0)).alias("orders"),
            pl.col("orders_before").is_null().alias("is_new"),
        )
        .filter(pl.col("orders") > 0)
        .select(*PAIR, "orders", "is_new")
        .sort(PAIR)
    )
