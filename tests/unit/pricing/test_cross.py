"""Cross effects: found where they are, none where there is none, drawn towards zero."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ecom_tasks.pricing import cross, elasticity
from ecom_tasks.pricing.config import PricingConfig
from tests.unit.pricing import simulated
from tests.unit.pricing.test_absorb import chain

CONFIG = PricingConfig()
SUBSTITUTES, COMPLEMENTS = 0.6, -0.5


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    """Ten products: p0 and p1 substitutes, p2 and p3 complements, the others alone."""
    plain = chain([-2.0] * 10, stores=12, weeks=60, seed=7)
    price = plain.select("product_id", "location_id", "week_starts_on", "log_price")
    noise = np.random.default_rng(8).gamma(6.0, 1 / 6.0, plain.height)
    partner = {"p0": "p1", "p1": "p0", "p2": "p3", "p3": "p2"}
    strength = {"p0": SUBSTITUTES, "p1": SUBSTITUTES, "p2": COMPLEMENTS, "p3": COMPLEMENTS}
    felt = plain.with_columns(
        pl.col("product_id").replace_strict(partner, default="").alias("partner"),
        pl.col("product_id").replace_strict(strength, default=0.0).alias("strength"),
    ).join(
        price.rename({"product_id": "partner", "log_price": "other"}),
        on=["partner", "location_id", "week_starts_on"], how="left", maintain_order="left",
    )  # fmt: skip
    effect = (pl.col("strength") * pl.col("other").fill_null(0.0)).exp()
    return felt.with_columns(pl.col("demand_ratio") * effect * pl.Series(noise)).drop(
        "partner", "strength", "other"
    )


def test_pairs_are_found_both_ways_and_nothing_else(rows: pl.DataFrame) -> None:
    found = cross.shrink(cross.measure(rows, CONFIG), CONFIG)
    assert found.height == 10 * 9
    told = {(a, b): e for a, b, e in found.filter("found").select(*cross.PAIR, "estimate").rows()}
    assert set(told) == {("p0", "p1"), ("p1", "p0"), ("p2", "p3"), ("p3", "p2")}
    assert told["p0", "p1"] == pytest.approx(SUBSTITUTES, abs=0.15)
    assert told["p3", "p2"] == pytest.approx(COMPLEMENTS, abs=0.15)
    assert found.filter("found")["signs_agree"].all()
    others = found.filter(~pl.col("found"))
    assert others["estimate"].abs().max() < 0.1  # type: ignore[operator]
    truth = pl.when(pl.col("found")).then(
        pl.when(pl.col("estimate") > 0).then(SUBSTITUTES).otherwise(COMPLEMENTS)
    ).otherwise(0.0)  # fmt: skip
    inside = found.select(((pl.col("lower") <= truth) & (truth <= pl.col("upper"))).mean()).item()
    assert inside > 0.9


def test_own_elasticities_are_told_beside_cross_effects(rows: pl.DataFrame) -> None:
    found = cross.shrink(cross.measure(rows, CONFIG), CONFIG)
    taken = cross.with_effect(rows, found)
    assert elasticity.CROSS in taken.columns
    price = rows.filter(pl.col("product_id") == "p1").sort("location_id", "week_starts_on")
    effect = taken.filter(pl.col("product_id") == "p0").sort("location_id", "week_starts_on")
    strength = found.filter(
        (pl.col("product_id") == "p0") & (pl.col("other_id") == "p1")
    )["estimate"][0]  # fmt: skip
    assert effect[elasticity.CROSS].to_numpy() == pytest.approx(
        strength * price["log_price"].to_numpy()
    )
    own = simulated.by_product(taken, CONFIG)
    assert own["own_estimate"].to_list() == pytest.approx([-2.0] * 10, abs=0.25)


def test_estimates_are_drawn_towards_zero_the_more_the_less_is_known() -> None:
    count = 200
    raw = pl.DataFrame({
        "product_id": [f"a{number:03d}" for number in range(count)],
        "other_id": [f"b{number:03d}" for number in range(count)],
        "category": "c",
        "raw_estimate": [0.8, 0.8, *np.random.default_rng(0).normal(0, 0.1, count - 2)],
        "raw_error": [0.05, 0.4] + [0.1] * (count - 2),
    })
    found = cross.shrink(raw, CONFIG).sort("product_id")
    assert found["estimate"][0] == pytest.approx(0.8, abs=0.1)
    assert found["estimate"][1] < 0.5
    assert found["weight_borrowed"][0] < found["weight_borrowed"][1]
    assert found["found"].to_list() == [True] + [False] * (count - 1)
    assert found["signs_agree"].null_count() == count


def test_a_pair_that_disagrees_is_not_believed() -> None:
    def null_probability(back: float) -> float:
        many = np.random.default_rng(1).normal(0, 0.1, 400)
        raw = pl.DataFrame({
            "product_id": ["a", "b"] + [f"x{n:03d}" for n in range(400)],
            "other_id": ["b", "a"] + [f"y{n:03d}" for n in range(400)],
            "category": "c",
            "raw_estimate": [0.4, back, *many],
            "raw_error": 0.1,
        })
        row = cross.shrink(raw, CONFIG).filter(pl.col("product_id") == "a")
        assert row["signs_agree"].to_list() == [back > 0]
        return float(row["null_probability"][0])

    assert null_probability(0.4) < 0.001
    assert null_probability(-0.2) > null_probability(0.4)


def test_candidates_are_bought_together_first_then_like_in_price_and_mutual() -> None:
    products = [f"p{number:02d}" for number in range(30)]
    together = pl.DataFrame({"product_id": ["p00"], "other_id": ["p29"], "score": [1.0]})
    chosen = cross.candidates(products, np.arange(30.0), 6, together)
    # The best three of p00; p01 and p02 chose it as well.
    assert chosen[0].tolist() == [1, 2, 29]
    assert 0 in chosen[29]
    for place, others in enumerate(chosen):
        assert place not in others
        assert all(place in chosen[other] for other in others)


def test_few_products_are_all_candidates() -> None:
    chosen = cross.candidates(["a", "b", "c"], np.zeros(3), 40, None)
    assert [each.tolist() for each in chosen] == [[1, 2], [0, 2], [0, 1]]


def test_a_product_alone_in_its_category_has_no_neighbours() -> None:
    assert cross.measure(chain([-2.0]), CONFIG).is_empty()
