"""A network beside the ranker's trees: the same expected orders, learnt in another way.

Trees cut columns into steps, a network bends them: the two err in different places, and the mean of
their log rates errs less than either. Several networks that differ in their seed are averaged.
A network is plain arrays, and scoring needs no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ecom_tasks.recommendation.config import RecommendationConfig

if TYPE_CHECKING:
    from ecom_tasks.recommendation.ranker import Examples
    from ecom_tasks.training.count_network import Dials, Layer

Floats = NDArray[np.float32]
SHARES = tuple(tenth / 10 for tenth in range(11))
"""What the network may count for beside the trees."""
REACH = 1.7
"""Coded values lie between -REACH and REACH: as far as a uniform of variance 1 does."""
_KNOTS = 101
_SAMPLE = 50_000
_ROWS_AT_ONCE = 32_768


@dataclass(frozen=True)
class Network:
    """What was learnt, as arrays.

    Attributes
    ----------
    knots : quantiles of each column, ascending, each once, NaN behind the last,
        shape (columns, knots)
    unknown : numbers of the columns that may be unknown, of which the network is told so
    members : layers of each of the averaged networks: kernel (inputs, outputs), bias (outputs,)
    """

    knots: Floats
    unknown: NDArray[np.int64]
    members: list[list[Layer]]


def train(windows: Sequence[Examples], config: RecommendationConfig) -> Network:
    """Learn expected orders from the examples of some windows, once for each seed.

    Returns
    -------
    Network; on a CPU, the same examples and settings give the same numbers.
    """
    # Ten seconds of import, for those who train only.
    from ecom_tasks.training import count_network

    every = -(-sum(len(window.orders) for window in windows) // _SAMPLE)
    knots, unknown = _coding(np.concatenate([window.features[::every] for window in windows]))
    # Sixteen bits: what is learnt from is as precise as a thousandth, in half of the memory.
    columns = np.concatenate([
        code(window.features, knots, unknown, np.float16) for window in windows
    ])
    orders = np.concatenate([window.orders for window in windows])
    counts = np.minimum(orders, config.label_cap).astype(np.float32)
    weight = np.concatenate([window.weight for window in windows])
    return Network(
        knots,
        unknown,
        [
            count_network.train(columns, counts, weight, _dials(config, config.seed + number))
            for number in range(config.ranker_seeds)
        ],
    )


def _dials(config: RecommendationConfig, seed: int) -> Dials:
    from ecom_tasks.training.count_network import Dials

    return Dials(
        sizes=(config.network_size, config.network_size // 2),
        passes=config.network_passes,
        batch=config.network_batch,
        dropout=config.network_dropout,
        learning_rate=config.network_learning_rate,
        seed=seed,
    )


def _coding(features: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return quantiles of each column, and the columns that are unknown somewhere."""
    knots = np.full((features.shape[1], _KNOTS), np.nan, dtype=np.float32)
    levels = np.linspace(0, 1, _KNOTS)
    for row, column in zip(knots, features.T, strict=True):
        known = column[np.isfinite(column)]
        if len(known):
            # Values that there are: between two of them nothing lies.
            found = np.unique(np.quantile(known, levels, method="inverted_cdf"))
            row[: len(found)] = found
    return knots, np.flatnonzero(np.isnan(features).any(axis=0))


def code(
    features: Floats, knots: Floats, unknown: NDArray[np.int64], dtype: type = np.float64
) -> NDArray[Any]:
    """Return each column by where it lies among its quantiles, then marks of what is unknown.

    Returns
    -------
    shape (rows, columns + unknown): from -REACH to REACH, 0 where unknown or where a column has one
    value; marks are 1 where unknown, else 0
    """
    rows, width = features.shape
    coded = np.zeros((rows, width + len(unknown)), dtype=dtype)
    for number, row in enumerate(knots):
        known = row[np.isfinite(row)]
        if len(known) > 1:
            places = np.linspace(-REACH, REACH, len(known))
            found = np.interp(features[:, number], known, places)
            coded[:, number] = np.where(np.isnan(found), 0, found)
    coded[:, width:] = np.isnan(features[:, unknown])
    return coded


def log_rate(network: Network, features: Floats) -> NDArray[np.float64]:
    """Return the mean of the members' log rates of orders, shape (rows,).

    In 64 bits: in 32 the last ones would depend on which rows are computed together, and with them
    whether a customer scored alone has the scores of all.
    """
    starts = range(0, len(features), _ROWS_AT_ONCE)
    parts = [_log_rate(network, features[at : at + _ROWS_AT_ONCE]) for at in starts]
    return np.concatenate(parts) if parts else np.zeros(0)


def _log_rate(network: Network, features: Floats) -> NDArray[np.float64]:
    coded = code(features, network.knots, network.unknown)
    found = np.zeros(len(features))
    for member in network.members:
        values = coded
        for kernel, bias in member[:-1]:
            values = values @ kernel.astype(np.float64) + bias
            values *= expit(values)  # SiLU
        kernel, bias = member[-1]
        found += (values @ kernel.astype(np.float64) + bias)[:, 0]
    return found / len(network.members)


def save(network: Network, path: Path, share: float) -> None:
    """Write the network in NumPy's `.npz`, with what it counts for; same network, same bytes.

    Arrays are `share`, `knots`, `unknown`, and `kernel_M_L` and `bias_M_L` for layer L of member M.
    """
    arrays: dict[str, Any] = {}
    for number, member in enumerate(network.members):
        for layer, (kernel, bias) in enumerate(member):
            arrays |= {f"kernel_{number}_{layer}": kernel, f"bias_{number}_{layer}": bias}
    np.savez(path, share=share, knots=network.knots, unknown=network.unknown, **arrays)


def load(path: Path) -> tuple[Network, float]:
    """Read what `save` wrote: the network, and what it counts for."""
    with np.load(path, allow_pickle=False) as kept:
        names = [name for name in kept.files if name.startswith("kernel_")]
        members: list[list[Layer]] = []
        # In the order in which they were written.
        for name in names:
            if name.endswith("_0"):
                members.append([])
            members[-1].append((kept[name], kept[name.replace("kernel", "bias")]))
        return Network(kept["knots"], kept["unknown"], members), float(kept["share"])
