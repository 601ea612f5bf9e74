"""Candidates at each cutoff: the transformer's, then those of all generators with features."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.steps import reading
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.recommendation.snapshots import Parts

KEPT = "generators"
SEQUENCE = "models/sequence.keras"


def train_sequence(run: Run, features: Ref) -> Ref:
    """Learn what follows what: at the first cutoff, for all that is tested, and today anew.

    The ranker thus learns from, and is judged with, a model older than the one that serves.
    """
    from ecom_tasks.artefacts import dataset

    run = reading.on_the_day_of(run, features)
    config = RecommendationConfig.of(run)
    plan = reading.plan(features, config)

    def build(draft: Draft) -> None:
        from ecom_tasks.recommendation import scoring
        from ecom_tasks.recommendation.candidates import sequence

        def known(cutoff: date) -> Parts:
            return reading.interactions(features, cutoff, config)

        def propose(fitted: sequence.Fitted, cutoff: date) -> None:
            for number, own in enumerate(known(cutoff)):
                proposed = sequence.propose(fitted, own, config)
                draft.write_frame(f"cutoff={cutoff}/block={number:03}.parquet", proposed)

        needed = reading.needed(plan, config)
        first = sequence.fit(known(needed[0]), config)
        for cutoff in needed:
            propose(first, cutoff)
        del first  # with it stay all histories
        fitted = sequence.fit(known(plan.serve), config)
        propose(fitted, plan.serve)
        for name, table in scoring.sequence_sample(fitted, config).items():
            draft.write_frame(f"scoring/{name}.parquet", table)
        scoring.save(fitted.model, draft.folder / "models")

    return dataset.produce(
        run,
        "work/recommendation/sequence",
        build,
        inputs=reading.learnt_from(features),
        config=config,
    )


def generate_candidates(run: Run, features: Ref, follows: Ref) -> Ref:
    """Propose products for each customer at each cutoff, with all that the ranker may know.

    Generators learn from all customers, and then propose to a block of them at a time.
    """
    from ecom_tasks.artefacts import dataset

    run = reading.on_the_day_of(run, features)
    config = RecommendationConfig.of(run)
    plan = reading.plan(features, config)
    events = dataset.input_named(features, "lake/events")

    def build(draft: Draft) -> None:
        from ecom_tasks.logs import track
        from ecom_tasks.recommendation import candidates
        from ecom_tasks.recommendation import features as of_pair
        from ecom_tasks.recommendation.candidates import kept

        cutoffs = [*reading.needed(plan, config), plan.serve]
        for cutoff in track(cutoffs, "candidates at each cutoff", len(cutoffs)):
            known = reading.interactions(features, cutoff, config)
            fitted = candidates.fit(known, config)
            graph = reading.graph(features, events, cutoff, config)
            for number, block in enumerate(reading.blocks(features, cutoff, config)):
                own = reading.snapshot(features, cutoff, block)
                path = f"cutoff={cutoff}/block={number:03}.parquet"
                next_ones = dataset.scan(follows, path).collect()
                mine = own.interactions(config.min_customers)
                proposed = candidates.propose(mine, next_ones, config, fitted, graph)
                draft.write_frame(path, of_pair.build(proposed, own))
        kept.save(draft.folder / KEPT, fitted)

    return dataset.produce(
        run,
        "work/recommendation/candidates",
        build,
        inputs=[*reading.learnt_from(features), events, follows],
        config=config,
    )
