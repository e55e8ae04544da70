"""One model, its optimiser and its traced graphs, shared by all trials of one shape."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from mtsearch.config import TrialConfig
from mtsearch.data.split import Split
from mtsearch.recsys.model import JointModel, Shape


class TrainingRows(NamedTuple):
    """The training rows on the device, sorted by user: `[N]` each."""

    users: tf.Tensor
    items: tf.Tensor
    ratings: tf.Tensor


class EpochLosses(NamedTuple):
    """Mean losses per row of one epoch, and the 1-based step whose loss was not finite (0: all were)."""

    rating: tf.Tensor
    retrieval: tf.Tensor
    bad_step: tf.Tensor


class CompiledModel:
    """A `JointModel` whose graphs are traced once and whose weights are set anew for each trial.

    Equal to a fresh model to the last bit; making and tracing one takes about 0.25 s, a reset 5 ms.
    """

    def __init__(self, shape: Shape, rows: TrainingRows, split: Split) -> None:
        self.model = JointModel(shape)
        self.optimizer = tf_keras.optimizers.Adagrad()
        first = {name: tensor[:1] for name, tensor in rows._asdict().items()}
        self.model.compute_loss(first)  # builds the variables
        self.optimizer.build(self.model.trainable_variables)
        self._fresh_optimizer = [variable.numpy() for variable in self.optimizer.variables]
        self._rows = rows
        self._known = tf.constant(split.known_users), tf.constant(split.known_items)
        table, rows_of = tf.TensorSpec([None, shape.embedding_size]), tf.TensorSpec([None], tf.int32)
        self._epoch = _traced(self._epoch_graph, rows_of, tf.TensorSpec([], tf.int32))
        self.tables = _traced(self._tables_graph)
        self.rate = _traced(self.model.rate, table, table, rows_of, rows_of)

    @property
    def parameters(self) -> int:
        """Number of trainable weights."""
        return sum(int(np.prod(variable.shape)) for variable in self.model.trainable_variables)

    def reset(self, config: TrialConfig) -> None:
        """Make everything what a new model of `config` would start with."""
        self.model.initialize(config.seed)
        self.model.rating_weight.assign(config.rating_weight)
        self.model.retrieval_weight.assign(config.retrieval_weight)
        for variable, value in zip(self.optimizer.variables, self._fresh_optimizer, strict=True):
            variable.assign(value)
        self.optimizer.learning_rate = config.learning_rate

    def epoch(self, order: NDArray[np.int32], batch_size: int) -> EpochLosses:
        """Train on the rows in `order` `[N]`, `batch_size` at a time; stops at the first non-finite loss."""
        return EpochLosses(*self._epoch(tf.constant(order), tf.constant(batch_size)))

    def _epoch_graph(self, order: tf.Tensor, batch_size: tf.Tensor) -> EpochLosses:
        # NOTE: a whole epoch in one graph saves 4-5 % over a call per step, and a round trip to the host per step.
        size = tf.size(order)

        def unfinished(step: tf.Tensor, _rating: tf.Tensor, _retrieval: tf.Tensor, bad_step: tf.Tensor) -> tf.Tensor:
            return tf.logical_and(step * batch_size < size, bad_step == 0)

        def advance(step: tf.Tensor, rating: tf.Tensor, retrieval: tf.Tensor, bad_step: tf.Tensor) -> list[tf.Tensor]:
            batch = order[step * batch_size : tf.minimum((step + 1) * batch_size, size)]
            rating_loss, retrieval_loss, finite = self._step(batch)
            rows = tf.cast(tf.size(batch), tf.float32)
            bad_step = tf.where(finite, bad_step, step + 1)
            return [step + 1, rating + rating_loss * rows, retrieval + retrieval_loss, bad_step]

        _, rating, retrieval, bad_step = tf.while_loop(unfinished, advance, [0, 0.0, 0.0, 0], maximum_iterations=size)
        rows = tf.cast(size, tf.float32)
        return EpochLosses(rating / rows, retrieval / rows, bad_step)

    def _step(self, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """One optimiser step on the rows `batch` `[B]`: both losses, whether their weighted sum is finite."""
        model, variables = self.model, self.model.trainable_variables
        users, items, ratings = (tf.gather(column, batch) for column in self._rows)
        with tf.GradientTape() as tape:
            rating_loss, retrieval_loss = model.task_losses(users, items, ratings)
            loss = model.weighted(rating_loss, retrieval_loss)
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return rating_loss, retrieval_loss, tf.math.is_finite(loss)

    def _tables_graph(self) -> tuple[tf.Tensor, tf.Tensor]:
        """User and item tables `[U, D]`, `[I, D]`; who was not trained gets the mean of who was."""
        tables = self.model.user_table, self.model.item_table
        return tuple(_fill_unknown(table, known) for table, known in zip(tables, self._known, strict=True))


def _traced(graph: Callable[..., Any], *signature: tf.TensorSpec) -> Callable[..., Any]:
    """`graph` as one TensorFlow function, traced here and now, never again."""
    function: Callable[..., Any] = tf.function(graph, autograph=False).get_concrete_function(*signature)
    return function


def _fill_unknown(table: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(tf.boolean_mask(table, known), axis=0)
    return tf.where(known[:, tf.newaxis], table, mean)
