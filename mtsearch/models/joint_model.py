"""Define the joint model: shared embeddings, and a head or a ranking for each task."""

from __future__ import annotations

from functools import partial, reduce
from itertools import count
from operator import add
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from mtsearch.data.split import Split
from mtsearch.models.all_pairs import PairSide, squared_scores
from mtsearch.models.graph_key import GraphKey, LearntTask
from mtsearch.models.scales import make_scale
from mtsearch.models.tasks import (
    Dropout,
    ExactRetrieval,
    RatingLayers,
    SortedIndex,
    Unique,
    gather,
    sum_by_row,
    unique,
    unique_static,
)
from mtsearch.study_file.config import TrialConfig

Side = Literal["user", "item"]

_USER_MASK, _ITEM_MASK, _HIDDEN_MASK = range(3)


class Batch(NamedTuple):
    """The rows of a batch, users ascending: `[B]` each.

    Attributes:
        users, items: int32.
        targets: float32 each, in the units of the data; NaN for rows that do not serve a task.
        by_item: int32, indices into the batch, in the order of their items; None in a graph that XLA compiles.
        seed: `[2]` int32, seed of the dropout masks.
        weights: float32, 1 for a row and 0 for one that fills the batch; None: all are rows.
        row_weights: float32, factors of the rows' losses, one array; none if all are 1.
    """

    users: tf.Tensor
    items: tf.Tensor
    targets: tuple[tf.Tensor, ...]
    by_item: tf.Tensor | None
    seed: tf.Tensor
    weights: tf.Tensor | None = None
    row_weights: tuple[tf.Tensor, ...] = ()

    @property
    def size(self) -> tf.Tensor:
        """Number of rows as a float32 scalar, without those that fill the batch."""
        return tf.cast(tf.size(self.users), tf.float32) if self.weights is None else tf.reduce_sum(self.weights)


class _TaskRows(NamedTuple):
    """The rows of a batch that serve a task, n; in a graph that XLA compiles all rows, of which some do not count.

    Attributes:
        users, items: the different ones among them. Their `ids` are places among those of the batch, or those of the
            batch itself if all rows serve the task.
        codes: `[n]` int32, the item of each row.
        target: `[n]` float32; 0 for rows that do not count; None for retrieval.
        size: number of rows that count, a float32 scalar, at least 1.
        counts: `[n]` float32, 1 for a row that counts and 0 for others; None: all count.
        row_weights: `[n]` float32, factors of the rows' losses; None if all are 1.
        is_whole: True if these are all rows of the batch.
        present: 1 if some row counts, else 0; float32 scalar.
    """

    users: Unique
    items: Unique
    codes: tf.Tensor
    target: tf.Tensor | None
    size: tf.Tensor
    counts: tf.Tensor | None
    row_weights: tf.Tensor | None
    is_whole: bool
    present: tf.Tensor | float = 1.0

    def take_users(self, rows: tf.Tensor) -> tf.Tensor:
        """Return those of the batch's users, or of what is known of each, that these rows have."""
        return rows if self.is_whole else self.users.take(rows)

    def take_items(self, rows: tf.Tensor) -> tf.Tensor:
        """Return those of the batch's items, or of what is known of each, that these rows have."""
        return rows if self.is_whole else self.items.take(rows)

    def factors(self, scale: float) -> tf.Tensor | None:
        """Return the factors `[n]` of the rows' losses, 0 for rows that do not count; None if all are 1.

        Args:
            scale: multiplies the weights of the rows.
        """
        weights = None if self.row_weights is None else self.row_weights * scale
        if self.counts is None or weights is None:
            return weights if self.counts is None else self.counts
        return self.counts * weights


class _Drawn(NamedTuple):
    """The users or the items of a batch.

    Attributes:
        side: which of the two.
        unique: the different ones.
        rows: their shared embeddings `[n, D]`, without dropout.
    """

    side: Side
    unique: Unique
    rows: tf.Tensor


class Tables(NamedTuple):
    """The arrays of a head: embeddings `[u, D]` and `[i, D]`, and biases `[u, 1]` and `[i, 1]` or none."""

    users: tf.Tensor
    items: tf.Tensor
    user_bias: tf.Tensor
    item_bias: tf.Tensor


