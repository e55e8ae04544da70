"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from platformdirs import user_cache_path

from mtsearch.errors import MachineError


def cache_folder() -> Path:
    """The folder of what can be made again: `MTSEARCH_CACHE`, else the user's cache folder."""
    folder = os.environ.get("MTSEARCH_CACHE")
    return Path(folder).expanduser().absolute() if folder else user_cache_path("mtsearch")


def obstacle(target: Path) -> Path | None:
    """What keeps this user from making `target` or its folders: the nearest parent that is there; None where nothing.

    Raises:
        OSError: a parent may not be looked into.
    """
    parent = next(parent for parent in target.parents if parent.exists())
    return None if parent.is_dir() and may(parent, os.W_OK | os.X_OK) else parent


def may(path: Path, mode: int) -> bool:
    """`os.access` of the user that this process acts as."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write to; the file is renamed to `target` at the end, or removed after an error.

    Others see the old file or the new one, never a part of it.
    """
    aside = target.with_name(f".{target.stem[:100]}.{os.getpid()}-{token_hex(4)}{target.suffix[:20]}")
    try:
        yield aside
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(target: Path, content: bytes) -> None:
    """Write a file whole or not at all; its folders are made.

    Raises:
        MachineError: the folder cannot be made or the file written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(target) as aside:
            aside.write_bytes(content)
    except OSError as error:
        problem = f"cannot write {target}: {error.strerror or error}"
        raise MachineError(problem, "name a place that can be written with -o") from error
