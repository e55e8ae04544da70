"""Tests of evaluating and saving the model that was trained last, and of training without evaluation."""

from pathlib import Path

import pytest
import tensorflow as tf

from mtsearch.data.split import Split
from mtsearch.models import Device, JointTrainer
from mtsearch.models.trainer import EpochMetrics
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import go_on, numbers

CONFIG = TrialConfig(epochs=3, batch_size=256, rating_biases=True, embedding_dropout=0.1)


def test_the_last_model_is_evaluated_as_after_its_last_epoch(trainer: JointTrainer, split: Split) -> None:
    result = trainer.train(CONFIG, go_on)
    assert trainer.evaluate(split.validation) == result.metrics


def test_the_last_model_is_that_of_the_last_training(trainer: JointTrainer, split: Split) -> None:
    first = trainer.train(CONFIG, go_on).metrics
    second = trainer.train(CONFIG.model_copy(update={"seed": 7}), go_on).metrics
    assert first != second
    assert trainer.evaluate(split.validation) == second


def test_training_without_evaluation_gives_the_same_model(trainer: JointTrainer, split: Split, device: Device) -> None:
    judged = trainer.train(CONFIG, go_on)
    unjudged = JointTrainer(split, device, validate=False)
    result = unjudged.train(CONFIG, go_on)
    assert result.metrics == {}
    assert [epoch.metrics for epoch in result.curve] == [{}] * 3
    assert [epoch.losses for epoch in result.curve] == [epoch.losses for epoch in judged.curve]
    assert unjudged.evaluate(split.validation) == judged.metrics


def test_a_cosine_schedule_stopped_early_has_the_length_of_all_epochs(trainer: JointTrainer) -> None:
    def stop_after_two(epoch: EpochMetrics) -> bool:
        return epoch.epoch < 2

    config = CONFIG.model_copy(update={"schedule": "cosine"})
    whole, part = trainer.train(config, go_on), trainer.train(config, stop_after_two)
    assert numbers(part) == numbers(whole)[:2]


def test_without_a_trained_model_evaluation_is_refused(split: Split, device: Device, tmp_path: Path) -> None:
    trainer = JointTrainer(split, device)
    with pytest.raises(ValueError, match="no model has been trained"):
        trainer.evaluate(split.validation)
    with pytest.raises(ValueError, match="no model has been trained"):
        trainer.save(tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_saving_leaves_the_trainer_as_it_was(trainer: JointTrainer, split: Split, tmp_path: Path) -> None:
    before = numbers(trainer.train(CONFIG, go_on))
    trainer.save(tmp_path / "1")
    assert tf.saved_model.contains_saved_model(str(tmp_path / "1"))
    assert numbers(trainer.train(CONFIG, go_on)) == before
