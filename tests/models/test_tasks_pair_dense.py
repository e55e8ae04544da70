"""Tests of `PairDense` against `Dense` on a concatenation."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from mtsearch.models.tasks import PairDense, SortedIndex

USERS, ITEMS, SIZE, UNITS = 7, 5, 3, 4


def answers(layer: tf_keras.layers.Layer, tables: list[tf.Variable], call: Any) -> list[tf.Tensor]:
    """Return outputs, and the gradients of a weighted sum of them by tables, kernel and bias."""
    with tf.GradientTape() as tape:
        outputs = call()
        total = tf.reduce_sum(outputs * tf.reshape(tf.range(1.0, tf.size(outputs, tf.int32) + 1), outputs.shape))
    sources = [*tables, layer.kernel, layer.bias]
    return [outputs, *(tf.convert_to_tensor(gradient) for gradient in tape.gradient(total, sources))]


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize(
    "users",
    [
        pytest.param([0, 1, 2, 3, 4, 5, 6], id="everyone"),
        pytest.param([2, 2, 3, 4, 5, 6, 6], id="none at the start"),
        pytest.param([0, 0, 1, 5, 5, 5, 6], id="none in the middle"),
        pytest.param([0, 1, 1, 1, 2, 3, 3], id="none at the end"),
        pytest.param([2, 2, 2, 4, 4, 4, 4], id="none at either end nor in the middle"),
        pytest.param([3], id="one row"),
    ],
)
def test_equals_dense(users: list[int], ascending: bool) -> None:
    """With an order the table may have rows after the last user; without one it ends there."""
    known = users[-1] + 1 if ascending else USERS
    rng = np.random.default_rng(1)
    items = rng.integers(ITEMS, size=len(users)).astype(np.int32)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in ((2 * SIZE, UNITS), (UNITS,))]
    tables = [tf.Variable(rng.normal(size=(rows, SIZE)).astype(np.float32)) for rows in (known, ITEMS)]
    dense, pair = tf_keras.layers.Dense(UNITS), PairDense(UNITS)
    index = {
        "users": SortedIndex(tf.constant(users), None if ascending else tf.range(len(users))),
        "items": SortedIndex(tf.constant(items), tf.argsort(items)),
    }

    def concatenated() -> tf.Tensor:
        return tf.concat([tf.gather(tables[0], users), tf.gather(tables[1], items)], axis=1)

    dense.build((None, 2 * SIZE))
    pair(tables, **index)
    for layer in (dense, pair):
        layer.set_weights(weights)
    expected = answers(dense, tables, lambda: dense(concatenated()))
    measured = answers(pair, tables, lambda: pair(tables, **index))
    for ours, theirs in zip(measured, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_elementwise_product_by_hand() -> None:
    layer = PairDense(1, product=True)
    tables = tf.constant([[2.0, 3.0]]), tf.constant([[5.0, 7.0]])
    index = SortedIndex(tf.constant([0]))
    layer(tables, users=index, items=index)
    layer.set_weights([np.array([[1.0], [1.0], [1.0], [1.0]]), np.array([0.5]), np.array([[11.0], [13.0]])])
    expected = 2 + 3 + 5 + 7 + 0.5 + 4 * (10 * 11 + 21 * 13)
    assert float(layer(tables, users=index, items=index)[0, 0]) == pytest.approx(expected)
