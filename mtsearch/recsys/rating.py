"""The rating head: a multilayer perceptron over a user's and an item's embedding."""

import tensorflow as tf
import tf_keras


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _gather_sorted(table: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, object]:
    """`tf.gather(table, index)` for an ascending index.

    NOTE: ascending, the gradient is a segment sum over neighbouring rows: 0.3 ms in place of 2.4 ms for the stock
    unsorted sum of `[8192, 256]`, 7 % of the rating head's part of a step at D=32
    (one core).
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        sums = tf.math.segment_sum(upstream, index)
        missing = tf.shape(table)[0] - tf.shape(sums)[0]
        return tf.pad(sums, [[0, missing], [0, 0]]), None

    return tf.gather(table, index), gradient


class PairDense(tf_keras.layers.Layer):  # type: ignore[misc]
    """`Dense(units, relu)` on the concatenation of a user's and an item's embedding.

    A dense layer of a concatenation is the sum of two dense layers, so that it can be computed per user and per item
    first (*factored*) and gathered and added per row after: the same numbers, to rounding, for U + I rows of
    arithmetic in place of B.

    Args:
        units: width of the layer.
        factored: NOTE: measured at B=8192, U + I = 2607, one core: a step gets 4 % slower at D=16 and
            6/21/33 % faster at 32/64/128.
    """

    def __init__(self, units: int, factored: bool) -> None:
        super().__init__()
        self.units, self.factored = units, factored

    def build(self, input_shape: tuple[tf.TensorShape, tf.TensorShape]) -> None:
        """One kernel `[2 * D, units]` as `Dense` would have, and a bias `[units]`."""
        self.size = input_shape[0][-1]
        self.kernel = self.add_weight("kernel", shape=[2 * self.size, self.units], initializer="zeros")
        self.bias = self.add_weight("bias", shape=[self.units], initializer="zeros")

    def call(self, tables: tuple[tf.Tensor, tf.Tensor], users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """`[B, units]` of tables `[U, D]` and `[I, D]` and row indices `[B]`, users ascending."""
        user_table, item_table = tables
        if self.factored:
            user_part = tf.matmul(user_table, self.kernel[: self.size]) + self.bias
            item_part = tf.matmul(item_table, self.kernel[self.size :])
            return tf.nn.relu(_gather_sorted(user_part, users) + tf.gather(item_part, items))
        pairs = tf.concat([tf.gather(user_table, users), tf.gather(item_table, items)], axis=1)
        return tf.nn.relu(tf.matmul(pairs, self.kernel) + self.bias)
