"""The canonical table of users, items, ratings and times; its fingerprint; and the Arrow file of the cache."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mtsearch.errors import MalformedData
from mtsearch.files import replace_atomically
from mtsearch.metrics import TaskKind
from mtsearch.study_file.tasks import TUTORIAL_TASKS, TaskSection


@dataclass(frozen=True)
class ReadReport:
    """A report of how a source was read, as `mtsearch data` shows it.

    Attributes:
        columns: name in the file of the column for each purpose; empty if the source has a fixed format.
        ignored: names of the other columns.
        feedback: meaning of a row: explicit, binary or count.
        time_unit: unit of the timestamps in the file; empty if it has none.
        rows: number of rows in the source.
        counts: number of rows for each problem and its treatment, described in words; no zeros.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    feedback: str = "explicit"
    time_unit: str = "seconds since 1970"
    rows: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the report in one line."""
        told = [f"{name} = {column!r}" for name, column in self.columns.items()]
        if self.feedback != "explicit":
            told.append(f"{self.feedback} feedback")
        return ", ".join([*told, *(f"{count:,} {what}" for what, count in self.counts.items())])


Codes = NDArray[np.int32]
Ids = NDArray[np.object_]


RATINGS = -1
"""Place of the column of ratings, in place of a number of a target."""


@dataclass(frozen=True)
class Task:
    """A task of the joint model, and which rows it learns from.

    Attributes:
        name: of the task.
        kind: what it learns.
        column: which of `Rows.targets` it learns, `RATINGS`, or None for retrieval of all rows.
    """

    name: str
    kind: TaskKind
    column: int | None


def make_tasks(sections: Mapping[str, TaskSection]) -> tuple[Task, ...]:
    """Return the tasks of a study file; without any, the tutorial's two."""
    tasks: list[Task] = []
    number = 0
    for name, section in (sections or TUTORIAL_TASKS).items():
        if section.where is None and (section.kind == "retrieval" or section.uses_ratings):
            tasks.append(Task(name, section.kind, RATINGS if section.uses_ratings else None))
        else:
            tasks.append(Task(name, section.kind, number))
            number += 1
    return tuple(tasks)


@dataclass(frozen=True, eq=False)
class Rows:
    """The columns of some rows of the table; N rows.

    Attributes:
        users: `[N]` index into `Interactions.user_ids`.
        items: `[N]` index into `Interactions.item_ids`.
        ratings: `[N]` float32, in the units of the source, such as stars; NaN for a row without one.
        timestamps: `[N]` int64, seconds since 1970.
        targets: `[N]` float32 each, what a task of [tasks] learns from the rows; NaN for rows that do not serve it.
        weights: `[N]` float32, factors of the rows' losses; None if all are 1.
    """

    users: Codes
    items: Codes
    ratings: NDArray[np.float32]
    timestamps: NDArray[np.int64]
    targets: tuple[NDArray[np.float32], ...] = ()
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.users)

    @property
    def columns(self) -> list[NDArray[Any]]:
        """All columns: users, items, ratings, timestamps, targets, and the weights if there are some."""
        weights = [] if self.weights is None else [self.weights]
        return [self.users, self.items, self.ratings, self.timestamps, *self.targets, *weights]

    def with_columns(self, columns: Sequence[NDArray[Any]]) -> Self:
        """Return rows with other columns, which are as many as `columns` has."""
        users, items, ratings, timestamps, *further = columns
        weights = None if self.weights is None else further.pop()
        return type(self)(users, items, ratings, timestamps, tuple(further), weights)

    def take(self, index: NDArray[np.intp]) -> Self:
        """Return the rows at `index`, in its order."""
        return self.with_columns([column[index] for column in self.columns])

    def order(self) -> NDArray[np.intp]:
        """Return the index `[N]` that sorts the rows by (user, item, timestamp, rating), then by all other columns."""
        # Codes are ranks of sorted ids, so that their order is that of the ids.
        users, items, ratings, timestamps, *others = self.columns
        return canonical_order(users, items, timestamps, ratings, *others)

    def target(self, task: Task) -> NDArray[np.float32]:
        """Return `[N]`, what a task learns from each row, of retrieval 1; NaN for rows that do not serve it."""
        if task.column is None:
            return np.ones(len(self), np.float32)
        return self.ratings if task.column == RATINGS else self.targets[task.column]

    def serving(self, task: Task) -> Self:
        """Return the rows that serve a task, with its target as their ratings; of retrieval each has 1, or its own."""
        if task.column is None:
            return self
        target = self.target(task)
        served = ~np.isnan(target)
        rows = self if task.column == RATINGS else replace(self, ratings=target)
        return rows if served.all() else rows.take(np.flatnonzero(served))

    def count_serving(self, task: Task) -> int:
        """Count the rows that serve a task, without a copy of them."""
        return len(self) if task.column is None else int(np.count_nonzero(~np.isnan(self.target(task))))

    def sorted(self) -> Self:
        """Return the rows sorted by (user, item, timestamp, rating)."""
        return self.take(self.order())


