"""The executor of this process."""

from collections.abc import Callable

import pytest

from mtsearch.executors import SerialExecutor
from mtsearch.models.trainer import EpochMetrics, TrialResult
from mtsearch.study_file.config import TrialConfig
from tests.helpers.evaluation_cases import make_rows, make_split
from tests.helpers.trainers import FormulaTrainer

SPLIT = make_split(1, 1, [0], make_rows([(0, 0, 3.0)]), make_rows([(0, 0, 3.0)]))


def make_executor() -> SerialExecutor:
    return SerialExecutor(SPLIT, lambda _split, _threads: (FormulaTrainer(), {}), 1)


def test_an_error_of_the_owner_is_not_taken_for_one_of_the_training() -> None:
    def fail(_epoch: EpochMetrics) -> bool:
        raise OSError("no space left on the disk")

    executor = make_executor()
    executor.start(0, TrialConfig(), fail)
    with pytest.raises(OSError, match="no space left"):
        executor.wait(0)
    executor.start(1, TrialConfig(), lambda _: True)
    (end,) = executor.wait(0)
    assert end.trial == 1
    assert end.result is not None


def test_an_error_of_the_training_is_its_end() -> None:
    class Broken(FormulaTrainer):
        def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
            raise ValueError("a bug")

    executor = SerialExecutor(SPLIT, lambda _split, _threads: (Broken(), {}), 1)
    executor.start(0, TrialConfig(), lambda _: True)
    (end,) = executor.wait(0)
    assert isinstance(end.error, ValueError)
