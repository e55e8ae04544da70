"""Small custom models; a test names one of these functions as its factory."""

from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from mtsearch.data.split import Split
from mtsearch.study_file.config import TrialConfig


class Small(tfrs.models.Model):  # type: ignore[misc]
    """A model with embeddings, dropout and a linear rating."""

    def __init__(self, config: TrialConfig, split: Split) -> None:
        super().__init__()
        self.user_model = self.tower(split.user_ids.tolist(), config)
        self.item_model = self.tower(split.item_ids.tolist(), config)
        self.rating_model = tf_keras.layers.Dense(1)
        self.config = config

    def tower(self, ids: list[str], config: TrialConfig) -> tf_keras.Model:
        size, drop = tf_keras.layers.Embedding(len(ids) + 1, config.embedding_size), config.embedding_dropout
        return tf_keras.Sequential([size, tf_keras.layers.Dropout(drop)])

    def query_embeddings(self, users: tf.Tensor) -> tf.Tensor:
        return self.user_model(users)

    def candidate_embeddings(self, items: tf.Tensor) -> tf.Tensor:
        return self.item_model(items)

    def ratings(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return self.rate(self.query_embeddings(users), self.candidate_embeddings(items))

    def rate(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return tf.squeeze(self.rating_model(tf.concat([users, items], 1)), 1)

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        users = self.user_model(inputs["users"], training=training)
        items = self.item_model(inputs["items"], training=training)
        rating = tf.reduce_mean((self.rate(users, items) - inputs["ratings"]) ** 2)
        retrieval = tfrs.tasks.Retrieval()(users, items, compute_metrics=False)
        return self.config.rating_weight * rating + self.config.retrieval_weight * retrieval


class ByName(Small):
    """The small model with ids as text, as TFRS users have them."""

    def __init__(self, config: TrialConfig, split: Split) -> None:
        super().__init__(config, split)
        self.user_names, self.item_names = tf.constant(split.user_ids.tolist()), tf.constant(split.item_ids.tolist())

    def tower(self, ids: list[str], config: TrialConfig) -> tf_keras.Model:
        return tf_keras.Sequential(
            [tf_keras.layers.StringLookup(vocabulary=ids, mask_token=None), super().tower(ids, config)]
        )

    def query_embeddings(self, users: tf.Tensor) -> tf.Tensor:
        return self.user_model(tf.gather(self.user_names, users))

    def candidate_embeddings(self, items: tf.Tensor) -> tf.Tensor:
        return self.item_model(tf.gather(self.item_names, items))

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        names = {"users": tf.gather(self.user_names, inputs["users"])}
        names |= {"items": tf.gather(self.item_names, inputs["items"]), "ratings": inputs["ratings"]}
        return super().compute_loss(names, training)


class Untrainable(Small):
    """A model that raises an error in training only, inside a graph."""

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        if training:
            raise ValueError("this tower cannot learn")
        return super().compute_loss(inputs)


class WideRatings(Small):
    """A model that returns ratings `[B, 1]` in place of `[B]`."""

    def ratings(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return super().ratings(users, items)[:, tf.newaxis]


class FewRatings(Small):
    """A model that returns one rating too few if more than two are requested."""

    def ratings(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        rated = super().ratings(users, items)
        return rated[: tf.maximum(2, tf.size(users) - 1)]


class EagerRatings(Small):
    """A model that works outside a graph only."""

    def ratings(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return super().ratings(tf.constant(users.numpy()), items)


class Diverging(Small):
    """A model whose loss is infinite from the third step on."""

    def __init__(self, config: TrialConfig, split: Split) -> None:
        super().__init__(config, split)
        self.steps = tf.Variable(0, trainable=False)

    def train_step(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        logs: dict[str, tf.Tensor] = super().train_step(inputs)
        step = self.steps.assign_add(1)
        return logs | {"total_loss": tf.where(step >= 3, float("inf"), logs["total_loss"])}


def small(config: TrialConfig, split: Split) -> Small:
    return Small(config, split)


def untrainable(config: TrialConfig, split: Split) -> Small:
    return Untrainable(config, split)


def by_name(config: TrialConfig, split: Split) -> Small:
    return ByName(config, split)


def wide_ratings(config: TrialConfig, split: Split) -> Small:
    return WideRatings(config, split)


def few_ratings(config: TrialConfig, split: Split) -> Small:
    return FewRatings(config, split)


def eager_ratings(config: TrialConfig, split: Split) -> Small:
    return EagerRatings(config, split)


def diverging(config: TrialConfig, split: Split) -> Small:
    return Diverging(config, split)


def compiled(config: TrialConfig, split: Split) -> Small:
    model = Small(config, split)
    model.compile(optimizer=tf_keras.optimizers.SGD(0.0))
    return model


def raising(config: TrialConfig, split: Split) -> Small:
    raise ZeroDivisionError("no such tower")


def nothing(config: TrialConfig, split: Split) -> None:
    return None


def half(config: TrialConfig, split: Split) -> Any:
    return tfrs.models.Model()