class Losses(NamedTuple):
    """The losses of a batch as scalars.

    Attributes:
        terms: of each task what is weighed: with the tutorial's losses the mean squared error of its ratings, or the
            summed loss of retrieval; else the mean loss of its rows over that of a predictor that knows nothing.
        totals: of each task the sum of the losses of its rows, in the same unit.
        penalty: L2 penalty.
        present: of each task 1 if a row of the batch serves it, else 0; None if all rows serve all tasks.
    """

    terms: tuple[tf.Tensor, ...]
    totals: tuple[tf.Tensor, ...]
    penalty: tf.Tensor
    present: tf.Tensor | None = None


class TrialInputs:
    """The settings in which trials of one graph differ, as variables of the graph.

    Attributes:
        weights: of each task.
    """

    def __init__(self, tasks: tuple[LearntTask, ...]) -> None:
        names = ("temperature", "embedding_dropout", "hidden_dropout", "l2", "unobserved_weight")
        self._by_name = {name: tf.Variable(0.0, trainable=False, name=name) for name in names}
        self._tasks = tasks
        self.weights = [tf.Variable(0.0, trainable=False, name=f"{task.name}_weight") for task in tasks]

    def assign(self, config: TrialConfig) -> None:
        """Set the variables to the values of a trial."""
        for name, variable in self._by_name.items():
            variable.assign(getattr(config, name))
        for task, variable in zip(self._tasks, self.weights, strict=True):
            variable.assign(config.weight_of(task.name, task.kind))

    def __getitem__(self, name: str) -> tf.Variable:
        """Return the variable of a setting."""
        return self._by_name[name]


