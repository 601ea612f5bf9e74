"""What the controls alone foretell of demand and of price, by cross-fitted boosted trees."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecom_tasks.pricing import absorb, elasticity
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.controls import matrix, moving
from ecom_tasks.pricing.instruments import INSTRUMENT
from ecom_tasks.pricing.panel import SERIES, WEEK
from ecom_tasks.training import boosted_trees

Array = NDArray[np.float64]

_SEED = 20171224
# Last week's price foretells a store's price, and nothing of demand once levels are off: taking it
# out would leave a product's elasticity to the shop's average answer to lasting prices.
_LEVELLED = ("last_price",)
_BINS = 64
# Weight that a leaf needs: about 100 weeks of a product that sells four units a week.
_LEAF_WEIGHT = 200.0


@dataclass(frozen=True)
class Nuisance:
    """Models of demand and of price given the controls, one of each a fold."""

    demand: list[Any]
    price: list[Any]

    def predict(self, rows: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return expected demand (share of usual) and log price of new rows, shape (rows,) each."""
        controls = matrix(rows)
        demand = np.mean([model.inplace_predict(controls) for model in self.demand], axis=0)
        price = np.mean([model.inplace_predict(controls) for model in self.price], axis=0)
        return demand.astype(np.float64), price.astype(np.float64)


