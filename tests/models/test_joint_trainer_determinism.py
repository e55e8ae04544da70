"""Tests that `TrialConfig.seed` alone determines every number; numbers are compared with `==`."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from mtsearch.data.split import Split
from mtsearch.models import Device, JointTrainer
from mtsearch.models import joint_trainer as trainer_module
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import THREADS, answer_of, go_on, make_split, numbers

CONFIG = TrialConfig(embedding_size=6, batch_size=300, epochs=3, retrieval_weight=1e-3, seed=11)
# Everything that has a state or draws at random.
RICH = CONFIG.model_copy(
    update={
        "embedding_dropout": 0.1,
        "hidden_dropout": 0.2,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "learning_rate": 0.01,
        "schedule": "cosine",
        "balance": "uncertainty",
        "retrieval_loss": "full",
        "rating_biases": True,
        "item_bias": True,
        "l2": 1e-3,
    }
)

Numbers = list[dict[str, float]]


@pytest.fixture(scope="module", params=[CONFIG, RICH], ids=["plain", "rich"])
def alone(request: pytest.FixtureRequest, split: Split, device: Device) -> tuple[TrialConfig, Numbers]:
    """Return a configuration, and its result as the first trial of a trainer."""
    return request.param, numbers(JointTrainer(split, device).train(request.param, go_on))


@pytest.mark.slow
def test_the_same_after_other_trials(alone: tuple[TrialConfig, Numbers], trainer: JointTrainer) -> None:
    config, expected = alone
    others: list[dict[str, Any]] = [
        {"seed": 1, "learning_rate": 0.5, "epochs": 2},
        {"batch_size": 700},
        {"embedding_size": 5},
    ]
    for other in others:
        trainer.train(config.model_copy(update=other), go_on)
        assert numbers(trainer.train(config, go_on)) == expected


@pytest.mark.slow
def test_the_same_after_a_failed_trial(alone: tuple[TrialConfig, Numbers], trainer: JointTrainer) -> None:
    config, expected = alone

    def interrupt(_: object) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.train(config.model_copy(update={"learning_rate": 5.0}), interrupt)
    assert numbers(trainer.train(config, go_on)) == expected


@pytest.mark.slow
def test_the_same_once_its_model_made_room_for_others(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "MAX_COMPILED_MODELS", 2)
    trainer = JointTrainer(make_split(users=6, items=7, rows=60), device)
    config = CONFIG.model_copy(update={"epochs": 1})
    expected = numbers(trainer.train(config, go_on))
    for size in (1, 2, 1, 3):
        trainer.train(config.model_copy(update={"embedding_size": size}), go_on)
    assert [shape.embedding_size for shape in trainer._compiled] == [1, 3]  # 2 was used least recently
    assert numbers(trainer.train(config, go_on)) == expected


@pytest.mark.slow
def test_the_same_in_a_fresh_process(split: Split, device: Device) -> None:
    here = [numbers(JointTrainer(split, device).train(config, go_on)) for config in (CONFIG, RICH)]
    code = f"""
import json
from mtsearch.models import Device, JointTrainer
from tests.helpers.model_cases import go_on, make_split, numbers
from {__package__}.test_joint_trainer_determinism import CONFIG, RICH

trainer = JointTrainer(make_split(), Device.default({THREADS}))
print(json.dumps([numbers(trainer.train(config, go_on)) for config in (CONFIG, RICH)]))
"""
    assert answer_of(code) == here


def test_another_seed_differs(alone: tuple[TrialConfig, Numbers], trainer: JointTrainer) -> None:
    config, expected = alone
    other = numbers(trainer.train(config.model_copy(update={"seed": 12}), go_on))
    assert all(ours["rmse"] != theirs["rmse"] for ours, theirs in zip(other, expected, strict=True))


@pytest.fixture
def global_seeds() -> Iterator[None]:
    """Set unusual global seeds, and the usual ones after the test."""
    before = random.getstate(), np.random.get_state()
    tf_keras.utils.set_random_seed(99)
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])


@pytest.mark.slow
@pytest.mark.usefixtures("global_seeds")
def test_global_seeds_are_neither_read_nor_moved(
    alone: tuple[TrialConfig, Numbers], split: Split, device: Device
) -> None:
    config, expected = alone
    states = random.getstate(), np.random.get_state(legacy=False), tf.random.get_global_generator().state.numpy()
    next_draw = tf.random.uniform([3]).numpy()
    tf_keras.utils.set_random_seed(99)
    assert numbers(JointTrainer(split, device).train(config, go_on)) == expected
    assert random.getstate() == states[0]
    np.testing.assert_equal(np.random.get_state(legacy=False), states[1])
    np.testing.assert_equal(tf.random.get_global_generator().state.numpy(), states[2])
    np.testing.assert_equal(tf.random.uniform([3]).numpy(), next_draw)
