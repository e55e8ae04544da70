"""Recommend items or make predictions for every row of a file, whose ids are in memory, and write block by block."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from mtsearch.errors import RequestError
from mtsearch.files import replace_atomically
from mtsearch.serving.model import ServedModel
from mtsearch.serving.requests import check_k, find_id_problem
from mtsearch.tables.columns import IDS, MISSING, Codes, Column, Ids, Table, parse_ids
from mtsearch.tables.names import find_aliases
from mtsearch.tables.open import open_table
from mtsearch.tables.paths import parts
from mtsearch.text import quote_id

_SCORES_AT_ONCE = 1 << 22  # number of scores: 16 MiB of float32; TensorFlow holds a few such blocks
_PAIRS_AT_ONCE = 1 << 13


def _recommended_schema(heads: Sequence[str], with_task: bool) -> pa.Schema:
    """Return the columns of recommendations; `with_task`: they are of several tasks."""
    columns = {"user": pa.string(), "known": pa.bool_(), "task": pa.string(), "rank": pa.int32(), "item": pa.string(),
               "title": pa.string(), **dict.fromkeys(heads, pa.float32()), "score": pa.float32()}  # fmt: skip
    return pa.schema({name: type_ for name, type_ in columns.items() if with_task or name != "task"})


def _predicted_schema(heads: Sequence[str]) -> pa.Schema:
    """Return the columns of predictions."""
    return pa.schema({"user": pa.string(), "item": pa.string(), **dict.fromkeys(heads, pa.float32()),
                      "known_user": pa.bool_(), "known_item": pa.bool_()})  # fmt: skip


@dataclass
class BulkCount:
    """The numbers of rows that were read and written.

    Attributes:
        read: rows of the input.
        written: rows of the output.
        unknown: rows of the input with an id that the model was not trained on.
        by_place: columns of the input that were taken for user and item by their place; empty if their names told.
    """

    by_place: list[str]
    read: int = 0
    written: int = 0
    unknown: int = 0


def recommend_file(
    model: Callable[[], ServedModel],
    source: Path,
    output: Path,
    k: int,
    exclude_seen: bool,
    tasks: Sequence[str] = (),
) -> BulkCount:
    """Write the best k items of each user of a file, one row per item.

    Its columns are `user known rank item title`, what each task of ratings and labels predicts, and `score`; of several
    tasks a user has as many lists, told apart by the column `task`.

    Args:
        model: gives the model, after the files were looked at.
        source: a table in any format of a source; the users are in column `user`, else in one with a usual name, else
            in the first.
        output: .csv, .parquet or .jsonl.
        k: 1..C; a user has fewer rows if fewer items are left.
        exclude_seen: leave out the items that the user had in the training rows of the task.
        tasks: of retrieval, to rank by; by default the model's first.

    Raises:
        DataError: the table cannot be read.
        RequestError: the output cannot be written, an id is none, or the model has no such task.
    """
    check_output(output, source)
    file = IdTable(source, ["user"])
    served = model()
    tasks = served.info.find_rankings(tasks)
    check_k(k, served.info.catalogue)
    _refuse_missing_header(served, file, ["user"])
    done = BulkCount(file.columns if file.by_place else [])
    users_at_once = max(1, min(1024, _SCORES_AT_ONCE // served.info.catalogue))

    def tables() -> Iterator[dict[str, Any]]:
        """Yield the columns of the output, one block of users at a time."""
        for (users,) in file.blocks(users_at_once):
            lists = [served.recommend(users, k, exclude_seen, task) for task in tasks]
            known = lists[0].known
            done.read += len(users)
            done.unknown += int((~known).sum())
            items = np.stack([found.items for found in lists], axis=1)
            place = row, task, rank = np.nonzero(items != "")
            columns = {
                "user": np.array(users, object)[row],
                "known": known[row],
                "task": np.array(tasks, object)[task],
                "rank": (rank + 1).astype(np.int32),
                "item": items[place],
                "title": np.stack([found.titles for found in lists], axis=1)[place],
                "score": np.stack([found.scores for found in lists], axis=1)[place],
            }
            for head in served.info.heads:
                columns[head] = np.stack([found.predictions[head] for found in lists], axis=1)[place]
            yield columns

    schema = _recommended_schema(served.info.heads, with_task=len(tasks) > 1)
    done.written = write_tables(output, schema, tables())
    return done


def predict_file(model: Callable[[], ServedModel], source: Path, output: Path) -> BulkCount:
    """Write what is predicted for each pair of a file, one row per pair.

    Its columns are `user item`, one for each task of ratings and labels, and `known_user known_item`.

    Args:
        model: gives the model, after the files were looked at.
        source: a table in any format of a source; columns `user` and `item`, else with usual names, else the first two.
        output: .csv, .parquet or .jsonl.

    Raises:
        DataError: the table cannot be read.
        RequestError: the output cannot be written, an id is none, or the model has no such task.
    """
    check_output(output, source)
    file = IdTable(source, ["user", "item"])
    served = model()
    served.info.require_heads()
    _refuse_missing_header(served, file, ["user", "item"])
    done = BulkCount(file.columns if file.by_place else [])

    def tables() -> Iterator[dict[str, Any]]:
        """Yield the columns of the output, one block of pairs at a time."""
        for users, items in file.blocks(_PAIRS_AT_ONCE):
            found = served.predict(users, items)
            done.read += len(users)
            done.unknown += int((~(found.known_users & found.known_items)).sum())
            yield {
                "user": users,
                "item": items,
                **found.of_tasks,
                "known_user": found.known_users,
                "known_item": found.known_items,
            }

    done.written = write_tables(output, _predicted_schema(served.info.heads), tables())
    return done


def _refuse_missing_header(model: ServedModel, file: IdTable, names: list[str]) -> None:
    """Refuse a file whose first line is a known user: it would be read as the header, and that user be lost."""
    first = file.columns[0].strip()
    if file.by_place and file.has_heading and not find_id_problem(first) and model.knows_user(first):
        header = ",".join(names)
        raise RequestError(f"{file.path} has no header line: its first line has the user {quote_id(first)}",
                           f"add the header line {header}")  # fmt: skip


_COLUMNS = ("user", "item")


class Writer(Protocol):
    """A writer of tables of one schema, one block at a time."""

    def write(self, table: pa.Table) -> None:
        """Append the rows of a table."""

    def close(self) -> None:
        """Finish the file."""


class IdTable:
    """The ids of a table, in any format that a source of data may have.

    Attributes:
        path: path of the file or folder.
        columns: the column found for each name.
        by_place: True if they are the first columns, because no column has a usual name for a user or an item.

    Args:
        path: to be read.
        names: columns to read, `user` or `item`; a column of that name is preferred to one with a usual name for it.

    Raises:
        DataError: the table cannot be read.
        RequestError: its columns are not clear.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self._files = [open_table(part) for part in parts(path)]
        if not self._files:
            raise RequestError(f"{path} has no tables", "name a table of ids")
        header = self._files[0].names
        found = [self._find_column(header, name) for name in names]
        # Columns are taken by their place only if no header name is usual for a user or an item.
        self.by_place = not any(found) and not any(find_aliases(header, other) for other in _COLUMNS)
        columns = header[: len(names)] if self.by_place else [column for column in found if column is not None]
        if len(columns) < len(names) or (self.by_place and len(set(header)) < len(header)):
            missing = next((name for name, column in zip(names, found, strict=True) if column is None), names[0])
            raise RequestError(f"{path}: column {missing!r} is missing", f"change its header line to {','.join(names)}")
        self.columns, self._names = list(columns), names

    @property
    def has_heading(self) -> bool:
        """True if the first line of the file is not among the rows."""
        return not self._files[0].headless

    def blocks(self, rows: int) -> Iterator[list[list[str]]]:
        """Yield the id columns of at most `rows` rows at a time, without blanks around the ids.

        Raises:
            DataError: the table is damaged.
            RequestError: a value is no id; the error names the row (1 is below the header).
        """
        table = Table(self._files, dict(zip(self._names, self.columns, strict=True)), dict.fromkeys(self._names, IDS))
        columns = [_parse_valid_ids(table.column(name)) for name in self._names]
        for start in range(0, table.size, rows):
            yield [ids[codes[start : start + rows]].tolist() for ids, codes in columns]

    def _find_column(self, header: Sequence[str], name: str) -> str | None:
        """Return the column of a name, else one with a usual name for it; None if there is none.

        Raises:
            RequestError: several columns could be the one.
        """
        places = [place for place, each in enumerate(header) if each == name] or find_aliases(header, name)
        if len(places) > 1:
            one, other = (header[place] for place in places[:2])
            both = f"{quote_id(one)} and {quote_id(other)} could both be the {name}"
            problem = f"there are two columns {quote_id(one)}" if one == other else both
            raise RequestError(f"{self.path}: {problem}", f"give only one column the name {name}")
        return header[places[0]] if places else None


