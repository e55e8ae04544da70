"""The pruner in a plain Optuna study, without any other part of mtsearch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from mtsearch.pruning import Dominated, Halving, MultiObjectivePruner

ATTRIBUTE = "pruning:rungs"

optuna.logging.set_verbosity(optuna.logging.WARNING)


def curves(trial: optuna.Trial, epoch: int) -> tuple[float, float]:
    """Return an error that falls with the epochs, and the speed of a model."""
    size, care = trial.suggest_float("size", 0, 1), trial.suggest_float("care", 0, 1)
    return (1 - size) ** 2 + (1 - care) + 1 / epoch, 1 - size - (1 - care) - 1 / epoch


def optimised(study: optuna.Study, rule: Halving | Dominated, trials: int = 40) -> list[FrozenTrial]:
    pruner = MultiObjectivePruner(study, rule)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        for epoch in range(1, 28):
            error, speed = curves(trial, epoch)
            if pruner.should_stop(trial, epoch, [error, speed]):
                raise optuna.TrialPruned
        return error, speed

    study.optimize(objective, n_trials=trials)
    return study.get_trials()


@pytest.mark.parametrize("rule", [Halving(1, 3), Dominated(1, 3)])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (optuna.samplers.TPESampler, {}),
        (optuna.samplers.TPESampler, {"multivariate": True, "constant_liar": True}),
        (optuna.samplers.NSGAIISampler, {"population_size": 8}),
        (optuna.samplers.NSGAIIISampler, {"population_size": 8}),
        (optuna.samplers.RandomSampler, {}),
    ],
)
def test_samplers_go_on_beside_pruned_trials(kind: Any, options: dict[str, Any], rule: Halving | Dominated) -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=kind(seed=1, **options))
    trials = optimised(study, rule)
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert len(trials) == len(ended) + len(pruned) == 40
    assert len(pruned) > 10 and len(ended) > 4
    assert len({str(trial.params) for trial in trials}) > 30  # NSGA's children may be copies
    assert all(trial.intermediate_values == {} and trial.values is None for trial in pruned)
    assert {trial.number for trial in study.best_trials}.isdisjoint(trial.number for trial in pruned)
    assert {len(trial.user_attrs[ATTRIBUTE]["vectors"]) for trial in ended} == {4}  # epochs 1, 3, 9 and 27


def test_the_directions_of_the_study_matter() -> None:
    """The same curves with the opposite sign and direction are pruned alike."""
    states = []
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        directions = [StudyDirection.MINIMIZE if sign > 0 else StudyDirection.MAXIMIZE for sign in signs]
        study = optuna.create_study(directions=directions, sampler=optuna.samplers.RandomSampler(seed=4))
        pruner = MultiObjectivePruner(study, Halving(1, 3))

        def objective(trial: optuna.Trial, pruner: Any = pruner, signs: Any = signs) -> list[float]:
            for epoch in range(1, 10):
                error, speed = curves(trial, epoch)
                told = [signs[0] * error, signs[1] * -speed]
                if pruner.should_stop(trial, epoch, told):
                    raise optuna.TrialPruned
            return told

        study.optimize(objective, n_trials=25)
        states.append([trial.state for trial in study.trials])
    assert states[0] == states[1] == states[2] == states[3]
    assert TrialState.PRUNED in states[0]


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_storages_keep_what_is_needed(tmp_path: Path, storage: str) -> None:
    """A study that another process resumes prunes the same trials as one that ran in one go."""
    sampler = optuna.samplers.RandomSampler(seed=2)
    kept = (
        RDBStorage(f"sqlite:///{tmp_path / 'a.db'}")
        if storage == "sqlite"
        else JournalStorage(JournalFileBackend(str(tmp_path / "a.log")))
    )
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler, storage=kept, study_name="s")
    optimised(study, Halving(1, 3), 8)
    again = optuna.load_study(study_name="s", storage=kept, sampler=sampler)
    parts = [trial.state for trial in optimised(again, Halving(1, 3), 8)]
    whole = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=2))
    assert parts == [trial.state for trial in optimised(whole, Halving(1, 3), 16)]
    assert TrialState.PRUNED in parts


def stored(state: TrialState, vector: tuple[float, float], number: int, **kwargs: Any) -> FrozenTrial:
    kept = {"trial": number, "vectors": {"1": list(vector)}}
    values = [1.0, 1.0] if state == TrialState.COMPLETE else None
    return create_trial(state=state, values=values, user_attrs={ATTRIBUTE: kept}, **kwargs)


GOOD, BAD = (0.0, 0.0), (5.0, 5.0)


@pytest.mark.parametrize(
    ("change", "stopped"),
    [
        ({}, True),
        ({"state": TrialState.FAIL}, False),
        ({"state": TrialState.PRUNED}, True),
        ({"number": 17}, False),  # what a retry has inherited from trial 17
        ({"constraints": {"size": 1.0}}, False),
        ({"constraints": {"size": -1.0}}, True),
    ],
)
def test_trials_that_a_trial_is_compared_with(change: dict[str, Any], stopped: bool) -> None:
    """Of five trials at a rung only the best goes on; without it there are too few to prune."""
    study = optuna.create_study(directions=["minimize", "minimize"])
    for number in range(3):
        study.add_trial(stored(TrialState.PRUNED, (9.0, 9.0), number))
    study.add_trial(stored(**{"state": TrialState.COMPLETE, "vector": GOOD, "number": 3, **change}))
    assert MultiObjectivePruner(study, Halving(1, 3)).should_stop(study.ask(), 1, BAD) == stopped


def test_running_trials_are_compared_with_and_some_can_be_ignored() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    pruner = MultiObjectivePruner(study, Halving(1, 3))
    for _ in range(4):
        assert not pruner.should_stop(study.ask(), 1, GOOD)
    assert pruner.should_stop(study.ask(), 1, BAD)
    lenient = MultiObjectivePruner(study, Halving(1, 3), ignore=lambda trial: trial.number == 2)
    study.tell(4, state=TrialState.FAIL)
    assert not lenient.should_stop(study.ask(), 1, BAD)


def test_only_the_front_of_complete_trials_dominates() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    pruner = MultiObjectivePruner(study, Dominated(1, 3))
    trials = [study.ask() for _ in range(5)]
    for trial in trials:
        assert not pruner.should_stop(trial, 1, GOOD if trial.number == 0 else (9.0, 9.0))
    assert not pruner.should_stop(study.ask(), 1, BAD)  # nobody has ended
    study.tell(trials[0], [2.0, 2.0])
    assert pruner.should_stop(study.ask(), 1, BAD)
    study.tell(trials[1], [1.0, 1.0])  # from now on the front alone, and it began badly
    late = study.ask()
    assert not pruner.should_stop(late, 1, BAD)
    assert not pruner.should_stop(late, 2, (99.0, 99.0))  # no rung
    assert not pruner.should_stop(late, 3, (99.0, 99.0))  # nobody has been there


def test_number_of_values() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    with pytest.raises(ValueError, match="1 values for 2 objectives"):
        MultiObjectivePruner(study, Halving(1, 3)).should_stop(study.ask(), 2, [1.0])


def test_needs_numpy_alone() -> None:
    code = "import sys, mtsearch.pruning; print({'optuna', 'pydantic', 'tensorflow', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
