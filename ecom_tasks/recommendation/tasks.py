"""Recommendation, top to bottom: feature tables -> candidates -> ranker -> judgement -> lists.

Light to import, since the scheduler reads this file: heavy libraries load inside the tasks.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.run import Ref, Run, Step

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.recommendation.ranker import Examples
    from ecom_tasks.recommendation.snapshots import Plan, Snapshot, Window
    from ecom_tasks.training.two_tower import Catalogue, TwoTower

RANKER, LISTS = "models/ranker.ubj", "recommendations.parquet"


def pin_features(run: Run) -> Ref:
    """Find the features of the day, so that every later task reads the same rows."""
    from ecom_tasks.artefacts import dataset

    return dataset.find(run, "features/all")


def generate_candidates(run: Run, features: Ref) -> Ref:
    """Propose products for each customer at each cutoff, with all that the ranker may know."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.logs import track
    from ecom_tasks.recommendation import candidates
    from ecom_tasks.recommendation import features as of_pair

    config = RecommendationConfig.of(run)
    plan = _plan(features, config)

    def build(draft: Draft) -> None:
        cutoffs = [*_needed(plan, config), plan.serve]
        for cutoff in track(cutoffs, "candidates at each cutoff", len(cutoffs)):
            snapshot = _snapshot(features, cutoff)
            proposed = candidates.propose(snapshot.interactions(config.min_customers), config)
            draft.write_frame(f"cutoff={cutoff}.parquet", of_pair.build(proposed, snapshot))

    return dataset.produce(
        run, "work/recommendation/candidates", build, inputs=[features], config=config
    )


def train_two_tower(run: Run, features: Ref) -> Ref:
    """Learn products and customers as vectors from content, for products with little history."""
    from ecom_tasks.artefacts import dataset

    config = RecommendationConfig.of(run)
    plan = _plan(features, config)

    def build(draft: Draft) -> None:
        # Ten seconds of import, which a run that finds its work done does not need.
        from ecom_tasks.recommendation import cold, evaluate
        from ecom_tasks.training import two_tower

        last = plan.test[-1]
        before = _snapshot(features, last.cutoff)
        _, _, proposed = _fit_towers(features, before, config)
        fresh = cold.cold_products(before, _catalogue(features), config)
        bought = _bought(features, last)
        draft.metrics.update(
            evaluate.judge_cold(proposed, before.pairs, fresh, bought, config.cold_k)
        )
        today = _snapshot(features, plan.serve)
        towers, known, proposed = _fit_towers(features, today, config)
        draft.write_frame("cold.parquet", proposed)
        two_tower.save(towers.customer, draft.folder / "models/customer_tower.keras")
        two_tower.save(towers.product, draft.folder / "models/product_tower.keras")
        draft.write_frame("product_embeddings.parquet", _embeddings(towers, known))

    return dataset.produce(
        run, "work/recommendation/two_tower", build, inputs=[features], config=config
    )


def train_ranker(run: Run, features: Ref, proposed: Ref) -> Ref:
    """Learn to order candidates: for each test window from before it, and once from all weeks."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import ranker

    config = RecommendationConfig.of(run)
    plan = _plan(features, config)

    def all_of(window: Window) -> Examples:
        return _examples(features, proposed, window, config)

    def learnt(windows: list[Window]) -> Examples:
        share = config.unordered_share
        return ranker.join([ranker.thin(all_of(each), share, config.seed) for each in windows])

    def build(draft: Draft) -> None:
        # The number of trees is chosen once, before the first test window; a single window to
        # learn from is split by time no further, and then the most trees are taken.
        early = plan.train_before(plan.test[0].cutoff, config.train_windows)
        rounds = ranker.Rounds(config.count_rounds, config.rank_rounds)
        curves: dict[str, list[float]] = {}
        if len(early) > 1:
            rounds, curves = ranker.choose_rounds(learnt(early[:-1]), all_of(early[-1]), config)
        draft.metrics["trees"] = {"expected orders": rounds.count, "LambdaMART": rounds.rank}
        draft.write_json("curves.json", curves)
        for cutoff in [*(window.cutoff for window in plan.test), plan.serve]:
            model = ranker.train(
                learnt(plan.train_before(cutoff, config.train_windows)), rounds, config
            )
            scored = ranker.score(model, _candidates(proposed, cutoff))
            draft.write_frame(f"scored/cutoff={cutoff}.parquet", scored)
        (draft.folder / RANKER).parent.mkdir(parents=True)
        model.save_model(draft.folder / RANKER)

    return dataset.produce(
        run, "work/recommendation/ranker", build, inputs=[features, proposed], config=config
    )


def evaluate_ranker(run: Run, features: Ref, ranker: Ref) -> Ref:
    """Judge the lists of the test windows beside popularity and own purchase frequency."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import evaluate

    config = RecommendationConfig.of(run)
    plan = _plan(features, config)

    def build(draft: Draft) -> None:
        windows: dict[str, Any] = {}
        for window in plan.test:
            scored = dataset.scan(ranker, f"scored/cutoff={window.cutoff}.parquet").collect()
            known = _snapshot(features, window.cutoff).interactions(config.min_customers)
            windows[str(window)] = evaluate.judge(
                scored, known, _bought(features, window, config), config
            )
        draft.write_json("windows.json", windows)

    return dataset.produce(
        run, "work/recommendation/evaluation", build, inputs=[features, ranker], config=config
    )


