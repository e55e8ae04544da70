"""Open tables in Parquet, CSV, TSV, JSON Lines and RecBole's atomic files, also gzipped, as Arrow columns."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from mtsearch.errors import MalformedData, SourceUnavailable
from mtsearch.text import quote

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".item": "\t"}
_JSON = (".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
SUFFIXES = (*_PARQUET, *_SEPARATORS, *_JSON)
TYPED = (".inter", ".item")
"""Suffixes of RecBole's files, whose headings also have the type of each column: `user_id:token`."""

_BLOCK_BYTES = 16 * 2**20
_LARGEST_BLOCK = 2**31 - 1
_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)

# NOTE: `csv` refuses fields of more than 131,072 characters, which Arrow reads. The limit is for the whole process.
csv.field_size_limit(_LARGEST_BLOCK)


@dataclass(frozen=True)
class TableFile:
    """An open file with a table.

    Attributes:
        place: path of the file.
        names: names of the columns, in order; a damaged file may have a name twice.
        read: reads the columns of some names. Columns of delimited text are bytes as in the file, without nulls.
    """

    place: str
    names: Sequence[str]
    read: Callable[[Sequence[str]], pa.Table]


def kind_of(path: Path) -> str:
    """Return the suffix that tells the format of a file, without `.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def is_table(path: Path) -> bool:
    """Tell whether a path is a file of a known format, or a folder of Parquet files."""
    return bool(parquet_parts(path)) if path.is_dir() else kind_of(path) in SUFFIXES


def parquet_parts(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder and its subfolders, sorted; names that begin with `.` or `_` are skipped."""
    found = (each.relative_to(folder) for each in folder.rglob("*") if each.suffix.lower() in _PARQUET)
    return [folder / each for each in sorted(found) if not any(part[0] in "._" for part in each.parts)]


def open_table(path: Path) -> TableFile:
    """Open one file with a table.

    Raises:
        SourceUnavailable: the file cannot be read.
        MalformedData: the file is damaged.
    """
    kind = kind_of(path)
    try:
        if kind in _PARQUET:
            return _open_parquet(path)
        content = _read_content(path)
    except OSError as error:
        raise SourceUnavailable(
            f"{path} cannot be read ({error.strerror or error})", "check the path and its permissions"
        ) from error
    if not content.lstrip(b"\r\n \t\0"):  # strip would copy the whole file to remove the last line end
        _refuse(path, "is empty")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        _refuse(path, "is UTF-16 text", "save it as UTF-8")
    return _open_json(path, content) if kind in _JSON else _open_delimited(path, content)


def _read_content(path: Path) -> bytes:
    """Read the bytes of a file, unpacked and without a UTF-8 byte order mark."""
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            _refuse(path, f"is not a complete gzip file ({error})", "copy or download it again")
    return content.removeprefix(b"\xef\xbb\xbf")


def _open_parquet(path: Path) -> TableFile:
    packed = path.suffix.lower() == ".gz"
    source = pa.BufferReader(_read_content(path)) if packed else str(path)
    try:
        file = pq.ParquetFile(source)
    except pa.ArrowException as error:
        _refuse(path, f"is not a complete Parquet file ({_first_line(error)})")

    def read(names: Sequence[str]) -> pa.Table:
        try:
            return file.read(columns=list(names))
        except (pa.ArrowException, OSError) as error:
            _refuse(path, f"is damaged ({_first_line(error)})")

    return TableFile(str(path), file.schema_arrow.names, read)


def _open_json(path: Path, content: bytes) -> TableFile:
    table = _parse_json(path, content, {})

    def read(names: Sequence[str]) -> pa.Table:
        # NOTE: Arrow converts text that looks like a date; the file is parsed again to get the text as it was written.
        dates = {name: pa.string() for name in names if pa.types.is_temporal(table.schema.field(name).type)}
        return (_parse_json(path, content, dates) if dates else table).select(list(names))

    return TableFile(str(path), table.column_names, read)


def _parse_json(path: Path, content: bytes, types: dict[str, pa.DataType]) -> pa.Table:
    options = pa.json.ParseOptions(explicit_schema=pa.schema(list(types.items())) if types else None)
    # A line that is longer than a block is an error of Arrow; the second try takes the file as one block.
    try:
        for size in (_BLOCK_BYTES, _LARGEST_BLOCK):
            try:
                return pa.json.read_json(pa.BufferReader(content), pa.json.ReadOptions(block_size=size), options)
            except pa.ArrowInvalid as error:
                if "straddling" not in str(error) or size == _LARGEST_BLOCK:
                    raise
    except (pa.ArrowException, UnicodeDecodeError) as error:
        _refuse_bad_line(path, content)
        _refuse(path, f"has a column with several types of values ({_first_line(error)})")
    raise AssertionError


