"""What is referred to stays; what nobody refers to goes in two runs, and never in half."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ecom_tasks import cli
from ecom_tasks.artefacts import dataset, release, retention
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.retention import Policy, collect
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Ref, Run

NAME = "artefacts/pricing"
STRICT = Policy(newest=1, days=30, grace=timedelta(days=1))
LATER = datetime.now(UTC) + timedelta(days=40)


def make(run: Run, name: str, day: int, *inputs: Ref) -> Ref:
    def build(draft: Draft) -> None:
        draft.write_text("rows.csv", "x" * 100)

    build.__module__ = "ecom_tasks.pricing.tasks"
    other = Run("r", run.as_of.replace(day=day), run.root)
    return dataset.produce(other, name, build, inputs=inputs)


def version(ref: Ref) -> str:
    return dataset.manifest(ref).version


def chain(run: Run, day: int) -> tuple[Ref, str]:
    """A release with its table; return its reference and version."""
    ref = make(run, NAME, day, make(run, "lake/products", day))
    return ref, version(ref)


def sweep(run: Run, policy: Policy = STRICT) -> set[tuple[str, str]]:
    """Two runs, more than the grace apart; return what is left."""
    collect(run.root, policy, dry=False, now=LATER)
    collect(run.root, policy, dry=False, now=LATER + timedelta(days=2))
    store = open_store(run.root)
    names = (NAME, "lake/products")
    return {(name, each) for name in names for each in release.versions(store, name)}


def test_what_nobody_refers_to_goes(run: Run) -> None:
    made = [chain(run, day)[1] for day in (1, 2, 3)]
    release.promote(run.root, NAME, made[2])
    left = sweep(run)
    assert left == {(NAME, made[2]), ("lake/products", version(make(run, "lake/products", 3)))}
    # Nothing of what went is left over, and its day is free again.
    store = open_store(run.root)
    assert not list(store.walk(f"{NAME}/v/{made[0]}/"))
    assert release.read_pointer(store, NAME, made[0][:10]) is None


@pytest.mark.parametrize("how", ["production", "canary", "pin", "rollback", "set"])
def test_what_is_referred_to_stays_with_all_that_it_was_made_from(run: Run, how: str) -> None:
    refs = [chain(run, day) for day in (1, 2, 3)]
    (_, old), (_, _), (_, new) = refs
    match how:
        case "pin":
            retention.pin(run.root, NAME, old, "audit")
        case "rollback":
            release.promote(run.root, NAME, old)
            release.promote(run.root, NAME, new)
        case "set":
            make(run, "sets/shop", 9, refs[0][0])
        case channel:
            release.promote(run.root, NAME, old, channel)
    left = sweep(run)
    lake = {each for name, each in left if name == "lake/products"}
    assert {(NAME, old), (NAME, new)} == {each for each in left if each[0] == NAME}
    assert {each[:10] for each in lake} == {old[:10], new[:10]}


def test_one_run_only_marks_and_a_dry_one_does_nothing(run: Run) -> None:
    made = [chain(run, day)[1] for day in (1, 2)]
    store = open_store(run.root)
    before = [s.key for s in store.walk("")]
    found = collect(run.root, STRICT, now=LATER)
    assert [(each.name, each.version) for each in found if each.name == NAME] == [(NAME, made[0])]
    assert all(each.bytes > 100 and not each.sweepable for each in found)
    assert [s.key for s in store.walk("")] == before
    collect(run.root, STRICT, dry=False, now=LATER)
    within_grace = collect(run.root, STRICT, dry=False, now=LATER + timedelta(hours=23))
    assert not any(each.sweepable for each in within_grace)
    assert made[0] in release.versions(store, NAME)
    due = collect(run.root, STRICT, now=LATER + timedelta(hours=25))
    assert all(each.sweepable for each in due)
    assert made[0] in release.versions(store, NAME)


def test_what_is_wanted_again_loses_its_mark(run: Run) -> None:
    made = [chain(run, day)[1] for day in (1, 2)]
    collect(run.root, STRICT, dry=False, now=LATER)
    release.promote(run.root, NAME, made[0])
    assert collect(run.root, STRICT, dry=False, now=LATER + timedelta(days=2)) == []
    store = open_store(run.root)
    assert made[0] in release.versions(store, NAME)


def test_what_comes_into_service_while_sweeping_stays(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [chain(run, day)[1] for day in (1, 2)]
    collect(run.root, STRICT, dry=False, now=LATER)
    referred = retention._referred

    def slow(*arguments: Any) -> set[str]:
        kept = referred(*arguments)
        release.promote(run.root, NAME, made[0])
        return kept

    monkeypatch.setattr(retention, "_referred", slow)
    collect(run.root, STRICT, dry=False, now=LATER + timedelta(days=2))
    assert made[0] in release.versions(open_store(run.root), NAME)


def test_young_versions_and_the_newest_stay(run: Run) -> None:
    made = [chain(run, day)[1] for day in (1, 2, 3)]
    assert collect(run.root, STRICT) == []  # made just now
    left = sweep(run, Policy(newest=2, days=1))
    assert {each for name, each in left if name == NAME} == set(made[1:])


def test_leftovers_of_what_was_never_finished_go_too(run: Run) -> None:
    _, kept = chain(run, 1)
    store = open_store(run.root)
    store.create(f"{NAME}/v/2024-03-02-unfinished/part", b"123")
    (found,) = collect(run.root, STRICT, dry=False, now=LATER)
    assert (found.version, found.bytes, found.finished) == ("2024-03-02-unfinished", 3, False)
    assert sweep(run) >= {(NAME, kept)}
    assert not list(store.walk(f"{NAME}/v/2024-03-02-unfinished/"))


def test_a_crash_in_the_middle_leaves_no_half_version(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [chain(run, day)[1] for day in (1, 2)]
    collect(run.root, STRICT, dry=False, now=LATER)
    store = type(open_store(run.root))
    delete = store.delete

    def crash(self: Any, keys: list[str]) -> None:
        delete(self, keys)
        if keys and keys[0].endswith("_manifest.json"):
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "delete", crash)
    with pytest.raises(KeyboardInterrupt):
        collect(run.root, STRICT, dry=False, now=LATER + timedelta(days=2))
    assert release.versions(open_store(run.root), NAME) == [made[1]]


def test_commands(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    _, old = chain(run, 1)
    chain(run, 2)
    root = ["--root", run.root]
    assert cli.main(["pin", "pricing", old, *root]) == 0
    with pytest.raises(ConfigError, match="no version never-made"):
        retention.pin(run.root, NAME, "never-made", "")
    assert cli.main(["retain", "--newest", "1", "--days", "0", *root]) == 0
    assert "0 versions of 0 bytes would be removed; 0 of 0" in capsys.readouterr().out
    assert cli.main(["unpin", "pricing", old, *root]) == 0
    assert cli.main(["retain", "--newest", "1", "--days", "0", *root]) == 0
    said = capsys.readouterr().out
    assert "would be marked" in said
    assert "0 versions of 0 bytes would be removed; 2 of" in said
