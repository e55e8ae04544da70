"""Recommend items or predict ratings for every row of a file, block by block, in bounded memory."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from mtsearch.errors import RequestError
from mtsearch.files import replace_atomically
from mtsearch.serving.model import ServedModel
from mtsearch.serving.requests import check_k, find_id_problem
from mtsearch.study_file.sections import find_aliases
from mtsearch.text import quote_id

_SCORES_AT_ONCE = 1 << 22  # number of scores: 16 MiB of float32; TensorFlow holds a few such blocks
_PAIRS_AT_ONCE = 1 << 13

_RECOMMENDED = pa.schema({
    "user": pa.string(), "known": pa.bool_(), "rank": pa.int32(), "item": pa.string(), "title": pa.string(),
    "rating": pa.float32(), "score": pa.float32(),
})  # fmt: skip
_PREDICTED = pa.schema({
    "user": pa.string(), "item": pa.string(), "rating": pa.float32(),
    "known_user": pa.bool_(), "known_item": pa.bool_(),
})  # fmt: skip


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
    model: Callable[[], ServedModel], source: Path, output: Path, k: int, exclude_seen: bool
) -> BulkCount:
    """Write the best k items of each user of a file, one row per item: `user known rank item title rating score`.

    Args:
        model: gives the model, after the files were looked at.
        source: CSV, TSV or Parquet; the users are in column `user`, else in one with a usual name, else in the first.
        output: .csv, .parquet or .jsonl.
        k: 1..C; a user has fewer rows if fewer items are left.
        exclude_seen: leave out the items that the user had rated.

    Raises:
        RequestError: a file cannot be read or written, or an id is none.
    """
    check_output(output, source)
    file = IdFile(source, ["user"])
    served = model()
    check_k(k, served.info.catalogue)
    _refuse_missing_header(served, file, ["user"])
    done = BulkCount(file.columns if file.by_place else [])
    users_at_once = max(1, min(1024, _SCORES_AT_ONCE // served.info.catalogue))

    def tables() -> Iterator[dict[str, Any]]:
        """Yield the columns of the output, one block of users at a time."""
        for (users,) in file.blocks(users_at_once):
            found = served.recommend(users, k, exclude_seen)
            done.read += len(users)
            done.unknown += int((~found.known).sum())
            row, rank = np.nonzero(found.items != "")
            yield {
                "user": np.array(users, object)[row],
                "known": found.known[row],
                "rank": (rank + 1).astype(np.int32),
                "item": found.items[row, rank],
                "title": found.titles[row, rank],
                "rating": found.ratings[row, rank],
                "score": found.scores[row, rank],
            }

    done.written = write_tables(output, _RECOMMENDED, tables())
    return done


def predict_file(model: Callable[[], ServedModel], source: Path, output: Path) -> BulkCount:
    """Write the rating of each pair of a file, one row per pair: `user item rating known_user known_item`.

    Args:
        model: gives the model, after the files were looked at.
        source: CSV, TSV or Parquet; columns `user` and `item`, else with usual names, else the first two.
        output: .csv, .parquet or .jsonl.

    Raises:
        RequestError: a file cannot be read or written, or an id is none.
    """
    check_output(output, source)
    file = IdFile(source, ["user", "item"])
    served = model()
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
                "rating": found.ratings,
                "known_user": found.known_users,
                "known_item": found.known_items,
            }

    done.written = write_tables(output, _PREDICTED, tables())
    return done


def _refuse_missing_header(model: ServedModel, file: IdFile, names: list[str]) -> None:
    """Refuse a file whose first line is a known user: it would be read as the header, and that user be lost."""
    first = file.columns[0].strip()
    if file.by_place and not find_id_problem(first) and model.recommend([first], 1).known[0]:
        header = ",".join(names)
        raise RequestError(f"{file.path} has no header line: its first line has the user {quote_id(first)}",
                           f"add the header line {header}")  # fmt: skip


_BLOCK_BYTES = 4 << 20
_READ_AS = "a CSV file with a header line, or Parquet"
_DELIMITED = (".csv", ".tsv", ".txt")
_PACKED = ".gz"
_COLUMNS = ("user", "item")


class Writer(Protocol):
    """A writer of tables of one schema, one block at a time."""

    def write(self, table: pa.Table) -> None:
        """Append the rows of a table."""

    def close(self) -> None:
        """Finish the file."""


class IdFile:
    """The ids of a CSV or TSV file (with a header line, possibly gzipped) or of a Parquet file, by its suffix.

    Attributes:
        columns: the column found for each name.
        by_place: True if they are the first columns, because no column has a usual name for a user or an item.

    Args:
        path: file to read.
        names: columns to read, `user` or `item`; a column of that name is preferred to one with a usual name for it.

    Raises:
        RequestError: the file cannot be read, or its columns are not clear.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        name = path.name.lower()
        self._is_packed = name.endswith(_PACKED)
        self._kind = Path(name.removesuffix(_PACKED)).suffix
        self._is_parquet = self._kind == ".parquet" and not self._is_packed
        if not self._is_parquet and self._kind not in _DELIMITED:
            known = f"{', '.join(_DELIMITED)} (or one of these with {_PACKED}) or .parquet"
            raise RequestError(f"{path} cannot be read: its name does not end in {known}", f"give {_READ_AS}")
        with self._translate_errors():
            self._separator = "" if self._is_parquet else self._find_separator()
            header = self._read_header()
        found = [self._find_column(header, name) for name in names]
        # Columns are taken by their place only if no header name is usual for a user or an item.
        self.by_place = not any(found) and not any(find_aliases(header, other) for other in _COLUMNS)
        self.columns = self._first_columns(header, names) if self.by_place else self._require_columns(found, names)

    def blocks(self, rows: int) -> Iterator[list[list[str]]]:
        """Yield the id columns of at most `rows` rows at a time, without blanks around the ids.

        Raises:
            RequestError: the file cannot be read, or a value is no id; the error names the row (1 is below the header).
        """
        before = 0
        with self._translate_errors():
            for batch in self._batches():
                for start in range(0, batch.num_rows, rows):
                    block = batch.slice(start, rows)
                    yield [self._parse_ids(block.column(name), name, before) for name in self.columns]
                    before += block.num_rows

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the id columns as they are read from the file."""
        if self._is_parquet:
            with pa.parquet.ParquetFile(self.path) as file:
                yield from file.iter_batches(1 << 16, columns=self.columns)
            return
        types = dict.fromkeys(self.columns, pa.string())
        with self._open_csv(pa.csv.ConvertOptions(column_types=types, include_columns=self.columns)) as reader:
            yield from reader

    def _read_header(self) -> list[str]:
        """Return the names of all columns of the file."""
        names: list[str]
        if self._is_parquet:
            names = pa.parquet.read_schema(self.path).names
            return names
        with self._open_csv(pa.csv.ConvertOptions()) as reader:
            names = reader.schema.names
        return names

    def _find_separator(self) -> str:
        """Return the separator: a tab in .tsv files; else a comma, or a semicolon or tab if the header has no comma."""
        if self._kind == ".tsv":
            return "\t"
        with self._open_bytes() as file:
            begin = file.read(_BLOCK_BYTES)
        line = re.split(rb"[\r\n]", begin.lstrip(b"\xef\xbb\xbf\r\n"), maxsplit=1)[0]
        return "," if b"," in line else next((each for each in ";\t" if each.encode() in line), ",")

    @contextmanager
    def _open_csv(self, convert: pa.csv.ConvertOptions) -> Iterator[pa.csv.CSVStreamingReader]:
        """Open the file as CSV, to be read block by block."""
        read, form = pa.csv.ReadOptions(block_size=_BLOCK_BYTES), pa.csv.ParseOptions(delimiter=self._separator)
        with self._open_bytes() as file, pa.csv.open_csv(file, read, form, convert) as reader:
            yield reader

    def _open_bytes(self) -> pa.NativeFile:
        """Open the file as bytes, unpacked if it is gzipped."""
        return pa.input_stream(str(self.path), compression="gzip" if self._is_packed else None)

    def _parse_ids(self, column: pa.Array, name: str, before: int) -> list[str]:
        """Return the values of a column as ids; in a Parquet file they may be whole numbers."""
        if not (pa.types.is_integer(column.type) or pa.types.is_string(column.type)
                or pa.types.is_large_string(column.type)):  # fmt: skip
            raise RequestError(
                f"{self.path}: column {name!r} has values of type {column.type}, which are not ids", "write ids as text"
            )
        values: list[str] = pc.utf8_trim_whitespace(column.cast(pa.string())).fill_null("").to_pylist()
        for row, value in enumerate(values, before + 1):
            problem = find_id_problem(value)
            if problem:
                raise RequestError(f"{self.path}: row {row}: {name} {quote_id(value)} {problem}", "correct that row")
        return values

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

    def _first_columns(self, header: Sequence[str], names: Sequence[str]) -> list[str]:
        """Return the first columns, one for each name."""
        if len(header) < len(names) or len(set(header)) < len(header):
            raise self._missing_column_error(names[0], names)
        return list(header[: len(names)])

    def _require_columns(self, found: Sequence[str | None], names: Sequence[str]) -> list[str]:
        """Return the columns found for the names, and refuse the file if one is missing."""
        columns: list[str] = []
        for column, name in zip(found, names, strict=True):
            if column is None:
                raise self._missing_column_error(name, names)
            columns.append(column)
        return columns

    def _missing_column_error(self, name: str, names: Sequence[str]) -> RequestError:
        """Make the error for a missing column."""
        return RequestError(f"{self.path}: column {name!r} is missing", f"change its header line to {','.join(names)}")

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Turn errors of reading inside the context into request errors that name the file."""
        try:
            yield
        except UnicodeDecodeError:
            raise RequestError(f"{self.path} is not UTF-8 text", f"give {_READ_AS}") from None
        except pa.ArrowInvalid as error:
            raise RequestError(f"{self.path} cannot be read: {_describe_error(error)}", f"give {_READ_AS}") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else _describe_error(error)
            remedy = "check the path and its rights" if error.errno else f"give {_READ_AS}"
            raise RequestError(f"{self.path} cannot be read: {reason}", remedy) from None


def _describe_error(error: Exception) -> str:
    """Describe an error of pyarrow in a few words."""
    text = str(error)
    if "Empty CSV" in text:
        return "it is empty"
    if "invalid UTF8" in text:
        return "it is not UTF-8 text"
    if "zlib" in text or "compressed stream" in text:
        return "it is not a complete gzip file"
    if "straddling" in text:
        return f"a row is longer than {_BLOCK_BYTES >> 20} MiB"
    return text.splitlines()[0][:200]


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
        tables: columns by name, one mapping per table.

    Raises:
        RequestError: the file cannot be written.
    """
    rows = 0
    try:
        with replace_atomically(path) as aside, closing(WRITERS[path.suffix.lower()](str(aside), schema)) as writer:
            for columns in tables:
                table = pa.table(columns, schema)
                writer.write(table)
                rows += table.num_rows
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RequestError(f"cannot write {quote_id(str(path))}: {reason}", "name another place with -o") from None
    return rows
