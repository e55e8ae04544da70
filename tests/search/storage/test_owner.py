"""The owner's storage: what it holds in memory is what is in the database, whatever happens to the connection."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from mtsearch.search.storage import open_writer, owner
from mtsearch.search.storage.owner import OwnerStorage
from mtsearch.search.storage.url import resolve_url

MINIMIZE = [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]
SPACE: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(0.0, 2.0),
    "size": IntDistribution(0, 64),
    "layers": CategoricalDistribution(("", "64", "64-32", None)),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return resolve_url(str(tmp_path_factory.mktemp("owner") / "a.db"))


@pytest.fixture(scope="module")
def backend(database: str) -> RDBStorage:
    return open_writer(database, create=True)


def new_study(storage: OwnerStorage | RDBStorage) -> int:
    study: int = storage.create_new_study(MINIMIZE)
    return study


def stored(backend: RDBStorage, study: int) -> list[FrozenTrial]:
    """Return the trials as Optuna reads them from the database, without a memory of its own."""
    return backend.get_all_trials(study)


floats = st.floats(allow_nan=False, width=32)
attributes = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | floats | st.text(max_size=3),
    lambda each: st.lists(each, max_size=2) | st.tuples(each) | st.dictionaries(st.integers() | st.text(), each),
    max_leaves=4,
)
unfinished = st.builds(
    create_trial,
    state=st.just(TrialState.WAITING),
    user_attrs=st.just({"retry": 0}),
    system_attrs=st.just({"fixed_params": {"rate": 0.5}}),
)
finished = st.builds(create_trial, state=st.just(TrialState.COMPLETE), values=st.lists(floats, min_size=2, max_size=2))
ends = st.sampled_from([TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
keys = st.sampled_from(["a", "b"])
# Each operation is the name of a method and its arguments after the trial, which is the last one but `ago`.
operations = st.tuples(
    st.integers(0, 3),
    st.one_of(
        st.tuples(st.just("create_new_trial"), st.none() | unfinished | finished),
        st.tuples(st.just("set_trial_param"), st.sampled_from(list(SPACE)), st.sampled_from([0.0, 1.0, 2.0])),
        st.tuples(st.just("set_trial_user_attr"), keys, attributes),
        st.tuples(st.just("set_trial_system_attr"), keys, attributes),
        st.tuples(st.just("set_trial_intermediate_value"), st.integers(0, 5), floats),
        st.tuples(st.just("set_trial_state_values"), ends, st.none() | st.tuples(floats, floats)),
    ),
)


@settings(max_examples=30)
@given(st.lists(operations, max_size=12))
def test_memory_equals_the_database_after_any_operations(
    backend: RDBStorage, drawn: list[tuple[int, tuple[Any, ...]]]
) -> None:
    storage = OwnerStorage(backend)
    study = new_study(storage)
    trials = [storage.create_new_trial(study)]
    for ago, (name, *rest) in drawn:
        trial = trials[-1 - ago % len(trials)]
        if name == "create_new_trial":
            trials.append(storage.create_new_trial(study, *rest))
        elif name != "set_trial_param" or rest[0] not in storage.get_trial(trial).params:  # Optuna sets none twice
            more = [SPACE[rest[0]]] if name == "set_trial_param" else []
            with suppress(UpdateFinishedTrialError):
                getattr(storage, name)(trial, *rest, *more)
        assert storage.get_all_trials(study) == stored(backend, study)
    assert [storage.get_trial(trial) for trial in trials] == stored(backend, study)
    running = [trial for trial in stored(backend, study) if trial.state == TrialState.RUNNING]
    assert storage.get_all_trials(study, states=(TrialState.RUNNING,)) == running


def use_all(storage: OwnerStorage) -> tuple[int, list[str]]:
    """Do each kind of operation once or twice, as a run does, and return the study and its trials' states."""
    study = new_study(storage)
    first = storage.create_new_trial(study)
    for name, distribution in SPACE.items():
        storage.set_trial_param(first, name, 1.0, distribution)
    storage.set_trial_user_attr(first, "curve", [{"epoch": 1, "metrics": {"rmse": 0.25}}])
    storage.set_trial_system_attr(first, "constraints", (0.5, -1.0))
    storage.set_trial_intermediate_value(first, 1, float("inf"))
    assert storage.set_trial_state_values(first, TrialState.COMPLETE, (0.5, 0.25))
    queued = storage.create_new_trial(study, create_trial(state=TrialState.WAITING, user_attrs={"retry": 0}))
    assert storage.set_trial_state_values(queued, TrialState.RUNNING)
    assert storage.set_trial_state_values(queued, TrialState.FAIL)
    running = storage.create_new_trial(study)
    return study, [storage.get_trial(trial).state.name for trial in (first, queued, running)]


