"""Pruning in a study: decisions, resumption, workers, and the options of a definition."""

import pickle
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from mtsearch import StudyDefinition, api
from mtsearch.errors import DefinitionError, NonFiniteLoss, StudyMismatch
from mtsearch.models.trainer import EpochMetrics
from mtsearch.pruning import ENOUGH, Dominated, Halving
from mtsearch.pruning.layers import non_dominated_layers
from mtsearch.search import attributes
from mtsearch.search.storage import writing_storage
from mtsearch.search.trial import TrialEnd, TrialPruner, pruning_rule
from mtsearch.study_file.config import TrialConfig
from tests.helpers.trainers import FormulaTrainer, metrics_of, struck_formula
from tests.search.test_run import SPACE, define, go, send_at, trials_of

EPOCHS = 10
HALVING, DOMINATED = ({"kind": kind, "grace": 1, "reduction": 3} for kind in ("halving", "dominated"))
PRUNERS: list[dict[str, Any]] = [HALVING, DOMINATED]


def pruned_study(data: str, pruner: Mapping[str, Any], **tables: Any) -> StudyDefinition:
    study = {"name": "s", "seed": 3, "sampler": {"kind": "random"}, "pruner": pruner, **tables.pop("study", {})}
    return define(data, study=study, fixed={"epochs": EPOCHS}, **tables)


def by_state(path: Path) -> dict[str, list[FrozenTrial]]:
    found: dict[str, list[FrozenTrial]] = {}
    for trial in trials_of(path):
        found.setdefault(trial.state.name, []).append(trial)
    return found


def curve_of(trial: FrozenTrial) -> list[dict[str, Any]]:
    curve: list[dict[str, Any]] = trial.user_attrs[attributes.CURVE]
    return curve