def publish_release(
    run: Run, features: Ref, proposed: Ref, ranker: Ref, towers: Ref, evaluation: Ref
) -> Ref:
    """Refuse a ranker that does not beat own purchase frequency; publish lists with reasons."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import evaluate, reasons, report
    from ecom_tasks.recommendation.candidates.popular import popularity

    config = RecommendationConfig.of(run)
    plan = _plan(features, config)

    def build(draft: Draft) -> None:
        windows = dataset.read_json(evaluation, "windows.json")
        evaluate.gate(windows, config)
        snapshot = _snapshot(features, plan.serve)
        lists = _lists(config, features, (proposed, ranker, towers), snapshot)
        lists = reasons.explain(lists, snapshot, config)
        draft.write_frame(LISTS, lists.drop("title"))
        draft.write_frame("similar_products.parquet", reasons.similar_products(snapshot, config))
        liked = popularity(snapshot.interactions(config.min_customers)).head(1000)
        draft.write_frame("popular.parquet", liked.with_row_index("rank", offset=1))
        dataset.fetch(ranker, draft.folder, "models/*")
        dataset.fetch(towers, draft.folder, "models/*")
        dataset.fetch(towers, draft.folder, "product_embeddings.parquet")
        metrics = {
            "windows": windows,
            "cold": dataset.manifest(towers).metrics,
            "ranker": dataset.manifest(ranker).metrics,
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

    ref = dataset.produce(
        run,
        "artefacts/recommendation",
        build,
        inputs=[features, proposed, ranker, towers, evaluation],
        config=config,
    )
    return dataset.release(run, ref)


def ranker_windows(run: Run) -> tuple[list[Examples], Examples]:
    """Return the windows before the first test window: those to learn from, and the last one.

    The candidates are those that a run for this day made.

    Raises
    ------
    DataContractError
        There was no such run, or its history has no two windows before the first test window.
    """
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.errors import DataContractError

    config = RecommendationConfig.of(run)
    proposed = dataset.find(run, "work/recommendation/candidates")
    features = dataset.input_named(proposed, "features/all")
    plan = _plan(features, config)
    early = plan.train_before(plan.test[0].cutoff, config.train_windows)
    if len(early) < 2:
        raise DataContractError(
            f"There is {len(early)} window before the first test window, and two are needed: one "
            "to learn from and one to judge on",
            "Load a longer history, or raise features.snapshots or recommendation.train_windows",
        )
    *learn, validate = [_examples(features, proposed, window, config) for window in early]
    return learn, validate


def flow(step: Step) -> Ref:
    """Features -> candidates, two towers -> ranker -> judgement -> release."""
    features = step(pin_features)
    proposed = step(generate_candidates, features)
    towers = step(train_two_tower, features)
    ranker = step(train_ranker, features, proposed)
    evaluation = step(evaluate_ranker, features, ranker)
    return step(publish_release, features, proposed, ranker, towers, evaluation)


def _plan(features: Ref, config: RecommendationConfig) -> Plan:
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import snapshots

    customers = dataset.input_named(features, "features/customers")
    folders = {Path(path).parts[0] for path in dataset.paths(customers)}
    cutoffs = [date.fromisoformat(folder.removeprefix("cutoff=")) for folder in folders]
    return snapshots.plan(cutoffs, config)


def _needed(plan: Plan, config: RecommendationConfig) -> list[date]:
    """Cutoffs whose candidates some ranker learns from or is judged on, oldest first."""
    wanted = {window.cutoff for window in plan.test}
    for cutoff in [*(window.cutoff for window in plan.test), plan.serve]:
        wanted |= {window.cutoff for window in plan.train_before(cutoff, config.train_windows)}
    return sorted(wanted - {plan.serve})


def _table(features: Ref, name: str, cutoff: date) -> pl.DataFrame:
    from ecom_tasks.artefacts import dataset

    ref = dataset.input_named(features, f"features/{name}")
    return dataset.scan(ref, f"cutoff={cutoff}/*.parquet").collect()


def _snapshot(features: Ref, cutoff: date) -> Snapshot:
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.features import tables
    from ecom_tasks.recommendation.snapshots import Snapshot

    calendar = dataset.input_named(features, "features/promotion_calendar")
    if dataset.has_rows(calendar):
        # Four weeks around the cutoff are all that is asked for.
        near = pl.col("week_starts_on").is_between(
            pl.lit(cutoff) - pl.duration(days=35), pl.lit(cutoff) + pl.duration(days=35)
        )
        promotions = dataset.scan(calendar).filter(near).collect()
    else:
        types = {"string": pl.String, "date": pl.Date, "float": pl.Float64}
        columns = tables.PROMOTION_CALENDAR.columns
        promotions = pl.DataFrame(schema={each.name: types[each.type] for each in columns})
    return Snapshot(
        cutoff=cutoff,
        customers=_table(features, "customers", cutoff),
        products=_table(features, "products", cutoff),
        pairs=_table(features, "customer_products", cutoff),
        calendar=promotions,
    )


def _bought(
    features: Ref, window: Window, config: RecommendationConfig | None = None
) -> pl.DataFrame:
    """What was bought in a window; with `config` only products with enough customers before it."""
    from ecom_tasks.recommendation import snapshots

    pairs = [_table(features, "customer_products", day) for day in (window.cutoff, window.until)]
    found = snapshots.bought(*pairs)
    if config is None:
        return found
    products = _table(features, "products", window.cutoff)
    warm = products.filter(products["customers"] >= config.min_customers)
    return found.join(warm, on="product_id", how="semi")


def _candidates(proposed: Ref, cutoff: date) -> pl.DataFrame:
    from ecom_tasks.artefacts import dataset

    return dataset.scan(proposed, f"cutoff={cutoff}.parquet").collect()


def _examples(
    features: Ref, proposed: Ref, window: Window, config: RecommendationConfig
) -> Examples:
    """All candidates of a window, with what was ordered of them."""
    from ecom_tasks.recommendation import ranker

    return ranker.examples(_candidates(proposed, window.cutoff), _bought(features, window, config))


def _catalogue(features: Ref) -> pl.DataFrame:
    from ecom_tasks.artefacts import dataset

    return dataset.scan(dataset.input_named(features, "lake/products")).collect()


def _fit_towers(
    features: Ref, snapshot: Snapshot, config: RecommendationConfig
) -> tuple[TwoTower, Catalogue, pl.DataFrame]:
    """Train on what was known at the snapshot's cutoff, and propose its cold products."""
    from ecom_tasks.recommendation import cold
    from ecom_tasks.training import two_tower

    products = _catalogue(features)
    known = two_tower.catalogue(cold.content(snapshot, products), config.vocabulary)
    towers = two_tower.train(snapshot.pairs, known, cold.dials(config))
    fresh = cold.cold_products(snapshot, products, config)
    return towers, known, cold.propose(towers, known, snapshot, fresh, config.cold_k)


