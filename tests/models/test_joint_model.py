"""Tests of `JointModel`: its initial weights, its loss, and the configurations that share a graph."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from mtsearch.data.split import Split
from mtsearch.models.graph_key import GraphKey
from mtsearch.models.joint_model import JointModel
from mtsearch.models.tasks import SortedIndex
from mtsearch.study_file.config import TrialConfig
from tests.helpers.stock import initial_model


def model_of(split: Split, seed: int) -> JointModel:
    return initial_model(split, TrialConfig(embedding_size=24, seed=seed))


def test_it_starts_as_keras_layers_do(split: Split) -> None:
    """Weights are uniform in the limits of the stock layers, biases are 0, and no two weights are drawn alike."""
    model = model_of(split, seed=3)
    limits = {(60, 24): 0.05, (80, 24): 0.05} | {shape: _glorot(*shape) for shape in ((48, 256), (256, 128), (128, 1))}
    matrices = [variable.numpy() for variable in model.trainable_variables if variable.shape.rank == 2]
    assert sorted(matrix.shape for matrix in matrices) == sorted(limits)
    for matrix in matrices:
        limit = limits[matrix.shape]
        assert 0.95 * limit < np.abs(matrix).max() <= limit
        assert matrix.std() == pytest.approx(limit / np.sqrt(3), rel=0.15)
    assert not any(variable.numpy().any() for variable in model.trainable_variables if variable.shape.rank == 1)
    first_numbers = {round(float(matrix.flat[0]) / limits[matrix.shape], 4) for matrix in matrices}
    assert len(first_numbers) == len(matrices)


def _glorot(fan_in: int, fan_out: int) -> float:
    return float(np.sqrt(6 / (fan_in + fan_out)))


def test_each_seed_starts_from_weights_of_its_own(split: Split) -> None:
    one, same, other = (model_of(split, seed).trainable_variables for seed in (1, 1, 2))
    for first, second, third in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(first, second)
        assert first.shape.rank == 1 or not np.isclose(first, third).all(axis=1).any()


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (2.0, 0.5)])
def test_the_loss_is_the_weighted_sum_of_the_stock_tasks(split: Split, weights: tuple[float, float]) -> None:
    model, rows = model_of(split, seed=1), split.train.take(np.arange(200))
    model.trial_inputs.weights[0].assign(weights[0])
    model.trial_inputs.weights[1].assign(weights[1])
    inputs = {
        "users": tf.constant(rows.users),
        "items": tf.constant(rows.items),
        "targets": (tf.constant(rows.ratings),),
    }
    task = model.graph_key.tasks[0]
    predictions = model.predictions(
        task, model.tables(task), SortedIndex(inputs["users"]), SortedIndex(inputs["items"])
    )
    rating = tf_keras.losses.MeanSquaredError()(rows.ratings[:, None], predictions[:, None])
    logits = tf.gather(model.user_table, rows.users) @ tf.transpose(tf.gather(model.item_table, rows.items))
    retrieval = tf.reduce_sum(tf.reduce_logsumexp(logits, axis=1) - tf.linalg.diag_part(logits))
    expected = weights[0] * float(rating) + weights[1] * float(retrieval)
    assert float(model.compute_loss(inputs)) == pytest.approx(expected, rel=1e-5)


# What each field may be besides its default, and whether that takes another graph.
OTHER_VALUES: dict[str, list[tuple[Any, bool]]] = {
    "losses": [("normalized", True)],
    "weights": [({"rating": 2.0}, False)],
    "sharing": [("projections", True), ("experts", True)],
    "experts": [(6, False)],
    "rating_weight": [(3.0, False), (0.0, False)],
    "retrieval_weight": [(3.0, False), (0.0, False)],
    "balance": [("dwa", False), ("uncertainty", True)],
    "embedding_size": [(33, True)],
    "retrieval_loss": [("corrected", True), ("full", True), ("squared", True)],
    "unobserved_weight": [(0.5, False)],
    "temperature": [(0.1, False)],
    "normalize": [(True, True)],
    "item_bias": [(True, True)],
    "remove_accidental_hits": [(True, True)],
    "rating_biases": [(True, True)],
    "dot_product": [(True, True)],
    "elementwise_product": [(True, True)],
    "hidden_layers": [("", True), ("256", True)],
    "embedding_dropout": [(0.1, True)],
    "hidden_dropout": [(0.1, True)],
    "optimizer": [("adam", True), ("adamw", True), ("sgd", True)],
    "learning_rate": [(0.5, False)],
    "schedule": [("cosine", False)],
    "l2": [(0.1, True)],
    "weight_decay": [(0.1, False)],
    "precision": [("bfloat16", True)],
    "batch_size": [(100, False)],
    "epochs": [(9, False)],
    "patience": [(2, False)],
    "monitor": [("top_100", False)],
    "seed": [(1, False)],
}


def key_of(**changes: Any) -> GraphKey:
    return GraphKey.of(TrialConfig.model_validate(changes), users=943, items=1664)


def test_trials_with_the_same_graph_share_a_key() -> None:
    assert set(OTHER_VALUES) == set(TrialConfig.model_fields)
    for name, values in OTHER_VALUES.items():
        for value, another in values:
            assert (key_of(**{name: value}) != key_of()) == another, name
    for rate in ("embedding_dropout", "hidden_dropout", "l2"):
        assert key_of(**{rate: 0.1}) == key_of(**{rate: 0.2})


def test_settings_without_effect_share_a_graph() -> None:
    """Without hidden layers there is nothing to drop, and a loss over the whole catalogue has no accidental hits."""
    assert key_of(hidden_layers="", hidden_dropout=0.5) == key_of(hidden_layers="")
    for whole in ({"retrieval_loss": "full"}, {"retrieval_loss": "squared"}):
        assert key_of(remove_accidental_hits=True, **whole) == key_of(**whole)
