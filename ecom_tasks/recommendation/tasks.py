"""Recommendation, top to bottom: feature tables -> candidates -> ranker -> judgement -> lists.

Light to import, since the scheduler reads this file: heavy libraries load inside the tasks.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import date, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecom_tasks.errors import DataContractError
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.run import Ref, Run, Step

if TYPE_CHECKING:
    import polars as pl

    from ecom_tasks.artefacts.dataset import Draft
    from ecom_tasks.recommendation.later import Models
    from ecom_tasks.recommendation.ranker import Examples
    from ecom_tasks.recommendation.snapshots import Plan, Snapshot, Window
    from ecom_tasks.training.two_tower import Catalogue, TwoTower

log = logging.getLogger(__name__)
LISTS = "recommendations"
RANKER, RULES = "models/ranker.ubj", "rules.json"
FINGERPRINTS = "scoring/fingerprints"
KEPT, SEQUENCE, SCORED = "generators", "models/sequence.keras", "scored"


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
    return next((found for day in days if (found := _features(run, day))), features)


def train_sequence(run: Run, features: Ref) -> Ref:
    """Learn what follows what: at the first cutoff, for all that is tested, and today anew.

    The ranker thus learns from, and is judged with, a model older than the one that serves.
    """
    from ecom_tasks.artefacts import dataset

    run = _on_the_day_of(run, features)
    config = RecommendationConfig.of(run)
    plan = _plan(features, config)

    def build(draft: Draft) -> None:
        from ecom_tasks.recommendation import scoring
        from ecom_tasks.recommendation.candidates import sequence

        def known(cutoff: date) -> pl.DataFrame:
            return _snapshot(features, cutoff).interactions(config.min_customers)

        needed = _needed(plan, config)
        first = sequence.fit(known(needed[0]), config)
        for cutoff in needed:
            then = sequence.later(first, known(cutoff), config)
            draft.write_frame(f"cutoff={cutoff}.parquet", sequence.propose(then, config))
        fitted = sequence.fit(known(plan.serve), config)
        draft.write_frame(f"cutoff={plan.serve}.parquet", sequence.propose(fitted, config))
        for name, table in scoring.sequence_sample(fitted, config).items():
            draft.write_frame(f"scoring/{name}.parquet", table)
        scoring.save(fitted.model, draft.folder / "models")

    return dataset.produce(
        run, "work/recommendation/sequence", build, inputs=_learnt_from(features), config=config
    )


def generate_candidates(run: Run, features: Ref, follows: Ref) -> Ref:
    """Propose products for each customer at each cutoff, with all that the ranker may know."""
    from ecom_tasks.artefacts import dataset

    run = _on_the_day_of(run, features)
    config = RecommendationConfig.of(run)
    plan = _plan(features, config)
    events = dataset.input_named(features, "lake/events")

    def build(draft: Draft) -> None:
        from ecom_tasks.logs import track
        from ecom_tasks.recommendation import candidates
        from ecom_tasks.recommendation import features as of_pair
        from ecom_tasks.recommendation.candidates import kept

        cutoffs = [*_needed(plan, config), plan.serve]
        for cutoff in track(cutoffs, "candidates at each cutoff", len(cutoffs)):
            snapshot = _snapshot(features, cutoff)
            known = snapshot.interactions(config.min_customers)
            fitted = candidates.fit(known, config)
            proposed = candidates.propose(
                known, _candidates(follows, cutoff), config, _views(events, cutoff), fitted
            )
            draft.write_frame(f"cutoff={cutoff}.parquet", of_pair.build(proposed, snapshot))
        kept.save(draft.folder / KEPT, fitted)

    return dataset.produce(
        run,
        "work/recommendation/candidates",
        build,
        inputs=[*_learnt_from(features), events, follows],
        config=config,
    )


def train_two_tower(run: Run, features: Ref) -> Ref:
    """Learn products and customers as vectors from content, for products with little history.

    Whether they or a plain list of fresh products are offered is decided on one held-out window
    and judged on the next.
    """
    from ecom_tasks.artefacts import dataset

    run = _on_the_day_of(run, features)
    config = RecommendationConfig.of(run)
    plan = _plan(features, config)

    def build(draft: Draft) -> None:
        # Ten seconds of import, which a run that finds its work done does not need.
        from ecom_tasks.recommendation import cold, evaluate, snapshots
        from ecom_tasks.training import two_tower

        judged = {}
        for window in snapshots.apart(plan.windows)[-2:]:
            before = _snapshot(features, window.cutoff)
            _, _, offers = _fit_towers(features, before, config)
            fresh = cold.cold_products(before, _catalogue(features), config)
            judged[str(window)] = evaluate.judge_cold(
                offers, fresh, _bought(features, window), config.cold_k
            )
        chosen = evaluate.best_cold(next(iter(judged.values())))
        draft.metrics.update({"windows": judged, "chosen": chosen})
        today = _snapshot(features, plan.serve)
        towers, known, offers = _fit_towers(features, today, config)
        draft.write_frame("cold.parquet", offers[chosen])
        two_tower.save(towers.customer, draft.folder / "models/customer_tower.keras")
        two_tower.save(towers.product, draft.folder / "models/product_tower.keras")
        draft.write_frame("product_embeddings.parquet", _embeddings(towers, known))
        draft.write_frame(
            "customer_embeddings.parquet", cold.customer_embeddings(towers, known, today)
        )

    return dataset.produce(
        run, "work/recommendation/two_tower", build, inputs=_learnt_from(features), config=config
    )


def find_bought_together(run: Run, features: Ref) -> Ref:
    """Find the pairs of products that share more orders than chance would give."""
    from ecom_tasks.artefacts import dataset

    config = RecommendationConfig.of(run)
    lines = dataset.input_named(features, "lake/order_lines")
    products = dataset.input_named(features, "lake/products")

    def build(draft: Draft) -> None:
        import polars as pl

        from ecom_tasks.features.lines import goods
        from ecom_tasks.recommendation.together import together

        bought = goods(
            dataset.scan(lines, "by_customer/*.parquet"), dataset.scan(products), run.as_of
        ).filter(pl.col("bought"))
        draft.write_frame("bought_together.parquet", together(
            bought, config.together_k, min_orders=config.together_min_orders,
            min_together=config.together_min_shared, largest_order=config.together_largest_order,
        ))  # fmt: skip

    return dataset.produce(
        run, "work/recommendation/together", build, inputs=[lines, products], config=config
    )


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


def train_ranker(run: Run, features: Ref, proposed: Ref) -> Ref:
    """Learn to order candidates: for each test window from before it, and once from all weeks.

    Where there is too little to learn from, the generators are blended by rank instead.
    """
    from ecom_tasks.artefacts import dataset

    run = _on_the_day_of(run, features)
    config = RecommendationConfig.of(run)
    plan = _plan(features, config)
    cutoffs = [*(window.cutoff for window in plan.test), plan.serve]

    def all_of(window: Window) -> Examples:
        return _examples(features, proposed, window, config)

    def build(draft: Draft) -> None:
        from ecom_tasks.recommendation import ranker, snapshots

        # The next cutoff learns from most of the same windows.
        @lru_cache(config.train_windows)
        def thinned(window: Window) -> Examples:
            return ranker.thin(all_of(window), config.unordered_share, config.seed)

        def learnt(windows: list[Window]) -> Examples:
            return ranker.join([thinned(each) for each in windows])

        early = plan.train_before(plan.test[0].cutoff, config.train_windows)
        if sum(ranker.ordered(thinned(each)) for each in early) < config.smallest_training:
            _blend(draft, features, proposed, cutoffs)
            return
        draft.metrics["model"] = "ranker"
        # The number of trees is chosen once, before the first test window; where no window ended
        # before another one began, the most trees are taken.
        rounds = ranker.Rounds(config.count_rounds, config.rank_rounds)
        curves: dict[str, list[float]] = {}
        before, newest = snapshots.learn_and_validate(early)
        if before:
            rounds, curves = ranker.choose_rounds(learnt(before), all_of(newest), config)
        draft.metrics["trees"] = {"expected orders": rounds.count, "LambdaMART": rounds.rank}
        draft.write_json("curves.json", curves)
        for cutoff in cutoffs:
            model = ranker.train(
                learnt(plan.train_before(cutoff, config.train_windows)), rounds, config
            )
            scored = ranker.score(model, _candidates(proposed, cutoff))
            draft.write_frame(f"scored/cutoff={cutoff}.parquet", scored)
        (draft.folder / RANKER).parent.mkdir(parents=True)
        model.save_model(draft.folder / RANKER)

    return dataset.produce(
        run,
        "work/recommendation/ranker",
        build,
        inputs=[*_learnt_from(features), proposed],
        config=config,
    )


def _blend(draft: Draft, features: Ref, proposed: Ref, cutoffs: list[date]) -> None:
    from ecom_tasks.recommendation import blend

    draft.metrics["model"] = "blend"
    draft.assumptions.append(
        "too little history to train a ranker on: lists blend the candidate generators by rank"
    )
    draft.write_json("curves.json", {})
    for cutoff in cutoffs:
        repeats = blend.repeat_share(_table(features, "customer_products", cutoff))
        scored = blend.score(_candidates(proposed, cutoff), repeats)
        draft.write_frame(f"scored/cutoff={cutoff}.parquet", scored)


def evaluate_ranker(run: Run, features: Ref, ranker: Ref) -> Ref:
    """Judge the lists of the test windows beside popularity and own purchase frequency.

    Customers who were not known yet are judged apart, by the list that such a customer gets.
    """
    from ecom_tasks.artefacts import dataset

    run = _on_the_day_of(run, features)
    config = RecommendationConfig.of(run)
    plan = _plan(features, config)

    def build(draft: Draft) -> None:
        import polars as pl

        from ecom_tasks.recommendation import evaluate, popular_in

        windows: dict[str, Any] = {}
        newcomers: dict[str, Any] = {}
        losses = []
        for window in plan.test:
            scored = _scored(ranker, window.cutoff)
            before = _snapshot(features, window.cutoff)
            known = before.interactions(config.min_customers)
            bought = _bought(features, window, config)
            windows[str(window)] = evaluate.judge(scored, known, bought, config)
            losses.append(evaluate.evidence(scored, known, bought, str(window)))
            offers = popular_in.for_newcomers(
                known, before.customers, config.top_k, config.popular_half_life_days
            )
            newcomers[str(window)] = evaluate.judge_newcomers(
                offers, before.customers["customer_id"], bought, config.top_k
            )
        draft.write_json("windows.json", windows)
        draft.write_json("newcomers.json", newcomers)
        draft.write_frame("evidence.parquet", pl.concat(losses))

    return dataset.produce(
        run,
        "work/recommendation/evaluation",
        build,
        inputs=[*_learnt_from(features), ranker],
        config=config,
    )


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
    trained = _on_the_day_of(run, learnt).as_of
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
        from ecom_tasks.recommendation import later

        if former is None:
            scored = _scored(ranker, trained)
            made = later.named(_candidates(proposed, trained), lambda _: scored)
            draft.write_frame(f"{SCORED}.parquet", made)
            return
        before, now = (_snapshot(each, _plan(each, config).serve) for each in (earlier, features))
        who = later.changed(before, now)
        models = _kept_models(proposed, ranker, follows, learnt)
        made = later.score(models, now, who, config, _views(events, now.cutoff))
        same = now.customers.join(who, on="customer_id", how="anti")
        draft.metrics["customers scored anew"] = who.height
        draft.write_frame(f"{SCORED}.parquet", later.renew(_rows(former, SCORED), made, same))

    return dataset.produce(run, "work/recommendation/scores", build, inputs=inputs, config=config)


def publish_release(run: Run, features: Ref, rules: Ref, evaluation: Ref, *learnt: Ref) -> Ref:
    """Refuse a ranker that does not beat own purchase frequency; publish lists with reasons.

    Parameters
    ----------
    learnt : of generate_candidates, train_ranker, train_two_tower, find_bought_together,
        train_sequence, score_customers
    """
    from ecom_tasks.artefacts import dataset

    config = RecommendationConfig.of(run)
    plan = _plan(features, config)
    proposed, ranker, towers, _, follows, scores = learnt
    # The day that the models are of.
    trained = dataset.manifest(ranker).as_of

    def build(draft: Draft) -> None:
        from ecom_tasks.recommendation import evaluate, reasons, report, scoring

        windows = dataset.read_json(evaluation, "windows.json")
        with draft.gating():
            evaluate.gate(windows, draft.limits.smallest_gain)
        draft.evidence(_rows(evaluation, "evidence"))
        snapshot = _snapshot(features, plan.serve)
        lists, tables = _lists(config, features, rules, learnt, _former(run))
        lists = reasons.explain(lists, snapshot, config)
        shown = lists["product_id"].n_unique() / max(_catalogue(features).height, 1)
        draft.limit("share of the catalogue in lists", shown, (draft.limits.catalogue_share, None))
        _write_lists(draft, lists.drop("title"), config.list_buckets)
        for name, table in tables.items():
            draft.write_frame(f"{name}.parquet", table)
        for name in ("customer_embeddings", "product_embeddings"):
            draft.write_frame(f"{name}.parquet", _rows(towers, name))
        for name in ("sequence_products", "histories"):
            draft.write_frame(f"scoring/{name}.parquet", _rows(follows, f"scoring/{name}"))
        for ref, pattern in (
            (ranker, "models/*"), (towers, "models/*"), (follows, "models/*"), (rules, RULES)
        ):  # fmt: skip
            dataset.fetch(ref, draft.folder, pattern)
        draft.assumptions += dataset.manifest(ranker).assumptions
        if dataset.manifest(ranker).metrics["model"] == "ranker":
            draft.write_frame("scoring/candidates.parquet", scoring.ranker_sample(
                _candidates(proposed, trained), _scored(ranker, trained)
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

    ref = dataset.produce(
        run,
        "artefacts/recommendation",
        build,
        inputs=[*_learnt_from(features), *_said(features), rules, evaluation, *learnt],
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
    from ecom_tasks.recommendation import snapshots

    config = RecommendationConfig.of(run)
    features = pin_learning(run, dataset.find(run, "features/all"))
    proposed = dataset.find(_on_the_day_of(run, features), "work/recommendation/candidates")
    plan = _plan(features, config)
    early = plan.train_before(plan.test[0].cutoff, config.train_windows)
    before, newest = snapshots.learn_and_validate(early) if early else ([], None)
    if newest is None or not before:
        raise DataContractError(
            f"There is {len(early)} window before the first test window, and two are needed: one "
            "to learn from and one to judge on",
            "Load a longer history, or raise features.snapshots or recommendation.train_windows",
        )
    *learn, validate = [
        _examples(features, proposed, window, config) for window in [*before, newest]
    ]
    return learn, validate


def flow(step: Step) -> Ref:
    """Features -> candidates, two towers -> ranker -> judgement -> lists under the shop's rules."""
    features = step(pin_features)
    rules = step(pin_rules, features)
    learnt = step(pin_learning, features)
    follows = step(train_sequence, learnt)
    proposed = step(generate_candidates, learnt, follows)
    towers = step(train_two_tower, learnt)
    together = step(find_bought_together, features)
    ranker = step(train_ranker, learnt, proposed)
    evaluation = step(evaluate_ranker, learnt, ranker)
    scores = step(score_customers, features, learnt, proposed, ranker, follows)
    return step(
        publish_release, features, rules, evaluation,
        proposed, ranker, towers, together, follows, scores,
    )  # fmt: skip


