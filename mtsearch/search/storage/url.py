"""Storage URLs: turn the user's path or URL into an absolute URL, and hide its password in messages."""

import importlib.util
import os
import re
from os import PathLike
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from mtsearch.errors import StorageError

ENVIRONMENT = "MTSEARCH_STORAGE"
DEFAULT = "studies/mtsearch.db"
MOUNTS = Path("/proc/mounts")

_SUFFIXES = (".db", ".sqlite", ".sqlite3")
_FORMS = "give a path ending in .db, or a URL such as postgresql://USER@HOST/NAME"
_SECRET_KEY = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)
# NOTE: greedy up to the last "@", because an unescaped "@" in a password ends it early for every parser.
_PASSWORD = re.compile(r"(://[^:/@]*):.*@", re.DOTALL)
_QUERY_SECRET = re.compile(r"([?&][^=&]*(?:pass|pwd|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)
# SQLite's WAL needs memory that processes share, so one machine; these file systems are used by several machines.
_NETWORK = re.compile(r"nfs|cifs|smb|lustre|ceph|gluster|beegfs|gpfs|afs$|orangefs|pvfs|sshfs|s3fs|rclone")


def resolve_url(url: str | PathLike[str] | None) -> str:
    """Return the absolute URL of a storage from the user's path or URL.

    Args:
        url: an SQLAlchemy URL, or the path of an SQLite file (.db, .sqlite, .sqlite3). None: the environment variable
            MTSEARCH_STORAGE, or without it studies/mtsearch.db in the current folder.

    Raises:
        StorageError: the text is neither, or the database would be in memory.
    """
    # NOTE: an empty text is a mistake, as of an unset variable of a shell, and must not name another storage.
    text = (os.environ.get(ENVIRONMENT) or DEFAULT) if url is None else os.fspath(url)
    if not text.strip():
        raise StorageError("the name of the storage is empty", _FORMS)
    if "://" not in text:
        if not text.endswith(_SUFFIXES):
            raise StorageError(f"{mask_url(text)} is not the name of a storage", _FORMS)
        return _make_absolute(URL.create("sqlite", database=text))
    if sqlite_path(text) is not None:
        return _make_absolute(make_url(text))
    return _with_driver(text)


def mask_url(url: str) -> str:
    """Return a storage's name for messages: the path of an SQLite file, or any other URL without its secrets."""
    try:
        path = sqlite_path(url)
    except StorageError:
        path = None
    if path is not None:
        return str(path)
    return _QUERY_SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))


def without_secrets(text: str, url: str) -> str:
    """Return `text`, a driver's message, with every secret of `url` replaced by ***."""
    parsed = make_url(url)
    secrets = [value for key, value in parsed.query.items() if _SECRET_KEY.search(key) and isinstance(value, str)]
    for secret in [parsed.password, *secrets]:
        if secret:
            text = text.replace(secret, "***")
    return text


def sqlite_path(url: str) -> Path | None:
    """Return the absolute path of an SQLite database; None if the URL is of another kind.

    Raises:
        StorageError: the URL cannot be parsed, or names an SQLite database in memory.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        # NOTE: the message does not show the URL, which may hold a password at a place that no pattern finds.
        raise StorageError("the storage URL cannot be parsed", _FORMS) from error
    if parsed.get_backend_name() != "sqlite":
        return None
    if not parsed.database or ":memory:" in parsed.database:
        raise StorageError("an SQLite database in memory is lost when its process ends", _FORMS)
    return _absolute_path(parsed.database)


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the network file system that holds a path; None for a local or unknown file system.

    Args:
        path: does not need to exist.
        mounts: a table in the form of Linux's /proc/mounts.
    """
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    # NOTE: not resolve(), which raises RuntimeError for a ring of links before Python 3.13.
    target, mounted = Path(os.path.realpath(path)), (Path("/"), "")
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        folder = Path(point.replace("\\040", " "))
        # A later mount on the same point hides the earlier one.
        if target.is_relative_to(folder) and len(folder.parts) >= len(mounted[0].parts):
            mounted = (folder, kind)
    return mounted[1] if _NETWORK.search(mounted[1]) else None


def _make_absolute(url: URL) -> str:
    """Return an SQLite URL with its path made absolute."""
    name = url.database or ""
    scheme = "file:" if name.startswith("file:") else ""
    path = _absolute_path(name)
    text = url.set(database=f"{scheme}{path}").render_as_string(hide_password=False)
    if sqlite_path(text) != path:  # SQLAlchemy before 2.1 escapes no "?"
        raise StorageError(f"{path} cannot be used in a URL", "rename the file or its folder")
    return text


def _absolute_path(name: str) -> Path:
    # NOTE: `Path.resolve` would follow symbolic links.
    return Path(os.path.abspath(Path(name.removeprefix("file:")).expanduser()))  # noqa: PTH100


def _with_driver(url: str) -> str:
    """Name the installed driver in a `postgresql://` URL: psycopg2, or without it psycopg 3."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgres", "postgresql"):
        return url
    driver = "psycopg2" if importlib.util.find_spec("psycopg2") else "psycopg"
    return f"postgresql+{driver}://{rest}"
