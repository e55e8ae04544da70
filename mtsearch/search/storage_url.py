"""Where a storage is: what the user wrote as one absolute URL, and how it may be shown to people."""

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

_PROXY, _PROXY_PORT = "grpc", 13000  # the port is Optuna's default

_SUFFIXES = (".db", ".sqlite", ".sqlite3")
_FORMS = "give a path ending in .db, or an URL such as postgresql://USER@HOST/NAME"
_SECRET_KEY = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)
# NOTE: greedy up to the last "@", because an unescaped "@" in a password ends it early for every parser.
_PASSWORD = re.compile(r"(://[^:/@]*):.*@", re.DOTALL)
_QUERY_SECRET = re.compile(r"([?&][^=&]*(?:pass|pwd|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)
# WAL needs memory shared between the processes of one machine; these are file systems of several.
_NETWORK = re.compile(r"nfs|cifs|smb|lustre|ceph|gluster|beegfs|gpfs|afs$|orangefs|pvfs|sshfs|s3fs|rclone")


def resolve_url(url: str | PathLike[str] | None) -> str:
    """The absolute URL of a storage: `url`, else the environment's MTSEARCH_STORAGE, else studies/mtsearch.db here.

    Args:
        url: an SQLAlchemy URL, or the path of an SQLite file (.db, .sqlite, .sqlite3).

    Raises:
        StorageError: it is neither, or lies in memory.
    """
    # NOTE: an empty text is a mistake, as of an unset variable of a shell, and must not name another storage.
    text = (os.environ.get(ENVIRONMENT) or DEFAULT) if url is None else os.fspath(url)
    if not text.strip():
        raise StorageError("an empty text names no storage", _FORMS)
    if "://" not in text:
        if not text.endswith(_SUFFIXES):
            raise StorageError(f"{masked(text)} names no storage", _FORMS)
        return _absolute(URL.create("sqlite", database=text))
    if sqlite_path(text) is not None:
        return _absolute(make_url(text))
    return _with_driver(text)


def masked(url: str) -> str:
    """The storage as people may see it: the path of an SQLite file, any other URL without its secrets."""
    try:
        path = sqlite_path(url)
    except StorageError:
        path = None
    if path is not None:
        return str(path)
    return _QUERY_SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))


def without_secrets(text: str, url: str) -> str:
    """`text`, a driver's message, with every secret of `url` blotted out."""
    parsed = make_url(url)
    secrets = [value for key, value in parsed.query.items() if _SECRET_KEY.search(key) and isinstance(value, str)]
    for secret in [parsed.password, *secrets]:
        if secret:
            text = text.replace(secret, "***")
    return text


def sqlite_path(url: str) -> Path | None:
    """The absolute path of an SQLite database; None for every other kind.

    Raises:
        StorageError: the URL cannot be parsed, or names an SQLite database in memory.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        # NOTE: without the URL, which may hold a password in a place that no pattern foresees.
        raise StorageError("the storage URL cannot be parsed", _FORMS) from error
    if parsed.get_backend_name() != "sqlite":
        return None
    if not parsed.database or ":memory:" in parsed.database:
        raise StorageError("an SQLite database in memory is gone with its process", _FORMS)
    return _absolute_path(parsed.database)


def proxy_address(url: str) -> tuple[str, int] | None:
    """Host and port of Optuna's gRPC proxy; None for every other kind.

    Raises:
        StorageError: the URL cannot be parsed.
    """
    if not url.startswith(f"{_PROXY}://"):
        return None
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StorageError("the storage URL cannot be parsed", _FORMS) from error
    return parsed.host or "localhost", parsed.port or _PROXY_PORT


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the network file system that `path` lies on; None on a local one or where nobody can tell.

    Args:
        path: need not exist yet.
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


def _absolute(url: URL) -> str:
    name = url.database or ""
    scheme = "file:" if name.startswith("file:") else ""
    path = _absolute_path(name)
    text = url.set(database=f"{scheme}{path}").render_as_string(hide_password=False)
    if sqlite_path(text) != path:  # SQLAlchemy before 2.1 escapes no "?"
        raise StorageError(f"{path} cannot be written as an URL", "rename the file or its folder")
    return text


def _absolute_path(name: str) -> Path:
    # NOTE: resolve() would follow symbolic links.
    return Path(os.path.abspath(Path(name.removeprefix("file:")).expanduser()))  # noqa: PTH100


def _with_driver(url: str) -> str:
    """`postgresql://` means psycopg2 to SQLAlchemy; where that is absent, psycopg 3 is meant."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgres", "postgresql"):
        return url
    driver = "psycopg2" if importlib.util.find_spec("psycopg2") else "psycopg"
    return f"postgresql+{driver}://{rest}"
