"""Temporal convolution over many series: quantiles and mean of the periods ahead.

A stack of convolutions over pairs of places, each layer half as long as the one below: a dilated
causal convolution, computed only for its last place, where the forecast is made. What it leads to
meets what is known of each period ahead (calendar, plans) in a small network, one for all periods.
A straight line from the last values is added, so that the rest has only to learn what a line
cannot say. Levels of quantiles are stacked on each other and never cross.

References
----------
van den Oord et al. (2016), "WaveNet: a generative model for raw audio".
Wen et al. (2017), "A multi-horizon quantile recurrent forecaster".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from ecom_tasks.training import placement  # first: how TensorFlow behaves is read at its import

# isort: split
import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_LARGEST_INPUT = 5.0
_LARGEST_SLOPE = 1.0
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Dials:
    """Size and length of training.

    Attributes
    ----------
    levels : of the quantiles, ascending.
    size : numbers that a place is described by.
    epochs : passes over the windows.
    batch : windows learnt from at once.
    learning_rate : of the first steps; it falls to zero along a half cosine.
    seed : of the first weights and the order of windows.
    """

    levels: tuple[float, ...]
    size: int = 32
    epochs: int = 8
    batch: int = 256
    learning_rate: float = 3e-3
    seed: int = 1


@dataclass(frozen=True)
class Windows:
    """Stretches of series that end at an origin; values in units of their own noise.

    Attributes
    ----------
    past : (rows, places, channels), oldest place first; places a power of two, and the first
        channel the series itself.
    ahead : (rows, steps, features), what is known of the periods ahead; 0 where unknown.
    target : (rows, steps), NaN where there was no count.
    weight : (rows, steps), by which errors count.
    """

    past: Floats
    ahead: Floats
    target: Floats
    weight: Floats


@dataclass(frozen=True)
class Network:
    """A trained network, as plain arrays.

    Attributes
    ----------
    past, ahead : (places, channels) and (steps, features) of its inputs.
    weights : of the model, in its order.
    centre, scale : (features,), what `ahead` is measured by.
    dials : that it was trained with.
    """

    past: tuple[int, int]
    ahead: tuple[int, int]
    weights: list[Floats]
    centre: Floats
    scale: Floats
    dials: Dials


@dataclass(frozen=True)
class _Built:
    """A compiled model; `first` are the values of all that training changes, at its beginning."""

    model: keras.Model
    learn: Callable[..., None]
    variables: list[keras.Variable]
    first: list[NDArray[np.generic]]


def train(windows: Windows, dials: Dials) -> Network:
    """Train on windows whose target is known.

    Quantiles learn by the pinball loss and the mean by squares, together.

    Returns
    -------
    Network; on a CPU, the same windows and dials give the same weights.
    """

    def learn(on_gpu: bool, divisor: int) -> Network:  # noqa: FBT001
        own = replace(dials, batch=max(dials.batch // divisor, 1))
        return replace(_train(windows, own, mixed=on_gpu), dials=dials)

    return placement.fit("the demand network", len(windows.past), learn)


def _train(windows: Windows, dials: Dials, *, mixed: bool) -> Network:
    centre = windows.ahead.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    scale = np.maximum(windows.ahead.std(axis=(0, 1), dtype=np.float64), 1e-3).astype(np.float32)
    places, channels = windows.past.shape[1:]
    steps, features = windows.ahead.shape[1:]
    sizes = (places, channels), (steps, features)
    built = _built(*sizes, dials.levels, dials.size, dials.seed, mixed=mixed)
    for variable, value in zip(built.variables, built.first, strict=True):
        variable.assign(value)
    random = np.random.default_rng(dials.seed)
    batches = dials.epochs * -(-len(windows.past) // dials.batch)
    for number, rows in enumerate(_batches(len(windows.past), dials, random)):
        rate = dials.learning_rate * (1 + np.cos(np.pi * number / batches)) / 2
        target = windows.target[rows]
        counted = np.isfinite(target)
        built.learn(
            windows.past[rows],
            _measured(windows.ahead[rows], centre, scale),
            np.where(counted, target, 0).astype(np.float32),
            np.where(counted, windows.weight[rows], 0).astype(np.float32),
            np.float32(rate),
        )
    weights = built.model.get_weights()
    return Network((places, channels), (steps, features), weights, centre, scale, dials)


def predict(network: Network, past: Floats, ahead: Floats) -> tuple[Floats, Floats]:
    """Return mean (rows, steps) and quantiles (rows, steps, levels), ascending."""
    dials = network.dials
    model = _built(network.past, network.ahead, dials.levels, dials.size, dials.seed).model
    model.set_weights(network.weights)
    measured = _measured(ahead, network.centre, network.scale)
    made = [
        np.asarray(model([past[at : at + _ROWS_AT_ONCE], measured[at : at + _ROWS_AT_ONCE]]))
        for at in range(0, len(past), _ROWS_AT_ONCE)
    ]
    found = np.concatenate(made)
    return found[..., 0], found[..., 1:]


def save(network: Network, path: Path) -> None:
    """Write the network in NumPy's `.npz`; same network, same bytes."""
    weights: dict[str, Any] = {f"weight_{at:02d}": each for at, each in enumerate(network.weights)}
    np.savez(
        path, past=network.past, ahead=network.ahead, levels=network.dials.levels,
        size=network.dials.size, centre=network.centre, scale=network.scale, **weights,
    )  # fmt: skip


