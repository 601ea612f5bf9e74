"""What proposed prices would have earned in the weeks that are logged already.

A decision is a product, a location and a week without a promotion. What was done is its price, as
log price off the series' usual one; a price within `log_band` of the proposed one counts as that
price. How likely that was is reckoned from what levels and controls leave of prices (the residuals
of the price's model: a generalised propensity score, Hirano and Imbens 2004, smoothed as by
Kallus and Zhou 2018), or read from a log of odds where prices were drawn (see `policy`). Only
decisions in which both today's and the proposed price were likely enough are compared: of the
others the log says nothing.

Reward is profit a decision: units as sold, at the margin that the price in question has today. Each
product is judged with its neighbours' prices as they were, and promotions as they ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecom_tasks.errors import DataContractError
from ecom_tasks.metrics import off_policy
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.panel import MECHANICS, PROMOTION, SERIES, WEEK

Array = NDArray[np.float64]

BETTER, WORSE, SAME = "better", "worse", "no difference can be told"
CANNOT_TELL = "cannot tell"
ALL = "all"
# Share of a mechanic from which a week counts as promoted.
_RUNNING = 0.5
# Own residuals from which a product's prices have a distribution of their own; below, its
# category's, scaled.
_OWN_SHAPE = 500
_STILL = 1e-6
# Weights average 1 where the odds are right; beyond this factor they are not believed.
_ODDS_OFF = 1.5
_DAYS = 7
_DRAWS, _SEED = 400, 23
ODDS = (*SERIES, WEEK, "price", "propensity")


def decisions(solved: pl.DataFrame) -> pl.DataFrame:
    """Keep of what was learnt what a log of decisions needs.

    Parameters
    ----------
    solved : see `elasticity.solve`, by product

    Returns
    -------
    DataFrame
        product_id, category, location_id, week_starts_on, units, usual_log_price (of the series,
        natural log of store currency), offset (log price off it), shock (the part of it that levels
        and controls do not foretell), expected (units at offset 0, given all else of the week).
    """
    names = [name for name in solved.columns if name in MECHANICS or name.startswith(PROMOTION)]
    running = pl.any_horizontal([pl.col(name) >= _RUNNING for name in names] or [pl.lit(False)])
    offset = pl.col("log_price")
    expected = (
        pl.col("usual_units")
        * pl.col("foretold")
        * pl.col("told")
        * (-pl.col("slope") * offset).exp()
    )
    numbers = {
        "units": pl.col("units"),
        "usual_log_price": pl.col("price").log() - offset,
        "offset": offset,
        "shock": pl.col("shock"),
        "expected": expected.clip(lower_bound=0.0),
    }
    return solved.filter(~running.fill_null(value=False)).select(
        "product_id", "category", "location_id", WEEK,
        *(value.cast(pl.Float32).alias(name) for name, value in numbers.items()),
    )  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """Sums of decisions by product and block of weeks.

    Attributes
    ----------
    products, categories : of each product, length P
    logged : decisions without a promotion, comparable or not, shape (P,)
    blocks : numbers of the blocks, shape (B,)
    now, proposed : see `off_policy.COLUMNS`, at today's and at proposed prices, shape (P, B, 6)
    """

    products: list[str]
    categories: list[str]
    logged: NDArray[np.int64]
    blocks: NDArray[np.int64]
    now: Array
    proposed: Array


def add_up(
    rows: pl.DataFrame, prices: pl.DataFrame, config: PricingConfig, odds: pl.DataFrame | None
) -> Cells:
    """Weigh the decisions of some whole categories, and add them up.

    Parameters
    ----------
    rows : see `decisions`
    prices : product_id, current_price, proposed_price, unit_cost, elasticity; those that change
    odds : see `checked_odds`; None where no prices were drawn by lot
    """
    shapes = _shapes(rows)
    rows = rows.join(prices, on="product_id", how="inner").sort("product_id", *SERIES[1:], WEEK)
    block = rows[WEEK].to_physical().to_numpy() // (_DAYS * config.log_block_weeks)
    blocks, place = np.unique(block, return_inverse=True)
    products = rows.select("product_id", "category").unique().sort("product_id")
    shape = (products.height, len(blocks), len(off_policy.COLUMNS))
    now, proposed = np.zeros(shape), np.zeros(shape)
    logged = np.zeros(products.height, dtype=np.int64)
    parts = rows.with_columns(pl.Series("block", place)).partition_by(
        "product_id", maintain_order=True
    )
    known = _by_product(odds)
    for number, part in enumerate(parts):
        name = part["product_id"][0]
        told = _weighed(part, shapes[part["category"][0]], known.get(name), config)
        logged[number] = part.height
        if told is not None:
            at, first, second = told
            np.add.at(now[number], at, first)
            np.add.at(proposed[number], at, second)
    return Cells(
        products["product_id"].to_list(), products["category"].to_list(), logged, blocks, now,
        proposed,
    )  # fmt: skip


def _shapes(rows: pl.DataFrame) -> dict[str, Array]:
    """Return the scaled price shocks of each category's products, sorted."""
    mean, deviation = (
        getattr(pl.col("shock").cast(pl.Float64), name)().over("product_id")
        for name in ("mean", "std")
    )
    scaled = rows.with_columns(((pl.col("shock") - mean) / deviation).alias("scaled")).filter(
        deviation > _STILL
    )
    return {
        str(name[0]): part["scaled"].sort().to_numpy()
        for name, part in scaled.group_by("category", maintain_order=True)
    } | dict.fromkeys(
        set(rows["category"].unique()) - set(scaled["category"].unique()), np.zeros(0)
    )