class PrunedStudyTests:
    @pytest.mark.slow
    @pytest.mark.parametrize("pruner", PRUNERS, ids=lambda pruner: pruner["kind"])
    def test_pruned_trials_count_and_are_kept(self, data: str, tmp_path: Path, pruner: dict[str, Any]) -> None:
        ends: list[TrialEnd] = []
        results = go(pruned_study(data, pruner), tmp_path / "a.db", 30, on_trial=ends.append)
        found = by_state(tmp_path / "a.db")
        assert results.counting == 30
        assert results.states == {"complete": len(found["COMPLETE"]), "pruned": len(found["PRUNED"])}
        assert len(found["PRUNED"]) > 3
        for trial in found["PRUNED"]:
            epochs = len(curve_of(trial))
            assert trial.user_attrs[attributes.PRUNED_AT] == epochs in (1, 3, 9)
            reason = trial.user_attrs[attributes.REASON]
            assert reason["kind"] == "pruned" and reason["text"].endswith(f" at epoch {epochs}")
            assert trial.user_attrs[attributes.RUNGS]["vectors"].keys() == {str(e) for e in (1, 3, 9) if e <= epochs}
            assert trial.intermediate_values == {} and trial.values is None
        assert all(len(curve_of(trial)) == EPOCHS for trial in found["COMPLETE"])
        assert {row.trial for row in results.rows} == {trial.number for trial in found["COMPLETE"]}
        assert results.failures == ()
        told = {end.trial: end for end in ends}
        for trial in found["PRUNED"]:
            end = told[trial.number]
            assert (end.state, end.values, end.counted, end.metrics) == ("pruned", None, True, {})
            assert end.reason == trial.user_attrs[attributes.REASON]["text"]

    @pytest.mark.slow
    def test_one_worker_prunes_the_same_trials_again_and_in_parts(self, data: str, tmp_path: Path) -> None:
        definition = pruned_study(data, HALVING, study={"sampler": {"kind": "tpe"}})
        go(definition, tmp_path / "a.db", 24)
        for trials in (7, 17):
            go(definition, tmp_path / "b.db", trials)
        one, other = ([(t.state, t.params) for t in trials_of(tmp_path / name)] for name in ("a.db", "b.db"))
        assert one == other
        assert {state for state, _ in one} == {TrialState.COMPLETE, TrialState.PRUNED}

    @pytest.mark.slow
    @pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "qmc", "random"])
    def test_samplers_go_on(self, data: str, tmp_path: Path, sampler: str) -> None:
        definition = pruned_study(data, HALVING, study={"sampler": {"kind": sampler}})
        results = go(definition, tmp_path / "a.db", 25)
        assert results.counting == 25
        assert results.states["pruned"] > 3

    @pytest.mark.slow
    def test_every_decision_follows_from_the_stored_trials(self, data: str, tmp_path: Path) -> None:
        """With one worker, each trial was compared at its rung with the trials before it."""
        go(pruned_study(data, HALVING), tmp_path / "a.db", 40)
        seen: dict[str, list[list[float]]] = {"1": [], "3": [], "9": []}
        for trial in trials_of(tmp_path / "a.db"):
            for epoch, (rmse, top_100) in trial.user_attrs[attributes.RUNGS]["vectors"].items():
                seen[epoch].append([rmse, -top_100])
                layers = non_dominated_layers(seen[epoch])
                better = (layers < layers[-1]).sum()
                stopped = trial.user_attrs.get(attributes.PRUNED_AT) == int(epoch)
                if len(layers) < ENOUGH or layers[-1] == 0:
                    assert not stopped
                elif attributes.INITIAL_LABEL not in trial.user_attrs and better >= len(layers) // 3:
                    assert stopped

    def test_initial_trials_are_run_to_their_end(self, data: str, tmp_path: Path) -> None:
        listed = [{"learning_rate": 0.1 + number / 20} for number in range(12)]  # each worse than the one before
        results = go(pruned_study(data, HALVING, trials=listed, space=SPACE), tmp_path / "a.db", 20)
        trials = {trial.number: trial for trial in trials_of(tmp_path / "a.db")}
        assert len(results.initial) >= 12
        assert all(trials[number].state == TrialState.COMPLETE for number in results.initial)
        assert all(attributes.RUNGS in trials[number].user_attrs for number in results.initial)

    def test_without_a_pruner_nothing_is_written(self, data: str, tmp_path: Path) -> None:
        results = go(pruned_study(data, {"kind": "none"}), tmp_path / "a.db", 12)
        assert results.states == {"complete": 12}
        assert not any(attributes.RUNGS in trial.user_attrs for trial in trials_of(tmp_path / "a.db"))

    def test_a_model_that_diverges_has_failed_and_not_been_pruned(self, data: str, tmp_path: Path) -> None:
        def diverge(_config: TrialConfig, epoch: int) -> None:
            if epoch == 5:
                raise NonFiniteLoss(epoch, 1)

        results = go(pruned_study(data, HALVING), tmp_path / "a.db", 12, FormulaTrainer(diverge))
        assert results.counting == 12
        assert results.states == {"fail": 12}  # and nobody was compared with them

    def test_with_several_seeds_the_first_decides(self, data: str, tmp_path: Path) -> None:
        trainer = FormulaTrainer()
        definition = pruned_study(data, HALVING, study={"repeats": 3})
        results = go(definition, tmp_path / "a.db", 20, trainer)
        found = by_state(tmp_path / "a.db")
        assert len(found["PRUNED"]) > 3
        assert len(trainer.trained) == 3 * len(found["COMPLETE"]) + len(found["PRUNED"])
        assert all(len(results.repeats[trial.number]) == 3 for trial in found["COMPLETE"])
        for trial in found["COMPLETE"]:
            first = metrics_of(TrialConfig(**trial.user_attrs[attributes.CONFIG]), 9)
            assert trial.user_attrs[attributes.RUNGS]["vectors"]["9"] == [first["rmse"], first["top_100"]]

    @pytest.mark.slow
    def test_an_interrupted_trial_is_not_pruned(self, data: str, tmp_path: Path) -> None:
        definition = pruned_study(data, HALVING)
        results = go(definition, tmp_path / "a.db", 30, FormulaTrainer(send_at(16, 2)))
        assert results.interrupted
        (broken,) = [t for t in trials_of(tmp_path / "a.db") if t.state == TrialState.FAIL]
        assert broken.user_attrs[attributes.REASON]["kind"] == "interrupted"
        go(definition, tmp_path / "a.db", None, until=30)
        go(definition, tmp_path / "b.db", 30)
        outcomes = [
            [(t.params, t.state) for t in trials_of(tmp_path / name) if t.state != TrialState.FAIL]
            for name in ("a.db", "b.db")
        ]
        assert outcomes[0] == outcomes[1]


