"""Build the TensorFlow graphs of the joint model once, and share them between all trials with one `GraphKey`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import add, truediv
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras

from mtsearch.data.interactions import Codes
from mtsearch.data.split import Split
from mtsearch.models.device import EpochOrder, InputPipeline, TrainingRows, trace
from mtsearch.models.graph_key import GraphKey, LearntTask
from mtsearch.models.joint_model import Batch, JointModel, Tables
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
    """The losses of one epoch.

    Attributes:
        of_tasks: scalars, the mean loss of each task over its rows; see `Losses.totals`.
        bad_step: the step with the first loss that was not finite, from 1 on; 0 means that all were finite.
    """

    of_tasks: tuple[tf.Tensor, ...]
    bad_step: tf.Tensor


class TaskTables(NamedTuple):
    """What serves the tasks of a model, with the mean of the trained rows for unknown (cold-start) users and items.

    Attributes:
        heads: tables of each task of ratings or labels, by its name.
        towers: of each task of retrieval the embeddings `[U, E]` of users and `[I, E]` of items, whose products are the
            scores.
    """

    heads: dict[str, Tables]
    towers: dict[str, tuple[tf.Tensor, tf.Tensor]]


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
        self.model.trial_inputs.assign(TrialConfig(losses="normalized" if graph_key.normalized else "tutorial"))
        self.model.compute_loss(pipeline.first()._asdict())  # builds the variables
        self.optimizer.build(self.model.trainable_variables)
        # The optimiser's state before any step, to which `reset` returns.
        self._fresh_optimizer = [variable.numpy() for variable in self.optimizer.variables]
        self._pipeline = pipeline
        # In the full softmax and the sum over all pairs, all items that are ranked are trained, as negatives; in that
        # sum of a large table only those with rows.
        are_negatives = graph_key.retrieval_loss == "full" or (
            graph_key.retrieval_loss == "squared" and not graph_key.large_items
        )
        negatives = split.candidates[: None if are_negatives else 0]
        trained = split.known_items.copy()
        trained[negatives] = True
        self._trained = tf.constant(split.known_users), tf.constant(trained)
        self._ranked = {}
        for task in split.tasks:
            if task.kind == "retrieval":
                trained = np.bincount(split.train.serving(task).items, minlength=len(split.item_ids)) > 0
                trained[negatives] = True
                self._ranked[task.name] = tf.constant(trained)
        integers, reals = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)
        number, real = tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)
        first = pipeline.first()
        columns = TrainingRows(integers, integers, (reals,) * len(first.targets), (reals,) * len(first.weights))
        sums = EpochLosses((real,) * len(graph_key.tasks), number)
        self._task_rows = [max(1, self.model.scales[task.name].rows) for task in graph_key.tasks]
        self._static_batch = graph_key.static_batch
        signature = columns, integers, integers, number, number, number, number, sums
        self._block = trace(self._block_graph, *signature, xla=self._static_batch is not None)
        self._tables = trace(self._tables_graph)
        self._predict = {
            task.name: trace(partial(self._predict_graph, task), *_specs(graph_key), integers, integers)
            for task in graph_key.tasks
            if task.kind != "retrieval"
        }

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

    def set_loss_weights(self, weights: Iterable[float]) -> None:
        """Set the weights of the tasks' losses, from the next epoch on."""
        for variable, weight in zip(self.model.trial_inputs.weights, weights, strict=True):
            variable.assign(weight)

    def epoch(self, order: EpochOrder, batch_size: int, first_step: int = 0) -> EpochLosses:
        """Train one epoch on the rows in `order`, in batches of `batch_size`; stop at the first non-finite loss.

        Args:
            order: of the epoch's rows.
            batch_size: B.
            first_step: steps that the trial has taken before: learning rate and dropout masks depend on it.
        """
        losses, done = EpochLosses((tf.constant(0.0),) * len(self._task_rows), tf.constant(0)), 0
        # Each call of the graph trains on one block of batches and goes on with the sums of the blocks before.
        for block in self._pipeline.epoch(order, batch_size, whole=self._static_batch is not None):
            numbers = map(tf.constant, (block.size, batch_size, first_step, done))
            losses = self._block(block.table, block.rows, block.by_item, *numbers, losses)
            done += math.ceil(block.size / batch_size)
        totals = (tf.constant(rows, tf.float32) for rows in self._task_rows)
        return losses._replace(of_tasks=tuple(map(truediv, losses.of_tasks, totals)))

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

        def unfinished(step: tf.Tensor, so_far: EpochLosses) -> tf.Tensor:
            if self._static_batch is not None:
                # XLA knows this number of steps, and need not ask the device after each. The rows fill whole batches.
                return step < tf.size(rows) // self._static_batch
            return tf.logical_and(step * batch_size < size, so_far.bad_step == 0)

        def advance(step: tf.Tensor, so_far: EpochLosses) -> list[tf.Tensor | EpochLosses]:
            # Batches are consecutive slices of the drawn rows; the last one may be shorter.
            start, end = step * batch_size, tf.minimum((step + 1) * batch_size, size)
            number = first_step + done + step
            seed = tf.stack([tf.cast(self._seed, tf.int32), number])
            if self._static_batch is None:
                taken, order, weights = rows[start:end], by_item[start:end], None
            else:
                taken, order = tf.slice(rows, [start], [self._static_batch]), None
                weights = tf.cast(start + tf.range(self._static_batch) < size, tf.float32)
            users, items, targets, row_weights = table.take(taken)
            batch = Batch(users, items, targets, order, seed, weights, row_weights)
            totals, finite = self._step(batch, number)
            bad_step = so_far.bad_step
            bad_step = tf.where(tf.logical_or(finite, bad_step > 0), bad_step, done + step + 1)
            return [step + 1, EpochLosses(tuple(map(add, so_far.of_tasks, totals)), bad_step)]

        _, summed = tf.while_loop(unfinished, advance, [0, losses], maximum_iterations=size)
        return EpochLosses(*summed)

    def _step(self, batch: Batch, number: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """Run one optimiser step, numbered from 0; return `Losses.totals`, and whether the trained loss is finite."""
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
        return losses.totals, tf.math.is_finite(loss)

    def tables(self) -> TaskTables:
        """Return what serves the tasks, with the present weights."""
        return TaskTables(*self._tables())

    def _tables_graph(self) -> tuple[dict[str, Tables], dict[str, tuple[tf.Tensor, tf.Tensor]]]:
        model, (trained_users, trained_items) = self.model, self._trained
        users = _with_unknown(model.user_table, trained_users)
        items = _with_unknown(model.item_table, trained_items)
        heads, towers = {}, {}
        for task in model.graph_key.tasks:
            views = model.view(task, users, "user"), model.view(task, items, "item")
            if task.kind != "retrieval":
                heads[task.name] = model.tables(task)._replace(users=views[0], items=views[1])
                continue
            score_bias = model.score_biases.get(task.name)
            # Unknown items get the mean bias and not 0: trained ones are mostly negative, so 0 would rank them first.
            if score_bias is not None:
                score_bias = _with_unknown(score_bias, self._ranked[task.name])
            towers[task.name] = model.retrieval_users(views[0]), model.retrieval_items(views[1], score_bias)
        return heads, towers

    def means(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the mean embeddings `[1, D]` of the trained users and of the trained items, for unknown ids."""
        users, items = self.model.user_table, self.model.item_table
        return _mean(users, self._trained[0]), _mean(items, self._trained[1])

    def predict(self, task: str, tables: Tables, users: Codes, items: Codes) -> tf.Tensor:
        """Return the predictions `[B]` of a task for pairs of rows of its tables; see `JointModel.predictions`."""
        return self._predict[task](*tables, tf.constant(users), tf.constant(items))

    def _predict_graph(self, task: LearntTask, *tables_and_index: tf.Tensor) -> tf.Tensor:
        *tables, users, items = tables_and_index
        return self.model.predictions(task, Tables(*tables), SortedIndex(users), SortedIndex(items))


def _with_unknown(table: tf.Tensor, trained: tf.Tensor) -> tf.Tensor:
    """Return a table `[n, W]` in which each row that was not trained is the mean of those that were."""
    return tf.where(trained[:, tf.newaxis], table, _mean(table, trained))


def _mean(table: tf.Tensor, trained: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.boolean_mask(table, trained), axis=0, keepdims=True)


def _specs(graph_key: GraphKey) -> list[tf.TensorSpec]:
    """Return the TensorFlow types of the four arrays of `Tables`."""
    return [tf.TensorSpec([None, columns]) for columns in (graph_key.embedding_size, graph_key.embedding_size, 1, 1)]
