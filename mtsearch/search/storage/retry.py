"""Recognise the outages of a storage, and try an operation again until the outage is over."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

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
