"""The option `patience`, which ends a study that no longer improves."""

from pathlib import Path
from typing import Any

import pytest

from mtsearch import api
from mtsearch.errors import NonFiniteLoss
from mtsearch.models.trainer import TrialResult
from mtsearch.search.results import StudyResults
from mtsearch.study_file.config import TrialConfig
from tests.helpers.trainers import FormulaTrainer, constant_formula
from tests.search.test_run import define, go, send_at


class Scripted(FormulaTrainer):
    """A trainer with a given gain per trial, from 0 (chance) to 1 (ideal) in both objectives; None: it diverges."""

    def __init__(self, gains: list[float | None], hook: Any = lambda _config, _epoch: None) -> None:
        super().__init__(hook)
        self.gains = gains

    def train(self, config: TrialConfig, on_epoch: Any) -> TrialResult:
        result = super().train(config, on_epoch)
        if result.stopped:
            return result
        gain = self.gains.pop(0)
        if gain is None:
            raise NonFiniteLoss(1, 1)
        metrics = {**result.metrics, "mae": 1 - gain, "ndcg_10": 0.5 + gain / 2}
        return TrialResult(metrics, result.curve, result.best_epoch, 10, result.seconds)


def scripted(data: str, path: Path, gains: list[float | None], **kwargs: Any) -> StudyResults:
    definition = define(data, study={"name": "s", "seed": 3, "objectives": ["mae", "ndcg_10"]})
    return go(definition, path, None, Scripted(gains), **{"until": 50, **kwargs})


def test_the_run_ends_after_trials_in_a_row_without_gain(data: str, tmp_path: Path) -> None:
    gains = [0.1, 0.1, 0.2, None, 0.2 + 1e-14, 0.1, 0.9]
    results = scripted(data, tmp_path / "a.db", list(gains), patience=3)
    assert results.counting == 6  # the gain of trial 4 is below 1e-9 of the hypervolume
    assert results.stopped == "the hypervolume has not moved in the last 3 trials"
    assert not results.interrupted
    again = scripted(data, tmp_path / "a.db", [0.9], patience=3)
    assert (again.counting, again.stopped) == (6, results.stopped)
    assert scripted(data, tmp_path / "a.db", [0.9], patience=4, until=7).counting == 7


def test_budget_that_is_used_up_is_no_early_end(data: str, tmp_path: Path) -> None:
    results = scripted(data, tmp_path / "a.db", [0.1, 0.1, 0.1], patience=2, until=3)
    assert (results.counting, results.stopped) == (3, "")


def test_points_worse_than_chance_gain_nothing(data: str, tmp_path: Path) -> None:
    results = scripted(data, tmp_path / "a.db", [-9.0] * 9, patience=4)
    assert (results.counting, results.hypervolume) == (4, 0.0)


def test_interrupted_and_resumed_it_ends_where_it_would_have(data: str, tmp_path: Path) -> None:
    definition = define(data)
    whole = go(definition, tmp_path / "a.db", 200, patience=6)
    assert whole.stopped
    for place in (2, 4):
        assert go(definition, tmp_path / "b.db", 200, FormulaTrainer(send_at(place, 2)), patience=6).interrupted
    assert go(definition, tmp_path / "b.db", 200, patience=6).counting == whole.counting


@pytest.mark.slow
def test_several_workers_end_too(data: str, tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    results = api.run(define(data), 100, workers=2, patience=4, storage=path, make_trainer=constant_formula)
    assert results.stopped
    assert 4 <= results.counting <= 6  # the one that gained, four that did not, and who was running by then
    assert results.states.keys() == {"complete"}


@pytest.mark.parametrize("patience", [None, 1])
def test_without_gain_patience_alone_decides(data: str, tmp_path: Path, patience: int | None) -> None:
    results = scripted(data, tmp_path / "a.db", [-1.0] * 5, patience=patience, until=5)
    assert results.counting == (5 if patience is None else 1)