def _features(run: Run, day: date) -> Ref | None:
    """Return the features of a day, None where there are none."""
    from ecom_tasks.artefacts import dataset

    try:
        return dataset.find(replace(run, as_of=day), "features/all")
    except DataContractError:
        return None


def _day_before(run: Run, learnt: Ref) -> tuple[Run, Ref]:
    """Return the newest day with features before that of the run, back to that of the models."""
    first = _on_the_day_of(run, learnt).as_of
    day = run.as_of - timedelta(days=1)
    while day > first:
        if found := _features(run, day):
            return replace(run, as_of=day), found
        day -= timedelta(days=1)
    return replace(run, as_of=first), learnt


def _kept_models(proposed: Ref, ranker: Ref, follows: Ref, learnt: Ref) -> Models:
    """Read the models of the day that `learnt` is of."""
    import tempfile

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import blend, later
    from ecom_tasks.recommendation import ranker as trees
    from ecom_tasks.recommendation.candidates import kept, sequence

    with tempfile.TemporaryDirectory(prefix="ecom-") as scratch:
        folder = Path(scratch)
        for ref, files in ((proposed, f"{KEPT}/*"), (follows, SEQUENCE), (ranker, RANKER)):
            dataset.fetch(ref, folder, files)
        products = _rows(follows, "scoring/sequence_products")["product_id"]
        pairs = _table(learnt, "customer_products", dataset.manifest(learnt).as_of)
        score: later.Score
        if dataset.manifest(ranker).metrics["model"] == "ranker":
            score = partial(trees.score, trees.load(folder / RANKER))
        else:
            score = partial(blend.score, repeats=blend.repeat_share(pairs))
        return later.Models(
            kept.load(folder / KEPT), sequence.load(folder / SEQUENCE, products, pairs), score
        )


