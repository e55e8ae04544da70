"""Tables in files: Parquet, CSV, TSV, JSON Lines and RecBole's atomic files, each also gzipped, as Arrow columns."""

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
from mtsearch.study_file.mistakes import shown

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".item": "\t"}
_JSON = (".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
SUFFIXES = (*_PARQUET, *_SEPARATORS, *_JSON)
TYPED = (".inter", ".item")
"""Of RecBole, whose headings say the type of a column too: `user_id:token`."""

_BLOCK_BYTES = 16 * 2**20
_LARGEST_BLOCK = 2**31 - 1
_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)

# NOTE: `csv` refuses fields of more than 131,072 characters, which Arrow reads. It has one limit for the whole process.
csv.field_size_limit(_LARGEST_BLOCK)


@dataclass(frozen=True)
class TableFile:
    """A file that was opened.

    Attributes:
        place: its path.
        names: of its columns, in order; a damaged file may have one twice.
        read: the columns of some names. Those of CSV and its like are bytes as they stand there, without nulls.
    """

    place: str
    names: Sequence[str]
    read: Callable[[Sequence[str]], pa.Table]


def kind_of(path: Path) -> str:
    """The suffix that says what is in a file, `.gz` left out."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def is_table(path: Path) -> bool:
    """Whether it is a file of a known kind, or a folder of Parquet files."""
    return bool(parquet_parts(path)) if path.is_dir() else kind_of(path) in SUFFIXES


def parquet_parts(folder: Path) -> list[Path]:
    """The Parquet files in a folder and in its folders, by name; what begins with a dot or an underscore is none."""
    found = (each.relative_to(folder) for each in folder.rglob("*") if each.suffix.lower() in _PARQUET)
    return [folder / each for each in sorted(found) if not any(part[0] in "._" for part in each.parts)]


def open_table(path: Path) -> TableFile:
    """Open one file.

    Raises:
        SourceUnavailable: it cannot be read.
        MalformedData: it is damaged.
    """
    kind = kind_of(path)
    try:
        if kind in _PARQUET:
            return _parquet(path)
        content = _content(path)
    except OSError as error:
        raise SourceUnavailable(
            f"{path} cannot be read ({error.strerror or error})", "check the path and its rights"
        ) from error
    if not content.lstrip(b"\r\n \t\0"):  # strip would copy it all for the last line's end
        _refuse(path, "is empty")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        _refuse(path, "is UTF-16 text", "save it as UTF-8")
    return _json(path, content) if kind in _JSON else _delimited(path, content)


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked, without a byte order mark of UTF-8."""
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            _refuse(path, f"is not a whole gzip file ({error})", "copy or download it anew")
    return content.removeprefix(b"\xef\xbb\xbf")


def _parquet(path: Path) -> TableFile:
    packed = path.suffix.lower() == ".gz"
    source = pa.BufferReader(_content(path)) if packed else str(path)
    try:
        file = pq.ParquetFile(source)
    except pa.ArrowException as error:
        _refuse(path, f"is no whole Parquet file ({_first_line(error)})")

    def read(names: Sequence[str]) -> pa.Table:
        try:
            return file.read(columns=list(names))
        except (pa.ArrowException, OSError) as error:
            _refuse(path, f"is damaged ({_first_line(error)})")

    return TableFile(str(path), file.schema_arrow.names, read)


def _json(path: Path, content: bytes) -> TableFile:
    table = _parsed_json(path, content, {})

    def read(names: Sequence[str]) -> pa.Table:
        # NOTE: Arrow takes text that looks like a date for one; what was written is wanted.
        dates = {name: pa.string() for name in names if pa.types.is_temporal(table.schema.field(name).type)}
        return (_parsed_json(path, content, dates) if dates else table).select(list(names))

    return TableFile(str(path), table.column_names, read)


