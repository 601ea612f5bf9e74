"""Scores of today, from models of today or of some days ago."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.steps import reading
from ecom_tasks.recommendation.steps.proposals import KEPT, SEQUENCE
from ecom_tasks.recommendation.steps.ranking import MODELS
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.recommendation.later import Models


def score_customers(
    run: Run, features: Ref, learnt: Ref, proposed: Ref, ranker: Ref, follows: Ref
) -> Ref:
    """Keep the scores of the day before, but for those who bought since: models may be older.

    The models' own day has the scores that they were trained with.

    Parameters
    ----------
    features, learnt : of today, and of the day that the models are of
    """
    from ecom_tasks.artefacts import dataset

    config = RecommendationConfig.of(run)
    trained = reading.on_the_day_of(run, learnt).as_of
    events = dataset.input_named(features, "lake/events")
    inputs = [proposed, ranker, follows]
    former: Ref | None = None
    earlier = features
    if run.as_of > trained:
        before, earlier = _day_before(run, learnt)
        former = score_customers(before, earlier, learnt, proposed, ranker, follows)
        tables = ("customers", "products", "customer_products", "promotion_calendar")
        inputs += [dataset.input_named(features, f"features/{name}") for name in tables]
        inputs += [events, former]

    def build(draft: Draft) -> None:
        import polars as pl

        from ecom_tasks.recommendation import later

        def write(number: int, block: pl.DataFrame) -> None:
            draft.write_frame(f"{reading.SCORED}/block={number:03}.parquet", block)

        if former is None:
            both = reading.candidates(proposed, trained), reading.scored(ranker, trained)
            for number, (block, scored) in enumerate(zip(*both, strict=True)):
                write(number, later.named(block, scored))
            return
        now = reading.plan(features, config).serve
        models = kept_models(proposed, ranker, follows, learnt, config)
        graph = reading.graph(features, events, now, config)
        who, made = [], []
        for then, today in reading.both_days(earlier, features, config):
            who.append(later.changed(then, today))
            made.append(later.score(models, later.only(today, who[-1]), config, graph))
        changed = pl.concat(who)
        same = reading.table(features, "customers", now).join(changed, on="customer_id", how="anti")
        draft.metrics["customers scored anew"] = changed.height
        # Who is scored anew leaves his block for the last one, and who is not known any more his.
        before = reading.scored_today(former)
        kept = (block.join(same, on="customer_id", how="semi") for block in before)
        for number, block in enumerate(chain(kept, [pl.concat(made)])):
            write(number, block)

    return dataset.produce(run, "work/recommendation/scores", build, inputs=inputs, config=config)


def _day_before(run: Run, learnt: Ref) -> tuple[Run, Ref]:
    """Return the newest day with features before that of the run, back to that of the models."""
    first = reading.on_the_day_of(run, learnt).as_of
    day = run.as_of - timedelta(days=1)
    while day > first:
        if found := reading.features_of(run, day):
            return replace(run, as_of=day), found
        day -= timedelta(days=1)
    return replace(run, as_of=first), learnt


def kept_models(
    proposed: Ref, ranker: Ref, follows: Ref, learnt: Ref, config: RecommendationConfig
) -> Models:
    """Read the models of the day that `learnt` is of."""
    import tempfile

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import blend, later
    from ecom_tasks.recommendation import ranker as trees
    from ecom_tasks.recommendation.candidates import kept, sequence

    with tempfile.TemporaryDirectory(prefix="ecom-") as scratch:
        folder = Path(scratch)
        for ref, files in ((proposed, f"{KEPT}/*"), (follows, SEQUENCE), (ranker, f"{MODELS}/*")):
            dataset.fetch(ref, folder, files)
        products = reading.rows(follows, "scoring/sequence_products")["product_id"]
        score: later.Score
        if dataset.manifest(ranker).metrics["model"] == "ranker":
            score = partial(trees.score, trees.load(folder / MODELS))
        else:
            pairs = reading.pairs(learnt, dataset.manifest(learnt).as_of, config)
            score = partial(blend.score, repeats=blend.repeat_share(pairs))
        return later.Models(
            kept.load(folder / KEPT), sequence.load(folder / SEQUENCE, products), score
        )
