"""Open a storage for writing (by runs) or for reading (by everything else), and report its errors with a remedy."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from mtsearch.errors import StorageError, StudyNotFound
from mtsearch.files import find_obstacle, has_access
from mtsearch.search.storage.owner import STORAGE_EXCEPTIONS, driver_message
from mtsearch.search.storage.url import (
    MOUNTS,
    mask_url,
    network_file_system,
    sqlite_path,
    without_secrets,
)

BUSY_SECONDS = 60
CONNECT_SECONDS = 10

# NOTE: of 4 processes that make one database at once, about 2 lose a race inside Optuna; in 28 rounds on SQLite and
# PostgreSQL each of these succeeded at its second attempt.
_CREATION_RACE = re.compile(r"already exists|UNIQUE constraint|duplicate key|is locked")
_CREATION_SECONDS = 10
_NO_RECORD = "Record does not exist"
"""Part of Optuna's message for a study or a trial that does not exist."""
_OPTUNA_TABLES = {"studies", "trials", "version_info", "alembic_version"}

# Pattern of a driver's message, problem and remedy for the user; the first match is used. {storage} is the masked URL.
_CAUSES = [
    (r"is locked", "{storage} is locked by another program", "end that program (`fuser {storage}` shows its process)"),
    (r"database or disk is full", "no space is left for {storage}",
     "free some space, or name another storage with --storage"),
    (r"readonly database|read-only", "{storage} cannot be written", "make the file and its folder writable"),
    (r"not a database", "{storage}: file is not a database", "move it away, or name another storage with --storage"),
    (r"malformed", "{storage} is damaged (malformed)",
     "restore a copy, or save the readable part: `sqlite3 {storage} .recover | sqlite3 NEW.db`"),
    (r"disk I/O error", "{storage}: disk I/O error", "check the disk, and that it is a local disk"),
    (r"unable to open database", "{storage} cannot be opened", "check that its folder exists and is writable"),
    (r"password|Access denied|role \"\S*\" does not exist", "{storage} refuses the user or the password",
     "check both in the URL or in ~/.pgpass"),
    (r"server closed|terminating connection|connection is closed|connection already closed|lost|gone away|SSL SYSCALL|"
     r"invalid transaction",
     "the connection to {storage} was lost", "check the server and run again; finished trials are kept"),
    (r"database \"\S*\" does not exist|Unknown database", "no database at {storage}", "make it with `createdb NAME`"),
    (r"translate host name|resolve host|Name or service", "the host of {storage} is unknown",
     "check the host name in the URL"),
    (r"refused|timeout|timed out|No such file|Can't connect|unreachable",
     "{storage} does not answer", "check that the server runs, and check its host and port"),
    (r"permission denied", "the database user has no permission to do this in {storage}",
     "ask the owner of the database for the rights"),
    (r"Can't load plugin", "{storage} is of an unknown kind", "use sqlite:///PATH or postgresql://USER@HOST/NAME"),
]  # fmt: skip


def open_writer(url: str, create: bool = False, *, mounts: Path = MOUNTS) -> RDBStorage:
    """Open a storage for a process that runs trials.

    SQLite is switched to WAL with synchronous=NORMAL, and every transaction takes the write lock at its start
    (BEGIN IMMEDIATE): without it, two of 60 queued trials ran twice under four workers.

    Args:
        url: from `resolve_url`.
        create: make the folder, the file and Optuna's tables if they are missing; safe in several processes at once.
        mounts: a table in the form of /proc/mounts, to recognise network file systems.

    Raises:
        StorageError: the storage cannot be reached or written, does not exist, or belongs to another version of Optuna.
    """
    with _opening_errors(url):
        path = sqlite_path(url)
        if path is not None:
            _refuse_network(path, mounts)
        # Processes that create the same database at once may disturb each other: the losers try again.
        lost_race = retry_if_exception(lambda error: create and bool(_CREATION_RACE.search(driver_message(error))))
        again, end = wait_random(0.05, 0.25), stop_after_delay(_CREATION_SECONDS)
        return Retrying(retry=lost_race, wait=again, stop=end, reraise=True)(_connect_writer, url, path, create)


def require_writable(url: str, *, mounts: Path = MOUNTS) -> None:
    """Raise an error if `open_writer` could not make or write the file of an SQLite storage; nothing is made.

    Other storages are not checked here: their servers report such errors themselves.

    Args:
        url: from `resolve_url`.
        mounts: see `open_writer`.

    Raises:
        StorageError: the folder or the file cannot be written, or is on a network file system.
    """
    path = sqlite_path(url)
    if path is None:
        return
    with _opening_errors(url):
        _refuse_network(path, mounts)
        # The folder must be writable even if the file is: WAL makes more files beside it, or beside a link's target.
        place = find_obstacle(_follow_links(path))
        if place is None and path.exists() and not has_access(path, os.W_OK):
            place = path
    if place is not None:
        problem = f"{path} cannot be written" + (f": {place} is not a writable folder" if place != path else "")
        raise StorageError(problem, "make the file and its folder writable, or name another storage with --storage")