def _parse_valid_ids(column: Column) -> tuple[Ids, Codes]:
    """Return the unique ids of a column and `[N]` codes into them; each is one that a model takes."""
    ids, codes = parse_ids(column)
    problems = {MISSING: "is empty"} if (codes == MISSING).any() else {}
    problems |= {code: problem for code, id_ in enumerate(ids) if (problem := find_id_problem(id_))}
    if problems:
        row = int(np.argmax(np.isin(codes, list(problems))))
        id_ = ids[codes[row]] if codes[row] != MISSING else ""
        problem = f"{column.at(row)}: {column.name} {quote_id(id_)} {problems[int(codes[row])]}"
        raise RequestError(problem, "correct that row")
    return ids, codes


class _JsonLines:
    """A writer of one JSON object per line."""

    def __init__(self, place: str, _schema: pa.Schema) -> None:
        self._file = Path(place).open("w", encoding="utf-8")  # noqa: SIM115 - closed by close

    def write(self, table: pa.Table) -> None:
        self._file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())

    def close(self) -> None:
        self._file.close()


WRITERS: Mapping[str, Callable[[str, pa.Schema], Writer]] = {
    ".csv": pa.csv.CSVWriter,
    ".parquet": pa.parquet.ParquetWriter,
    ".jsonl": _JsonLines,
}
"""The writer for each suffix."""


