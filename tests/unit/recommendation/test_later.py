"""Models of an earlier day score some customers as they would score all."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from ecom_tasks.recommendation import candidates, later, snapshots
from ecom_tasks.recommendation.candidates import kept, matrix, propagation
from ecom_tasks.recommendation.snapshots import PAIR
from tests import builders
from tests.unit.recommendation import shops
from tests.unit.recommendation.test_candidates import CONFIG, KNOWN, SHOP, SNAPSHOT

MONDAY = date(2018, 1, 1)
SOME = KNOWN.filter(pl.col("customer_id").is_in(["b0-c03", "b2-c05"]))


@pytest.mark.parametrize("generator", candidates.FITTED)
@pytest.mark.parametrize("exact", [8000, 0])
def test_a_generator_read_from_files_proposes_to_some_what_it_proposes_to_them_among_all(
    generator: candidates.Proposing, exact: int, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"ease_exact": exact, "ease_dimensions": 20})
    kept.save(tmp_path, {generator.NAME: candidates.fit([KNOWN], config)[generator.NAME]})
    read = kept.load(tmp_path)[generator.NAME]
    found = generator.propose(read, SOME, config).sort(PAIR)
    among = candidates.GENERATORS[generator.NAME](KNOWN, config)
    expected = among.join(SOME, on="customer_id", how="semi").sort(PAIR)
    assert found.select(PAIR).equals(expected.select(PAIR))
    assert found["score"].to_list() == pytest.approx(expected["score"].to_list(), rel=1e-5)
    again = tmp_path / "again"
    kept.save(again, {generator.NAME: read})
    file = f"{generator.NAME}.npz"
    assert (again / file).read_bytes() == (tmp_path / file).read_bytes()


def test_who_bought_something_that_no_model_knows_is_proposed_to_by_what_else_is_known() -> None:
    fitted = candidates.fit([KNOWN], CONFIG)
    novel = SOME.head(1).with_columns(pl.lit("brand new").alias("product_id"))
    for generator in candidates.FITTED:
        made = generator.propose(fitted[generator.NAME], pl.concat([SOME, novel]), CONFIG)
        plain = generator.propose(fitted[generator.NAME], SOME, CONFIG)
        assert made.sort(PAIR).equals(plain.sort(PAIR))


def test_views_are_carried_on_over_the_purchases_of_all() -> None:
    views = pl.DataFrame({"session_id": ["s", "s"], "product_id": ["b2-p00", "b2-new"]})
    fitted = candidates.fit([KNOWN], CONFIG)
    graph = propagation.fit(matrix.encode([KNOWN], CONFIG.matrix_products), views, CONFIG)
    everyone = candidates.propose(KNOWN, shops.NOTHING, CONFIG, fitted, graph)
    some = candidates.propose(SOME, shops.NOTHING, CONFIG, fitted, graph)
    expected = everyone.join(SOME, on="customer_id", how="semi")
    viewed = ["propagation_score", "propagation_rank"]
    assert some.select(*PAIR, *viewed).equals(expected.select(*PAIR, *viewed))
    assert some["propagation_score"].drop_nulls().len() > 0


def test_only_who_bought_has_changed() -> None:
    next_day = SHOP.as_of + timedelta(days=1)
    lines = [
        builders.line("b0-c00", "b0-p01", next_day, 1, 1.0),
        builders.line("visitor", "b1-p01", next_day, 1, 1.0),
    ]
    shop = replace(SHOP, order_lines=pl.concat([SHOP.order_lines, builders.order_lines(lines)]))
    now = shops.snapshot(shop, next_day)
    assert later.changed(SNAPSHOT, now)["customer_id"].to_list() == ["b0-c00", "visitor"]
    idle = shops.snapshot(SHOP, SHOP.as_of + timedelta(days=9))
    assert later.changed(SNAPSHOT, idle).is_empty()
    # A line that came late, or was taken back, is a change too; who is forgotten is not scored.
    fewer = replace(SHOP, order_lines=SHOP.order_lines.filter(pl.col("customer_id") != "b0-c01"))
    assert later.changed(SNAPSHOT, shops.snapshot(fewer, next_day)).is_empty()
    late = SHOP.order_lines.filter(pl.col("customer_id") == "b0-c02").head(1)
    less = replace(SHOP, order_lines=SHOP.order_lines.join(late, on="order_id", how="anti"))
    assert later.changed(SNAPSHOT, shops.snapshot(less, next_day))["customer_id"].to_list() == [
        "b0-c02"
    ]


def test_making_lists_and_reports_loads_no_models() -> None:
    names = ("later", "reasons", "report", "rescore", "scoring", "selection", "steps.release")
    modules = ", ".join(f"ecom_tasks.recommendation.{name}" for name in names)
    heavy = "{'tensorflow', 'keras', 'xgboost'}"
    program = f"import sys, {modules}; sys.exit({heavy} & set(sys.modules) or None)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


def test_models_serve_on_the_days_of_their_period() -> None:
    assert snapshots.days_of(MONDAY, 1) == [MONDAY]
    assert snapshots.days_of(MONDAY, 7) == [MONDAY]
    sunday = MONDAY + timedelta(days=6)
    assert snapshots.days_of(sunday, 7) == [MONDAY + timedelta(days=n) for n in range(7)]
