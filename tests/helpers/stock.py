"""The model of the multi-task tutorial as published, with ids as text and the stock layers and tasks."""

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras
from numpy.typing import NDArray

from mtsearch.data.interactions import Ids, Rows
from mtsearch.data.split import Split
from mtsearch.models.device import EpochOrders
from mtsearch.models.graph_key import GraphKey
from mtsearch.models.joint_model import JointModel
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import batches


class StockModel(tfrs.models.Model):  # type: ignore[misc]
    """`MovielensModel` of the tutorial with the weights of `ours`; its loss is returned in two parts."""

    def __init__(self, split: Split, ours: JointModel, size: int) -> None:
        super().__init__()
        self.user_model = _tower(split.user_ids, size, ours.user_table.numpy())
        self.movie_model = _tower(split.item_ids, size, ours.item_table.numpy())
        self.rating_model = tf_keras.Sequential(
            [tf_keras.layers.Dense(width, activation="relu") for width in ours.graph_key.hidden_widths]
            + [tf_keras.layers.Dense(1)]
        )
        self.rating_model.build((None, 2 * size))
        self.rating_model.set_weights(ours.heads["rating"].get_weights())
        self.rating_task = tfrs.tasks.Ranking(loss=tf_keras.losses.MeanSquaredError())
        self.retrieval_task = tfrs.tasks.Retrieval()

    def predict_ratings(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return self.rating_model(tf.concat([self.user_model(users), self.movie_model(items)], axis=1))

    def losses_of(self, users: tf.Tensor, items: tf.Tensor, ratings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rating_loss = self.rating_task(labels=ratings, predictions=self.predict_ratings(users, items))
        return rating_loss, self.retrieval_task(self.user_model(users), self.movie_model(items), compute_metrics=False)


def _tower(ids: Ids, size: int, table: NDArray[np.float32]) -> tf_keras.Model:
    lookup = tf_keras.layers.StringLookup(vocabulary=ids.astype(str), mask_token=None)
    embedding = tf_keras.layers.Embedding(len(ids) + 1, size)
    embedding.build(None)
    embedding.set_weights([np.concatenate([np.zeros((1, size), np.float32), table])])  # row 0: unknown words
    return tf_keras.Sequential([lookup, embedding])


class StockTraining:
    """A plain training loop for a `StockModel`: one optimiser step per batch, with the batches of `JointTrainer`."""

    def __init__(self, split: Split, config: TrialConfig) -> None:
        self.split, self.config = split, config
        self._orders = EpochOrders(split.train.items)
        self.model = StockModel(split, initial_model(split, config), config.embedding_size)
        self.optimizer = stock_optimizer(config, steps=config.epochs * -(-len(split.train) // config.batch_size))
        self._step = tf.function(self._take_step)

    def epoch(self, number: int) -> list[tuple[float, float]]:
        """Train one epoch and return the rating loss (mean) and retrieval loss (sum) of each step."""
        config = self.config
        order = self._orders.draw(config.batch_size, config.seed, number).rows
        steps = [
            self._step(*self._columns(self.split.train.take(batch))) for batch in batches(order, config.batch_size)
        ]
        return [(float(rating), float(retrieval)) for rating, retrieval in steps]

    def epoch_losses(self, number: int) -> dict[str, float]:
        """Return the mean losses of an epoch per row."""
        rows, size = len(self.split.train), self.config.batch_size
        row_counts = np.diff([*range(0, rows, size), rows])
        rating, retrieval = np.array(self.epoch(number)).T
        return {"rating": float(rating @ row_counts / rows), "retrieval": float(retrieval.sum() / rows)}

    def rmse(self) -> float:
        users, items, ratings = self._columns(self.split.validation)
        return float(np.sqrt(np.mean((self.model.predict_ratings(users, items) - ratings).numpy() ** 2)))

    def _columns(self, rows: Rows) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        users, items = self.split.user_ids[rows.users], self.split.item_ids[rows.items]
        return tf.constant(users.astype(str)), tf.constant(items.astype(str)), tf.constant(rows.ratings[:, None])

    def _take_step(self, users: tf.Tensor, items: tf.Tensor, ratings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            rating, retrieval = self.model.losses_of(users, items, ratings)
            loss = self.config.rating_weight * rating + self.config.retrieval_weight * retrieval
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return rating, retrieval


def stock_optimizer(config: TrialConfig, steps: int) -> tf_keras.optimizers.Optimizer:
    """Make the optimiser of a configuration with stock Keras, for a number of steps in all."""
    rate = config.learning_rate
    if config.schedule == "cosine":
        rate = tf_keras.optimizers.schedules.CosineDecay(rate, decay_steps=steps)
    if config.optimizer == "adamw":
        return tf_keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    names = {"adagrad": "Adagrad", "adam": "Adam", "sgd": "SGD"}
    return getattr(tf_keras.optimizers, names[config.optimizer])(rate)


def initial_model(split: Split, config: TrialConfig) -> JointModel:
    """Return the model from which `JointTrainer` starts a configuration."""
    model = JointModel(GraphKey.of(config, len(split.user_ids), len(split.item_ids)), split)
    model.trial_inputs.assign(config)
    first = {"users": tf.constant([0]), "items": tf.constant([0]), "targets": (tf.constant([3.0]),)}
    model.compute_loss(first)
    model.initialize(config.seed)
    return model
