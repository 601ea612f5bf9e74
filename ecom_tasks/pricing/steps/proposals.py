"""Prices within the rules, from elasticities and where each product stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.steps import reading
from ecom_tasks.pricing.steps.inputs import FORECASTS, GUARDRAILS
from ecom_tasks.pricing.steps.weekly import CATALOGUE
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft

SITUATION = ("stock", "prices", "supply")
"""Tables of the lake that say where a product stands, beside its sales."""
_SEED = 7


def propose_prices(
    run: Run, panel: Ref, elasticities: Ref, rules: Ref, features: Ref, forecasts: Ref
) -> Ref:
    """For each product on sale, the price within the rules that is expected to earn most."""
    from ecom_tasks.artefacts import dataset

    config = PricingConfig.of(run)
    lake = {name: dataset.input_named(features, f"lake/{name}") for name in SITUATION}

    def build(draft: Draft) -> None:
        import polars as pl

        from ecom_tasks.pricing import joint, optimise, situation, today
        from ecom_tasks.pricing.guardrails import Guardrails

        ruled = Guardrails.model_validate(dataset.read_json(rules, GUARDRAILS))
        told: dict[str, Any] = _told(lake)
        known = situation.Known(**told, **_forecast(forecasts))
        catalogue = dataset.scan(panel, CATALOGUE).collect()
        dealt, first, _ = reading.dealt(panel, config)

        def stand(products: list[str]) -> pl.DataFrame:
            weeks = reading.weeks(panel, first, products)
            positions = today.positions(weeks, catalogue, config)
            return situation.add(positions, weeks, known, ruled, run.as_of)

        # One part after the other: what is known of a product needs no more than its own weeks.
        positions = pl.concat([stand(part) for part in dealt])
        positions = positions.sort("product_id")
        today.check_costs(positions, config)
        answers = dataset.scan(elasticities, "products.parquet").collect()
        columns = ["product_id", "estimate", "error", "lower", "upper", "grade", "why"]
        shared = optimise.at_current_prices(
            positions, answers.select(*columns, "shared_error"), config
        )
        pairs = dataset.scan(elasticities, "cross.parquet").collect()
        chosen = joint.choose(shared, pairs, ruled, config, _SEED)
        prices = optimise.propose_all(positions, answers.select(columns), config, chosen.prices)
        draft.write_frame("prices.parquet", prices)
        draft.write_json("total.json", optimise.total(prices, answers, config, _SEED))

    return dataset.produce(
        run, "work/pricing/prices", build,
        inputs=[panel, elasticities, rules, forecasts, *lake.values()], config=config,
    )  # fmt: skip


def _told(lake: dict[str, Ref]) -> dict[str, pl.DataFrame | None]:
    """Return what the shop's tables say of today, as far as it has them."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import situation

    def told(table: str, read: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame | None:
        parts = [read(rows).collect() for rows in dataset.scan_each(lake[table])]
        return pl.concat(parts) if parts else None

    return {
        "stock": told("stock", situation.newest_stock),
        "rivals": told("prices", situation.newest_rivals),
        "supply": told("supply", lambda rows: rows),
    }


def _forecast(pinned: Ref) -> dict[str, Any]:
    """Return what an earlier release of inventory foretold; empty where there is none."""
    from ecom_tasks.artefacts import dataset

    made = dataset.manifest(pinned)
    if not made.inputs:
        return {}
    frame = dataset.scan(dataset.input_named(pinned, FORECASTS), "forecasts.parquet").collect()
    return {"forecasts": frame, "released": f"forecast {made.metrics['forecasts'][:10]}"}
