"""The transformer as a generator: histories from pairs, and a model that meets a later day."""

from __future__ import annotations

import polars as pl

from ecom_tasks.recommendation.candidates import matrix, sequence
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.training import sequence_model

CONFIG = RecommendationConfig(
    sequence_size=8, sequence_length=6, sequence_epochs=100, sequence_batch=32, sequence_blocks=1,
    sequence_validation=0, sequence_dropout=0.0, sequence_patience=100, sequence_learning_rate=0.01,
    sequence_candidates=1, sequence_gaps=True,
)  # fmt: skip


def pairs(bought: dict[str, str], age: int = 0) -> pl.DataFrame:
    """Return pairs of customers who bought one product (a letter) a day, the last one `age` ago."""
    rows = [
        (who, what, 1.0, 1.0, float(len(goods) - 1 - day + age))
        for who, goods in bought.items()
        for day, what in enumerate(goods)
    ]
    schema = ["customer_id", "product_id", "orders", "recency_weighted_orders",
              "days_since_last_order"]  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def histories(
    parts: list[pl.DataFrame], most: int, config: RecommendationConfig = CONFIG
) -> list[sequence_model.History]:
    known = matrix.encode(parts, most)
    return sequence.histories(parts, known.customers, known.products, config)


def test_histories_are_oldest_first_with_the_days_to_the_next() -> None:
    known = pairs({"ann": "bca", "bob": "a"}, age=3)
    ann, bob = histories([known], 10)
    assert ann.products.tolist() == [2, 3, 1]
    # A day to the next order is bucket 2 (1 + log2(1 + 1)), three days to now bucket 3.
    assert ann.gaps.tolist() == [2, 2, 3]
    assert (bob.products.tolist(), bob.gaps.tolist()) == ([1], [3])


def test_histories_are_read_part_by_part_as_all_at_once() -> None:
    known = pairs({"ann": "bca", "bob": "a", "eve": "cab", "zoe": "z"}, age=3)
    parts = [known.filter(pl.col("customer_id").is_in(some)) for some in (["zoe", "eve"], ["ann"])]
    parts.append(known.filter(customer_id="bob"))
    whole, found = (histories(each, 3) for each in ([known], parts))
    assert [len(each.products) for each in whole] == [3, 1, 3, 0]  # of z too few are known
    for one, other in zip(whole, found, strict=True):
        assert one.products.tolist() == other.products.tolist()
        assert one.gaps.tolist() == other.gaps.tolist()


def test_of_a_long_history_all_that_is_learnt_from_is_kept() -> None:
    config = CONFIG.model_copy(update={"sequence_length": 2, "sequence_pieces": 2})
    known = pairs({"ann": "abcdefghij"}, age=3)
    (whole,), (kept,) = (
        histories([known], 10, each)
        for each in (CONFIG.model_copy(update={"sequence_length": 50}), config)
    )
    assert kept.products.tolist() == whole.products.tolist()[-6:]
    for held_out in (0, 1):
        one, other = (
            sequence_model._pieces(
                [each.part(0, len(each.products) - held_out)], sequence.dials(config)
            )
            for each in (whole, kept)
        )
        assert len(one) == 2
        for expected, found in zip(one, other, strict=True):
            assert found.products.tolist() == expected.products.tolist()
            assert found.gaps.tolist() == expected.gaps.tolist()


def test_what_follows_is_proposed_first_and_own_products_are_scored_too() -> None:
    ring = "abcdefgh"
    span = {f"c{n:02}": (n % 8, n % 8 + 3 + n // 8 % 4) for n in range(64)}
    bought = {who: (2 * ring)[start:end] for who, (start, end) in span.items()}
    # A day ago, as far as from one order to the next.
    fitted = sequence.fit([pairs(bought, age=1)], CONFIG)
    found = sequence.propose(fitted, pairs(bought, age=1), CONFIG)
    assert set(found["generator"]) == {"sequence"}
    new = found.join(pairs(bought), on=["customer_id", "product_id"], how="anti")
    expected = {who: ring[end % 8] for who, (_, end) in span.items()}
    proposed = dict(new.select("customer_id", "product_id").iter_rows())
    # Places as old as those of the longest histories were hardly trained.
    assert sum(proposed[who] == product for who, product in expected.items()) >= 60
    # A later day: a product that it never saw is no candidate, and does not disturb.
    moved = bought | {"c00": "zabc", "new": "z"}
    later = sequence.propose(fitted, pairs(moved, age=1), CONFIG)
    assert "z" not in set(later["product_id"])
    assert "new" not in set(later["customer_id"])
    news = later.join(pairs(moved), on=["customer_id", "product_id"], how="anti")
    assert dict(news.select("customer_id", "product_id").iter_rows())["c00"] == "d"
