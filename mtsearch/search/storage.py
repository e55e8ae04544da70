"""How a storage is opened: for writing by `run`'s processes, for reading by everyone else."""

import os
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from mtsearch.errors import StorageError, StudyNotFound
from mtsearch.files import may, obstacle
from mtsearch.search.outages import cause, storage_exceptions
from mtsearch.search.storage_url import (
    MOUNTS,
    masked,
    network_file_system,
    proxy_address,
    resolve_url,
    sqlite_path,
    without_secrets,
)

__all__ = [
    "checkpoint",
    "close",
    "masked",
    "open_outdated",
    "open_reader",
    "open_writer",
    "reading",
    "require_writable",
    "resolve_url",
    "sqlite_path",
    "storage_errors",
    "writing",
]

BUSY_SECONDS = 60
CONNECT_SECONDS = 10

# NOTE: of 4 processes that make one database at once, about 2 lose a race inside Optuna; in 28 rounds on SQLite and
# PostgreSQL each of these succeeded at its second attempt.
_CREATION_RACE = re.compile(r"already exists|UNIQUE constraint|duplicate key|is locked")
_CREATION_SECONDS = 10
_NO_RECORD = "Record does not exist"
"""What Optuna says of a study or a trial that is not there."""
_OPTUNA_TABLES = {"studies", "trials", "version_info", "alembic_version"}

# What drivers say -> what happened, what to do. {storage} is the masked URL.
_CAUSES = [
    (r"is locked", "{storage} is locked by another program", "end the one that holds it (`fuser {storage}` names it)"),
    (r"database or disk is full", "no space is left for {storage}", "free some, or name another with --storage"),
    (r"readonly database|read-only", "{storage} cannot be written", "make the file and its folder writable"),
    (r"not a database", "{storage}: file is not a database", "move it away, or name another with --storage"),
    (r"malformed", "{storage} is damaged (malformed)",
     "restore a copy, or save what is left: `sqlite3 {storage} .recover | sqlite3 NEW.db`"),
    (r"disk I/O error", "{storage}: disk I/O error", "check the disk, and that it is a local one"),
    (r"unable to open database", "{storage} cannot be opened", "check that its folder exists and is writable"),
    (r"password|Access denied|role \"\S*\" does not exist", "{storage} refuses the user or the password",
     "check both in the URL or in ~/.pgpass"),
    (r"server closed|terminating connection|connection is closed|connection already closed|lost|gone away|SSL SYSCALL|"
     r"UNAVAILABLE|invalid transaction",
     "the connection to {storage} was lost", "check the server and run again; finished trials are kept"),
    (r"database \"\S*\" does not exist|Unknown database", "no database at {storage}", "make it with `createdb NAME`"),
    (r"translate host name|resolve host|Name or service", "the host of {storage} is unknown", "check its name"),
    (r"refused|timeout|timed out|No such file|Can't connect|unreachable",
     "{storage} does not answer", "check that the server runs, and its host and port"),
    (r"permission denied", "{storage} does not permit this to the user", "grant it the rights"),
    (r"Can't load plugin", "{storage} is of an unknown kind", "use sqlite:///PATH, postgresql://USER@HOST/NAME or grpc://HOST:PORT"),
]  # fmt: skip


def open_writer(url: str, create: bool = False, *, mounts: Path = MOUNTS) -> BaseStorage:
    """Open a storage for a process that runs trials.

    SQLite is switched to WAL with synchronous=NORMAL, and every transaction takes the write lock at its start
    (BEGIN IMMEDIATE): without it, two of 60 queued trials ran twice under four workers.

    Args:
        url: from `resolve_url`.
        create: make the folder, the file and Optuna's tables where they are missing; safe in several processes at once.
        mounts: a table in the form of /proc/mounts, to recognise network file systems.

    Raises:
        StorageError: it cannot be reached or written, is not there, or belongs to another version of Optuna.
    """
    with _opening(url):
        if (proxy := proxy_address(url)) is not None:
            return _proxy(*proxy)
        path = sqlite_path(url)
        if path is not None:
            _refuse_network(path, mounts)
        lost_race = retry_if_exception(lambda error: create and bool(_CREATION_RACE.search(cause(error))))
        again, end = wait_random(0.05, 0.25), stop_after_delay(_CREATION_SECONDS)
        return Retrying(retry=lost_race, wait=again, stop=end, reraise=True)(_writer, url, path, create)