def _on_the_day_of(run: Run, features: Ref) -> Run:
    """Return the run of the features' day: what follows from them alone is made only once."""
    from ecom_tasks.artefacts import dataset

    return replace(run, as_of=dataset.manifest(features).as_of)


def _learnt_from(features: Ref) -> list[Ref]:
    """Return the tables that models learn from: what else changes leaves them as they are."""
    from ecom_tasks.artefacts import dataset

    names = ("customers", "products", "customer_products", "promotion_calendar")
    tables = [dataset.input_named(features, f"features/{name}") for name in names]
    return [*tables, dataset.input_named(features, "lake/products")]


def _said(features: Ref) -> list[Ref]:
    """Return the tables that only the making of lists reads."""
    from ecom_tasks.artefacts import dataset

    return [dataset.input_named(features, f"lake/{name}")
            for name in ("stock", "customers", "exclusions")]  # fmt: skip


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


def _views(events: Ref, cutoff: date) -> pl.DataFrame | None:
    """What was seen in which visit by the cutoff; None where the shop does not know."""
    import polars as pl

    from ecom_tasks.artefacts import dataset

    if not dataset.has_rows(events):
        return None
    known = pl.col("occurred_at").dt.date() <= cutoff
    seen = dataset.scan(events, "by_product/*.parquet").filter(known)
    return seen.select("session_id", "product_id").collect()