class StoredPrunerTests:
    def test_a_resumed_study_keeps_its_pruner(self, data: str, tmp_path: Path) -> None:
        go(pruned_study(data, HALVING), tmp_path / "a.db", 12)
        unnamed = define(data, study={"name": "s", "seed": 3, "sampler": {"kind": "random"}}, fixed={"epochs": EPOCHS})
        assert go(unnamed, tmp_path / "a.db", 12).states["pruned"] > 3
        with pytest.raises(StudyMismatch, match=r"study\.pruner\.kind: halving -> dominated"):
            go(pruned_study(data, DOMINATED), tmp_path / "a.db", 1)

    def test_may_be_written_out(self, data: str, tmp_path: Path) -> None:
        go(pruned_study(data, DOMINATED), tmp_path / "a.db", 3)
        written = pruned_study(data, {"kind": "dominated", "grace": 1, "reduction": 3, "margin": 0.05})
        assert go(written, tmp_path / "a.db", 3).counting == 6

    def test_a_study_older_than_pruners_is_resumed(self, data: str, tmp_path: Path) -> None:
        definition = pruned_study(data, {"kind": "none"})
        go(definition, tmp_path / "a.db", 2)
        with writing_storage(f"sqlite:///{tmp_path / 'a.db'}") as writer:
            study = optuna.load_study(study_name="s", storage=writer)
            stored = study.user_attrs[attributes.DEFINITION]
            del stored["study"]["pruner"]
            study.set_user_attr(attributes.DEFINITION, stored)
        assert go(definition, tmp_path / "a.db", 2).counting == 4
        with pytest.raises(StudyMismatch, match=r"study\.pruner\.kind: none -> halving"):
            go(pruned_study(data, HALVING), tmp_path / "a.db", 2)


@pytest.mark.slow
def test_several_workers_of_whom_two_are_killed(data: str, tmp_path: Path, together: Callable[[int], None]) -> None:
    """The study has exactly the requested trials, none is left running, and retries do not inherit vectors."""
    together(3)
    trainer = partial(struck_formula, tmp_path, signal.SIGKILL, 2)
    path = str(tmp_path / "a.db")
    results = api.run(pruned_study(data, HALVING), 24, workers=3, storage=path, make_trainer=trainer)
    trials = trials_of(tmp_path / "a.db")
    dead = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert results.counting == 24 == results.states["complete"] + results.states["pruned"]
    assert results.states["pruned"] > 3
    assert len(dead) == 2 and all(attributes.RUNGS in trial.user_attrs for trial in dead)
    again = [trial for trial in trials if attributes.RETRY_OF in trial.user_attrs]
    assert {trial.user_attrs[attributes.RETRY_OF] for trial in again} == {trial.number for trial in dead}
    assert all(trial.user_attrs[attributes.RUNGS]["trial"] == trial.number for trial in again)
    assert {"running", "waiting"}.isdisjoint(results.states)


class TrialPrunerTests:
    """Tests at epoch 1 after three bad trials: once a good fourth trial is compared with, a fifth is stopped."""

    GOOD, BAD, WORST = (0.1, 0.9), (0.5, 0.5), (0.9, 0.1)

    def study(self) -> optuna.Study:
        study = optuna.create_study(directions=["minimize", "maximize"], storage=InMemoryStorage())
        for _ in range(3):
            self.reach(study, self.WORST)
        return study

    def reach(self, study: optuna.Study, vector: tuple[float, float], **user_attrs: Any) -> tuple[int, str]:
        """Bring a trial to epoch 1; return its number and the reason why it is stopped."""
        trial = study.ask()
        for name, value in user_attrs.items():
            trial.set_user_attr(f"mtsearch:{name}", value)
        pruner = TrialPruner(study, trial, Halving(1, 3), ("rmse", "top_100"))
        metrics = dict(zip(("rmse", "top_100"), vector, strict=True))
        assert pruner.should_stop(EpochMetrics(1, metrics, {}, 0.1)) == bool(pruner.reason)
        return trial.number, pruner.reason

    def test_running_trials_are_compared_with(self) -> None:
        study = self.study()
        self.reach(study, self.GOOD)
        assert self.reach(study, self.BAD)[1] == "not among the best 1/3 at epoch 1"
        assert self.reach(study, self.BAD, listed="[[trials]] 1")[1] == ""

    @pytest.mark.parametrize("kind", ["died", "interrupted", "error", "model"])
    def test_failed_attempts_are_not_compared_with(self, kind: attributes.ReasonKind) -> None:
        study = self.study()
        number, _ = self.reach(study, self.GOOD, reason=attributes.reason(kind, ""))
        study.tell(number, state=TrialState.FAIL)
        assert self.reach(study, self.BAD)[1] == ""

    def test_a_reason_is_of_the_latest_epoch(self) -> None:
        """The reason is of the latest epoch: else a trial interrupted later would look pruned."""
        study = self.study()
        self.reach(study, self.GOOD)
        pruner = TrialPruner(study, study.ask(), Halving(1, 3), ("rmse", "top_100"))
        first = EpochMetrics(1, {"rmse": 0.9, "top_100": 0.1}, {}, 0.1)
        assert pruner.should_stop(first)
        assert not pruner.should_stop(EpochMetrics(2, first.metrics, {}, 0.1))
        assert pruner.reason == ""
        assert not pruner.should_stop(first)  # another seed's


