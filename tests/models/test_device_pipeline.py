"""Tests that rows on the device and rows that come in blocks give the same batches and the same bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.data.split import Split
from mtsearch.errors import NonFiniteLoss
from mtsearch.models import Device, JointTrainer
from mtsearch.models.device import EpochOrders, InputPipeline
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import go_on, numbers

CONFIG = TrialConfig(
    embedding_size=4, hidden_layers="8", batch_size=90, epochs=2, retrieval_weight=1e-3, hidden_dropout=0.2,
    schedule="cosine", seed=3,
)  # fmt: skip


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(batch_size=st.integers(1, 500), block_rows=st.integers(1, 2000))
def test_blocks_are_whole_batches_in_the_order_drawn(split: Split, batch_size: int, block_rows: int) -> None:
    rows, order = split.train, EpochOrders(split.train.items).draw(batch_size, seed=1, epoch=1)
    blocks = list(InputPipeline(rows, [rows.ratings], resident_bytes=0, block_rows=block_rows).epoch(order, batch_size))
    sizes = [len(block.rows) for block in blocks]
    assert all(size % batch_size == 0 and size <= max(block_rows, batch_size) for size in sizes[:-1])
    for column, expected in enumerate((rows.users, rows.items, rows.ratings)):
        taken = [(*block.table[:2], *block.table.targets)[column].numpy()[block.rows] for block in blocks]
        np.testing.assert_array_equal(np.concatenate(taken), expected[order.rows])
    np.testing.assert_array_equal(np.concatenate([block.by_item for block in blocks]), order.by_item)


def test_rows_are_on_the_device_only_if_they_fit(split: Split) -> None:
    needed = 20 * len(split.train)  # user, item, rating, and the two numbers of the order of an epoch
    assert [
        InputPipeline(split.train, [split.train.ratings], room).is_resident for room in (None, needed, needed - 1)
    ] == [True, True, False]


def streaming(split: Split, device: Device, block_rows: int) -> JointTrainer:
    trainer = JointTrainer(split, device, resident_bytes=0)
    assert not trainer.pipeline.is_resident
    trainer.pipeline = InputPipeline(split.train, [split.train.ratings], 0, block_rows)
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("block_rows", [90, 300, 10_000])
def test_a_trial_has_the_same_bits(split: Split, device: Device, trainer: JointTrainer, block_rows: int) -> None:
    expected = numbers(trainer.train(CONFIG, go_on))
    streamed = streaming(split, device, block_rows)
    assert numbers(streamed.train(CONFIG, go_on)) == expected
    models = (each.last_model().model for each in (trainer, streamed))
    for ours, theirs in zip(*(model.trainable_variables for model in models), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_loss_that_is_no_number_has_the_same_step(split: Split, device: Device, trainer: JointTrainer) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 300.0, "optimizer": "sgd", "schedule": "constant"})
    steps = []
    for each in (trainer, streaming(split, device, 180)):
        with pytest.raises(NonFiniteLoss) as failure:
            each.train(config, go_on)
        steps.append((failure.value.epoch, failure.value.step))
    assert steps[0] == steps[1]
    assert steps[0][1] > 2  # beyond the first block
