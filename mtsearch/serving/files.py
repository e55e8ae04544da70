"""Files of ids in, files of answers out, a block at a time: memory does not grow with the file."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from mtsearch.errors import RequestError
from mtsearch.files import written_aside
from mtsearch.serving.requests import problem_of, shown
from mtsearch.study_file.usual_names import usual_places

_BLOCK_BYTES = 4 << 20
_READ_AS = "a CSV file with a header line, or Parquet"
_DELIMITED = (".csv", ".tsv", ".txt")
_PACKED = ".gz"
_COLUMNS = ("user", "item")


class Writer(Protocol):
    """Takes tables of one schema, a block at a time."""

    def write(self, table: pa.Table) -> None:
        """Append the rows."""

    def close(self) -> None:
        """Finish the file."""


class IdFile:
    """The ids of a CSV or TSV file (with a header line, perhaps gzipped) or of a Parquet file, by its suffix.

    Attributes:
        columns: what was found for each of the names asked for.
        by_place: whether they are the first columns, since none has a usual name for a user or an item.

    Args:
        path: to read.
        names: columns to read, `user` or `item`; a column of that name goes before one of a name that is usual for it.

    Raises:
        RequestError: the file cannot be read, or does not tell the columns.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        name = path.name.lower()
        self._is_packed = name.endswith(_PACKED)
        self._kind = Path(name.removesuffix(_PACKED)).suffix
        self._is_parquet = self._kind == ".parquet" and not self._is_packed
        if not self._is_parquet and self._kind not in _DELIMITED:
            known = f"{', '.join(_DELIMITED)} (each also with {_PACKED} behind it), .parquet"
            raise RequestError(f"{path} cannot be read: its name ends in none of {known}", f"give {_READ_AS}")
        with self._refusing():
            self._separator = "" if self._is_parquet else self._separator_of_header()
            header = self._header()
        found = [self._named(header, name) for name in names]
        self.by_place = not any(found) and not any(usual_places(header, other) for other in _COLUMNS)
        self.columns = self._first(header, names) if self.by_place else self._all(found, names)

    def blocks(self, rows: int) -> Iterator[list[list[str]]]:
        """The columns of at most `rows` rows at a time, without the blanks around ids.

        Raises:
            RequestError: the file cannot be read, or a value is no id; it names the row, 1-based below the header.
        """
        before = 0
        with self._refusing():
            for batch in self._batches():
                for start in range(0, batch.num_rows, rows):
                    block = batch.slice(start, rows)
                    yield [self._texts(block.column(name), name, before) for name in self.columns]
                    before += block.num_rows

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self._is_parquet:
            with pa.parquet.ParquetFile(self.path) as file:
                yield from file.iter_batches(1 << 16, columns=self.columns)
            return
        types = dict.fromkeys(self.columns, pa.string())
        with self._opened_csv(pa.csv.ConvertOptions(column_types=types, include_columns=self.columns)) as reader:
            yield from reader

    def _header(self) -> list[str]:
        names: list[str]
        if self._is_parquet:
            names = pa.parquet.read_schema(self.path).names
            return names
        with self._opened_csv(pa.csv.ConvertOptions()) as reader:
            names = reader.schema.names
        return names

    def _separator_of_header(self) -> str:
        """A tab in .tsv; else a comma, or what spreadsheets write where the comma is for decimals."""
        if self._kind == ".tsv":
            return "\t"
        with self._unpacked() as file:
            begin = file.read(_BLOCK_BYTES)
        line = re.split(rb"[\r\n]", begin.lstrip(b"\xef\xbb\xbf\r\n"), maxsplit=1)[0]
        return "," if b"," in line else next((each for each in ";\t" if each.encode() in line), ",")

    @contextmanager
    def _opened_csv(self, convert: pa.csv.ConvertOptions) -> Iterator[pa.csv.CSVStreamingReader]:
        read, form = pa.csv.ReadOptions(block_size=_BLOCK_BYTES), pa.csv.ParseOptions(delimiter=self._separator)
        with self._unpacked() as file, pa.csv.open_csv(file, read, form, convert) as reader:
            yield reader

    def _unpacked(self) -> pa.NativeFile:
        return pa.input_stream(str(self.path), compression="gzip" if self._is_packed else None)

    def _texts(self, column: pa.Array, name: str, before: int) -> list[str]:
        """The values as ids; in a Parquet file they may be whole numbers."""
        if not (pa.types.is_integer(column.type) or pa.types.is_string(column.type)
                or pa.types.is_large_string(column.type)):  # fmt: skip
            raise RequestError(f"{self.path}: column {name!r} holds {column.type}, no ids", "write ids as text")
        values: list[str] = pc.utf8_trim_whitespace(column.cast(pa.string())).fill_null("").to_pylist()
        for row, value in enumerate(values, before + 1):
            problem = problem_of(value)
            if problem:
                raise RequestError(f"{self.path}: row {row}: {name} {shown(value)} {problem}", "mend that row")
        return values

    def _named(self, header: Sequence[str], name: str) -> str | None:
        """The column of that name, else of one that is usual for it, if there is any.

        Raises:
            RequestError: several may be meant.
        """
        places = [place for place, each in enumerate(header) if each == name] or usual_places(header, name)
        if len(places) > 1:
            one, other = (header[place] for place in places[:2])
            both = f"{shown(one)} and {shown(other)} may both be the {name}"
            problem = f"column {shown(one)} is there twice" if one == other else both
            raise RequestError(f"{self.path}: {problem}", f"call only one of them {name}")
        return header[places[0]] if places else None

    def _first(self, header: Sequence[str], names: Sequence[str]) -> list[str]:
        if len(header) < len(names) or len(set(header)) < len(header):
            raise self._missing(names[0], names)
        return list(header[: len(names)])

    def _all(self, found: Sequence[str | None], names: Sequence[str]) -> list[str]:
        columns: list[str] = []
        for column, name in zip(found, names, strict=True):
            if column is None:
                raise self._missing(name, names)
            columns.append(column)
        return columns

    def _missing(self, name: str, names: Sequence[str]) -> RequestError:
        return RequestError(f"{self.path}: column {name!r} is missing", f"write its header line as {','.join(names)}")

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError:
            raise RequestError(f"{self.path} is not UTF-8 text", f"give {_READ_AS}") from None
        except pa.ArrowInvalid as error:
            raise RequestError(f"{self.path} cannot be read: {_reason(error)}", f"give {_READ_AS}") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else _reason(error)
            remedy = "check the path and its rights" if error.errno else f"give {_READ_AS}"
            raise RequestError(f"{self.path} cannot be read: {reason}", remedy) from None