def _rows(ref: Ref, name: str) -> pl.DataFrame:
    from ecom_tasks.artefacts import dataset

    return dataset.scan(ref, f"{name}.parquet").collect()


def _scored(ranker: Ref, cutoff: date) -> pl.DataFrame:
    from ecom_tasks.artefacts import dataset

    return dataset.scan(ranker, f"scored/cutoff={cutoff}.parquet").collect()


def _catalogue(features: Ref) -> pl.DataFrame:
    from ecom_tasks.artefacts import dataset

    return dataset.scan(dataset.input_named(features, "lake/products")).collect()


def _fit_towers(
    features: Ref, snapshot: Snapshot, config: RecommendationConfig
) -> tuple[TwoTower, Catalogue, dict[str, pl.DataFrame]]:
    """Train on what was known at the snapshot's cutoff; offer its cold products in each way."""
    from ecom_tasks.recommendation import candidates, cold
    from ecom_tasks.training import two_tower

    products = _catalogue(features)
    content = cold.content(snapshot, products)
    known = two_tower.catalogue(content, config.vocabulary)
    towers = two_tower.train(snapshot.pairs, known, cold.dials(config))
    fresh = cold.cold_products(snapshot, products, config)
    offers = cold.plainly(snapshot, content, fresh, config.cold_k)
    offers[candidates.COLD] = cold.propose(towers, known, snapshot, fresh, config.cold_k)
    return towers, known, offers


