"""Outages of a storage that pass: a lock, a restarting server, a network that blinks. They are waited for, for a while.

This is the one place that tries a storage's operation again.
"""

import logging
import re
import sqlite3
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, get_storage
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from mtsearch.search.one_reading import SharedReads

OUTAGE_SECONDS = 60.0
"""How long one operation waits in all; SQLite's own waiting for a lock comes before it and is as long."""

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_TOLD_AT_ATTEMPT = 5
"""After waits of 1.5 s at most: shorter outages are nobody's concern."""
_PASSES = re.compile(
    r"is locked|starting up|shutting down|in recovery mode|server closed|terminating connection|connection is closed|"
    r"connection already closed|connection is lost|connection was lost|gone away|SSL SYSCALL|refused|timeout|timed out|"
    r"unreachable|Connection reset|Broken pipe|No such file or directory|too many clients|remaining connection slots|"
    r"UNAVAILABLE|could not receive data|could not send data|EOF detected|deadlock detected|could not serialize|"
    # Optuna reads trials once more, in the same transaction, where the connection is lost under its first query.
    r"invalid transaction is rolled back"
)
_logger = logging.getLogger("mtsearch")

T = TypeVar("T")


def storage_exceptions() -> tuple[type[Exception], ...]:
    """What drivers, SQLAlchemy, Optuna and its proxy raise about a storage; nobody imports gRPC for it."""
    grpc = sys.modules.get("grpc")
    return (SQLAlchemyError, StorageInternalError, sqlite3.Error, *((grpc.RpcError,) if grpc else ()))


def cause(error: BaseException) -> str:
    """The driver's own words; SQLAlchemy's would add the statement with its parameters."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    if hasattr(error, "code") and hasattr(error, "details"):  # of gRPC: the client's status, the server's words
        return f"{error.code().name}: {error.details()}"
    return str(error.orig if isinstance(error, DBAPIError) else error)


def passes(error: BaseException) -> bool:
    """Whether it is an outage that may be over in a moment."""
    known = isinstance(error, storage_exceptions()) and bool(_PASSES.search(cause(error)))
    return known or isinstance(error, ConnectionError)  # of gRPC's client while it opens


def outlast(operation: Callable[[], T]) -> T:
    """Do it, and again while the storage is out, for `OUTAGE_SECONDS`; then the last error is raised."""
    retrying = Retrying(
        retry=retry_if_exception(_is_outage),
        wait=wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
        stop=stop_after_delay(OUTAGE_SECONDS),
        before_sleep=_tell_once,
        reraise=True,
    )
    return retrying(operation)


def _is_outage(error: BaseException) -> bool:
    """Whether an operation that raised it is worth another attempt."""
    # A wrapped error is one of `storage.storage_errors`, raised while opening.
    found = error if isinstance(error, storage_exceptions()) else error.__cause__
    return found is not None and passes(found)


def _tell_once(attempt: RetryCallState) -> None:
    if attempt.attempt_number == _TOLD_AT_ATTEMPT:
        left = OUTAGE_SECONDS - (attempt.seconds_since_start or 0)
        _logger.warning("the storage does not answer; waiting up to %.0f s for it", left)


class Outlasting(BaseStorage):
    """A storage whose every operation outlasts an outage.

    An operation that was done and lost its answer is done again: an attribute is then written twice; a trial that was
    asked for stays unsigned, and is given up like a dead one's; an end that was told already raises
    UpdateFinishedTrialError, and the caller looks at what is stored.

    Args:
        backend: for `Outlasting.of`, which is how it is made.
    """

    def __init__(self, backend: SharedReads) -> None:
        self._backend = backend

    @staticmethod
    def of(storage: BaseStorage) -> "Outlasting":
        """Around the storage, with Optuna's cache where it would have it, and `OneReading`."""
        made: Outlasting = _Outlasting(SharedReads(get_storage(storage)))
        return made


def _outlasting(name: str) -> Callable[..., Any]:
    def operation(self: Outlasting, *args: Any, **kwargs: Any) -> Any:
        return outlast(lambda: getattr(self._backend, name)(*args, **kwargs))

    return operation


# NOTE: what is not abstract in Optuna's interface is built on what is, or cheaper in the backend's own way.
_MORE = (
    "get_trial_id_from_study_id_trial_number", "get_n_trials", "get_best_trial", "get_trial_params",
    "get_trial_user_attrs", "get_trial_system_attrs", "get_trial_param", "get_trial_number_from_id", "remove_session",
)  # fmt: skip
_Outlasting = type(
    "_Outlasting", (Outlasting,), {name: _outlasting(name) for name in (*BaseStorage.__abstractmethods__, *_MORE)}
)
