"""What was read once, kept as one Arrow file that loads in milliseconds; verified, never trusted."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from mtsearch.data.interactions import Codes, Ids, Interactions, Rows, id_bytes
from mtsearch.files import cache_folder, written_aside

logger = logging.getLogger("mtsearch")

_FORM = 1


def file_of(source: str) -> Path:
    """Where the data of a named source is kept."""
    return cache_folder() / f"{source.replace('/', '-')}.arrow"


def read(path: Path, source: str) -> Interactions | None:
    """What `store` or `keep` put there for `source`; None, with a log line, where it is not what it was."""
    import pyarrow as pa

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("data: the cache %s cannot be read (%s)", path, error.strerror)
        return None
    try:
        return _verified(_opened(content), source)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("data: the cache %s is damaged (%s) and is made again", path, type(error).__name__)
        return None


def keep(path: Path, source: str, interactions: Interactions) -> None:
    """Store, or say in a warning why not: the data is as good without."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store(path, source, interactions)
    except OSError as error:
        logger.warning(
            "data: not kept in %s (%s); set MTSEARCH_CACHE to a folder that can be written", path, error.strerror
        )


def store(path: Path, source: str, interactions: Interactions) -> None:
    """Write the file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    import pyarrow as pa

    table = _table(source, interactions)
    with (
        written_aside(path) as aside,
        pa.OSFile(str(aside), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table)


def _table(source: str, interactions: Interactions) -> Any:
    import pyarrow as pa

    rows, catalogue = interactions.rows, interactions.catalogue
    label = {
        "form": _FORM,
        "source": source,
        "fingerprint": interactions.fingerprint,
        "checksum": _checksum(interactions),
        "catalogue": None if catalogue is None else catalogue.tolist(),
    }
    columns = {
        "user": pa.DictionaryArray.from_arrays(rows.users, pa.array(interactions.user_ids, pa.string())),
        "item": pa.DictionaryArray.from_arrays(rows.items, pa.array(interactions.item_ids, pa.string())),
        "rating": pa.array(rows.ratings),
        "timestamp": pa.array(rows.timestamps),
    }
    return pa.table(columns).replace_schema_metadata({"mtsearch": json.dumps(label)})


def _opened(content: bytes) -> Any:
    """The table of a file, whose every offset and index is checked: Arrow itself would follow them anywhere."""
    import pyarrow as pa

    with pa.ipc.open_file(pa.BufferReader(content)) as reader:
        table = reader.read_all()
    table.validate(full=True)
    ids = pa.dictionary(pa.int32(), pa.string())
    if [*table.schema.names, *table.schema.types] != [
        *("user", "item", "rating", "timestamp"),
        *(ids, ids, pa.float32(), pa.int64()),
    ]:
        raise ValueError("columns")
    return table.combine_chunks()


def _verified(table: Any, source: str) -> Interactions:
    label = json.loads(table.schema.metadata[b"mtsearch"])
    (user_ids, users), (item_ids, items) = (_decoded(table.column(index).chunk(0)) for index in (0, 1))
    ratings, timestamps = (table.column(index).chunk(0).to_numpy() for index in (2, 3))
    catalogue = None if label["catalogue"] is None else np.array(label["catalogue"], np.int32)
    interactions = Interactions(user_ids, item_ids, Rows(users, items, ratings, timestamps), catalogue)
    expected = {
        "form": _FORM,
        "source": source,
        "fingerprint": interactions.fingerprint,
        "checksum": _checksum(interactions),
    }
    for key, value in expected.items():
        if label[key] != value:
            raise ValueError(key)
    return interactions


def _decoded(column: Any) -> tuple[Ids, Codes]:
    ids = np.array(column.dictionary.to_pylist(), np.object_)
    ids.flags.writeable = False
    return ids, column.indices.to_numpy()


def _checksum(interactions: Interactions) -> str:
    """SHA-256 (hex) of what the fingerprint leaves out: ids without rows, and the catalogue."""
    hasher = hashlib.sha256(id_bytes(interactions.user_ids) + id_bytes(interactions.item_ids))
    if interactions.catalogue is not None:
        hasher.update(interactions.catalogue.astype("<i4").tobytes())
    return hasher.hexdigest()