def open_reader(url: str) -> RDBStorage:
    """Open a storage for reading: nothing is created, migrated, locked or written.

    A file in a folder that this user cannot write is read without locks (SQLite's `immutable`).

    Args:
        url: from `resolve_url`.

    Raises:
        StorageError: the storage cannot be reached, holds no studies, or belongs to another version of Optuna.
    """
    with _opening_errors(url):
        path = sqlite_path(url)
        options = _engine_options(url)
        if path is not None:
            _require_file(path)
            options = {"creator": _read_only_connector(path)}
        elif make_url(url).get_backend_name() == "postgresql":
            options["execution_options"] = {"postgresql_readonly": True}
        _require_tables(url, options)
        storage = RDBStorage(_as_template(url), options, skip_table_creation=True)
        if path is not None:
            _begin_with(storage, "BEGIN")
    return storage


def open_outdated(url: str) -> RDBStorage:
    """Open a storage of an older version of Optuna, to upgrade it.

    Raises:
        StorageError: the storage cannot be reached or does not exist.
    """
    with _opening_errors(url):
        path = sqlite_path(url)
        if path is not None:
            _require_file(path)
        _require_tables(url, _engine_options(url))
        return RDBStorage(
            _as_template(url), _engine_options(url), skip_compatibility_check=True, skip_table_creation=True
        )


@contextmanager
def reading_storage(url: str) -> Iterator[RDBStorage]:
    """Open a storage for reading within the context; errors become a StorageError, and the connections are closed."""
    with storage_errors(url):
        storage = open_reader(url)
        try:
            yield storage
        finally:
            close_storage(storage)


@contextmanager
def writing_storage(url: str) -> Iterator[RDBStorage]:
    """Open an existing storage for writing within the context; its errors become a StorageError.

    `checkpoint` closes it, so that an SQLite file then holds the whole study.
    """
    with storage_errors(url):
        storage = open_writer(url)
        try:
            yield storage
        finally:
            checkpoint(storage)


def checkpoint(storage: RDBStorage) -> None:
    """Close this process's connections and bring SQLite's write-ahead log into the database file.

    The file alone then holds the whole study. On other storages, or while other processes use the database, this does
    no harm: the last process completes it. The storage can be used again.
    """
    close_storage(storage)
    path = sqlite_path(storage.url)
    if path is not None and path.exists():
        # NOTE: the storage's own connection would begin a transaction, in which no checkpoint can run.
        with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=1)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Raise a StorageError with a remedy in place of the errors of drivers, SQLAlchemy and Optuna.

    A study that is deleted while it is in use raises StudyNotFound.
    """
    try:
        yield
    except STORAGE_EXCEPTIONS as error:
        message, storage = driver_message(error), mask_url(url)
        for pattern, problem, remedy in _CAUSES:
            if re.search(pattern, message):
                raise StorageError(problem.format(storage=storage), remedy.format(storage=storage)) from error
        raise StorageError(f"{storage}: {without_secrets(message, url)}") from error
    except KeyError as error:
        if _NO_RECORD not in driver_message(error.__cause__ or error):
            raise
        problem = f"the study was deleted from {mask_url(url)} while it was in use"
        raise StudyNotFound(problem, "run it again to begin a new study") from error


def add_cache(storage: BaseStorage) -> BaseStorage:
    """Return the storage with Optuna's cache of finished trials; to read 1,000 trials without it takes a second."""
    return get_storage(storage)


def close_storage(storage: RDBStorage) -> None:
    """Close the connections of a storage; it opens new ones if it is used again."""
    storage.engine.dispose()


@contextmanager
def _opening_errors(url: str) -> Iterator[None]:
    """Raise a StorageError in place of the errors of opening a storage, with those of `storage_errors`."""
    try:
        with storage_errors(url):
            yield
    except ImportError as error:
        remedy = "pip install 'mtsearch[postgres]'" if url.startswith("postgres") else "install the driver"
        raise StorageError(f"{mask_url(url)} needs a driver: {error}", remedy) from error
    except OSError as error:
        problem = f"{mask_url(url)} cannot be opened: {error.strerror or error}"
        raise StorageError(problem, "name a file in a writable folder with --storage") from error
    except RuntimeError as error:
        if "no longer compatible" not in str(error):  # part of the message of Optuna's version check
            raise
        older = "storage upgrade" in str(error)
        remedy = "run `mtsearch studies upgrade`" if older else "upgrade mtsearch and Optuna"
        raise StorageError(f"{mask_url(url)} was written by another version of Optuna", remedy) from error


