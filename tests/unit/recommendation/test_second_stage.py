"""A ranker over any generators: what it sees, what it may not see, and a rule it must learn."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ecom_tasks.recommendation import backtest, protocols, second_stage
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.recommendation.protocols import Split

CONFIG = RecommendationConfig(neighbour_shrinkage=1.0, ease_l2=1.0, smallest_training=100)
GENERATORS = ["neighbours", "ease"]
RING, WALK = 12, 8


def walks() -> pl.DataFrame:
    """Thirty customers from each place of a ring, who take the eight products that follow."""
    rows = [
        (f"c{start:02}-{n:02}", f"p{(start + step) % RING:02}", step)
        for start in range(RING)
        for n in range(30)
        for step in range(WALK)
    ]
    names = ["customer_id", "product_id", "order"]
    return pl.DataFrame(rows, schema=names, orient="row").sort("order", maintain_order=True)


def within(known: pl.DataFrame) -> Split:
    return protocols.within(known, "leave-one-out", 0.1, CONFIG.seed)


def test_it_learns_the_order_that_no_generator_knows() -> None:
    split = protocols.split(walks(), "leave-one-out", None, 0.1)
    found = backtest.run(split, GENERATORS, CONFIG, within(split.known))
    # What comes before the walk goes together with it as much as what comes next.
    assert max(each["mrr@10"] for each in found["generators"].values()) < 0.8
    assert found["blend"]["mrr@10"] < 0.8
    assert found["model"]["mrr@10"] == 1
    assert found["ranker"]["ndcg@10"] == 1
    # One product a customer, all of which the generators propose: there are few others.
    assert found["ranker"]["found"] == RING * 30
    follows = sum(
        share for name, share in found["ranker"]["importance"].items() if "follows" in name
    )
    assert follows > 0.9
    assert list(backtest.contenders(found)) == [
        "popular (baseline)", *GENERATORS, "blend", "ranker (model)",
    ]  # fmt: skip


def test_the_ranker_takes_as_long_as_both_fits_of_its_generators() -> None:
    split = protocols.split(walks(), "leave-one-out", None, 0.1)
    found = backtest.run(split, ["neighbours"], CONFIG, within(split.known))
    assert found["blend"] is None
    assert found["model"]["seconds"] > found["generators"]["neighbours"]["seconds"]
    assert found["model"]["mrr@10"] == 1


def seen(known: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    """Return what the ranker would learn from, without what it has to find."""
    frames: list[pl.DataFrame] = []

    def spy(split: Split, lists: second_stage.Lists, config: RecommendationConfig) -> None:
        facts, asked = second_stage.known_of(split.known), second_stage.learners(split, config)
        frames.extend(second_stage.features(facts, lists, asked))

    with monkeypatch.context() as patch:
        patch.setattr(second_stage, "learn", spy)
        backtest._learn(within(known), GENERATORS, CONFIG, {})
    return pl.concat(frames)


def sees_the_future(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether what the ranker has to find shows in what it sees."""
    board = walks()
    newest = pl.col("order") == WALK - 1
    number = pl.col("product_id").str.slice(1).cast(pl.Int64)
    another = pl.format("p{}", ((number + 3) % RING).cast(pl.String).str.zfill(2))
    otherwise = board.with_columns(pl.when(newest).then(another).otherwise("product_id"))
    return not seen(board, monkeypatch).equals(seen(otherwise, monkeypatch))


def test_what_must_be_found_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not sees_the_future(monkeypatch)