def require_writable(url: str, *, mounts: Path = MOUNTS) -> None:
    """Refuse a SQLite storage that `open_writer` could not make or write; makes nothing. Others say it themselves.

    Args:
        url: from `resolve_url`.
        mounts: see `open_writer`.

    Raises:
        StorageError: its folder or its file cannot be written, or lies on a network file system.
    """
    path = sqlite_path(url)
    if path is None:
        return
    with _opening(url):
        _refuse_network(path, mounts)
        # Of a file that can be written, too: WAL puts others beside it, or beside what a link leads to.
        place = obstacle(_real(path))
        if place is None and path.exists() and not may(path, os.W_OK):
            place = path
    if place is not None:
        problem = f"{path} cannot be written" + (f": {place} is no folder that can be" if place != path else "")
        raise StorageError(problem, "make the file and its folder writable, or name another with --storage")


def open_reader(url: str) -> BaseStorage:
    """Open a storage for looking at it: nothing is created, migrated, locked or written.

    A file in a folder that this user cannot write is read as it stands (SQLite's `immutable`).

    Args:
        url: from `resolve_url`.

    Raises:
        StorageError: it cannot be reached, holds no studies, or belongs to another version of Optuna.
    """
    with _opening(url):
        if (proxy := proxy_address(url)) is not None:
            return _proxy(*proxy)
        path = sqlite_path(url)
        options = _engine_options(url)
        if path is not None:
            _require_file(path)
            options = {"creator": _read_only(path)}
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
        StorageError: it cannot be reached or is not there.
    """
    with _opening(url):
        if proxy_address(url) is not None:
            raise StorageError(f"{masked(url)} is a proxy", "upgrade the database behind it")
        path = sqlite_path(url)
        if path is not None:
            _require_file(path)
        _require_tables(url, _engine_options(url))
        return RDBStorage(
            _as_template(url), _engine_options(url), skip_compatibility_check=True, skip_table_creation=True
        )


@contextmanager
def reading(url: str) -> Iterator[BaseStorage]:
    """`open_reader` and `storage_errors`; the connections are closed after it."""
    with storage_errors(url):
        storage = open_reader(url)
        try:
            yield storage
        finally:
            close(storage)


@contextmanager
def writing(url: str) -> Iterator[BaseStorage]:
    """`open_writer` of what is there, `storage_errors`, and `checkpoint` after it."""
    with storage_errors(url):
        storage = open_writer(url)
        try:
            yield storage
        finally:
            checkpoint(storage)


def checkpoint(storage: BaseStorage) -> None:
    """Close this process's connections and bring SQLite's write-ahead log into the database file.

    The file alone is then the whole study. Harmless on other storages and while other processes use the database (the
    last one does it); the storage can be used again.
    """
    close(storage)
    if not isinstance(storage, RDBStorage):
        return
    path = sqlite_path(storage.url)
    if path is not None and path.exists():
        # NOTE: the storage's own connection would begin a transaction, in which no checkpoint can run.
        with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=1)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what drivers, SQLAlchemy and Optuna raise about a storage into a StorageError with its remedy."""
    try:
        yield
    except storage_exceptions() as error:
        words, storage = cause(error), masked(url)
        for pattern, problem, remedy in _CAUSES:
            if re.search(pattern, words):
                raise StorageError(problem.format(storage=storage), remedy.format(storage=storage)) from error
        raise StorageError(f"{storage}: {without_secrets(words, url)}") from error
    except KeyError as error:
        if _NO_RECORD not in cause(error.__cause__ or error):
            raise
        problem = f"the study was deleted from {masked(url)} while it was in use"
        raise StudyNotFound(problem, "run it again to begin it anew") from error


def close(storage: BaseStorage) -> None:
    """Give connections back; they are made anew where the storage is used again."""
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()


