"""The gate: better than plain, no worse than production, within limits, tables as before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ecom_tasks.artefacts import dataset, gate, release
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.manifest import FileEntry
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.errors import ModelRejectedError
from ecom_tasks.run import Ref, Run

CONFIG = gate.GateConfig()
NAME = "artefacts/pricing"


def losses(
    model: float, *, window: str = "w", units: int = 200, noise: float = 1.0
) -> pl.DataFrame:
    """Baseline 1 and model `model` on average, unit by unit with noise of its own."""
    random = np.random.default_rng(3)
    return pl.DataFrame({
        "window": window, "unit": [f"u{n:03}" for n in range(units)], "weight": 1.0,
        "model": model + noise * random.standard_normal(units), "baseline": 1.0,
    })  # fmt: skip


def test_gain_is_the_weighted_mean_and_its_interval_that_of_units() -> None:
    evidence = pl.DataFrame({
        "window": "w", "unit": ["a", "b"], "weight": [3.0, 1.0], "model": [0.0, 1.0],
        "baseline": [1.0, 0.0],
    })  # fmt: skip
    found = gate.gain(evidence, CONFIG)
    assert found.mean == (3 * 1 + 1 * -1) / 4
    # Both draws of one unit happen with probability 1/4 each: these are the ends.
    assert (found.low, found.high) == (-1.0, 1.0)
    assert found.units == 2


def test_interval_is_as_wide_as_theory_says() -> None:
    evidence = losses(0.5, units=400)
    found = gate.gain(evidence, CONFIG)
    error = float((evidence["baseline"] - evidence["model"]).std() or 0) / 400**0.5
    assert found.low == pytest.approx(found.mean - 1.645 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.mean + 1.645 * error, abs=0.15 * error)


def test_rows_of_one_unit_do_not_pass_for_many() -> None:
    """Ten copies of each unit's row say nothing new."""
    once = losses(0.9, units=50)
    ten, one = gate.gain(pl.concat([once] * 10), CONFIG), gate.gain(once, CONFIG)
    assert (ten.low, ten.high) == (pytest.approx(one.low), pytest.approx(one.high))
    assert ten.units == one.units


@pytest.mark.parametrize(("model", "holds"), [(0.5, True), (1.0, False), (1.5, False)])
def test_better_than_plain_beyond_chance(model: float, *, holds: bool) -> None:
    assert gate.beats_baseline(losses(model), "plain", CONFIG).holds is holds
    # What is saved is 1 - model; half of it is not enough where half is asked for.
    asked = CONFIG.model_copy(update={"smallest_gain": 0.6})
    assert not gate.beats_baseline(losses(model), "plain", asked).holds


@pytest.mark.parametrize(("model", "holds"), [(0.9, True), (1.5, False)])
def test_few_units_are_judged_by_their_mean(model: float, *, holds: bool) -> None:
    check = gate.beats_baseline(losses(model, units=29, noise=0.8), "plain", CONFIG)
    assert (check.holds, "the mean decides" in check.said) == (holds, True)
    assert not gate.beats_baseline(losses(0.9, units=30, noise=0.8), "plain", CONFIG).holds


@pytest.mark.parametrize(("model", "holds"), [(0.3, True), (0.5, True), (0.52, True), (0.9, False)])
def test_no_worse_than_production_on_common_windows(model: float, *, holds: bool) -> None:
    champion = losses(0.5)
    random = np.random.default_rng(5)
    challenger = losses(model).with_columns(
        pl.col("model") + pl.Series(0.3 * random.standard_normal(200))
    )
    check = gate.no_worse(challenger, champion, "v1", CONFIG)
    assert check.holds is holds
    assert "no window in common" not in check.said


@pytest.mark.parametrize(("model", "holds"), [(0.5, True), (0.6, True), (0.95, False)])
def test_without_a_common_window_gains_are_compared(model: float, *, holds: bool) -> None:
    check = gate.no_worse(losses(model, window="later"), losses(0.4), "v1", CONFIG)
    assert check.holds is holds
    assert "no window in common" in check.said


def test_only_units_that_both_have_judged_are_compared() -> None:
    champion = losses(0.5, units=100)
    challenger = pl.concat([champion, losses(9.0).tail(100)])
    assert gate.no_worse(challenger, champion, "v1", CONFIG).holds


def entry(path: str, **columns: str) -> FileEntry:
    return FileEntry(path=path, bytes=1, sha256="0" * 64, rows=1, columns=columns or None)


