"""Whether the file of a SQLite storage is still there while a study runs on it."""

from mtsearch.errors import StorageError
from mtsearch.search.storage_url import sqlite_path


class DatabaseFile:
    """The file of a SQLite storage as it was when this was made; of other storages nothing.

    NOTE: a connection goes on with a file that was removed, and what it writes is gone with it.

    Args:
        url: of the storage.
    """

    def __init__(self, url: str) -> None:
        self._path = sqlite_path(url)
        self._identity = self._look()

    def require(self) -> None:
        """Go on only where it is still there.

        Raises:
            StorageError: it was removed, or another one has its name.
        """
        if (found := self._look()) != self._identity:
            done = "removed" if found is None else "replaced by another"
            raise StorageError(
                f"{self._path} was {done} while the study ran, and the study with it", "put it back, or run it again"
            )

    def _look(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat() if self._path else None
        except FileNotFoundError:
            return None
        return (status.st_dev, status.st_ino) if status else None