def _by_product(odds: pl.DataFrame | None) -> dict[str, pl.DataFrame]:
    if odds is None:
        return {}
    return {str(name[0]): part for name, part in odds.group_by("product_id")}


def _weighed(
    rows: pl.DataFrame, shape: Array, odds: pl.DataFrame | None, config: PricingConfig
) -> tuple[NDArray[np.int64], Array, Array] | None:
    """Return block and contributions of one product's comparable decisions, now and proposed."""
    usual, offset, shock, units, expected = (
        rows[name].cast(pl.Float64).to_numpy()
        for name in ("usual_log_price", "offset", "shock", "units", "expected")
    )
    current, proposed, cost, elasticity = (
        float(rows[name][0])
        for name in ("current_price", "proposed_price", "unit_cost", "elasticity")
    )
    # A store that is dearer by habit stays so: it is moved as the whole product is.
    targets = [np.log(price) - usual.mean() for price in (current, proposed)]
    likely = [_odds(target, offset, shock, shape, config.log_band) for target in targets]
    if odds is not None:
        drawn = [_drawn(rows, target + usual, odds, config.log_band) for target in targets]
        likely = [np.where(np.isnan(d), one, d) for d, one in zip(drawn, likely, strict=True)]
    comparable = np.minimum(*likely) >= config.log_least_odds
    if not comparable.any():
        return None
    answer = min(elasticity, 0.0)
    found = []
    for target, chance in zip(targets, likely, strict=True):
        margin = (np.exp(target + usual) - cost)[comparable]
        inside = (np.abs(offset - target) <= config.log_band)[comparable].astype(np.float64)
        model = (
            (expected * np.exp(answer * target))[comparable] * margin,
            (expected * np.exp(answer * offset))[comparable] * margin,
        )
        reward = units[comparable] * margin
        found.append(off_policy.contributions(reward, chance[comparable], inside, model))
    return rows["block"].to_numpy()[comparable], found[0], found[1]


def _odds(target: float, offset: Array, shock: Array, shape: Array, band: float) -> Array:
    """Return how likely a price within a band around a target was in each decision, shape (n,)."""
    off = shock - shock.mean()
    scale = float(off.std(ddof=1)) if len(off) > 1 else 0.0
    if scale <= _STILL or not len(shape):
        # The price never moved by itself: it was what was foretold.
        return (np.abs(offset - target) <= band).astype(np.float64)
    if len(off) >= _OWN_SHAPE:
        shape = np.sort(off / scale)
    foretold = offset - off
    high = np.searchsorted(shape, (target + band - foretold) / scale, "right")
    low = np.searchsorted(shape, (target - band - foretold) / scale, "left")
    return np.asarray((high - low) / len(shape))