def check_output(path: Path, source: Path) -> None:
    """Refuse an output path that cannot be written, before anything is computed.

    Raises:
        RequestError: the suffix is unknown, the folder is missing, or `path` is the input file.
    """
    if path.suffix.lower() not in WRITERS:
        raise RequestError(f"{path} does not end in {', '.join(WRITERS)}", "choose the format by one of these endings")
    if not path.parent.is_dir():
        raise RequestError(
            f"cannot write {path.name}: there is no folder {path.parent}", "make the folder, or name another one"
        )
    if path.is_dir():
        raise RequestError(f"{path} is a folder", "name a file with -o")
    if path.exists() and source.exists() and path.samefile(source):
        raise RequestError(f"{path} is the input file", "name another file with -o")


def write_tables(path: Path, schema: pa.Schema, tables: Iterator[dict[str, Any]]) -> int:
    """Write tables to a temporary file, rename it to `path` when it is complete, and return the number of rows.

    Args:
        path: ends in one of `WRITERS`; replaced if it exists.
        schema: schema of every table.
        tables: columns by name, at least those of the schema, one mapping per table.

    Raises:
        RequestError: the file cannot be written.
    """
    rows = 0
    try:
        with replace_atomically(path) as aside, closing(WRITERS[path.suffix.lower()](str(aside), schema)) as writer:
            for columns in tables:
                table = pa.table({name: columns[name] for name in schema.names}, schema)
                writer.write(table)
                rows += table.num_rows
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RequestError(f"cannot write {quote_id(str(path))}: {reason}", "name another place with -o") from None
    return rows
