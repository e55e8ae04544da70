"""Build the TensorFlow graphs of the joint model once, and share them between all trials with one `GraphKey`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras

from mtsearch.data.split import Split
from mtsearch.models.device import EpochOrder, InputPipeline, TrainingRows, trace
from mtsearch.models.joint_model import Batch, GraphKey, JointModel, Tables
from mtsearch.models.tasks import SortedIndex
from mtsearch.study_file.config import TrialConfig

_ROW_BY_ROW = ("adagrad", "sgd")
"""Optimisers for which rows with a gradient of 0 can be left out, with the same result to rounding.

In these, a gradient of 0 changes neither the weight nor its accumulator. Adam's moments shrink at every step, and a row
moves on by them long after its last gradient. Leaving the row out would be another optimiser ("lazy Adam"), so Adam and
AdamW update whole tables, as published.
"""


class _RowwiseSGD(tf_keras.optimizers.SGD):  # type: ignore[misc]
    """SGD that changes only the rows that have a gradient.

    The optimiser of Keras also keeps a momentum of 0 for the whole table.
    """

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Subtract a gradient, times the learning rate, from a variable or from some of its rows."""
        if isinstance(gradient, tf.IndexedSlices):
            variable.scatter_add(tf.IndexedSlices(-gradient.values * self.learning_rate, gradient.indices))
        else:
            super().update_step(gradient, variable)


OPTIMIZERS: dict[str, Callable[[], tf_keras.optimizers.Optimizer]] = {
    "adagrad": tf_keras.optimizers.Adagrad,
    "adam": tf_keras.optimizers.Adam,
    # NOTE: a variable, so that trials share the graph.
    "adamw": lambda: tf_keras.optimizers.AdamW(weight_decay=tf.Variable(0.0, trainable=False)),
    "sgd": _RowwiseSGD,
}


def prepare_gradients(
    gradients: Sequence[tf.Tensor | tf.IndexedSlices], variables: Sequence[tf.Variable], graph_key: GraphKey
) -> list[tf.Tensor | tf.IndexedSlices]:
    """Return the gradients in the form that the optimiser takes: by rows for some large tables, else dense."""
    # The sizes of the tables that are updated by rows: a variable is recognised by its number of rows.
    by_rows: set[int] = set()
    if graph_key.optimizer in _ROW_BY_ROW and graph_key.static_batch is None:
        by_rows |= {graph_key.users} if graph_key.large_users else set()
        # The full softmax has a gradient for every item.
        by_rows |= {graph_key.items} if graph_key.large_items and graph_key.retrieval_loss != "full" else set()
    return [
        gradient if isinstance(gradient, tf.IndexedSlices) and variable.shape[0] in by_rows
        else _dense(gradient, variable)
        for gradient, variable in zip(gradients, variables, strict=True)
    ]  # fmt: skip