def _drawn(rows: pl.DataFrame, log_price: Array, odds: pl.DataFrame, band: float) -> Array:
    """Return the logged odds of a price within a band; NaN where the decision was not by lot."""
    key = [SERIES[1], WEEK]
    asked = rows.select(*key, pl.Series("asked", log_price))
    near = (pl.col("price").log() - pl.col("asked")).abs() <= band
    told = (
        asked
        .join(odds.select(*key, "price", "propensity"), on=key)
        .group_by(key)
        .agg(pl.col("propensity").filter(near).sum())
    )
    joined = asked.join(told, on=key, how="left", maintain_order="left")
    return joined["propensity"].fill_null(float("nan")).clip(0.0, 1.0).to_numpy()


def checked_odds(odds: pl.DataFrame, where: str) -> pl.DataFrame:
    """Return a log of drawn prices, or refuse it.

    Parameters
    ----------
    odds : product_id, location_id, week_starts_on, price (each allowed one) and propensity

    Raises
    ------
    DataContractError
        A column is missing, a propensity is none, or those of a decision do not add up to 1; with
        up to five of them.
    """
    hint = "Log every allowed price with its odds, as policy.draw returns them"
    missing = [name for name in ODDS if name not in odds.columns]
    if missing:
        raise DataContractError(f"{where} has no column {', '.join(missing)}", hint)
    text = pl.col("product_id", "location_id").cast(pl.String)
    odds = odds.select(text, pl.col(WEEK).cast(pl.Date), pl.col("price", "propensity"))
    total = odds.group_by(*SERIES, WEEK).agg(
        pl.col("propensity").sum().alias("total"),
        pl.col("propensity").min().alias("least"),
        pl.col("price").min().alias("lowest"),
    )
    right = ((pl.col("total") - 1).abs() < 1e-6) & (pl.col("least") >= 0) & (pl.col("lowest") > 0)
    wrong = total.filter(~right.fill_null(value=False)).sort(*SERIES, WEEK)
    if wrong.height:
        raise DataContractError(
            f"{where}: in {wrong.height} decisions the odds do not add up to 1, or one is below 0, "
            "or a price is not above 0",
            hint,
            wrong.head(5).to_dicts(),
        )
    return odds


def judge(parts: list[Cells], config: PricingConfig) -> pl.DataFrame:
    """Judge proposed prices of all, of each category and of each product, by each method.

    Parameters
    ----------
    parts : see `add_up`

    Returns
    -------
    DataFrame
        scope (`all`, `category`, `product`), name, method, decisions (compared), compared_share (of
        those logged), effective_decisions (at whichever price has fewer), mean_weight (at the
        proposed price; 1 where odds are right), value_now, value, lower, upper (profit a decision
        at proposed prices, store currency), change, change_lower, change_upper (beside today's
        prices), verdict and why. No row where no price changes.
    """
    parts = [part for part in parts if part.products]
    if not parts:
        return _empty()
    blocks = np.unique(np.concatenate([part.blocks for part in parts]))
    rows: list[dict[str, Any]] = []
    totals: list[_Sums] = []
    for part in parts:
        for name in dict.fromkeys(sorted(part.categories)):
            mine = np.flatnonzero(np.array(part.categories) == name)
            each = _sums(part, mine, blocks)
            rows += _told("category", [name], each.together(), config)
            rows += _told("product", [part.products[place] for place in mine], each, config)
            totals.append(each.together())
    everything = _Sums(*(np.sum([getattr(t, n) for t in totals], axis=0) for n in _Sums.NAMES))
    rows += _told("all", [ALL], everything, config)
    return pl.DataFrame(rows, schema=_empty().schema).sort("scope", "name", "method")


@dataclass(frozen=True)
class _Sums:
    """Of some names (N): logged (N,), now and proposed by block, (B, N, 6)."""

    NAMES = ("logged", "now", "proposed")
    logged: NDArray[np.int64]
    now: Array
    proposed: Array

    def together(self) -> _Sums:
        return _Sums(
            self.logged.sum(keepdims=True),
            self.now.sum(axis=1, keepdims=True),
            self.proposed.sum(axis=1, keepdims=True),
        )


