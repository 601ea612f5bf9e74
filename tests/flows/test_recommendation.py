"""The recommendation flow on a shop with planted tastes, from features to the release."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import xgboost as xgb
from polars.testing import assert_frame_equal

from ecom_tasks import cli, tables
from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.errors import ConfigError, DataContractError, ModelRejectedError
from ecom_tasks.features.tasks import flow as features_flow
from ecom_tasks.recommendation import later, selection, snapshots
from ecom_tasks.recommendation.candidates import VIEWED
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.features import NAMES
from ecom_tasks.recommendation.snapshots import PAIR, Window
from ecom_tasks.recommendation.steps import inputs, listing, proposals, ranking, reading, scores
from ecom_tasks.recommendation.tasks import flow
from ecom_tasks.run import Ref, Run, run_locally
from tests import builders
from tests.unit.recommendation import shops
from tests.unit.recommendation.shops import block_of

SHOP = builders.block_shop(blocks=3, customers=8, goods=10, weeks=26)
TABLES = {"order_lines": SHOP.order_lines, "products": SHOP.products}
QUICK = {
    "top_k": 8, "als_factors": 8, "als_iterations": 3, "count_rounds": 20, "rank_rounds": 3,
    "min_child_weight": 1, "epochs": 1, "vocabulary": 256, "embedding_size": 8, "batch_size": 64,
    "resamples": 50, "unordered_candidates": 10_000, "sequence_size": 8, "sequence_epochs": 1,
    "sequence_blocks": 1, "train_windows": 2,
}  # fmt: skip

CONFIG = RecommendationConfig(**QUICK)


def at(root: str, **settings: object) -> Run:
    run = Run("test", SHOP.as_of, root, overrides={"recommendation": QUICK | settings})
    builders.publish_lake(run, TABLES)
    run_locally(features_flow, run)
    return run


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Ref]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOM_DASK", "threads")
        run = at((tmp_path_factory.mktemp("flow") / "store").as_uri())
        return run, run_locally(flow, run)


def test_every_customer_gets_a_full_list_of_the_own_block(released: tuple[Run, Ref]) -> None:
    lists = dataset.scan(released[1], "recommendations/*.parquet").collect()
    # The last place is kept for a new product, which this shop has none of.
    assert set(lists.group_by("customer_id").len()["len"]) == {8}
    assert lists["customer_id"].n_unique() == 3 * 8
    assert not lists.select("customer_id", "product_id").is_duplicated().any()
    own_block = pl.col("customer_id").str.head(2) == pl.col("product_id").str.head(2)
    assert lists.select(own_block.mean()).item() > 0.95
    assert lists.columns == ["customer_id", "product_id", "rank", "score", "generator", "reason"]
    assert lists["reason"].null_count() == 0
    again = lists.filter(generator="repeat")["reason"]
    assert again.str.contains(r"^buy again: every (day|\d+ days)$").all()


def test_the_release_holds_models_tables_report_and_judgement(
    released: tuple[Run, Ref], tmp_path: Path
) -> None:
    made = dataset.manifest(released[1])
    paths = {entry.path for entry in made.files}
    assert paths >= {
        "bought_together.parquet", "similar_products.parquet", "popular.parquet", "metrics.json",
        "segments.parquet", "new_products.parquet", "rules.json", "report.html",
        "models/ranker.ubj", "models/ranker_network.npz", "models/customer_tower.keras",
        "models/product_tower.keras",
        "models/sequence.keras", "models/sequence.onnx", "scoring_example.py",
        "customer_embeddings.parquet", "product_embeddings.parquet",
    }  # fmt: skip
    assert made.headline is not None
    assert made.headline.value > made.headline.baseline
    for both in made.metrics["windows"].values():
        assert set(both["all"]["contenders"]) == {
            "ranker", "own purchase frequency", "popularity",
        }  # fmt: skip
    dataset.fetch(released[1], tmp_path)
    model = xgb.Booster(model_file=tmp_path / "models/ranker.ubj")
    assert model.feature_names == list(NAMES)
    similar = pl.read_parquet(tmp_path / "similar_products.parquet")
    same = pl.col("product_id").str.head(2) == pl.col("similar_product_id").str.head(2)
    assert similar.select(same.all()).item()


def test_a_second_run_recomputes_nothing(released: tuple[Run, Ref]) -> None:
    run, ref = released
    assert run_locally(flow, replace(run, run_id="again")) == ref


def test_the_ranker_is_tuned_on_windows_before_the_test_windows(
    released: tuple[Run, Ref], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = released
    looked_at = []
    examples = reading.examples

    def watched(features: Ref, proposed: Ref, window: Window, *how: Any) -> Any:
        looked_at.append(window)
        return examples(features, proposed, window, *how)

    monkeypatch.setattr(reading, "examples", watched)
    settings = [f"--set=recommendation.{name}={value}" for name, value in QUICK.items()]
    command = ["tune", "recommendation", "--ranker", "--as-of", str(run.as_of), "--root", run.root,
               "--folder", str(tmp_path), "--trials", "2", *settings]  # fmt: skip
    assert cli.main(command) == 0
    best = json.loads((tmp_path / "best.json").read_text())["ranker"]
    assert best["trials"] == 2
    assert best["best"] >= best["defaults"] > 0
    # QUICK sets two dials, which therefore stay.
    assert set(best["settings"]) == {"max_depth", "column_share", "row_share", "learning_rate"}
    plan = reading.plan(dataset.find(run, "features/all"), RecommendationConfig.of(run))
    assert 2 <= len(looked_at) <= 3
    assert looked_at[-1].until <= plan.test[0].cutoff
    assert looked_at == sorted(looked_at, key=lambda window: window.cutoff)
    one = replace(run, overrides={"recommendation": QUICK | {"train_windows": 1}})
    with pytest.raises(DataContractError, match="1 window before the first test window"):
        ranking.ranker_windows(one)


def test_a_ranker_without_enough_gain_is_refused_and_the_release_stays(
    released: tuple[Run, Ref],
) -> None:
    run, ref = released
    more = replace(run, overrides=dict(run.overrides) | {"gate": {"smallest_gain": 2.0}})
    with pytest.raises(ModelRejectedError, match="own purchase frequency"):
        run_locally(flow, more)
    assert dataset.find(run, "artefacts/recommendation") == ref


def test_a_consumer_scores_with_the_models_alone(released: tuple[Run, Ref], tmp_path: Path) -> None:
    dataset.fetch(released[1], tmp_path)
    # -I: nothing of this project can be imported.
    command = [sys.executable, "-I", "scoring_example.py", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ecom_tasks" not in (tmp_path / "scoring_example.py").read_text()
    assert done.stdout.count("->") == 3
    rows = pl.read_parquet(tmp_path / "scoring/histories.parquet")
    moved = rows.with_columns(pl.col("state").list.eval(pl.element() + 0.1))
    moved.write_parquet(tmp_path / "scoring/histories.parquet")
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 1


def made(run: Run, name: str) -> str:
    return dataset.manifest(dataset.find(run, name)).version


LEARNT = ("sequence", "candidates", "two_tower", "ranker", "evaluation", "together")


@pytest.fixture
def ruled(tmp_path: Path) -> Path:
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[eligibility]\nnever = { products = ["b0-p00"], categories = ["block 1/shelf 0"] }\n'
        '[[pins]]\nproduct = "b2-p01"\nplace = 2\n',
        encoding="utf-8",
    )
    return rules


def test_new_rules_make_new_lists_and_retrain_nothing(
    released: tuple[Run, Ref], ruled: Path
) -> None:
    run, ref = released
    before = [made(run, f"work/recommendation/{name}") for name in LEARNT]
    again = replace(run, overrides={"recommendation": QUICK | {"rules": str(ruled)}})
    other = run_locally(flow, again)
    assert [made(again, f"work/recommendation/{name}") for name in LEARNT] == before
    assert other != ref
    lists = dataset.scan(other, "recommendations/*.parquet").collect()
    catalogue = SHOP.products.select("product_id", "category")
    shown = lists.join(catalogue, on="product_id")
    assert "b0-p00" not in set(lists["product_id"])
    assert "block 1/shelf 0" not in set(shown["category"])
    assert set(lists.group_by("customer_id").len()["len"]) == {8}
    assert set(lists.filter(rank=2)["product_id"]) == {"b2-p01"}
    assert set(lists.filter(generator="pinned")["reason"]) == {"chosen by the shop"}
    for table, column in (
        ("similar_products", "similar_product_id"), ("popular", "product_id"),
        ("bought_together", "with_product_id"),
    ):  # fmt: skip
        assert "b0-p00" not in set(dataset.scan(other, f"{table}.parquet").collect()[column])
    # The same rules under another name are the same rules.
    moved = ruled.rename(ruled.with_name("moved.toml"))
    third = replace(run, overrides={"recommendation": QUICK | {"rules": str(moved)}})
    assert run_locally(flow, third) == other
    run_locally(flow, run)


def test_rules_without_any_product_left_are_refused(
    released: tuple[Run, Ref], tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[eligibility]\nnever = { categories = ["block 0", "block 1", "block 2"] }\n',
        encoding="utf-8",
    )
    run = replace(released[0], overrides={"recommendation": QUICK | {"rules": str(rules)}})
    with pytest.raises(DataContractError, match="nothing to recommend"):
        run_locally(flow, run)


def test_a_missing_rules_file_is_named(released: tuple[Run, Ref]) -> None:
    run = replace(released[0], overrides={"recommendation": QUICK | {"rules": "/none/r.toml"}})
    with pytest.raises(ConfigError, match=r"/none/r\.toml cannot be read"):
        run_locally(flow, run)


def test_stock_people_and_exclusions_change_lists_and_retrain_nothing(
    released: tuple[Run, Ref], tmp_path: Path
) -> None:
    run, first = released
    shutil.copytree(run.root.removeprefix("file://"), tmp_path / "store")
    run = replace(run, root=(tmp_path / "store").as_uri())
    before = [made(run, f"work/recommendation/{name}") for name in LEARNT]
    on = {"snapshot_on": SHOP.as_of, "location_id": "all"}
    builders.publish_lake(run, TABLES | {
        "stock": builders.table(tables.STOCK, [on | {"product_id": "b0-p01", "on_hand": 0.0}]),
        "customers": builders.table(tables.CUSTOMERS, [{"customer_id": "visitor"}]),
        "exclusions": builders.table(
            tables.EXCLUSIONS, [{"customer_id": "b1-c01", "product_id": "b1-p01"}]
        ),
    })  # fmt: skip
    run_locally(features_flow, run)
    second = run_locally(flow, run)
    assert [made(run, f"work/recommendation/{name}") for name in LEARNT] == before
    assert second != first
    lists = dataset.scan(second, "recommendations/*.parquet").collect()
    assert "b0-p01" not in set(lists["product_id"])
    assert lists.filter(customer_id="b1-c01", product_id="b1-p01").is_empty()
    visitor = lists.filter(customer_id="visitor")
    assert (visitor.height, set(visitor["reason"])) == (8, {"popular now"})


def test_what_was_viewed_by_the_cutoff_proposes_what_nobody_bought_yet(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOM_DASK", "threads")
    run = Run("test", SHOP.as_of, root, overrides={"recommendation": QUICK})

    def visit(name: str, on: date, *seen: str) -> list[dict[str, object]]:
        return [
            {"event_id": f"{name}-{product}", "product_id": product, "event_type": "view",
             "session_id": name, "occurred_at": datetime.combine(on, time(12))}
            for product in seen
        ]  # fmt: skip

    launched = builders.products(["b0-new", "b1-new"])
    last = SHOP.as_of - timedelta(days=1)
    events = [*visit("one", last, "b0-p00", "b0-new"), *visit("two", last, "b1-p00", "b1-new")]
    builders.publish_lake(run, TABLES | {
        "products": pl.concat([SHOP.products, launched]),
        "events": builders.table(tables.EVENTS, events),
    })  # fmt: skip
    run_locally(features_flow, run)
    features = inputs.pin_features(run)
    cutoffs = [*reading.needed(reading.plan(features, CONFIG), CONFIG), SHOP.as_of]

    def nothing(draft: Draft) -> None:
        for cutoff in cutoffs:
            draft.write_frame(f"cutoff={cutoff}/block=000.parquet", shops.NOTHING)

    nothing.__module__ = proposals.__name__
    follows = dataset.produce(run, "work/recommendation/sequence", nothing)
    proposed = proposals.generate_candidates(run, features, follows)
    today = pl.concat(reading.candidates(proposed, SHOP.as_of))
    found = today.filter(pl.col("product_id").str.ends_with("new"))
    own = SHOP.order_lines.filter(pl.col("product_id") == "b0-p00")["customer_id"].unique()
    assert set(own) <= set(found.filter(product_id="b0-new")["customer_id"])
    # No customer buys in two blocks, and no visit joins two.
    assert found.select(block_of("customer_id").eq(block_of("product_id")).all()).item()
    assert found["propagation_rank"].null_count() == 0
    # The day before the visits nobody knew of them, and the columns are there all the same.
    earlier = pl.concat(reading.candidates(proposed, cutoffs[-2]))
    assert earlier.columns == today.columns
    assert not earlier["product_id"].str.ends_with("new").any()


def test_a_shop_without_views_has_no_columns_for_them(released: tuple[Run, Ref]) -> None:
    proposed = dataset.find(released[0], "work/recommendation/candidates")
    assert not set(VIEWED) & set(next(reading.candidates(proposed, SHOP.as_of)).columns)


def test_blocks_of_customers_are_proposed_to_as_all_at_once(
    released: tuple[Run, Ref],
) -> None:
    run, _ = released
    whole = dataset.find(run, "work/recommendation/candidates")
    before = reading.scored(dataset.find(run, "work/recommendation/ranker"), SHOP.as_of)
    scored = pl.concat(before).sort(PAIR)
    small = QUICK | {"block_customers": 10}
    again = replace(run, overrides={"recommendation": small})
    features = inputs.pin_features(again)
    follows = proposals.train_sequence(again, features)
    parts = proposals.generate_candidates(again, features, follows)
    blocks = list(reading.candidates(parts, SHOP.as_of))
    assert len(blocks) > 1 == len(list(reading.candidates(whole, SHOP.as_of)))
    assert_frame_equal(
        pl.concat(blocks).sort(PAIR), next(reading.candidates(whole, SHOP.as_of)), rel_tol=1e-5
    )
    # The trees are others, since each sees a part of the rows, drawn by their order.
    ranker = ranking.train_ranker(again, features, parts)
    found = pl.concat(reading.scored(ranker, SHOP.as_of)).drop("score").sort(PAIR)
    assert found.equals(scored.drop("score"))


def test_what_was_bought_in_buckets_is_what_was_bought(released: tuple[Run, Ref]) -> None:
    features = inputs.pin_features(released[0])
    window = reading.plan(features, CONFIG).test[0]
    before, after = (
        reading.table(features, "customer_products", day) for day in (window.cutoff, window.until)
    )
    found = reading.bought(features, window)
    assert found.height
    assert found.equals(snapshots.bought(before, after))


def test_pairs_of_one_block_are_read_once_and_of_several_whenever_gone_through(
    released: tuple[Run, Ref], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, read = inputs.pin_features(released[0]), []
    pairs = reading._pairs

    def watched(*how: Any) -> pl.DataFrame:
        read.append(how)
        return pairs(*how)

    monkeypatch.setattr(reading, "_pairs", watched)
    small = CONFIG.model_copy(update={"block_customers": 10})
    blocks = len(list(reading.blocks(features, SHOP.as_of, small)))
    found = {}
    for config, times in ((CONFIG, 1), (small, 2 * blocks)):
        read.clear()
        parts = reading.interactions(features, SHOP.as_of, config)
        first, again = (pl.concat(parts).sort(PAIR) for _ in range(2))
        assert (len(read), first.equals(again)) == (times, True)
        found[times] = first
    assert blocks > 1
    assert found[1].equals(found[2 * blocks])


def test_the_ranker_learns_from_as_many_customers_as_are_drawn(
    released: tuple[Run, Ref],
) -> None:
    features = inputs.pin_features(released[0])
    proposed = dataset.find(released[0], "work/recommendation/candidates")
    window = reading.plan(features, CONFIG).test[0]

    def learnt(most: int) -> int:
        blocks = reading.examples(features, proposed, window, CONFIG, most)
        return sum(len(set(block.group.tolist())) for block in blocks)

    bought = reading.bought(features, window, CONFIG)["customer_id"].n_unique()
    assert (learnt(5), learnt(bought)) == (5, bought)


def test_one_customer_of_one_product_is_an_error_or_a_list_of_one(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOM_DASK", "threads")
    one = pl.col("product_id") == "b0-p00"
    # A staple of every second week at least, so that every window has an order.
    often = SHOP.order_lines.filter(one).group_by("customer_id").len().filter(pl.col("len") >= 13)
    buyer = often["customer_id"].min()
    alone = {
        "order_lines": SHOP.order_lines.filter(one & (pl.col("customer_id") == buyer)),
        "products": SHOP.products.filter(one),
    }
    run = Run("test", SHOP.as_of, root, overrides={"recommendation": QUICK})
    builders.publish_lake(run, alone)
    run_locally(features_flow, run)
    with pytest.raises(DataContractError, match="none has 3 customers"):
        run_locally(flow, run)
    # Nothing beats buying the only product again; a list is no longer than the catalogue.
    settings = {"recommendation": QUICK | {"min_customers": 1}, "gate": {"smallest_gain": -1.0}}
    ref = run_locally(flow, replace(run, overrides=settings))
    lists = dataset.scan(ref, "recommendations/*.parquet").collect()
    assert lists.select("customer_id", "product_id", "rank").rows() == [(buyer, "b0-p00", 1)]
    for windows in dataset.manifest(ref).metrics["windows"].values():
        assert list(windows) == ["all"]


def test_only_customers_whose_inputs_changed_get_new_lists(
    released: tuple[Run, Ref], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, first = released
    shutil.copytree(run.root.removeprefix("file://"), tmp_path / "store")
    run = replace(run, root=(tmp_path / "store").as_uri())
    excluded = {"customer_id": "b1-c01", "product_id": "b1-p01"}
    builders.publish_lake(
        run, TABLES | {"exclusions": builders.table(tables.EXCLUSIONS, [excluded])}
    )
    run_locally(features_flow, run)
    made: list[str] = []
    top_k = selection.top_k

    def watched(offer: selection.Offer, *how: Any) -> pl.DataFrame:
        made.extend(offer.people["customer_id"])
        return top_k(offer, *how)

    monkeypatch.setattr(selection, "top_k", watched)
    second = run_locally(flow, run)
    assert second != first
    assert made == ["b1-c01"]
    # The same day where nothing was made before: every list is made, with the same bytes.
    monkeypatch.setattr(listing, "former", lambda _run: None)
    entries = {entry.path: entry.sha256 for entry in dataset.manifest(second).files}
    shutil.rmtree(tmp_path / "store/artefacts")
    whole = run_locally(flow, run)
    assert len(made) == 1 + 3 * 8
    assert {entry.path: entry.sha256 for entry in dataset.manifest(whole).files} == entries


def test_models_are_kept_for_some_days_and_only_who_bought_is_scored_anew(
    released: tuple[Run, Ref], tmp_path: Path
) -> None:
    run, first = released
    shutil.copytree(run.root.removeprefix("file://"), tmp_path / "store")
    passed = SHOP.as_of.toordinal() - 1
    period = next(days for days in range(3, 30) if passed % days + 2 < days)
    settings = {"recommendation": QUICK | {"retrain_days": period}}
    monday, tuesday = (
        replace(run, root=(tmp_path / "store").as_uri(), overrides=settings,
                as_of=SHOP.as_of + timedelta(days=days)) for days in (1, 2)
    )  # fmt: skip
    lines = [builders.line(who, what, monday.as_of, 1, 1.0) for who, what in
             (("b0-c03", "b0-p01"), ("b0-c03", "b0-p02"), ("visitor", "b1-p01"))]  # fmt: skip
    bought = pl.concat([SHOP.order_lines, builders.order_lines(lines)])
    # From Tuesday on there are twice as many buckets: nobody is scored anew for that.
    for day, buckets in ((monday, 2), (tuesday, 4)):
        builders.publish_lake(day, TABLES | {"order_lines": bought}, buckets)
        run_locally(features_flow, day)
    # Tuesday comes without Monday: what is missing is made on the way.
    second, third = (run_locally(flow, day) for day in (tuesday, monday))
    for day in (monday, tuesday):
        with pytest.raises(DataContractError):
            dataset.find(day, "work/recommendation/ranker")
    anew = [dataset.manifest(ref).metrics["scores"] for ref in (third, second)]
    assert anew == [
        {"models of": str(SHOP.as_of), "customers scored anew": 2},
        {"models of": str(SHOP.as_of), "customers scored anew": 0},
    ]
    named = [
        dataset.find(replace(tuesday, as_of=day), "work/recommendation/scores")
        for day in (SHOP.as_of, monday.as_of, tuesday.as_of)
    ]
    scored = [pl.concat(reading.scored_today(each)).sort(PAIR) for each in named]
    assert scored[1].equals(scored[2])
    changed = scored[1].join(scored[0], on=scored[0].columns, how="anti")
    assert set(changed["customer_id"]) == {"b0-c03", "visitor"}
    # Scoring everybody with the same models, each as of his own day, gives the same.
    learnt = inputs.pin_learning(monday, inputs.pin_features(monday))
    of_day = replace(monday, as_of=SHOP.as_of)
    models = scores.kept_models(
        *(dataset.find(of_day, f"work/recommendation/{name}")
          for name in ("candidates", "ranker", "sequence")), learnt, CONFIG,
    )  # fmt: skip
    who = pl.DataFrame({"customer_id": ["b0-c03", "visitor"]})
    now, then = (
        reading.snapshot(ref, day) for ref, day in
        ((inputs.pin_features(monday), monday.as_of), (learnt, SHOP.as_of))
    )  # fmt: skip
    others = then.customers.join(who, on="customer_id", how="anti")
    whole = pl.concat([
        later.score(models, later.only(now, who), CONFIG),
        later.score(models, later.only(then, others), CONFIG),
    ]).sort("customer_id", "product_id")  # fmt: skip
    exact = pl.all().exclude("score")
    assert whole.select(exact).equals(scored[1].select(exact))
    assert whole["score"].to_list() == pytest.approx(scored[1]["score"].to_list(), abs=1e-5)
    assert first != third


def test_without_enough_to_learn_from_the_generators_are_blended(
    released: tuple[Run, Ref], tmp_path: Path
) -> None:
    shutil.copytree(released[0].root.removeprefix("file://"), tmp_path / "store")
    # In a shop whose first release it is: a blend is worse than the ranker in service.
    shutil.rmtree(tmp_path / "store/artefacts")
    few = {"recommendation": QUICK | {"smallest_training": 10**6}}
    run = replace(released[0], root=(tmp_path / "store").as_uri(), overrides=few)
    ref = run_locally(flow, run)
    manifest = dataset.manifest(ref)
    assert manifest.metrics["ranker"] == {"model": "blend"}
    assert any("too little history" in each for each in manifest.assumptions)
    assert "models/ranker.ubj" not in {entry.path for entry in manifest.files}
    lists = dataset.scan(ref, "recommendations/*.parquet").collect()
    own_block = pl.col("customer_id").str.head(2) == pl.col("product_id").str.head(2)
    assert lists.select(own_block.mean()).item() > 0.9
    dataset.fetch(ref, tmp_path / "pulled")
    command = [sys.executable, "-I", "scoring_example.py", "."]
    subprocess.run(command, cwd=tmp_path / "pulled", capture_output=True, check=True)
