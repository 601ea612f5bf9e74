"""May a version go into service? Judged on evidence that it brings, beside the one in service.

A domain hands in *evidence*: for each held-out unit (customer, series, product) its loss under the
model and under the plain baseline. Two questions are asked of it by a paired bootstrap over units:

* better than the baseline: the lower end of the gain's one-sided interval lies above
  `smallest_gain`, 0 by default;
* no worse than production: its upper end does not lie below 0, on the windows and units that both
  versions have judged. Without a common window, gains over the same baseline are compared, each
  resampled by itself, which notices less.

The level (95% by default) holds for each question. Below 30 units a bootstrap says little, and the
mean alone must be better than the baseline's. Units, not rows, are resampled: rows of one unit
hang together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ecom_tasks.artefacts.manifest import Check, FileEntry, Verdict
from ecom_tasks.artefacts.release import CHANNEL
from ecom_tasks.config import DomainConfig

if TYPE_CHECKING:  # every task reads this module, and few have something to judge
    import polars as pl

EVIDENCE = "evidence.parquet"
"""window (text), unit (text), weight, model, baseline (losses: less is better)."""


Bounds = tuple[float | None, float | None]
"""At least and at most; None is no limit."""


class GateConfig(DomainConfig):
    """Settings of the gate, of all domains: `ECOM_GATE__LEVEL` and so on."""

    domain: ClassVar[str] = "gate"

    channel: str = Field(
        default="production", pattern=CHANNEL,
        description="that a release moves; `shadow` publishes without serving",
    )  # fmt: skip
    level: float = Field(default=0.95, gt=0.5, lt=1, description="of each one-sided interval")
    resamples: int = Field(default=2000, ge=100)
    seed: int = Field(default=7, ge=0)
    smallest_gain: float = Field(
        default=0.0, description="loss saved over the plain baseline that is not enough"
    )
    least_units: int = Field(
        default=30, ge=2, description="below which a gain of the mean is enough"
    )
    catalogue_share: float = Field(
        default=0.001, ge=0, le=1, description="of the products, in lists of recommendations"
    )
    price_move: float = Field(default=0.5, gt=0, description="largest, relative to the price now")
    interval_coverage: Bounds = Field(
        default=(0.6, 0.95), description="of the central 80% interval of demand forecasts"
    )
    approve_price_move: float | None = Field(
        default=0.25, gt=0, description="a larger one needs a person's approval"
    )
    approve_order_value: float | None = Field(
        default=None, gt=0, description="a larger one needs a person's approval, store currency"
    )
    approve_order_weeks: float | None = Field(
        default=8.0, gt=0, description="orders worth more weeks of expected demand need approval"
    )
    order_budget: float | None = Field(
        default=None, gt=0, description="value of all proposed orders, store currency"
    )


@dataclass(frozen=True)
class Gain:
    """Mean loss saved, weighted over units, with its two one-sided ends."""

    mean: float
    low: float
    high: float
    units: int

    def __str__(self) -> str:
        return f"{self.mean:.4g} ({self.low:.4g} to {self.high:.4g}, {self.units} units)"


def gain(evidence: pl.DataFrame, config: GateConfig, over: str = "baseline") -> Gain:
    """Bootstrap the mean of `over` - `model`, resampling units.

    Parameters
    ----------
    evidence : see `EVIDENCE`, at least one row
    """
    import numpy as np
    import polars as pl

    difference = (pl.col(over) - pl.col("model")) * pl.col("weight")
    units = (
        evidence
        .group_by("unit")
        .agg(difference.sum().alias("saved"), pl.col("weight").sum())
        .sort("unit")
    )
    saved, weight = units["saved"].to_numpy(), units["weight"].to_numpy()
    random, number = np.random.default_rng(config.seed), len(saved)
    means = np.empty(config.resamples)
    for each in range(config.resamples):
        drawn = random.integers(0, number, number)
        total = weight[drawn].sum()
        means[each] = saved[drawn].sum() / total if total > 0 else 0.0
    low, high = np.quantile(means, [1 - config.level, config.level])
    return Gain(float(saved.sum() / weight.sum()), float(low), float(high), number)


def beats_baseline(evidence: pl.DataFrame, name: str, config: GateConfig) -> Check:
    """Whether the model saves loss over the plain baseline, beyond chance."""
    found, question = gain(evidence, config), f"better than {name}"
    if found.units < config.least_units:
        said = f"loss saved {found}; so few units cannot tell chance apart, the mean decides"
        return Check(question=question, holds=found.mean > config.smallest_gain, said=said)
    said = f"loss saved {found}, one-sided {config.level:.0%} by paired bootstrap"
    return Check(question=question, holds=found.low > config.smallest_gain, said=said)


def no_worse(
    evidence: pl.DataFrame, champion: pl.DataFrame, version: str, config: GateConfig
) -> Check:
    """Whether the model is not worse, beyond chance, than the version in service."""
    import polars as pl

    pair = ["window", "unit"]
    both = evidence.join(
        champion.select(*pair, pl.col("model").alias("champion")), on=pair, how="inner"
    )
    question = f"no worse than {version} in service"
    if both.height:
        found = gain(both, config, over="champion")
        said = f"loss saved {found}, one-sided {config.level:.0%} by paired bootstrap"
        return Check(question=question, holds=found.high >= 0, said=said)
    ours, theirs = gain(evidence, config), gain(champion, config)
    said = (
        f"no window in common; gain over the baseline {ours} against {theirs}, "
        "resampled apart, which notices less"
    )
    return Check(question=question, holds=ours.high >= theirs.low, said=said)


def same_schema(
    files: list[FileEntry], earlier: list[FileEntry], *, bumped: bool, version: str
) -> Check:
    """Whether every table of before is there with the columns of before; more is no harm."""
    now, before = _tables(files), _tables(earlier)
    gone = [
        f"{path} lacks {column} ({kind})"
        for path, columns in before.items()
        for column, kind in columns.items()
        if now.get(path, {}).get(column) != kind
    ]
    return Check(
        question=f"tables as in {version}, or content_version raised", holds=bumped or not gone,
        said="; ".join(gone[:5]) or "all columns are there",
    )  # fmt: skip


def _tables(files: list[FileEntry]) -> dict[str, Mapping[str, str]]:
    """Columns by path; the parts of one table (`x/bucket=003.parquet`) count as one."""
    import re

    return {re.sub(r"[^/=]+=[^/]+", "*", file.path): file.columns for file in files if file.columns}


def within(question: str, value: float | None, bounds: Bounds) -> Check:
    """A plain limit, for figures that tell a slip: coverage, price moves, order value."""
    low, high = bounds
    if value is None:
        return Check(question=question, holds=True, said="it cannot be told")
    holds = (low is None or value >= low) and (high is None or value <= high)
    words = zip(("at least", "at most"), bounds, strict=True)
    limits = [f"{word} {limit:g}" for word, limit in words if limit is not None]
    said = f"{value:.4g}, {' and '.join(limits) or 'no limit is set'}"
    return Check(question=question, holds=holds, said=said)


def verdict(checks: list[Check], champion: str, approval: list[str]) -> Verdict:
    """Gather the answers; one that does not hold is enough to reject."""
    accepted = all(check.holds for check in checks)
    return Verdict(accepted=accepted, champion=champion, checks=checks, approval=approval)
