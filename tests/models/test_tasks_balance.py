"""Tests of loss weights that change by themselves."""

import math
from typing import Any

import pytest

from mtsearch.models import JointTrainer
from mtsearch.models.tasks import dynamic_weight_average
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import go_on, numbers

CONFIG = TrialConfig(
    embedding_size=8, hidden_layers="16", batch_size=500, epochs=4, rating_weight=2.0, retrieval_weight=1e-3
)


def with_(**changes: Any) -> TrialConfig:
    return TrialConfig.model_validate({**CONFIG.model_dump(), **changes})


def losses(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    return [{"rating": rating, "retrieval": retrieval} for rating, retrieval in pairs]


@pytest.mark.parametrize("epochs", [[], [(3.0, 5.0)]])
def test_no_factor_before_two_epochs(epochs: list[tuple[float, float]]) -> None:
    assert dynamic_weight_average(losses(*epochs)) == dict.fromkeys(["rating", "retrieval"][: 2 * len(epochs)], 1.0)


def test_the_loss_that_fell_less_gets_more() -> None:
    """The ratios of the last two epochs are 1/2 and 9/10: 2 * e^(r / 2) / (e^0.25 + e^0.45)."""
    rating, retrieval = dynamic_weight_average(losses((99.0, 1.0), (4.0, 10.0), (2.0, 9.0))).values()
    total = math.exp(0.25) + math.exp(0.45)
    assert rating == pytest.approx(2 * math.exp(0.25) / total)
    assert retrieval == pytest.approx(2 * math.exp(0.45) / total)
    assert rating + retrieval == pytest.approx(2)
    assert rating < 1 < retrieval


def test_a_loss_of_zero_has_ratio_one() -> None:
    assert dynamic_weight_average(losses((0.0, 4.0), (0.0, 4.0))) == pytest.approx({"rating": 1, "retrieval": 1})


def test_losses_that_are_rounding_have_ratio_one() -> None:
    assert dynamic_weight_average(losses((1e-9, 4.0), (1e-7, 4.0))) == pytest.approx({"rating": 1, "retrieval": 1})


def test_three_losses_by_hand() -> None:
    """The ratios are 1, 1/2 and 1/4: 3 * softmax of their halves."""
    epochs = [{"a": 1.0, "b": 2.0, "c": 4.0}, {"a": 1.0, "b": 1.0, "c": 1.0}]
    parts = [math.exp(1 / 2), math.exp(1 / 4), math.exp(1 / 8)]
    expected = {task: 3 * part / sum(parts) for task, part in zip("abc", parts, strict=True)}
    assert dynamic_weight_average(epochs) == pytest.approx(expected)


def test_an_exploding_loss_causes_no_overflow() -> None:
    factors = dynamic_weight_average(losses((1e-3, 1.0), (1e30, 1.0)))
    assert factors == pytest.approx({"rating": 2, "retrieval": 0})


def test_fixed_weights_are_not_recorded(trainer: JointTrainer) -> None:
    assert all(epoch.weights == {} for epoch in trainer.train(CONFIG, go_on).curve)


def test_dwa_weighs_every_epoch_by_the_ones_before(trainer: JointTrainer) -> None:
    config = with_(balance="dwa")
    fixed, result = trainer.train(CONFIG, go_on), trainer.train(config, go_on)
    compiled = trainer.compiled_model(config)
    for number, epoch in enumerate(result.curve):
        factors = dynamic_weight_average([earlier.losses for earlier in result.curve[:number]])
        expected = {"rating": 2.0 * factors.get("rating", 1), "retrieval": 1e-3 * factors.get("retrieval", 1)}
        assert epoch.weights == pytest.approx(expected)
    assert result.curve[2].weights != result.curve[1].weights
    for variable, weight in zip(compiled.model.trial_inputs.weights, result.curve[-1].weights.values(), strict=True):
        assert float(variable) == pytest.approx(weight)
    assert numbers(result)[:2] == numbers(fixed)[:2]
    assert numbers(result)[2] != numbers(fixed)[2]
    assert numbers(trainer.train(CONFIG, go_on)) == numbers(fixed)


@pytest.mark.slow
def test_uncertainty_learns_and_returns_its_weights(trainer: JointTrainer) -> None:
    config = with_(balance="uncertainty")
    result = trainer.train(config, go_on)
    log_variance = trainer.compiled_model(config).model.log_variance.numpy()
    assert (log_variance != 0).all()
    last = {"rating": 2.0 * math.exp(-log_variance[0]) / 2, "retrieval": 1e-3 * math.exp(-log_variance[1])}
    assert result.curve[-1].weights == pytest.approx(last)
    assert len({epoch.weights["rating"] for epoch in result.curve}) == config.epochs
    assert len({epoch.weights["retrieval"] for epoch in result.curve}) == config.epochs
    once = trainer.train(with_(balance="uncertainty", epochs=1), go_on)
    assert once.curve[0].weights == result.curve[0].weights


def test_uncertainty_takes_two_more_weights(trainer: JointTrainer) -> None:
    plain, learnt = (trainer.train(with_(balance=kind, epochs=1), go_on) for kind in ("fixed", "uncertainty"))
    assert learnt.parameters == plain.parameters + 2
