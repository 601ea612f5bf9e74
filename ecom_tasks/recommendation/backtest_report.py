"""The one page that shows what a backtest found."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes

from ecom_tasks import reports
from ecom_tasks.figures import BLUE, GREY, ORANGE, Figure
from ecom_tasks.recommendation.backtest import COHORTS, CUTS, PRODUCT_COHORTS, contenders
from ecom_tasks.reports import Section

_RIGHT = ("ndcg@10", "ndcg@10_lower", "ndcg@10_upper", "recall@20", "recall@20_lower",
          "recall@20_upper", "mrr@10", "map@10", "hit_rate@10")  # fmt: skip
_BEYOND = ("ips_ndcg@10", "ips_recall@20", "coverage@10", "novelty@10", "intra_list_diversity@10",
           "popularity_bias@10", "seconds")  # fmt: skip
_COHORT_COLOURS = (BLUE, ORANGE, GREY)
_MARKS = "osD^vP*X"
Scores = dict[str, dict[str, Any]]


def render(found: dict[str, Any], title: str) -> str:
    """Render the page.

    Parameters
    ----------
    found : of `backtest.run`
    title : what was judged and how, for example `Backtest of orders.parquet, time-split`
    """
    scores = contenders(found)
    sections = [
        Section(
            "NDCG@10",
            "With its interval over customers: 1 is a perfect list of ten. Every product is "
            "ranked; there is no sample of negatives.",
            figure=_intervals(scores),
            table=_table(scores, _RIGHT),
        ),
        Section("By length of the list", figure=_by_cut(scores)),
        Section(
            "Customers with few and many products, popular and rare products",
            "Left: customers by how many products they had before. Right: recall of what is among "
            "the most popular products that make up half of all interactions (head), and among "
            "the others (tail).",
            figure=_cohorts(scores),
        ),
        Section(
            "Beyond accuracy",
            "Coverage: share of all products that stand in anyone's first ten. Novelty: surprise "
            "of the first ten, in bits. Diversity: 1 minus the mean cosine of two products of a "
            "list. Popularity bias: 1 when products are as popular as the customers' own. ips: "
            "each thing found counts the more, the rarer it is.",
            figure=_novelty(scores),
            table=_table(scores, _BEYOND),
        ),
    ]
    return reports.page(title, _verdict(found, scores), sections)


def _verdict(found: dict[str, Any], scores: Scores) -> str:
    best = max(scores, key=lambda name: float(scores[name]["ndcg@10"]))
    plain = max(found["baselines"], key=lambda name: float(found["baselines"][name]["ndcg@10"]))
    values = scores[best]
    return (
        f"Of 1.0 that perfect lists of ten would score, {best} scores {values['ndcg@10']:.4f} "
        f"(interval {values['ndcg@10_lower']:.4f} to {values['ndcg@10_upper']:.4f}); the best "
        f"plain baseline, {plain}, scores {found['baselines'][plain]['ndcg@10']:.4f}. "
        f"{found['customers']:,} customers, {found['products']:,} products; it took "
        f"{found['seconds']:,.1f} s and {found['peak_memory_bytes'] / 2**30:.1f} GiB."
    )


def _table(scores: Scores, figures: tuple[str, ...]) -> pl.DataFrame:
    rows = [
        {"contender": name} | {figure: values[figure] for figure in figures}
        for name, values in scores.items()
    ]
    schema = {"contender": pl.String} | dict.fromkeys(figures, pl.Float64)
    return pl.DataFrame(rows, schema=schema)


def _height(scores: Scores) -> float:
    """Inches that a line for each contender needs, with the axis below."""
    return 0.9 + 0.28 * len(scores)


def _colour(name: str) -> str:
    if name.endswith("(baseline)"):
        return GREY
    return ORANGE if name.endswith("(model)") else BLUE


def _intervals(scores: Scores) -> Figure:
    figure = Figure(figsize=(8, _height(scores)), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(scores, key=lambda name: float(scores[name]["ndcg@10"]))
    for place, name in enumerate(ordered):
        value, low, high = (scores[name][f"ndcg@10{end}"] for end in ("", "_lower", "_upper"))
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", capsize=3,
                      color=_colour(name))  # fmt: skip
        axes.annotate(f"{value:.4f}", (high, place), (6, 0), textcoords="offset points",
                      va="center", fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(ordered)), ordered)
    furthest = max(float(values["ndcg@10_upper"]) for values in scores.values())
    axes.set_xlim(0, 1.15 * furthest or 1)  # room for the figures beside the bars
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xlabel("NDCG@10")
    return figure


def _styles(scores: Scores) -> dict[str, dict[str, Any]]:
    """Each contender's colour and mark, the same in all figures; baselines are dashed."""
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    return {
        name: {
            "color": colours[place % 10],
            "marker": _MARKS[place % len(_MARKS)],
            "linestyle": "--" if name.endswith("(baseline)") else "-",
            "label": name,
        }
        for place, name in enumerate(scores)
    }


def _by_cut(scores: Scores) -> Figure:
    figure = Figure(figsize=(8, max(3, _height(scores))), layout="constrained")
    both = figure.subplots(1, 2)
    for axes, metric in zip(both, ("ndcg", "recall"), strict=True):
        for name, style in _styles(scores).items():
            values = [scores[name][f"{metric}@{k}"] for k in CUTS]
            axes.plot(range(len(CUTS)), values, markersize=4, linewidth=1.2, **style)
        axes.set_xticks(range(len(CUTS)), [str(k) for k in CUTS])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("products shown")
        axes.set_title({"ndcg": "NDCG", "recall": "Recall"}[metric])
    _legend(figure, both[0])
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8)


def _novelty(scores: Scores) -> Figure:
    figure = Figure(figsize=(8, max(3, _height(scores))), layout="constrained")
    axes = figure.subplots()
    for name, style in _styles(scores).items():
        values = scores[name]
        if values["novelty@10"] is not None:
            axes.plot(values["novelty@10"], values["coverage@10"], **style | {"linestyle": ""})
    axes.set_xlabel("novelty@10, bits")
    axes.set_ylabel("coverage@10")
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


def _cohorts(scores: Scores) -> Figure:
    figure = Figure(figsize=(8, _height(scores) + 0.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _dots(left, [values["cohorts"] for values in scores.values()], COHORTS, "ndcg@10")
    by_product = [values["product_cohorts"] for values in scores.values()]
    _dots(right, by_product, PRODUCT_COHORTS, "recall@20")
    left.set_yticks(range(len(scores)), list(scores))
    left.set_ylim(len(scores) - 0.4, -0.6)
    return figure


def _dots(
    axes: Axes, found: list[dict[str, dict[str, float]]], cohorts: tuple[str, ...], metric: str
) -> None:
    """Draw one dot for each contender (line) and cohort (colour)."""
    for cohort, colour in zip(cohorts, _COHORT_COLOURS, strict=False):
        places = [place for place, values in enumerate(found) if cohort in values]
        if places:
            values = [found[place][cohort][metric] for place in places]
            axes.plot(values, places, "o", color=colour, markersize=5, label=cohort, clip_on=False)
    axes.set_xlim(left=0)
    axes.set_xlabel(metric.replace("ndcg", "NDCG").replace("recall", "Recall"))
    axes.legend(fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
