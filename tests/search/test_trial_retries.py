"""Trials that are tried again: after what, how often, and in which place of the study."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from mtsearch.search.attributes import REASON, RETRY_OF, ReasonKind, counts, reason, retry_history, slot_of
from mtsearch.search.storage import open_writer
from mtsearch.search.study import begin_or_resume, create_study
from mtsearch.search.trial import TrialFactory, enqueue_lost, fail_running_trials, fail_trial
from mtsearch.signals import catch_termination
from tests.search.test_run import define


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(0))


def begin(study: optuna.Study) -> optuna.Trial:
    trial = study.ask()
    trial.suggest_float("rate", 0.0, 1.0)
    return trial


def waiting(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(states=(TrialState.WAITING,))


@pytest.mark.quick
def test_a_failed_trial_runs_again_with_its_parameters(study: optuna.Study) -> None:
    trial = begin(study)
    fail_trial(study, trial.number, "died", "its worker died")
    (failed, queued) = study.get_trials()
    assert failed.state == TrialState.FAIL and not counts(failed)
    assert failed.user_attrs[REASON] == {"kind": "died", "text": "its worker died"}
    assert (queued.state, queued.user_attrs) == (TrialState.WAITING, {RETRY_OF: 0})
    assert begin(study).params == trial.params


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["died", "error"])
def test_the_third_attempt_is_the_last(study: optuna.Study, kind: ReasonKind) -> None:
    fail_trial(study, begin(study).number, "interrupted", "by the user")  # which is no fault of the configuration
    for _ in range(3):
        fail_trial(study, begin(study).number, kind, "boom")
    trials = study.get_trials()
    hint = " (out of memory?)" if kind == "died" else ""
    assert trials[-1].user_attrs[REASON] == {"kind": "model", "text": f"tried 3 times, last error: boom{hint}"}
    assert [counts(trial) for trial in trials] == [False, False, False, True]
    assert {str(trial.params) for trial in trials} == {str(trials[0].params)}
    assert [trial.number for trial in retry_history(trials, trials[-1])] == [2, 1, 0]


@pytest.mark.quick
def test_interrupts_are_not_counted_as_attempts(study: optuna.Study) -> None:
    kinds: list[ReasonKind] = ["died", "error", "interrupted", "interrupted", "interrupted"]
    for kind in kinds:
        fail_trial(study, begin(study).number, kind, "")
    trials = study.get_trials()
    assert len(retry_history(trials, trials[-1])) == len(kinds)


@pytest.mark.quick
def test_running_trials_fail_and_others_stay(study: optuna.Study) -> None:
    study.tell(begin(study), [1.0, 2.0])
    for _ in range(2):
        begin(study)
    fail_running_trials(study, "died", "its run ended")
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE", "FAIL", "FAIL", "WAITING", "WAITING"]
    assert [trial.user_attrs[RETRY_OF] for trial in waiting(study)] == [1, 2]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (reason("died", "its worker died"), 1),
        (reason("interrupted", "after epoch 1"), 1),
        (reason("model", "non-finite loss"), 0),
        (reason("interrupted", "queued twice"), 0),  # of version 0.1
    ],
)
def test_a_failure_whose_process_died_before_the_retry_is_queued_once(
    study: optuna.Study, stored: dict[str, Any], expected: int
) -> None:
    trial = begin(study)
    trial.set_user_attr(REASON, stored)
    study.tell(trial, state=TrialState.FAIL)
    for _ in range(2):
        enqueue_lost(study)
    assert [queued.system_attrs["fixed_params"] for queued in waiting(study)] == [trial.params] * expected


@pytest.mark.quick
def test_a_retry_has_the_slot_of_its_first_attempt(study: optuna.Study) -> None:
    first, _other = begin(study), begin(study)
    fail_trial(study, first.number, "died", "")
    again, third = begin(study), begin(study)
    fail_trial(study, again.number, "interrupted", "")
    begin(study)
    assert (again.number, third.number) == (2, 3)
    assert [slot_of(study, trial) for trial in study.get_trials()] == [0, 1, 0, 2, 0]


def test_a_retry_has_what_was_sampled_before_the_interrupt(data: str, tmp_path: Path) -> None:
    definition = define(data)
    writer = open_writer(f"sqlite:///{tmp_path / 'a.db'}", create=True)
    create_study(writer, definition)
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
        TrialFactory(study, definition, interrupt).propose()
    fail_running_trials(study, "interrupted", "the run ended")
    assert len(proposed) == 2
    assert waiting(study)[0].system_attrs["fixed_params"] == proposed