def _lists(
    config: RecommendationConfig,
    features: Ref,
    learnt: tuple[Ref, Ref, Ref],
    snapshot: Snapshot,
) -> pl.DataFrame:
    """Return customer_id, product_id, rank, score, generator and title of what is published."""
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import reasons, rules
    from ecom_tasks.recommendation.candidates.popular import popularity

    proposed, ranker, towers = learnt
    pair = ["customer_id", "product_id"]
    scored = dataset.scan(ranker, f"scored/cutoff={snapshot.cutoff}.parquet").collect()
    generators = reasons.generator_of(_candidates(proposed, snapshot.cutoff))
    stock = dataset.input_named(features, "lake/stock")
    counted = dataset.scan(stock).collect() if dataset.has_rows(stock) else None
    allowed = rules.eligible(snapshot.products, counted, config)
    liked = popularity(snapshot.interactions(config.min_customers))
    best = rules.top_k(scored.join(generators, on=pair), allowed, liked, config.top_k)
    # Fresh products follow behind what is ranked, where a shop may show or leave them.
    fresh = dataset.scan(towers, "cold.parquet").collect().join(best, on=pair, how="anti")
    behind = fresh.with_columns((pl.col("rank") + config.top_k).alias("rank"))
    columns = [*pair, "rank", "score", "generator"]
    titles = snapshot.products.select("product_id", "title")
    return (
        pl
        .concat([best.select(columns), behind.select(columns)])
        .with_columns(pl.col("score").round(6))
        .join(titles, on="product_id", how="left")
        .sort("customer_id", "rank")
    )


def _embeddings(towers: TwoTower, known: Catalogue) -> pl.DataFrame:
    import polars as pl

    from ecom_tasks.training import two_tower

    vectors = two_tower.embed(towers.product, known.words).round(6)
    size = vectors.shape[1]
    return pl.DataFrame({
        "product_id": known.product_ids,
        "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, size)),
    })
