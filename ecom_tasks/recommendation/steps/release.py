"""The release: judged, explained, and put into service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.steps import listing, reading
from ecom_tasks.recommendation.steps.inputs import RULES
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    from ecom_tasks.artefacts.dataset import Draft


def publish_release(run: Run, features: Ref, rules: Ref, evaluation: Ref, *learnt: Ref) -> Ref:
    """Refuse a ranker that does not beat own purchase frequency; publish lists with reasons.

    Parameters
    ----------
    learnt : of generate_candidates, train_ranker, train_two_tower, find_bought_together,
        train_sequence, score_customers
    """
    from ecom_tasks.artefacts import dataset

    config = RecommendationConfig.of(run)
    plan = reading.plan(features, config)
    proposed, ranker, towers, _, follows, scores = learnt
    # The day that the models are of.
    trained = dataset.manifest(ranker).as_of

    def build(draft: Draft) -> None:
        from ecom_tasks.recommendation import evaluate, reasons, report, scoring

        windows = dataset.read_json(evaluation, "windows.json")
        with draft.gating():
            evaluate.gate(windows, draft.limits.smallest_gain)
        draft.evidence(reading.rows(evaluation, "evidence"))
        similar = reasons.similar_of(reading.overview(features, plan.serve, config), config)
        made, tables = listing.lists(config, similar, features, rules, learnt, listing.former(run))
        lists = reasons.explain(made, similar)
        shown = lists["product_id"].n_unique() / max(reading.catalogue(features).height, 1)
        draft.limit("share of the catalogue in lists", shown, (draft.limits.catalogue_share, None))
        listing.write(draft, lists.drop("title"), config.list_buckets)
        for name, table in tables.items():
            draft.write_frame(f"{name}.parquet", table)
        for name in ("customer_embeddings", "product_embeddings"):
            draft.write_frame(f"{name}.parquet", reading.rows(towers, name))
        for name in ("sequence_products", "histories"):
            draft.write_frame(f"scoring/{name}.parquet", reading.rows(follows, f"scoring/{name}"))
        for ref, pattern in (
            (ranker, "models/*"), (towers, "models/*"), (follows, "models/*"), (rules, RULES)
        ):  # fmt: skip
            dataset.fetch(ref, draft.folder, pattern)
        draft.assumptions += dataset.manifest(ranker).assumptions
        if dataset.manifest(ranker).metrics["model"] == "ranker":
            draft.write_frame("scoring/candidates.parquet", scoring.ranker_sample(
                next(reading.candidates(proposed, trained)), next(reading.scored(ranker, trained))
            ))  # fmt: skip
        draft.write_text("scoring_example.py", scoring.example())
        metrics = {
            "windows": windows,
            "newcomers": dataset.read_json(evaluation, "newcomers.json"),
            "cold": dataset.manifest(towers).metrics,
            "ranker": dataset.manifest(ranker).metrics,
            "rules": dataset.manifest(rules).metrics,
            "scores": {"models of": str(trained)} | dataset.manifest(scores).metrics,
        }
        draft.metrics.update(metrics)
        draft.write_json("metrics.json", metrics)
        curves = dataset.read_json(ranker, "curves.json")
        title = f"Recommendation as of {run.as_of}"
        draft.write_text("report.html", report.render(title, metrics, lists, curves))
        first = next(iter(windows.values()))["all"]["contenders"]
        draft.headline(
            metric="ndcg_at_10",
            value=first[evaluate.RANKER]["ndcg_at_10"],
            baseline_name=evaluate.FREQUENCY,
            baseline=first[evaluate.FREQUENCY]["ndcg_at_10"],
            higher_is_better=True,
            rows=lists.height,
            unit="recommendations",
        )

    learnt_from = [*reading.learnt_from(features), *reading.said(features)]
    ref = dataset.produce(
        run,
        "artefacts/recommendation",
        build,
        inputs=[*learnt_from, rules, evaluation, *learnt],
        config=config,
    )
    return dataset.release(run, ref)