def _reason(error: Exception) -> str:
    text = str(error)
    if "Empty CSV" in text:
        return "it is empty"
    if "invalid UTF8" in text:
        return "it is not UTF-8 text"
    if "zlib" in text or "compressed stream" in text:
        return "it is not a whole gzip file"
    if "straddling" in text:
        return f"a row is longer than {_BLOCK_BYTES >> 20} MiB"
    return text.splitlines()[0][:200]


class _JsonLines:
    """One JSON object a line."""

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
"""By suffix."""


def check_output(path: Path, source: Path) -> None:
    """Refuse what cannot be written before anything is computed.

    Raises:
        RequestError: the suffix is unknown, the folder missing, or it is the file that is read.
    """
    if path.suffix.lower() not in WRITERS:
        raise RequestError(f"{path} ends in none of {', '.join(WRITERS)}", "name the output by its format")
    if not path.parent.is_dir():
        raise RequestError(f"no folder {path.parent} to write {path.name} into", "make it, or name another")
    if path.is_dir():
        raise RequestError(f"{path} is a folder", "name a file with -o")
    if path.exists() and source.exists() and path.samefile(source):
        raise RequestError(f"{path} is the file that is read", "name another with -o")


def write_tables(path: Path, schema: pa.Schema, tables: Iterator[dict[str, Any]]) -> int:
    """Write tables one after the other beside `path`, and name it so when all are there; the number of rows.

    Args:
        path: ends in one of `WRITERS`; replaced where it exists.
        schema: of every table.
        tables: columns by name.

    Raises:
        RequestError: it cannot be written.
    """
    rows = 0
    try:
        with written_aside(path) as aside, closing(WRITERS[path.suffix.lower()](str(aside), schema)) as writer:
            for columns in tables:
                table = pa.table(columns, schema)
                writer.write(table)
                rows += table.num_rows
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RequestError(f"cannot write {shown(str(path))}: {reason}", "name another place with -o") from None
    return rows