def _sums(part: Cells, mine: NDArray[np.int64], blocks: NDArray[np.int64]) -> _Sums:
    """Return sums of some products over all blocks of the shop; nothing where a part has none."""
    place = np.searchsorted(blocks, part.blocks)

    def spread(cells: Array) -> Array:
        full = np.zeros((len(blocks), len(mine), cells.shape[-1]))
        full[place] = np.moveaxis(cells[mine], 1, 0)
        return full

    return _Sums(part.logged[mine], spread(part.now), spread(part.proposed))


def _told(scope: str, names: list[str], sums: _Sums, config: PricingConfig) -> list[dict[str, Any]]:
    clusters = len(sums.now)
    total_now, total = sums.now.sum(axis=0), sums.proposed.sum(axis=0)
    now, proposed = off_policy.values(total_now), off_policy.values(total)
    effective = np.minimum(off_policy.effective_rows(total_now), off_policy.effective_rows(total))
    drawn: list[dict[str, Array]] = []
    if clusters > 1:
        both = np.stack([sums.now, sums.proposed], axis=1)
        again = off_policy.resampled(both, _DRAWS, _SEED)
        drawn = [off_policy.values(again[:, 0]), off_policy.values(again[:, 1])]
    rows = []
    for method in off_policy.METHODS:
        change = proposed[method] - now[method]
        ends = np.full((4, len(names)), np.nan)
        if drawn:
            ends[:2] = off_policy.interval(
                proposed[method], drawn[1][method], clusters, config.confidence
            )
            ends[2:] = off_policy.interval(
                change, drawn[1][method] - drawn[0][method], clusters, config.confidence
            )
        for place, name in enumerate(names):
            decided = float(total[place, 0])
            weight = float(total[place, 1]) / decided if decided else None
            verdict, why = _verdict(
                float(effective[place]), weight, ends[2, place], ends[3, place], config
            )
            rows.append({
                "scope": scope, "name": name, "method": method, "decisions": decided,
                "compared_share": decided / max(float(sums.logged[place]), 1.0),
                "effective_decisions": float(effective[place]),
                "mean_weight": weight,
                "value_now": _number(now[method][place]),
                "value": _number(proposed[method][place]),
                "lower": _number(ends[0, place]), "upper": _number(ends[1, place]),
                "change": _number(change[place]),
                "change_lower": _number(ends[2, place]), "change_upper": _number(ends[3, place]),
                "verdict": verdict, "why": why,
            })  # fmt: skip
    return rows


def _verdict(
    effective: float, weight: float | None, lower: float, upper: float, config: PricingConfig
) -> tuple[str, str]:
    if weight is None or effective < config.log_least_decisions:
        return CANNOT_TELL, (
            f"too little overlap: {effective:.0f} effective decisions at such prices, "
            f"{config.log_least_decisions} are needed"
        )
    if not 1 / _ODDS_OFF <= weight <= _ODDS_OFF:
        return CANNOT_TELL, (
            f"the odds of logged prices are not right: weights average {weight:.2f} and not 1"
        )
    if not np.isfinite(lower):
        return CANNOT_TELL, "too few blocks of weeks for an interval"
    if lower > 0:
        return BETTER, "the interval of the change lies above zero"
    if upper < 0:
        return WORSE, "the interval of the change lies below zero"
    return SAME, "the interval of the change includes zero"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _empty() -> pl.DataFrame:
    text, number = pl.String, pl.Float64
    return pl.DataFrame(schema={
        "scope": text, "name": text, "method": text, "decisions": number, "compared_share": number,
        "effective_decisions": number, "mean_weight": number, "value_now": number, "value": number,
        "lower": number, "upper": number, "change": number, "change_lower": number,
        "change_upper": number, "verdict": text, "why": text,
    })  # fmt: skip


def told(judged: pl.DataFrame) -> dict[str, Any]:
    """Return what the manifest tells: all products together by each method, and who can be told."""
    whole = judged.filter(pl.col("scope") == "all")
    products = judged.filter(
        (pl.col("scope") == "product") & (pl.col("method") == off_policy.DOUBLY_ROBUST)
    )
    return {
        "products": products.height,
        "products_by_verdict": dict(products["verdict"].value_counts().sort("verdict").rows()),
        "methods": {
            row.pop("method"): {
                name: round(value, 6) if isinstance(value, float) else value
                for name, value in row.items()
            }
            for row in whole.drop("scope", "name").to_dicts()
        },
    }
