"""Searches on a small shop where it is known which way a dial must go."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ecom_tasks import cli
from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.recommendation import backtest, protocols, ranker, tuning
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.features import NAMES
from ecom_tasks.recommendation.protocols import Protocol, Split
from ecom_tasks.recommendation.ranker import Examples
from ecom_tasks.recommendation.tuning import Budget, Found

CONFIG = RecommendationConfig()
LAST, FASHIONS = 9, 4


def shop(seed: int = 1) -> pl.DataFrame:
    """Customers of four blocks who follow fashions first; their last two are of their block.

    A strong ridge leaves mere counts, by which fashions come before the block: it must be weak.
    """
    random = np.random.default_rng(seed)
    rows = []
    for customer in range(60):
        own = [f"b{customer % 4}-p{p}" for p in random.permutation(8)[: LAST + 1 - FASHIONS]]
        first = [*own[:-2], *(f"all-p{p}" for p in random.permutation(6)[:FASHIONS])]
        random.shuffle(first)
        bought = [*first, *own[-2:]]
        rows += [(f"c{customer:02}", product, place) for place, product in enumerate(bought)]
    names = ["customer_id", "product_id", "order"]
    return pl.DataFrame(rows, schema=names, orient="row").sort("order", maintain_order=True)


def split_of(interactions: pl.DataFrame, protocol: Protocol = "leave-one-out") -> Split:
    known = protocols.split(interactions, protocol, None, 0.1).known
    return tuning.validation(known, protocol, 0.1, 7)


SPLIT = split_of(shop())


def search(folder: Path, trials: int = 6, split: Split = SPLIT, **settings: Any) -> Found:
    config = RecommendationConfig(**settings)
    return tuning.tune(split, ["ease"], config, "ndcg@10", folder, Budget(10, trials))[0]


def journal(folder: Path, name: str = "ease") -> list[dict[str, Any]]:
    """Return what a study noted, without the names of its workers and the times."""
    lines = (folder / f"{name}.journal").read_text().splitlines()
    clock = {"worker_id", "datetime_start", "datetime_complete"}
    return [{k: v for k, v in json.loads(line).items() if k not in clock} for line in lines]


def drawn(folder: Path) -> list[float]:
    return [each["param_value_internal"] for each in journal(folder) if each["op_code"] == 5]


@pytest.mark.parametrize(
    "dial", [d for s in tuning.SPACES.values() for d in s], ids=lambda d: d.name
)
def test_the_bounds_of_a_dial_are_allowed_and_hold_its_default(dial: tuning.Dial) -> None:
    _check_dial(dial)


@pytest.mark.parametrize("dial", tuning.RANKER_SPACE, ids=lambda d: d.name)
def test_so_do_those_of_the_ranker(dial: tuning.Dial) -> None:
    _check_dial(dial)


def _check_dial(dial: tuning.Dial) -> None:
    default = getattr(CONFIG, dial.name)
    assert dial.low <= default <= dial.high
    for bound in (dial.low, dial.high):
        value = getattr(RecommendationConfig(**{dial.name: bound}), dial.name)
        assert value == bound
        assert isinstance(value, int) == dial.whole
    if not dial.whole:
        assert default == float(f"{default:.4g}")


def test_any_metric_of_the_backtest_can_be_searched_for() -> None:
    judged = backtest.run(SPLIT, ["popular"], CONFIG)["generators"]["popular"]
    figures = {name for name in judged if "@" in name and not name.endswith(("_lower", "_upper"))}
    # Of the bias there is a right amount, not more the better.
    assert set(tuning.METRICS) == figures - {"popularity_bias@10"}


def test_the_dial_goes_where_it_must(tmp_path: Path) -> None:
    found = search(tmp_path, 12)
    assert found.settings["ease_l2"] < 10 < CONFIG.ease_l2
    config = RecommendationConfig(**found.settings)
    # What is shown is what was judged, and the defaults stand beside it.
    for value, tried in ((found.best, config), (found.defaults, CONFIG)):
        assert value == backtest.run(SPLIT, ["ease"], tried)["generators"]["ease"]["ndcg@10"]
    assert found.best > found.defaults + 0.1
    assert found.arguments() == f"--set recommendation.ease_l2={found.settings['ease_l2']}"


def test_fresh_studies_are_alike(tmp_path: Path) -> None:
    assert search(tmp_path / "a") == search(tmp_path / "b")
    assert journal(tmp_path / "a") == journal(tmp_path / "b")
    search(tmp_path / "c", seed=8)
    assert drawn(tmp_path / "a")[0] == drawn(tmp_path / "c")[0] == CONFIG.ease_l2
    assert drawn(tmp_path / "a")[1:] != drawn(tmp_path / "c")[1:]


def test_a_later_call_goes_on(tmp_path: Path) -> None:
    first = search(tmp_path, 4)
    second = search(tmp_path, 3)
    assert (first.trials, second.trials) == (4, 7)
    assert second.best >= first.best
    assert second.defaults == first.defaults
    # Neither the defaults nor the first draws are made twice.
    assert len(set(drawn(tmp_path))) == len(drawn(tmp_path)) == 7
    best = json.loads((tmp_path / tuning.BEST).read_text())
    assert best["ease"]["trials"] == 7
    assert best["ease"]["settings"] == second.settings
    tuning.tune(SPLIT, ["neighbours"], CONFIG, "ndcg@10", tmp_path, Budget(10, 1))
    assert set(json.loads((tmp_path / tuning.BEST).read_text())) == {"ease", "neighbours"}


@pytest.mark.parametrize(
    ("differs", "changed"),
    [
        ("data", {"split": split_of(shop(2))}),
        ("data", {"split": split_of(shop(), "time-split")}),
        ("data", {"split": replace(SPLIT, known=SPLIT.known.head(-1))}),
        ("data", {"split": replace(SPLIT, held_out=SPLIT.held_out.head(-1))}),
        ("fixed settings", {"ease_products": 9}),
    ],
)
def test_a_study_begun_on_something_else_is_refused(
    tmp_path: Path, differs: str, changed: dict[str, Any]
) -> None:
    search(tmp_path, 1)
    with pytest.raises(ConfigError, match=f"begun on another: {differs}[.]"):
        search(tmp_path, 1, **changed)
    assert len(drawn(tmp_path)) == 1


def test_so_is_one_for_another_metric_or_search_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path, 1)
    with pytest.raises(ConfigError, match="begun on another: metric"):
        tuning.tune(SPLIT, ["ease"], CONFIG, "recall@20", tmp_path, Budget(10, 1))
    wider = (tuning.Dial("ease_l2", 0.1, 10_000, log=True),)
    monkeypatch.setitem(tuning.SPACES, "ease", wider)
    with pytest.raises(ConfigError, match="begun on another: search space"):
        search(tmp_path, 1)


def test_a_damaged_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ease.journal").write_text('{"op_code": 0\n{}\n')
    with pytest.raises(ConfigError, match="is no study"):
        search(tmp_path, 1)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="No study can lie in"):
        search(tmp_path / "file", 1)


def test_a_dial_that_is_set_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    judge = backtest.run

    def watched(split: Split, names: list[str], config: RecommendationConfig) -> dict[str, Any]:
        seen.append((config.neighbours, config.neighbour_shrinkage))
        return judge(split, names, config)

    monkeypatch.setattr(backtest, "run", watched)
    config = RecommendationConfig(neighbours=12)
    found = tuning.tune(SPLIT, ["neighbours"], config, "ndcg@10", tmp_path, Budget(10, 3))[0]
    assert set(found.settings) == {"neighbour_shrinkage"}
    assert {neighbours for neighbours, _ in seen} == {12}
    assert len({shrinkage for _, shrinkage in seen}) == 3


@pytest.mark.parametrize(("budget", "trials"), [(Budget(10, 3), 3), (Budget(1e-9), 1)])
def test_a_budget_ends_the_search(tmp_path: Path, budget: Budget, trials: int) -> None:
    found = tuning.tune(SPLIT, ["ease", "neighbours"], CONFIG, "ndcg@10", tmp_path, budget)
    assert [each.trials for each in found] == [trials, trials]


@pytest.mark.parametrize(
    ("generators", "metric", "settings", "reason"),
    [
        (["ease", "magic"], "ndcg@10", {}, "no generator with dials magic"),
        (["popular"], "ndcg@10", {}, "no generator with dials popular"),
        (["ease"], "ndcg@11", {}, "no metric ndcg@11"),
        (["ease"], "ndcg@10", {"ease_l2": 5.0}, "All dials of ease are set"),
    ],
)
def test_wrong_names_are_told_before_anything_is_tried(
    tmp_path: Path, generators: list[str], metric: str, settings: dict[str, Any], reason: str
) -> None:
    config = RecommendationConfig(**settings)
    with pytest.raises(ConfigError, match=reason):
        tuning.tune(SPLIT, generators, config, metric, tmp_path, Budget(10, 1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [(0, None), (-1, 3), (1, 0)])
def test_no_budget_is_no_search(wrong: tuple[float, int | None]) -> None:
    with pytest.raises(ConfigError, match="leave no trial"):
        Budget(*wrong)


def failing(above: float, error: BaseException) -> Any:
    """Return a backtest that fails where the ridge is above `above`."""
    judge = backtest.run

    def run(split: Split, names: list[str], config: RecommendationConfig) -> dict[str, Any]:
        if config.ease_l2 > above:
            raise error
        return judge(split, names, config)

    return run


def test_a_failed_trial_is_passed_over_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backtest, "run", failing(100, MemoryError("of 8 GiB")))
    with caplog.at_level(logging.INFO):
        found = search(tmp_path, 5)
    failed = sum(value > 100 for value in drawn(tmp_path))
    assert (found.trials, found.failed, found.defaults) == (5, failed, None)
    assert 1 <= failed < 5
    assert caplog.text.count("passed over, MemoryError: of 8 GiB") == failed
    notes = [each for each in journal(tmp_path) if "MemoryError: of 8 GiB" in str(each)]
    assert len(notes) == failed


def test_a_figure_of_zero_is_a_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"generators": {"ease": {"ndcg@10": 0.0}}}
    monkeypatch.setattr(backtest, "run", lambda *_: nothing)
    assert search(tmp_path, 2).defaults == 0.0


def test_no_figure_at_all_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest, "run", failing(0, MemoryError("of 8 GiB")))
    with pytest.raises(ConfigError, match="No trial of ease"):
        search(tmp_path, 2)


def test_faults_of_the_program_and_of_the_data_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (KeyError("a bug"), DataContractError("wrong", "mend it")):
        monkeypatch.setattr(backtest, "run", failing(0, error))
        with pytest.raises(type(error)):
            search(tmp_path, 2)


def test_defaults_that_were_interrupted_are_made_first_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(backtest, "run", failing(0, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path, 2)
    found = search(tmp_path, 1)
    assert found.defaults == found.best
    assert drawn(tmp_path) == [CONFIG.ease_l2, CONFIG.ease_l2]


def test_validation_holds_out_what_came_last_but_one() -> None:
    board = shop()
    for customer, product in SPLIT.held_out.iter_rows():
        own = board.filter(customer_id=customer, order=LAST - 1)
        assert own["product_id"].to_list() == [product]
    assert SPLIT.held_out.height == 60
    assert SPLIT.known["order"].max() == LAST - 2


def test_validation_of_a_given_split_holds_out_a_tenth_of_each_customer() -> None:
    sizes = {"one": 1, "two": 2, "ten": 10, "thirty": 30}
    rows = [(name, f"p{p}", p) for name, size in sizes.items() for p in [*range(size), 0]]
    names = ["customer_id", "product_id", "order"]
    known = pl.DataFrame(rows, schema=names, orient="row")
    split = tuning.validation(known, "given-split", 0.1, 7)
    held_out = dict(split.held_out.group_by("customer_id").len().iter_rows())
    assert held_out == {"two": 1, "ten": 1, "thirty": 3}
    pair = ["customer_id", "product_id"]
    assert split.known.join(split.held_out, on=pair, how="semi").is_empty()
    assert pl.concat([split.known.select(pair), split.held_out]).unique().height == 43
    assert split.held_out.equals(tuning.validation(known, "given-split", 0.1, 7).held_out)
    assert not split.held_out.equals(tuning.validation(known, "given-split", 0.1, 8).held_out)


def test_what_is_known_may_be_too_little() -> None:
    one = pl.DataFrame({"customer_id": ["a"], "product_id": ["x"], "order": [1]})
    with pytest.raises(DataContractError, match="To tune, By leave-one-out"):
        tuning.validation(one, "leave-one-out", 0.1, 7)


@pytest.mark.parametrize("protocol", ["leave-one-out", "time-split", "given-split"])
def test_what_must_be_found_in_the_end_is_not_looked_at(tmp_path: Path, protocol: str) -> None:
    board = shop()
    garbage = pl.when(pl.col("order") == LAST).then(pl.lit("garbage")).otherwise("product_id")
    for name, frame in (("a", board), ("b", board.with_columns(garbage.alias("product_id")))):
        file, test = tmp_path / f"{name}.parquet", tmp_path / f"{name}-test.parquet"
        given = protocol == "given-split"
        frame.filter(pl.col("order") < LAST + (not given)).write_parquet(file)
        frame.filter(order=LAST).write_parquet(test)
        arguments = ["tune", "recommendation", "--interactions", str(file), "--customer",
                     "customer_id", "--product", "product_id", "--position", "order", "--protocol",
                     protocol, "--generators", "ease", "--trials", "4", "--folder",
                     str(tmp_path / name)]  # fmt: skip
        assert cli.main([*arguments, *(["--test", str(test)] if given else [])]) == 0
    assert journal(tmp_path / "a") == journal(tmp_path / "b")
    assert (tmp_path / "a/best.json").read_text() == (tmp_path / "b/best.json").read_text()


def test_the_command_prints_the_settings_as_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shop.parquet"
    shop().write_parquet(file)
    arguments = ["tune", "recommendation", "--interactions", str(file), "--customer", "customer_id",
                 "--product", "product_id", "--protocol", "leave-one-out", "--position", "order",
                 "--folder", str(tmp_path / "tuned"), "--trials", "2",
                 "--generators", "ease", "neighbours"]  # fmt: skip
    assert cli.main([*arguments, "--set", "recommendation.neighbours=20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    best = json.loads((tmp_path / "tuned" / tuning.BEST).read_text())
    ridge, shrinkage = best["ease"]["settings"], best["neighbours"]["settings"]
    assert lines[-2] == f"--set recommendation.ease_l2={ridge['ease_l2']}"
    assert lines[-1] == (
        f"--set recommendation.neighbour_shrinkage={shrinkage['neighbour_shrinkage']}"
    )
    assert f"{best['ease']['defaults']:.4f}" in "".join(lines)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--interactions, --customer, --product, --protocol not given"),
        (["--as-of", "2024-03-31"], "--as-of out of place"),
        (["--ranker"], "--as-of, --root not given"),
        (["--ranker", "--metric", "map@5"], "--metric out of place"),
        (["--ranker", "--as-of", "2024-03-31", "--root", "nowhere"], "nowhere"),
    ],
)
def test_arguments_that_do_not_go_together_are_told(
    tmp_path: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tune", "recommendation", "--folder", str(tmp_path), *arguments]
    assert cli.main(command) == 2
    assert told in capsys.readouterr().err


def window(seed: int, customers: int = 40, each: int = 10) -> Examples:
    """Orders follow one feature."""
    random = np.random.default_rng(seed)
    rows = customers * each
    features = np.full((rows, len(NAMES)), np.nan, dtype=np.float32)
    features[:, 0] = random.normal(size=rows)
    orders = random.poisson(np.exp(features[:, 0] * 1.5 - 1)).astype(np.float32)
    group = np.repeat(np.arange(customers, dtype=np.uint32), each)
    return Examples(features, orders, group, np.ones(rows, dtype=np.float32))


RANKER = {
    "count_rounds": 5, "rank_rounds": 0, "max_depth": 6, "column_share": 1.0, "row_share": 1.0,
    "learning_rate": 0.3,
}  # fmt: skip


def test_the_ranker_is_searched_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, shares = [], []
    thin = ranker.thin

    def share_of(candidates: int, config: RecommendationConfig) -> float:
        # So few candidates that no number to be tried would leave any out.
        asked.append(config.unordered_candidates)
        return config.unordered_candidates / (1_000_000 * candidates / 20)

    def watched(window: Examples, share: float, seed: int) -> Examples:
        shares.append(share)
        return thin(window, share, seed)

    monkeypatch.setattr(ranker, "share_of", share_of)
    monkeypatch.setattr(ranker, "thin", watched)
    # So few orders that no tree may part them where a leaf needs 30, as by default.
    early, last = [window(1, customers=5, each=4), window(2, customers=5, each=4)], window(3)
    config = RecommendationConfig(**RANKER)
    found = tuning.tune_ranker(early, last, config, tmp_path, Budget(10, 8))
    assert found.trials == 8
    assert found.defaults is not None
    assert found.best > found.defaults
    assert found.settings["min_child_weight"] < 20 < config.min_child_weight
    assert set(found.settings) == {"min_child_weight", "unordered_candidates"}
    # Both windows to learn from are thinned by the number tried, and not the one that judges.
    assert shares == [number / 1_000_000 for number in asked]
    assert len(asked) == 2 * 8
    assert len(set(asked)) == 8
    assert found.settings["unordered_candidates"] in asked
    again = tuning.tune_ranker(early, last, config, tmp_path, Budget(10, 1))
    assert (again.trials, again.defaults) == (9, found.defaults)
    with pytest.raises(ConfigError, match="begun on another: data"):
        tuning.tune_ranker(early, window(4), config, tmp_path, Budget(10, 1))
    with pytest.raises(ConfigError, match="begun on another: data"):
        tuning.tune_ranker([window(5), early[1]], last, config, tmp_path, Budget(10, 1))


def test_the_figure_of_the_ranker_is_that_of_its_best_number_of_trees(tmp_path: Path) -> None:
    config = RecommendationConfig(**RANKER, unordered_candidates=200)
    found = tuning.tune_ranker([window(1)], window(3), config, tmp_path, Budget(10, 1))
    learn = ranker.thin(window(1), 0.5, config.seed)
    rounds, curves, _ = ranker.choose_rounds(learn, window(3), config)
    assert found.defaults == curves["LambdaMART"][rounds.rank]
