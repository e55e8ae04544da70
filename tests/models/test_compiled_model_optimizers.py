"""Tests of optimisers and schedules against those of Keras, and of trials that share a graph."""

import math
from typing import Any

import numpy as np
import pytest

from mtsearch.data.split import Split
from mtsearch.models import Device, JointTrainer
from mtsearch.models.device import EpochOrder, EpochOrders
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import batches, go_on, numbers
from tests.helpers.stock import StockTraining

CONFIG = TrialConfig(
    embedding_size=8, hidden_layers="16-8", batch_size=400, epochs=3, retrieval_weight=1e-3, learning_rate=0.01, seed=5
)


def with_(**changes: Any) -> TrialConfig:
    return TrialConfig.model_validate({**CONFIG.model_dump(), **changes})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [*((name, "cosine") for name in ("adagrad", "adam", "adamw", "sgd")), ("adam", "constant")],
)
def test_every_epoch_and_weight_equals_stock(
    split: Split, trainer: JointTrainer, optimizer: str, schedule: str
) -> None:
    config = with_(optimizer=optimizer, schedule=schedule, weight_decay=0.9 if optimizer == "adamw" else 0.0)
    result, stock = trainer.train(config, go_on), StockTraining(split, config)
    for epoch in result.curve:
        assert epoch.losses == pytest.approx(stock.epoch_losses(epoch.epoch), rel=1e-4)
    model = trainer.compiled_model(config).model
    ours = [*model.heads["rating"].get_weights(), model.user_table.numpy(), model.item_table.numpy()]
    towers = (stock.model.user_model, stock.model.movie_model)
    theirs = [*stock.model.rating_model.get_weights(), *(tower.layers[1].get_weights()[0][1:] for tower in towers)]
    for weights, expected in zip(ours, theirs, strict=True):
        # Adam divides noise by noise where a gradient is nearly 0: a few weights of thousands.
        assert np.linalg.norm(weights - expected) <= 2e-3 * np.linalg.norm(expected)


@pytest.mark.slow
def test_decay_is_of_adamw_alone(trainer: JointTrainer) -> None:
    for optimizer in ("adagrad", "adam", "sgd"):
        with_decay, without = (
            numbers(trainer.train(with_(optimizer=optimizer, weight_decay=decay, epochs=1), go_on))
            for decay in (0.9, 0.0)
        )
        assert with_decay == without


@pytest.mark.slow
def test_trials_of_one_graph_equal_fresh_ones(split: Split, device: Device) -> None:
    """Settings that are inputs of the graph may change from trial to trial."""
    rates = {"embedding_dropout": 0.1, "hidden_dropout": 0.2, "l2": 0.01}
    base = with_(optimizer="adamw", epochs=2, **rates)
    changes: list[dict[str, Any]] = [
        {"weight_decay": 0.5},
        {"weight_decay": 0.0, "learning_rate": 0.03},
        {"embedding_dropout": 0.4},
        {"hidden_dropout": 0.5, "temperature": 0.5},
        {"l2": 1.0},
        {"balance": "dwa", "epochs": 4},
        {"schedule": "cosine"},
        {"batch_size": 333, "seed": 6, "rating_weight": 2.0},
        {},
    ]
    shared = JointTrainer(split, device)
    configs = [base.model_copy(update=change) for change in changes]
    together = [numbers(shared.train(config, go_on)) for config in configs]
    assert len(shared._compiled) == 1
    assert len({repr(each) for each in together}) == len(configs)
    for config, result in zip(configs[1:6:2], together[1:6:2], strict=True):
        assert numbers(JointTrainer(split, device).train(config, go_on)) == result
    for config, result in zip(reversed(configs), reversed(together), strict=True):
        assert numbers(shared.train(config, go_on)) == result


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_of_every_step(split: Split, trainer: JointTrainer, schedule: str) -> None:
    """The cosine schedule is rate * (1 + cos(pi * step / steps)) / 2, with steps from 0."""
    config = with_(schedule=schedule, optimizer="sgd")
    steps_an_epoch = math.ceil(len(split.train) / config.batch_size)
    steps = config.epochs * steps_an_epoch
    compiled = trainer.compiled_model(config)
    compiled.reset(config)
    order = EpochOrders(split.train.items).draw(config.batch_size, config.seed, 1)
    pairs = list(zip(*(batches(column, config.batch_size) for column in order), strict=True))
    rates = []
    for step in range(steps):
        rows, by_item = (part.astype(np.int32) for part in pairs[step % steps_an_epoch])
        compiled.epoch(EpochOrder(rows, by_item), config.batch_size, first_step=step)
        rates.append(float(compiled.optimizer.learning_rate))
    cosine = [0.01 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
    assert rates == pytest.approx(cosine if schedule == "cosine" else [0.01] * steps, rel=1e-5)
    assert rates[0] == pytest.approx(0.01)
    assert trainer.train(config, go_on).curve
    assert float(compiled.optimizer.learning_rate) == pytest.approx(rates[-1], rel=1e-6)  # epochs count on
