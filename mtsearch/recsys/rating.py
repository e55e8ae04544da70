"""The rating head: a multilayer perceptron over a user's and an item's embedding, and what can be added to it."""

from collections.abc import Sequence

import tensorflow as tf
import tf_keras

from mtsearch.recsys.dropout import Dropout
from mtsearch.recsys.gather import SortedIndex, gather


class PairDense(tf_keras.layers.Layer):  # type: ignore[misc]
    """`Dense(units)` on the concatenation of a user's and an item's embedding.

    A dense layer of a concatenation is the sum of two dense layers, so that it is computed per user and per item first
    and gathered and added per row after: the same numbers, to rounding, for u + i rows of arithmetic in place of B.

    Args:
        units: width of the layer.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units

    def build(self, input_shape: tuple[tf.TensorShape, tf.TensorShape]) -> None:
        """One kernel `[2 * D, units]` as `Dense` would have, and a bias `[units]`."""
        self.size = input_shape[0][-1]
        self.kernel = self.add_weight("kernel", shape=[2 * self.size, self.units], initializer="zeros")
        self.bias = self.add_weight("bias", shape=[self.units], initializer="zeros")

    def call(self, tables: tuple[tf.Tensor, tf.Tensor], users: SortedIndex, items: SortedIndex) -> tf.Tensor:
        """`[B, units]` of tables `[u, D]` and `[i, D]`."""
        user_table, item_table = tables
        user_part = tf.matmul(user_table, self.kernel[: self.size]) + self.bias
        item_part = tf.matmul(item_table, self.kernel[self.size :])
        return gather(user_part, users) + gather(item_part, items)


class RatingLayers(tf_keras.layers.Layer):  # type: ignore[misc]
    """`Dense(width, relu)` for each width, then `Dense(1)`, on the pair of embeddings.

    Args:
        widths: of the hidden layers; none for a linear function of the pair.
        precision: of the products between hidden layers, `float32` or `bfloat16`.
    """

    def __init__(self, widths: Sequence[int], precision: str) -> None:
        super().__init__()
        first, *rest = *widths, 1
        self.pair_layer = PairDense(first)
        # The last one gives the rating, which 8 bits of mantissa would round to 1/64 of a star.
        precisions = [precision] * (len(rest) - 1) + ["float32"]
        self.dense_layers = [_Dense(*layer) for layer in zip(rest, precisions, strict=False)]

    def call(
        self, tables: tuple[tf.Tensor, tf.Tensor], users: SortedIndex, items: SortedIndex, dropout: Dropout | None
    ) -> tf.Tensor:
        """`[B]` of tables `[u, D]` and `[i, D]`; `dropout` of the hidden values, in training."""
        values = self.pair_layer(tables, users=users, items=items)
        for number, layer in enumerate(self.dense_layers):
            values = tf.nn.relu(values)
            values = layer(dropout(values, number) if dropout else values)
        return tf.squeeze(values, axis=1)


class _Dense(tf_keras.layers.Dense):  # type: ignore[misc]
    """A dense layer whose matrix product has the given precision; weights, bias and results are float32."""

    def __init__(self, units: int, precision: str) -> None:
        super().__init__(units, kernel_initializer="zeros")
        self._precision = precision

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self._precision == "float32":
            return super().call(inputs)
        factors = (tf.cast(factor, self._precision) for factor in (inputs, self.kernel))
        return tf.cast(tf.matmul(*factors), tf.float32) + self.bias
