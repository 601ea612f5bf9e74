"""Top-k under rules: place by place, the best product that may still stand there.

Rules work while a list is made, never after it. A list therefore has k products whenever k
eligible ones exist: what is ranked goes first, then what is popular; a cap on categories gives way
only when nothing else is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecom_tasks.recommendation.eligibility import Limits
from ecom_tasks.recommendation.rules import Diversity, Exploration, Pin, Rules
from ecom_tasks.recommendation.snapshots import PAIR

FILL, PINNED = "popular", "pinned"
_CUSTOMERS = 2048
_OUT, _LATER, _FILL_OVER, _RANKED_OVER, _FILL, _RANKED, _NEW, _PIN = range(-1, 7)
"""What goes first at a place, the later in this row the better. Over: beyond the cap of its
category; later: pinned to a place still to come."""
_LEVELS = 6
IntMatrix = NDArray[np.int64]
FloatMatrix = NDArray[np.float64]
BoolMatrix = NDArray[np.bool_]


@dataclass(frozen=True)
class Offer:
    """What there is to choose from.

    Attributes
    ----------
    people : of `eligibility.audience`
    shelf : of `eligibility.shelf`
    limits : of `eligibility.limits`, on the two above
    barred : of `eligibility.barred`
    ranked : customer_id, product_id, score (logarithm of the expected orders), generator
    popular : segment (null: for all), product_id, score; what fills a list
    fresh : customer_id, product_id, score, generator: products with little history
    """

    people: pl.DataFrame
    shelf: pl.DataFrame
    limits: Limits
    barred: pl.DataFrame
    ranked: pl.DataFrame
    popular: pl.DataFrame
    fresh: pl.DataFrame


def parts(offer: Offer, blocks: Iterable[pl.DataFrame]) -> Iterator[Offer]:
    """Part an offer by customers, so that what is ranked for all is never held at once.

    Parameters
    ----------
    offer : whatever it has in `ranked` is left aside
    blocks : what is ranked; all of a customer in one of them

    Yields
    ------
    An offer for the customers of each block, and one for those of whom nothing is ranked.
    """
    nothing = offer.ranked.clear()
    rest = offer
    for ranked in blocks:
        mine = rest.people["customer_id"].is_in(ranked["customer_id"].unique().implode())
        yield replace(_of(rest, mine), ranked=ranked)
        rest = _of(rest, ~mine)
    yield replace(rest, ranked=nothing)


def _of(offer: Offer, who: pl.Series) -> Offer:
    """Return the offer for some of its people."""
    people = offer.people.filter(who)
    return replace(
        offer,
        people=people,
        limits=replace(offer.limits, refused=offer.limits.refused[who.to_numpy()]),
        barred=offer.barred.join(people, on="customer_id", how="semi"),
        fresh=offer.fresh.join(people, on="customer_id", how="semi"),
    )


def top_k(offer: Offer, rules: Rules, k: int, salt: str = "") -> pl.DataFrame:
    """Choose each customer's `k` products.

    Parameters
    ----------
    salt : with another one, another draw of what is explored; the day, for example

    Returns
    -------
    DataFrame with customer_id, product_id, rank (from 1), score, generator; sorted. `score` is
    that of the generator named: the logarithm of expected orders, or popularity.
    """
    if offer.shelf.is_empty() or offer.people.is_empty():
        return _nothing()
    goods = offer.shelf.with_row_index("column").with_columns(pl.col("column").cast(pl.Int64))
    by_segment = _filling(offer, goods)
    parts = []
    for start in range(0, offer.people.height, _CUSTOMERS):
        people = offer.people.slice(start, _CUSTOMERS)
        refused = offer.limits.refused[start : start + _CUSTOMERS]
        parts.append(_block(offer, goods, (people, refused, by_segment), (rules, k, salt)))
    return pl.concat(parts).sort("customer_id", "rank")


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema={"customer_id": pl.String, "product_id": pl.String,
                                "rank": pl.Int64, "score": pl.Float64,
                                "generator": pl.String})  # fmt: skip


def among_shown(ranked: pl.DataFrame, shown: pl.DataFrame, of: str, product: str) -> pl.DataFrame:
    """Keep the rows whose product may be shown to anyone, and close the gaps between ranks.

    Parameters
    ----------
    ranked : `of` (whose list it is), `product`, rank and any further columns
    shown : product_id
    """
    may = shown.select(pl.col("product_id").alias(product))
    rank = pl.int_range(1, pl.len() + 1).over(of).cast(pl.Int64).alias("rank")
    return ranked.join(may, on=product, how="semi").sort(of, "rank").with_columns(rank)


def _filling(offer: Offer, goods: pl.DataFrame) -> pl.DataFrame:
    """Return segment, column, popularity, place: all eligible goods in the order of filling.

    The segment's own favourites, then those of all, then what nobody bought, by id.
    """
    columns = goods.select("product_id", "column")
    liked = offer.popular.join(columns, on="product_id").select("segment", "column", "score")
    segments = offer.people.select("segment").unique()
    of_all = columns.select("column").join(
        liked.filter(pl.col("segment").is_null()).select("column", "score"), on="column", how="left"
    ).with_columns(pl.col("score").fill_null(0.0), pl.lit(0).alias("own"))  # fmt: skip
    everywhere = segments.join(of_all, how="cross").select("segment", "column", "score", "own")
    own = liked.filter(pl.col("segment").is_not_null()).with_columns(pl.lit(1).alias("own"))
    return (
        pl
        .concat([everywhere, own.join(segments, on="segment", how="semi")])
        .sort(["own", "score", "column"], descending=[True, True, False])
        .unique(["segment", "column"], keep="first", maintain_order=True)
        .with_columns(pl.int_range(pl.len()).over("segment").alias("place"))
        .select("segment", "column", pl.col("score").alias("popularity"), "place")
    )


def _block(
    offer: Offer,
    goods: pl.DataFrame,
    who: tuple[pl.DataFrame, BoolMatrix, pl.DataFrame],
    how: tuple[Rules, int, str],
) -> pl.DataFrame:
    """Choose for some customers; those whose list falls short get a larger choice to fill from."""
    people, refused, filling = who
    rules, k, salt = how
    pinned = goods.filter(pl.col("product_id").is_in([pin.product for pin in rules.pins]))
    ready: list[pl.DataFrame] = []
    size = 2 * k + 2
    while True:
        near = (pl.col("place") < size) | pl.col("column").is_in(pinned["column"].implode())
        candidates = _candidates(offer, goods, people, filling.filter(near), salt)
        chosen = _choose(candidates, goods, (people, offer.limits.goods, refused), rules, k)
        full = chosen.group_by("customer_id").len("have")
        if size >= goods.height:
            return pl.concat([*ready, chosen])
        short = people.join(
            full.filter(pl.col("have") == k), on="customer_id", how="anti", maintain_order="left"
        )
        ready.append(chosen.join(short, on="customer_id", how="anti", maintain_order="left"))
        if short.is_empty():
            return pl.concat(ready)
        at = people.with_row_index("row").join(short, on="customer_id", how="semi")["row"]
        people, refused, size = short, refused[at.to_numpy()], 8 * size


def _candidates(
    offer: Offer, goods: pl.DataFrame, people: pl.DataFrame, filling: pl.DataFrame, salt: str
) -> pl.DataFrame:
    """Return row (of `people`), column (of `goods`), kind, worth, score, generator; a pair once.

    Worth sorts the candidates of a kind; what is barred is left out.
    """
    rows = people.select("customer_id", "segment").with_row_index("row").with_columns(
        pl.col("row").cast(pl.Int64)
    )  # fmt: skip
    columns = goods.select("product_id", "column", "bonus")
    names = ["row", "column", "kind", "worth", "score", "generator"]

    def of(frame: pl.DataFrame, kind: int, worth: pl.Expr) -> pl.DataFrame:
        return (
            frame
            .join(rows, on="customer_id")
            .join(columns, on="product_id")
            .with_columns(pl.lit(kind).alias("kind"), worth.alias("worth"))
            .select(names)
        )

    ranked = of(offer.ranked, _RANKED, pl.col("score") + pl.col("bonus"))
    fresh = _drawn(of(offer.fresh, _NEW, pl.col("score")), rows, salt)
    fill = (
        rows
        .join(filling, on="segment", nulls_equal=True)
        .with_columns(
            pl.lit(_FILL).alias("kind"),
            (-pl.col("place")).cast(pl.Float64).alias("worth"),
            pl.col("popularity").alias("score"),
            pl.lit(FILL).alias("generator"),
        )
        .select(names)
    )
    barred = offer.barred.join(rows, on="customer_id").join(columns, on="product_id")
    # What is ranked needs no chance of its own, and what has its chance no filling.
    once = pl.concat([ranked, fresh, fill]).unique(
        ["row", "column"], keep="first", maintain_order=True
    )
    return once.join(barred, on=["row", "column"], how="anti")


def _drawn(fresh: pl.DataFrame, rows: pl.DataFrame, salt: str) -> pl.DataFrame:
    """Shuffle the new products of each customer a little, the same way on every run of a day.

    Gumbel noise on the logarithm of the place: the first of a list is drawn twice as often as the
    second, so that each gets its chance.
    """
    if fresh.is_empty():
        return fresh
    named = fresh.join(rows.select("row", "customer_id"), on="row", maintain_order="left")
    place = named.select(
        pl.col("worth").rank("ordinal", descending=True).over("row").alias("place")
    )["place"].to_numpy()
    drawn = np.array([
        _number(f"{salt}|{who}|{what}")
        for who, what in zip(named["customer_id"], named["column"], strict=True)
    ])
    noise = -np.log(-np.log((drawn + 0.5) / 2**32))
    return fresh.with_columns(pl.Series("worth", noise - np.log(place)))


def _number(text: str) -> int:
    """Return 32 bits that look random; a check sum would not, for texts that differ in a digit."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())


