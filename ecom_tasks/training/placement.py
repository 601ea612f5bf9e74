"""Neural networks on the device that suits their size: on a GPU in mixed precision.

There, products are of 16 bits (`bfloat16`, whose range is that of 32 bits, so that no loss need be
scaled), sums and weights of 32. What does not fit is learnt in smaller batches, then on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

# Read by whoever imports TensorFlow first: quiet, and the same bytes from run to run. oneDNN adds
# in another order each time; it is faster by a quarter, for whoever sets the variable to 1.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from ecom_tasks import device
from ecom_tasks.device import Attempt

T = TypeVar("T")
SMALLER = 4
"""By what a batch that does not fit is divided."""


def fit(what: str, size: int, learn: Callable[[bool, int], T]) -> T:
    """Return what `learn(on_gpu, divisor)` gives on the first device that has room for it.

    Parameters
    ----------
    what : is learnt, for people
    size : windows, events or pairs that it is learnt from
    learn : sets everything up anew; divides its batches by `divisor`
    """
    on_cpu = Attempt("cpu", "the CPU", partial(_placed, "CPU", learn, 1))
    if device.choose("networks", size) == "cpu":
        return device.first_that_fits(what, [on_cpu])
    smaller = f"the GPU with batches of a {SMALLER}th"
    return device.first_that_fits(
        what,
        [
            Attempt("cuda", "the GPU", partial(_placed, "GPU", learn, 1)),
            Attempt("cuda", smaller, partial(_placed, "GPU", learn, SMALLER)),
            on_cpu,
        ],
    )


def _placed(kind: str, learn: Callable[[bool, int], T], divisor: int) -> T:
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    with _sharing(found), tf.device(f"/{kind}:0") if found else nullcontext():
        return learn(kind == "GPU", divisor)


@contextmanager
def _sharing(found: list[Any]) -> Iterator[None]:
    """Have TensorFlow take memory as it needs it: trees and tables use the same device."""
    import tensorflow as tf

    for each in found:
        try:
            tf.config.experimental.set_memory_growth(each, enable=True)
        except RuntimeError:  # it has begun already
            break
    yield


@contextmanager
def precision(*, mixed: bool) -> Iterator[None]:
    """Build layers of 16-bit products in the block, or of 32-bit ones."""
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16" if mixed else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")