class DefinitionTests:
    @pytest.mark.parametrize(
        ("pruner", "rule"),
        [
            ({}, None),
            ({"kind": "none"}, None),
            ({"kind": "halving"}, Halving(2, 2)),
            ({"kind": "halving", "grace": 2, "reduction": 4}, Halving(2, 4)),
            ({"kind": "dominated"}, Dominated(2, 2, 0.05)),
            ({"kind": "dominated", "margin": 0.0, "grace": 5}, Dominated(5, 2, 0.0)),
        ],
    )
    def test_names_a_rule(self, pruner: dict[str, Any], rule: object) -> None:
        definition = pruned_study("x", pruner)
        assert pruning_rule(definition.study.pruner) == rule
        assert pickle.loads(pickle.dumps(definition)) == definition

    @pytest.mark.parametrize(
        ("pruner", "said"),
        [
            ({"kind": "halvin"}, "study.pruner.kind: 'halvin' is not a pruner (did you mean 'halving'?)"),
            ({"kind": "asha"}, "'asha' is not a pruner (known: none, halving, dominated)"),
            ({"kind": 3}, "study.pruner.kind: input should be 'none', 'halving' or 'dominated', not 3"),
            ({"kindd": "none"}, "unknown key 'study.pruner.kindd' (did you mean 'kind'?)"),
            ({"kind": "halving", "margin": 0.1}, "margin is not an option of 'halving' (known: grace, reduction)"),
            ({"kind": "none", "grace": 2}, "grace is not an option of 'none', which has no options"),
            ({"kind": "halving", "grace": 0}, "study.pruner.grace: input should be greater than or equal to 1, not 0"),
            ({"kind": "halving", "reduction": 1}, "input should be greater than or equal to 2, not 1"),
            ({"kind": "halving", "reduction": 2.5}, "study.pruner.reduction: input should be a valid integer"),
            ({"kind": "dominated", "margin": -0.1}, "study.pruner.margin: input should be greater than or equal to 0"),
            ({"kind": "dominated", "margin": float("nan")}, "study.pruner.margin"),
            ("halving", "study.pruner: 'halving' is not a table"),
        ],
    )
    def test_refuses_in_one_line(self, pruner: Any, said: str) -> None:
        with pytest.raises(DefinitionError) as caught:
            pruned_study("x", pruner)
        assert said in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    def test_refuses_gaussian_processes_by_name(self, data: str, tmp_path: Path) -> None:
        with pytest.raises(DefinitionError, match=r"study\.pruner: 'halving' stops trials, and sampler 'gp' .*tpe"):
            pruned_study("x", {"kind": "halving"}, study={"sampler": {"kind": "gp"}})
        pruned_study("x", {"kind": "none"}, study={"sampler": {"kind": "gp"}})

    def test_is_set_from_the_command_line(self) -> None:
        section = StudyDefinition.load("ml-100k-quick", ["study.pruner.kind=halving", "study.pruner.grace=2"])
        assert pruning_rule(section.study.pruner) == Halving(2, 2)