def _dense(gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> tf.Tensor:
    """Return a gradient for every row of a variable, with zeros for the rows that the batch does not have."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
    return gradient


class EpochLosses(NamedTuple):
    """Mean losses per row of one epoch, and the step with the first loss that was not finite.

    Steps are numbered from 1; 0 means that all losses were finite.
    """

    rating: tf.Tensor
    retrieval: tf.Tensor
    bad_step: tf.Tensor


class CompiledModel:
    """A `JointModel` whose graphs are traced once and whose weights are set again for each trial.

    Equal to a fresh model to the last bit; making and tracing one takes about 0.3 s, a reset 5 ms.
    """

    def __init__(self, graph_key: GraphKey, pipeline: InputPipeline, split: Split) -> None:
        self.model = JointModel(graph_key, split)
        self.optimizer = OPTIMIZERS[graph_key.optimizer]()
        self._learning_rate = tf.Variable(0.0, trainable=False)
        self._cosine = tf.Variable(False, trainable=False)
        # NOTE: 64 bits, since TensorFlow keeps a variable of 32-bit integers on the host, out of XLA's reach.
        self._seed = tf.Variable(0, trainable=False, dtype=tf.int64)
        self._steps = tf.Variable(1, trainable=False, dtype=tf.int64)
        self.model.trial_inputs.assign(TrialConfig())
        self.model.compute_loss(pipeline.first()._asdict())  # builds the variables
        self.optimizer.build(self.model.trainable_variables)
        # The optimiser's state before any step, to which `reset` returns.
        self._fresh_optimizer = [variable.numpy() for variable in self.optimizer.variables]
        self._pipeline = pipeline
        trained = split.known_items.copy()
        if graph_key.retrieval_loss == "full":
            trained[split.catalogue] = True  # as negatives
        self._trained = tf.constant(split.known_users), tf.constant(trained)
        integers, reals = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)
        number, real = tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)
        columns = TrainingRows(integers, integers, reals)
        sums = EpochLosses(real, real, number)
        self._static_batch = graph_key.static_batch
        signature = columns, integers, integers, number, number, number, number, sums
        self._block = trace(self._block_graph, *signature, xla=self._static_batch is not None)
        self.tables = trace(self._tables_graph)
        self.rate = trace(self._rate_graph, *_specs(graph_key), integers, integers)

    @property
    def parameters(self) -> int:
        """Number of trainable weights."""
        return sum(int(np.prod(variable.shape)) for variable in self.model.trainable_variables)

    def reset(self, config: TrialConfig) -> None:
        """Set weights, optimiser and settings to those that a new model of `config` would start with."""
        self.model.initialize(config.seed)
        self.model.trial_inputs.assign(config)
        for variable, value in zip(self.optimizer.variables, self._fresh_optimizer, strict=True):
            variable.assign(value)
        if config.optimizer == "adamw":
            self.optimizer.weight_decay.assign(config.weight_decay)
        self._learning_rate.assign(config.learning_rate)
        self._cosine.assign(config.schedule == "cosine")
        self._seed.assign(config.seed)
        self._steps.assign(config.epochs * math.ceil(self._pipeline.size / config.batch_size))

    def set_loss_weights(self, rating: float, retrieval: float) -> None:
        """Set the weights of the two losses, from the next epoch on."""
        self.model.trial_inputs["rating_weight"].assign(rating)
        self.model.trial_inputs["retrieval_weight"].assign(retrieval)

    def epoch(self, order: EpochOrder, batch_size: int, first_step: int = 0) -> EpochLosses:
        """Train one epoch on the rows in `order`, in batches of `batch_size`; stop at the first non-finite loss.

        Args:
            order: of the epoch's rows.
            batch_size: B.
            first_step: steps that the trial has taken before: learning rate and dropout masks depend on it.
        """
        losses, done = EpochLosses(tf.constant(0.0), tf.constant(0.0), tf.constant(0)), 0
        # Each call of the graph trains on one block of batches and goes on with the sums of the blocks before.
        for block in self._pipeline.epoch(order, batch_size, whole=self._static_batch is not None):
            numbers = map(tf.constant, (block.size, batch_size, first_step, done))
            losses = EpochLosses(*self._block(block.table, block.rows, block.by_item, *numbers, losses))
            done += math.ceil(block.size / batch_size)
        total = tf.constant(len(order.rows), tf.float32)
        return losses._replace(rating=losses.rating / total, retrieval=losses.retrieval / total)

    def _block_graph(
        self,
        table: TrainingRows,
        rows: tf.Tensor,
        by_item: tf.Tensor,
        size: tf.Tensor,
        batch_size: tf.Tensor,
        first_step: tf.Tensor,
        done: tf.Tensor,
        losses: EpochLosses,
    ) -> EpochLosses:
        """Train on some batches of an epoch, and return `losses` with the sums of these batches added.

        The first `size` of `rows` count; `done` is the number of batches of this epoch before them.
        """
        # NOTE: a whole epoch in one graph saves 4-5 % over a call per step, and a round trip to the host per step.

        def unfinished(step: tf.Tensor, _rating: tf.Tensor, _retrieval: tf.Tensor, bad_step: tf.Tensor) -> tf.Tensor:
            if self._static_batch is not None:
                # XLA knows this number of steps, and need not ask the device after each. The rows fill whole batches.
                return step < tf.size(rows) // self._static_batch
            return tf.logical_and(step * batch_size < size, bad_step == 0)

        def advance(step: tf.Tensor, rating: tf.Tensor, retrieval: tf.Tensor, bad_step: tf.Tensor) -> list[tf.Tensor]:
            # Batches are consecutive slices of the drawn rows; the last one may be shorter.
            start, end = step * batch_size, tf.minimum((step + 1) * batch_size, size)
            number = first_step + done + step
            seed = tf.stack([tf.cast(self._seed, tf.int32), number])
            if self._static_batch is None:
                taken, order, weights = rows[start:end], by_item[start:end], None
            else:
                taken, order = tf.slice(rows, [start], [self._static_batch]), None
                weights = tf.cast(start + tf.range(self._static_batch) < size, tf.float32)
            users, items, ratings = (tf.gather(column, taken) for column in table)
            batch = Batch(users, items, ratings, order, seed, weights)
            rating_loss, retrieval_loss, finite = self._step(batch, number)
            bad_step = tf.where(tf.logical_or(finite, bad_step > 0), bad_step, done + step + 1)
            rating += rating_loss * tf.cast(end - start, tf.float32)
            return [step + 1, rating, retrieval + retrieval_loss, bad_step]

        _, *sums = tf.while_loop(unfinished, advance, [0, *losses], maximum_iterations=size)
        return EpochLosses(*sums)

    def _step(self, batch: Batch, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Run one optimiser step, numbered from 0; return both losses, and whether the trained loss is finite."""
        model, variables = self.model, self.model.trainable_variables
        progress = tf.cast(number, tf.float32) / tf.cast(self._steps, tf.float32)
        # Both schedules are in the graph, so that trials with either share it.
        decay = tf.where(self._cosine, (1 + tf.cos(math.pi * progress)) / 2, 1.0)
        self.optimizer.learning_rate.assign(self._learning_rate * decay)
        with tf.GradientTape() as tape:
            losses = model.task_losses(batch)
            loss = model.weighted_loss(losses)
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        gradients = prepare_gradients(gradients, variables, model.graph_key)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return losses.rating, losses.retrieval, tf.math.is_finite(loss)

    def _tables_graph(self) -> tuple[tf.Tensor, ...]:
        """Return the `Tables`, and the embeddings `[U, E]` of users and `[I, E]` of items for retrieval.

        Unknown (cold-start) users and items have the mean of the trained ones.
        """
        model, tables, (trained_users, trained_items) = self.model, self.model.tables(), self._trained
        users, items = _with_unknown(tables.users, trained_users), _with_unknown(tables.items, trained_items)
        # Unknown items get the mean bias and not 0: trained biases are mostly negative, so 0 would rank them first.
        score_bias = None if model.score_bias is None else _with_unknown(model.score_bias, trained_items)
        for_retrieval = model.retrieval_users(users), model.retrieval_items(items, score_bias)
        return (*tables._replace(users=users, items=items), *for_retrieval)

    def means(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the mean embeddings `[1, D]` of the trained users and of the trained items, for unknown ids."""
        users, items = (
            _mean(table, trained) for table, trained in zip(self.model.tables()[:2], self._trained, strict=True)
        )
        return users, items

    def _rate_graph(self, *tables_and_index: tf.Tensor) -> tf.Tensor:
        *tables, users, items = tables_and_index
        return self.model.rate(Tables(*tables), SortedIndex(users), SortedIndex(items))


def _with_unknown(table: tf.Tensor, trained: tf.Tensor) -> tf.Tensor:
    """Return a table `[n, W]` in which each row that was not trained is the mean of those that were."""
    return tf.where(trained[:, tf.newaxis], table, _mean(table, trained))


def _mean(table: tf.Tensor, trained: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.boolean_mask(table, trained), axis=0, keepdims=True)


def _specs(graph_key: GraphKey) -> list[tf.TensorSpec]:
    """Return the TensorFlow types of the four arrays of `Tables`."""
    return [tf.TensorSpec([None, columns]) for columns in (graph_key.embedding_size, graph_key.embedding_size, 1, 1)]
