"""Gate, report and files of a release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.pricing.steps import reading
from ecom_tasks.pricing.steps.judgement import GROUPS, OFF_POLICY
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft


def publish_release(
    run: Run, elasticities: Ref, evaluation: Ref, prices: Ref, off_policy: Ref, groups: Ref
) -> Ref:
    """Refuse what holds no better than a plain baseline or breaks a rule; publish the rest."""
    from ecom_tasks.artefacts import dataset

    config = PricingConfig.of(run)

    def build(draft: Draft) -> None:
        from ecom_tasks.pricing import evaluate, logged, report, rules

        scores = dataset.read_json(evaluation, "scores.json")
        proposals = dataset.scan(prices, "prices.parquet").collect()
        with draft.gating():
            evaluate.gate(scores)
        with draft.gating():
            rules.check(proposals, config)
        held_out = dataset.scan(evaluation, "held_out.parquet").collect()
        draft.evidence(reading.rounded(evaluate.evidence(held_out)))
        moved = float(cast(float, proposals["change"].abs().max() or 0.0))
        draft.limit("largest price move", moved, (None, draft.limits.price_move))
        draft.ask("largest price move", moved, draft.limits.approve_price_move)
        found = report.Findings(
            products=dataset.scan(elasticities, "products.parquet").collect(),
            categories=dataset.scan(elasticities, "categories.parquet").collect(),
            prices=proposals,
            calibration=dataset.scan(evaluation, "calibration.parquet").collect(),
            cross=dataset.scan(elasticities, "cross.parquet").collect(),
            tests=dataset.scan(elasticities, "price_tests.parquet").collect(),
            promotions=dataset.scan(elasticities, "promotions.parquet").collect(),
            groups=dataset.scan(groups, GROUPS).collect(),
            off_policy=dataset.scan(off_policy, OFF_POLICY).collect(),
            metrics={},
            assumptions=draft.assumptions,
        )
        shop = dataset.read_json(elasticities, "shop.json")
        found.metrics.update(_metrics(found, scores, shop))
        found.metrics["rule_violations"] = rules.violations(proposals, config).height
        found.metrics["proposals"] = dataset.read_json(prices, "total.json")
        found.metrics["off_policy"] = logged.told(found.off_policy)
        draft.metrics.update(found.metrics)
        draft.assumptions.extend(_assumptions(proposals, config))
        held = scores["moved_prices"]
        draft.headline(
            metric="deviance of units in held-out weeks with a moved price",
            value=held[evaluate.ELASTICITIES],
            baseline_name=evaluate.NO_RESPONSE,
            baseline=held[evaluate.NO_RESPONSE],
            higher_is_better=False,
            rows=proposals.height,
            unit="prices",
        )
        _write_release(draft, found)
        draft.write_text("report.html", report.render(f"Pricing as of {run.as_of}", found, config))

    ref = dataset.produce(
        run,
        "artefacts/pricing",
        build,
        inputs=[elasticities, evaluation, prices, off_policy, groups],
        config=config,
    )
    return dataset.release(run, ref)


def _metrics(found: Any, scores: dict[str, Any], shop: dict[str, Any]) -> dict[str, Any]:
    """Gather what the manifest, metrics.json and the report tell."""
    import polars as pl

    from ecom_tasks.pricing.variation import ENOUGH

    enough = found.categories.filter(pl.col("variation") == ENOUGH)
    negative = enough.filter(pl.col("upper") < 0).height
    on_sale = found.products.join(found.prices, on="product_id", how="semi")
    return {
        "held_out": scores,
        "shop": shop,
        "categories": {
            "all": found.categories.height,
            "enough": enough.height,
            "negative": negative,
            "share_negative": round(negative / enough.height, 4) if enough.height else 0.0,
            "placebo_passed": int(enough["placebo_passed"].sum()),
        },
        "products_on_sale_by_grade": dict(on_sale["grade"].value_counts().sort("grade").rows()),
    }


def _assumptions(prices: pl.DataFrame, config: PricingConfig) -> list[str]:
    assumed = int(prices["assumed"].sum())
    if not assumed:
        return []
    return [
        f"The unit cost of {assumed} of {prices.height} products is assumed to be "
        f"{1 - config.assumed_margin:.0%} of the usual price: the source gives none."
    ]


def _upload(prices: pl.DataFrame) -> str:
    """Return changed prices as a shop system reads them: product, price, two decimals."""
    import polars as pl

    changed = prices.filter(pl.col("change") != 0)
    return changed.select("product_id", pl.col("proposed_price").round(2).alias("price")).write_csv(
        float_precision=2
    )


def _write_release(draft: Draft, found: Any) -> None:
    first = ["product_id", "category", "estimate", "lower", "upper", "weight_borrowed", "grade"]
    more = ["why", "own_estimate", "own_error", "weeks", "moved_weeks", "reliability"]
    more += ["instrument", "first_stage_f"]
    draft.write_frame("elasticities.parquet", found.products.select(*first, *more))
    draft.write_frame("category_elasticities.parquet", found.categories)
    draft.write_frame("cross_elasticities.parquet", found.cross.filter("found"))
    draft.write_frame("price_tests.parquet", found.tests)
    draft.write_frame("promotions.parquet", found.promotions)
    draft.write_frame("discounts_by_segment.parquet", found.groups)
    draft.write_frame(OFF_POLICY, found.off_policy)
    draft.write_text("upload.csv", _upload(found.prices))
    draft.write_frame("prices.parquet", found.prices)
    draft.write_text("prices.csv", found.prices.write_csv())
    draft.write_json("metrics.json", found.metrics)
