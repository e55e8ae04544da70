"""The order of an epoch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsearch.recsys.batches import epoch_order

from .cases import batches


@given(
    rows=st.integers(1, 300),
    batch_size=st.integers(1, 400),
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(1, 100_000),
)
def test_a_partition_into_ascending_batches(rows: int, batch_size: int, seed: int, epoch: int) -> None:
    order = epoch_order(rows, batch_size, seed, epoch)
    assert order.dtype == np.int32
    assert np.array_equal(np.sort(order), np.arange(rows))
    for batch in batches(order, batch_size):
        assert (np.diff(batch) > 0).all()


def test_the_last_batch_has_the_rest() -> None:
    sizes = [len(batch) for batch in batches(epoch_order(10, 4, 0, 1), 4)]
    assert sizes == [4, 4, 2]


def test_every_epoch_and_every_seed_has_its_own() -> None:
    orders = {epoch_order(100, 10, seed, epoch).tobytes() for seed in range(5) for epoch in range(1, 6)}
    assert len(orders) == 25
    assert np.array_equal(epoch_order(100, 10, 3, 2), epoch_order(100, 10, 3, 2))


def test_batches_are_drawn_evenly() -> None:
    """A row is as often in one batch as in any other, and meets any other row as often: 1,000 epochs, 20 rows."""
    epochs = [np.array(batches(epoch_order(20, 5, seed, 1), 5)) for seed in range(1000)]
    batch_of_row = np.array([np.argsort(epoch.reshape(-1)) // 5 for epoch in epochs])
    together = np.array([(batch_of_row[:, :1] == batch_of_row[:, [row]]).mean() for row in range(1, 20)])
    assert together == pytest.approx(4 / 19, abs=0.06)  # standard deviation 0.013
    for batch in range(4):
        assert (batch_of_row == batch).mean(axis=0) == pytest.approx(1 / 4, abs=0.06)