def load(path: Path) -> Network:
    """Read what `save` wrote."""
    with np.load(path, allow_pickle=False) as kept:
        names = sorted(name for name in kept.files if name.startswith("weight_"))
        places, channels = kept["past"].tolist()
        steps, features = kept["ahead"].tolist()
        return Network(
            (places, channels), (steps, features), [kept[name] for name in names],
            kept["centre"], kept["scale"],
            Dials(tuple(kept["levels"].tolist()), size=int(kept["size"])),
        )  # fmt: skip


@lru_cache(maxsize=4)
def _built(
    past: tuple[int, int],
    ahead: tuple[int, int],
    levels: tuple[float, ...],
    size: int,
    seed: int,
    *,
    mixed: bool = False,
) -> _Built:
    """Build and compile the model of these shapes; the last few are kept."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    with placement.precision(mixed=mixed):
        model = _model(past, ahead, levels, size)
    adam = keras.optimizers.Adam(global_clipnorm=_LARGEST_SLOPE)
    adam.build(model.trainable_variables)
    variables = [*model.variables, *adam.variables]
    first = [np.asarray(each) for each in variables]
    return _Built(model, _learner(model, adam, levels), variables, first)


def _measured(ahead: Floats, centre: Floats, scale: Floats) -> Floats:
    found = (ahead - centre) / scale
    return np.asarray(np.clip(found, -_LARGEST_INPUT, _LARGEST_INPUT), np.float32)


def _model(
    past_shape: tuple[int, int], ahead_shape: tuple[int, int], levels: tuple[float, ...], size: int
) -> keras.Model:
    from scipy.stats import norm

    past = keras.Input(past_shape, name="past")
    ahead = keras.Input(ahead_shape, name="ahead")
    steps = ahead_shape[0]
    own, others = past[:, :, :1], past[:, :, 1:]
    state = layers.Dense(size)(ops.concatenate([ops.arcsinh(own), others], axis=2))
    while state.shape[1] > 1:
        pairs = layers.LayerNormalization(epsilon=1e-6)(state)
        pairs = layers.Conv1D(size, 2, strides=2, activation="relu")(pairs)
        state = pairs + layers.AveragePooling1D(2)(state)
    each = layers.RepeatVector(steps)(layers.Flatten()(state))
    each = layers.Dense(2 * size, activation="relu")(ops.concatenate([each, ahead], axis=2))
    each = layers.Dense(size, activation="relu")(each)
    # At first a normal distribution around the line.
    z = norm.ppf(levels)
    start = np.concatenate([[0.0, z[0]], np.log(np.expm1(np.diff(z)))])
    made = layers.Dense(
        1 + len(z), kernel_initializer="zeros", dtype="float32",
        bias_initializer=keras.initializers.Constant(start),
    )(each)  # fmt: skip
    stacked = ops.concatenate([made[:, :, 1:2], ops.softplus(made[:, :, 2:])], axis=2)
    made = ops.concatenate([made[:, :, :1], ops.cumsum(stacked, axis=2)], axis=2)
    flat = layers.Flatten()(own)
    line = layers.Dense(steps, use_bias=False, kernel_initializer="zeros", dtype="float32")(flat)
    line = layers.Reshape((steps, 1), dtype="float32")(line)
    made = layers.Add(name="found", dtype="float32")([made, line])
    return keras.Model([past, ahead], made, name="demand_network")


def _batches(count: int, dials: Dials, random: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    for _ in range(dials.epochs):
        order = random.permutation(count)
        for at in range(0, count, dials.batch):
            yield order[at : at + dials.batch]


def _learner(
    model: keras.Model, adam: keras.optimizers.Optimizer, levels: tuple[float, ...]
) -> Callable[..., None]:
    level = tf.constant(levels, tf.float32)
    shapes: Sequence[tuple[int | None, ...]] = [each.shape for each in model.inputs]
    known = tf.TensorSpec([None, model.inputs[1].shape[1]], tf.float32)
    signature = [
        *(tf.TensorSpec(shape, tf.float32) for shape in shapes), known, known,
        tf.TensorSpec([], tf.float32),
    ]  # fmt: skip

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def learn(
        past: tf.Tensor, ahead: tf.Tensor, target: tf.Tensor, weight: tf.Tensor, rate: tf.Tensor
    ) -> None:
        adam.learning_rate.assign(rate)
        with tf.GradientTape() as tape:
            made = model([past, ahead], training=True)
            missed = target[..., None] - made[..., 1:]
            pinball = tf.reduce_mean(tf.maximum(level * missed, (level - 1) * missed), axis=-1)
            square = (target - made[..., 0]) ** 2
            losses = (2 * pinball + square / 2) * weight
            loss = tf.reduce_sum(losses) / tf.maximum(tf.reduce_sum(weight), 1e-9)
        adam.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    return cast(Callable[..., None], learn)
