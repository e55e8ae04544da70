"""Define the parts of the joint model: heads, the exact retrieval loss, the balance of losses, and shared layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras


class SortedIndex(NamedTuple):
    """For each of B rows the table row that it takes, and the order that sorts these ascending.

    Attributes:
        index: `[B]` int32.
        order: `[B]` int32, so that `index[order]` ascends; None if `index` itself ascends. In that case, `index` must
            contain the last row of the table if a gradient is taken.
        static: True for a graph that XLA compiles: rows are summed in no order, into as many as the table has.
    """

    index: tf.Tensor
    order: tf.Tensor | None = None
    static: bool = False


class Unique(NamedTuple):
    """The different ids of a batch.

    Attributes:
        ids: `[u]` int32, ascending; None for all ids that there are.
        counts: `[u]` float32, number of rows of each id.
        rows: the index in `ids` of each row.
    """

    ids: tf.Tensor | None
    counts: tf.Tensor
    rows: SortedIndex

    def take(self, table: tf.Tensor) -> tf.Tensor:
        """Return the rows `[u, W]` of a table with a row for each id that there is."""
        return tf.convert_to_tensor(table) if self.ids is None else tf.gather(table, self.ids)


def unique(ids: tf.Tensor, order: tf.Tensor | None, size: int, large: bool = False) -> Unique:
    """Return the different ids among `ids` `[B]`, all below `size`; for `order` see `SortedIndex`.

    For a `large` table the ids are compared with their neighbours in ascending order, and no array of `size` is made.
    Both ways give the same result.
    """
    if large:
        return _unique_neighbours(ids, order)
    counts = tf.math.unsorted_segment_sum(tf.ones_like(ids), ids, size)
    present = counts > 0
    places = tf.cumsum(tf.cast(present, tf.int32), exclusive=True)
    found = tf.cast(tf.squeeze(tf.where(present), axis=1), tf.int32)
    return Unique(found, tf.cast(tf.gather(counts, found), tf.float32), SortedIndex(tf.gather(places, ids), order))


def _unique_neighbours(ids: tf.Tensor, order: tf.Tensor | None) -> Unique:
    """Find the different ids by comparing each id with the one before it in ascending order."""
    ascending = ids if order is None else tf.gather(ids, order)
    differs = tf.concat([[True], ascending[1:] != ascending[:-1]], axis=0)
    places = tf.cumsum(tf.cast(differs, tf.int32)) - 1
    found = tf.boolean_mask(ascending, differs)
    counts = tf.math.segment_sum(tf.ones_like(ids, tf.float32), places)
    rows = places if order is None else tf.scatter_nd(order[:, tf.newaxis], places, tf.shape(ids))
    return Unique(found, counts, SortedIndex(rows, order))


def unique_static(ids: tf.Tensor, weights: tf.Tensor, size: int, large: bool = False) -> Unique:
    """Return the different ids among `ids` `[B]` in arrays of known sizes, as XLA needs them.

    All `size` ids that there are, also those that the batch does not have; for a `large` table B ids, of which those
    behind the last one are 0. What the batch does not have has a count of 0.

    Args:
        ids: all below `size`.
        weights: `[B]` float32, 1 for each row that counts and 0 for the others.
        size: number of ids.
        large: whether the arrays shall not have `size` rows.
    """
    if not large:
        counts = tf.squeeze(sum_by_row(weights[:, tf.newaxis], ids, size), axis=1)
        return Unique(None, counts, SortedIndex(ids, static=True))
    order, most = tf.argsort(ids), ids.shape[0]
    ascending = tf.gather(ids, order)
    differs = tf.concat([[False], ascending[1:] != ascending[:-1]], axis=0)
    places = tf.cumsum(tf.cast(differs, tf.int32))
    found = tf.maximum(tf.math.unsorted_segment_max(ascending, places, most), 0)
    counts = tf.math.unsorted_segment_sum(tf.gather(weights, order), places, most)
    rows = tf.scatter_nd(order[:, tf.newaxis], places, [most])
    return Unique(found, counts, SortedIndex(rows, static=True))


MOST_ONE_HOT = 4096
"""Rows of a table up to which XLA sums by a product with ones and zeros.

