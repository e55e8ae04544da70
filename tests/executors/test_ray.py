"""Runs on a Ray cluster: nodes come and go, and the models of a study travel to them."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from mtsearch import api
from mtsearch.data import Split
from mtsearch.errors import DefinitionError, MachineError
from mtsearch.executors import RayOptions, open_executor, workers
from mtsearch.models.trainer import trainer_factory
from mtsearch.search.attributes import RETRY_OF
from mtsearch.search.results import StudyResults
from mtsearch.search.trial import TrialEnd
from mtsearch.study_file.config import TrialConfig
from tests.helpers import custom_models
from tests.helpers.clusters import NODE, remove_node, running_cluster
from tests.helpers.trainers import FormulaTrainer, slow_formula, struck_formula
from tests.search.test_run import define, trials_of

# Ray leaves pipes and processes to the end of this process.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::FutureWarning"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with running_cluster(nodes=3) as made:
        yield made


def go(data: str, path: Path, trials: int | None, cluster: Any, **options: Any) -> StudyResults:
    return api.run(define(data), trials, ray=cluster.address, storage=path, **{"make_trainer": slow_formula, **options})


@pytest.mark.slow
def test_exactly_the_trials_asked_for_in_as_many_workers_as_there_is_room_for(
    data: str, tmp_path: Path, cluster: Any
) -> None:
    ends: list[TrialEnd] = []
    results = api.run(
        define(data),
        12,
        ray=cluster.address,
        storage=tmp_path / "a.db",
        make_trainer=slow_formula,
        on_trial=ends.append,
    )
    assert results.states == {"complete": 12}
    assert len(ends) == len({str(end.params) for end in ends}) == 12
    assert (results.provenance["trainer"]["workers"], results.provenance["trainer"]["threads"]) == (3, 1)


@pytest.mark.slow
def test_the_trial_of_a_killed_actor_is_tried_again(data: str, tmp_path: Path, cluster: Any) -> None:
    trainer = partial(struck_formula, tmp_path, signal.SIGKILL, 2)
    results = go(data, tmp_path / "a.db", 9, cluster, workers=2, make_trainer=trainer)
    trials = trials_of(tmp_path / "a.db")
    dead = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert results.states == {"complete": 9, "fail": 2}
    assert {trial.user_attrs["mtsearch:reason"]["kind"] for trial in dead} == {"died"}
    assert {t.user_attrs[RETRY_OF] for t in trials if RETRY_OF in t.user_attrs} == {trial.number for trial in dead}


def noting_formula(folder: Path, split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Make a slow formula trainer in a worker that notes the node on which it trains."""
    import ray

    trainer, description = slow_formula(split, threads)
    sleep, node = trainer.hook, ray.get_runtime_context().get_node_id()

    def note(config: TrialConfig, epoch: int) -> None:
        (folder / node).touch()
        sleep(config, epoch)

    trainer.hook = note
    return trainer, description


@pytest.mark.slow
def test_a_lost_node_does_not_end_the_run_and_a_new_one_joins_it(data: str, tmp_path: Path, cluster: Any) -> None:
    notes, path = tmp_path / "nodes", tmp_path / "a.db"
    notes.mkdir()
    steps: list[Callable[[], object]] = [lambda: remove_node(cluster), lambda: cluster.add_node(**NODE)]

    def change(end: TrialEnd) -> None:
        used = len(list(notes.iterdir()))
        if steps and used == 3:
            steps.pop(0)()
        elif used == 4:
            os.kill(os.getpid(), signal.SIGINT)
            notes.rename(tmp_path / "done")  # so that it is sent once

    trainer = partial(noting_formula, notes)
    assert go(data, path, 10_000, cluster, workers=3, make_trainer=trainer, on_trial=change).interrupted
    until = api.load_study("s", path).counting + 6
    results = go(data, path, None, cluster, until=until)
    assert results.counting == until == results.states["complete"]
    assert {"running", "waiting"}.isdisjoint(results.states)


@pytest.mark.slow
def test_a_termination_signal_interrupts(data: str, tmp_path: Path, cluster: Any) -> None:
    """Ray has a handler of its own, which would end the process at once."""
    sent: list[int] = []

    def terminate(end: TrialEnd) -> None:
        if not sent:
            sent.append(end.trial)
            os.kill(os.getpid(), signal.SIGTERM)

    results = go(data, tmp_path / "a.db", 10_000, cluster, on_trial=terminate)
    assert results.interrupted
    assert "running" not in results.states


@pytest.mark.slow
def test_workers_without_room_are_waited_for(
    data: str, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Actors that Ray cannot place yet give no sign of life, and are neither silent nor dead."""

    def lose_patience(_end: TrialEnd) -> None:
        monkeypatch.setattr(workers, "SILENCE_SECONDS", 15.0)
        monkeypatch.setattr(workers, "_IDLE_DEATHS", 1)

    definition = define(data, fixed={"epochs": 80})  # so that the trials take longer than the silence
    results = api.run(
        definition,
        9,
        ray=cluster.address,
        workers=5,
        storage=tmp_path / "a.db",
        make_trainer=slow_formula,
        on_trial=lose_patience,
    )
    assert results.states == {"complete": 9}


@pytest.mark.slow
def test_a_model_of_ones_own_travels_to_the_workers(data: str, tmp_path: Path, cluster: Any) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(custom_models.__file__, folder / "my_own_model.py")
    definition = define(data, model={"factory": "my_own_model:Small", "folder": str(folder)})
    make_trainer = trainer_factory(definition, send=True)
    shutil.rmtree(folder)
    _, split = api.prepare(definition)
    with open_executor(split, RayOptions(cluster.address, 1), make_trainer, 1) as executor:
        assert executor.description()["threads"] == 1
        executor.start(7, TrialConfig(epochs=2, embedding_size=8), lambda _epoch: True)
        ends: list[Any] = []
        while not ends:
            ends = executor.wait(1.0)
    assert ends[0].error is None, ends[0].error
    assert (ends[0].trial, len(ends[0].result.curve)) == (7, 2)


@pytest.mark.slow
def test_a_connection_that_is_there_is_used_and_kept(data: str, tmp_path: Path, cluster: Any) -> None:
    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        results = api.run(define(data), 2, ray="auto", workers=1, storage=tmp_path / "a.db", make_trainer=slow_formula)
        assert results.counting == 2
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_refused_with_a_remedy(data: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"cannot join the Ray cluster '127\.0\.0\.1:1'.*start one with `ray start"):
        api.run(define(data), 1, ray="127.0.0.1:1", storage=tmp_path / "a.db", make_trainer=slow_formula)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ray": "s.toml"}, "'s.toml' is not the address of a Ray cluster; give HOST:PORT, or auto"),
        ({"ray": "auto", "cpus_per_worker": 0}, "a worker with 0 CPUs and 0 GPUs cannot train"),
        ({"ray": "auto", "cpus_per_worker": float("nan")}, "a worker with nan CPUs"),
        ({"ray": "auto", "gpus_per_worker": -1}, "a worker with 1 CPUs and -1 GPUs cannot train"),
        ({"workers": 2, "cpus_per_worker": 4}, "the size of a worker is given, but no Ray cluster"),
        ({"gpus_per_worker": 0.5}, "the size of a worker is given, but no Ray cluster"),
        ({"ray": "auto", "workers": 0}, "workers = 0; give a whole number, one or more, or 'auto'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    data: str, tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        api.run(define(data), 1, storage=tmp_path / "a.db", **given)
    assert str(caught.value).startswith(said)
    assert not (tmp_path / "a.db").exists()
