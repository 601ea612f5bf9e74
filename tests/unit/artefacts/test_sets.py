"""Versions that belong together move together, and arrive together or not at all."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ecom_tasks import cli
from ecom_tasks.artefacts import dataset, pull, release, signing
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.sets import bind
from ecom_tasks.errors import ConfigError, ModelRejectedError
from ecom_tasks.run import Ref, Run

SHOP = "sets/shop"


def make(run: Run, name: str, *inputs: Ref, text: str = "", rejected: bool = False) -> Ref:
    def build(draft: Draft) -> None:
        draft.write_text("content.csv", f"{name} {run.as_of} {text}")
        if rejected:
            draft.limit("largest move", 2.0, (None, 1.0))

    build.__module__ = "ecom_tasks.pricing.tasks"
    return dataset.produce(run, name, build, inputs=inputs)


def both(run: Run) -> dict[str, str]:
    """Prices and orders of one run."""
    features = make(run, "features/all")
    refs = [make(run, f"artefacts/{each}", features) for each in ("pricing", "inventory")]
    return {dataset.manifest(ref).name: dataset.manifest(ref).version for ref in refs}


def test_a_set_moves_and_arrives_at_once(run: Run, another_day: Run, tmp_path: Path) -> None:
    here = tmp_path / "here"
    for day in (run, another_day):
        versions = both(day)
        pointer = bind(run.root, SHOP, versions)
        pulled = pull.pull_set(run.root, SHOP, here)
        assert (pulled.version, pulled.files, pulled.changed) == (pointer.version, 2, True)
        for member in ("pricing", "inventory"):
            text = (here / "current" / member / "content.csv").read_text()
            assert text == f"artefacts/{member} {day.as_of} "
            folder = (here / "current" / member).resolve()
            assert pull.verify(folder).version == versions[f"artefacts/{member}"]
    assert not pull.pull_set(run.root, SHOP, here).changed
    release.rollback(run.root, SHOP)
    pull.pull_set(run.root, SHOP, here)
    assert str(run.as_of) in (here / "current/pricing/content.csv").read_text()
    assert bind(run.root, SHOP, both(run)).sequence == 3  # as it is: nothing to move


def test_damage_in_one_member_keeps_the_whole_last_set(
    run: Run, another_day: Run, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    bind(run.root, SHOP, both(run))
    pull.pull_set(run.root, SHOP, here)
    versions = both(another_day)
    bind(run.root, SHOP, versions)
    ref = release.ref_of(run.root, "artefacts/pricing", versions["artefacts/pricing"])
    Path(urlsplit(ref).path).with_name("content.csv").write_text("changed")
    with pytest.raises(pull.RefusedError, match=r"content\.csv is not what"):
        pull.pull_set(run.root, SHOP, here)
    for member in ("pricing", "inventory"):
        assert str(run.as_of) in (here / "current" / member / "content.csv").read_text()


def test_versions_of_other_runs_do_not_belong_together(run: Run, another_day: Run) -> None:
    mixed = both(run) | {
        name: version for name, version in both(another_day).items() if "pricing" in name
    }
    with pytest.raises(ConfigError, match=r"features/all as .*do not belong together"):
        bind(run.root, SHOP, mixed)


def test_a_forecast_that_prices_were_made_from_must_be_the_one_bound(run: Run) -> None:
    forecast, other = (make(run, "artefacts/inventory", make(run, f"work/{n}")) for n in "ab")
    prices = make(run, "artefacts/pricing", forecast)
    versions = {
        dataset.manifest(ref).name: dataset.manifest(ref).version for ref in (prices, other)
    }
    with pytest.raises(ConfigError, match="artefacts/inventory"):
        bind(run.root, SHOP, versions)
    versions["artefacts/inventory"] = dataset.manifest(forecast).version
    assert bind(run.root, SHOP, versions).sequence == 1


def test_what_was_rejected_or_is_alone_is_not_bound(run: Run) -> None:
    good = make(run, "artefacts/inventory")
    bad = make(run, "artefacts/pricing", rejected=True)
    versions = {dataset.manifest(ref).name: dataset.manifest(ref).version for ref in (good, bad)}
    with pytest.raises(ModelRejectedError, match="largest move"):
        bind(run.root, SHOP, versions)
    with pytest.raises(ConfigError, match="Bind two or more"):
        bind(run.root, SHOP, {"artefacts/inventory": ""})


def test_signed_sets_are_verified_to_the_last_member(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = signing.make(tmp_path / "keys")
    monkeypatch.setenv("ECOM_SIGNING_KEY", str(private))
    bind(run.root, SHOP, both(run))
    trusted = pull.Options(public_keys=[public])
    assert pull.pull_set(run.root, SHOP, tmp_path / "here", options=trusted).changed
    _, stranger = signing.make(tmp_path / "other")
    with pytest.raises(pull.RefusedError, match="signed by"):
        pull.pull_set(
            run.root, SHOP, tmp_path / "there", options=pull.Options(public_keys=[stranger])
        )


def test_commands(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, version in both(run).items():
        release.promote(run.root, name, version)
    root = ["--root", run.root]
    assert cli.main(["bind", SHOP, "pricing", "inventory", *root]) == 0
    assert "sets/shop 2024-03-31" in capsys.readouterr().out
    assert cli.main(["pull", SHOP, str(tmp_path / "here"), *root]) == 0
    assert (tmp_path / "here/current/pricing/content.csv").exists()
    assert cli.main(["history", SHOP, *root]) == 0
    assert cli.main(["lineage", SHOP, *root]) == 0
    assert "artefacts/pricing" in capsys.readouterr().out