The product sums in one order, always. A GPU adds the parts of an unsorted sum as they come, and gives other last bits
each time.
"""


def sum_by_row(values: tf.Tensor, index: tf.Tensor, size: int) -> tf.Tensor:
    """Return the sums `[size, W]` of the values `[B, W]` by the row that `index` `[B]` names, as XLA does it best."""
    if size > MOST_ONE_HOT:
        return tf.math.unsorted_segment_sum(values, index, size)
    is_of_row = tf.range(size)[:, tf.newaxis] == index
    if values.shape[1] == 1:  # the matrix is never made
        return tf.reduce_sum(tf.where(is_of_row, values[:, 0], 0.0), axis=1, keepdims=True)
    return tf.matmul(tf.cast(is_of_row, values.dtype), values)


def gather(table: tf.Tensor, rows: SortedIndex) -> tf.Tensor:
    """Return `tf.gather(table, rows.index)` `[B, W]`, with a faster gradient.

    NOTE: the gradient sums neighbours: for `[8192, 256]` on one core 0.4 ms where the index ascends and 0.8 ms with an
    order, in place of 2.4 ms for the stock unsorted sum.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def gathered(values: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            if rows.static:
                return sum_by_row(upstream, rows.index, values.shape[0])
            if rows.order is None:
                return tf.math.segment_sum(upstream, rows.index)
            return tf.raw_ops.SparseSegmentSumWithNumSegments(
                data=upstream,
                indices=rows.order,
                segment_ids=tf.gather(rows.index, rows.order),
                num_segments=tf.shape(values)[0],
            )

        return tf.gather(values, rows.index), gradient

    result: tf.Tensor = gathered(table)
    return result


@dataclass(frozen=True)
class Dropout:
    """Dropout with masks that depend on a seed alone: some values become 0 and the others are scaled up.

    Attributes:
        rate: scalar float32 in 0..1.
        seed: `[2]` int32; the masks depend on it and on nothing else.
        static: True for a graph that XLA compiles.
    """

    rate: tf.Tensor
    seed: tf.Tensor
    static: bool = False

    def __call__(self, values: tf.Tensor, stream: int) -> tf.Tensor:
        """Return `values` with some set to 0, by a mask that is different for each `stream`."""
        seed = self.fold_in(stream).seed
        return tf.nn.experimental.stateless_dropout(values, rate=self.rate, seed=seed)

    def fold_in(self, number: int) -> Self:
        """Return the same dropout with masks of its own for a number."""
        if self.static:
            # NOTE: to fold by a random number takes kernels of its own, in a step that is a chain of some 85.
            mixed = tf.bitwise.bitwise_xor(self.seed, tf.constant([number * _ODD % 2**31, 0]))
            return replace(self, seed=mixed)
        return replace(self, seed=tf.random.experimental.stateless_fold_in(self.seed, number))


_ODD = 0x9E3779B1
"""An odd number, so that its multiples modulo 2^31 differ: near 2^32 over the golden ratio, they are far apart."""


_PRODUCT_SCALE = 4.0
"""Factor of the elementwise product of two embeddings, whose elements are below 1 and their products smaller still.

NOTE: Adam moves all weights equally fast, so that the size of an input decides how fast it is learnt. MovieLens 100K,
D = 64, 22 epochs, validation RMSE of four seeds, their mean and that of their mean prediction: times 2 0.8913, 0.8860;
times 4 0.8926, 0.8847; times 8 0.8948, 0.8840.
"""


class PairDense(tf_keras.layers.Layer):  # type: ignore[misc]
    """`Dense(units)` on the concatenation of a user's and an item's embedding, and of their product if it is asked for.

    A dense layer of a concatenation is the sum of two dense layers, so that it is computed per user and per item first
    and gathered and added per row after: the same numbers, to rounding, for u + i rows of arithmetic in place of B.

    Args:
        units: width of the layer.
        product: whether it takes the elementwise product `[B, D]` of both embeddings too, times 4.
    """

    def __init__(self, units: int, product: bool = False) -> None:
        super().__init__()
        self.units, self.product = units, product

    def build(self, input_shape: tuple[tf.TensorShape, tf.TensorShape]) -> None:
        """Make the kernel `[2 * D, units]`, as `Dense` would have it, the bias `[units]`, and the product's kernel."""
        self.size = input_shape[0][-1]
        self.kernel = self.add_weight("kernel", shape=[2 * self.size, self.units], initializer="zeros")
        self.bias = self.add_weight("bias", shape=[self.units], initializer="zeros")
        if self.product:
            self.product_kernel = self.add_weight("kernel", shape=[self.size, self.units], initializer="zeros")

    def call(self, tables: tuple[tf.Tensor, tf.Tensor], users: SortedIndex, items: SortedIndex) -> tf.Tensor:
        """Return the layer's values `[B, units]` from tables `[u, D]` and `[i, D]`."""
        user_table, item_table = tables
        user_part = tf.matmul(user_table, self.kernel[: self.size]) + self.bias
        item_part = tf.matmul(item_table, self.kernel[self.size :])
        values = gather(user_part, users) + gather(item_part, items)
        if self.product:
            product = gather(user_table, users) * gather(item_table, items)
            values += tf.matmul(product * _PRODUCT_SCALE, self.product_kernel)
        return values


class RatingLayers(tf_keras.layers.Layer):  # type: ignore[misc]
    """`Dense(width, relu)` for each width, then `Dense(1)`, on the pair of embeddings.

    Args:
        widths: widths of the hidden layers; none for a linear function of the pair.
        precision: type of the products between hidden layers, `float32` or `bfloat16`.
        product: whether the first layer takes the product of the embeddings too; see `PairDense`.
    """

    def __init__(self, widths: Sequence[int], precision: str, product: bool = False) -> None:
        super().__init__()
        first, *rest = *widths, 1
        self.pair_layer = PairDense(first, product)
        # The last layer gives the rating: 8 bits of mantissa would round it to 1/64 of a rating unit.
        precisions = [precision] * (len(rest) - 1) + ["float32"]
        self.dense_layers = [_Dense(*layer) for layer in zip(rest, precisions, strict=False)]

    def call(
        self, tables: tuple[tf.Tensor, tf.Tensor], users: SortedIndex, items: SortedIndex, dropout: Dropout | None
    ) -> tf.Tensor:
        """Return values `[B]` of pairs from tables `[u, D]` and `[i, D]`; in training, `dropout` is applied."""
        values = self.pair_layer(tables, users=users, items=items)
        for number, layer in enumerate(self.dense_layers):
            values = tf.nn.relu(values)
            values = layer(dropout(values, number) if dropout else values)
        return tf.squeeze(values, axis=1)


class _Dense(tf_keras.layers.Dense):  # type: ignore[misc]
    """A dense layer whose matrix product has the given precision; weights, bias and results are float32."""

    def __init__(self, units: int, precision: str) -> None:
        super().__init__(units, kernel_initializer="zeros")
        self._precision = precision

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self._precision == "float32":
            return super().call(inputs)
        factors = (tf.cast(factor, self._precision) for factor in (inputs, self.kernel))
        return tf.cast(tf.matmul(*factors), tf.float32) + self.bias


LEAST_PROBABILITY = 1e-6  # as in the log-Q correction of TFRS


class ExactRetrieval(tfrs.tasks.Retrieval):  # type: ignore[misc]
    """Softmax cross-entropy of retrieval, computed once for each user and item of a batch.

    The stock task scores a batch's B rows against its B rows. The scores depend on the user and the item alone, so
    with u the unique users, i the unique items, c_i the number of rows with item i, p_i its sampling probability (1
    without correction) and w_r a row's weight

        s(u, i) = <u, i> / temperature - log max(p_i, 1e-6)
        L(u)    = logsumexp_i(s(u, i) + log c_i)
        loss    = sum_r w_r * (L_r - s_r),   L_r = L(u_r)

    equals its loss (default: categorical cross-entropy, summed), duplicates and all. With accidental hits removed

        L_r = L(u_r) + log1p(-(c_i - 1) * exp(s_r - L(u_r)))

    and for the softmax over a whole catalogue i runs over all of it and log c_i is dropped. The correction is that of
    Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019.
    """

    def call(
        self,
        query_embeddings: tf.Tensor,
        candidate_embeddings: tf.Tensor,
        query_index: SortedIndex,
        candidate_index: SortedIndex,
        sample_weight: tf.Tensor | None = None,
        candidate_sampling_probability: tf.Tensor | None = None,
        candidate_counts: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Return the summed loss of a batch.

        Args:
            query_embeddings: `[Q, D]`, every user of the batch, once each.
            candidate_embeddings: `[C, D]`, every item of the batch, once each and no other; or the whole catalogue.
            query_index: each row's index in `query_embeddings`.
            candidate_index: each row's index in `candidate_embeddings`.
            sample_weight: `[B]` float32; 1 where None.
            candidate_sampling_probability: `[C]` float32 in 0..1; corrected where given.
            candidate_counts: `[C]` float32, rows of each item; None for the softmax over the whole catalogue. An item
                with a count of 0 is not ranked.

        Returns:
            Scalar float32, summed over rows.
        """
        if self._temperature is not None:
            query_embeddings /= self._temperature
        positives = tf.reduce_sum(
            gather(query_embeddings, query_index) * gather(candidate_embeddings, candidate_index), axis=1
        )
        # c_i and 1 / p_i become weights of the sum of exponentials, which is the same as adding their logarithms to s.
        weights = tf.ones_like(candidate_embeddings[:, 0]) if candidate_counts is None else candidate_counts
        if candidate_sampling_probability is not None:
            probability = tf.maximum(candidate_sampling_probability, LEAST_PROBABILITY)
            weights /= probability
            positives -= tf.math.log(tf.gather(probability, candidate_index.index))
        absent = candidate_counts == 0 if candidate_counts is not None and candidate_index.static else None
        partition = _log_partition(query_embeddings, candidate_embeddings, weights, absent)
        partitions = tf.squeeze(gather(partition[:, tf.newaxis], query_index), axis=1)
        # NOTE: the difference is taken row by row: that of two sums lost a digit at logits of about 30.
        losses = partitions - positives
        if self._remove_accidental_hits and candidate_counts is not None:
            counts = tf.gather(candidate_counts, candidate_index.index)
            # The item's own rows make L_r - s_r at least log c. At large logits rounding went below, to log1p(-1.01).
            losses = tf.maximum(losses, tf.math.log(counts))
            losses += tf.math.log1p(-(counts - 1) * tf.exp(-losses))
        return tf.reduce_sum(losses if sample_weight is None else sample_weight * losses)


def _log_partition(
    queries: tf.Tensor, candidates: tf.Tensor, weights: tf.Tensor, absent: tf.Tensor | None
) -> tf.Tensor:
    """Return log(sum_i weights_i * exp(<query, candidate_i>)) `[Q]`, with weights `[C]` positive constants.

    Candidates that are `absent` `[C]`, with a weight of 0, are left out.

    NOTE: weights and their normalisation go into the small factors of the matrix products, so that the `[Q, C]` matrix
    is passed over four times in all and never by the gradient: 7.3 to 3.7 ms of a step (one core, B=8192, D=32).
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def partition(queries: tf.Tensor, candidates: tf.Tensor) -> tuple[tf.Tensor, object]:
        scores = tf.matmul(queries, candidates, transpose_b=True)
        if absent is not None:  # one far above all others would leave nothing of their exponentials
            scores = tf.where(absent, -np.inf, scores)
        highest = tf.reduce_max(scores, axis=1, keepdims=True)
        exponentials = tf.exp(scores - highest)
        sums = tf.linalg.matvec(exponentials, weights)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            by_query, by_candidate = (upstream / sums)[:, tf.newaxis], weights[:, tf.newaxis]
            to_queries = by_query * tf.matmul(exponentials, by_candidate * candidates)
            to_candidates = by_candidate * tf.matmul(exponentials, by_query * queries, transpose_a=True)
            return to_queries, to_candidates

        return tf.math.log(sums) + tf.squeeze(highest, axis=1), gradient

    result: tf.Tensor = partition(queries, candidates)
    return result


_TEMPERATURE = 2.0  # as in the paper
_NO_LOSS = 1e-6
"""Loss of a row that is rounding: of a softmax over one item, or over items that are all the same."""


def dynamic_weight_average(losses: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the factors of the losses for the next epoch, by task: the loss that fell least gets the largest one.

    All factors are 1 before there are two epochs; none for no epoch. With r_k = L_k(t-1) / L_k(t-2) of T tasks they
    are T * softmax(r / 2): Liu, Johns, Davison, "End-to-end multi-task learning with attention", CVPR 2019.

    Args:
        losses: mean losses of every epoch so far, by task.
    """
    if len(losses) < 2:
        return dict.fromkeys(losses[0], 1.0) if losses else {}
    # A loss of 0, but for rounding, stays at 0: its ratio is 1.
    before = losses[-2]
    ratios = np.array([last / before[task] if before[task] > _NO_LOSS else 1.0 for task, last in losses[-1].items()])
    shares = np.exp((ratios - ratios.max()) / _TEMPERATURE)
    return dict(zip(losses[-1], (len(ratios) * shares / shares.sum()).tolist(), strict=True))