@dataclass(frozen=True, eq=False)
class Interactions:
    """The canonical form of a source: ids are sorted strings, rows are sorted by (user, item, timestamp, rating).

    Attributes:
        user_ids: `[U]` object array of unique strings, sorted by code point.
        item_ids: `[I]` the same for the items of the rows and of the items file.
        rows: all rows, sorted; the arrays are read-only.
        catalogue: `[C]` sorted codes of the items file; None if the source has no items file.
        titles: `[I]` object array of str, the id for an item without a title; None if no item has a title.
        part: `[N]` 0 to train, 1 to validate, 2 to test, if a column of the table says so; else None.
        report: report of how the source was read.
    """

    user_ids: Ids
    item_ids: Ids
    rows: Rows
    catalogue: Codes | None = None
    titles: Ids | None = None
    part: NDArray[np.int8] | None = None
    report: ReadReport = field(default_factory=ReadReport)

    def __post_init__(self) -> None:
        for array in (self.user_ids, self.item_ids, *self.rows.columns, self.catalogue, self.titles, self.part):
            if array is not None:
                array.flags.writeable = False

    @classmethod
    def from_columns(
        cls,
        users: Sequence[str] | Ids,
        items: Sequence[str] | Ids,
        ratings: NDArray[np.float32],
        timestamps: NDArray[np.int64],
        catalogue: Sequence[str] | Ids | None = None,
    ) -> Self:
        """Make the table from columns with one value per row; the same rows in any order give the same table.

        Args:
            users: `[N]` ids.
            items: `[N]` ids.
            ratings: `[N]` finite, in stars.
            timestamps: `[N]` seconds since 1970.
            catalogue: ids of the items file, repeats allowed; None if the source has no items file.

        Raises:
            MalformedData: the columns differ in length, or a rating is infinite or NaN.
        """
        _require_valid_columns(users, items, ratings, timestamps)
        user_ids, item_ids = _unique_ids(users), _unique_ids(items, () if catalogue is None else catalogue)
        rows = Rows(
            _encode(users, user_ids),
            _encode(items, item_ids),
            # NOTE: adding 0 turns -0.0 into 0.0: equal to the sort, but not to the fingerprint.
            np.asarray(ratings, np.float32) + np.float32(0),
            np.asarray(timestamps, np.int64),
        ).sorted()
        listed = None if catalogue is None else np.unique(_encode(catalogue, item_ids))
        return cls(user_ids, item_ids, rows, listed)

    def with_catalogue(self, ids: Ids, titles: Ids | None = None) -> Self:
        """Return the table with a catalogue of items.

        Args:
            ids: `[C]` unique ids of the items.
            titles: `[C]` titles of the items; None if they have none.
        """
        item_ids = _unique_ids(self.item_ids, ids)
        moved, catalogue = _encode(self.item_ids, item_ids), _encode(ids, item_ids)
        names = None
        if titles is not None:
            names = item_ids.copy()
            names[catalogue] = titles
        rows = replace(self.rows, items=moved[self.rows.items])
        return replace(self, item_ids=item_ids, rows=rows, catalogue=np.sort(catalogue), titles=names)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the table's ids and rows, without the catalogue."""
        return digest(self.user_ids, self.item_ids, [self.rows])


def digest(user_ids: Ids, item_ids: Ids, parts: Sequence[Rows]) -> str:
    """Return the SHA-256 (hex) of the ids in `parts` and then of each part's columns, targets and weights with them.

    Ids without a row change nothing: codes are counted over the ids that are left.
    """
    users, user_rank = _find_used(user_ids, [part.users for part in parts])
    items, item_rank = _find_used(item_ids, [part.items for part in parts])
    hasher = hashlib.sha256(b"mtsearch rows 1\n" + id_bytes(users) + id_bytes(items))
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        users_items = user_rank[part.users], item_rank[part.items]
        for column in (*users_items, *part.columns[2:]):
            little = column.dtype.newbyteorder("<")
            hasher.update(np.ascontiguousarray(column, little).data)
    return hasher.hexdigest()


def id_bytes(ids: Iterable[str]) -> bytes:
    """Return an unambiguous byte form of a list of ids: their number, then length and UTF-8 text of each."""
    encoded = [id_.encode("utf-8", "surrogatepass") for id_ in ids]
    sized = b"".join(len(id_).to_bytes(8, "little") + id_ for id_ in encoded)
    return len(encoded).to_bytes(8, "little") + sized


