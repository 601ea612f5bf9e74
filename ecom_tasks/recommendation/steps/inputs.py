"""What a run starts from: today's features, those that models learn from, the rules."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.steps import reading
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    from ecom_tasks.artefacts.dataset import Draft

log = logging.getLogger(__name__)
RULES = "rules.json"


def pin_features(run: Run) -> Ref:
    """Find the features of the day, so that every later task reads the same rows."""
    from ecom_tasks.artefacts import dataset

    return dataset.find(run, "features/all")


def pin_learning(run: Run, features: Ref) -> Ref:
    """Find the features that models are trained on: today's, or those of a day not long ago.

    With `retrain_days` above 1 models are kept; only scores and lists follow every day.
    """
    from ecom_tasks.recommendation import snapshots

    kept = RecommendationConfig.of(run).retrain_days
    days = snapshots.days_of(run.as_of, kept)[:-1]
    return next((found for day in days if (found := reading.features_of(run, day))), features)


def pin_rules(run: Run, features: Ref) -> Ref:
    """Read the rules file and hold it against the catalogue; its content names the version."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import rules

    path = RecommendationConfig.of(run).rules
    read = rules.parse(dataset.read_text(path) if path else "", path or "the defaults")
    rules.check_places(read, RecommendationConfig.of(run).top_k)
    products, customers = (
        dataset.input_named(features, f"lake/{name}") for name in ("products", "customers")
    )

    def build(draft: Draft) -> None:
        from ecom_tasks.recommendation import eligibility

        said = dataset.scan(customers).collect() if dataset.has_rows(customers) else None
        unknown = eligibility.check(read, dataset.scan(products).collect(), said)
        if unknown:
            log.warning("the rules name products that are not in the catalogue: %s", unknown)
        draft.metrics["products named and not in the catalogue"] = unknown
        draft.write_json(RULES, read.model_dump(mode="json"))

    return dataset.produce(
        run, "work/recommendation/rules", build, inputs=[products, customers], config=read
    )
