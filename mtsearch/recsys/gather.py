"""Rows of a table by index, with a gradient that does not scatter."""

from typing import NamedTuple

import tensorflow as tf


class SortedIndex(NamedTuple):
    """Which row of a table each of B rows takes, and the way to visit them in ascending order.

    Attributes:
        index: `[B]` int32.
        order: `[B]` int32, so that `index[order]` ascends; None where `index` does, and names the table's last row
            wherever a gradient is taken.
    """

    index: tf.Tensor
    order: tf.Tensor | None = None


class Unique(NamedTuple):
    """The different ids of a batch.

    Attributes:
        ids: `[u]` int32, ascending.
        counts: `[u]` float32, rows of each.
        rows: each row's place in `ids`.
    """

    ids: tf.Tensor
    counts: tf.Tensor
    rows: SortedIndex


def unique(ids: tf.Tensor, order: tf.Tensor | None, size: int, large: bool = False) -> Unique:
    """The different ones of `ids` `[B]`, all below `size`; `order` as of `SortedIndex`.

    A `large` table is not passed over: the ids' order has equal ones side by side. The same in both ways.
    """
    if large:
        return _neighbours(ids, order)
    counts = tf.math.unsorted_segment_sum(tf.ones_like(ids), ids, size)
    present = counts > 0
    places = tf.cumsum(tf.cast(present, tf.int32), exclusive=True)
    found = tf.cast(tf.squeeze(tf.where(present), axis=1), tf.int32)
    return Unique(found, tf.cast(tf.gather(counts, found), tf.float32), SortedIndex(tf.gather(places, ids), order))


def _neighbours(ids: tf.Tensor, order: tf.Tensor | None) -> Unique:
    """`unique` by where an id differs from the one before it in their order."""
    ascending = ids if order is None else tf.gather(ids, order)
    differs = tf.concat([[True], ascending[1:] != ascending[:-1]], axis=0)
    places = tf.cumsum(tf.cast(differs, tf.int32)) - 1
    found = tf.boolean_mask(ascending, differs)
    counts = tf.math.segment_sum(tf.ones_like(ids, tf.float32), places)
    rows = places if order is None else tf.scatter_nd(order[:, tf.newaxis], places, tf.shape(ids))
    return Unique(found, counts, SortedIndex(rows, order))


def gather(table: tf.Tensor, rows: SortedIndex) -> tf.Tensor:
    """`tf.gather(table, rows.index)` `[B, W]`.

    NOTE: the gradient sums neighbours: for `[8192, 256]` on one core 0.4 ms where the index ascends and 0.8 ms with an
    order, in place of 2.4 ms for the stock unsorted sum.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def gathered(values: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
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
