"""Network of dense layers that learns how often something is to be expected.

It learns the logarithm of a rate by the likelihood of Poisson counts. What comes out are plain
arrays: whoever computes with them needs no TensorFlow.

References
----------
Ramachandran et al. (2017), "Searching for activation functions" (SiLU, there Swish).
Loshchilov and Hutter (2019), "Decoupled weight decay regularization".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from ecom_tasks.training import placement  # first: how TensorFlow behaves is read at its import

# isort: split
import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Layer = tuple[Floats, Floats]
"""Kernel, shape (inputs, outputs), and bias, shape (outputs,). SiLU follows on all but the last."""
_WEIGHT_DECAY = 1e-3


@dataclass(frozen=True)
class Dials:
    """Size and length of training.

    Attributes
    ----------
    sizes : of the hidden layers.
    passes : over the rows.
    batch : rows learnt from at once.
    dropout : share of each hidden layer that is left out while learning.
    learning_rate : of the first steps; it falls to zero along a half cosine.
    seed : of the first weights, of what is left out and of the order of rows.
    """

    sizes: tuple[int, ...]
    passes: int
    batch: int
    dropout: float
    learning_rate: float
    seed: int


def train(columns: NDArray[Any], counts: Floats, weight: Floats, dials: Dials) -> list[Layer]:
    """Learn the log rate of counts.

    Parameters
    ----------
    columns : shape (rows, columns), of about unit size, nothing unknown
    counts, weight : shape (rows,)

    Returns
    -------
    The layers, the last of one output; on a CPU, the same rows and dials give the same numbers.
    """

    def learn(on_gpu: bool, divisor: int) -> list[Layer]:  # noqa: FBT001
        own = replace(dials, batch=max(dials.batch // divisor, 1))
        return _train(columns, counts, weight, own, mixed=on_gpu)

    return placement.fit("the network of expected counts", len(columns), learn)


def _train(
    columns: NDArray[Any], counts: Floats, weight: Floats, dials: Dials, *, mixed: bool
) -> list[Layer]:
    keras.utils.clear_session()
    keras.utils.set_random_seed(dials.seed)
    tf.config.experimental.enable_op_determinism()
    # It begins with the mean rate of all rows.
    start = float(np.log(max(float(np.average(counts, weights=weight)), 1e-9)))
    with placement.precision(mixed=mixed):
        model = _model(columns.shape[1], start, dials)
    adam = keras.optimizers.AdamW(weight_decay=_WEIGHT_DECAY)
    adam.build(model.trainable_variables)
    step = _step(model, adam)
    random = np.random.default_rng(dials.seed)
    # Weights of mean 1: the steps are as long whatever the rows stand for.
    weight = (weight / weight.mean()).astype(np.float32)
    each = -(-len(columns) // dials.batch)
    for done in range(dials.passes):
        order = random.permutation(len(columns))
        for number in range(each):
            rows = order[number * dials.batch : (number + 1) * dials.batch]
            progress = (done * each + number) / (dials.passes * each)
            rate = dials.learning_rate * (1 + np.cos(np.pi * progress)) / 2
            step(columns[rows].astype(np.float32), counts[rows], weight[rows], np.float32(rate))
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    return [
        (np.asarray(layer.kernel, np.float32), np.asarray(layer.bias, np.float32))
        for layer in dense
    ]


def _model(columns: int, start: float, dials: Dials) -> keras.Model:
    known = keras.Input((columns,), name="columns")
    hidden = known
    for size in dials.sizes:
        hidden = layers.Dense(size, activation="silu")(hidden)
        hidden = layers.Dropout(dials.dropout)(hidden)
    found = layers.Dense(
        1, bias_initializer=keras.initializers.Constant(start), dtype="float32", name="log_rate"
    )(hidden)
    return keras.Model(known, found, name="count_network")


def _step(model: keras.Model, adam: keras.optimizers.Optimizer) -> Callable[..., None]:
    row = tf.TensorSpec([None], tf.float32)
    signature = [tf.TensorSpec([None, model.input.shape[1]], tf.float32), row, row,
                 tf.TensorSpec([], tf.float32)]  # fmt: skip

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def step(columns: tf.Tensor, counts: tf.Tensor, weight: tf.Tensor, rate: tf.Tensor) -> None:
        adam.learning_rate.assign(rate)
        with tf.GradientTape() as tape:
            log_rate = model(columns, training=True)[:, 0]
            loss = tf.reduce_mean((tf.exp(log_rate) - counts * log_rate) * weight)
        adam.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    return cast(Callable[..., None], step)
