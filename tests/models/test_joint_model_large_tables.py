"""Tests that steps on only the rows of a batch equal steps on whole tables, to rounding.

NOTE: not to the bit, since TensorFlow computes the last values of an array, and 1 / sqrt in a graph, another way than
those in front of them: 2e-9 in a weight of 0.05 after a step.
"""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mtsearch.data.split import Split
from mtsearch.errors import OutOfMemory
from mtsearch.models import Device, JointTrainer
from mtsearch.models import graph_key as shape_module
from mtsearch.models import joint_scorer as scorer_module
from mtsearch.models.compiled_model import OPTIMIZERS, prepare_gradients
from mtsearch.models.graph_key import GraphKey, is_large
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import TutorialScorer, answer_of, go_on, numbers

CONFIG = TrialConfig(
    embedding_size=6, hidden_layers="8", batch_size=70, epochs=2, retrieval_weight=1e-3, learning_rate=0.05, seed=7
)
TOLERANCE = 1e-4  # Adam divides noise by noise where a gradient is nearly 0
EVERYTHING = {
    "rating_biases": True, "item_bias": True, "l2": 0.01, "embedding_dropout": 0.2, "balance": "uncertainty"
}  # fmt: skip


def test_large_is_a_table_of_many_batches() -> None:
    """MovieLens 100K has no large table; those of 25M are large at the tutorial's batch size, but not at 4 times it."""
    assert not any(is_large(rows, batch) for rows in (943, 1_682, 9_724) for batch in (1, 100, 8_192))
    assert is_large(162_000, 8_192)
    assert is_large(62_000, 8_192)
    assert not is_large(62_000, 4 * 8_192)


@pytest.fixture
def everything_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape_module, "LEAST_LARGE", 0)
    monkeypatch.setattr(shape_module, "LARGE_BATCHES", 0)


