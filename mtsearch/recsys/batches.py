"""The order in which an epoch visits the training rows."""

import numpy as np
from numpy.typing import NDArray


def epoch_order(rows: int, batch_size: int, seed: int, epoch: int) -> NDArray[np.int32]:
    """Rows of consecutive batches: a random partition into batches, ascending inside each.

    Training rows are sorted by user, so the rows of a batch are too, and sums over a user's rows are sums over
    neighbours. The loss of a batch does not depend on its order.

    Args:
        rows: N.
        batch_size: B; the last batch has the rest.
        seed: of the trial.
        epoch: 1-based.

    Returns:
        `[N]` a permutation of 0..N-1, by a counter-based generator keyed by (seed, epoch): no state between epochs.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    batch_of_row = generator.permutation(rows) // batch_size
    return np.argsort(batch_of_row, kind="stable").astype(np.int32)