@dataclass(frozen=True)
class _Lists:
    """The candidates of some customers, side by side, each row's best first.

    Attributes
    ----------
    column, kind, worth : shape (customers, most candidates); kind `_OUT` where there are fewer;
        worth is scaled to 0..1 for each customer and kind
    level : numbers of the category at each level, 0 where there is none, (..., levels)
    pin : place that the product is pinned to, counted from 0; -1: to none
    """

    column: IntMatrix
    kind: IntMatrix
    worth: FloatMatrix
    level: NDArray[np.int32]
    pin: IntMatrix


def _choose(
    candidates: pl.DataFrame,
    goods: pl.DataFrame,
    who: tuple[pl.DataFrame, BoolMatrix, BoolMatrix],
    rules: Rules,
    k: int,
) -> pl.DataFrame:
    people, limited, refused = who
    # Of equal worth the smaller id goes first.
    ordered = candidates.sort(["row", "kind", "worth", "column"],
                              descending=[False, True, True, False])  # fmt: skip
    ordered = _with_pins(ordered, goods, people, rules.pins)
    slot = ordered.select(pl.int_range(pl.len()).over("row").alias("slot"))["slot"].to_numpy()
    lists = _side_by_side(ordered, slot, people.height, _levels(goods))
    lists.kind[(limited[lists.column] & refused[:, None, :]).any(axis=2)] = _OUT
    picked = _greedy(lists, rules.diversity, rules.exploration, k)
    at_row, place = np.nonzero(picked >= 0)
    ordered = ordered.with_columns(pl.Series("slot", slot))
    names = people.select("customer_id").with_row_index("row").with_columns(
        pl.col("row").cast(pl.Int64)
    )  # fmt: skip
    return (
        pl
        .DataFrame({
            "row": at_row.astype(np.int64),
            "slot": picked[at_row, place].astype(np.int64),
            "rank": (place + 1).astype(np.int64),
        })
        .join(ordered.with_columns(pl.col("slot").cast(pl.Int64)), on=["row", "slot"])
        .join(names, on="row")
        .join(goods.select("product_id", "column"), on="column")
        .select(*PAIR, "rank", "score", "generator")
        .sort("customer_id", "rank")
    )


