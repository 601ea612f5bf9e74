"""Proposed prices held against the log, and what groups of customers paid."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.steps import reading
from ecom_tasks.pricing.steps.inputs import ODDS
from ecom_tasks.pricing.steps.learning import DECISIONS
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft

GROUPS, OFF_POLICY = "customer_groups.parquet", "off_policy.parquet"


def judge_by_logs(run: Run, elasticities: Ref, prices: Ref, price_log: Ref) -> Ref:
    """Ask what proposed prices would have earned in the weeks that are logged."""
    from ecom_tasks.artefacts import dataset

    config = PricingConfig.of(run)

    def build(draft: Draft) -> None:
        from ecom_tasks.pricing import logged, parts

        paths = dataset.paths(elasticities, f"{DECISIONS}/*.parquet")
        work = partial(_weigh, elasticities, prices, price_log, config)
        cells = parts.over(work, paths, "logged decisions")
        draft.write_frame(OFF_POLICY, reading.rounded(logged.judge(cells, config)))

    return dataset.produce(
        run, "work/pricing/off_policy", build, inputs=[elasticities, prices, price_log],
        config=config,
    )  # fmt: skip


def compare_groups(run: Run, features: Ref) -> Ref:
    """What groups of customers paid for the same goods: for the report, never for a price."""
    from ecom_tasks import compute
    from ecom_tasks.artefacts import dataset

    lines, customers = (
        dataset.input_named(features, f"lake/{name}") for name in ("order_lines", "customers")
    )

    def build(draft: Draft) -> None:
        from ecom_tasks.pricing import fairness

        work = partial(_group_sums, lines, customers, run.as_of)
        buckets = dataset.paths(lines, "by_product/*.parquet")
        parts = [part for _, part in compute.map_buckets(work, buckets, "what groups paid")]
        draft.write_frame(GROUPS, fairness.compare(parts))

    return dataset.produce(run, "work/pricing/groups", build, inputs=[lines, customers])


def _weigh(elasticities: Ref, prices: Ref, odds: Ref, config: PricingConfig, path: str) -> Any:
    """Weigh the logged decisions of one part; may run on a Dask worker."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import logged

    columns = ["product_id", "current_price", "proposed_price", "unit_cost", "elasticity"]
    changed = dataset.scan(prices, "prices.parquet").filter(pl.col("change") != 0).select(columns)
    drawn = dataset.scan(odds, ODDS).collect() if dataset.has_rows(odds) else None
    return logged.add_up(
        dataset.scan(elasticities, path).collect(), changed.collect(), config, drawn
    )


def _group_sums(lines: Ref, customers: Ref, as_of: date, path: str) -> tuple[str, pl.DataFrame]:
    """Add up what groups paid for the products of one bucket; runs on a Dask worker."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import fairness

    known = dataset.scan(customers) if dataset.has_rows(customers) else None
    return path, fairness.sums(dataset.scan(lines, path), known, as_of)
