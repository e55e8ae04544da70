"""The order in which an epoch visits the training rows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int32]


class EpochOrder(NamedTuple):
    """The rows of consecutive batches; the last batch has the rest.

    Attributes:
        rows: `[N]` a permutation of 0..N-1, ascending inside each batch.
        by_item: `[N]` places within the batch, 0..B-1, in the order of their items.
    """

    rows: Index
    by_item: Index


class EpochOrders:
    """Random partitions of the training rows into batches.

    Training rows are sorted by user, so the rows of a batch are too, and sums over a user's rows are sums over
    neighbours; `by_item` does the same for items. The loss of a batch does not depend on its order.

    Args:
        items: `[N]` of the training rows.
    """

    def __init__(self, items: Index) -> None:
        self._rows_by_item = np.argsort(items, kind="stable")

    def draw(self, batch_size: int, seed: int, epoch: int) -> EpochOrder:
        """The order of an epoch, by a counter-based generator keyed by (seed, epoch): no state between epochs.

        Args:
            batch_size: B.
            seed: of the trial.
            epoch: 1-based.
        """
        size = len(self._rows_by_item)
        batches = -(-size // batch_size)
        generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
        # NOTE: a stable sort of 16-bit numbers is a radix sort: 72,000 rows in 9 or 71 batches take 0.5 or 0.2 ms, and
        # 1.7 or 2.6 ms with 32 bits.
        number = np.uint16 if batches <= np.iinfo(np.uint16).max else np.int64
        batch_of_row = (generator.permutation(size) // batch_size).astype(number)
        rows = np.argsort(batch_of_row, kind="stable")
        place = np.empty(size, np.int32)
        place[rows] = np.arange(size, dtype=np.int32) % batch_size
        grouped = self._rows_by_item[np.argsort(batch_of_row[self._rows_by_item], kind="stable")]
        return EpochOrder(rows.astype(np.int32), place[grouped])
