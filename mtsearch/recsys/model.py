"""The joint model: two towers, a rating head, two tasks. By default that of the multi-task tutorial."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from mtsearch.config import TrialConfig
from mtsearch.data.split import Split
from mtsearch.recsys.dropout import Dropout
from mtsearch.recsys.gather import SortedIndex, gather, unique
from mtsearch.recsys.rating import RatingLayers
from mtsearch.recsys.retrieval import ExactRetrieval
from mtsearch.recsys.shape import Shape

_USER_MASK, _ITEM_MASK, _HIDDEN_MASK = range(3)


class Batch(NamedTuple):
    """Rows of a batch, users ascending: `[B]` each.

    Attributes:
        users, items: int32.
        ratings: float32, in stars.
        by_item: int32, places in the batch in the order of their items.
        seed: `[2]` int32, of the dropout masks.
    """

    users: tf.Tensor
    items: tf.Tensor
    ratings: tf.Tensor
    by_item: tf.Tensor
    seed: tf.Tensor


class Tables(NamedTuple):
    """What the rating head reads of users and items: `[u, D]`, `[i, D]`; where there are biases, `[u, 1]`, `[i, 1]`."""

    users: tf.Tensor
    items: tf.Tensor
    user_bias: tf.Tensor
    item_bias: tf.Tensor


class Losses(NamedTuple):
    """Scalars of a batch: mean squared rating error, summed retrieval loss, L2 penalty."""

    rating: tf.Tensor
    retrieval: tf.Tensor
    penalty: tf.Tensor


class Inputs:
    """What trials of one shape differ in, as variables of their graph."""

    def __init__(self) -> None:
        names = ("rating_weight", "retrieval_weight", "temperature", "embedding_dropout", "hidden_dropout", "l2")
        self._by_name = {name: tf.Variable(0.0, trainable=False, name=name) for name in names}

    def assign(self, config: TrialConfig) -> None:
        """Take the values of a trial."""
        for name, variable in self._by_name.items():
            variable.assign(getattr(config, name))

    def __getitem__(self, name: str) -> tf.Variable:
        return self._by_name[name]


class JointModel(tfrs.models.Model):  # type: ignore[misc]
    """Ratings and retrieval from shared embeddings, on integer ids: strings are met at the edge only.

    The loss of a batch is `rating_weight` times the mean squared error of its ratings plus `retrieval_weight` times
    its summed retrieval loss plus the L2 penalty; with learnt uncertainties s (log variances; Kendall, Gal, Cipolla,
    "Multi-task learning using uncertainty", CVPR 2018)

        exp(-s_1) / 2 * rating term + exp(-s_2) * retrieval term + (s_1 + s_2) / 2 + penalty.

    Args:
        shape: of the graph.
        split: its training rows give the global mean and the items' sampling probabilities, its catalogue the items
            of the full softmax.
    """

    def __init__(self, shape: Shape, split: Split) -> None:
        super().__init__()
        self.shape = shape
        size = shape.embedding_size
        self.user_table = self.add_weight("user_table", [shape.users, size], initializer="zeros")
        self.item_table = self.add_weight("item_table", [shape.items, size], initializer="zeros")
        if shape.rating_biases:
            self.user_bias = self.add_weight("user_bias", [shape.users, 1], initializer="zeros")
            self.item_bias = self.add_weight("item_bias", [shape.items, 1], initializer="zeros")
        self.score_bias = None
        if shape.item_bias:
            self.score_bias = self.add_weight("score_bias", [shape.items, 1], initializer="zeros")
        if shape.uncertainty:
            self.log_variance = self.add_weight("bias_log_variance", [2], initializer="zeros")
        self.rating_layers = RatingLayers(shape.hidden_widths, shape.precision)
        self.inputs_of_trial = Inputs()
        self.rating_task = tfrs.tasks.Ranking(loss=tf_keras.losses.MeanSquaredError())
        self.retrieval_task = ExactRetrieval(
            temperature=self.inputs_of_trial["temperature"],
            remove_accidental_hits=shape.remove_accidental_hits,
        )
        self._mean_rating = float(split.train.ratings.mean(dtype=np.float64))
        self._catalogue = _Catalogue(split)

    def tables(self) -> Tables:
        """Everything that is known of users and items."""
        if self.shape.rating_biases:
            return Tables(self.user_table, self.item_table, self.user_bias, self.item_bias)
        return Tables(self.user_table, self.item_table, tf.zeros([0, 1]), tf.zeros([0, 1]))

    def rate(self, tables: Tables, users: SortedIndex, items: SortedIndex, dropout: Dropout | None = None) -> tf.Tensor:
        """Predicted ratings `[B]` in stars, of rows of the given tables."""
        pair = tables.users, tables.items
        ratings = self.rating_layers(pair, users=users, items=items, dropout=dropout)
        if self.shape.dot_product:
            ratings += tf.reduce_sum(gather(tables.users, users) * gather(tables.items, items), axis=1)
        if self.shape.rating_biases:
            biases = gather(tables.user_bias, users) + gather(tables.item_bias, items)
            ratings += self._mean_rating + tf.squeeze(biases, axis=1)
        return ratings

    def retrieval_users(self, user_rows: tf.Tensor) -> tf.Tensor:
        """Rows `[u, D]` as the retrieval scores take them."""
        if self.shape.normalize:
            user_rows = tf.math.l2_normalize(user_rows, axis=1)
        return tf.pad(user_rows, [[0, 0], [0, 1]], constant_values=1.0) if self.shape.item_bias else user_rows

    def retrieval_items(self, item_rows: tf.Tensor, score_bias: tf.Tensor | None) -> tf.Tensor:
        """Rows `[i, D]` of items and their biases `[i, 1]`, as the retrieval scores take them: a score is a product."""
        if self.shape.normalize:
            item_rows = tf.math.l2_normalize(item_rows, axis=1)
        return item_rows if score_bias is None else tf.concat([item_rows, score_bias], axis=1)

    def task_losses(self, batch: Batch) -> Losses:
        """Both losses of a batch, and the penalty."""
        users = unique(batch.users, None, self.shape.users, self.shape.large_users)
        items = unique(batch.items, batch.by_item, self.shape.items, self.shape.large_items)
        full = self.shape.retrieval_loss == "full"
        ranked = self._catalogue.items if full else items.ids
        user_rows, ranked_rows = tf.gather(self.user_table, users.ids), tf.gather(self.item_table, ranked)
        dropped_users = self._drop(user_rows, batch, _USER_MASK)
        dropped_ranked = self._drop(ranked_rows, batch, _ITEM_MASK)

        def of_batch(rows: tf.Tensor) -> tf.Tensor:
            return tf.gather(rows, tf.gather(self._catalogue.places, items.ids)) if full else rows

        biases: tuple[tf.Tensor, ...] = ()
        if self.shape.rating_biases:
            biases = tf.gather(self.user_bias, users.ids), tf.gather(self.item_bias, items.ids)
        tables = Tables(dropped_users, of_batch(dropped_ranked), *(biases or self.tables()[2:]))
        predictions = self.rate(tables, users.rows, items.rows, self._hidden_dropout(batch))
        rating = self.rating_task(labels=batch.ratings[:, tf.newaxis], predictions=predictions[:, tf.newaxis])
        place = tf.gather(self._catalogue.places, batch.items) if full else items.rows.index
        score_bias = None if self.score_bias is None else tf.gather(self.score_bias, ranked)
        corrected = self.shape.retrieval_loss == "corrected"
        retrieval = self.retrieval_task(
            self.retrieval_users(dropped_users),
            self.retrieval_items(dropped_ranked, score_bias),
            query_index=users.rows,
            candidate_index=SortedIndex(place, batch.by_item),
            candidate_sampling_probability=tf.gather(self._catalogue.probability, ranked) if corrected else None,
            candidate_counts=None if full else items.counts,
        )
        squares = [(users.counts, user_rows), (items.counts, of_batch(ranked_rows))]
        squares += zip((users.counts, items.counts), biases, strict=False)
        return Losses(rating, retrieval, self._penalty(squares, tf.size(batch.users)))

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Weighted loss of a batch with `users`, `items` and `ratings`, users ascending."""
        columns = inputs["users"], inputs["items"], inputs["ratings"]
        batch = Batch(*columns, by_item=tf.argsort(inputs["items"], stable=True), seed=tf.zeros([2], tf.int32))
        return self.weighted(self.task_losses(batch))

    def weighted(self, losses: Losses) -> tf.Tensor:
        """What is trained on, of the losses of a batch."""
        rating = self.inputs_of_trial["rating_weight"] * losses.rating
        retrieval = self.inputs_of_trial["retrieval_weight"] * losses.retrieval
        if self.shape.uncertainty:
            factors = self.balance_factors()
            rating, retrieval = factors[0] * rating, factors[1] * retrieval + tf.reduce_sum(self.log_variance) / 2
        return rating + retrieval + losses.penalty

    def balance_factors(self) -> tf.Tensor:
        """`[2]` what the rating and the retrieval term are multiplied by, of learnt uncertainties."""
        return tf.constant([0.5, 1.0]) * tf.exp(-self.log_variance)

    def initialize(self, seed: int) -> None:
        """Set every trainable weight from `seed` alone, by Keras's defaults: what a fresh model starts from."""
        for number, variable in enumerate(self.trainable_variables):
            state = np.random.SeedSequence([seed, number]).generate_state(1)
            variable.assign(_initializer(variable.name, int(state[0]) % 2**31)(variable.shape))

    def _drop(self, rows: tf.Tensor, batch: Batch, mask: int) -> tf.Tensor:
        """Embedding dropout: one mask per user or item and step, shared by both tasks, so that both stay exact."""
        if not self.shape.embedding_dropout:
            return rows
        return Dropout(self.inputs_of_trial["embedding_dropout"], batch.seed)(rows, mask)

    def _hidden_dropout(self, batch: Batch) -> Dropout | None:
        """Its streams are the layers' numbers, under a seed that the embeddings' masks do not share."""
        if not self.shape.hidden_dropout:
            return None
        seed = tf.random.experimental.stateless_fold_in(batch.seed, _HIDDEN_MASK)
        return Dropout(self.inputs_of_trial["hidden_dropout"], seed)

    def _penalty(self, squares: list[tuple[tf.Tensor, tf.Tensor]], size: tf.Tensor) -> tf.Tensor:
        if not self.shape.l2:
            return tf.constant(0.0)
        total = tf.add_n([tf.reduce_sum(counts * tf.reduce_sum(rows**2, axis=1)) for counts, rows in squares])
        return self.inputs_of_trial["l2"] * total / tf.cast(size, tf.float32)


class _Catalogue:
    """The items that the full softmax runs over: all that the split ranks or trains on.

    Attributes:
        items: `[C]` int32, ascending.
        places: `[I]` int32, of each item among them; 0 for others.
        probability: `[I]` float32, share of the training rows.
    """

    def __init__(self, split: Split) -> None:
        items = split.candidates
        places = np.zeros(len(split.item_ids), np.int32)
        places[items] = np.arange(len(items))
        counts = np.bincount(split.train.items, minlength=len(split.item_ids))
        self.items, self.places = tf.constant(items), tf.constant(places)
        self.probability = tf.constant(counts / len(split.train), tf.float32)


def _initializer(name: str, seed: int) -> tf_keras.initializers.Initializer:
    if "bias" in name:
        return tf_keras.initializers.Zeros()
    if "table" in name:
        return tf_keras.initializers.RandomUniform(-0.05, 0.05, seed=seed)
    return tf_keras.initializers.GlorotUniform(seed=seed)