@pytest.mark.slow
def test_on_postgresql(new_postgres: Callable[[], str]) -> None:
    backend = open_writer(resolve_url(new_postgres()), create=True)
    storage = OwnerStorage(backend)
    study, states = use_all(storage)
    assert storage.get_all_trials(study) == stored(backend, study)
    assert states == [trial.state.name for trial in stored(backend, study)] == ["COMPLETE", "FAIL", "RUNNING"]
    backend.engine.dispose()


def test_a_trial_is_given_as_a_copy(backend: RDBStorage) -> None:
    storage = OwnerStorage(backend)
    study = new_study(storage)
    trial = storage.create_new_trial(study)
    storage.set_trial_user_attr(trial, "list", [1])
    for given_out in (storage.get_trial(trial), storage.get_all_trials(study)[0]):
        given_out.user_attrs["list"].append(2)
        given_out.params["rate"] = 0.5
        given_out.values = [1.0, 2.0]
    assert storage.get_all_trials(study) == stored(backend, study)
    assert storage.get_trial(trial).user_attrs == {"list": [1]}


def test_trials_are_read_once(backend: RDBStorage) -> None:
    reads: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if "WHERE trials.study_id" in statement and "ORDER BY trials.trial_id" in statement:
            reads.append(statement)

    study = optuna.create_study(storage=OwnerStorage(backend), sampler=optuna.samplers.TPESampler(n_startup_trials=3))
    event.listen(backend.engine, "before_cursor_execute", note)
    for _ in range(8):
        trial = study.ask({"rate": SPACE["rate"], "size": SPACE["size"]})
        study.tell(trial, trial.params["rate"])
    event.remove(backend.engine, "before_cursor_execute", note)
    assert len(study.trials) == 8
    assert len(reads) == 1


class Outages:
    """A backend whose every operation fails at its first attempt: before it is done, or when it is done."""

    def __init__(self, backend: RDBStorage, done: bool) -> None:
        self._backend, self._done, self.failed = backend, done, list[str]()
        self._again = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def attempt(*args: Any) -> Any:
            self._again = not self._again
            if not self._again:
                return getattr(self._backend, name)(*args)
            self.failed.append(name)
            if self._done:
                getattr(self._backend, name)(*args)
            raise OperationalError("", {}, sqlite3.OperationalError("server closed the connection unexpectedly"))

        return attempt


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the waits between two attempts be short."""
    monkeypatch.setattr(owner, "_FIRST_WAIT", 0.001)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("done", [False, True])
def test_every_operation_is_done_through_an_outage(backend: RDBStorage, done: bool) -> None:
    outages = Outages(backend, done)
    storage = OwnerStorage(cast("Any", outages))
    study, states = use_all(storage)
    assert storage.get_all_trials(study) == stored(backend, study)
    assert states == ["COMPLETE", "FAIL", "RUNNING"]
    assert {"create_new_trial", "set_trial_param", "set_trial_state_values", "get_trial"} <= set(outages.failed)
    (complete,) = storage.get_all_trials(study, states=(TrialState.COMPLETE,))
    assert complete.params == {"rate": 1.0, "size": 1, "layers": "64"}
    assert (complete.values, complete.intermediate_values) == ([0.5, 0.25], {1: float("inf")})
    assert isinstance(complete.datetime_complete, datetime)


def test_an_end_by_another_process_is_an_error(database: str, backend: RDBStorage, tmp_path: Path) -> None:
    storage = OwnerStorage(backend)
    study = new_study(storage)
    trial = storage.create_new_trial(study)
    open_writer(database).set_trial_state_values(trial, TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0, 2.0])
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_user_attr(trial, "a", 1)
    assert storage.set_trial_state_values(trial, TrialState.FAIL)  # as it is
    assert storage.get_all_trials(study) == stored(backend, study)
