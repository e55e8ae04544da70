"""One model, its optimiser and its traced graphs, shared by all trials of one shape."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mtsearch.config import TrialConfig
from mtsearch.data.split import Split
from mtsearch.recsys.batches import EpochOrder
from mtsearch.recsys.feed import Feed, TrainingRows
from mtsearch.recsys.gather import SortedIndex
from mtsearch.recsys.model import Batch, JointModel, Tables
from mtsearch.recsys.optimizers import OPTIMIZERS, as_applied
from mtsearch.recsys.shape import Shape
from mtsearch.recsys.tracing import traced


class EpochLosses(NamedTuple):
    """Mean losses per row of one epoch, and the 1-based step whose loss was not finite (0: all were)."""

    rating: tf.Tensor
    retrieval: tf.Tensor
    bad_step: tf.Tensor


class CompiledModel:
    """A `JointModel` whose graphs are traced once and whose weights are set anew for each trial.

    Equal to a fresh model to the last bit; making and tracing one takes about 0.3 s, a reset 5 ms.
    """

    def __init__(self, shape: Shape, feed: Feed, split: Split) -> None:
        self.model = JointModel(shape, split)
        self.optimizer = OPTIMIZERS[shape.optimizer]()
        self._learning_rate = tf.Variable(0.0, trainable=False)
        self._cosine = tf.Variable(False, trainable=False)
        self._seed = tf.Variable(0, trainable=False)
        self._steps = tf.Variable(1, trainable=False)
        self.model.inputs_of_trial.assign(TrialConfig())
        self.model.compute_loss(feed.first()._asdict())  # builds the variables
        self.optimizer.build(self.model.trainable_variables)
        self._fresh_optimizer = [variable.numpy() for variable in self.optimizer.variables]
        self._feed = feed
        trained = split.known_items.copy()
        if shape.retrieval_loss == "full":
            trained[split.catalogue] = True  # as negatives
        self._trained = tf.constant(split.known_users), tf.constant(trained)
        integers, reals = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)
        number, real = tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)
        columns = TrainingRows(integers, integers, reals)
        sums = EpochLosses(real, real, number)
        self._block = traced(self._block_graph, columns, integers, integers, number, number, number, sums)
        self.tables = traced(self._tables_graph)
        self.rate = traced(self._rate_graph, *_specs(shape), integers, integers)

    @property
    def parameters(self) -> int:
        """Number of trainable weights."""
        return sum(int(np.prod(variable.shape)) for variable in self.model.trainable_variables)

    def reset(self, config: TrialConfig) -> None:
        """Make everything what a new model of `config` would start with."""
        self.model.initialize(config.seed)
        self.model.inputs_of_trial.assign(config)
        for variable, value in zip(self.optimizer.variables, self._fresh_optimizer, strict=True):
            variable.assign(value)
        if config.optimizer == "adamw":
            self.optimizer.weight_decay.assign(config.weight_decay)
        self._learning_rate.assign(config.learning_rate)
        self._cosine.assign(config.schedule == "cosine")
        self._seed.assign(config.seed)
        self._steps.assign(config.epochs * math.ceil(self._feed.size / config.batch_size))

    def set_weights_of_losses(self, rating: float, retrieval: float) -> None:
        """Weigh the losses anew, from the next epoch on."""
        self.model.inputs_of_trial["rating_weight"].assign(rating)
        self.model.inputs_of_trial["retrieval_weight"].assign(retrieval)

    def epoch(self, order: EpochOrder, batch_size: int, first_step: int = 0) -> EpochLosses:
        """Train on the rows in `order`, `batch_size` at a time; stops at the first non-finite loss.

        Args:
            order: of the epoch's rows.
            batch_size: B.
            first_step: steps that the trial has taken before: learning rate and dropout masks depend on it.
        """
        losses, done = EpochLosses(tf.constant(0.0), tf.constant(0.0), tf.constant(0)), 0
        for block in self._feed.epoch(order, batch_size):
            losses = EpochLosses(*self._block(*block, *map(tf.constant, (batch_size, first_step, done)), losses))
            done += math.ceil(block.rows.shape[0] / batch_size)
        total = tf.constant(len(order.rows), tf.float32)
        return losses._replace(rating=losses.rating / total, retrieval=losses.retrieval / total)

    def _block_graph(
        self,
        table: TrainingRows,
        rows: tf.Tensor,
        by_item: tf.Tensor,
        batch_size: tf.Tensor,
        first_step: tf.Tensor,
        done: tf.Tensor,
        losses: EpochLosses,
    ) -> EpochLosses:
        """Train on some batches of an epoch of which `done` are behind; `losses`, summed over rows, go on."""
        # NOTE: a whole epoch in one graph saves 4-5 % over a call per step, and a round trip to the host per step.
        size = tf.size(rows)

        def unfinished(step: tf.Tensor, _rating: tf.Tensor, _retrieval: tf.Tensor, bad_step: tf.Tensor) -> tf.Tensor:
            return tf.logical_and(step * batch_size < size, bad_step == 0)

        def advance(step: tf.Tensor, rating: tf.Tensor, retrieval: tf.Tensor, bad_step: tf.Tensor) -> list[tf.Tensor]:
            start, end = step * batch_size, tf.minimum((step + 1) * batch_size, size)
            users, items, ratings = (tf.gather(column, rows[start:end]) for column in table)
            number = first_step + done + step
            batch = Batch(users, items, ratings, by_item[start:end], tf.stack([self._seed, number]))
            rating_loss, retrieval_loss, finite = self._step(batch, number)
            bad_step = tf.where(finite, bad_step, done + step + 1)
            rating += rating_loss * tf.cast(end - start, tf.float32)
            return [step + 1, rating, retrieval + retrieval_loss, bad_step]

        _, *sums = tf.while_loop(unfinished, advance, [0, *losses], maximum_iterations=size)
        return EpochLosses(*sums)

    def _step(self, batch: Batch, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Optimiser step `number` (0-based): both losses, whether what is trained on is finite."""
        model, variables = self.model, self.model.trainable_variables
        progress = tf.cast(number, tf.float32) / tf.cast(self._steps, tf.float32)
        decay = tf.where(self._cosine, (1 + tf.cos(math.pi * progress)) / 2, 1.0)
        self.optimizer.learning_rate.assign(self._learning_rate * decay)
        with tf.GradientTape() as tape:
            losses = model.task_losses(batch)
            loss = model.weighted(losses)
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        gradients = as_applied(gradients, variables, model.shape)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return losses.rating, losses.retrieval, tf.math.is_finite(loss)

    def _tables_graph(self) -> tuple[tf.Tensor, ...]:
        """The `Tables`, strangers being the mean of the trained; users `[U, E]` and items `[I, E]` for retrieval."""
        model, tables, (trained_users, trained_items) = self.model, self.model.tables(), self._trained
        users, items = _with_strangers(tables.users, trained_users), _with_strangers(tables.items, trained_items)
        # Not 0, which would rank them before most others: biases that were trained centre below it.
        score_bias = None if model.score_bias is None else _with_strangers(model.score_bias, trained_items)
        for_retrieval = model.retrieval_users(users), model.retrieval_items(items, score_bias)
        return (*tables._replace(users=users, items=items), *for_retrieval)

    def means(self) -> tuple[tf.Tensor, tf.Tensor]:
        """`[1, D]` each: the mean of the trained users and of the trained items, which stands for the unknown."""
        users, items = (
            _mean(table, trained) for table, trained in zip(self.model.tables()[:2], self._trained, strict=True)
        )
        return users, items

    def _rate_graph(self, *tables_and_index: tf.Tensor) -> tf.Tensor:
        *tables, users, items = tables_and_index
        return self.model.rate(Tables(*tables), SortedIndex(users), SortedIndex(items))


def _with_strangers(table: tf.Tensor, trained: tf.Tensor) -> tf.Tensor:
    """The table `[n, W]`, rows that were not trained being the mean of those that were."""
    return tf.where(trained[:, tf.newaxis], table, _mean(table, trained))


def _mean(table: tf.Tensor, trained: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.boolean_mask(table, trained), axis=0, keepdims=True)


def _specs(shape: Shape) -> list[tf.TensorSpec]:
    """Of `Tables`."""
    return [tf.TensorSpec([None, columns]) for columns in (shape.embedding_size, shape.embedding_size, 1, 1)]
