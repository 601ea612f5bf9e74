"""The ranker: trained before each test window, and judged in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from ecom_tasks.errors import DataContractError
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.steps import inputs, reading
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.recommendation.ranker import Examples, Ranker, Rounds
    from ecom_tasks.recommendation.snapshots import Plan, Window

MODELS = "models"


def train_ranker(run: Run, features: Ref, proposed: Ref) -> Ref:
    """Learn to order candidates: for each test window from before it, and once from all weeks.

    Where there is too little to learn from, the generators are blended by rank instead.
    """
    from ecom_tasks.artefacts import dataset

    run = reading.on_the_day_of(run, features)
    config = RecommendationConfig.of(run)
    plan = reading.plan(features, config)
    cutoffs = [*(window.cutoff for window in plan.test), plan.serve]

    def build(draft: Draft) -> None:
        from ecom_tasks.recommendation import ranker

        @lru_cache(max(config.train_windows, config.network_windows))
        def thinned(window: Window) -> Examples:
            # The next cutoff learns from most of the same windows.
            return ranker.join(list(reading.thinned(features, proposed, window, config)))

        early = plan.train_before(plan.test[0].cutoff, config.train_windows)
        if sum(ranker.ordered(thinned(each)) for each in early) < config.smallest_training:
            _blend(draft, features, proposed, cutoffs, config)
            return
        most = config.ranker_validation
        whole = partial(reading.examples, features, proposed, config=config, most=most)
        rounds, share, curves = _choose(plan, config, thinned, whole)
        draft.metrics["model"] = "ranker"
        draft.metrics["trees"] = {"expected orders": rounds.count, "LambdaMART": rounds.rank}
        draft.metrics["share of the network"] = share
        draft.write_json("curves.json", curves)
        for cutoff in cutoffs:
            model = _train(plan, cutoff, config, thinned, rounds, share)
            _write_scores(draft, proposed, cutoff, partial(ranker.score, model))
        ranker.save(model, draft.folder / MODELS)

    return dataset.produce(
        run,
        "work/recommendation/ranker",
        build,
        inputs=[*reading.learnt_from(features), proposed],
        config=config,
    )


def _choose(
    plan: Plan,
    config: RecommendationConfig,
    thinned: Callable[[Window], Examples],
    whole: Callable[[Window], Iterator[Examples]],
) -> tuple[Rounds, float, dict[str, list[float]]]:
    """Choose the number of trees and the share of the network, once, before all test windows.

    Where no window ended before another one began, the most trees are taken, and no network, of
    which nothing is known then.
    """
    from ecom_tasks.recommendation import network, ranker, snapshots

    first = plan.test[0].cutoff
    before, newest = snapshots.learn_and_validate(plan.train_before(first, config.train_windows))
    if not before:
        return ranker.Rounds(config.count_rounds, config.rank_rounds), 0.0, {}
    learn = ranker.join([thinned(each) for each in before])
    validate = ranker.join(list(whole(newest)))
    rounds, curves, trees = ranker.choose_rounds(learn, validate, config)
    if trees is None or not config.network_passes:
        return rounds, 0.0, curves
    before, _ = snapshots.learn_and_validate(plan.train_before(first, config.network_windows))
    # One of each is compared: an average of several would count for more.
    one = config.model_copy(update={"ranker_seeds": 1})
    beside = network.train([thinned(each) for each in before], one)
    share, curves["network"] = ranker.choose_share(trees, beside, validate, config)
    return rounds, share, curves


def _train(
    plan: Plan,
    cutoff: date,
    config: RecommendationConfig,
    thinned: Callable[[Window], Examples],
    rounds: Rounds,
    share: float,
) -> Ranker:
    from ecom_tasks.recommendation import network, ranker

    def learnt(most: int) -> list[Examples]:
        return [thinned(each) for each in plan.train_before(cutoff, most)]

    trees = ranker.train(ranker.join(learnt(config.train_windows)), rounds, config)
    if not share:
        return ranker.Ranker(trees)
    return ranker.Ranker(trees, network.train(learnt(config.network_windows), config), share)


def _blend(
    draft: Draft, features: Ref, proposed: Ref, cutoffs: list[date], config: RecommendationConfig
) -> None:
    from ecom_tasks.recommendation import blend

    draft.metrics["model"] = "blend"
    draft.assumptions.append(
        "too little history to train a ranker on: lists blend the candidate generators by rank"
    )
    draft.write_json("curves.json", {})
    for cutoff in cutoffs:
        repeats = blend.repeat_share(reading.pairs(features, cutoff, config))
        _write_scores(draft, proposed, cutoff, partial(blend.score, repeats=repeats))


def _write_scores(
    draft: Draft, proposed: Ref, cutoff: date, score: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    for number, block in enumerate(reading.candidates(proposed, cutoff)):
        draft.write_frame(f"scored/cutoff={cutoff}/block={number:03}.parquet", score(block))


def evaluate_ranker(run: Run, features: Ref, ranker: Ref) -> Ref:
    """Judge the lists of the test windows beside popularity and own purchase frequency.

    Customers who were not known yet are judged apart, by the list that such a customer gets.
    """
    from ecom_tasks.artefacts import dataset

    run = reading.on_the_day_of(run, features)
    config = RecommendationConfig.of(run)
    plan = reading.plan(features, config)

    def build(draft: Draft) -> None:
        import polars as pl

        from ecom_tasks.recommendation import evaluate, popular_in
        from ecom_tasks.recommendation.candidates.popular import popularity

        windows: dict[str, Any] = {}
        newcomers: dict[str, Any] = {}
        losses = []
        for window in plan.test:
            known = reading.interactions(features, window.cutoff, config)
            customers = reading.table(features, "customers", window.cutoff)
            bought = reading.bought(features, window, config)
            blocks = zip(reading.scored(ranker, window.cutoff), known, strict=True)
            found = evaluate.hits(blocks, popularity(known), bought)
            windows[str(window)] = evaluate.judge(found, config)
            losses.append(evaluate.evidence(found, str(window)))
            offers = popular_in.for_newcomers(
                known, customers, config.top_k, config.popular_half_life_days
            )
            newcomers[str(window)] = evaluate.judge_newcomers(
                offers, customers["customer_id"], bought, config.top_k
            )
        draft.write_json("windows.json", windows)
        draft.write_json("newcomers.json", newcomers)
        draft.write_frame("evidence.parquet", pl.concat(losses))

    return dataset.produce(
        run,
        "work/recommendation/evaluation",
        build,
        inputs=[*reading.learnt_from(features), ranker],
        config=config,
    )


def ranker_windows(run: Run) -> tuple[list[Examples], Examples]:
    """Return the windows before the first test window: those to learn from, and the last one.

    The candidates are those that a run for this day made.

    Raises
    ------
    DataContractError
        There was no such run, or its history has no two windows before the first test window.
    """
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import ranker, snapshots

    config = RecommendationConfig.of(run)
    features = inputs.pin_learning(run, dataset.find(run, "features/all"))
    proposed = dataset.find(reading.on_the_day_of(run, features), "work/recommendation/candidates")
    plan = reading.plan(features, config)
    early = plan.train_before(plan.test[0].cutoff, config.train_windows)
    before, newest = snapshots.learn_and_validate(early) if early else ([], None)
    if newest is None or not before:
        raise DataContractError(
            f"There is {len(early)} window before the first test window, and two are needed: one "
            "to learn from and one to judge on",
            "Load a longer history, or raise features.snapshots or recommendation.train_windows",
        )
    most = {newest: config.ranker_validation}
    *learn, validate = [
        ranker.join(list(reading.examples(
            features, proposed, window, config, most.get(window, config.ranker_customers)
        )))
        for window in [*before, newest]
    ]  # fmt: skip
    if not ranker.ordered(validate):
        raise DataContractError(
            f"Of the candidates none was ordered from {newest}, by which rankers are judged",
            "Load a longer history, or choose another day",
        )
    return learn, validate
