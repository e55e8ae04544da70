"""Write files as a whole or not at all, find the cache folder, and check permissions."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from platformdirs import user_cache_path

from mtsearch.errors import MachineError


def cache_folder() -> Path:
    """Return the folder for files that can be made again: `MTSEARCH_CACHE`, else the user's cache folder."""
    folder = os.environ.get("MTSEARCH_CACHE")
    return Path(folder).expanduser().absolute() if folder else user_cache_path("mtsearch")


def find_obstacle(target: Path) -> Path | None:
    """Return the nearest existing parent of `target` if it prevents this user from making `target`, else None.

    Raises:
        OSError: this user may not look into a parent.
    """
    parent = next(parent for parent in target.parents if parent.exists())
    return None if parent.is_dir() and has_access(parent, os.W_OK | os.X_OK) else parent


def has_access(path: Path, mode: int) -> bool:
    """Tell whether the effective user of this process has access to a path, as `os.access` does."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


@contextmanager
def replace_atomically(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; its file replaces `target` at the end, or is removed after an error.

    Other processes see the old file or the new one, never a part of it.
    """
    aside = target.with_name(f".{target.stem[:100]}.{os.getpid()}-{token_hex(4)}{target.suffix[:20]}")
    try:
        yield aside
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def write_atomically(target: Path, content: bytes) -> None:
    """Write a file as a whole or not at all, and make its folders.

    Raises:
        MachineError: the folder or the file cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(target) as aside:
            aside.write_bytes(content)
    except OSError as error:
        problem = f"cannot write {target}: {error.strerror or error}"
        raise MachineError(problem, "choose a place that can be written with -o") from error
