"""Tests of `gather` against `tf.gather`, and of `unique` against NumPy."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.models.tasks import SortedIndex, gather, unique


@st.composite
def indices(draw: st.DrawFn) -> tuple[list[int], int, bool]:
    """Draw an index, the size of its table, and whether the index ascends up to the table's last row."""
    index, ascending = draw(st.lists(st.integers(0, 9), min_size=1, max_size=40)), draw(st.booleans())
    if ascending:
        return sorted(index), max(index) + 1, True
    return index, max(index) + 1 + draw(st.integers(0, 3)), False


@settings(deadline=None)
@given(indices(), st.integers(1, 3))
def test_gather_equals_stock(drawn: tuple[list[int], int, bool], width: int) -> None:
    index, size, ascending = drawn
    rng = np.random.default_rng(len(index))
    table = tf.constant(rng.normal(size=(size, width)), tf.float32)
    upstream = tf.constant(rng.normal(size=(len(index), width)), tf.float32)
    rows = SortedIndex(tf.constant(index), None if ascending else tf.argsort(index, stable=True))

    def answers(call: Any) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(table)
            values = call()
        return [values, tf.convert_to_tensor(tape.gradient(values, table, output_gradients=upstream))]

    values, gradient = answers(lambda: gather(table, rows))
    expected_values, expected_gradient = answers(lambda: tf.gather(table, index))
    np.testing.assert_array_equal(values, expected_values)
    assert gradient.shape == table.shape
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(0, 5), st.booleans(), st.booleans())
def test_unique_equals_numpy(ids: list[int], more: int, ascending: bool, large: bool) -> None:
    ids = sorted(ids) if ascending else ids
    order = None if ascending else tf.argsort(ids, stable=True)
    found = unique(tf.constant(ids), order, max(ids) + 1 + more, large)
    expected, index, counts = np.unique(ids, return_inverse=True, return_counts=True)
    for ours, theirs in zip((found.ids, found.counts, found.rows.index), (expected, counts, index), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found.rows.order is order
    assert found.ids is not None
    assert (found.ids.dtype, found.counts.dtype, found.rows.index.dtype) == (tf.int32, tf.float32, tf.int32)


@pytest.mark.parametrize("order", [None, [0, 1, 2]])
def test_the_gradient_is_dense(order: list[int] | None) -> None:
    table = tf.Variable(tf.ones([3, 2]))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(gather(table, SortedIndex(tf.constant([0, 1, 2]), order and tf.constant(order))))
    assert isinstance(tape.gradient(total, table), tf.Tensor)
