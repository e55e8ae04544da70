"""Runs of a study: budget, initial trials, failures, interruption and resumption."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from mtsearch import StudyDefinition, api
from mtsearch.errors import DefinitionError, NonFiniteLoss, StorageError, StudyMismatch, StudyNotFound
from mtsearch.search import run as run_module
from mtsearch.search.results import StudyResults
from mtsearch.search.storage import open_reader, reading_storage
from mtsearch.search.storage.url import resolve_url
from mtsearch.study_file.config import TrialConfig
from tests.helpers.trainers import FormulaTrainer, make_factory, metrics_of

SPACE: dict[str, dict[str, Any]] = {
    "rating_weight": {"low": 0.01, "high": 1.0, "log": True},
    "retrieval_weight": {"low": 0.001, "high": 1.0, "log": True},
    "embedding_size": {"choices": [16, 32]},
    "learning_rate": {"low": 0.01, "high": 0.8, "log": True},
}


COUNTS = ("workers", "patience")


def define(data: str, **tables: Any) -> StudyDefinition:
    raw = {"study": {"name": "s", "seed": 3}, "data": {"source": data}, "space": SPACE, **tables}
    return StudyDefinition.from_mapping(raw)


def trials_in(url: str) -> list[optuna.trial.FrozenTrial]:
    """Return the trials of the study s in a storage; none if there is no such study yet."""
    with suppress(StudyNotFound, KeyError), reading_storage(resolve_url(url)) as storage:
        return optuna.load_study(study_name="s", storage=storage).get_trials()
    return []


def trials_of(path: Path, name: str = "s") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=open_reader(resolve_url(str(path)))).get_trials()


def go(
    definition: StudyDefinition,
    path: Path | str,
    trials: int | None,
    trainer: FormulaTrainer | None = None,
    **kwargs: Any,
) -> StudyResults:
    made = make_factory(trainer or FormulaTrainer())
    return api.run(definition, trials, storage=str(path), make_trainer=made, **kwargs)


def test_adds_exactly_the_trials_asked_for(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    assert go(define(data), path, 7).counting == 7
    assert go(define(data), path, 5).counting == 12
    assert go(define(data), path, None, until=15).counting == 15
    assert go(define(data), path, None, until=10).counting == 15
    assert [trial.state for trial in trials_of(path)] == [TrialState.COMPLETE] * 15


def test_stores_the_trainers_results(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    results = go(define(data, fixed={"epochs": 4}), path, 3)
    for trial in trials_of(path):
        config = TrialConfig(**trial.user_attrs["mtsearch:config"])
        expected = metrics_of(config, 4)
        assert trial.params == {name: getattr(config, name) for name in SPACE}
        assert trial.values == [expected["rmse"], expected["top_100"]]
        assert trial.user_attrs["mtsearch:metrics"] == expected
        assert [epoch["epoch"] for epoch in trial.user_attrs["mtsearch:curve"]] == [1, 2, 3, 4]
        assert config.seed == 3
    assert results.provenance["split"]["train"] > 0
    assert set(results.baselines) == {"chance", "popularity", "biases"}


def test_same_seed_two_databases_identical(data: str, tmp_path: Path) -> None:
    first, second = tmp_path / "a.db", tmp_path / "b.db"
    go(define(data), first, 25)
    go(define(data), second, 25)
    assert [(t.params, t.values) for t in trials_of(first)] == [(t.params, t.values) for t in trials_of(second)]


def test_another_seed_proposes_other_parameters(data: str, tmp_path: Path) -> None:
    go(define(data), tmp_path / "a.db", 3)
    go(define(data, study={"name": "s", "seed": 4}), tmp_path / "b.db", 3)
    assert trials_of(tmp_path / "a.db")[2].params != trials_of(tmp_path / "b.db")[2].params


@pytest.mark.slow
def test_a_study_in_parts_equals_one_in_one_go(data: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "a.db", tmp_path / "b.db"
    go(define(data), whole, 24)
    for count in (1, 9, 3, 11):
        go(define(data), parts, count)
    assert [t.params for t in trials_of(whole)] == [t.params for t in trials_of(parts)]


def test_initial_trials_run_first_and_count(data: str, tmp_path: Path) -> None:
    listed = [{"learning_rate": 0.1, "embedding_size": 32}, {"rating_weight": 0.5}]
    go(define(data, trials=listed), tmp_path / "a.db", 4)
    trials = trials_of(tmp_path / "a.db")
    assert len(trials) == 4
    assert (trials[0].params["learning_rate"], trials[0].params["embedding_size"]) == (0.1, 32)
    assert trials[1].params["rating_weight"] == 0.5


def test_definition_without_space_runs_its_list_once(data: str, tmp_path: Path) -> None:
    listed = [{"rating_weight": 1.0, "retrieval_weight": 0.0}, {"rating_weight": 0.0, "retrieval_weight": 1.0}]
    definition = define(data, space={}, trials=listed)
    path = tmp_path / "a.db"
    assert go(definition, path, None).counting == 2
    assert go(definition, path, None).counting == 2
    assert [t.params for t in trials_of(path)] == listed
    with pytest.raises(DefinitionError, match=r"lists 2 trials and has no \[space\]"):
        go(definition, path, 3)


def test_failures_of_the_model_count_and_say_why(data: str, tmp_path: Path) -> None:
    space = {"learning_rate": {"low": 0.5, "high": 1.0}}
    results = go(define(data, space=space), tmp_path / "a.db", 20)
    failed = [t for t in trials_of(tmp_path / "a.db") if t.state == TrialState.FAIL]
    assert results.counting == 20
    assert failed
    assert all(t.params["learning_rate"] > 0.9 for t in failed)
    assert {failure.reason for failure in results.failures} == {
        "non-finite loss at epoch 1, step 3; lower learning_rate"
    }


def test_infinite_objective_never_reaches_the_front(data: str, tmp_path: Path) -> None:
    class Infinite(FormulaTrainer):
        def train(self, config: TrialConfig, on_epoch: Any) -> Any:
            result = super().train(config, on_epoch)
            result.metrics["top_100"] = float("inf")  # type: ignore[index] # a plain dict
            return result

    results = go(define(data), tmp_path / "a.db", 2, Infinite())
    assert results.rows == ()
    assert "top_100 is inf at epoch 3" in results.failures[0].reason


def test_error_of_the_trainer_ends_the_run_and_leaves_no_trial_running(data: str, tmp_path: Path) -> None:
    def break_down(_config: TrialConfig, _epoch: int) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        go(define(data), tmp_path / "a.db", 2, FormulaTrainer(break_down))
    trial, again = trials_of(tmp_path / "a.db")
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["mtsearch:reason"] == {"kind": "error", "text": "RuntimeError: a bug"}
    assert again.state == TrialState.WAITING
    assert go(define(data), tmp_path / "a.db", 1).counting == 1
    assert trials_of(tmp_path / "a.db")[1].params == trial.params


def test_error_that_comes_again_and_again_does_not_hold_up_the_study(data: str, tmp_path: Path) -> None:
    def break_down(config: TrialConfig, _epoch: int) -> None:
        if config.embedding_size == 7 and config.learning_rate == TrialConfig().learning_rate:
            raise RuntimeError("this one only")

    space = {**SPACE, "embedding_size": {"choices": [7, 8]}}
    definition = define(data, space=space, trials=[{"embedding_size": 7}])
    for _ in range(3):
        with pytest.raises(RuntimeError, match="this one only"):
            go(definition, tmp_path / "a.db", None, FormulaTrainer(break_down), until=4)
    results = go(definition, tmp_path / "a.db", None, FormulaTrainer(break_down), until=4)
    assert results.counting == 4
    (counted,) = [failure for failure in results.failures if failure.counted]
    assert counted.reason == "tried 3 times, last error: RuntimeError: this one only"
    assert len(results.failures) == 3


def send_at(trial: int, epoch: int, count: int = 1) -> Callable[[TrialConfig, int], None]:
    """Return a hook that signals this process in a given epoch of a given trial."""
    seen = [0]

    def hook(_config: TrialConfig, present: int) -> None:
        seen[0] += present == 1
        if (seen[0], present) == (trial, epoch):
            for _ in range(count):
                os.kill(os.getpid(), signal.SIGINT)

    return hook


@pytest.mark.slow
def test_interrupted_and_resumed_proposes_what_it_would_have(data: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "a.db", tmp_path / "b.db"
    go(define(data), whole, 20)
    for place in (1, 3, 12):
        results = go(define(data), parts, None, FormulaTrainer(send_at(place, 2)), until=20)
        assert results.interrupted
        assert results.states["fail"] >= 1
        assert "running" not in results.states
    results = go(define(data), parts, None, until=20)
    done = [t for t in trials_of(parts) if t.state == TrialState.COMPLETE]
    assert results.counting == len(done) == 20
    assert [t.params for t in done] == [t.params for t in trials_of(whole)]
    assert "interrupted after epoch 2" in results.failures[0].reason


@pytest.mark.slow
def test_partial_initial_trials_draw_the_same_rest_after_an_interrupt(data: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "a.db", tmp_path / "b.db"
    definition = define(data, trials=[{"learning_rate": 0.1}, {"learning_rate": 0.2}])
    go(definition, whole, 14)
    go(definition, parts, None, FormulaTrainer(send_at(1, 1)), until=14)
    go(definition, parts, None, until=14)
    drawn = [[t.params for t in trials_of(path) if t.state == TrialState.COMPLETE] for path in (whole, parts)]
    assert drawn[0] == drawn[1]


def test_failed_trial_keeps_its_curve(data: str, tmp_path: Path) -> None:
    def diverge(_config: TrialConfig, epoch: int) -> None:
        if epoch == 3:
            raise NonFiniteLoss(3, 7)

    go(define(data), tmp_path / "a.db", 1, FormulaTrainer(diverge))
    (trial,) = trials_of(tmp_path / "a.db")
    assert trial.state == TrialState.FAIL
    assert [epoch["epoch"] for epoch in trial.user_attrs["mtsearch:curve"]] == [1, 2]


def test_a_study_of_another_program_is_left_alone(data: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    optuna.create_study(study_name="s", storage=url, directions=["maximize", "maximize"]).ask()
    with pytest.raises(StudyMismatch, match="another program made it; give the new study another name with --study"):
        go(define(data), tmp_path / "a.db", 1)
    assert len(trials_of(tmp_path / "a.db")) == 1


def test_bad_budgets_are_refused_before_anything_is_written(data: str, tmp_path: Path) -> None:
    bad = ({"trials": 0}, {"trials": -1}, {"trials": 1, "until": 1}, *({"trials": 1, n: 0} for n in COUNTS))
    for kwargs in bad:
        with pytest.raises(DefinitionError):
            go(define(data), tmp_path / "a.db", **kwargs)  # type: ignore[arg-type] # mixed values
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"trials": "2"}, "trials = '2'; give a whole number, one or more"),
        ({"trials": 2.5}, "trials = 2.5; give a whole number"),
        ({"trials": True}, "trials = true; give a whole number"),
        ({"trials": None, "until": "3"}, "until = '3'; give a whole number"),
        ({"patience": 1.5}, "patience = 1.5; give a whole number"),
        ({"workers": "two"}, "workers = 'two'; give a whole number, one or more, or 'auto'"),
        ({"workers": 1.5}, "workers = 1.5; give a whole number"),
        ({"timeout": "3"}, "timeout = '3'; give a number of seconds above 0"),
        ({"timeout": -1}, "timeout = -1; give a number"),
        ({"timeout": 0}, "timeout = 0; give a number"),
        ({"timeout": float("nan")}, "timeout = nan; give a number"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_line(
    data: str, tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        go(define(data), tmp_path / "a.db", **{"trials": 1, **given})
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.db").exists()


def test_numbers_of_numpy_are_numbers(data: str, tmp_path: Path) -> None:
    trials: Any = np.int64(2)
    assert go(define(data), tmp_path / "a.db", trials, timeout=float(np.float32(60))).counting == 2


def test_a_storage_may_be_a_path(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    assert api.run(define(data), 1, storage=path, make_trainer=make_factory(FormulaTrainer())).counting == 1
    assert api.load_study("s", path).counting == 1


def test_runs_outside_the_main_thread(data: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        assert pool.submit(go, define(data), tmp_path / "a.db", 2).result().counting == 2


def test_second_interrupt_ends_at_once_and_leaves_no_trial_running(data: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(define(data), tmp_path / "a.db", 5, FormulaTrainer(send_at(2, 1, count=2)))
    states = [t.state for t in trials_of(tmp_path / "a.db")]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]


def test_signal_handlers_are_put_back(data: str, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    go(define(data), tmp_path / "a.db", 1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_another_definition_under_the_name_is_refused_with_the_difference(data: str, tmp_path: Path) -> None:
    go(define(data), tmp_path / "a.db", 1)
    changed = define(data, space={**SPACE, "learning_rate": {"low": 0.02, "high": 0.8, "log": True}})
    with pytest.raises(StudyMismatch, match=r"space\.learning_rate\.low: 0\.01 -> 0\.02.*--study"):
        go(changed, tmp_path / "a.db", 1)
    assert len(trials_of(tmp_path / "a.db")) == 1


def test_other_data_under_the_definition_are_refused(data: str, tmp_path: Path) -> None:
    go(define(data), tmp_path / "a.db", 1)
    with (Path(data) / "u.data").open("a") as file:
        file.write("1\t2\t5\t880000099\n")
    with pytest.raises(StudyMismatch, match=r"data fingerprint: \w+ -> \w+"):
        go(define(data), tmp_path / "a.db", 1)


def test_timeout_begins_no_further_trial_and_says_so(data: str, tmp_path: Path) -> None:
    results = go(define(data), tmp_path / "a.db", 50, timeout=1e-9)
    assert (results.counting, results.stopped) == (0, "no trial was run: timeout = 1e-09 s had passed")


def test_timeout_lets_the_running_trial_end(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def let_hours_pass(_config: TrialConfig, _epoch: int) -> None:
        monkeypatch.setattr(run_module, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 10_000))

    results = go(define(data), tmp_path / "a.db", 50, FormulaTrainer(let_hours_pass), timeout=3600)
    assert results.states == {"complete": 1}
    assert results.stopped == "timeout = 3600 s had passed, with 49 trials left to run"


def test_repeats_are_means_over_seeds(data: str, tmp_path: Path) -> None:
    trainer = FormulaTrainer()
    results = go(define(data, study={"name": "s", "seed": 3, "repeats": 3}), tmp_path / "a.db", 2, trainer)
    assert [config.seed for config in trainer.trained] == [3, 4, 5, 3, 4, 5]
    for row, first in zip(results.rows, (0, 3), strict=True):
        seeds = [metrics_of(config, 3)["rmse"] for config in trainer.trained[first : first + 3]]
        assert row.values[0] == fmean(seeds)  # to the last bit, which `retrain` compares
        assert [metrics["rmse"] for metrics in results.repeats[row.trial]] == seeds


def test_repeats_with_patience_keep_the_longest_curve(data: str, tmp_path: Path) -> None:
    class Patient(FormulaTrainer):
        def train(self, config: TrialConfig, on_epoch: Any) -> Any:
            return super().train(config.model_copy(update={"epochs": config.seed - 1}), on_epoch)  # 2, 3, 4

    go(define(data, study={"name": "s", "seed": 3, "repeats": 3}), tmp_path / "a.db", 1, Patient())
    curve = trials_of(tmp_path / "a.db")[0].user_attrs["mtsearch:curve"]
    assert [epoch["epoch"] for epoch in curve] == [1, 2, 3, 4]
    noise = [0.003, 0.004, 0.005]
    rmse = [epoch["metrics"]["rmse"] + epoch["epoch"] * 1e-3 for epoch in curve]
    means = [sum(noise) / 3, sum(noise) / 3, sum(noise[1:]) / 2, noise[2]]
    assert [value - rmse[0] for value in rmse] == pytest.approx([mean - means[0] for mean in means], abs=1e-12)


def test_repeats_end_with_the_seed_whose_last_epoch_was_interrupted(data: str, tmp_path: Path) -> None:
    definition = define(data, study={"name": "s", "seed": 3, "repeats": 3}, fixed={"epochs": 2})
    trainer = FormulaTrainer(send_at(1, 2))
    results = go(definition, tmp_path / "a.db", 5, trainer)
    assert results.interrupted
    assert [config.seed for config in trainer.trained] == [3]
    assert results.states == {"fail": 1, "waiting": 1}


def test_a_database_removed_under_a_run_ends_it(data: str, tmp_path: Path) -> None:
    def remove(_config: TrialConfig, _epoch: int) -> None:
        if len(trainer.trained) > 1:
            (tmp_path / "a.db").unlink(missing_ok=True)

    trainer = FormulaTrainer(remove)
    with pytest.raises(StorageError, match=r"a\.db was removed while the study ran"):
        go(define(data), tmp_path / "a.db", 10, trainer)
    assert len(trainer.trained) == 2
