"""What the controls alone foretell of demand and of price, by cross-fitted boosted trees."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.controls import matrix
from ecom_tasks.pricing.panel import SERIES, WEEK

_SEED = 20171224
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
    if config.cross_fit_by == "time":
        week = rows[WEEK].rank("dense").cast(pl.Int64) - 1
        return (week * config.folds // week.n_unique()).to_numpy()
    products = rows.select("category", "product_id").unique().sort("category", "product_id")
    turn = pl.int_range(pl.len()).over("category") + pl.col("category").rank("dense")
    dealt = products.with_columns((turn % config.folds).cast(pl.Int64).alias("fold"))
    joined = rows.join(dealt, on=["category", "product_id"], how="left", maintain_order="left")
    return joined["fold"].to_numpy()


def partial_out(rows: pl.DataFrame, config: PricingConfig) -> tuple[pl.DataFrame, Nuisance]:
    """Take out of demand and price what the controls explain; each row by models it did not train.

    Parameters
    ----------
    rows : see `controls.prepare`

    Returns
    -------
    rows with `demand_ratio` (demand over what the controls foretell) and `price_left` (log price
    minus what they foretell, mean 0 in each series), and the models.
    """
    fold, controls = folds(rows, config), matrix(rows)
    weight = rows["weight"].to_numpy()
    demand, price = rows["demand"].to_numpy(), rows["log_price"].to_numpy()

    def model(job: tuple[str, int]) -> Any:
        target, number = job
        train = fold != number
        outcome = demand if target == "demand" else price
        return _train(controls[train], outcome[train], weight[train], target, config)

    jobs = [(target, number) for target in ("demand", "price") for number in range(config.folds)]
    # One thread a model: on a busy machine the threads of one model wait for each other.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        models = list(pool.map(model, jobs))
    nuisance = Nuisance(models[: config.folds], models[config.folds :])
    expected, foretold = np.ones(rows.height), np.zeros(rows.height)
    for number in range(config.folds):
        test = fold == number
        expected[test] = nuisance.demand[number].inplace_predict(controls[test])
        foretold[test] = nuisance.price[number].inplace_predict(controls[test])
    left = rows.with_columns(
        pl.Series("demand_ratio", demand / expected), pl.Series("price_left", price - foretold)
    )
    return left.with_columns(
        pl.col("price_left") - pl.col("price_left").mean().over(SERIES)
    ), nuisance


def _train(
    controls: NDArray[np.float32],
    outcome: NDArray[np.float64],
    weight: NDArray[np.float64],
    target: str,
    config: PricingConfig,
) -> Any:
    import xgboost as xgb

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
    data = xgb.QuantileDMatrix(controls, outcome, weight=weight, max_bin=_BINS, nthread=1)
    return xgb.train(parameters, data, num_boost_round=config.trees)


def explained(rows: pl.DataFrame) -> dict[str, float]:
    """Return the share of the variance of demand and of price that the controls foretell.

    Out of fold. A price that is foretold entirely (share near 1) leaves nothing to learn from.

    Parameters
    ----------
    rows : see `partial_out`
    """
    expected = pl.col("demand") / pl.col("demand_ratio")
    sold = pl.col("demand") > 0
    shares = rows.select(
        (
            1
            - (pl.col("demand") - expected).filter(sold).var() / pl.col("demand").filter(sold).var()
        ).alias("demand"),
        (1 - pl.col("price_left").var() / pl.col("log_price").var()).alias("price"),
    )
    return {name: float(value) for name, value in shares.row(0, named=True).items()}