def _with_pins(
    ordered: pl.DataFrame, goods: pl.DataFrame, people: pl.DataFrame, pins: tuple[Pin, ...]
) -> pl.DataFrame:
    """Add the place that a candidate is pinned to for its customer, from 0; -1: to none.

    Filling always holds the pinned products, so that each one is a candidate of its customers.
    """
    ordered = ordered.with_columns(pl.lit(-1).alias("pin"))
    columns = dict(goods.select("product_id", "column").iter_rows())
    for pin in sorted(pins, key=lambda each: each.place, reverse=True):
        if pin.product not in columns:
            continue
        seen = pl.lit(value=True)
        if pin.segments:
            seen &= pl.col("segment").is_in(list(pin.segments)).fill_null(value=False)
        if pin.regions:
            seen &= pl.col("region").is_in(list(pin.regions)).fill_null(value=False)
        rows = people.with_row_index("row").filter(seen)["row"].cast(pl.Int64)
        here = (pl.col("column") == columns[pin.product]) & pl.col("row").is_in(rows.implode())
        ordered = ordered.with_columns(
            pl.when(here).then(pin.place - 1).otherwise("pin").alias("pin"),
            pl.when(here).then(pl.lit(PINNED)).otherwise("generator").alias("generator"),
        )
    return ordered


