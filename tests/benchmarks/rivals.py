"""Train the same model as others do: as the tutorial publishes it, and as the TFRS maintainers advise.

Written anew from the text of the "Multi-task recommenders" tutorial and from the maintainers' answers to "why is
training slow?": compute no factorized metrics while training, feed integer ids, cache the batches.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras
from numpy.typing import NDArray

from mtsearch.data import Rows, Split
from mtsearch.study_file.config import TrialConfig

Weights = dict[str, NDArray[np.float32]]
Rival = Callable[[TrialConfig], "JointRival"]


class JointRival(tfrs.models.Model):  # type: ignore[misc]
    """The tutorial's model: two towers, a rating model, two tasks.

    Args:
        config: weights of the losses, embedding size, learning rate.
        user_tower, item_tower: from what a batch holds to embeddings `[B, D]`.
        candidates: batches of items, for the factorized metrics.
        metrics_in_training: the tutorial's way; the maintainers advise against it.
    """

    def __init__(
        self,
        config: TrialConfig,
        user_tower: tf_keras.Model,
        item_tower: tf_keras.Model,
        candidates: tf.data.Dataset,
        metrics_in_training: bool,
    ) -> None:
        super().__init__()
        self.user_tower, self.item_tower = user_tower, item_tower
        self.rating_model = tf_keras.Sequential(
            [
                tf_keras.layers.Dense(256, activation="relu"),
                tf_keras.layers.Dense(128, activation="relu"),
                tf_keras.layers.Dense(1),
            ]
        )
        self.rating_task = tfrs.tasks.Ranking(
            loss=tf_keras.losses.MeanSquaredError(), metrics=[tf_keras.metrics.RootMeanSquaredError()]
        )
        metric = tfrs.metrics.FactorizedTopK(candidates=candidates.map(item_tower))
        self.retrieval_task = tfrs.tasks.Retrieval(metrics=metric)
        self.config, self.metrics_in_training = config, metrics_in_training

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return the weighted sum of both losses."""
        users, items = self.user_tower(features["users"]), self.item_tower(features["items"])
        predictions = self.rating_model(tf.concat([users, items], axis=1))
        rating_loss = self.rating_task(labels=features["ratings"], predictions=predictions)
        compute_metrics = self.metrics_in_training or not training
        retrieval_loss = self.retrieval_task(users, items, compute_metrics=compute_metrics)
        return self.config.rating_weight * rating_loss + self.config.retrieval_weight * retrieval_loss

    def start_from(self, weights: Weights, strings: bool) -> None:
        """Set mtsearch's initial weights; a string tower has one more row, for unknown ids."""
        for tower, name in ((self.user_tower, "user_table"), (self.item_tower, "item_table")):
            table = weights[name]
            tower.layers[-1].set_weights([np.vstack([table[:1] * 0, table]) if strings else table])
        self.rating_model(tf.zeros([1, 2 * weights["user_table"].shape[1]]))
        self.rating_model.set_weights([weights[name] for name in sorted(weights) if not name.endswith("table")])


def as_published(split: Split, config: TrialConfig) -> JointRival:
    """Make the published form: strings, looked up in the model, and factorized metrics at every step."""
    user_tower = _string_tower(split.user_ids, config.embedding_size)
    item_tower = _string_tower(split.item_ids, config.embedding_size)
    candidates = tf.data.Dataset.from_tensor_slices(split.item_ids.astype(str)).batch(128)
    return _compiled(JointRival(config, user_tower, item_tower, candidates, metrics_in_training=True), config)


def as_advised(split: Split, config: TrialConfig) -> JointRival:
    """Make the advised form: integer ids, and factorized metrics in evaluation only."""
    user_tower = tf_keras.Sequential([_embedding(len(split.user_ids), config.embedding_size)])
    item_tower = tf_keras.Sequential([_embedding(len(split.item_ids), config.embedding_size)])
    candidates = tf.data.Dataset.range(len(split.item_ids)).batch(128)
    return _compiled(JointRival(config, user_tower, item_tower, candidates, metrics_in_training=False), config)


def batches(split: Split, rows: Rows, order: NDArray[np.int32], batch_size: int, strings: bool) -> tf.data.Dataset:
    """Return cached batches of the rows in `order`."""
    users, items = rows.users[order], rows.items[order]
    columns = {
        "users": split.user_ids[users].astype(str) if strings else users,
        "items": split.item_ids[items].astype(str) if strings else items,
        "ratings": rows.ratings[order],
    }
    return tf.data.Dataset.from_tensor_slices(columns).batch(batch_size).cache()


def _string_tower(ids: NDArray[np.object_], size: int) -> tf_keras.Model:
    lookup = tf_keras.layers.StringLookup(vocabulary=ids.astype(str), mask_token=None)
    return tf_keras.Sequential([lookup, _embedding(len(ids) + 1, size)])


def _embedding(rows: int, size: int) -> tf_keras.layers.Embedding:
    """Make an embedding layer and build it: a metric that uses an unbuilt layer would keep separate weights."""
    layer = tf_keras.layers.Embedding(rows, size)
    layer.build(None)
    return layer


def _compiled(model: JointRival, config: TrialConfig) -> JointRival:
    model.compile(optimizer=tf_keras.optimizers.Adagrad(config.learning_rate))
    return model
