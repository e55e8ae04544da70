"""The joint model of the multi-task tutorial: two towers, a rating head, two tasks."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from mtsearch.config import TrialConfig
from mtsearch.recsys.rating import PairDense
from mtsearch.recsys.retrieval import ExactRetrieval

HIDDEN = (256, 128)


@dataclass(frozen=True)
class Shape:
    """What a model's graph depends on; everything else of a `TrialConfig` is an input to it.

    Attributes:
        users, items: rows of the embedding tables, U and I.
        embedding_size: D.
        factored: see `PairDense`.
    """

    users: int
    items: int
    embedding_size: int
    factored: bool

    @classmethod
    def of(cls, config: TrialConfig, users: int, items: int) -> Self:
        """The shape of `config` on tables of that many users and items."""
        # NOTE: below 32 the gathered rows of 256 cost more than the arithmetic that they save.
        factored = config.batch_size > users + items and config.embedding_size >= 32
        return cls(users, items, config.embedding_size, factored)


class JointModel(tfrs.models.Model):  # type: ignore[misc]
    """The tutorial's multi-task model on integer ids: strings are met at the edge only.

    The loss of a batch is `rating_weight` times the mean squared error of its ratings plus `retrieval_weight` times
    its summed retrieval loss. Both weights are variables, so that trials share the graph.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        size = shape.embedding_size
        self.user_table = self.add_weight("user_table", [shape.users, size], initializer="zeros")
        self.item_table = self.add_weight("item_table", [shape.items, size], initializer="zeros")
        self.pair_layer = PairDense(HIDDEN[0], shape.factored)
        self.rating_layers = tf_keras.Sequential(
            [
                tf_keras.layers.Dense(HIDDEN[1], activation="relu", kernel_initializer="zeros"),
                tf_keras.layers.Dense(1, kernel_initializer="zeros"),
            ]
        )
        self.rating_weight = tf.Variable(0.0, trainable=False)
        self.retrieval_weight = tf.Variable(0.0, trainable=False)
        self.rating_task = tfrs.tasks.Ranking(loss=tf_keras.losses.MeanSquaredError())
        self.retrieval_task = ExactRetrieval()

    def rate(self, user_table: tf.Tensor, item_table: tf.Tensor, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Predicted ratings `[B]` in stars of rows of the given tables, users ascending."""
        hidden = self.pair_layer((user_table, item_table), users=users, items=items)
        return tf.squeeze(self.rating_layers(hidden), axis=1)

    def task_losses(self, users: tf.Tensor, items: tf.Tensor, ratings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean rating loss and summed retrieval loss of a batch `[B]`, users ascending."""
        predictions = self.rate(self.user_table, self.item_table, users, items)
        rating_loss = self.rating_task(labels=ratings[:, tf.newaxis], predictions=predictions[:, tf.newaxis])
        return rating_loss, self.retrieval_task(self.user_table, self.item_table, users, items)

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Weighted loss of a batch with `users`, `items` and `ratings`, users ascending."""
        return self.weighted(*self.task_losses(inputs["users"], inputs["items"], inputs["ratings"]))

    def weighted(self, rating_loss: tf.Tensor, retrieval_loss: tf.Tensor) -> tf.Tensor:
        """What is trained on, of the two losses of a batch."""
        return self.rating_weight * rating_loss + self.retrieval_weight * retrieval_loss

    def initialize(self, seed: int) -> None:
        """Set every trainable weight from `seed` alone, by Keras's defaults: what a fresh model starts from."""
        for number, variable in enumerate(self.trainable_variables):
            state = np.random.SeedSequence([seed, number]).generate_state(1)
            variable.assign(_initializer(variable.name, int(state[0]) % 2**31)(variable.shape))


def _initializer(name: str, seed: int) -> tf_keras.initializers.Initializer:
    if name.startswith("bias") or "/bias" in name:
        return tf_keras.initializers.Zeros()
    if "table" in name:
        return tf_keras.initializers.RandomUniform(-0.05, 0.05, seed=seed)
    return tf_keras.initializers.GlorotUniform(seed=seed)
