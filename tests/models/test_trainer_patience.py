"""Tests of early stopping: the epoch whose metrics count, and what stopped the trial."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtsearch.data.split import Split
from mtsearch.evaluation import Evaluator
from mtsearch.metrics import METRICS
from mtsearch.models import Device, JointTrainer
from mtsearch.models.trainer import EpochMetrics, TrialResult
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import TutorialScorer, go_on, numbers

# Overfits on purpose: validation gets worse and better again.
CONFIG = TrialConfig(
    embedding_size=8, hidden_layers="16", batch_size=500, epochs=15, retrieval_weight=1e-3, learning_rate=0.5
)


def with_(**changes: Any) -> TrialConfig:
    return TrialConfig.model_validate({**CONFIG.model_dump(), **changes})


@pytest.fixture(scope="module")
def whole(trainer: JointTrainer) -> TrialResult:
    """Train without patience."""
    return trainer.train(CONFIG, go_on)


def best_and_last(whole: TrialResult, monitor: str, patience: int) -> tuple[int, int]:
    """Return best and last epoch (1-based) under patience, from a training that goes on to its end."""
    values = [METRICS[monitor].sign * epoch.metrics[monitor] for epoch in whole.curve]
    for last in range(1, len(values) + 1):
        best = values.index(min(values[:last])) + 1
        if last - best == patience:
            return best, last
    return best, len(values)


@pytest.mark.slow
@pytest.mark.parametrize("patience", [1, 2, 14, 15])
@pytest.mark.parametrize("monitor", ["rmse", "top_100", "ndcg_10"])
def test_patience_ends_and_the_best_epoch_counts(
    trainer: JointTrainer, whole: TrialResult, monitor: str, patience: int
) -> None:
    result = trainer.train(with_(patience=patience, monitor=monitor), go_on)
    best, last = best_and_last(whole, monitor, patience)
    assert (result.best_epoch, len(result.curve), result.stopped) == (best, last, False)
    assert result.metrics == whole.curve[best - 1].metrics
    assert numbers(result) == numbers(whole)[:last]


def test_the_cases_are_worth_testing(whole: TrialResult) -> None:
    """Some trainings end early with a best epoch before the last, and the metrics disagree."""
    cases = {monitor: best_and_last(whole, monitor, 2) for monitor in ("rmse", "top_100")}
    assert len(set(cases.values())) == 2
    assert any(1 < best < last < CONFIG.epochs for best, last in cases.values())


def test_no_patience_takes_the_last(whole: TrialResult) -> None:
    assert (whole.best_epoch, len(whole.curve), whole.stopped) == (15, 15, False)
    assert whole.metrics == whole.curve[-1].metrics


def test_only_on_epoch_marks_a_trial_as_stopped(trainer: JointTrainer, whole: TrialResult) -> None:
    best, last = best_and_last(whole, "rmse", 1)

    def until(end: int) -> Any:
        def on_epoch(epoch: EpochMetrics) -> bool:
            return epoch.epoch < end

        return on_epoch

    config = with_(patience=1)
    assert not trainer.train(config, until(last)).stopped  # patience was at its end anyway
    early = trainer.train(config, until(last - 1))
    assert (early.stopped, len(early.curve), early.best_epoch) == (True, last - 1, best)


def test_standard_errors_are_those_of_the_best_epoch(split: Split, device: Device) -> None:
    even = split.validation.users % 2 == 0
    some, others = (split.validation.take(np.flatnonzero(part)) for part in (even, ~even))
    trainer = JointTrainer(replace(split, validation=some, set_aside=others), device)
    evaluator = Evaluator(split, some, drawn_from=len(np.unique(split.validation.users)))
    results = [trainer.train(with_(patience=2, monitor=monitor), go_on) for monitor in ("rmse", "top_100")]
    assert any(result.best_epoch < len(result.curve) for result in results)
    for result in results:
        trainer.train(with_(epochs=result.best_epoch), go_on)
        scorer = TutorialScorer(trainer.last_model(), split.catalogue)
        assert evaluator.measure(scorer) == (result.metrics, result.errors)


def test_there_are_no_standard_errors_if_all_users_are_evaluated(whole: TrialResult) -> None:
    assert whole.errors == {}
