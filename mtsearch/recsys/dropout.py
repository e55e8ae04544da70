"""Dropout whose masks are inputs of the graph: a traced `tf.nn.dropout` repeats the masks of its first trial."""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Dropout:
    """Sets a share of values to 0 and scales the others up.

    Attributes:
        rate: scalar float32 in 0..1.
        seed: `[2]` int32; the masks depend on it and on nothing else.
    """

    rate: tf.Tensor
    seed: tf.Tensor

    def __call__(self, values: tf.Tensor, stream: int) -> tf.Tensor:
        """`values` with some set to 0; another mask for each `stream`."""
        seed = tf.random.experimental.stateless_fold_in(self.seed, stream)
        return tf.nn.experimental.stateless_dropout(values, rate=self.rate, seed=seed)
