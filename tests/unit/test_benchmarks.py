"""The benchmark of recommendation on tiny data: it runs, and its figures hang together."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from benchmarks import inventory, measure, recommendation

TINY = ["--k", "5", "--factors", "4", "--iterations", "1"]


def test_generated_purchases_are_as_many_as_asked_for_and_have_tastes(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    made = recommendation.generate(str(path), 500, 2000, 20_000)
    assert (made["customers"], made["products"]) == (500, 2000)
    assert made["interactions"] == 20_000
    again = tmp_path / "b.npz"
    recommendation.generate(str(again), 500, 2000, 20_000)
    orders = sparse.load_npz(path)
    assert (orders != sparse.load_npz(again)).nnz == 0
    assert orders.sum(axis=1).min() >= 1
    bought = np.sort(np.asarray(orders.sum(axis=0)).ravel())[::-1]
    assert bought[:20].sum() > 0.1 * bought.sum()  # a hundredth of the products
    shared = (orders @ orders.T).toarray()
    same = np.arange(500)[:, None] % recommendation.TASTES == np.arange(500) % recommendation.TASTES
    np.fill_diagonal(shared, 0)
    assert shared[same].mean() > 3 * shared[~same].mean()


def test_contenders_do_the_same_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "pairs.parquet"
    rng = np.random.default_rng(1)
    user, item = np.nonzero(rng.random((60, 40)) < 0.2)
    pl.DataFrame({"user": user, "item": item}).write_parquet(source)
    out = tmp_path / "out.json"
    recommendation.main([
        "--data", "gowalla", str(source), "--scratch", str(tmp_path), "--json", str(out), *TINY,
    ])  # fmt: skip
    figures = json.loads(out.read_text())
    parts = figures["parts"]
    assert figures["data"]["pairs"] == len(user)
    assert parts["rectools"] == {"failed": "not installed"}
    assert parts["ours"]["mean_score"] == pytest.approx(parts["implicit"]["mean_score"], rel=1e-5)
    assert parts["scoring"]["ratio"] > 0
    assert all(0 < parts[name]["peak_bytes"] < 12 << 30 for name in ("encode", "ours", "implicit"))
    assert "not installed" in capsys.readouterr().out


def test_contenders_run_one_at_a_time_and_their_figures_join(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    same = ["--generated", "60", "50", "400", "--scratch", str(tmp_path), "--json", str(out)]

    def run(*words: str) -> dict[str, Any]:
        recommendation.main([*same, *TINY, "--only", *words])
        parts: dict[str, Any] = json.loads(out.read_text())["parts"]
        return parts

    first = run("implicit")
    assert set(first) == {"implicit"}
    assert set(run("ours")) == {"ours", "implicit"}
    both = run("scoring")
    assert list(both) == ["ours", "implicit", "scoring"]
    assert both["implicit"] == first["implicit"]
    assert both["scoring"]["ratio"] > 0
    assert both["ours"]["mean_score"] == pytest.approx(both["implicit"]["mean_score"], rel=1e-5)
    written = out.read_bytes()
    with pytest.raises(SystemExit, match="figures of another settings"):
        recommendation.main([*same, *TINY, "--k", "4", "--only", "implicit"])
    assert out.read_bytes() == written


def test_growth_is_drawn(tmp_path: Path) -> None:
    out, figure = tmp_path / "out.json", tmp_path / "growth.svg"
    recommendation.main([
        "--growth", "--generated", "400", "100", "4000", "--millions", "0.002", "0.004",
        "--scratch", str(tmp_path), "--json", str(out), "--plot", str(figure), *TINY,
    ])  # fmt: skip
    growth = json.loads(out.read_text())
    assert [each["customers"] for each in growth["growth"]] == [200, 400]
    assert set(growth["power"]) == {"seconds", "peak_bytes"}
    assert "<svg" in figure.read_text()


def test_forecasts_of_generated_series_are_judged_alike(tmp_path: Path) -> None:
    path = tmp_path / "series.parquet"
    inventory.generate(path, 40)
    units = pl.read_parquet(path)["y"].to_numpy().reshape(40, inventory.WEEKS)
    actual = units[:, -inventory.HORIZON :]
    assert inventory.judge(path, actual) == {"wrmsse": 0, "wape": 0}
    last = np.repeat(units[:, [-inventory.HORIZON - 1]], inventory.HORIZON, axis=1)
    made = inventory.ours(path)
    assert made.shape == actual.shape
    assert inventory.judge(path, made)["wape"] < inventory.judge(path, last)["wape"]


def test_what_was_measured_stays_until_all_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def figures(name: str) -> dict[str, str]:
        done.append(name)
        return {"name": name}

    def measured(stop: str = "") -> None:
        with measure.folder_for(tmp_path, "1") as folder:
            for name in ("a", "b"):
                if name == stop:
                    raise KeyboardInterrupt
                assert measure.once(folder, name, partial(figures, name)) == {"name": name}

    with pytest.raises(KeyboardInterrupt):
        measured(stop="b")
    measured()
    assert done == ["a", "b"]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        measured(stop="b")
    monkeypatch.setattr(measure, "_code_now", lambda: "other code")
    measured()
    assert done == ["a", "b", "a", "a", "b"]