def _parsed_json(path: Path, content: bytes, types: dict[str, pa.DataType]) -> pa.Table:
    options = pa.json.ParseOptions(explicit_schema=pa.schema(list(types.items())) if types else None)
    try:
        for size in (_BLOCK_BYTES, _LARGEST_BLOCK):
            try:
                return pa.json.read_json(pa.BufferReader(content), pa.json.ReadOptions(block_size=size), options)
            except pa.ArrowInvalid as error:
                if "straddling" not in str(error) or size == _LARGEST_BLOCK:
                    raise
    except (pa.ArrowException, UnicodeDecodeError) as error:
        _refuse_line(path, content)
        _refuse(path, f"is no JSON Lines of one kind of value in a column ({_first_line(error)})")
    raise AssertionError


def _refuse_line(path: Path, content: bytes) -> None:
    """Name the first line that is no JSON object, where there is one."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            is_object = isinstance(json.loads(line), dict)
        except (ValueError, RecursionError):
            is_object = False
        if not is_object:
            _refuse(path, f"line {number}: {shown(line.decode('utf-8', 'replace'))} is no JSON object")


def _delimited(path: Path, content: bytes) -> TableFile:
    kind = kind_of(path)
    quoted = kind not in TYPED and b'"' in content
    first = content[: 2**20].decode("latin-1")
    separator = _SEPARATORS[kind]
    line = first.partition("\n")[0]
    if kind == ".csv" and "," not in line:  # what spreadsheets write where the comma is for decimals
        separator = next((each for each in ";\t" if each in line), ",")
    form: dict[str, Any] = {"delimiter": separator, "quoting": csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE}
    if quoted and not _all_plainly_closed(content, separator):
        _require_closed_quotes(path, content, form)
    try:
        header = next((row for row in csv.reader(io.StringIO(first, newline=""), **form) if row), [])
        names = [name.encode("latin-1").decode("utf-8") for name in header]
    except csv.Error as error:
        _refuse(path, f"its heading cannot be read ({error})")
    except UnicodeDecodeError:
        _refuse(path, "is not UTF-8 text in its heading", "save it as UTF-8")
    options = {"delimiter": separator, "quote_char": '"' if quoted else False, "newlines_in_values": quoted}
    return TableFile(str(path), names, lambda wanted: _parsed_csv(path, content, options, wanted))


def _all_plainly_closed(content: bytes, separator: str) -> bool:
    """Whether quotes stand at the beginning and the end of fields in turn, and so nowhere else, not even doubled.

    NOTE: `csv` takes minutes for 25 million rows; this takes a second.
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
    """NOTE: Arrow reads on from a quote that is not closed, over all rows behind it, and says nothing."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(content), "latin-1", newline=""), strict=True, **form)
    begun = 1
    try:
        for _ in reader:
            begun = reader.line_num + 1
    except csv.Error as error:
        _refuse(path, f"line {begun}: a quote is not closed, or something follows it ({error})")


def _parsed_csv(path: Path, content: bytes, options: dict[str, Any], wanted: Sequence[str]) -> pa.Table:
    convert = pa.csv.ConvertOptions(
        include_columns=list(wanted), column_types=dict.fromkeys(wanted, pa.binary()), strings_can_be_null=False
    )
    form = pa.csv.ParseOptions(**options)

    def parse(threads: bool, size: int) -> pa.Table:
        read = pa.csv.ReadOptions(use_threads=threads, block_size=size)
        return pa.csv.read_csv(pa.BufferReader(content), read, form, convert)

    try:
        return parse(True, _BLOCK_BYTES)
    except (pa.ArrowException, KeyError):
        pass
    try:
        return parse(False, _LARGEST_BLOCK)  # one after the other, which numbers the rows
    except (pa.ArrowException, KeyError) as error:
        # NOTE: the handler that Arrow has for such rows cannot be told of one that is not UTF-8.
        ragged = _RAGGED.search(str(error))
        if ragged:
            row, wanted_columns, columns, text = ragged.groups()
            heading = f"where the heading has {wanted_columns}"
            _refuse(path, f"row {int(row) - 1}: {columns} columns {heading}: {shown(text)}")
        if "cannot infer number of columns" in str(error):
            return pa.table({name: pa.array([], pa.binary()) for name in wanted})
        _refuse(path, f"is damaged ({_first_line(error)})")


def _refuse(path: Path, problem: str, remedy: str = "mend the file") -> NoReturn:
    joint = " " if problem.startswith("is ") else ", "
    raise MalformedData(f"{path}{joint}{problem}", remedy) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
