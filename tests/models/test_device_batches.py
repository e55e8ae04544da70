"""Tests of the order of the rows in an epoch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mtsearch.models.device import EpochOrder, EpochOrders
from tests.helpers.model_cases import batches


def draw(rows: int, batch_size: int, seed: int, epoch: int) -> EpochOrder:
    return EpochOrders(np.zeros(rows, np.int32)).draw(batch_size, seed, epoch)


@given(
    items=st.lists(st.integers(0, 9), min_size=1, max_size=300),
    batch_size=st.integers(1, 400),
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(1, 100_000),
)
def test_a_partition_into_ascending_batches(items: list[int], batch_size: int, seed: int, epoch: int) -> None:
    assert_sound(np.array(items, np.int32), batch_size, seed, epoch)


@pytest.mark.slow
def test_more_batches_than_sixteen_bits_count() -> None:
    items = np.random.default_rng(0).integers(1000, size=140_000).astype(np.int32)
    assert_sound(items[:70_000], 1, seed=3, epoch=1)
    assert_sound(items, 2, seed=3, epoch=1)


def assert_sound(items: NDArray[np.int32], batch_size: int, seed: int, epoch: int) -> None:
    order = EpochOrders(items).draw(batch_size, seed, epoch)
    assert order.rows.dtype == order.by_item.dtype == np.int32
    assert np.array_equal(np.sort(order.rows), np.arange(len(items)))
    for rows, by_item in zip(batches(order.rows, batch_size), batches(order.by_item, batch_size), strict=True):
        assert (np.diff(rows) > 0).all()
        assert np.array_equal(by_item, np.argsort(items[rows], kind="stable"))


def test_the_last_batch_has_the_rest() -> None:
    sizes = [len(batch) for batch in batches(draw(10, 4, 0, 1).rows, 4)]
    assert sizes == [4, 4, 2]


def test_every_epoch_and_every_seed_has_its_own() -> None:
    orders = {draw(100, 10, seed, epoch).rows.tobytes() for seed in range(5) for epoch in range(1, 6)}
    assert len(orders) == 25
    np.testing.assert_equal(draw(100, 10, 3, 2), draw(100, 10, 3, 2))


def test_batches_are_drawn_evenly() -> None:
    """Each row is in each batch, and beside each other row, equally often: 20 rows in 1,000 epochs."""
    epochs = [np.array(batches(draw(20, 5, seed, 1).rows, 5)) for seed in range(1000)]
    batch_of_row = np.array([np.argsort(epoch.reshape(-1)) // 5 for epoch in epochs])
    together = np.array([(batch_of_row[:, :1] == batch_of_row[:, [row]]).mean() for row in range(1, 20)])
    assert together == pytest.approx(4 / 19, abs=0.06)  # standard deviation 0.013
    for batch in range(4):
        assert (batch_of_row == batch).mean(axis=0) == pytest.approx(1 / 4, abs=0.06)