def folds(rows: pl.DataFrame, config: PricingConfig) -> NDArray[np.int64]:
    """Say for each row which fold it belongs to, shape (rows,).

    By product: whole products, dealt in turn within each category, so that each fold has neighbours
    of every category to learn its season from. By time: blocks of successive weeks.
    """
    by = config.cross_fit_by
    if by == "auto":
        by = "time" if rows["location_id"].n_unique() > 1 else "product"
    if by == "time":
        week = rows[WEEK].rank("dense").cast(pl.Int64) - 1
        return (week * config.folds // week.n_unique()).to_numpy()
    products = rows.select("category", "product_id").unique().sort("category", "product_id")
    turn = pl.int_range(pl.len()).over("category") + pl.col("category").rank("dense")
    dealt = products.with_columns((turn % config.folds).cast(pl.Int64).alias("fold"))
    joined = rows.join(dealt, on=["category", "product_id"], how="left", maintain_order="left")
    return joined["fold"].to_numpy()


def partial_out(
    rows: pl.DataFrame, config: PricingConfig
) -> tuple[pl.DataFrame, Nuisance, elasticity.Further | None]:
    """Take out of demand and price what the controls explain; each row by models it did not train.

    Where levels come off (see `absorb`), they do so first, with each product's log-linear answers,
    and trees look for what is left: a tree that saw the raw columns would learn how weeks differ,
    and blame it on stores.

    Parameters
    ----------
    rows : see `controls.prepare`

    Returns
    -------
    rows with `foretold` (demand by the controls), `demand_ratio` (demand over that), `price_left`
    (log price minus what they foretell, mean 0 in each series) and the levels of `absorb.choose`;
    the models, which foretell only if no levels came off: see `train`; and what is known of these
    rows' promotions and levels, None where no levels came off.
    """
    if INSTRUMENT in rows.columns:
        # Levels of weeks would take most of what an instrument moves.
        return *_taken_out(rows, rows["demand"].to_numpy(), matrix(rows, _LEVELLED), config), None
    rows = absorb.choose(rows)
    if not absorb.any_chosen(rows):
        return *_taken_out(rows, rows["demand"].to_numpy(), matrix(rows), config), None
    further = elasticity.Further(rows)
    raw = rows.with_columns(
        pl.col("demand").alias("demand_ratio"), pl.col("log_price").alias("price_left")
    )
    linear = elasticity.solve(raw, ["product_id"], elasticity.prepare(raw, further))
    # Of what never moves, nothing is left.
    columns = zip(further.names, further.off, strict=True)
    moved = {name: further.lattice.take(each) for name, each in columns}
    off = linear.with_columns(
        pl.Series(name, moved[name]) if name in moved else pl.lit(0.0).alias(name)
        for name in moving(rows)
    ).with_columns(pl.col("shock").alias("log_price"))
    # What the price does stays in: both sides lose what the controls explain of them.
    demand = (1 + off["rest"] + off["slope"] * off["shock"]).clip(lower_bound=0.0).to_numpy()
    left, models = _taken_out(off, demand, matrix(off, _LEVELLED), config)
    return (
        rows.with_columns(
            (
                rows["demand"] * left["demand_ratio"] / pl.Series(np.where(demand > 0, demand, 1.0))
            ).alias("demand_ratio"),
            (rows["log_price"] - (off["log_price"] - left["price_left"])).alias("price_left"),
            left["foretold"],
        ),
        models,
        further,
    )


def train(rows: pl.DataFrame, config: PricingConfig) -> Nuisance:
    """Learn demand and price given the raw controls, for `Nuisance.predict` of later weeks."""
    return _taken_out(rows, rows["demand"].to_numpy(), matrix(rows), config)[1]


def _taken_out(
    rows: pl.DataFrame, demand: Array, controls: NDArray[np.float32], config: PricingConfig
) -> tuple[pl.DataFrame, Nuisance]:
    fold = folds(rows, config)
    weight = rows["weight"].to_numpy()
    outcomes = {"demand": demand, "price": rows["log_price"].to_numpy()}
    if INSTRUMENT in rows.columns:
        outcomes[INSTRUMENT] = rows[INSTRUMENT].to_numpy()

    def model(job: tuple[str, int]) -> Any:
        target, number = job
        train = np.flatnonzero(fold != number)
        # Every n-th row, so that all series and weeks are there.
        train = train[:: -(-len(train) // config.nuisance_rows)]
        outcome = outcomes[target][train]
        return _train(controls[train], outcome, weight[train], target, config)

    jobs = [(target, number) for target in outcomes for number in range(config.folds)]
    # One thread a model: on a busy machine the threads of one model wait for each other.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        models = list(pool.map(model, jobs))
    made = dict(zip(jobs, models, strict=True))
    foretold = {target: np.empty(rows.height) for target in outcomes}
    for (target, number), each in made.items():
        test = fold == number
        foretold[target][test] = each.inplace_predict(controls[test])
    left = {
        f"{target}_left": outcomes[target] - foretold[target]
        for target in outcomes
        if target != "demand"
    }
    rows = rows.with_columns(
        pl.Series("demand_ratio", demand / foretold["demand"]),
        pl.Series("foretold", foretold["demand"]),
        *(pl.Series(name, values) for name, values in left.items()),
    )
    return rows.with_columns(
        pl.col(name) - pl.col(name).mean().over(SERIES) for name in left
    ), Nuisance(*(models[place : place + config.folds] for place in (0, config.folds)))


def _train(
    controls: NDArray[np.float32],
    outcome: NDArray[np.float64],
    weight: NDArray[np.float64],
    target: str,
    config: PricingConfig,
) -> Any:
    counts = target == "demand"
    parameters = {
        "objective": "count:poisson" if counts else "reg:squarederror",
        "base_score": 1.0 if counts else 0.0,
        "tree_method": "hist",
        "max_bin": _BINS,
        "max_depth": config.depth,
        "learning_rate": config.learning_rate,
        "min_child_weight": _LEAF_WEIGHT,
        "nthread": 1,
        "seed": _SEED,
    }
    rows = boosted_trees.Rows(controls, outcome, {"weight": weight})
    return boosted_trees.train("trees of nuisances", parameters, rows, config.trees)


def moments(rows: pl.DataFrame) -> pl.DataFrame:
    """Sum up what `explained` needs of a part of the shop; sums of parts add up.

    Parameters
    ----------
    rows : see `partial_out`

    Returns
    -------
    DataFrame of one row: count, sum and squares of demand and what is left of it (weeks with a
    sale), of log_price and what is left of it.
    """
    # Nothing is expected where the levels expect nothing: no share of such demand is foretold.
    sold = (pl.col("demand") > 0) & (pl.col("demand_ratio") > 0)
    left = pl.col("demand") - pl.col("demand") / pl.col("demand_ratio")
    columns = {
        "demand_left": left.filter(sold), "demand": pl.col("demand").filter(sold),
        "price_left": pl.col("price_left"), "price": pl.col("log_price"),
    }  # fmt: skip
    return rows.select(
        each
        for name, column in columns.items()
        for each in (
            column.len().cast(pl.Float64).alias(f"{name}: count"),
            column.sum().alias(f"{name}: sum"),
            (column**2).sum().alias(f"{name}: squares"),
        )
    )


def explained(moments: pl.DataFrame) -> dict[str, float]:
    """Return the share of the variance of demand and of price that the controls foretell.

    Out of fold. A price that is foretold entirely (share near 1) leaves nothing to learn from.

    Parameters
    ----------
    moments : see `moments`; a row a part
    """
    total = moments.sum().row(0, named=True)

    def variance(name: str) -> float:
        count, each, squares = (total[f"{name}: {of}"] for of in ("count", "sum", "squares"))
        return float((squares - each**2 / count) / (count - 1)) if count > 1 else float("nan")

    return {name: 1 - variance(f"{name}_left") / variance(name) for name in ("demand", "price")}


def left_of_price(solved: pl.DataFrame) -> pl.DataFrame:
    """Return what levels, promotions and controls leave of each product's price to learn from.

    Parameters
    ----------
    solved : see `elasticity.solve`, by product

    Returns
    -------
    DataFrame
        product_id, price_left_share: variance of the price shock over that of the log price within
        series. Near 0 the price was foretold, and an elasticity would hang on rounding.
    """
    within = pl.col("log_price") - pl.col("log_price").mean().over(SERIES)
    return (
        solved
        .with_columns(within.alias("within"))
        .group_by("product_id")
        .agg(
            ((pl.col("shock") ** 2).sum() / (pl.col("within") ** 2).sum())
            .fill_nan(0.0)
            .alias("price_left_share")
        )
        .sort("product_id")
    )
