"""The transformer on histories whose next product is planted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ecom_tasks.errors import ConfigError
from ecom_tasks.training import progress, sequence_model
from ecom_tasks.training.sequence_model import Dials, History

PRODUCTS = 10
DIALS = Dials(
    size=16, blocks=1, heads=2, length=8, pieces=4, dropout=0.0, negatives=0, epochs=12,
    patience=12, batch_places=256, learning_rate=0.01, validation_customers=0, bfloat16=False,
    seed=7,
)  # fmt: skip


def history(products: list[int], gaps: list[int] | None = None) -> History:
    return History(
        np.array(products, dtype=np.int32), np.array(gaps or [0] * len(products), dtype=np.int32)
    )


def rounds(customers: int, seed: int = 0) -> list[History]:
    """Every product is followed by the one of the next number, 10 by 1."""
    random = np.random.default_rng(seed)
    starts = random.integers(PRODUCTS, size=customers)
    lengths = random.integers(3, 15, size=customers)
    return [
        history([int(start + step) % PRODUCTS + 1 for step in range(length)])
        for start, length in zip(starts, lengths, strict=True)
    ]


def follows(model: object, histories: list[History], length: int = 8) -> list[int]:
    states = sequence_model.last_states(model, histories, length)
    return (np.argmax(states @ sequence_model.product_vectors(model).T, axis=1) + 1).tolist()


@pytest.mark.parametrize("negatives", [0, 6])
def test_it_learns_a_planted_order(negatives: int) -> None:
    model = sequence_model.train(rounds(200), PRODUCTS, replace(DIALS, negatives=negatives))
    asked = [history([(n + step) % 10 + 1 for step in range(4)]) for n in range(10)]
    assert follows(model, asked) == [(n + 4) % 10 + 1 for n in range(10)]


def test_it_reads_further_back_than_the_last_product() -> None:
    # After 1, 3 comes 4; after 2, 3 comes 5: only the product before the last one tells.
    taught = [history([first, 3, then]) for first, then in ((1, 4), (2, 5)) for _ in range(60)]
    model = sequence_model.train(taught, 5, replace(DIALS, epochs=30, batch_places=32))
    assert follows(model, [history([1, 3]), history([2, 3])]) == [4, 5]


def test_it_reads_the_time_between_events() -> None:
    # Soon after 1 comes 2, much later comes 3.
    taught = [history([1, then], [gap, 0]) for gap, then in ((1, 2), (9, 3)) for _ in range(60)]
    model = sequence_model.train(taught, 3, replace(DIALS, epochs=25))
    assert follows(model, [history([1], [1]), history([1], [9])]) == [2, 3]


def with_kinds(products: list[int], kinds: list[int]) -> History:
    return replace(history(products), kinds=np.array(kinds, dtype=np.int32))


def test_it_reads_the_kind_of_events_where_it_is_told(tmp_path: Path) -> None:
    # After 1 was looked at comes 2, after it was bought comes 3.
    taught = [with_kinds([1, then], [kind, 1]) for kind, then in ((1, 2), (2, 3))] * 60
    asked = [with_kinds([1], [1]), with_kinds([1], [2])]
    model = sequence_model.train(taught, 3, replace(DIALS, epochs=25), kinds=2)
    assert follows(model, asked) == [2, 3]
    sequence_model.export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    given = {"products": [[1], [1]], "gaps": [[0], [0]], "kinds": [[1], [2]]}
    (state,) = session.run(None, {name: np.int32(value) for name, value in given.items()})
    np.testing.assert_allclose(state, sequence_model.last_states(model, asked, 8), atol=1e-5)
    # Not told of kinds it cannot tell the two apart.
    blind = sequence_model.train(taught, 3, replace(DIALS, epochs=2))
    states = sequence_model.last_states(blind, asked, 8)
    np.testing.assert_array_equal(states[0], states[1])


def test_gap_buckets_double() -> None:
    days = np.array([0, 0.5, 1, 2.9, 3, 7, 1e9])
    # 1 + floor(log2(1 + days)), 15 at most.
    assert sequence_model.gap_bucket(days).tolist() == [1, 1, 2, 2, 3, 4, 15]


def test_padding_and_what_lies_beyond_the_length_change_nothing() -> None:
    model = sequence_model.train(rounds(50), PRODUCTS, replace(DIALS, epochs=1))
    short, long = history([1, 2, 3]), history([9, 9, *range(1, 9)])
    alone = sequence_model.last_states(model, [short], 8)
    beside = sequence_model.last_states(model, [long, short], 8)
    np.testing.assert_allclose(alone[0], beside[1], atol=1e-5)
    cut = sequence_model.last_states(model, [history(list(range(1, 9)))], 8)
    np.testing.assert_allclose(cut[0], beside[0], atol=1e-5)


def test_a_place_sees_nothing_that_comes_after_it() -> None:
    model = sequence_model.train(rounds(50), PRODUCTS, replace(DIALS, epochs=1))
    zeros = np.zeros((1, 4), dtype=np.int32)
    one = np.asarray(model([np.array([[1, 2, 3, 4]]), zeros]))
    other = np.asarray(model([np.array([[1, 2, 3, 9]]), zeros]))
    np.testing.assert_allclose(one[:, :3], other[:, :3], atol=1e-6)
    assert np.abs(one[:, 3] - other[:, 3]).max() > 1e-3


def test_long_histories_are_cut_from_their_end() -> None:
    dials = replace(DIALS, length=3, pieces=2)
    cut = sequence_model._pieces([history([1, 2, 3, 4, 5, 6, 7, 8])], dials)
    # Three places and what follows each; the oldest, 1, is beyond the second piece.
    assert [piece.products.tolist() for piece in cut] == [[5, 6, 7, 8], [2, 3, 4, 5]]


def test_a_customer_with_one_product_or_none_gets_a_state_all_the_same() -> None:
    model = sequence_model.train([*rounds(20), history([1])], PRODUCTS, replace(DIALS, epochs=1))
    states = sequence_model.last_states(model, [history([]), history([5])], 8)
    assert states.shape == (2, 16)
    assert np.isfinite(states).all()


def test_the_best_epoch_is_kept_and_training_stops() -> None:
    dials = replace(DIALS, validation_customers=30, epochs=60, patience=2, learning_rate=0.02)
    model = sequence_model.train(rounds(200), PRODUCTS, dials)
    asked = [history([(n + step) % 10 + 1 for step in range(4)]) for n in range(10)]
    assert follows(model, asked) == [(n + 4) % 10 + 1 for n in range(10)]


def test_the_same_input_makes_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        model = sequence_model.train(rounds(40), PRODUCTS, replace(DIALS, epochs=2, dropout=0.1))
        sequence_model.export_onnx(model, tmp_path / f"{name}.onnx")
        files.append((tmp_path / f"{name}.onnx").read_bytes())
    assert files[0] == files[1]
    session = onnxruntime.InferenceSession(files[0])
    asked = np.array([[0, 3, 4, 5], [1, 2, 3, 4]], dtype=np.int32)
    (state,) = session.run(["state"], {"products": asked, "gaps": np.zeros_like(asked)})
    expected = sequence_model.last_states(model, [history([3, 4, 5]), history([1, 2, 3, 4])], 8)
    np.testing.assert_allclose(state, expected, atol=1e-5)


def test_sixteen_bits_learn_the_planted_order_too() -> None:
    model = sequence_model.train(rounds(200), PRODUCTS, replace(DIALS, bfloat16=True))
    asked = [history([(n + step) % 10 + 1 for step in range(4)]) for n in range(10)]
    assert follows(model, asked) == [(n + 4) % 10 + 1 for n in range(10)]


def test_an_interrupted_training_is_gone_on_with_to_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dials = replace(DIALS, epochs=4, dropout=0.2, negatives=6, validation_customers=8)
    whole = sequence_model.train(rounds(40), PRODUCTS, dials)
    save = progress.save

    def cut_off(file: Path, at: progress.Progress) -> None:
        save(file, at)
        if at.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress, "save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        sequence_model.train(rounds(40), PRODUCTS, dials, tmp_path)
    passes: list[int] = []
    monkeypatch.setattr(
        progress, "save", lambda file, at: (save(file, at), passes.append(at.epoch))
    )
    resumed = sequence_model.train(rounds(40), PRODUCTS, dials, tmp_path)
    assert passes == [3, 4]
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # Finished: nothing is left to do. Other dials or data are another training.
    sequence_model.train(rounds(40), PRODUCTS, dials, tmp_path)
    assert passes == [3, 4]
    sequence_model.train(rounds(40, seed=1), PRODUCTS, replace(dials, epochs=1), tmp_path)
    assert passes == [3, 4, 1]


def test_damaged_progress_is_named(tmp_path: Path) -> None:
    dials = replace(DIALS, epochs=1)
    sequence_model.train(rounds(40), PRODUCTS, dials, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ConfigError, match="damaged"):
        sequence_model.train(rounds(40), PRODUCTS, dials, tmp_path)


@pytest.mark.parametrize("negatives", [0, 150])
def test_drawn_products_teach_the_same_odds_as_all(negatives: int) -> None:
    # After 1 comes 2 three times as often as 3; and 2 is drawn nine times as often as 3.
    taught = [history([1, 2])] * 90 + [history([1, 3])] * 30 + [history([4, 2])] * 180
    dials = replace(DIALS, negatives=negatives, epochs=40, batch_places=64)
    model = sequence_model.train(taught, 200, dials)
    states = sequence_model.last_states(model, [history([1])], 8)
    (scores,) = states @ sequence_model.product_vectors(model).T
    assert scores[1] - scores[2] == pytest.approx(np.log(3), abs=0.3)