def _proxy(host: str, port: int) -> BaseStorage:
    """Optuna's gRPC client. A proxy reads and writes alike, and has neither files nor views."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=host, port=port)
    proxy.wait_server_ready(timeout=CONNECT_SECONDS)
    return proxy


@contextmanager
def _opening(url: str) -> Iterator[None]:
    """`storage_errors`, and what can go wrong only at the door."""
    try:
        with storage_errors(url):
            yield
    except ImportError as error:
        extra = next((extra for extra in ("postgres", "grpc") if url.startswith(extra)), None)
        remedy = f"pip install 'mtsearch[{extra}]'" if extra else "install it"
        raise StorageError(f"{masked(url)} needs a driver: {error}", remedy) from error
    except ConnectionError as error:  # of the proxy's client
        raise StorageError(
            f"{masked(url)} does not answer", "check that the server runs, and its host and port"
        ) from error
    except OSError as error:
        problem = f"{masked(url)} cannot be opened: {error.strerror or error}"
        raise StorageError(problem, "name a writable place with --storage") from error
    except RuntimeError as error:
        if "no longer compatible" not in str(error):  # which Optuna's check says
            raise
        older = "storage upgrade" in str(error)
        remedy = "run `mtsearch studies upgrade`" if older else "upgrade mtsearch and Optuna"
        raise StorageError(f"{masked(url)} was written by another version of Optuna", remedy) from error


def _writer(url: str, path: Path | None, create: bool) -> RDBStorage:
    if path is not None:
        _prepare_file(path, create)
    options = _engine_options(url)
    if not create:
        _require_tables(url, options)
    # Optuna's table creation on a database of an older version would migrate it halfway.
    storage = RDBStorage(_as_template(url), options, skip_table_creation=not create or _has_tables(url, options))
    if path is not None:
        _begin_with(storage, "BEGIN IMMEDIATE")
    return storage


def _as_template(url: str) -> str:
    """The URL as Optuna takes it, which fills in {SCHEMA_VERSION}: a brace, as of a password, stands there twice."""
    return url.replace("{", "{{").replace("}", "}}")


def _engine_options(url: str) -> dict[str, Any]:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_SECONDS}}
    if "psycopg" in parsed.get_dialect().driver:
        return {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_SECONDS}}
    return {"pool_pre_ping": True}


def _begin_with(storage: RDBStorage, statement: str) -> None:
    """Let SQLAlchemy begin SQLite's transactions in our way: Python's sqlite3 begins none for a SELECT."""

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=NORMAL")

    event.listen(storage.engine, "connect", connected)
    event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql(statement))
    storage.engine.dispose()  # the constructor's connection was made without them


def _has_tables(url: str, options: dict[str, Any]) -> bool:
    engine = create_engine(url, poolclass=NullPool, **options)
    with engine.connect() as connection:
        if not set(inspect(connection).get_table_names()) >= _OPTUNA_TABLES:
            return False
        # The revision is the last thing that Optuna writes when it makes a database.
        return bool(connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar())


def _require_tables(url: str, options: dict[str, Any]) -> None:
    if not _has_tables(url, options):
        raise StudyNotFound(f"{masked(url)} holds no studies", "`mtsearch run` makes the first")


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise StorageError(f"{path} is a folder", "name a file in it with --storage")
    if not path.exists():
        raise StudyNotFound(f"no database at {path}", "`mtsearch run` makes one")


def _prepare_file(path: Path, create: bool) -> None:
    if create and not path.exists():
        _real(path).parent.mkdir(parents=True, exist_ok=True)
    else:
        _require_file(path)
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _real(path: Path) -> Path:
    """What links lead to, as far as they do: `Path.resolve` raises RuntimeError for a ring, before Python 3.13."""
    return Path(os.path.realpath(path))


def _refuse_network(path: Path, mounts: Path) -> None:
    kind = network_file_system(path, mounts)
    if kind:
        remedy = "use PostgreSQL (--storage postgresql://USER@HOST/NAME) or a local folder"
        raise StorageError(f"{path} is on a network file system ({kind}), where SQLite loses writes", remedy)


def _read_only(path: Path) -> Callable[[], sqlite3.Connection]:
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
