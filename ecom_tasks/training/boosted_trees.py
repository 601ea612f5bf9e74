"""Boosted trees on the device that suits their rows, and on the next one where they do not fit.

On a GPU the rows lie there as quantiles; where those are too many they are read page by page from
the host's memory (`ExtMemQuantileDMatrix`), and where that fails too, the CPU learns. Trees of a
GPU are as good as those of a CPU, and not the same.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from ecom_tasks import device
from ecom_tasks.device import Attempt

PAGE_ROWS = 1 << 20
_CUDA = {"device": "cuda"}
_BY_ROW = ("weight", "qid")


@dataclass(frozen=True)
class Rows:
    """What is learnt from.

    Attributes
    ----------
    features : shape (rows, columns), NaN where unknown
    label : shape (rows,)
    told : further facts by XGBoost's names: weight or qid (rows,), qid ascending; feature_names,
        feature_weights
    """

    features: NDArray[np.float32]
    label: NDArray[Any]
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """Rows to stop by.

    Attributes
    ----------
    curve : gets the metric after each tree
    patience : rounds without a better value, after which it ends
    """

    rows: Rows
    metric: str
    patience: int
    curve: list[float]


Matrix = Callable[[Rows, xgb.DMatrix | None], xgb.DMatrix]


def train(
    what: str,
    settings: Mapping[str, Any],
    rows: Rows,
    rounds: int,
    watch: Watch | None = None,
    base: xgb.Booster | None = None,
) -> xgb.Booster:
    """Train trees; on a CPU, the same rows and settings give the same trees.

    Parameters
    ----------
    what : is learnt, for people
    settings : XGBoost's, with `nthread`, and `max_bin` where it is not 256
    base : trees to go on from

    Returns
    -------
    Booster that predicts on the CPU.
    """
    sizes = {name: settings[name] for name in ("nthread", "max_bin") if name in settings}

    def whole(some: Rows, like: xgb.DMatrix | None) -> xgb.DMatrix:
        return xgb.QuantileDMatrix(some.features, some.label, ref=like, **sizes, **some.told)

    def on_processor(some: Rows, like: xgb.DMatrix | None) -> xgb.DMatrix:
        # Of what is only predicted, a CPU reads values several times faster than their bins.
        if like is None:
            return whole(some, None)
        return xgb.DMatrix(some.features, some.label, nthread=sizes.get("nthread"), **some.told)

    def learn(matrix: Matrix, place: Mapping[str, str]) -> xgb.Booster:
        return _boost({**settings, **place}, (rows, rounds), matrix, watch, base)

    on_cpu = Attempt("cpu", "the CPU", partial(learn, on_processor, {}))
    if device.choose("trees", len(rows.features)) == "cpu":
        return device.first_that_fits(what, [on_cpu])
    with tempfile.TemporaryDirectory(prefix="ecom-trees-") as scratch:
        pages = partial(paged, Path(scratch), sizes)
        model = device.first_that_fits(
            what,
            [
                Attempt("cuda", "the GPU", partial(learn, whole, _CUDA)),
                Attempt("cuda", "the GPU in pages", partial(learn, pages, _CUDA)),
                on_cpu,
            ],
        )
    model.set_param({"device": "cpu"})
    return model


def average(models: Sequence[xgb.Booster]) -> xgb.Booster:
    """Return one model whose raw output is the mean of those of the models.

    Round for round it holds the trees of all of them, each leaf divided by their number.

    Parameters
    ----------
    models : of as many rounds each, trained on the same rows, settings and labels, with other seeds

    Raises
    ------
    ValueError
        They start from different values, or have different numbers of trees.
    """
    if len(models) == 1:
        return models[0]
    told = [json.loads(bytes(model.save_raw("json"))) for model in models]
    starts = {json.dumps(each["learner"]["learner_model_param"], sort_keys=True) for each in told}
    trees = [each["learner"]["gradient_booster"]["model"]["trees"] for each in told]
    if len(starts) > 1 or len({len(each) for each in trees}) > 1:
        raise ValueError("models differ in more than their seed, and have no mean of their trees")
    one = told[0]
    held = one["learner"]["gradient_booster"]["model"]
    ends = held["iteration_indptr"]
    held["trees"] = [
        _scaled(tree, 1 / len(models))
        for start, end in pairwise(ends)
        for each in trees
        for tree in each[start:end]
    ]
    for number, tree in enumerate(held["trees"]):
        tree["id"] = number
    held["tree_info"] = [0] * len(held["trees"])
    held["iteration_indptr"] = [len(models) * end for end in ends]
    sizes = held["gbtree_model_param"]
    sizes["num_trees"] = str(len(held["trees"]))
    sizes["num_parallel_tree"] = str(len(models) * int(sizes["num_parallel_tree"]))
    found = xgb.Booster()
    found.load_model(bytearray(json.dumps(one).encode()))
    return found


def _scaled(tree: dict[str, Any], factor: float) -> dict[str, Any]:
    # A leaf has no children, and its value stands where others have their threshold.
    leaves = zip(tree["split_conditions"], tree["left_children"], strict=True)
    values = [value * factor if child == -1 else value for value, child in leaves]
    return tree | {"split_conditions": values}


def _boost(
    settings: dict[str, Any],
    work: tuple[Rows, int],
    matrix: Matrix,
    watch: Watch | None,
    base: xgb.Booster | None,
) -> xgb.Booster:
    rows, rounds = work
    data = matrix(rows, None)
    if watch is None:
        return xgb.train(settings, data, rounds, xgb_model=base)
    found: dict[str, dict[str, list[float]]] = {}
    model = xgb.train(
        settings | {"eval_metric": watch.metric},
        data,
        rounds,
        evals=[(matrix(watch.rows, data), "watched")],
        evals_result=found,
        early_stopping_rounds=watch.patience,
        verbose_eval=False,
        xgb_model=base,
    )
    watch.curve.extend(found["watched"][watch.metric])
    return model


def paged(
    folder: Path, sizes: Mapping[str, Any], rows: Rows, like: xgb.DMatrix | None = None
) -> xgb.DMatrix:
    """Return the rows in pages of `PAGE_ROWS`, of which few are on the device at once.

    Parameters
    ----------
    folder : for pages, where the host keeps them on disk
    sizes : `nthread` and `max_bin`
    """
    return xgb.ExtMemQuantileDMatrix(_Pages(rows, folder), ref=like, **sizes)


class _Pages(xgb.DataIter):
    def __init__(self, rows: Rows, folder: Path) -> None:
        self._rows = rows
        self._pages: Iterator[slice] = iter(())
        # A prefix of its own: the rows to stop by lie beside those to learn from.
        super().__init__(cache_prefix=tempfile.mkdtemp(dir=folder) + "/page")

    def reset(self) -> None:
        self._pages = _cuts(self._rows)

    def next(self, input_data: Callable[..., None]) -> bool:
        page = next(self._pages, None)
        if page is None:
            return False
        told = {
            name: value[page] if name in _BY_ROW else value
            for name, value in self._rows.told.items()
        }
        input_data(data=self._rows.features[page], label=self._rows.label[page], **told)
        return True


def _cuts(rows: Rows) -> Iterator[slice]:
    """Cut into pages, each of whole groups: a group in two pages would be taken for two."""
    start, count = 0, len(rows.features)
    group = rows.told.get("qid")
    while start < count:
        end = min(start + PAGE_ROWS, count)
        if group is not None and end < count:
            before = int(np.searchsorted(group, group[end], side="left"))
            # A group larger than a page is a page.
            end = before if before > start else int(np.searchsorted(group, group[end], "right"))
        yield slice(start, end)
        start = end