def _lists(
    config: RecommendationConfig,
    features: Ref,
    rules: Ref,
    learnt: tuple[Ref, ...],
    former: tuple[pl.DataFrame, pl.DataFrame] | None,
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Return the lists, with titles, and the other tables that show products of the shelf.

    Lists of `former` whose customers' inputs are the same are taken over.
    """
    import polars as pl

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.recommendation import (
        eligibility,
        popular_in,
        reasons,
        rescore,
        segments,
        selection,
    )
    from ecom_tasks.recommendation.rules import Rules

    _, ranker, towers, together, _, scores = learnt
    snapshot = _snapshot(features, _plan(features, config).serve)
    ruled = Rules.model_validate(dataset.read_json(rules, RULES))
    stock, customers, exclusions = (
        dataset.scan(ref).collect() if dataset.has_rows(ref) else None for ref in _said(features)
    )
    shop = eligibility.Shop(_catalogue(features), stock, customers, exclusions)
    shelf = eligibility.shelf(snapshot, shop, ruled)
    if shelf.is_empty():
        raise DataContractError(
            "There is nothing to recommend: all is ruled out, out of stock or long unsold",
            "Look at the rules' eligibility and at the table stock. The lists in service stay",
        )
    named = segments.segments(snapshot.customers, customers)
    people = eligibility.audience(snapshot, shop, named)
    limits = eligibility.limits(shelf, people, ruled, snapshot.cutoff)
    # A list for a group of customers holds nothing that some of them may not see.
    free = shelf.filter(pl.Series(~limits.goods.any(axis=1)))
    liked = popular_in.popular(
        snapshot.pairs.join(free, on="product_id", how="semi"), snapshot.products, named,
        config.popular_k, half_life_days=config.popular_half_life_days,
        min_customers=config.min_customers,
    )  # fmt: skip
    cold = _rows(towers, "cold")
    barred = eligibility.barred(snapshot, shop, ruled)
    offer = selection.Offer(
        people=people,
        shelf=shelf,
        limits=limits,
        barred=barred,
        ranked=_rows(scores, SCORED),
        popular=popular_in.filling(liked),
        fresh=cold,
    )
    how = (ruled, config.top_k, str(snapshot.cutoff))
    # The code that makes lists is part of what they follow from.
    code = dataset.manifest(ranker).code
    marks = rescore.fingerprints(offer, *how[:2], f"{how[2]} {code}")
    best = rescore.top_k(offer, how, marks, former)
    titles = _catalogue(features).select("product_id", "title")
    lists = best.with_columns(pl.col("score").round(6)).join(
        titles, on="product_id", how="left", maintain_order="left"
    )
    return lists, {
        FINGERPRINTS: marks,
        "similar_products": reasons.similar_products(snapshot, free, config),
        "popular": liked,
        "segments": named,
        "bought_together": selection.among_shown(
            _rows(together, "bought_together"), free, "product_id", "with_product_id"
        ),
        "new_products": selection.among_shown(
            cold.join(barred, on=["customer_id", "product_id"], how="anti"),
            free,
            "customer_id",
            "product_id",
        ),
    }


def _former(run: Run) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """Return the lists and fingerprints that were last made for this day, if any were.

    Another day knows other orders, so that no fingerprint would be the same.
    """
    from ecom_tasks.artefacts import dataset

    try:
        last = dataset.find(run, "artefacts/recommendation")
    except DataContractError:
        return None
    if not dataset.paths(last, f"{FINGERPRINTS}.parquet"):
        return None
    return dataset.scan(last, f"{LISTS}/*.parquet").collect(), _rows(last, FINGERPRINTS)


def _write_lists(draft: Draft, lists: pl.DataFrame, buckets: int) -> None:
    """Write the lists spread over files by customer, so that one of them finds all of one."""
    from ecom_tasks.artefacts.bucketing import partition

    for bucket, rows in partition(lists, "customer_id", buckets).items():
        draft.write_frame(f"{LISTS}/bucket={bucket:03}.parquet", rows)


def _embeddings(towers: TwoTower, known: Catalogue) -> pl.DataFrame:
    import polars as pl

    from ecom_tasks.training import two_tower

    vectors = two_tower.embed(towers.product, known.words).round(6)
    size = vectors.shape[1]
    return pl.DataFrame({
        "product_id": known.product_ids,
        "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, size)),
    })
