"""Two-tower model: a customer and a product as vectors, made from content alone.

The product tower reads a product's words (category path, brand, price band, title); the customer
tower reads the words of what the customer bought. So it also serves products and customers with
no history of their own. Both share their word vectors. Trained to tell a bought product from the
other products of the batch (in-batch softmax), corrected for how often a product is drawn.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ecom_tasks import texts
from ecom_tasks.training import placement  # first: how TensorFlow behaves is read at its import

# isort: split
import keras
import numpy as np
import polars as pl
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

WORDS = 10
"""Words read of a product, the most telling first."""
HISTORY = 8
"""Products read of a customer."""
_TEMPERATURE = 0.1
_PRICE_BANDS = 8
_BLOCK = 4096
_EPOCH = (1980, 1, 1, 0, 0, 0)
IntMatrix = NDArray[np.int32]
FloatMatrix = NDArray[np.float32]


@dataclass(frozen=True)
class Dials:
    """Size and length of training; see `RecommendationConfig` for the units."""

    embedding_size: int
    vocabulary: int
    epochs: int
    batch_size: int
    largest_sample: int
    seed: int


@dataclass(frozen=True)
class Catalogue:
    """Products as words.

    Attributes
    ----------
    product_ids : ascending, shape (products,)
    words : numbers of words, 0 where there are fewer, shape (products, WORDS)
    """

    product_ids: pl.Series
    words: IntMatrix


def catalogue(products: pl.DataFrame, vocabulary: int) -> Catalogue:
    """Read products as words, each hashed to a number.

    Parameters
    ----------
    products : product_id, title, category (path), brand, price; nulls are left out
    """
    rows = products.sort("product_id").with_columns(
        (pl.col("price").rank() / pl.len() * _PRICE_BANDS).ceil().cast(pl.Int64).alias("band")
    )
    words = np.zeros((rows.height, WORDS), dtype=np.int32)
    columns = rows.select("title", "category", "brand", "band")
    for row, (title, category, brand, band) in enumerate(columns.iter_rows()):
        found = _words(title, category, brand, band)[:WORDS]
        words[row, : len(found)] = [_number(word, vocabulary) for word in found]
    return Catalogue(rows["product_id"], words)


def _words(
    title: str | None, category: str | None, brand: str | None, band: int | None
) -> list[str]:
    levels = (category or "").split("/")
    paths = ["/".join(levels[: depth + 1]) for depth in range(len(levels))] if category else []
    found = [f"category {path}" for path in reversed(paths[:4])]
    found += [f"brand {brand}"] if brand else []
    found += [f"price {band}"] if band else []
    found += [f"title {word}" for word in (title or "").lower().replace(",", " ").split()]
    return list(dict.fromkeys(found))


def _number(word: str, vocabulary: int) -> int:
    # CRC-32 is the same everywhere and always; Python's own hash is salted. 0 means "no word".
    return 1 + zlib.crc32(word.encode()) % (vocabulary - 1)


def histories(parts: Iterable[pl.DataFrame], known: Catalogue) -> tuple[pl.Series, IntMatrix]:
    """Read customers as the words of the products they bought most lately.

    Parameters
    ----------
    parts : customer_id, product_id, recency_weighted_orders; all of a customer in one part

    Returns
    -------
    customer ids, ascending, and their words, shape (customers, HISTORY * WORDS)
    """
    places = known.product_ids.to_frame().with_row_index("place")
    best = pl.concat(
        texts.own(
            part
            .join(places, on="product_id")
            .sort(
                ["customer_id", "recency_weighted_orders", "product_id"],
                descending=[False, True, False],
            )
            .group_by("customer_id", maintain_order=True)
            .agg(pl.col("place").head(HISTORY))
        )
        for part in parts
    ).sort("customer_id")
    words = np.zeros((best.height, HISTORY, WORDS), dtype=np.int32)
    for row, chosen in enumerate(best["place"]):
        words[row, : len(chosen)] = known.words[chosen.to_numpy()]
    return best["customer_id"], words.reshape(best.height, HISTORY * WORDS)


@dataclass(frozen=True)
class TwoTower:
    """The trained towers; each maps words to vectors of length 1."""

    customer: keras.Model
    product: keras.Model


def train(parts: Iterable[pl.DataFrame], known: Catalogue, dials: Dials) -> TwoTower:
    """Train both towers on who bought what; on a CPU, same input, same weights.

    Parameters
    ----------
    parts : customer_id, product_id, recency_weighted_orders; all of a customer in one part
    """
    customers, words = histories(parts, known)
    pairs = _places(parts, customers, known)

    def learn(on_gpu: bool, divisor: int) -> TwoTower:  # noqa: FBT001
        own = replace(dials, batch_size=max(dials.batch_size // divisor, 2))
        trained = _train(pairs, words, known, own, mixed=on_gpu)
        if not on_gpu:
            return trained
        # Weights are of 32 bits either way; whoever reads them need not have a GPU.
        keras.utils.clear_session()
        plain, _ = _model(dials)
        plain.customer.set_weights(trained.customer.get_weights())
        plain.product.set_weights(trained.product.get_weights())
        return plain

    return placement.fit("the two towers", pairs.height, learn)


def _places(parts: Iterable[pl.DataFrame], customers: pl.Series, known: Catalogue) -> pl.DataFrame:
    """Return row, place: who, by the order of `customers`, bought what of `known`; sorted."""
    who = customers.to_frame("customer_id").with_row_index("row")
    what = known.product_ids.to_frame().with_row_index("place")
    return pl.concat(
        part.join(who, on="customer_id").join(what, on="product_id").select("row", "place")
        for part in parts
    ).sort("row", "place")


def _train(
    pairs: pl.DataFrame, words: IntMatrix, known: Catalogue, dials: Dials, *, mixed: bool
) -> TwoTower:
    # Names of layers are counted per process, and stand in the saved file.
    keras.utils.clear_session()
    keras.utils.set_random_seed(dials.seed)
    tf.config.experimental.enable_op_determinism()
    with placement.precision(mixed=mixed):
        both, model = _model(dials)
    count = np.bincount(pairs["place"].to_numpy(), minlength=len(known.product_ids))
    log_share = np.log(np.maximum(count, 1) / pairs.height).astype(np.float32)
    rows, places = pairs["row"].to_numpy(), pairs["place"].to_numpy()
    random = np.random.default_rng(dials.seed)
    batch = min(dials.batch_size, pairs.height)
    label = np.arange(batch)
    model.compile(
        keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    for _ in range(dials.epochs):
        order = random.permutation(pairs.height)[: dials.largest_sample]
        for start in range(0, len(order) - batch + 1, batch):
            at = order[start : start + batch]
            batch_words = [words[rows[at]], known.words[places[at]], log_share[places[at]]]
            model.train_on_batch(batch_words, label)
    return both


def _model(dials: Dials) -> tuple[TwoTower, keras.Model]:
    embedding = layers.Embedding(dials.vocabulary, dials.embedding_size, mask_zero=True)

    def tower(name: str, length: int) -> keras.Model:
        words = keras.Input((length,), dtype="int32")
        hidden = layers.GlobalAveragePooling1D()(embedding(words))
        hidden = layers.Dense(2 * dials.embedding_size, activation="relu")(hidden)
        vector = layers.Dense(dials.embedding_size)(hidden)
        return keras.Model(words, layers.UnitNormalization(dtype="float32")(vector), name=name)

    both = TwoTower(tower("customer", HISTORY * WORDS), tower("product", WORDS))
    customer = keras.Input((HISTORY * WORDS,), dtype="int32")
    product = keras.Input((WORDS,), dtype="int32")
    log_share = keras.Input((), dtype="float32")
    logits = keras.ops.matmul(both.customer(customer), keras.ops.transpose(both.product(product)))
    # A popular product is drawn more often as somebody else's; without this it would be punished.
    logits = logits / _TEMPERATURE - keras.ops.expand_dims(log_share, 0)
    return both, keras.Model([customer, product, log_share], logits)


def embed(tower: keras.Model, words: IntMatrix) -> FloatMatrix:
    """Return vectors of length 1, shape (rows, embedding_size)."""
    blocks = (words[start : start + _BLOCK] for start in range(0, len(words), _BLOCK))
    return np.concatenate([np.asarray(tower(block), dtype=np.float32) for block in blocks])


def save(tower: keras.Model, path: Path) -> None:
    """Write a `.keras` file whose bytes depend on the model only, not on the hour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = path.with_suffix(".raw.keras")
    tower.save(raw)
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(path, "w") as target:
        for name in sorted(source.namelist()):
            data = source.read(name)
            if name == "metadata.json":
                facts = json.loads(data) | {"date_saved": ""}
                data = json.dumps(facts, sort_keys=True).encode()
            if name == "config.json":
                data = _without_addresses(data)
            target.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    raw.unlink()


def _without_addresses(config: bytes) -> bytes:
    """Number shared objects by their order, where Keras writes their place in memory."""
    places = dict.fromkeys(re.findall(rb'"shared_object_id": (\d+)', config))
    for number, place in enumerate(places):
        config = config.replace(
            b'"shared_object_id": ' + place, b'"shared_object_id": ' + str(number).encode()
        )
    return config
