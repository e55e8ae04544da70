"""How the training rows get to the device: they lie there, or come a block of batches at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from mtsearch.data.interactions import Rows
from mtsearch.recsys.batches import EpochOrder

ROW_BYTES = 20
"""Of a row: user, item, rating, and its two numbers in the order of an epoch."""

_BLOCK_ROWS = 2**19


class TrainingRows(NamedTuple):
    """Training rows on the device: `[N]` each."""

    users: tf.Tensor
    items: tf.Tensor
    ratings: tf.Tensor

    @classmethod
    def of(cls, rows: Rows) -> "TrainingRows":
        """On the device that is in force."""
        return cls(tf.constant(rows.users), tf.constant(rows.items), tf.constant(rows.ratings))


class Block(NamedTuple):
    """Some whole batches of an epoch; the last block's last batch has the rest.

    Attributes:
        table: the rows that `order` counts in.
        rows: `[n]` int32, index into `table`, batch after batch.
        by_item: `[n]` int32, as of `EpochOrder`.
    """

    table: TrainingRows
    rows: tf.Tensor
    by_item: tf.Tensor


class Feed:
    """The training rows, epoch after epoch; the blocks' batches are the same wherever the rows lie.

    Args:
        rows: sorted by user.
        resident_bytes: what they and an epoch's order may take of the device. Where they take more, they stay on the
            host, and `tf.data` gathers the next block while the device trains on this one. None: no limit.
        block_rows: rows of a block, one batch at least.
    """

    def __init__(self, rows: Rows, resident_bytes: int | None = None, block_rows: int = _BLOCK_ROWS) -> None:
        self.size = len(rows)
        self.is_resident = resident_bytes is None or ROW_BYTES * self.size <= resident_bytes
        self._block_rows = block_rows
        if self.is_resident:
            self._rows = TrainingRows.of(rows)
        else:
            with tf.device("/CPU:0"):
                self._rows = TrainingRows.of(rows)

    def first(self) -> TrainingRows:
        """One row."""
        return TrainingRows(*(column[:1] for column in self._rows))

    def epoch(self, order: EpochOrder, batch_size: int) -> Iterator[Block]:
        """The rows in `order`."""
        if self.is_resident:
            yield Block(self._rows, tf.constant(order.rows), tf.constant(order.by_item))
        else:
            yield from self._streamed(order, batch_size)

    def _streamed(self, order: EpochOrder, batch_size: int) -> Iterator[Block]:
        step = max(1, self._block_rows // batch_size) * batch_size
        with tf.device("/CPU:0"):
            rows, by_item = tf.constant(order.rows), tf.constant(order.by_item)

            def block(start: tf.Tensor) -> Block:
                taken = rows[start : start + step]
                table = TrainingRows(*(tf.gather(column, taken) for column in self._rows))
                return Block(table, tf.range(tf.size(taken)), by_item[start : start + step])

            options = tf.data.Options()
            options.autotune.enabled = False  # NOTE: its threads sleep 0.3-0.9 s at every start
            starts = tf.data.Dataset.range(0, len(order.rows), step)
            yield from starts.map(block).prefetch(1).with_options(options)