def _require_valid_columns(
    users: Sequence[str] | Ids, items: Sequence[str] | Ids, *numbers: NDArray[np.generic]
) -> None:
    lengths = [len(users), len(items), *map(len, numbers)]
    if len(set(lengths)) > 1:
        raise MalformedData(
            f"the columns user, item, rating and timestamp have {lengths} values", "give each column one value per row"
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(np.asarray(numbers[0], np.float32))
    if not finite.all():
        row = int(np.argmin(finite))
        raise MalformedData(
            f"row {row + 1}, column rating: {numbers[0][row]} is not finite", "remove or correct the row"
        )


def _unique_ids(*columns: Iterable[str]) -> Ids:
    unique = sorted(set().union(*columns))
    ids = np.empty(len(unique), np.object_)
    ids[:] = unique
    return ids


def _encode(values: Sequence[str] | Ids, ids: Ids) -> Codes:
    """Return `[N]`, the code of each value: its index among the sorted ids."""
    # NOTE: looking 100,000 strings up in a dictionary takes 5 ms, and sorting them 60 ms.
    rank = dict(zip(ids, range(len(ids)), strict=True))
    return np.fromiter(map(rank.__getitem__, values), np.int32, len(values))


def used_ids(ids: Ids, codes: Codes) -> tuple[Ids, Codes]:
    """Return the ids that a column of codes uses, and the column encoded over these ids."""
    used, rank = _find_used(ids, [codes])
    return used, rank[codes]


def _find_used(ids: Ids, columns: Sequence[Codes]) -> tuple[Ids, Codes]:
    """Return the ids that columns of codes use, and for each of `ids` its index among them."""
    used = np.zeros(len(ids), np.bool_)
    for column in columns:
        used[column] = True
    return ids[used], np.cumsum(used, dtype=np.int32) - np.int32(1)


def canonical_order(users: Codes, items: Codes, *then: NDArray[np.generic]) -> NDArray[np.intp]:
    """Return the index `[N]` that sorts rows by user, item and then the further columns; the sort is stable.

    NOTE: pairs are sorted as 64-bit keys, and only the few rows with a repeated pair by the further columns. 25 million
    rows take 8 s unsorted and 1 s sorted, where a lexsort by four columns takes 22 and 11 s.
    """
    key = users.astype(np.int64) << 32 | items
    order = np.argsort(key, kind="stable")
    key = key[order]
    same = key[1:] == key[:-1]
    if same.any():
        twice = np.flatnonzero(np.append(same, False) | np.append(False, same))
        rows = order[twice]
        order[twice] = rows[np.lexsort((*(column[rows] for column in reversed(then)), key[twice]))]
    return order


logger = logging.getLogger("mtsearch")

_ARROW_FORM = 1


def read_arrow(path: Path, source: str) -> Interactions | None:
    """Read the table of `source` that `write_arrow` wrote; None if the file is missing or, with a warning, damaged."""
    import pyarrow as pa

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("data: the cache %s cannot be read (%s)", path, error.strerror)
        return None
    try:
        return _from_arrow(_open_checked(content), source)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("data: the cache %s is damaged (%s); it is made again", path, type(error).__name__)
        return None


def write_arrow(path: Path, source: str, interactions: Interactions) -> None:
    """Write a table of the cache as a whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    import pyarrow as pa

    table = _to_arrow(source, interactions)
    with (
        replace_atomically(path) as aside,
        pa.OSFile(str(aside), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table)


def _to_arrow(source: str, interactions: Interactions) -> Any:
    import pyarrow as pa

    rows, catalogue = interactions.rows, interactions.catalogue
    label = {
        "form": _ARROW_FORM,
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


def _open_checked(content: bytes) -> Any:
    """Open an Arrow file and check all its offsets and indices, which Arrow itself would trust."""
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


def _from_arrow(table: Any, source: str) -> Interactions:
    # The label in the file's metadata must match the content; a ValueError names the first entry that does not.
    label = json.loads(table.schema.metadata[b"mtsearch"])
    (user_ids, users), (item_ids, items) = (_decode(table.column(index).chunk(0)) for index in (0, 1))
    ratings, timestamps = (table.column(index).chunk(0).to_numpy() for index in (2, 3))
    catalogue = None if label["catalogue"] is None else np.array(label["catalogue"], np.int32)
    interactions = Interactions(user_ids, item_ids, Rows(users, items, ratings, timestamps), catalogue)
    expected = {
        "form": _ARROW_FORM,
        "source": source,
        "fingerprint": interactions.fingerprint,
        "checksum": _checksum(interactions),
    }
    for key, value in expected.items():
        if label[key] != value:
            raise ValueError(key)
    return interactions


def _decode(column: Any) -> tuple[Ids, Codes]:
    ids = np.array(column.dictionary.to_pylist(), np.object_)
    ids.flags.writeable = False
    return ids, column.indices.to_numpy()


def _checksum(interactions: Interactions) -> str:
    """Return the SHA-256 (hex) of all ids and the catalogue, which the fingerprint covers only in part."""
    hasher = hashlib.sha256(id_bytes(interactions.user_ids) + id_bytes(interactions.item_ids))
    if interactions.catalogue is not None:
        hasher.update(interactions.catalogue.astype("<i4").tobytes())
    return hasher.hexdigest()
