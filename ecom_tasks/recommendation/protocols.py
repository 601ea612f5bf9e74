"""How a table of interactions is split into what is known and what must be found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from ecom_tasks.errors import ConfigError, DataContractError

Protocol = Literal["leave-one-out", "time-split", "given-split"]
_PAIR = ["customer_id", "product_id"]


@dataclass(frozen=True)
class Columns:
    """What the columns of the file are called.

    Attributes
    ----------
    order : time or position of an interaction; empty where the file has none
    event : kind of an interaction, such as view or purchase; empty where it is not to be read
    """

    customer: str
    product: str
    order: str = ""
    event: str = ""


@dataclass(frozen=True)
class Split:
    """A backtest's data.

    Attributes
    ----------
    known : customer_id, product_id, order, and event where it is read: interactions that may be
        learnt from, oldest first
    held_out : customer_id, product_id, each once: what must be found
    repeats : whether a product that the customer already has may be right
    """

    known: pl.DataFrame
    held_out: pl.DataFrame
    repeats: bool


def read(file: Path, columns: Columns) -> pl.DataFrame:
    """Read interactions, oldest first; equal lines count once.

    Returns
    -------
    DataFrame with customer_id, product_id (as text), order (the file's own order if it has none),
    and event (as text) if its column is named

    Raises
    ------
    ConfigError
        There is no such file, or it is no Parquet file.
    DataContractError
        A column is missing, a key is null, an interaction lies in the future, or there is nothing
        in it.
    """
    if not file.is_file():
        raise ConfigError(f"There is no file {file}", "Give a Parquet file of interactions")
    try:
        frame = pl.read_parquet(file)
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{file} is no Parquet file: {error}", "Convert it first") from error
    given = {
        "customer_id": columns.customer, "product_id": columns.product, "order": columns.order,
        "event": columns.event,
    }  # fmt: skip
    named = {name: column for name, column in given.items() if column}
    missing = [name for name in named.values() if name not in frame.columns]
    if missing:
        raise DataContractError(
            f"{file} has no column {', '.join(missing)}", f"It has: {', '.join(frame.columns)}"
        )
    frame = frame.with_row_index("row").select("row", **{k: pl.col(v) for k, v in named.items()})
    empty = frame.filter(pl.any_horizontal(pl.col(list(named)).is_null()))
    if empty.height:
        raise DataContractError(
            f"{file} has {empty.height:,} rows with nulls in {', '.join(named.values())}",
            "Remove them, or fill them",
            examples=empty.head(5).to_dicts(),
        )
    if frame.is_empty():
        raise DataContractError(f"{file} has no rows", "Give at least one interaction")
    if not columns.order:
        frame = frame.with_columns(pl.col("row").alias("order"))
    _refuse_future(frame, file, columns)
    text = [name for name in given if name in frame.columns and name != "order"]
    return (
        frame
        .unique([*text, "order"], keep="first")
        .sort("order", "row")
        .select(pl.col(text).cast(pl.String), "order")
    )


def _refuse_future(frame: pl.DataFrame, file: Path, columns: Columns) -> None:
    """Raise if a day or time lies later than today; a position or a number has no today."""
    if not isinstance(frame.schema["order"], pl.Date | pl.Datetime):
        return
    # The zone of times without one is unknown: today is what it is where the day begins first.
    today = datetime.now(timezone(timedelta(hours=14))).date()
    late = frame.filter(pl.col("order").cast(pl.Date) > today)
    if late.height:
        raise DataContractError(
            f"{file} has {late.height:,} rows later than today ({today}) in {columns.order}",
            "Correct or remove them; of planned orders nothing can be learnt",
            examples=late.head(5).to_dicts(),
        )


def often(interactions: pl.DataFrame, least: int) -> pl.DataFrame:
    """Keep the products with at least `least` interactions.

    Raises
    ------
    DataContractError
        No product has as many.
    """
    kept = interactions.filter(pl.len().over("product_id") >= least)
    if kept.is_empty():
        raise DataContractError(f"No product has {least} interactions", "Lower --min-interactions")
    return kept


def split(
    interactions: pl.DataFrame, protocol: Protocol, test: pl.DataFrame | None, share: float
) -> Split:
    """Split by protocol.

    Parameters
    ----------
    interactions : of `read`
    protocol : `leave-one-out`: the last interaction of each customer with at least two must be
        found among products that are new to the customer. `time-split`: the newest `share` of all
        interactions must be found, repeats included, for customers known before. `given-split`:
        `test` must be found among products that are new to the customer.
    test : of `read`, for given-split
    share : of all interactions, for time-split, between 0 and 1

    Raises
    ------
    ConfigError, DataContractError
        given-split without test, a share out of bounds, nothing left to learn from or to find.
    """
    if not 0 < share < 1:
        raise ConfigError(f"--share {share} is no share", "Give a number between 0 and 1")
    if (protocol == "given-split") != (test is not None):
        raise ConfigError(
            "--test and --protocol given-split go together", "Give both of them or neither"
        )
    if protocol == "given-split":
        assert test is not None
        known, held_out = interactions, test
    elif protocol == "leave-one-out":
        last = pl.int_range(pl.len(), 0, -1).over("customer_id")
        counted = interactions.with_columns(last.alias("from_end"), pl.len().over("customer_id"))
        to_find = (pl.col("from_end") == 1) & (pl.col("len") > 1)
        known, held_out = counted.filter(~to_find), counted.filter(to_find)
    else:
        border = interactions["order"].sort()[
            min(int(interactions.height * (1 - share)), interactions.height - 1)
        ]
        known = interactions.filter(pl.col("order") < border)
        held_out = interactions.filter(pl.col("order") >= border)
    known = known.select(interactions.columns)
    found = held_out.select(_PAIR).unique().join(
        known.select("customer_id").unique(), on="customer_id", how="semi"
    )  # fmt: skip
    if protocol != "time-split":
        found = found.join(known, on=_PAIR, how="anti")
    if known.is_empty() or found.is_empty():
        raise DataContractError(
            f"By {protocol} {known.height:,} interactions are known and {found.height:,} are to "
            "be found",
            "Both need at least one: give more interactions or another protocol",
        )
    return Split(known, found.sort(_PAIR), repeats=protocol == "time-split")


def within(known: pl.DataFrame, protocol: Protocol, share: float, seed: int) -> Split:
    """Split what is known once more, so that what must be found stays unseen.

    Parameters
    ----------
    known : of a `Split`
    protocol : the one that made it. leave-one-out: the second last interaction of each customer
        must be found; time-split: the newest `share` of what is known; given-split: a tenth of each
        customer's known products, drawn at random, one at least.

    Raises
    ------
    DataContractError
        What is known is too little to be split.
    """
    test = None
    if protocol == "given-split":
        test = _tenth(known, seed)
        known = known.join(test, on=_PAIR, how="anti", maintain_order="left")
    return split(known, protocol, test, share)


def _tenth(known: pl.DataFrame, seed: int) -> pl.DataFrame:
    own = known.select(_PAIR).unique().sort(_PAIR)
    draw = np.random.default_rng(seed).random(own.height)
    size = pl.len().over("customer_id")
    place = pl.col("draw").rank("ordinal").over("customer_id")
    return (
        own
        .with_columns(pl.Series("draw", draw))
        .filter((size > 1) & (place <= (size // 10).clip(lower_bound=1)))
        .select(_PAIR)
    )


def pairs(known: pl.DataFrame) -> pl.DataFrame:
    """Return what generators learn from: one row a pair, as the feature table customer_products.

    An order column knows no days: recency is the place among all interactions, from 0 (newest)
    on, and no order counts more for being new. Where kinds of events are known, that of the pair's
    newest interaction stands in `event`.
    """
    place = pl.col("order").rank("dense", descending=True).cast(pl.Float64) - 1
    last = [pl.col("event").last()] if "event" in known.columns else []
    return (
        known
        .with_columns(place.alias("place"))
        .group_by(_PAIR)
        .agg(pl.len().cast(pl.Float64).alias("orders"),
             pl.col("place").min().alias("days_since_last_order"), *last)
        .with_columns(
            pl.col("orders").alias("recency_weighted_orders"),
            pl.col("orders").alias("orders_28d"),
        )
        .sort(_PAIR)
    )  # fmt: skip
