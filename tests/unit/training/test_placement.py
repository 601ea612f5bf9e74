"""Networks where they do not fit, and in the precision of a GPU: on a pretended one."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest

from ecom_tasks import device
from ecom_tasks.training import (
    count_network,
    demand_network,
    placement,
    sequence_model,
    two_tower,
)
from ecom_tasks.training.demand_network import Dials, Windows
from tests.unit.training import test_sequence_model as sequences
from tests.unit.training import test_two_tower as towers


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's."""


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_DEVICE", "gpu")
    monkeypatch.setattr(device, "gpus", lambda: 1)
    monkeypatch.setattr(device, "_ABLE", {"networks": lambda: True})


def test_smaller_batches_come_before_the_cpu() -> None:
    asked: list[tuple[bool, int]] = []

    def learn(on_gpu: bool, divisor: int) -> str:  # noqa: FBT001
        asked.append((on_gpu, divisor))
        if on_gpu:
            raise ResourceExhaustedError("OOM when allocating tensor")
        return "learnt"

    with device.recording() as seen:
        assert placement.fit("a network", 10, learn) == "learnt"
    assert asked == [(True, 1), (True, placement.SMALLER), (False, 1)]
    assert seen.device == "cpu"
    assert len(seen.fallbacks) == 2


def test_the_sequence_model_learns_in_16_bits_and_is_handed_out_in_32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policies = []
    teach = sequence_model._teach

    def look(model: keras.Model, *others: Any) -> None:
        policies.append(model.layers[-1].dtype_policy.name)
        policies.append(model.get_layer("product_vectors").dtype_policy.name)
        teach(model, *others)

    monkeypatch.setattr(sequence_model, "_teach", look)
    with device.recording() as seen:
        model = sequence_model.train(sequences.rounds(200), sequences.PRODUCTS, sequences.DIALS)
    assert seen.device == "cuda"
    assert policies == ["float32", "mixed_bfloat16"]  # states are of 32 bits, what makes them of 16
    assert model.get_layer("product_vectors").dtype_policy.name == "float32"
    asked = [sequences.history([(n + step) % 10 + 1 for step in range(4)]) for n in range(10)]
    assert sequences.follows(model, asked) == [(n + 4) % 10 + 1 for n in range(10)]


def test_the_towers_learn_in_16_bits_and_are_handed_out_in_32() -> None:
    known = two_tower.catalogue(towers.products(), towers.DIALS.vocabulary)
    made = two_tower.train([towers.pairs()], known, towers.DIALS)
    assert {layer.dtype_policy.name for layer in made.product.layers} == {"float32"}
    vectors = two_tower.embed(made.product, known.words)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    tea = known.product_ids.str.starts_with("tea").to_numpy()
    assert (vectors[tea] @ vectors[tea].T).min() > (vectors[tea] @ vectors[~tea].T).max()


def watched(monkeypatch: pytest.MonkeyPatch, network: ModuleType) -> list[keras.Model]:
    """Return a list that gets every model that the module builds from now on."""
    built: list[keras.Model] = []
    model = network._model

    def look(*told: Any) -> keras.Model:
        built.append(model(*told))
        return built[-1]

    monkeypatch.setattr(network, "_model", look)
    return built


def test_the_demand_network_learns_in_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    past = random.normal(size=(800, 8, 1)).astype(np.float32)
    ahead = random.integers(0, 2, size=(800, 3, 1)).astype(np.float32)
    target = (2 * ahead[..., 0]).astype(np.float32)
    windows = Windows(past, ahead, target, np.ones((800, 3), np.float32))
    dials = Dials((0.1, 0.5, 0.9), size=16, epochs=12, batch=64)
    built = watched(monkeypatch, demand_network)
    network = demand_network.train(windows, dials)
    assert "mixed_bfloat16" in {layer.dtype_policy.name for layer in built[0].layers}
    assert built[0].get_layer("found").dtype_policy.name == "float32"
    assert network.dials == dials
    mean, _ = demand_network.predict(network, past, ahead)
    assert np.abs(mean - target).mean() < 0.15


def test_the_count_network_learns_in_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    built = watched(monkeypatch, count_network)
    columns = np.random.default_rng(3).uniform(-1, 1, size=(500, 2)).astype(np.float32)
    counts = np.ones(500, np.float32)
    dials = count_network.Dials((8,), passes=2, batch=64, dropout=0.0, learning_rate=0.01, seed=1)
    layers = count_network.train(columns, counts, counts, dials)
    assert [layer.dtype_policy.name for layer in built[0].layers if layer.weights] == [
        "mixed_bfloat16", "float32",
    ]  # fmt: skip
    assert [(kernel.shape, bias.shape) for kernel, bias in layers] == [
        ((2, 8), (8,)),
        ((8, 1), (1,)),
    ]
    assert all(array.dtype == np.float32 for layer in layers for array in layer)
