"""Sequential transformer: which product follows, read from the order of a history.

Causal self-attention (SASRec): at each place of a history the state is compared with the vectors
of products, and trained to point at the next one among all products, or among many drawn ones.
A single drawn negative, as in the first paper, makes the model overconfident and costs most of
its accuracy. Drawn products are weighed by their chance of being drawn (log-Q correction).

References
----------
Kang and McAuley (2018), "Self-attentive sequential recommendation", ICDM.
Klenitskiy and Vasilev (2023), "Turning dross into gold loss", RecSys: the loss over all products.
Yang et al. (2020), "Mixed negative sampling for learning two-tower neural networks", WWW.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecom_tasks.training import placement  # first: how TensorFlow behaves is read at its import

# isort: split
import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray

from ecom_tasks.logs import track
from ecom_tasks.training import progress

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)
IntArray = NDArray[np.int32]
FloatMatrix = NDArray[np.float32]
GAPS = 16
"""Buckets of the time between two events: doubling, the last one open."""
_LENGTHS = 8
_AWAY = -1e9


@dataclass(frozen=True)
class Dials:
    """Size and length of training; see `RecommendationConfig` for the units."""

    size: int
    blocks: int
    heads: int
    length: int
    pieces: int
    dropout: float
    negatives: int
    epochs: int
    patience: int
    batch_places: int
    learning_rate: float
    validation_customers: int
    bfloat16: bool
    seed: int


@dataclass(frozen=True)
class History:
    """What one customer did, oldest first.

    Attributes
    ----------
    products : numbers from 1, shape (events,)
    gaps : bucket of the time from each event to the next, of the last one to now; see `gap_bucket`
    kinds : numbers from 1 of what kind of event each was; none: events are of one kind
    """

    products: IntArray
    gaps: IntArray
    kinds: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))

    def part(self, start: int, end: int) -> History:
        """Return the events from `start` to before `end`."""
        return History(self.products[start:end], self.gaps[start:end], self.kinds[start:end])


def gap_bucket(days: NDArray[np.float64]) -> IntArray:
    """Return 1 for less than a day, then one more for every doubling, `GAPS` - 1 at most."""
    bucket = 1 + np.log2(1 + np.maximum(days, 0))
    return np.asarray(np.minimum(bucket, GAPS - 1), dtype=np.int32)


def train(
    histories: Sequence[History],
    products: int,
    dials: Dials,
    folder: Path | None = None,
    kinds: int = 0,
) -> keras.Model:
    """Train on what followed what; the best epoch on held-out customers' last events is kept.

    Parameters
    ----------
    histories : one a customer; those with a single event teach nothing
    products : how many there are; their numbers are 1 to `products`
    kinds : how many kinds of events; 0: the histories do not say
    folder : where the progress is kept after each epoch, and gone on with if the same training
        (histories and dials) was interrupted; None: nowhere

    Returns
    -------
    Model (products, gaps) -> states: two integer inputs of shape (rows, places), 0 for padding on
    the left, to shape (rows, places, size); with kinds, these are a third input. The next product
    is the one whose vector, a row of `product_vectors`, has the largest inner product with the last
    state.

    Raises
    ------
    ConfigError
        The folder cannot be written to, or holds a damaged file.
    """

    def learn(on_gpu: bool, divisor: int) -> keras.Model:  # noqa: FBT001
        # Names of layers are counted per process, and stand in the saved file.
        keras.utils.clear_session()
        keras.utils.set_random_seed(dials.seed)
        tf.config.experimental.enable_op_determinism()
        own = replace(
            dials,
            bfloat16=dials.bfloat16 or on_gpu,
            batch_places=max(dials.batch_places // divisor, dials.length),
        )
        model = _built(products, own, kinds)
        _teach(model, histories, products, own, folder)
        if own.bfloat16 == dials.bfloat16:
            return model
        # Weights are of 32 bits either way; whoever reads them need not have a GPU.
        keras.utils.clear_session()
        plain = _built(products, dials, kinds)
        plain.set_weights(model.get_weights())
        return plain

    events = sum(len(each.products) for each in histories)
    return placement.fit("the sequence model", events, learn)


def _built(products: int, dials: Dials, kinds: int) -> keras.Model:
    with placement.precision(mixed=dials.bfloat16):
        return _model(products, dials, kinds)


def _teach(
    model: keras.Model,
    histories: Sequence[History],
    products: int,
    dials: Dials,
    folder: Path | None,
) -> None:
    taught, questions = _hold_out(histories, dials)
    pieces = _pieces(taught, dials)
    learn, variables = _learner(model, _frequency(pieces, products), dials)
    random = np.random.default_rng(dials.seed)
    at, file = progress.Progress(kept=model.get_weights()), None
    if folder:
        events = (
            array
            for each in histories
            for array in (each.products, each.gaps, each.kinds)[: len(model.inputs)]
        )
        file = progress.file_of(folder, (products, dials), events)
        at = _resume(file, variables, random) or at
    epochs = range(dials.epochs if at.done else at.epoch, dials.epochs)
    for epoch in track(epochs, "epochs of the sequence model", len(epochs)):
        # Ever smaller steps: the last passes settle what the first ones found.
        rate = dials.learning_rate * (1 + np.cos(np.pi * epoch / dials.epochs)) / 2
        batches = _batches(pieces, dials, random)
        used = len(model.inputs)
        losses = [
            float(learn(known[:used], follows, np.float32(rate))) for known, follows in batches
        ]
        at.epoch = epoch + 1
        if questions:
            value = _ndcg(model, questions, dials)
            log.info("epoch %d: loss %.4f, NDCG@10 %.4f", at.epoch, np.mean(losses), value)
            if at.better(value, dials.patience):
                at.kept = model.get_weights()
        if file:
            at.random = dict(random.bit_generator.state)
            at.state = [np.asarray(variable) for variable in variables]
            progress.save(file, at)
        if at.done:
            break
    if questions:
        model.set_weights(at.kept)


def _resume(
    file: Path, variables: list[Any], random: np.random.Generator
) -> progress.Progress | None:
    """Put everything where it stood after the last epoch that was kept."""
    if found := progress.load(file):
        random.bit_generator.state = found.random
        for variable, value in zip(variables, found.state, strict=True):
            variable.assign(value)
    return found


def _model(products: int, dials: Dials, kinds: int = 0) -> keras.Model:
    tokens = keras.Input((None,), dtype="int32", name="products")
    gaps = keras.Input((None,), dtype="int32", name="gaps")
    present = ops.cast(ops.not_equal(tokens, 0), "int32")
    # Counted from the end, so that a short history needs no padding to its full length.
    place = ops.flip(ops.cumsum(ops.ones_like(tokens), axis=1), axis=1) - 1
    small = keras.initializers.RandomNormal(stddev=0.02, seed=dials.seed)
    vectors = layers.Embedding(products + 1, dials.size, embeddings_initializer=small,
                               name="product_vectors")(tokens)  # fmt: skip
    state = vectors + layers.Embedding(dials.length, dials.size, embeddings_initializer=small)(
        place
    )
    state = state + layers.Embedding(GAPS, dials.size, embeddings_initializer="zeros")(gaps)
    inputs = [tokens, gaps]
    if kinds:
        inputs.append(keras.Input((None,), dtype="int32", name="kinds"))
        state = state + layers.Embedding(kinds + 1, dials.size, embeddings_initializer="zeros")(
            inputs[-1]
        )
    state = layers.Dropout(dials.dropout)(state)
    # A place sees itself and what came before, and no padding.
    causal = ops.expand_dims(place, 2) <= ops.expand_dims(place, 1)
    seen = ops.logical_and(causal, ops.expand_dims(ops.equal(present, 1), 1))
    hidden = ops.where(ops.expand_dims(seen, 1), 0.0, _AWAY)
    for _ in range(dials.blocks):
        state = state + _attention(layers.LayerNormalization(epsilon=1e-6)(state), hidden, dials)
        inner = layers.LayerNormalization(epsilon=1e-6)(state)
        inner = layers.Dense(2 * dials.size, activation="relu")(inner)
        state = state + layers.Dropout(dials.dropout)(layers.Dense(dials.size)(inner))
    state = layers.LayerNormalization(epsilon=1e-6, dtype="float32", name="states")(state)
    return keras.Model(inputs, state, name="sequence_model")


def _attention(state: keras.KerasTensor, hidden: keras.KerasTensor, dials: Dials) -> object:
    """Attend with plain operations: every reader of an open format knows them."""
    width = dials.size // dials.heads

    def heads(tensor: keras.KerasTensor) -> keras.KerasTensor:
        split = layers.Reshape((-1, dials.heads, width))(tensor)
        return ops.transpose(split, (0, 2, 1, 3))

    query, key, value = (heads(layers.Dense(dials.size)(state)) for _ in range(3))
    weight = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / width**0.5 + hidden
    weight = layers.Dropout(dials.dropout)(ops.softmax(weight, axis=-1))
    together = layers.Reshape((-1, dials.size))(
        ops.transpose(ops.matmul(weight, value), (0, 2, 1, 3))
    )
    return layers.Dropout(dials.dropout)(layers.Dense(dials.size)(together))


def _hold_out(
    histories: Sequence[History], dials: Dials
) -> tuple[list[History], list[tuple[History, int]]]:
    """Take the last event of some customers away from training, to stop by."""
    able = [row for row, each in enumerate(histories) if len(each.products) > 2]
    random = np.random.default_rng(dials.seed)
    asked = set(random.permutation(able)[: min(dials.validation_customers, len(able) // 5)])
    taught, questions = [], []
    for row, each in enumerate(histories):
        if row in asked:
            before = each.part(0, len(each.products) - 1)
            questions.append((before, int(each.products[-1])))
            taught.append(before)
        else:
            taught.append(each)
    return taught, questions


def _pieces(histories: Sequence[History], dials: Dials) -> list[History]:
    """Cut long histories, from their end, into pieces of `length` places and what follows each."""
    length = dials.length
    return [
        each.part(start, end)
        for each in histories
        for end in range(len(each.products), 1, -length)[: dials.pieces]
        for start in [max(0, end - length - 1)]
    ]


def _batches(
    pieces: Sequence[History], dials: Dials, random: np.random.Generator
) -> Iterator[tuple[list[IntArray], IntArray]]:
    """Yield products, gaps and kinds; and next products; shape (rows, places), in random order.

    Pieces of like length go together, so that little is padded; there are few shapes, each
    compiled once.
    """
    step = -(-dials.length // _LENGTHS)
    places = np.array([-(-(len(each.products) - 1) // step) * step for each in pieces])
    plan = []
    for length in np.unique(places):
        rows = max(1, dials.batch_places // int(length))
        members = random.permutation(np.flatnonzero(places == length))
        plan += [(int(length), rows, members[at : at + rows])
                 for at in range(0, len(members), rows)]  # fmt: skip
    for at in random.permutation(len(plan)):
        length, rows, members = plan[at]
        length = min(length, dials.length)
        some = [pieces[member] for member in members]
        follows = np.zeros((rows, length), dtype=np.int32)
        for row, piece in enumerate(some):
            follows[row, length + 1 - len(piece.products) :] = piece.products[1:]
        before = [piece.part(0, len(piece.products) - 1) for piece in some]
        yield _padded(before, rows, length), follows


def _padded(histories: Sequence[History], rows: int, places: int) -> list[IntArray]:
    """Return the newest products, gaps and kinds, shape (rows, places), 0 on the left."""
    found = np.zeros((3, rows, places), dtype=np.int32)
    for row, each in enumerate(histories):
        for number, array in enumerate((each.products, each.gaps, each.kinds)):
            if known := min(len(array), places):
                found[number, row, places - known :] = array[-known:]
    return list(found)


def _frequency(pieces: Sequence[History], products: int) -> NDArray[np.float64]:
    """Return the share of each product, from number 0 on, among what must be pointed at."""
    follows = np.concatenate([each.products[1:] for each in pieces] or [np.zeros(0, np.int32)])
    return np.bincount(follows, minlength=products + 1) / max(len(follows), 1)


def _learner(
    model: keras.Model, frequency: NDArray[np.float64], dials: Dials
) -> tuple[Callable[..., tf.Tensor], list[Any]]:
    """Return a function that learns from one batch at a rate and returns its mean loss.

    Beside it, the variables that it changes: weights, the optimizer's moments and random states.
    """
    adam = keras.optimizers.Adam(dials.learning_rate, beta_2=0.98)
    adam.build(model.trainable_variables)
    table = model.get_layer("product_vectors").embeddings
    width = tf.bfloat16 if dials.bfloat16 else tf.float32
    products = len(frequency) - 1
    sampled = 0 < dials.negatives < products
    # Half of the drawn products by how often they follow, half of them alike: what competes with
    # the right answer is mostly popular, and what is rare must be kept down too.
    often = dials.negatives // 2
    below = tf.constant(np.cumsum(frequency), tf.float64)
    expected = (dials.negatives - often) / products + often * frequency
    log_expected = tf.constant(np.log(np.maximum(expected, 1e-12)), tf.float32)
    seeds = tf.random.Generator.from_seed(dials.seed)

    def loss_of(states: tf.Tensor, follows: tf.Tensor) -> tf.Tensor:
        states = tf.cast(tf.reshape(states, (-1, dials.size)), width)
        target = tf.reshape(follows, (-1,))
        if not sampled:
            logits = tf.matmul(states, tf.cast(table[1:], width), transpose_b=True)
            return tf.nn.sparse_softmax_cross_entropy_with_logits(
                tf.maximum(target - 1, 0), tf.cast(logits, tf.float32)
            )
        any_of = seeds.uniform((dials.negatives - often,), 1, products + 1, dtype=tf.int32)
        at = seeds.uniform((often,), 0, below[-1], dtype=tf.float64)
        drawn = tf.concat([any_of, tf.searchsorted(below, at, side="right")], axis=0)
        chosen = tf.cast(tf.gather(table, drawn), width)
        others = tf.cast(tf.matmul(states, chosen, transpose_b=True), tf.float32)
        # Each stands for as many as its chance says, so that their sum estimates that over all.
        others -= tf.gather(log_expected, drawn)
        # The right answer may be drawn as a wrong one.
        others = tf.where(drawn[None, :] == target[:, None], _AWAY, others)
        right = tf.reduce_sum(tf.cast(states, tf.float32) * tf.gather(table, target), axis=1)
        return tf.nn.softplus(tf.reduce_logsumexp(others, axis=1) - right)

    # XLA compiles each shape anew; without it one graph serves all, and tracing is not for nothing.
    on_gpu = "GPU" in tf.constant(0.0).device
    places = tf.TensorSpec([None, None], tf.int32)
    inputs = [places] * len(model.inputs)
    signature = None if on_gpu else [inputs, places, tf.TensorSpec([], tf.float32)]

    @tf.function(  # type: ignore[untyped-decorator]
        jit_compile=on_gpu, input_signature=signature
    )
    def learn(known: list[tf.Tensor], follows: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        adam.learning_rate.assign(tf.cast(rate, tf.float32))
        weight = tf.cast(tf.reshape(follows, (-1,)) > 0, tf.float32)
        with tf.GradientTape() as tape:
            losses = loss_of(model(known, training=True), follows)
            loss = tf.reduce_sum(losses * weight) / tf.maximum(tf.reduce_sum(weight), 1)
        slopes = tape.gradient(loss, model.trainable_variables)
        adam.apply(slopes, model.trainable_variables)
        return loss

    return learn, [*model.variables, *adam.variables, seeds.state]


def last_states(
    model: keras.Model, histories: Sequence[History], length: int, rows: int = 256
) -> FloatMatrix:
    """Return where each history leads, shape (histories, size)."""
    found = np.zeros((len(histories), model.output_shape[-1]), dtype=np.float32)
    sizes = np.array([min(len(each.products), length) for each in histories])
    order = np.argsort(sizes, kind="stable")
    step = -(-length // _LENGTHS)
    for start in range(0, len(order), rows):
        at = order[start : start + rows]
        places = min(-(-int(max(sizes[at].max(), 1)) // step) * step, length)
        known = _padded([histories[member] for member in at], len(at), places)
        found[at] = np.asarray(_run(model, known[: len(model.inputs)]))
    return found


@tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
def _run(model: keras.Model, known: list[tf.Tensor]) -> tf.Tensor:
    return model(known, training=False)[:, -1]


def load(file: Path) -> keras.Model:
    """Read a trained model from a `.keras` file; nothing in it is run."""
    return keras.saving.load_model(file, compile=False, safe_mode=True)


def product_vectors(model: keras.Model) -> FloatMatrix:
    """Return one row a product, that of product 1 first, shape (products, size)."""
    table = np.asarray(model.get_layer("product_vectors").embeddings, dtype=np.float32)
    return table[1:]


def _ndcg(model: keras.Model, questions: list[tuple[History, int]], dials: Dials) -> float:
    """NDCG@10 of the held-out events among the products that are new to their customers."""
    states = last_states(model, [each for each, _ in questions], dials.length)
    vectors = product_vectors(model)
    gains = []
    for start in range(0, len(questions), 512):
        part = questions[start : start + 512]
        scores = states[start : start + 512] @ vectors.T
        right = np.array([scores[row, product - 1] for row, (_, product) in enumerate(part)])
        for row, (each, _) in enumerate(part):
            scores[row, each.products - 1] = -np.inf
        rank = (scores > right[:, None]).sum(axis=1)
        gains.append(np.where(rank < 10, 1 / np.log2(rank + 2), 0))
    return float(np.concatenate(gains).mean())


def export_onnx(model: keras.Model, path: Path) -> None:
    """Write the model in an open format; same model, same bytes.

    Inputs `products` and `gaps`, and `kinds` if it reads them, int32 of shape (rows, places);
    output: the last state of each row, float32 of shape (rows, size).
    """
    import tf2onnx

    signature = [tf.TensorSpec([None, None], tf.int32, name=each.name) for each in model.inputs]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def last(*known: tf.Tensor) -> tf.Tensor:
        return tf.identity(tf.cast(model(list(known))[:, -1], tf.float32), name="state")

    converted, _ = tf2onnx.convert.from_function(last, input_signature=signature, opset=17)
    _rename(converted.graph)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(converted.SerializeToString(deterministic=True))


def _rename(graph: onnx.GraphProto) -> None:
    """Sort and name everything by its way to the output; the converter's own order is random."""
    nodes, tensors = _by_use(graph)
    names = {each.name: each.name for each in graph.input} | {"": ""}
    for number, tensor in enumerate(tensors):
        names[tensor.name] = tensor.name = f"weight_{number}"
    for number, node in enumerate(nodes):
        names |= {each: f"node_{number}_{at}" for at, each in enumerate(node.output)}
    names[graph.output[0].name] = "state"
    for number, node in enumerate(nodes):
        node.name = f"node_{number}"
        node.input[:] = [names[each] for each in node.input]
        node.output[:] = [names[each] for each in node.output]
    for part in ("node", "initializer", "value_info"):
        graph.ClearField(part)
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    graph.name, graph.doc_string = "sequence_model", ""
    graph.output[0].name = "state"
    for each in (*graph.input, *graph.output):
        for size, name in zip(each.type.tensor_type.shape.dim, ("rows", "places"), strict=True):
            if size.dim_param:
                size.dim_param = name


def _by_use(graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return copies of nodes and weights in the order in which the output needs them."""
    made_by = {output: node for node in graph.node for output in node.output}
    weights = {each.name: each for each in graph.initializer}
    seen = {each.name for each in graph.input} | {""}
    nodes, tensors = [], []
    waiting = [(graph.output[0].name, False)]
    while waiting:
        name, ready = waiting.pop()
        if name in seen:
            continue
        if name in made_by and not ready:
            waiting.append((name, True))
            waiting += [(each, False) for each in reversed(made_by[name].input)]
        elif name in made_by:
            nodes.append(copy.deepcopy(made_by[name]))
            seen |= set(made_by[name].output)
        else:
            tensors.append(copy.deepcopy(weights[name]))
            seen.add(name)
    return nodes, tensors
