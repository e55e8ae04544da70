"""Files of ids in, files of answers out, a block at a time: memory does not grow with the file."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from mtsearch.errors import RequestError
from mtsearch.serving.requests import problem_of, shown

_BLOCK_BYTES = 4 << 20
_READ_AS = "a CSV file with a header line, or Parquet"


class Writer(Protocol):
    """Takes tables of one schema, a block at a time."""

    def write(self, table: pa.Table) -> None:
        """Append the rows."""

    def close(self) -> None:
        """Finish the file."""


class IdFile:
    """The ids of a CSV (with a header line) or Parquet file, by its suffix.

    Attributes:
        columns: what was found for each of the names asked for; not the name itself where the place decided.

    Args:
        path: to read.
        names: columns to read; where a file has none of them, its first columns are taken.

    Raises:
        RequestError: the file cannot be read, or has no such columns.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        with self._refusing():
            header = pa.parquet.read_schema(path).names if self._is_parquet else _csv_header(path)
        self.columns = self._chosen(header, names)

    def blocks(self, rows: int) -> Iterator[list[list[str]]]:
        """The columns of at most `rows` rows at a time.

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

    @property
    def _is_parquet(self) -> bool:
        return self.path.suffix.lower() == ".parquet"

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self._is_parquet:
            with pa.parquet.ParquetFile(self.path) as file:
                yield from file.iter_batches(1 << 16, columns=self.columns)
            return
        types = dict.fromkeys(self.columns, pa.string())
        convert = pa.csv.ConvertOptions(column_types=types, include_columns=self.columns)
        with pa.csv.open_csv(self.path, pa.csv.ReadOptions(block_size=_BLOCK_BYTES), convert_options=convert) as reader:
            yield from reader

    def _texts(self, column: pa.Array, name: str, before: int) -> list[str]:
        """The values as ids; in a Parquet file they may be whole numbers."""
        if not (pa.types.is_integer(column.type) or pa.types.is_string(column.type)
                or pa.types.is_large_string(column.type)):  # fmt: skip
            raise RequestError(f"{self.path}: column {name!r} holds {column.type}, no ids", "write ids as text")
        values: list[str] = column.cast(pa.string()).fill_null("").to_pylist()
        for row, value in enumerate(values, before + 1):
            problem = problem_of(value)
            if problem:
                raise RequestError(f"{self.path}: row {row}: {name} {shown(value)} {problem}", "mend that row")
        return values

    def _chosen(self, header: Sequence[str], names: Sequence[str]) -> list[str]:
        found = [name for name in names if header.count(name) == 1]
        if len(found) == len(names):
            return found
        missing = next(name for name in names if name not in found)
        remedy = f"write its header line as {','.join(names)}"
        if found or len(header) < len(names) or len(set(header)) < len(header):
            problem = "is there twice" if missing in header else "is missing"
            raise RequestError(f"{self.path}: column {missing!r} {problem}", remedy)
        return list(header[: len(names)])

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
            raise RequestError(f"{self.path} cannot be read: {reason}", "check the path and its rights") from None


def _csv_header(path: Path) -> list[str]:
    with pa.csv.open_csv(path, pa.csv.ReadOptions(block_size=_BLOCK_BYTES)) as reader:
        names: list[str] = reader.schema.names
    return names


def _reason(error: Exception) -> str:
    text = str(error)
    if "Empty CSV" in text:
        return "it is empty"
    if "invalid UTF8" in text:
        return "it is not UTF-8 text"
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
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    rows = 0
    try:
        writer = WRITERS[path.suffix.lower()](str(aside), schema)
        try:
            for columns in tables:
                table = pa.table(columns, schema)
                writer.write(table)
                rows += table.num_rows
        finally:
            writer.close()
        aside.replace(path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RequestError(f"cannot write {shown(str(path))}: {reason}", "name another place with -o") from None
    finally:
        aside.unlink(missing_ok=True)
    return rows