def _levels(goods: pl.DataFrame) -> NDArray[np.int32]:
    """Number each product's category at each level, shape (products, levels); 0: none there."""
    found = np.zeros((goods.height, _LEVELS), dtype=np.int32)
    path = pl.col("category").str.split("/")
    used = 0
    for level in range(_LEVELS):
        here = pl.when(path.list.len() > level).then(path.list.head(level + 1).list.join("/"))
        codes = goods.select(here.rank("dense").alias("code"))["code"]
        # No number twice, and higher ones for deeper levels.
        found[:, level] = (codes + used).fill_null(0).to_numpy()
        used = max(used, int(found[:, level].max(initial=0)))
    return found


def _side_by_side(
    ordered: pl.DataFrame, slot: NDArray[np.int64], rows: int, levels: NDArray[np.int32]
) -> _Lists:
    width = int(slot.max()) + 1 if len(slot) else 1
    at = (ordered["row"].to_numpy(), slot)

    def spread(name: str, empty: int) -> IntMatrix:
        matrix = np.full((rows, width), empty, dtype=np.int64)
        matrix[at] = ordered[name].to_numpy()
        return matrix

    column = spread("column", 0)
    low, high = (getattr(pl.col("worth"), name)().over("row", "kind") for name in ("min", "max"))
    scaled = pl.when(high > low).then((pl.col("worth") - low) / (high - low)).otherwise(1.0)
    worth = np.zeros((rows, width))
    worth[at] = ordered.select(scaled.alias("scaled"))["scaled"].to_numpy()
    return _Lists(
        column=column,
        kind=spread("kind", _OUT),
        worth=worth,
        level=levels[column],
        pin=spread("pin", -1),
    )


def _greedy(lists: _Lists, diversity: Diversity, exploration: Exploration, k: int) -> IntMatrix:
    """Return the slot of the product at each place, -1 where none is left, shape (customers, k)."""
    rows = np.arange(len(lists.kind))
    free = lists.kind != _OUT
    same = np.zeros(lists.kind.shape, dtype=np.int64)
    alike = np.zeros(lists.kind.shape)
    picked = np.full((len(rows), k), -1, dtype=np.int64)
    deepest = np.maximum((lists.level > 0).sum(axis=2), 1)
    cap = diversity.most_per_category or k
    # The deepest level down to that of the cap; a path that ends above it is a category too.
    group = lists.level[:, :, : diversity.category_levels].max(axis=2)
    for place in range(k):
        kind = _kinds(lists, same >= cap, place, explore=place >= k - exploration.places)
        kind[~free] = _OUT
        worth = (1 - diversity.weight) * lists.worth - diversity.weight * alike
        best = np.argmax(4.0 * kind + worth, axis=1)
        found = kind[rows, best] != _OUT
        picked[found, place] = best[found]
        free[rows[found], best[found]] = False
        same += (group == group[rows, best][:, None]) & (group != 0) & found[:, None]
        if diversity.weight:
            shared = (lists.level == lists.level[rows, best][:, None]) & (lists.level > 0)
            length = np.maximum(deepest, deepest[rows, best][:, None])
            near = np.cumprod(shared, axis=2).sum(axis=2) / length
            alike = np.where(found[:, None], np.maximum(alike, near), alike)
    return picked


def _kinds(lists: _Lists, over: BoolMatrix, place: int, *, explore: bool) -> IntMatrix:
    """Return what each candidate counts as at this place."""
    kind = lists.kind.copy()
    # Where no place is kept for new products, they come last.
    if not explore:
        kind[kind == _NEW] = _FILL_OVER
    kind[over & (kind == _RANKED)] = _RANKED_OVER
    kind[over & (kind == _FILL)] = _FILL_OVER
    kind[(lists.pin >= 0) & (lists.pin <= place) & (lists.kind != _OUT)] = _PIN
    kind[lists.pin > place] = _LATER
    return kind
