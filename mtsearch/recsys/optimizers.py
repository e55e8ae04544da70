"""Optimisers, as Keras defines them, and which of them may leave the rows of a large table alone."""

from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras

from mtsearch.recsys.shape import Shape

_ROW_BY_ROW = ("adagrad", "sgd")
"""A gradient of 0 changes neither a weight nor what is kept beside it: leaving its row out gives the same, to rounding.

Adam's moments shrink at every step, and a row moves on by them long after its last gradient. Leaving it out would be
another optimiser ("lazy Adam"), so that Adam and AdamW pass over whole tables, as published.
"""


class _RowwiseSGD(tf_keras.optimizers.SGD):  # type: ignore[misc]
    """SGD that touches the rows of a gradient alone; that of Keras keeps a momentum of 0 for the whole table."""

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        if isinstance(gradient, tf.IndexedSlices):
            variable.scatter_add(tf.IndexedSlices(-gradient.values * self.learning_rate, gradient.indices))
        else:
            super().update_step(gradient, variable)


OPTIMIZERS: dict[str, Callable[[], tf_keras.optimizers.Optimizer]] = {
    "adagrad": tf_keras.optimizers.Adagrad,
    "adam": tf_keras.optimizers.Adam,
    # NOTE: a variable, so that trials share the graph.
    "adamw": lambda: tf_keras.optimizers.AdamW(weight_decay=tf.Variable(0.0, trainable=False)),
    "sgd": _RowwiseSGD,
}


def as_applied(
    gradients: Sequence[tf.Tensor | tf.IndexedSlices], variables: Sequence[tf.Variable], shape: Shape
) -> list[tf.Tensor | tf.IndexedSlices]:
    """Gradients as the optimiser of `shape` shall take them: those of large tables by their rows where it may be."""
    by_rows: set[int] = set()
    if shape.optimizer in _ROW_BY_ROW:
        by_rows |= {shape.users} if shape.large_users else set()
        # The full softmax has a gradient for every item.
        by_rows |= {shape.items} if shape.large_items and shape.retrieval_loss != "full" else set()
    return [
        gradient if isinstance(gradient, tf.IndexedSlices) and variable.shape[0] in by_rows
        else _dense(gradient, variable)
        for gradient, variable in zip(gradients, variables, strict=True)
    ]  # fmt: skip


def _dense(gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> tf.Tensor:
    """Zeros for the rows that the batch does not have."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
    return gradient
