"""Tests of dropout: masks follow from seed and step alone, and there are none without a rate."""

import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mtsearch.data.split import Split
from mtsearch.models import Device, JointTrainer
from mtsearch.models.tasks import Dropout
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import TutorialScorer, go_on, numbers
from tests.helpers.stock import initial_model
from tests.models.test_joint_model_loss import batch_of

CONFIG = TrialConfig(
    embedding_size=8, hidden_layers="16-8-8", batch_size=2**20, epochs=4, retrieval_weight=1e-3, seed=4
)
BOTH = CONFIG.model_copy(update={"embedding_dropout": 0.2, "hidden_dropout": 0.3})


def mask(rate: float = 0.5, seed: tuple[int, int] = (1, 2), stream: int = 0) -> Any:
    return Dropout(tf.constant(rate), tf.constant(seed))(tf.ones([400, 50]), stream).numpy()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_share_is_dropped_and_the_mean_stays(rate: float) -> None:
    values = mask(rate)
    assert (values == 0).mean() == pytest.approx(rate, abs=0.02)  # standard deviation 0.0035 at most
    assert values.mean() == pytest.approx(1, abs=0.12)
    np.testing.assert_allclose(values[values != 0], 1 / (1 - rate), rtol=1e-6)


def test_a_mask_follows_from_seed_step_and_stream() -> None:
    np.testing.assert_array_equal(mask(), mask())
    others = [mask(), mask(seed=(1, 3)), mask(seed=(3, 2)), mask(stream=1), mask(seed=(2, 1))]
    assert_unrelated(others)


def assert_unrelated(masks: list[Any]) -> None:
    """Check that two masks agree in half of their places, as independent ones do."""
    for first, second in itertools.combinations(masks, 2):
        assert (first == second).mean() == pytest.approx(0.5, abs=0.02)


def test_every_place_of_the_model_has_a_mask_of_its_own(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users, items and three hidden layers have different streams: equal ones would drop the same places."""
    masks = []
    drop = Dropout.__call__

    def spy(self: Dropout, values: tf.Tensor, stream: int) -> tf.Tensor:
        masks.append(drop(Dropout(tf.constant(0.5), self.seed), tf.ones([400, 50]), stream).numpy())
        return drop(self, values, stream)

    monkeypatch.setattr(Dropout, "__call__", spy)
    initial = initial_model(split, BOTH)
    masks.clear()
    initial.task_losses(batch_of(split.train.take(np.arange(50))))
    assert len(masks) == 5
    assert_unrelated(masks)


@pytest.mark.slow
def test_every_step_and_every_epoch_has_another_mask(trainer: JointTrainer) -> None:
    """With one batch per epoch and a tiny learning rate, only the mask can change the loss."""
    still = {"learning_rate": 1e-20}
    dropped, kept = (
        [epoch.losses["rating"] for epoch in trainer.train(config.model_copy(update=still), go_on).curve]
        for config in (BOTH, CONFIG)
    )
    assert len(set(dropped)) == 4
    assert len(set(kept)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("rates", [{"embedding_dropout": 0.2}, {"hidden_dropout": 0.3}])
def test_no_rate_no_mask_in_the_graph(trainer: JointTrainer, rates: dict[str, float]) -> None:
    assert "StatelessRandom" in graph_of(trainer, CONFIG.model_copy(update=rates))
    assert "StatelessRandom" not in graph_of(trainer, CONFIG)


def graph_of(trainer: JointTrainer, config: TrialConfig) -> str:
    graph: Any = trainer.compiled_model(config)._block
    return str(graph.graph.as_graph_def())


def test_the_same_bits_alone_and_after_others(split: Split, device: Device) -> None:
    """The determinism tests compare with a fresh process too."""
    trainer = JointTrainer(split, device)
    alone = numbers(trainer.train(BOTH, go_on))
    for other in ({"seed": 5}, {"hidden_dropout": 0.6, "batch_size": 100}):
        assert numbers(trainer.train(BOTH.model_copy(update=other), go_on)) != alone
        assert numbers(trainer.train(BOTH, go_on)) == alone


def test_evaluation_is_without_dropout(split: Split, trainer: JointTrainer) -> None:
    """A model that drops is evaluated as the same weights without dropout."""
    trainer.train(BOTH, go_on)
    dropping, plain = trainer.compiled_model(BOTH), trainer.compiled_model(CONFIG)
    plain.reset(CONFIG)
    for variable, value in zip(plain.model.trainable_variables, dropping.model.trainable_variables, strict=True):
        variable.assign(value)
    rows = split.validation
    ours, theirs = (TutorialScorer(compiled, split.catalogue) for compiled in (dropping, plain))
    np.testing.assert_array_equal(ours.ratings(rows.users, rows.items), theirs.ratings(rows.users, rows.items))
    np.testing.assert_array_equal(ours.scores(rows.users), theirs.scores(rows.users))
