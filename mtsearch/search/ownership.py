"""Ownership of a study: one process runs it, and shows others that it lives.

The owner stores its identity and a count in an attribute of the study, and increases the count every few seconds. Other
processes find out whether it lives: on its machine they ask the system, elsewhere they watch the count. They measure
time on their own clock: clocks of two machines are never compared.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from sqlalchemy import column, delete, insert, select, table, update

from mtsearch.errors import StudyInUse
from mtsearch.host import identity, is_gone, is_running_here
from mtsearch.search.attributes import OWNER
from mtsearch.search.storage.owner import STORAGE_EXCEPTIONS, retry_transient
from mtsearch.text import plain

BEAT_SECONDS = 5.0
"""Time between two beats of an owner."""

WATCH_SECONDS = 30.0
"""How long an owner on another machine may be without a beat, in seconds."""

# Optuna's tables, the columns that its migrations have never touched.
STUDIES = table("studies", column("study_id"), column("study_name"))
ATTRIBUTES = table("study_user_attributes", column("study_id"), column("key"), column("value_json"))

_POLL_SECONDS = 0.5
_WAIT = "wait for it or take another --study"
_logger = logging.getLogger("mtsearch")

_Owner = Mapping[str, Any]
"""The stored value: a process as `host.identity` gives it, `since` when (UTC), a name of this run, and the count."""


class Ownership:
    """The ownership of a study by this process.

    Args:
        storage: from `open_writer`.
        study: name of a study in it.

    Attributes:
        lost: True once another process has taken over the study, which it does if this one was suspended for too long.
    """

    def __init__(self, storage: RDBStorage, study: str) -> None:
        self._storage, self._study = storage, study
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._owner: _Owner = {**identity(os.getpid()), "since": since, "run": uuid4().hex, "beat": 0}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="mtsearch heartbeat", daemon=True)
        self.lost = False

    def take(self) -> None:
        """Make this process the owner in place of none or of a dead one, and begin the heartbeat.

        Raises:
            StudyInUse: another process is the owner and lives.
        """
        found: _Owner | None = None
        while (found := retry_transient(partial(self._replace, found, self._owner))) != self._owner:
            if found is not None:
                _require_dead(self._storage, self._study, found, "", _WAIT)
        self._thread.start()

    def release(self) -> None:
        """End the heartbeat, and leave the study without an owner."""
        self._over.set()
        self._thread.join()
        with suppress(*STORAGE_EXCEPTIONS):  # another process sees that this one has ended
            self._replace(self._owner, None)

    def require(self) -> None:
        """Raise an error if another process has taken over the study.

        Raises:
            StudyInUse: it has.
        """
        if self.lost:
            problem = f"another process has taken over study {plain(self._study)} while this one was suspended"
            raise StudyInUse(problem, "wait for it; what was finished is kept")

    def _beat(self) -> None:
        """Increase the count until the ownership ends; the body of the thread."""
        while not self.lost and not self._over.wait(BEAT_SECONDS):
            following = {**self._owner, "beat": self._owner["beat"] + 1}
            with suppress(KeyError, *STORAGE_EXCEPTIONS):  # the thread that runs trials reports these
                self.lost = self._replace(self._owner, following) != following
                self._owner = following

    def _replace(self, before: _Owner | None, after: _Owner | None) -> _Owner | None:
        """Store `after` if `before` is stored now, where None stands for no owner; return what is stored then.

        NOTE: Optuna has no such operation. Two processes that take a study at once would both become its owner.
        """
        own = ATTRIBUTES.c.key == OWNER
        with self._storage.engine.begin() as connection:
            # One at a time: SQLite's transaction begins with a lock, others lock the row of the study.
            locked = select(STUDIES.c.study_id).where(STUDIES.c.study_name == self._study).with_for_update()
            study_id = connection.execute(locked).scalar_one()
            here = own & (ATTRIBUTES.c.study_id == study_id)
            stored = connection.execute(select(ATTRIBUTES.c.value_json).where(here)).scalar()
            if (json.loads(stored) if stored else None) != before:
                return json.loads(stored) if stored else None
            value = json.dumps(after)
            if after is None:
                connection.execute(delete(ATTRIBUTES).where(here))
            elif before is None:
                connection.execute(insert(ATTRIBUTES).values(study_id=study_id, key=OWNER, value_json=value))
            else:
                connection.execute(update(ATTRIBUTES).where(here).values(value_json=value))
            return after


@contextmanager
def own_study(storage: RDBStorage, study: str) -> Iterator[Ownership]:
    """Make this process the owner of a study within the context.

    Raises:
        StudyInUse: another process is the owner and lives.
    """
    ownership = Ownership(storage, study)
    ownership.take()
    try:
        yield ownership
    except UpdateFinishedTrialError:  # only another owner ends trials of this one
        ownership.lost = True
        ownership.require()
    finally:
        ownership.release()


def require_no_owner(storage: RDBStorage, study: str, done: str) -> None:
    """Raise an error if a process runs a study; an owner on another machine is watched for `WATCH_SECONDS`.

    Args:
        storage: that holds the study.
        study: its name.
        done: what the caller wants to do, such as "renamed".

    Raises:
        StudyInUse: a process runs it.
    """
    owner = _read_owner(storage, study)
    if owner is not None:
        remedy = "end that process first (Ctrl-C keeps the finished trials)"
        _require_dead(storage, study, owner, f" cannot be {done}, since it", remedy)


def require_no_owners(storage: RDBStorage) -> None:
    """Raise an error if a process runs a study of a storage that shall be upgraded, see `require_no_owner`.

    Raises:
        StudyInUse: a process runs a study.
    """
    with storage.engine.begin() as connection:
        studies = list(connection.execute(select(STUDIES.c.study_name)).scalars())
    for study in studies:
        require_no_owner(storage, study, "upgraded")


def _require_dead(storage: RDBStorage, study: str, owner: _Owner, problem: str, remedy: str) -> None:
    """Raise an error, made of a problem and a remedy, unless the owner of a study has ended."""
    if is_gone(owner):
        return
    process = f"process {owner['pid']} on host {plain(owner['host'])}"
    if not is_running_here(owner):
        # The process cannot be seen from here, but each of its beats changes the stored value.
        _logger.info(
            "study %s was last run by %s: waiting up to %g s for its sign of life", study, process, WATCH_SECONDS
        )
        end = time.monotonic() + WATCH_SECONDS
        while (now := _read_owner(storage, study)) == owner and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        if now == owner or now is None:
            return
    since = datetime.fromisoformat(owner["since"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    raise StudyInUse(f"study {plain(study)}{problem} is being run by {process} since {since}", remedy)


def _read_owner(storage: RDBStorage, study: str) -> _Owner | None:
    """Return the stored owner of a study; None if it has none."""
    with storage.engine.begin() as connection:
        named = select(STUDIES.c.study_id).where(STUDIES.c.study_name == study).scalar_subquery()
        own = (ATTRIBUTES.c.study_id == named) & (ATTRIBUTES.c.key == OWNER)
        stored = connection.execute(select(ATTRIBUTES.c.value_json).where(own)).scalar()
    return json.loads(stored) if stored else None
