"""The graph that XLA compiles for a GPU, compiled for the CPU here, comes to the same as the graph of a CPU."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mtsearch.data.split import Split
from mtsearch.errors import NonFiniteLoss
from mtsearch.models import Device, JointTrainer
from mtsearch.models import graph_key as key_module
from mtsearch.models import tasks as sum_module
from mtsearch.models.device import InputPipeline
from mtsearch.models.tasks import ExactRetrieval, SortedIndex, unique_static
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import go_on, make_split, numbers

CONFIG = {
    "embedding_size": 4, "hidden_layers": "8", "batch_size": 90, "epochs": 2, "retrieval_weight": 1e-2, "seed": 3,
    "learning_rate": 0.05,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "in one batch": {"batch_size": 4000, "epochs": 1},
    "corrected": {
        "retrieval_loss": "corrected", "remove_accidental_hits": True, "item_bias": True, "normalize": True,
        "optimizer": "sgd", "l2": 0.01, "schedule": "cosine",
    },
    "full": {
        "retrieval_loss": "full", "optimizer": "adamw", "rating_biases": True, "balance": "uncertainty",
        "dot_product": True, "l2": 0.01,
    },
    "squared": {
        "retrieval_loss": "squared", "optimizer": "adam", "item_bias": True, "temperature": 2.0, "l2": 0.01,
        "elementwise_product": True,
    },
}  # fmt: skip
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def compiled(split: Split, device: Device) -> JointTrainer:
    return JointTrainer(split, replace(device, xla=True))


def config_of(case: str, **changes: Any) -> TrialConfig:
    return TrialConfig.model_validate({**CONFIG, **CASES[case], **changes})


def compare(config: TrialConfig, ours: JointTrainer, theirs: JointTrainer) -> None:
    """Train with both and compare all losses, metrics of ratings, and weights."""
    results = [numbers(each.train(config, go_on)) for each in (ours, theirs)]
    for epoch, expected in zip(*results, strict=True):
        for name in ("rmse", "rating", "retrieval"):
            assert epoch[name] == pytest.approx(expected[name], rel=TOLERANCE)
    models = (each.last_model().model for each in (ours, theirs))
    for weights, expected_weights in zip(*(model.trainable_variables for model in models), strict=True):
        assert np.linalg.norm(weights - expected_weights) <= TOLERANCE * np.linalg.norm(expected_weights)


def take_tables_for_large(monkeypatch: pytest.MonkeyPatch, sums: str) -> None:
    """Train as if tables had more rows than a batch can have, which are summed in order or as they come."""
    monkeypatch.setattr(key_module, "LEAST_LARGE", 0)
    monkeypatch.setattr(key_module, "LARGE_BATCHES", 0)
    if sums == "unsorted":
        monkeypatch.setattr(sum_module, "MOST_ONE_HOT", 0)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["in one batch", "corrected", "full", "squared"])
def test_the_same_to_rounding(case: str, compiled: JointTrainer, trainer: JointTrainer) -> None:
    compare(config_of(case), compiled, trainer)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "sums"), [("corrected", "unsorted"), ("full", "sorted"), ("squared", "unsorted")])
def test_large_tables(
    monkeypatch: pytest.MonkeyPatch, case: str, sums: str, split: Split, device: Device, trainer: JointTrainer
) -> None:
    take_tables_for_large(monkeypatch, sums)
    compare(config_of(case), JointTrainer(split, replace(device, xla=True)), trainer)


def test_the_same_to_rounding_in_the_tutorials_form(compiled: JointTrainer, trainer: JointTrainer) -> None:
    compare(config_of("plain"), compiled, trainer)


@pytest.mark.slow
def test_items_outside_the_catalogue(device: Device) -> None:
    whole = make_split()
    part = replace(whole, catalogue=whole.catalogue[10:50])
    compare(config_of("full"), JointTrainer(part, replace(device, xla=True)), JointTrainer(part, device))


@pytest.mark.slow
def test_rows_that_come_in_blocks_give_the_same_bits(split: Split, device: Device, compiled: JointTrainer) -> None:
    config = config_of("plain", schedule="cosine", hidden_dropout=0.2)
    expected = numbers(compiled.train(config, go_on))
    streamed = JointTrainer(split, replace(device, xla=True), resident_bytes=0)
    streamed.pipeline = InputPipeline(split.train, [split.train.ratings], 0, block_rows=300)
    assert numbers(streamed.train(config, go_on)) == expected


@pytest.mark.slow
def test_dropout_has_the_same_masks_again_and_others_with_another_seed(compiled: JointTrainer) -> None:
    config = config_of("plain", hidden_dropout=0.3, embedding_dropout=0.2)
    first, second = (numbers(compiled.train(config, go_on)) for _ in range(2))
    other = numbers(compiled.train(config.model_copy(update={"seed": 4}), go_on))
    plain = numbers(compiled.train(config_of("plain"), go_on))
    assert first == second
    assert first != other
    assert first != plain


@pytest.mark.slow
def test_a_loss_that_is_no_number_has_the_same_step(compiled: JointTrainer, trainer: JointTrainer) -> None:
    config = config_of("plain", learning_rate=300.0, optimizer="sgd")
    steps = []
    for each in (trainer, compiled):
        with pytest.raises(NonFiniteLoss) as failure:
            each.train(config, go_on)
        steps.append((failure.value.epoch, failure.value.step))
    assert steps[0] == steps[1]


@pytest.mark.parametrize("large", [False, True])
def test_unique_ids_in_arrays_of_known_sizes(large: bool) -> None:
    ids, weights = [3, 1, 3, 7, 1, 3], [1.0, 1, 1, 1, 0, 0]  # the last two fill the batch
    found = unique_static(tf.constant(ids), tf.constant(weights), 8, large)
    places = found.rows.index.numpy()
    by_id = dict(zip(ids, found.counts.numpy()[places].tolist(), strict=True))
    assert by_id == {3: 2, 1: 1, 7: 1}
    assert found.counts.numpy().sum() == 4
    table = tf.range(8.0)[:, tf.newaxis]
    assert tf.gather(found.take(table), places).numpy()[:, 0].tolist() == ids


def test_an_item_that_the_batch_does_not_have_changes_nothing_however_high_its_score() -> None:
    users, items = tf.constant([[1.0, 0.0], [0.5, 1.0]]), tf.constant([[0.2, 0.1], [1.0, -1.0], [300.0, 300.0]])
    rows = SortedIndex(tf.constant([0, 1, 1]), static=True), SortedIndex(tf.constant([1, 0, 1]), static=True)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([users, items])
        whole = ExactRetrieval()(users, items, *rows, candidate_counts=tf.constant([1.0, 2.0, 0.0]))
        without = ExactRetrieval()(users, items[:2], *rows, candidate_counts=tf.constant([1.0, 2.0]))
    assert float(whole) == float(without)
    for table in (users, items):
        np.testing.assert_allclose(tape.gradient(whole, table), tape.gradient(without, table), rtol=1e-6)
