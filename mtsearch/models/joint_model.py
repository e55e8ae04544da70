"""Define the joint model (two towers, a rating head, two tasks), and the key of its graph, `GraphKey`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from mtsearch.data.split import Split
from mtsearch.models.tasks import (
    Dropout,
    ExactRetrieval,
    RatingLayers,
    SortedIndex,
    Unique,
    gather,
    unique,
    unique_static,
)
from mtsearch.study_file.config import TrialConfig

LEAST_LARGE, LARGE_BATCHES = 10_000, 4
"""A table is large if it has at least this number of rows, and at least this number of times the rows of a batch.

NOTE: Adagrad on one table of D = 32, by the rows of a batch that differ, ms on 2 busy cores, over the whole table and
over these rows: 4,000 of 10,000 1.0 and 1.3; 4,000 of 20,000 1.3 and 1.4; 4,200 of 62,000 3.7 and 1.7; 7,200 of 162,000
11.8 and 4.3. Both give the same, to rounding.
"""


@dataclass(frozen=True)
class GraphKey:
    """The settings that the graph of a joint model depends on; the other settings of a trial are inputs of the graph.

    Attributes:
        users, items: rows of the embedding tables, U and I.
        large_users, large_items: True: a step updates only the rows of the table that its batch has; see `is_large`.
        embedding_dropout, hidden_dropout: True if there is dropout; its rate is an input.
        l2: True if there is a penalty; its size is an input.
        uncertainty: True if the balance of the losses is learnt.
        static_batch: B of a graph that XLA compiles for batches of this size; None: the graph takes any, without XLA.
    """

    users: int
    items: int
    large_users: bool
    large_items: bool
    embedding_size: int
    retrieval_loss: str
    normalize: bool
    item_bias: bool
    remove_accidental_hits: bool
    rating_biases: bool
    dot_product: bool
    hidden_widths: tuple[int, ...]
    precision: str
    embedding_dropout: bool
    hidden_dropout: bool
    l2: bool
    uncertainty: bool
    optimizer: str
    static_batch: int | None

    @classmethod
    def of(cls, config: TrialConfig, users: int, items: int, xla: bool = False) -> Self:
        """Return the key of `config` on embedding tables of the given numbers of users and items."""
        return cls(
            users,
            items,
            is_large(users, config.batch_size),
            is_large(items, config.batch_size),
            config.embedding_size,
            config.retrieval_loss,
            config.normalize,
            config.item_bias,
            config.remove_accidental_hits and config.retrieval_loss != "full",
            config.rating_biases,
            config.dot_product,
            config.hidden_widths,
            config.precision,
            embedding_dropout=config.embedding_dropout > 0,
            hidden_dropout=config.hidden_dropout > 0 and bool(config.hidden_widths),
            l2=config.l2 > 0,
            uncertainty=config.balance == "uncertainty",
            optimizer=config.optimizer,
            static_batch=config.batch_size if xla else None,
        )


def is_large(rows: int, batch_size: int) -> bool:
    """Return whether updating a whole table costs more than finding the rows that a batch has."""
    return rows >= max(LEAST_LARGE, LARGE_BATCHES * batch_size)


_USER_MASK, _ITEM_MASK, _HIDDEN_MASK = range(3)


class Batch(NamedTuple):
    """The rows of a batch, users ascending: `[B]` each.

    Attributes:
        users, items: int32.
        ratings: float32, in rating units.
        by_item: int32, indices into the batch, in the order of their items; None in a graph that XLA compiles.
        seed: `[2]` int32, seed of the dropout masks.
        weights: float32, 1 for a row and 0 for one that fills the batch; None: all are rows.
    """

    users: tf.Tensor
    items: tf.Tensor
    ratings: tf.Tensor
    by_item: tf.Tensor | None
    seed: tf.Tensor
    weights: tf.Tensor | None = None

    @property
    def size(self) -> tf.Tensor:
        """Number of rows as a float32 scalar, without those that fill the batch."""
        return tf.cast(tf.size(self.users), tf.float32) if self.weights is None else tf.reduce_sum(self.weights)


class Tables(NamedTuple):
    """The arrays of the rating head: embeddings `[u, D]` and `[i, D]`, and biases `[u, 1]` and `[i, 1]` or none."""

    users: tf.Tensor
    items: tf.Tensor
    user_bias: tf.Tensor
    item_bias: tf.Tensor


class Losses(NamedTuple):
    """The losses of a batch as scalars: mean squared rating error, summed retrieval loss, L2 penalty."""

    rating: tf.Tensor
    retrieval: tf.Tensor
    penalty: tf.Tensor


class TrialInputs:
    """The settings in which trials of one graph differ, as variables of the graph."""

    def __init__(self) -> None:
        names = ("rating_weight", "retrieval_weight", "temperature", "embedding_dropout", "hidden_dropout", "l2")
        self._by_name = {name: tf.Variable(0.0, trainable=False, name=name) for name in names}

    def assign(self, config: TrialConfig) -> None:
        """Set the variables to the values of a trial."""
        for name, variable in self._by_name.items():
            variable.assign(getattr(config, name))

    def __getitem__(self, name: str) -> tf.Variable:
        """Return the variable of a setting."""
        return self._by_name[name]


class JointModel(tfrs.models.Model):  # type: ignore[misc]
    """Ratings and retrieval from shared embeddings, on integer codes of users and items.

    The loss of a batch is `rating_weight` times the mean squared error of its ratings plus `retrieval_weight` times
    its summed retrieval loss plus the L2 penalty; with learnt uncertainties s (log variances; Kendall, Gal, Cipolla,
    "Multi-task learning using uncertainty", CVPR 2018)

        exp(-s_1) / 2 * rating term + exp(-s_2) * retrieval term + (s_1 + s_2) / 2 + penalty.

    Args:
        graph_key: settings of the graph.
        split: its training rows give the global mean and the items' sampling probabilities, its catalogue the items
            of the full softmax.
    """

    def __init__(self, graph_key: GraphKey, split: Split) -> None:
        super().__init__()
        self.graph_key = graph_key
        size = graph_key.embedding_size
        self.user_table = self.add_weight("user_table", [graph_key.users, size], initializer="zeros")
        self.item_table = self.add_weight("item_table", [graph_key.items, size], initializer="zeros")
        if graph_key.rating_biases:
            self.user_bias = self.add_weight("user_bias", [graph_key.users, 1], initializer="zeros")
            self.item_bias = self.add_weight("item_bias", [graph_key.items, 1], initializer="zeros")
        self.score_bias = None
        if graph_key.item_bias:
            self.score_bias = self.add_weight("score_bias", [graph_key.items, 1], initializer="zeros")
        if graph_key.uncertainty:
            self.log_variance = self.add_weight("bias_log_variance", [2], initializer="zeros")
        self.rating_layers = RatingLayers(graph_key.hidden_widths, graph_key.precision)
        self.trial_inputs = TrialInputs()
        self.rating_task = tfrs.tasks.Ranking(loss=tf_keras.losses.MeanSquaredError())
        self.retrieval_task = ExactRetrieval(
            temperature=self.trial_inputs["temperature"],
            remove_accidental_hits=graph_key.remove_accidental_hits,
        )
        self._mean_rating = float(split.train.ratings.mean(dtype=np.float64))
        self._catalogue = _Catalogue(split)

    def tables(self) -> Tables:
        """Return the embeddings and biases of all users and items."""
        if self.graph_key.rating_biases:
            return Tables(self.user_table, self.item_table, self.user_bias, self.item_bias)
        return Tables(self.user_table, self.item_table, tf.zeros([0, 1]), tf.zeros([0, 1]))

    def rate(self, tables: Tables, users: SortedIndex, items: SortedIndex, dropout: Dropout | None = None) -> tf.Tensor:
        """Return the predicted ratings `[B]`, in rating units, of rows of the given tables."""
        pair = tables.users, tables.items
        ratings = self.rating_layers(pair, users=users, items=items, dropout=dropout)
        if self.graph_key.dot_product:
            ratings += tf.reduce_sum(gather(tables.users, users) * gather(tables.items, items), axis=1)
        if self.graph_key.rating_biases:
            biases = gather(tables.user_bias, users) + gather(tables.item_bias, items)
            ratings += self._mean_rating + tf.squeeze(biases, axis=1)
        return ratings

    def retrieval_users(self, user_rows: tf.Tensor) -> tf.Tensor:
        """Return user embeddings `[u, D]` in the form that the retrieval scores use."""
        if self.graph_key.normalize:
            user_rows = tf.math.l2_normalize(user_rows, axis=1)
        return tf.pad(user_rows, [[0, 0], [0, 1]], constant_values=1.0) if self.graph_key.item_bias else user_rows

    def retrieval_items(self, item_rows: tf.Tensor, score_bias: tf.Tensor | None) -> tf.Tensor:
        """Return item embeddings `[i, D]` and biases `[i, 1]` as one table, as the retrieval scores use them."""
        if self.graph_key.normalize:
            item_rows = tf.math.l2_normalize(item_rows, axis=1)
        return item_rows if score_bias is None else tf.concat([item_rows, score_bias], axis=1)

    def task_losses(self, batch: Batch) -> Losses:
        """Return both losses of a batch, and the penalty."""
        # Each user and item is looked up once, however often the batch has it. The full softmax ranks the catalogue.
        users, items = self._unique(batch)
        full = self.graph_key.retrieval_loss == "full"
        ranked = items._replace(ids=self._catalogue.items) if full else items
        user_rows, ranked_rows = users.take(self.user_table), ranked.take(self.item_table)
        dropped_users = self._drop_embeddings(user_rows, batch, _USER_MASK)
        dropped_ranked = self._drop_embeddings(ranked_rows, batch, _ITEM_MASK)

        def of_batch(rows: tf.Tensor) -> tf.Tensor:
            """Return the rows of the items of the batch, from those of the ranked items."""
            if not full or ranked.ids is items.ids:  # None: all items that there are
                return rows
            return tf.gather(rows, items.take(self._catalogue.places))

        # Rating task: on the users and items of the batch, after dropout.
        biases: tuple[tf.Tensor, ...] = ()
        if self.graph_key.rating_biases:
            biases = users.take(self.user_bias), items.take(self.item_bias)
        tables = Tables(dropped_users, of_batch(dropped_ranked), *(biases or self.tables()[2:]))
        predictions = self.rate(tables, users.rows, items.rows, self._hidden_dropout(batch))
        rating = self.rating_task(
            labels=batch.ratings[:, tf.newaxis],
            predictions=predictions[:, tf.newaxis],
            # Keras divides the sum by the number of all rows, also of those with a weight of 0.
            sample_weight=None if batch.weights is None else batch.weights * batch.weights.shape[0] / batch.size,
        )
        # Retrieval task: each row's item among all ranked items.
        place = tf.gather(self._catalogue.places, batch.items) if full else items.rows.index
        score_bias = None if self.score_bias is None else ranked.take(self.score_bias)
        corrected = self.graph_key.retrieval_loss == "corrected"
        retrieval = self.retrieval_task(
            self.retrieval_users(dropped_users),
            self.retrieval_items(dropped_ranked, score_bias),
            query_index=users.rows,
            candidate_index=items.rows._replace(index=place),
            sample_weight=batch.weights,
            candidate_sampling_probability=ranked.take(self._catalogue.probability) if corrected else None,
            candidate_counts=None if full else items.counts,
        )
        # L2 penalty: of the weights before dropout, each counted once per row that uses it.
        squares = [(users.counts, user_rows), (items.counts, of_batch(ranked_rows))]
        squares += zip((users.counts, items.counts), biases, strict=False)
        return Losses(rating, retrieval, self._penalty(squares, batch.size))

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return the weighted loss of a batch with `users`, `items` and `ratings`, users ascending."""
        columns = inputs["users"], inputs["items"], inputs["ratings"]
        batch = Batch(*columns, by_item=tf.argsort(inputs["items"], stable=True), seed=tf.zeros([2], tf.int32))
        return self.weighted_loss(self.task_losses(batch))

    def weighted_loss(self, losses: Losses) -> tf.Tensor:
        """Return the weighted sum of the losses of a batch, which training minimises."""
        rating = self.trial_inputs["rating_weight"] * losses.rating
        retrieval = self.trial_inputs["retrieval_weight"] * losses.retrieval
        if self.graph_key.uncertainty:
            factors = self.balance_factors()
            rating, retrieval = factors[0] * rating, factors[1] * retrieval + tf.reduce_sum(self.log_variance) / 2
        return rating + retrieval + losses.penalty

    def balance_factors(self) -> tf.Tensor:
        """Return the factors `[2]` of the rating and the retrieval term that follow from learnt uncertainties."""
        return tf.constant([0.5, 1.0]) * tf.exp(-self.log_variance)

    def initialize(self, seed: int) -> None:
        """Set every trainable weight from `seed` alone, by the default initialisers of Keras."""
        # Each weight has a random stream of its own, so that adding a weight does not change the others.
        for number, variable in enumerate(self.trainable_variables):
            state = np.random.SeedSequence([seed, number]).generate_state(1)
            variable.assign(_initializer(variable.name, int(state[0]) % 2**31)(variable.shape))

    def _unique(self, batch: Batch) -> tuple[Unique, Unique]:
        """Return the different users and the different items of a batch."""
        key = self.graph_key
        if batch.weights is not None:
            users = unique_static(batch.users, batch.weights, key.users, key.large_users)
            return users, unique_static(batch.items, batch.weights, key.items, key.large_items)
        users = unique(batch.users, None, key.users, key.large_users)
        return users, unique(batch.items, batch.by_item, key.items, key.large_items)

    def _drop_embeddings(self, rows: tf.Tensor, batch: Batch, mask: int) -> tf.Tensor:
        """Apply embedding dropout: one mask per user or item and step, which both tasks share."""
        if not self.graph_key.embedding_dropout:
            return rows
        rate = self.trial_inputs["embedding_dropout"]
        return Dropout(rate, batch.seed, static=batch.weights is not None)(rows, mask)

    def _hidden_dropout(self, batch: Batch) -> Dropout | None:
        """Return the dropout of the hidden layers, with other masks than the embeddings have; None if there is none."""
        if not self.graph_key.hidden_dropout:
            return None
        rate = self.trial_inputs["hidden_dropout"]
        return Dropout(rate, batch.seed, static=batch.weights is not None).fold_in(_HIDDEN_MASK)

    def _penalty(self, squares: list[tuple[tf.Tensor, tf.Tensor]], size: tf.Tensor) -> tf.Tensor:
        """Return the L2 penalty per row of a batch; `squares` are pairs of row counts and weights."""
        if not self.graph_key.l2:
            return tf.constant(0.0)
        total = tf.add_n([tf.reduce_sum(counts * tf.reduce_sum(rows**2, axis=1)) for counts, rows in squares])
        return self.trial_inputs["l2"] * total / size


class _Catalogue:
    """The items that the full softmax runs over: all that the split ranks or trains on.

    Attributes:
        items: `[C]` int32, ascending; None for all items.
        places: `[I]` int32, index of each item in `items`; 0 for an item that is not among them.
        probability: `[I]` float32, share of each item in the training rows.
    """

    def __init__(self, split: Split) -> None:
        items = split.candidates
        places = np.zeros(len(split.item_ids), np.int32)
        places[items] = np.arange(len(items))
        counts = np.bincount(split.train.items, minlength=len(split.item_ids))
        self.items = tf.constant(items) if len(items) < len(places) else None
        self.places = tf.constant(places)
        self.probability = tf.constant(counts / len(split.train), tf.float32)


def _initializer(name: str, seed: int) -> tf_keras.initializers.Initializer:
    """Return the initialiser of a weight, by its name."""
    if "bias" in name:
        return tf_keras.initializers.Zeros()
    if "table" in name:
        return tf_keras.initializers.RandomUniform(-0.05, 0.05, seed=seed)
    return tf_keras.initializers.GlorotUniform(seed=seed)