def _connect_writer(url: str, path: Path | None, create: bool) -> RDBStorage:
    """Connect to a database for writing; `path` is that of an SQLite file, `create` as in `open_writer`."""
    if path is not None:
        _prepare_file(path, create)
    options = _engine_options(url)
    if not create:
        _require_tables(url, options)
    # Optuna must not create tables that exist: in a database of an older version this would migrate half of them.
    storage = RDBStorage(_as_template(url), options, skip_table_creation=not create or _has_tables(url, options))
    if path is not None:
        _begin_with(storage, "BEGIN IMMEDIATE")
    return storage


def _as_template(url: str) -> str:
    """Return the URL with its braces doubled: Optuna takes it as a template, and a password may hold a brace."""
    return url.replace("{", "{{").replace("}", "}}")


def _engine_options(url: str) -> dict[str, Any]:
    """Return SQLAlchemy's options for a URL: timeouts, and a check of each connection to a server before its use."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_SECONDS}}
    if "psycopg" in parsed.get_dialect().driver:
        return {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_SECONDS}}
    return {"pool_pre_ping": True}


def _begin_with(storage: RDBStorage, statement: str) -> None:
    """Let SQLAlchemy begin each SQLite transaction with this statement; Python's sqlite3 begins none for a SELECT."""

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=NORMAL")

    event.listen(storage.engine, "connect", connected)
    event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql(statement))
    storage.engine.dispose()  # the constructor made a connection before these listeners were there


def _has_tables(url: str, options: dict[str, Any]) -> bool:
    """Tell whether a database holds all of Optuna's tables, completely made."""
    engine = create_engine(url, poolclass=NullPool, **options)
    with engine.connect() as connection:
        if not set(inspect(connection).get_table_names()) >= _OPTUNA_TABLES:
            return False
        # The revision is the last thing that Optuna writes when it makes a database.
        return bool(connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar())


def _require_tables(url: str, options: dict[str, Any]) -> None:
    if not _has_tables(url, options):
        raise StudyNotFound(f"{mask_url(url)} holds no studies", "`mtsearch run` makes the first")


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise StorageError(f"{path} is a folder", "name a file in it with --storage")
    if not path.exists():
        raise StudyNotFound(f"no database at {path}", "`mtsearch run` makes one")


def _prepare_file(path: Path, create: bool) -> None:
    if create and not path.exists():
        _follow_links(path).parent.mkdir(parents=True, exist_ok=True)
    else:
        _require_file(path)
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _follow_links(path: Path) -> Path:
    """Return the path with its links followed; unlike in `Path.resolve` of Python 3.12, a ring of links is no error."""
    return Path(os.path.realpath(path))


def _refuse_network(path: Path, mounts: Path) -> None:
    kind = network_file_system(path, mounts)
    if kind:
        remedy = "use PostgreSQL (--storage postgresql://USER@HOST/NAME) or a local folder"
        raise StorageError(f"{path} is on a network file system ({kind}), where SQLite loses writes", remedy)


def _read_only_connector(path: Path) -> Callable[[], sqlite3.Connection]:
    """Return a function that opens a read-only connection to an SQLite file."""
    name = f"file:{quote(str(path))}?mode=ro"
    try:
        with closing(sqlite3.connect(name, uri=True, timeout=BUSY_SECONDS)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        # NOTE: a WAL database needs its -shm file, which cannot be made in a folder that is not writable. Without a
        # -wal file everything is in the database itself, and nobody writes.
        if path.with_name(f"{path.name}-wal").exists():
            raise
        name += "&immutable=1"
    return partial(sqlite3.connect, name, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)


class DatabaseFile:
    """The identity of an SQLite storage's file, to detect that it was removed or replaced; nothing for other storages.

    NOTE: a connection goes on with a file that was removed, and everything that it writes is lost.

    Args:
        url: of the storage.
    """

    def __init__(self, url: str) -> None:
        self._path = sqlite_path(url)
        self._identity = self._read_identity()

    def require_unchanged(self) -> None:
        """Raise an error if the file is not the same as before.

        Raises:
            StorageError: the file was removed, or another file has its name.
        """
        if (found := self._read_identity()) != self._identity:
            done = "removed" if found is None else "replaced by another file"
            raise StorageError(
                f"{self._path} was {done} while the study ran, and its trials are lost",
                "put the file back, or run the study again",
            )

    def _read_identity(self) -> tuple[int, int] | None:
        """Return the file's device and inode; None if there is no file."""
        try:
            status = self._path.stat() if self._path else None
        except FileNotFoundError:
            return None
        return (status.st_dev, status.st_ino) if status else None
