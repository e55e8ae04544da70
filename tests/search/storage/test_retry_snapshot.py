"""Snapshots of a study's trials, which are read once for one proposal."""

import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from mtsearch.search.storage import open_writer
from mtsearch.search.storage.retry import RetryingStorage, TrialSnapshot
from mtsearch.search.study import begin_or_resume
from mtsearch.search.trial import TrialRunner
from mtsearch.signals import catch_termination
from tests.helpers.trainers import FormulaTrainer
from tests.search.test_run import define


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a storage with an empty study."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    optuna.create_study(study_name="s", storage=open_writer(url, create=True), directions=["minimize", "maximize"])
    return url


@pytest.fixture
def study(url: str) -> optuna.Study:
    """Load the study as a run does."""
    return optuna.load_study(study_name="s", storage=RetryingStorage.of(open_writer(url)), sampler=RandomSampler(0))


@pytest.fixture
def others(url: str) -> optuna.Study:
    """Load the same study from Optuna's own storage, without snapshots, as another process would."""
    return optuna.load_study(study_name="s", storage=open_writer(url), sampler=RandomSampler(1))


def numbers(study: optuna.Study, *states: TrialState) -> list[int]:
    return [trial.number for trial in study.get_trials(deepcopy=False, states=states or None)]


def test_trials_of_others_are_seen_after_the_snapshot(study: optuna.Study, others: optuna.Study) -> None:
    with TrialSnapshot():
        assert numbers(study) == []
        others.ask()
        assert numbers(study) == []
    assert numbers(study) == [0]


def test_trials_of_this_thread_are_seen_at_once(study: optuna.Study, others: optuna.Study) -> None:
    with TrialSnapshot():
        assert numbers(study) == []
        others.ask()
        trial = study.ask()
        assert numbers(study, TrialState.RUNNING) == [0, 1]
        study.tell(trial, [1.0, 2.0])
        assert numbers(study, TrialState.RUNNING) == [0]
        assert numbers(study, TrialState.COMPLETE) == [1]


def test_a_snapshot_ends_when_it_is_closed_or_forgets(study: optuna.Study, others: optuna.Study) -> None:
    with TrialSnapshot() as reading:
        assert numbers(study) == []
        others.ask()
        reading.forget()
        assert numbers(study) == [0]
        others.ask()
        reading.close()
        assert numbers(study) == [0, 1]


def test_a_nested_snapshot_is_the_outer_one(study: optuna.Study, others: optuna.Study) -> None:
    with TrialSnapshot():
        assert numbers(study) == []
        others.ask()
        with TrialSnapshot() as inner:
            assert numbers(study) == []
            inner.close()
        assert numbers(study) == []


def test_other_threads_read_for_themselves(study: optuna.Study, others: optuna.Study) -> None:
    seen: list[int] = []
    with TrialSnapshot():
        assert numbers(study) == []
        others.ask()
        thread = threading.Thread(target=lambda: seen.extend(numbers(study)))
        thread.start()
        thread.join()
    assert seen == [0]


def test_another_storage_is_read_for_itself(url: str, study: optuna.Study, others: optuna.Study) -> None:
    elsewhere = optuna.load_study(study_name="s", storage=RetryingStorage.of(open_writer(url)))
    with TrialSnapshot():
        assert numbers(study) == []
        others.ask()
        assert numbers(elsewhere) == [0]


def test_deepcopy_returns_copies(study: optuna.Study) -> None:
    with TrialSnapshot():
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        study.get_trials()[0].params["y"] = 1
        assert study.get_trials(deepcopy=False)[0].params == {}  # as old as the reading
        assert trial.params.keys() == {"x"}


def test_a_trial_reads_the_others_three_times_whatever_its_parameters(data: str, tmp_path: Path) -> None:
    definition = define(data)
    writer = open_writer(f"sqlite:///{tmp_path / 'a.db'}", create=True)
    study = begin_or_resume(writer, definition, {"data": {}, "split": {}, "trainer": {}}, dict, trials=20)
    runner = TrialRunner(definition, FormulaTrainer())
    assert isinstance(writer, RDBStorage)
    reads: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if "WHERE trials.study_id" in statement and "ORDER BY trials.trial_id" in statement:
            reads.append(statement)

    with catch_termination() as interrupt:
        for _ in range(15):
            runner.run(study, interrupt, until=20)
        event.listen(writer.engine, "before_cursor_execute", count)
        runner.run(study, interrupt, until=20)
    assert len(reads) == 3  # the queue, the proposal, the end


def test_a_retry_has_what_was_sampled_before_the_interrupt(data: str, tmp_path: Path) -> None:
    definition = define(data)
    writer = open_writer(f"sqlite:///{tmp_path / 'a.db'}", create=True)
    study = begin_or_resume(writer, definition, {"data": {}, "split": {}, "trainer": {}}, dict, trials=20)
    sampler = study.sampler
    proposed: dict[str, Any] = {}

    def second_interrupted(study: optuna.Study, trial: FrozenTrial, name: str, *more: Any) -> Any:
        if len(proposed) == 2:
            raise KeyboardInterrupt
        proposed[name] = original(study, trial, name, *more)
        return proposed[name]

    original, sampler.sample_independent = sampler.sample_independent, second_interrupted  # type: ignore[method-assign]
    with catch_termination() as interrupt, pytest.raises(KeyboardInterrupt):
        TrialRunner(definition, FormulaTrainer()).run(study, interrupt)
    (waiting,) = study.get_trials(states=(TrialState.WAITING,))
    assert len(proposed) == 2
    assert waiting.system_attrs["fixed_params"] == proposed
