"""The storage of the process that owns a study: it reads trials from memory, and writes to the database.

Only the owner writes the trials of its study, so that they are read once. Every operation is tried again during an
outage of the database, which is recognised by the message of its driver.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Callable, Container, Sequence
from copy import deepcopy as copy_deeply
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from mtsearch.search.attributes import QUEUED_TWICE, REASON

OUTAGE_SECONDS = 60.0
"""Seconds for which one operation is tried again; before that, SQLite itself waits as long for a lock."""

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_TOLD_AT_ATTEMPT = 5
"""The attempt at which the user is told, after 1.5 s at most: shorter outages are not reported."""
_TRANSIENT = re.compile(
    r"is locked|starting up|shutting down|in recovery mode|server closed|terminating connection|connection is closed|"
    r"connection already closed|connection is lost|connection was lost|gone away|SSL SYSCALL|refused|timeout|timed out|"
    r"unreachable|Connection reset|Broken pipe|No such file or directory|too many clients|remaining connection slots|"
    r"could not receive data|could not send data|EOF detected|deadlock detected|could not serialize|"
    # Optuna reads trials once more, in the same transaction, if the connection is lost during its first query.
    r"invalid transaction is rolled back"
)
_logger = logging.getLogger("mtsearch")

T = TypeVar("T")


STORAGE_EXCEPTIONS = (SQLAlchemyError, StorageInternalError, sqlite3.Error)
"""The classes of errors that drivers, SQLAlchemy and Optuna raise about a storage."""


def driver_message(error: BaseException) -> str:
    """Return the driver's message of a storage error, without the statement and parameters that SQLAlchemy adds."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return str(error.orig if isinstance(error, DBAPIError) else error)


def is_transient(error: BaseException) -> bool:
    """Tell whether an error shows an outage of the storage that may be over in a moment."""
    return isinstance(error, STORAGE_EXCEPTIONS) and bool(_TRANSIENT.search(driver_message(error)))


def retry_transient(operation: Callable[[], T]) -> T:
    """Call an operation and return its result; call it again during an outage, for `OUTAGE_SECONDS`.

    Raises:
        Exception: the last error, if the outage lasts longer, and at once an error of another kind.
    """
    retrying = Retrying(
        retry=retry_if_exception(_is_outage),
        wait=wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
        stop=stop_after_delay(OUTAGE_SECONDS),
        before_sleep=_warn_once,
        reraise=True,
    )
    return retrying(operation)


def _is_outage(error: BaseException) -> bool:
    """Tell whether an operation that raised this error should be tried again."""
    # Opening a storage raises a StorageError, with the driver's error as its cause.
    found = error if isinstance(error, STORAGE_EXCEPTIONS) else error.__cause__
    return found is not None and is_transient(found)


def _warn_once(attempt: RetryCallState) -> None:
    """Warn the user at a certain attempt that the storage does not answer."""
    if attempt.attempt_number == _TOLD_AT_ATTEMPT:
        left = OUTAGE_SECONDS - (attempt.seconds_since_start or 0)
        _logger.warning("the storage does not answer; trying again for up to %.0f s", left)


def _retrying(name: str) -> Callable[..., Any]:
    """Return a method that calls the backend's method of this name, and calls it again during an outage."""

    def operation(self: OwnerStorage, *args: Any, **kwargs: Any) -> Any:
        return retry_transient(lambda: getattr(self._backend, name)(*args, **kwargs))

    return operation


# All operations of a storage; `OwnerStorage` has its own for trials.
_Retrying: Any = type("_Retrying", (BaseStorage,), {name: _retrying(name) for name in BaseStorage.__abstractmethods__})


class OwnerStorage(_Retrying):  # type: ignore[misc] # made above
    """A storage with the trials in memory, for the only process that writes them.

    NOTE: Optuna reads the running trials for each parameter that TPE proposes, 2.5 ms a time on SQLite.

    An operation whose answer was lost in an outage is done twice. An attribute is then written twice. Of two new trials
    the first runs nowhere, and fails when the run ends; of two in the queue the first fails at once. A trial that has
    ended already as it should has ended.

    Args:
        backend: Optuna's storage, without its cache.
    """

    def __init__(self, backend: BaseStorage) -> None:
        self._backend = backend
        self._trials: dict[int, list[FrozenTrial]] = {}  # by study
        self._by_id: dict[int, FrozenTrial] = {}

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study in the given states; without `deepcopy` those that this storage itself holds."""
        if study_id not in self._trials:
            self._read_all(study_id)
        held = self._trials[study_id]
        found = held[:] if states is None else [trial for trial in held if trial.state in states]
        return copy_deeply(found) if deepcopy else found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a copy of a trial: Optuna's Trial changes the object that it gets."""
        held = self._by_id.get(trial_id)
        found: FrozenTrial = super().get_trial(trial_id) if held is None else copy_deeply(held)
        return found

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial, as Optuna's storages do."""
        known = len(self.get_all_trials(study_id, deepcopy=False))
        trial_id: int = super().create_new_trial(study_id, template_trial)
        trial = super().get_trial(trial_id)
        if trial.number == known:
            self._hold(study_id, trial)
        else:  # another one was created before it, and the answer was lost
            self._read_all(study_id)
            if trial.state == TrialState.WAITING:  # one retry of a trial is enough
                for extra in self._trials[study_id][known : trial.number]:
                    self.set_trial_user_attr(extra._trial_id, REASON, QUEUED_TWICE)
                    self.set_trial_state_values(extra._trial_id, TrialState.FAIL)
        return trial_id

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set the state and the values of a trial, as Optuna's storages do.

        Raises:
            UpdateFinishedTrialError: another process has ended the trial.
        """
        done = True
        try:
            done = super().set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            ended = super().get_trial(trial_id)
            if (ended.state, ended.values) != (state, list(values) if values is not None else None):
                raise
        # The database has set the times.
        stored, held = super().get_trial(trial_id), self._by_id[trial_id]
        # Nobody else takes a trial from the queue: then the answer to the first attempt was lost.
        done = done or (held.state, stored.state) == (TrialState.WAITING, state)
        held.state, held.values = stored.state, stored.values
        held.datetime_start, held.datetime_complete = stored.datetime_start, stored.datetime_complete
        return done

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Store the value of a parameter, as Optuna's storages do."""
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        trial = self._by_id[trial_id]
        trial.params = {**trial.params, param_name: distribution.to_external_repr(param_value_internal)}
        trial.distributions = {**trial.distributions, param_name: distribution}

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Store an intermediate value, as Optuna's storages do."""
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._by_id[trial_id].intermediate_values[step] = intermediate_value

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a user attribute of a trial, as Optuna's storages do."""
        super().set_trial_user_attr(trial_id, key, value)
        self._by_id[trial_id].user_attrs[key] = _as_stored(value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a system attribute of a trial, as Optuna's storages do."""
        super().set_trial_system_attr(trial_id, key, value)
        self._by_id[trial_id].system_attrs[key] = _as_stored(value)

    def _read_all(self, study_id: int) -> None:
        """Read the trials of a study from the database, in place of those in memory."""
        self._trials[study_id] = []
        for trial in super().get_all_trials(study_id):
            self._hold(study_id, trial)

    def _hold(self, study_id: int, trial: FrozenTrial) -> None:
        self._trials[study_id].append(trial)
        self._by_id[trial._trial_id] = trial


def _as_stored(value: Any) -> Any:
    """Return a value as the database gives it back: JSON knows lists but no tuples, and only texts as keys."""
    return json.loads(json.dumps(value))
