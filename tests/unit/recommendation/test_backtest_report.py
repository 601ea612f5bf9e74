"""The page of a backtest: all contenders in every picture, at the values that were found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ecom_tasks import cli
from ecom_tasks.recommendation import backtest, backtest_report

FIGURES = (*backtest_report._RIGHT, *backtest_report._BEYOND)
FEW, SOME, _ = backtest.COHORTS


def metrics(ndcg: float, **others: Any) -> dict[str, Any]:
    """A contender of which only NDCG and what is named differ from others."""
    cuts = {
        f"{metric}@{k}": ndcg + k / 1000 for metric in ("ndcg", "recall") for k in backtest.CUTS
    }
    interval = {"ndcg@10": ndcg, "ndcg@10_lower": ndcg - 0.01, "ndcg@10_upper": ndcg + 0.02}
    cohorts = {
        "cohorts": {FEW: {"customers": 1, "ndcg@10": ndcg / 2}},
        "product_cohorts": {"tail": {"products": 1, "customers": 1, "recall@20": ndcg / 4}},
    }
    return dict.fromkeys(FIGURES, 0.5) | cuts | interval | cohorts | others


FOUND: dict[str, Any] = {
    "baselines": {"popular": metrics(0.125)},
    "generators": {"als": metrics(0.3125), "ease": metrics(0.25, **{"novelty@10": None})},
    "model": metrics(0.4375, cohorts={SOME: {"customers": 1, "ndcg@10": 0.375}}),
    "blend": metrics(0.4375, cohorts={SOME: {"customers": 1, "ndcg@10": 0.375}}),
    "ranker": None,
    "customers": 1234,
    "products": 56,
    "seconds": 7.0,
    "peak_memory_bytes": 3 * 2**29,
}
SCORES = backtest.contenders(FOUND)


def test_the_verdict_names_the_best_beside_the_best_baseline() -> None:
    page = backtest_report.render(FOUND, "Backtest of <orders>")
    assert "Backtest of &lt;orders&gt;" in page
    assert "blend (model) scores 0.4375 (interval 0.4275 to 0.4575)" in page
    assert "popular, scores 0.1250. 1,234 customers, 56 products" in page
    assert "7.0 s and 1.5 GiB" in page


def test_same_result_same_bytes_and_nothing_is_loaded() -> None:
    page = backtest_report.render(FOUND, "Backtest")
    assert page == backtest_report.render(FOUND, "Backtest")
    assert page.count("<svg") == 4
    loaded = re.findall(r'(?:src|href)="(?!#)([^"]*)"|url\((?!#)([^)]*)\)', page)
    assert loaded == []


def test_every_contender_has_a_row_and_what_is_undefined_a_dash() -> None:
    page = backtest_report.render(FOUND, "Backtest")
    rows = re.findall(r"<tr>\s*<td class=\"\">(.*?)</td>(.*?)</tr>", page, re.DOTALL)
    assert [name for name, _ in rows] == [*SCORES, *SCORES]  # accuracy, then what lies beyond
    dashes = {(place, name) for place, (name, cells) in enumerate(rows) if ">-<" in cells}
    assert dashes == {(len(SCORES) + 2, "ease")}


def test_intervals_stand_in_order_of_the_score() -> None:
    (axes,) = backtest_report._intervals(SCORES).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["popular (baseline)", "ease", "als", "blend (model)"]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line, _, _ in axes.containers]
    assert points == [(0.125, 0), (0.25, 1), (0.3125, 2), (0.4375, 3)]
    ends = [bar.get_segments()[0][:, 0].tolist() for _, _, (bar,) in axes.containers]
    assert ends[3] == pytest.approx([0.4375 - 0.01, 0.4375 + 0.02])
    assert axes.get_xlim()[1] > 0.4375 + 0.02


def test_lines_follow_the_cuts() -> None:
    ndcg, recall = backtest_report._by_cut(SCORES).axes
    assert [line.get_label() for line in ndcg.lines] == list(SCORES)
    assert list(ndcg.lines[1].get_ydata()) == [
        0.3125 + 5 / 1000, 0.3125, 0.3125 + 20 / 1000, 0.3125 + 50 / 1000,
    ]  # fmt: skip
    assert list(recall.lines[1].get_ydata()) == [0.3125 + k / 1000 for k in backtest.CUTS]


def test_a_contender_without_novelty_is_no_point() -> None:
    (axes,) = backtest_report._novelty(SCORES).axes
    assert [line.get_label() for line in axes.lines] == [n for n in SCORES if n != "ease"]


def test_a_contender_without_a_cohort_has_no_dot_there() -> None:
    customers, products = backtest_report._cohorts(SCORES).axes
    few, some = customers.lines
    assert (few.get_label(), some.get_label()) == (FEW, SOME)
    assert list(zip(few.get_xdata(), few.get_ydata(), strict=True)) == [
        (0.125 / 2, 0), (0.3125 / 2, 1), (0.25 / 2, 2),
    ]  # fmt: skip
    assert (list(some.get_xdata()), list(some.get_ydata())) == ([0.375], [3])
    assert [line.get_label() for line in products.lines] == ["tail"]
    assert list(products.lines[0].get_xdata()) == [0.125 / 4, 0.3125 / 4, 0.25 / 4, 0.4375 / 4]


def test_a_result_without_any_hit_can_be_drawn() -> None:
    nothing = metrics(0.0, **{"ndcg@10_lower": 0.0, "ndcg@10_upper": 0.0, "cohorts": {}})
    alone = FOUND | {
        "baselines": {"popular": nothing}, "generators": {"als": nothing}, "blend": None
    }  # fmt: skip
    page = backtest_report.render(alone, "Backtest")
    assert "popular (baseline) scores 0.0000 (interval 0.0000 to 0.0000)" in page
    (axes,) = backtest_report._intervals(backtest.contenders(alone)).axes
    assert axes.get_xlim() == (0, 1)


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    file, out = tmp_path / "orders.parquet", tmp_path / "out.html"
    pl.DataFrame({"who": ["a", "a", "b", "b"], "what": ["x", "y", "x", "y"],
                  "at": [1, 2, 1, 2]}).write_parquet(file)  # fmt: skip
    arguments = ["backtest", "recommendation", "--interactions", str(file), "--customer", "who",
                 "--product", "what", "--position", "at", "--protocol", "leave-one-out",
                 "--generators", "neighbours", "--html", str(out)]  # fmt: skip
    assert cli.main(arguments) == 0
    assert "Backtest of orders.parquet, leave-one-out" in out.read_text(encoding="utf-8")