# Every pair of two of the three: how a gradient reaches the rows of a table depends on each.
@pytest.mark.parametrize(
    ("optimizer", "retrieval_loss", "rich"),
    [
        ("adam", "full", {}),
        pytest.param("adam", "full", EVERYTHING, marks=pytest.mark.slow),
        pytest.param("adam", "in_batch", EVERYTHING, marks=pytest.mark.slow),
        pytest.param("adagrad", "in_batch", {}, marks=pytest.mark.slow),
        pytest.param("adagrad", "full", EVERYTHING, marks=pytest.mark.slow),
        pytest.param("sgd", "full", {}, marks=pytest.mark.slow),
        pytest.param("sgd", "in_batch", EVERYTHING, marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else "rich" if value else "plain",
)
def test_a_trial_comes_to_the_same(
    optimizer: str, retrieval_loss: str, rich: dict[str, Any], trainer: JointTrainer, request: pytest.FixtureRequest
) -> None:
    config = TrialConfig.model_validate(
        {**CONFIG.model_dump(), **rich, "optimizer": optimizer, "retrieval_loss": retrieval_loss}
    )
    small = numbers(trainer.train(config, go_on)), weights_of(trainer, config)
    request.getfixturevalue("everything_large")
    large = numbers(trainer.train(config, go_on)), weights_of(trainer, config)
    assert {(shape.large_users, shape.large_items) for shape in list(trainer._compiled)[-2:]} == {
        (False, False), (True, True)
    }  # fmt: skip
    for epoch, expected_epoch in zip(large[0], small[0], strict=True):
        for name in ("rmse", "rating", "retrieval"):
            assert epoch[name] == pytest.approx(expected_epoch[name], rel=TOLERANCE)
    for weights, expected in zip(large[1], small[1], strict=True):
        assert np.linalg.norm(weights - expected) <= TOLERANCE * np.linalg.norm(expected)


def weights_of(trainer: JointTrainer, config: TrialConfig) -> list[NDArray[np.float32]]:
    return [variable.numpy() for variable in trainer.compiled_model(config).model.trainable_variables]


SIZE = 7


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(sorted(OPTIMIZERS)),
    st.lists(
        st.dictionaries(st.integers(0, SIZE - 1), st.floats(-1e3, 1e3, width=32), min_size=1), min_size=1, max_size=4
    ),
)
def test_rows_without_a_gradient_move_as_if_it_were_zero(name: str, steps: list[dict[int, float]]) -> None:
    """The oracle is Keras's optimiser on dense gradients: with Adam such rows move on, with others they stay."""
    start = np.linspace(-1, 1, SIZE * 2, dtype=np.float32).reshape(SIZE, 2)
    oracles = {"adagrad": "Adagrad", "adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
    ours, oracle = OPTIMIZERS[name](), getattr(tf.keras.optimizers, oracles[name])()
    if name == "adamw":
        ours.weight_decay.assign(oracle.weight_decay)
    tables = tf.Variable(start), tf.Variable(start)
    for optimizer in (ours, oracle):
        optimizer.learning_rate = 0.1
    for step in steps:
        rows = sorted(step)
        values = np.array([[step[row], -2 * step[row]] for row in rows], np.float32)
        dense = np.zeros_like(start)
        dense[rows] = values
        gradient = tf.IndexedSlices(tf.constant(values), tf.constant(rows), tf.constant(start.shape))
        [applied] = prepare_gradients([gradient], tables[:1], large_shape(name))
        assert isinstance(applied, tf.IndexedSlices) == (name in ("adagrad", "sgd"))
        ours.apply_gradients([(applied, tables[0])])
        oracle.apply_gradients([(tf.constant(dense), tables[1])])
    np.testing.assert_array_equal(tables[0], tables[1])


def large_shape(optimizer: str) -> GraphKey:
    shape = GraphKey.of(TrialConfig.model_validate({"optimizer": optimizer}), SIZE, SIZE)
    object.__setattr__(shape, "large_users", True)
    return shape


@pytest.mark.slow
def test_ratings_in_pieces_are_those_at_once(
    split: Split, device: Device, trainer: JointTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for biases in (False, True):
        config = CONFIG.model_copy(update={"rating_biases": biases, "epochs": 1})
        trainer.train(config, go_on)
        scorer, rows = TutorialScorer(trainer.last_model(), split.catalogue), split.validation
        whole = scorer.ratings(rows.users, rows.items)
        monkeypatch.setattr(scorer_module, "ROWS_AT_ONCE", 50)
        pieces = scorer.ratings(rows.users, rows.items)
        monkeypatch.undo()
        assert len(rows) > 100
        np.testing.assert_allclose(pieces, whole, rtol=1e-6)


def test_a_softmax_that_does_not_fit_fails_its_trial_alone(
    trainer: JointTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The softmax of 60 users and 80 items takes 4 bytes each and a tenth more: 21,120 bytes."""
    config = CONFIG.model_copy(update={"retrieval_loss": "full", "epochs": 1})
    monkeypatch.setattr(trainer, "_memory", 21_119)
    with pytest.raises(OutOfMemory, match='set retrieval_loss = "corrected"'):
        trainer.train(config, go_on)
    monkeypatch.setattr(trainer, "_memory", 21_120)
    assert trainer.train(config, go_on).curve


@pytest.mark.slow
def test_ratings_take_bounded_memory() -> None:
    """A million rows of 256 hidden values would take 1 GiB for each layer."""
    code = """
import json, resource
import numpy as np
from mtsearch.study_file.config import TrialConfig
from mtsearch.models import Device, JointTrainer
from tests.helpers.model_cases import TutorialScorer
from tests.helpers.model_cases import go_on, make_split

split = make_split()
trainer = JointTrainer(split, Device.default(2))
trainer.train(TrialConfig(epochs=1), go_on)
scorer = TutorialScorer(trainer.last_model(), split.catalogue)
users = np.sort(np.random.default_rng(0).integers(60, size=2**20)).astype(np.int32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ratings = scorer.ratings(users, users)
print(json.dumps([len(ratings), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10]))
"""
    count, mebibytes = answer_of(code)
    assert count == 2**20
    assert mebibytes < 500