@pytest.mark.parametrize("where", ["what generators learn from", "facts of customers"])
def test_a_planted_leak_is_caught(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    split_within = within

    def leaking(known: pl.DataFrame) -> Split:
        honest = split_within(known)
        monkeypatch.setattr(*target, lambda _known: original(known))
        return honest

    target = (
        (backtest, "pairs") if where == "what generators learn from"
        else (second_stage, "known_of")
    )  # fmt: skip
    original = getattr(*target)
    monkeypatch.setitem(globals(), "within", leaking)
    assert sees_the_future(monkeypatch)


def table(text: str) -> pl.DataFrame:
    """`ann:milk ann:tea` as customer_id, product_id and, from 0, order."""
    rows = [pair.split(":") for pair in text.split()]
    frame = pl.DataFrame(rows, schema=["customer_id", "product_id"], orient="row")
    return frame.with_row_index("order").select(
        "customer_id", "product_id", pl.col("order").cast(pl.Int64)
    )


KNOWN = table("ann:a ann:b bob:a bob:b cat:a cat:c ann:a cat:b dan:b dan:c")


def test_features_by_hand() -> None:
    lists = {
        "one": pl.DataFrame({"customer_id": ["ann", "ann"], "product_id": ["c", "b"],
                             "score": [5.0, 3.0], "rank": [1, 2]}),
        "other": pl.DataFrame({"customer_id": ["ann"], "product_id": ["b"],
                               "score": [9.0], "rank": [1]}),
    }  # fmt: skip
    known = second_stage.known_of(KNOWN)
    (frame,) = second_stage.features(known, lists, pl.Series("customer_id", ["ann", "nobody"]))
    b, c = frame.to_dicts()
    assert [known.ids["product_id"].categories[row["product_id"]] for row in (b, c)] == ["b", "c"]
    assert (b["one_score"], b["one_rank"], b["one_gap"], b["other_rank"]) == (3, 2, 2, 1)
    assert (c["one_score"], c["one_rank"], c["one_gap"], c["other_rank"]) == (5, 1, 0, None)
    assert (b["generators"], c["generators"]) == (2, 1)
    # ann: a, b, a; her newest of ten interactions is the seventh.
    assert (b["customer_interactions"], b["customer_products"]) == (3, 2)
    assert b["customer_since"] == pytest.approx(4 / 10)
    assert (b["product_interactions"], c["product_interactions"]) == (4, 2)
    # The newest tenth is dan:c alone.
    assert (b["product_newest"], c["product_newest"]) == (0, 1)
    assert (b["pair_interactions"], b["pair_back"], c["pair_back"]) == (1, 2, None)
    # After a, her last, came b twice (ann, bob) and c once (cat). After b came a (ann) and c (dan).
    assert (b["follows_last"], c["follows_last"]) == (2, 1)
    assert b["follows_last_share"] == pytest.approx(2 / 3)
    assert b["follows_recent"] == pytest.approx(2 / 3 + 0 / 2 + 2 / 3 / 3)
    assert c["follows_recent"] == pytest.approx(1 / 3 + 1 / 2 / 2 + 1 / 3 / 3)


def test_the_same_input_gives_the_same_ranker() -> None:
    split = protocols.split(walks(), "time-split", None, 0.2)
    inner = protocols.within(split.known, "time-split", 0.2, CONFIG.seed)
    models = []
    for _ in range(2):
        interactions = protocols.pairs(inner.known)
        lists = {"ease": backtest._proposed("ease", interactions, inner, CONFIG, {})[0]}
        ranker = second_stage.learn(inner, lists, CONFIG)
        assert ranker is not None
        models.append(bytes(ranker.model.save_raw()))
    assert models[0] == models[1]


def test_too_little_to_learn_from_leaves_the_blend(caplog: pytest.LogCaptureFixture) -> None:
    split = protocols.split(KNOWN, "leave-one-out", None, 0.1)
    found = backtest.run(split, GENERATORS, CONFIG, within(split.known))
    assert found["ranker"] is None
    assert found["model"] is found["blend"]
    assert "it needs 100" in caplog.text
    assert list(backtest.contenders(found))[-1] == "blend (model)"


def test_the_order_of_the_lists_changes_no_feature() -> None:
    inner = within(walks())
    interactions = protocols.pairs(inner.known)
    lists = {
        name: backtest._proposed(name, interactions, inner, CONFIG, {})[0] for name in GENERATORS
    }
    known, asked = second_stage.known_of(inner.known), second_stage.learners(inner, CONFIG)
    shuffled = {name: each.sample(fraction=1, shuffle=True, seed=1) for name, each in lists.items()}
    one, other = (pl.concat(list(second_stage.features(known, each, asked)))
                  for each in (lists, shuffled))  # fmt: skip
    assert_frame_equal(one, other, check_exact=True)