@pytest.mark.parametrize(
    ("now", "gone"),
    [
        ([entry("x/bucket=001.parquet", a="Int64", b="String")], ""),
        ([entry("x/bucket=001.parquet", a="Int64", b="String", c="Int8")], ""),
        ([entry("x/bucket=007.parquet", a="Int64")], "x/* lacks b (String)"),
        ([entry("x/bucket=001.parquet", a="Float64", b="String")], "x/* lacks a (Int64)"),
        ([entry("y.parquet", a="Int64", b="String")], "x/* lacks a (Int64)"),
    ],
)
def test_tables_of_before_must_be_there(now: list[FileEntry], gone: str) -> None:
    before = [entry("x/bucket=000.parquet", a="Int64", b="String"), entry("report.html")]
    now = [file.model_copy(update={"path": file.path}) for file in now]
    check = gate.same_schema(now, before, bumped=False, version="v1")
    assert check.holds is not bool(gone)
    assert gone in check.said or check.holds
    assert gate.same_schema(now, before, bumped=True, version="v1").holds


@pytest.mark.parametrize(
    ("value", "bounds", "holds"),
    [(0.5, (0.5, None), True), (0.49, (0.5, None), False), (2.0, (None, 2.0), True),
     (2.1, (1.0, 2.0), False), (None, (1.0, 2.0), True), (9.0, (None, None), True)],
)  # fmt: skip
def test_limits_include_their_ends(
    value: float | None, bounds: gate.Bounds, *, holds: bool
) -> None:
    assert gate.within("q", value, bounds).holds is holds


def publish(run: Run, model: float, *, column: str = "price", content_version: int = 1) -> Ref:
    def build(draft: Draft) -> None:
        draft.content_version = content_version
        draft.write_frame("prices.parquet", pl.DataFrame({column: [model]}))
        draft.evidence(losses(model, noise=0.1))

    build.__module__ = "ecom_tasks.pricing.tasks"
    return dataset.release(run, dataset.produce(run, NAME, build))


def in_service(run: Run) -> str:
    pointer = release.read_pointer(open_store(run.root), NAME, "production")
    return pointer.version if pointer else ""


def test_a_rejected_version_is_kept_with_its_reason(run: Run, another_day: Run) -> None:
    good = dataset.manifest(publish(run, 0.5)).version
    with pytest.raises(ModelRejectedError, match=r"no worse than .*loss saved -0\.3"):
        publish(another_day, 0.8)
    assert in_service(run) == good
    listed = {each.version: each for each in release.listing(run.root)}
    (rejected,) = set(listed) - {good}
    verdict = listed[rejected].gate
    assert verdict is not None
    assert not verdict.accepted
    assert verdict.champion == good
    assert [check.holds for check in verdict.checks] == [True, True, False]
    with pytest.raises(ModelRejectedError, match="was rejected"):
        release.promote(run.root, NAME, rejected)
    terms = release.Terms(although_rejected=True)
    assert release.promote(run.root, NAME, rejected, terms=terms).version == rejected


def test_trying_again_does_not_slip_past_the_gate(run: Run) -> None:
    for _ in range(2):
        with pytest.raises(ModelRejectedError, match="better than the plain baseline"):
            publish(run, 1.5)
    assert in_service(run) == ""


def test_other_limits_are_another_judgement(run: Run) -> None:
    with pytest.raises(ModelRejectedError):
        publish(run, 1.5)
    # One unit more than there are: the mean alone decides, and it is as bad.
    few = replace(run, overrides={"gate": {"least_units": 10**6}})
    with pytest.raises(ModelRejectedError, match="so few units"):
        publish(few, 1.5)
    elsewhere = replace(few, overrides={"gate": {"least_units": 10**6, "channel": "shadow"}})
    with pytest.raises(ModelRejectedError, match="so few units"):
        publish(elsewhere, 1.5)
    assert len(release.listing(run.root)) == 2


def test_a_lost_column_needs_a_new_content_version(run: Run, another_day: Run) -> None:
    publish(run, 0.5)
    with pytest.raises(ModelRejectedError, match="lacks price"):
        publish(another_day, 0.4, column="cost")
    later = Run("r", another_day.as_of.replace(day=8), run.root)
    assert publish(later, 0.4, column="cost", content_version=2)


def test_a_domains_own_refusal_is_kept_too(run: Run) -> None:
    def build(draft: Draft) -> None:
        with draft.gating():
            raise ModelRejectedError("prices break a rule", "look")
        draft.limit("largest move", 0.7, (None, draft.limits.price_move))

    build.__module__ = "ecom_tasks.pricing.tasks"
    ref = dataset.produce(run, NAME, build)
    verdict = dataset.manifest(ref).gate
    assert verdict is not None
    assert verdict.reasons == [
        "not fit for use: prices break a rule. look.", "not largest move: 0.7, at most 0.5",
    ]  # fmt: skip