class JointModel(tfrs.models.Model):  # type: ignore[misc]
    """Several tasks from shared embeddings, on integer codes of users and items.

    The loss of a batch is the sum over the tasks of weight times loss (see `Losses`), plus the L2 penalty; with learnt
    uncertainties s (log variances; Kendall, Gal, Cipolla, "Multi-task learning using uncertainty", CVPR 2018)

        sum_t c_t * exp(-s_t) * weight_t * loss_t + sum_t s_t / 2 + penalty,    c_t = 1/2 for ratings and 1 for others.

    Args:
        graph_key: settings of the graph.
        split: its training rows give the units of each task and the items' sampling probabilities, its catalogue the
            items of the full softmax.

    Attributes:
        user_table, item_table: the shared embeddings, `[U, D]` and `[I, D]`.
        heads: layers of each task of ratings or labels, by its name.
        biases: of the same tasks the offsets of users `[U, 1]` and items `[I, 1]`; empty without `rating_biases`.
        score_biases: of each task of retrieval a score of each item `[I, 1]`; empty without `item_bias`.
    """

    def __init__(self, graph_key: GraphKey, split: Split) -> None:
        super().__init__()
        self.graph_key = key = graph_key
        self.user_table = self.add_weight("user_table", [key.users, key.embedding_size], initializer="zeros")
        self.item_table = self.add_weight("item_table", [key.items, key.embedding_size], initializer="zeros")
        with_head = [task for task in key.tasks if task.kind != "retrieval"]
        self.biases = {
            task.name: tuple(
                self.add_weight(f"bias_{side}", [size, 1], initializer="zeros")
                for side, size in (("user", key.users), ("item", key.items))
            )
            for task in (with_head if key.rating_biases else [])
        }
        self.score_biases = {
            task.name: self.add_weight("bias_score", [key.items, 1], initializer="zeros")
            for task in key.tasks
            if key.item_bias and task.kind == "retrieval"
        }
        if key.uncertainty:
            self.log_variance = self.add_weight("bias_log_variance", [len(key.tasks)], initializer="zeros")
        self._layers_of = _SharingLayers(self, key)
        self.heads = {
            task.name: RatingLayers(key.hidden_widths, key.precision, key.elementwise_product) for task in with_head
        }
        self.trial_inputs = TrialInputs(key.tasks)
        self.rating_task = tfrs.tasks.Ranking(loss=tf_keras.losses.MeanSquaredError())
        self.label_task = tfrs.tasks.Ranking(loss=tf_keras.losses.BinaryCrossentropy(from_logits=True))
        self.retrieval_task = ExactRetrieval(
            temperature=self.trial_inputs["temperature"],
            remove_accidental_hits=key.remove_accidental_hits,
        )
        self.scales = {task.name: make_scale(split, task) for task in split.tasks}
        self._catalogue = _Catalogue(split)

    def tables(self, task: LearntTask) -> Tables:
        """Return the biases of all users and items, and their embeddings as the head of a task sees them."""
        views = (self.view(task, table, side) for table, side in self._sides())
        return Tables(*views, *self.biases.get(task.name, (tf.zeros([0, 1]), tf.zeros([0, 1]))))

    def view(self, task: LearntTask, rows: tf.Tensor, side: Side) -> tf.Tensor:
        """Return embeddings `[n, D]` of users or items as a task sees them."""
        return self._layers_of(task.name, rows, side)

    def raw_values(
        self, task: LearntTask, tables: Tables, users: SortedIndex, items: SortedIndex, dropout: Dropout | None = None
    ) -> tf.Tensor:
        """Return what the head of a task says `[B]` of rows of the given tables: its training units.

        A rating is in its own units, or standardised where losses are normalized; a label has log odds.
        """
        values = self.heads[task.name]((tables.users, tables.items), users=users, items=items, dropout=dropout)
        if self.graph_key.dot_product:
            values += tf.reduce_sum(gather(tables.users, users) * gather(tables.items, items), axis=1)
        if self.graph_key.rating_biases:
            biases = tf.squeeze(gather(tables.user_bias, users) + gather(tables.item_bias, items), axis=1)
            values += biases if self.graph_key.normalized else self.scales[task.name].center + biases
        return values + self.scales[task.name].center if task.kind == "label" else values

    def predictions(self, task: LearntTask, tables: Tables, users: SortedIndex, items: SortedIndex) -> tf.Tensor:
        """Return the predictions `[B]` for rows of the given tables: ratings in their units, or chances of a yes."""
        raw = self.raw_values(task, tables, users, items)
        if task.kind == "label":
            return tf.sigmoid(raw)
        scale = self.scales[task.name]
        return scale.center + scale.spread * raw if self.graph_key.normalized else raw

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
        """Return the losses of a batch, and the penalty."""
        # Each user and item is looked up once, however often the batch has it. The full softmax ranks the catalogue.
        key = self.graph_key
        users, items = self._unique(batch)
        full = key.retrieval_loss == "full"
        ranked = items._replace(ids=self._catalogue.items) if full else items
        user_rows, ranked_rows = users.take(self.user_table), ranked.take(self.item_table)
        dropped_users = self._drop_embeddings(user_rows, batch, _USER_MASK)
        dropped_ranked = self._drop_embeddings(ranked_rows, batch, _ITEM_MASK)

        def of_batch(rows: tf.Tensor) -> tf.Tensor:
            """Return the rows of the items of the batch, from those of the ranked items."""
            if not full or ranked.ids is items.ids:  # None: all items that there are
                return rows
            return tf.gather(rows, items.take(self._catalogue.places))

        # L2 penalty: of the weights before dropout, each counted once per row that uses it.
        squares = [(users.counts, user_rows), (items.counts, of_batch(ranked_rows))]
        batch_items = of_batch(dropped_ranked)
        drawn = _Drawn("user", users, user_rows), _Drawn("item", items, ranked_rows)
        terms, totals, present = [], [], []
        for task in key.tasks:
            rows = self._rows_of(task, batch, users, items)
            present.append(rows.present)
            if task.kind == "retrieval" and key.retrieval_loss == "squared":
                loss = self._squared_loss(task, rows, batch.size, drawn)
            elif task.kind == "retrieval":
                loss = self._retrieval_loss(task, rows, ranked, dropped_users, dropped_ranked)
            else:
                biases = [
                    take(each.take(table))
                    for take, each, table in zip(
                        (rows.take_users, rows.take_items), (users, items), self.biases.get(task.name, ()), strict=False
                    )
                ]
                tables = Tables(
                    self.view(task, rows.take_users(dropped_users), "user"),
                    self.view(task, rows.take_items(batch_items), "item"),
                    *(biases or (tf.zeros([0, 1]), tf.zeros([0, 1]))),
                )
                loss = self._head_loss(task, rows, tables, self._hidden_dropout(batch))
                squares += zip((rows.users.counts, rows.items.counts), biases, strict=False)
            terms.append(loss[0])
            totals.append(loss[1])
        is_whole = all(task.is_whole for task in key.tasks)
        penalty = self._penalty(squares, batch.size)
        if key.l2 and key.retrieval_loss == "squared":
            penalty += self._penalty_of_pairs(batch.size, drawn)
        return Losses(tuple(terms), tuple(totals), penalty, None if is_whole else tf.stack(present))

    def _head_loss(
        self, task: LearntTask, rows: _TaskRows, tables: Tables, dropout: Dropout | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the term and the total of a task of ratings or labels; see `Losses`."""
        predictions = self.raw_values(task, tables, rows.users.rows, rows.items.rows, dropout)
        scale, normalized = self.scales[task.name], self.graph_key.normalized
        target: tf.Tensor = rows.target
        if normalized and task.kind == "rating":
            target = (target - scale.center) / scale.spread
        weights = rows.factors(1 / scale.weight if normalized else 1.0)
        if rows.counts is not None:
            # Keras divides the sum by the number of all rows, also of those with a weight of 0.
            weights = weights * rows.counts.shape[0] / rows.size
        loss = (self.label_task if task.kind == "label" else self.rating_task)(
            labels=target[:, tf.newaxis], predictions=predictions[:, tf.newaxis], sample_weight=weights
        )
        if normalized and task.kind == "label":
            loss /= scale.loss
        return loss, loss * rows.size

    def _retrieval_loss(
        self, task: LearntTask, rows: _TaskRows, ranked: Unique, users: tf.Tensor, ranked_rows: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the term and the total of a task of retrieval, each row's item among all ranked items; see `Losses`.

        Args:
            task: of retrieval.
            rows: that serve it.
            ranked: the items of the batch, or the catalogue.
            users: embeddings of the users of the batch.
            ranked_rows: embeddings of the ranked items.
        """
        full, scale = self.graph_key.retrieval_loss == "full", self.scales[task.name]
        score_bias = self.score_biases.get(task.name)
        of_ranked = _identity if full else rows.take_items
        place = tf.gather(self._catalogue.places, rows.codes) if full else rows.items.rows.index
        probability = None
        if self.graph_key.retrieval_loss == "corrected":
            probability = of_ranked(ranked.take(self._catalogue.probabilities[task.name]))
        total = self.retrieval_task(
            self.retrieval_users(self.view(task, rows.take_users(users), "user")),
            self.retrieval_items(
                self.view(task, of_ranked(ranked_rows), "item"),
                None if score_bias is None else of_ranked(ranked.take(score_bias)),
            ),
            query_index=rows.users.rows,
            candidate_index=rows.items.rows._replace(index=place),
            sample_weight=rows.factors(1 / scale.weight if self.graph_key.normalized else 1.0),
            candidate_sampling_probability=probability,
            candidate_counts=None if full else rows.items.counts,
        )
        if not self.graph_key.normalized:
            return total, total
        total /= scale.loss
        return total / rows.size, total

    def _squared_loss(
        self, task: LearntTask, rows: _TaskRows, size: tf.Tensor, drawn: tuple[_Drawn, _Drawn]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the term and the total of a task of retrieval by the objective of implicit ALS; see `Losses`.

        The sum of the totals over an epoch is, with w the weights of rows and s the scores over the temperature,

            sum over the task's rows of w (1 - s)^2 + unobserved_weight * sum over all users and items of s^2

        (Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008; in this form Rendle
        et al., "Revisiting the performance of iALS on item recommendation benchmarks", RecSys 2022). The loss of a row
        is 1 for scores of 0. There is no dropout, which would change the two sums in unlike ways.

        Args:
            task: of retrieval.
            rows: that serve it.
            size: number of rows of the batch.
            drawn: the users and the items of the batch.
        """
        scale, temperature = self.scales[task.name], self.trial_inputs["temperature"]
        users, items = (self._pairs_of(each, size, task) for each in drawn)
        scores = tf.reduce_sum(
            gather(rows.take_users(users.rows), rows.users.rows) * gather(rows.take_items(items.rows), rows.items.rows),
            axis=1,
        )
        factors = rows.factors(1 / scale.weight if self.graph_key.normalized else 1.0)
        errors = (1 - scores / temperature) ** 2
        total = tf.reduce_sum(errors if factors is None else factors * errors)
        share = rows.present * rows.size / scale.rows
        total += share * self.trial_inputs["unobserved_weight"] * squared_scores(users, items) / temperature**2
        return (total / rows.size if self.graph_key.normalized else total), total

    def _penalty_of_pairs(self, size: tf.Tensor, drawn: tuple[_Drawn, _Drawn]) -> tf.Tensor:
        """Return the L2 penalty of the embeddings for all pairs of the loss of implicit ALS, per row of a batch.

        With that of the rows, a user with n of the N rows has l2 * (n + unobserved_weight * C) / N * |u|^2, for C
        items. With normalized losses and one task of retrieval of all rows and weight 1 it is that of Rendle et al.
        2022, with their exponent of the frequency at 1. It is the same whatever the number of tasks and their weights.
        """
        users, items = (self._pairs_of(each, size) for each in drawn)
        norms = items.size * users.squared_norm() + users.size * items.squared_norm()
        return self.trial_inputs["l2"] * self.trial_inputs["unobserved_weight"] * norms / self._catalogue.rows

    def _pairs_of(self, drawn: _Drawn, size: tf.Tensor, task: LearntTask | None = None) -> PairSide:
        """Return one side of a sum over all pairs: embeddings as the scores of a task use them, or as they are.

        All users, or all items that are ranked; of a large table those that have training rows.
        """
        side, rows, is_user = drawn.side, drawn.rows, drawn.side == "user"
        is_large = self.graph_key.large_users if is_user else self.graph_key.large_items
        # A user or an item without a row would never move in a large table, and keep its random start in all sums.
        take = tf.convert_to_tensor if is_user else self._catalogue.take
        if is_large:
            take = partial(tf.gather, indices=self._catalogue.trained[side])
        table = take(self.user_table if is_user else self.item_table)
        if task is not None:
            table, rows = self.view(task, table, side), self.view(task, rows, side)
            if is_user:
                table, rows = self.retrieval_users(table), self.retrieval_users(rows)
            else:
                bias = self.score_biases.get(task.name)
                biases = (None, None) if bias is None else (take(bias), drawn.unique.take(bias))
                table, rows = self.retrieval_items(table, biases[0]), self.retrieval_items(rows, biases[1])
        if not is_large:
            return PairSide(table, rows)
        # Each row of the batch stands for its part of the user's or the item's rows in an epoch.
        of_all = tf.maximum(drawn.unique.take(self._catalogue.counts[side]), 1.0)
        return PairSide(tf.stop_gradient(table), rows, drawn.unique.counts / of_all * (self._catalogue.rows / size))

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return the weighted loss of a batch with `users`, `items` and `targets`, users ascending; see `Batch`."""
        columns = inputs["users"], inputs["items"], inputs["targets"]
        batch = Batch(
            *columns,
            by_item=tf.argsort(inputs["items"], stable=True),
            seed=tf.zeros([2], tf.int32),
            row_weights=inputs.get("weights", ()),
        )
        return self.weighted_loss(self.task_losses(batch))

    def weighted_loss(self, losses: Losses) -> tf.Tensor:
        """Return the weighted sum of the losses of a batch, which training minimises."""
        terms = [weight * term for weight, term in zip(self.trial_inputs.weights, losses.terms, strict=True)]
        if self.graph_key.uncertainty:
            terms = [factor * term for factor, term in zip(tf.unstack(self.balance_factors()), terms, strict=True)]
            # A batch without a row of a task says nothing of its variance, which would only shrink.
            log_variance = self.log_variance if losses.present is None else losses.present * self.log_variance
            terms[-1] += tf.reduce_sum(log_variance) / 2
        return reduce(add, terms) + losses.penalty

    def balance_factors(self) -> tf.Tensor:
        """Return the factors `[T]` of the terms of the tasks that follow from learnt uncertainties."""
        halves = [0.5 if task.kind == "rating" else 1.0 for task in self.graph_key.tasks]
        return tf.constant(halves) * tf.exp(-self.log_variance)

    def initialize(self, seed: int) -> None:
        """Set every trainable weight from `seed` alone, by the default initialisers of Keras.

        Each weight has a random stream of its own, so that adding a weight does not change the others (except for the
        kernel of an elementwise product, which is counted among those of its head). All heads begin
        alike, so that a task has the same head whatever else is learnt.
        """
        # NOTE: a head's weights, then both tables: Keras's own order with one head, whose results stay what they are.
        in_head = 2 * (len(self.graph_key.hidden_widths) + 1) + self.graph_key.elementwise_product
        numbers = {self.user_table.ref(): in_head, self.item_table.ref(): in_head + 1}
        for head in self.heads.values():
            numbers |= {each.ref(): place for place, each in enumerate(head.trainable_variables)}
        experts = count(_OF_EXPERTS)
        for variable in self.trainable_variables:
            number = numbers.get(variable.ref(), 0)
            if "experts" in variable.name:
                number = next(experts)
            state = np.random.SeedSequence([seed, number]).generate_state(1)
            variable.assign(_initializer(variable.name, int(state[0]) % 2**31)(variable.shape))

    def _sides(self) -> tuple[tuple[tf.Variable, Side], tuple[tf.Variable, Side]]:
        return (self.user_table, "user"), (self.item_table, "item")

    def _unique(self, batch: Batch) -> tuple[Unique, Unique]:
        """Return the different users and the different items of a batch."""
        key = self.graph_key
        if batch.weights is not None:
            users = unique_static(batch.users, batch.weights, key.users, key.large_users)
            return users, unique_static(batch.items, batch.weights, key.items, key.large_items)
        users = unique(batch.users, None, key.users, key.large_users)
        return users, unique(batch.items, batch.by_item, key.items, key.large_items)

    def _rows_of(self, task: LearntTask, batch: Batch, users: Unique, items: Unique) -> _TaskRows:
        """Return the rows of a batch that serve a task, from the different users and items of the batch."""
        target = None if task.target is None else batch.targets[task.target]
        weights = batch.row_weights[0] if batch.row_weights else None
        if task.is_whole:
            return _TaskRows(users, items, batch.items, target, batch.size, batch.weights, weights, True)
        serves = tf.logical_not(tf.math.is_nan(target))
        if batch.weights is not None:
            counts = batch.weights * tf.cast(serves, tf.float32)
            number = tf.reduce_sum(counts)
            size, present = tf.maximum(number, 1.0), tf.minimum(number, 1.0)
            own_users, own_items = (_count_again(each, counts) for each in (users, items))
            # A number in place of NaN: what does not count is 0 times it.
            known = tf.where(serves, target, 0.0)
            return _TaskRows(own_users, own_items, batch.items, known, size, counts, weights, True, present)
        own = tf.squeeze(tf.cast(tf.where(serves), tf.int32), axis=1)
        places = tf.cumsum(tf.cast(serves, tf.int32)) - 1
        by_item = tf.gather(places, tf.boolean_mask(batch.by_item, tf.gather(serves, batch.by_item)))
        number = tf.cast(tf.size(own), tf.float32)
        return _TaskRows(
            unique(tf.gather(users.rows.index, own), None, tf.size(users.counts)),
            unique(tf.gather(items.rows.index, own), by_item, tf.size(items.counts)),
            tf.gather(batch.items, own),
            tf.gather(target, own),
            tf.maximum(number, 1.0),
            None,
            None if weights is None else tf.gather(weights, own),
            False,
            tf.minimum(number, 1.0),
        )

    def _drop_embeddings(self, rows: tf.Tensor, batch: Batch, mask: int) -> tf.Tensor:
        """Apply embedding dropout: one mask per user or item and step, which all tasks share."""
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


def _identity(rows: tf.Tensor) -> tf.Tensor:
    return rows


def _count_again(each: Unique, counts: tf.Tensor) -> Unique:
    """Return the different ids of a batch with the numbers of those of its rows that count."""
    sums = tf.squeeze(sum_by_row(counts[:, tf.newaxis], each.rows.index, each.counts.shape[0]), axis=1)
    # Without a single row there would be nothing to rank; what is ranked then is multiplied by 0.
    return each._replace(counts=tf.where(tf.reduce_any(sums > 0), sums, tf.ones_like(sums)))


class _SharingLayers:
    """The layers through which the tasks see the shared embeddings, for users and items each.

    Args:
        model: has the weights.
        key: `all`: there are no layers; `projections`: x W_t, which begins as x; `experts`: the mean of the layers
            x W_k, shared by all tasks, with weights softmax(x G_t), which begin equal (multi-gate mixture of experts,
            Ma et al., "Modeling task relationships in multi-task learning", KDD 2018).
    """

    def __init__(self, model: JointModel, key: GraphKey) -> None:
        size, sides, names = key.embedding_size, ("user", "item"), [task.name for task in key.tasks]
        self._projections: dict[tuple[str, str], tf.Variable] = {}
        self._experts: dict[str, tf.Variable] = {}
        self._gates: dict[tuple[str, str], tf.Variable] = {}
        if key.sharing == "projections":
            self._projections = {
                (name, side): model.add_weight("projection", [size, size], initializer="zeros")
                for name in names
                for side in sides
            }
        if key.sharing == "experts":
            self._experts = {
                side: model.add_weight("experts", [key.experts, size, size], initializer="zeros") for side in sides
            }
            self._gates = {
                (name, side): model.add_weight("gate", [size, key.experts], initializer="zeros")
                for name in names
                for side in sides
            }

    def __call__(self, task: str, rows: tf.Tensor, side: str) -> tf.Tensor:
        """Return embeddings `[n, D]` as a task sees them."""
        if self._projections:
            return tf.matmul(rows, self._projections[task, side])
        if not self._experts:
            return rows
        shares = tf.nn.softmax(tf.matmul(rows, self._gates[task, side]))
        return tf.einsum("nk,nd,kde->ne", shares, rows, self._experts[side])


_OF_EXPERTS = 1000
"""Number of the random stream of the users' experts, before that of the items'; larger than any of a head's weights."""


class _Catalogue:
    """The items that are compared if it is not those of a batch: all that the split ranks or trains on.

    Attributes:
        rows: N, the number of training rows.
        counts: by side the number of training rows of each user `[U]` and each item `[I]`, float32.
        trained: by side the codes of the users and the items with training rows, ascending.
        items: `[C]` int32, ascending; None for all items.
        places: `[I]` int32, index of each item in `items`; 0 for an item that is not among them.
        probabilities: of each task of retrieval `[I]` float32, the share of each item in its training rows.
    """

    def __init__(self, split: Split) -> None:
        items = split.candidates
        places = np.zeros(len(split.item_ids), np.int32)
        places[items] = np.arange(len(items))
        self.items = tf.constant(items) if len(items) < len(places) else None
        self.places = tf.constant(places)
        self.rows = float(len(split.train))
        sides = (("user", split.train.users, split.user_ids), ("item", split.train.items, split.item_ids))
        self.counts = {
            side: tf.constant(np.bincount(codes, minlength=len(ids)), tf.float32) for side, codes, ids in sides
        }
        self.trained = {side: tf.constant(np.unique(codes)) for side, codes, _ in sides}
        self.probabilities = {}
        for task in split.tasks:
            if task.kind == "retrieval":
                own = split.train.serving(task).items
                counts = np.bincount(own, minlength=len(split.item_ids))
                self.probabilities[task.name] = tf.constant(counts / len(own), tf.float32)

    def take(self, table: tf.Tensor) -> tf.Tensor:
        """Return the rows `[C, W]` of a table of all items."""
        return tf.convert_to_tensor(table) if self.items is None else tf.gather(table, self.items)


def _initializer(name: str, seed: int) -> Any:
    """Return the initialiser of a weight, by its name."""
    if "bias" in name or "gate" in name:
        return tf_keras.initializers.Zeros()
    if "table" in name:
        return tf_keras.initializers.RandomUniform(-0.05, 0.05, seed=seed)
    if "projection" in name:
        return tf_keras.initializers.Identity()
    glorot = tf_keras.initializers.GlorotUniform(seed=seed)
    # Experts differ from the start: equal ones would have equal gradients, and stay equal.
    return (lambda shape: tf.eye(shape[-1]) + glorot(shape)) if "experts" in name else glorot