def _refuse_bad_line(path: Path, content: bytes) -> None:
    """Refuse the file with the number of the first line that is not a JSON object, if there is one."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            is_object = isinstance(json.loads(line), dict)
        except (ValueError, RecursionError):
            is_object = False
        if not is_object:
            _refuse(path, f"line {number}: {quote(line.decode('utf-8', 'replace'))} is not a JSON object")


def _open_delimited(path: Path, content: bytes) -> TableFile:
    kind = kind_of(path)
    quoted = kind not in TYPED and b'"' in content
    first = content[: 2**20].decode("latin-1")
    separator = _SEPARATORS[kind]
    line = first.partition("\n")[0]
    if kind == ".csv" and "," not in line:  # spreadsheets write `;` in countries with a decimal comma
        separator = next((each for each in ";\t" if each in line), ",")
    form: dict[str, Any] = {"delimiter": separator, "quoting": csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE}
    if quoted and not has_plain_quotes(content, separator):
        _require_closed_quotes(path, content, form)
    try:
        header = next((row for row in csv.reader(io.StringIO(first, newline=""), **form) if row), [])
        names = [name.encode("latin-1").decode("utf-8") for name in header]
    except csv.Error as error:
        _refuse(path, f"its heading cannot be read ({error})")
    except UnicodeDecodeError:
        _refuse(path, "is not UTF-8 text in its heading", "save it as UTF-8")
    options = {"delimiter": separator, "quote_char": '"' if quoted else False, "newlines_in_values": quoted}
    return TableFile(str(path), names, lambda wanted: _parse_csv(path, content, options, wanted))


def has_plain_quotes(content: bytes, separator: str) -> bool:
    """Tell whether all quotes open and close whole fields in turn, so that none is doubled or inside a field.

    NOTE: `csv` takes minutes for 25 million rows; this check takes a second.
    """
    characters = np.frombuffer(content, np.uint8)
    ends = np.zeros(256, np.bool_)
    ends[[ord(separator), ord("\r"), ord("\n")]] = True
    closing = False
    for start in range(0, len(characters), _BLOCK_BYTES):
        quotes = np.flatnonzero(characters[start : start + _BLOCK_BYTES] == ord('"')) + start
        opens, closes = quotes[int(closing) :: 2], quotes[1 - int(closing) :: 2]
        before, after = opens[opens > 0] - 1, closes[closes < len(characters) - 1] + 1
        if not (ends[characters[before]].all() and ends[characters[after]].all()):
            return False
        closing ^= len(quotes) % 2 == 1
    return not closing


def _require_closed_quotes(path: Path, content: bytes, form: dict[str, Any]) -> None:
    """Refuse a file with a quote that is not closed.

    NOTE: Arrow reads such a quote as one field up to the end of the file, without an error.
    """
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(content), "latin-1", newline=""), strict=True, **form)
    begun = 1
    try:
        for _ in reader:
            begun = reader.line_num + 1
    except csv.Error as error:
        _refuse(path, f"line {begun}: a quote is not closed, or something follows it ({error})")


def _parse_csv(path: Path, content: bytes, options: dict[str, Any], wanted: Sequence[str]) -> pa.Table:
    convert = pa.csv.ConvertOptions(
        include_columns=list(wanted), column_types=dict.fromkeys(wanted, pa.binary()), strings_can_be_null=False
    )
    form = pa.csv.ParseOptions(**options)

    def parse(threads: bool, size: int) -> pa.Table:
        read = pa.csv.ReadOptions(use_threads=threads, block_size=size)
        return pa.csv.read_csv(pa.BufferReader(content), read, form, convert)

    # The fast way first; after any error again as one block, since only then Arrow's message has the row's number.
    try:
        return parse(True, _BLOCK_BYTES)
    except (pa.ArrowException, KeyError):
        pass
    try:
        return parse(False, _LARGEST_BLOCK)
    except (pa.ArrowException, KeyError) as error:
        # NOTE: the message is searched because Arrow's handler for such rows fails on text that is not UTF-8.
        ragged = _RAGGED.search(str(error))
        if ragged:
            row, wanted_columns, columns, text = ragged.groups()
            heading = f"but the heading has {wanted_columns}"
            _refuse(path, f"row {int(row) - 1}: {columns} columns, {heading}: {quote(text)}")
        if "cannot infer number of columns" in str(error):
            return pa.table({name: pa.array([], pa.binary()) for name in wanted})
        _refuse(path, f"is damaged ({_first_line(error)})")


def _refuse(path: Path, problem: str, remedy: str = "correct the file") -> NoReturn:
    joint = " " if problem.startswith(("is ", "has ")) else ", "
    raise MalformedData(f"{path}{joint}{problem}", remedy) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
