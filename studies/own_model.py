"""A model of one's own for `own-model.toml`: two deep towers and a rating head, as TFRS users write them."""

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from mtsearch import TrialConfig
from mtsearch.data import Split


def make(config: TrialConfig, split: Split) -> tfrs.models.Model:
    """The model of one trial; every field of `config` is there to be used, and none must be."""
    return TwoDeepTowers(config, split)


class TwoDeepTowers(tfrs.models.Model):  # type: ignore[misc]
    """Embeddings that a hidden layer refines, for both tasks; users and items are whole numbers from 0 on."""

    def __init__(self, config: TrialConfig, split: Split) -> None:
        super().__init__()
        self._config = config
        self.user_model = _tower(len(split.user_ids), config)
        self.movie_model = _tower(len(split.item_ids), config)
        hidden = [tf_keras.layers.Dense(width, activation="relu") for width in config.hidden_widths]
        self.rating_model = tf_keras.Sequential([*hidden, tf_keras.layers.Dense(1)])
        self.rating_task = tfrs.tasks.Ranking(loss=tf_keras.losses.MeanSquaredError())
        counts = np.bincount(split.train.items, minlength=len(split.item_ids))
        self._probability = tf.constant(counts / counts.sum(), tf.float32)  # of each item to be in a batch
        self.retrieval_task = tfrs.tasks.Retrieval(temperature=config.temperature)

    def query_embeddings(self, users: tf.Tensor) -> tf.Tensor:
        """`[B, D]` of users `[B]`."""
        return self.user_model(users)

    def candidate_embeddings(self, items: tf.Tensor) -> tf.Tensor:
        """`[B, D]` of items `[B]`."""
        return self.movie_model(items)

    def ratings(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Predicted ratings `[B]`, in stars."""
        return self._rate(self.user_model(users), self.movie_model(items))

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Both losses of a batch with `users`, `items` and `ratings`, weighted."""
        users = self.user_model(inputs["users"], training=training)
        movies = self.movie_model(inputs["items"], training=training)
        rating_loss = self.rating_task(labels=inputs["ratings"], predictions=self._rate(users, movies))
        retrieval_loss = self.retrieval_task(
            users,
            movies,
            candidate_sampling_probability=tf.gather(self._probability, inputs["items"]),
            compute_metrics=False,
        )
        return self._config.rating_weight * rating_loss + self._config.retrieval_weight * retrieval_loss

    def _rate(self, users: tf.Tensor, movies: tf.Tensor) -> tf.Tensor:
        return tf.squeeze(self.rating_model(tf.concat([users, movies], axis=1)), axis=1)


def _tower(size: int, config: TrialConfig) -> tf_keras.Model:
    """An embedding, some of it dropped in training, and a layer on it that may bend it."""
    return tf_keras.Sequential(
        [
            tf_keras.layers.Embedding(size, config.embedding_size),
            tf_keras.layers.Dropout(config.embedding_dropout),
            tf_keras.layers.Dense(config.embedding_size, activation="relu"),
            tf_keras.layers.Dense(config.embedding_size),
        ]
    )
