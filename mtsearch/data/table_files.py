"""Open tables with DuckDB as Arrow columns: delimited text, JSON and Parquet, packed, in archives, or of a query."""

from __future__ import annotations

import atexit
import csv
import fnmatch
import glob
import gzip
import io
import json
import logging
import lzma
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pyarrow as pa

from mtsearch.errors import MalformedData, SourceUnavailable
from mtsearch.study_file.sections import has_usual_name
from mtsearch.text import quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from mtsearch.study_file.sections import Reader

logger = logging.getLogger("mtsearch")

_SEPARATORS = {".tsv": "\t", ".inter": "\t", ".item": "\t", ".user": "\t"}
_TEXT = (".csv", *_SEPARATORS, ".txt", ".dat", ".data")
_JSON = (".json", ".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
_PACKED = (".gz", ".zst")
_ZIP = b"PK"
SUFFIXES = (*PARQUET, *_TEXT, *_JSON)
TYPED = (".inter", ".item", ".user")
"""Suffixes of RecBole's files, whose headings also have the type of each column: `user_id:token`."""

_HEAD_BYTES = 2**20
_SNIFFED_LINES = 100
_LONGEST_LINE = 2**26
"""Bytes of a line of text. DuckDB takes a buffer of 16 times that, so that most files are read with `_USUAL_LINE`."""
_USUAL_LINE = 2**21
_CANDIDATES = (",", "\t", ";", "|", "::")

# NOTE: `csv` refuses fields of more than 131,072 characters. The limit is for the whole process.
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class TableFile:
    """An open file with a table.

    Attributes:
        place: path of the file, as messages name it.
        names: names of the columns, in order: of text without a heading their numbers, from 1 on. A damaged file may
            have a name twice.
        read: reads the columns of some names, of the rows that meet a condition where one is given. Columns of text and
            JSON are text.
        headless: True for text without a heading.
        first: fields of the first row of such text, for messages.
        is_text: True for delimited text.
    """

    place: str
    names: Sequence[str]
    read: Callable[[Sequence[str], str | None], pa.Table]
    headless: bool = False
    first: Sequence[str] = ()
    is_text: bool = False


def kind_of(path: Path) -> str:
    """Return the suffix that tells the format of a file, in lower case and without `.gz` or `.zst`."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _PACKED]
    return suffixes[-1] if suffixes else ""


def is_table(path: Path) -> bool:
    """Tell whether a path is a file of a known format, an archive or a folder with such files."""
    if path.is_dir() or is_archive(path):
        return any(True for _ in members(path))
    return kind_of(path) in SUFFIXES


def is_archive(path: Path) -> bool:
    """Tell whether a path is a zip archive, also a damaged one."""
    if not path.is_file() or kind_of(path) in SUFFIXES:
        return False
    if path.suffix.lower() == ".zip":
        return True
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def members(path: Path) -> Iterator[str]:
    """Yield the tables in a folder or an archive, sorted, without those whose name begins with `.` or `_`.

    Raises:
        SourceUnavailable: the archive cannot be read.
    """
    if path.is_dir():
        found = [each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file()]
    else:
        with _explained(path), zipfile.ZipFile(path) as archive:
            found = [name for name in archive.namelist() if not name.endswith("/")]
    for name in sorted(found):
        if not any(part[0] in "._" for part in Path(name).parts) and kind_of(Path(name)) in SUFFIXES:
            yield name


def expand(source: str) -> list[Path]:
    """Return the files that a path, a pattern with `*`, or a path into an archive (`a.zip/b.csv`) names, sorted."""
    path = Path(source).expanduser()
    if path.exists():
        return [path]
    if any(each in source for each in "*?["):
        return [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - of any root
    archive = next((each for each in path.parents if is_archive(each)), None)
    if archive is None:
        return []
    inside = path.relative_to(archive).as_posix()
    return [path] if any(fnmatch.fnmatch(name, inside) for name in members(archive)) else []


def open_table(path: Path, reader: Reader | None = None) -> TableFile:
    """Open one file with a table, which may be in an archive.

    Args:
        path: path of the file.
        reader: the form of the text where it cannot be told from the file.

    Raises:
        SourceUnavailable: the file cannot be read.
        MalformedData: the file is damaged.
    """
    with _explained(path):
        file = _unpack(path)
        kind = kind_of(path)
        if kind in PARQUET:
            table = _open_parquet(path, file)
        elif kind in _JSON:
            table = _open_json(path, file)
        else:
            table = _open_text(path, file, reader)

    def read(names: Sequence[str], condition: str | None) -> pa.Table:
        with _explained(path):
            return table.read(names, condition)

    return replace(table, read=read)


def open_query(query: str, folder: Path) -> TableFile:
    """Open the rows of one SELECT; the paths in it are relative to `folder`.

    Raises:
        MalformedData: it is anything else, or DuckDB refuses it.
    """
    import duckdb

    with _refused_query():
        statements = duckdb.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise MalformedData("[data] query is not one SELECT", "write query = \"SELECT ... FROM 'file.csv'\"")
        connection = _connect()
        connection.execute("SET file_search_path = ?", [str(folder)])
        names = [row[0] for row in connection.execute(f"DESCRIBE ({query.rstrip().rstrip(';')}\n)").fetchall()]

    def read(wanted: Sequence[str], condition: str | None) -> pa.Table:
        with _refused_query():
            return _select(connection, f"({query.rstrip().rstrip(';')}\n)", wanted, condition, {})

    return TableFile("query", names, read)


@contextmanager
def _refused_query() -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise MalformedData(f"[data] query: {_first_line(error)}", "correct the query") from None


def _connect() -> DuckDBPyConnection:
    """Return a database in memory that neither loads nor downloads an extension."""
    import duckdb

    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _select(
    connection: DuckDBPyConnection, source: str, names: Sequence[str], condition: str | None, types: Mapping[str, str]
) -> pa.Table:
    """Return columns of a source, of the rows that meet a condition.

    Args:
        connection: a database.
        source: what follows FROM.
        names: names of the columns.
        condition: an SQL condition on the columns; None for all rows.
        types: type of each column in the condition, where the source has it as text.
    """
    import duckdb

    if condition is None:
        columns = ", ".join(_identifier(name) for name in names)
        plain_rows: pa.Table = connection.sql(f"SELECT {columns} FROM {source}").to_arrow_table()
        return plain_rows
    # The condition sees typed columns, and the result has them as they are in the file.
    typed = ", ".join(f"TRY_CAST({_identifier(name)} AS {kind}) AS {_identifier(name)}" for name, kind in types.items())
    plain = ", ".join(f"{_identifier(name)} AS _mtsearch_{number}" for number, name in enumerate(names))
    inner = f"SELECT * {f'REPLACE ({typed})' if typed else ''}, {plain} FROM {source}"
    wanted = ", ".join(f"_mtsearch_{number}" for number in range(len(names)))
    text = f"SELECT {wanted} FROM ({inner}) WHERE ({condition}\n)"
    # A condition that closes the parenthesis could go on with statements that write files.
    if len(duckdb.extract_statements(text)) != 1:
        raise duckdb.ParserException("Parser Error: not one condition")
    table: pa.Table = connection.sql(text).to_arrow_table()
    return table.rename_columns(list(names))


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _unpack(path: Path) -> Path:
    """Return a file that DuckDB reads: an archive's member is unpacked, as long as the process runs."""
    archive = next((each for each in path.parents if is_archive(each)), None)
    if archive is None and not (kind_of(path) in PARQUET and path.suffix.lower() == ".gz"):
        if not path.is_file():
            path.open("rb").close()  # raises what is wrong with it
        return path
    folder = Path(tempfile.mkdtemp(prefix="mtsearch-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if archive is None:
        file = folder / path.with_suffix("").name
        file.write_bytes(gzip.decompress(path.read_bytes()))
    else:
        file = folder / path.name
        inside = path.relative_to(archive).as_posix()
        with zipfile.ZipFile(archive) as opened, opened.open(inside) as packed, file.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    return file


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn errors of reading a file into those that name it, with a remedy."""
    import duckdb

    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        _refuse(path, f"is not a complete gzip file ({error})", "copy or download it again")
    except zipfile.BadZipFile as error:
        _refuse(path, f"is not a complete zip archive ({error})", "copy or download it again")
    except KeyError as error:
        _refuse(path, f"is not in the archive ({error})", "name one of its files")
    except OSError as error:
        raise SourceUnavailable(
            f"{path} cannot be read ({error.strerror or error})", "check the path and its permissions"
        ) from error
    except duckdb.Error as error:
        _refuse_of_duckdb(path, str(error))


def _refuse_of_duckdb(path: Path, text: str) -> NoReturn:
    """Raise the error for what DuckDB says of a file."""
    line = re.search(r"CSV Error on Line: (\d+)", text)
    place = f"line {line[1]}" if line else ""
    original = re.search(r"Original Line: ?(.*?)(?:\n[A-Z ][a-z]|\Z)", text, re.DOTALL)
    shown = quote(original[1].split("\n")[0]) if original else ""
    if columns := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text):
        _refuse(path, f"{place}: {columns[2]} columns, but the first line has {columns[1]}: {shown}")
    if "unterminated quote" in text:
        _refuse(
            path,
            f"{place}: a quote is not closed, or something follows it: {shown}",
            'correct the file, or write reader = { quote = "" } under [data] if quotes have no meaning in it',
        )
    if "not utf-8 encoded" in text or "Invalid unicode" in text:
        _refuse(path, f"{place}: {shown} is not UTF-8", 'write reader = { encoding = "latin-1" } under [data]')
    if kind_of(path) in _JSON:
        number = _find_bad_line(path)
        _refuse(path, f"line {number} is not a JSON object" if number else f"is not JSON ({_first_line(text)})")
    if "parquet" in text.lower() and path.suffix.lower() in PARQUET:
        _refuse(path, f"is not a complete Parquet file ({_first_line(text)})")
    if "gzip" in text.lower() or "zstd" in text.lower() or "decompress" in text.lower():
        _refuse(path, f"is not a complete packed file ({_first_line(text)})", "copy or download it again")
    if "Binder Error" in text or "Parser Error" in text or "Conversion Error" in text:
        raise MalformedData(f"{path}: where: {_first_line(text)}", "correct `where` under [data]") from None
    _refuse(path, f"is damaged ({_first_line(text)})")


def _find_bad_line(path: Path) -> int:
    """Return the number of the first line that is not a JSON object, which DuckDB does not tell; 0 if there is none."""
    try:
        lines = _read_head(path).split(b"\n")
    except OSError:
        return 0
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                return number
        except (ValueError, RecursionError):
            return number
    return 0


def _open_parquet(place: Path, file: Path) -> TableFile:
    connection, source = _connect(), f"read_parquet({_literal(str(file))}, hive_partitioning = true)"
    names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
    return TableFile(str(place), names, lambda wanted, where: _select(connection, source, wanted, where, {}))


def _open_json(place: Path, file: Path) -> TableFile:
    _require_content(place, _read_head(file))
    connection, path = _connect(), _literal(str(file))
    options = f"maximum_object_size = {_LONGEST_LINE}"
    described = connection.execute(f"DESCRIBE SELECT * FROM read_json({path}, {options})").fetchall()
    types = {name: kind for name, kind, *_ in described}

    def read(wanted: Sequence[str], condition: str | None) -> pa.Table:
        # Values are read as they are written, since a text such as 2020-01-01 may be an id.
        columns = ", ".join(f"{_literal(name)}: 'JSON'" for name in types)
        texts = ", ".join(f"{_identifier(name)} ->> '$' AS {_identifier(name)}" for name in types)
        source = f"(SELECT {texts} FROM read_json({path}, {options}, columns = {{{columns}}}))"
        return _select(connection, source, wanted, condition, types)

    return TableFile(str(place), list(types), read)


@dataclass(frozen=True)
class _Dialect:
    """The form of a text.

    Attributes:
        separator: between fields.
        quote: around fields; empty: none.
        escape: before a quote within a field.
        encoding: as DuckDB names it.
        skip: lines before the heading, or before the first row.
        heading: fields of the first line where it is a heading, else None.
        first: fields of the first line.
    """

    separator: str
    quote: str
    escape: str
    encoding: str
    skip: int
    heading: Sequence[str] | None
    first: Sequence[str]

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self.heading) if self.heading else [str(place) for place in range(1, len(self.first) + 1)]


def _open_text(place: Path, file: Path, reader: Reader | None) -> TableFile:
    head = _read_head(file)
    _require_content(place, head)
    dialect = _sniff(place, head, reader)
    text = _Text(place, file, dialect, reader, _connect())
    is_headless = dialect.heading is None
    return TableFile(str(place), dialect.names, text.read, headless=is_headless, first=dialect.first, is_text=True)


@dataclass(frozen=True)
class _Text:
    """A delimited text whose form is known.

    Attributes:
        place: its path, as messages name it.
        file: the file that is read.
        dialect: its form.
        reader: what the study file says of its form.
        connection: the database that reads it.
    """

    place: Path
    file: Path
    dialect: _Dialect
    reader: Reader | None
    connection: DuckDBPyConnection

    def read(self, wanted: Sequence[str], condition: str | None) -> pa.Table:
        """Read the columns of some names; see `TableFile`."""
        table = self._read_as(self.dialect, wanted, condition)
        is_said = self.reader is not None and self.reader.quote is not None
        if not self.dialect.quote or is_said or not _may_swallow(self.file, self.dialect, table.num_rows, condition):
            return table
        plain = replace(self.dialect, quote="", escape="")
        if self._count(plain) <= self._count(self.dialect):
            return table
        logger.warning(
            "data: quotes of %s seem to have no meaning, and are read as text; to have it so without a warning, "
            'write reader = { quote = "" } under [data], else reader = { quote = \'"\' }',
            self.place,
        )
        return self._read_as(plain, wanted, condition)

    def _read_as(self, form: _Dialect, wanted: Sequence[str], condition: str | None) -> pa.Table:
        """Read in a form, with room for longer lines if there are some."""
        import duckdb

        try:
            return self._select(self._source(form, _USUAL_LINE), wanted, condition)
        except duckdb.InvalidInputException as error:
            if "aximum line size" not in str(error):
                raise
        return self._select(self._source(form, _LONGEST_LINE), wanted, condition)

    def _count(self, form: _Dialect) -> int:
        """Count the rows of the text in a form; -1 if it does not have it."""
        import duckdb

        try:
            [[found]] = self.connection.execute(f"SELECT count(*) FROM {self._source(form, _LONGEST_LINE)}").fetchall()
        except duckdb.Error:
            return -1
        return int(found)

    def _select(self, source: str, wanted: Sequence[str], condition: str | None) -> pa.Table:
        """Return columns of a source, which names them by their places: a heading may have a name twice."""
        names, keys = self.dialect.names, self._keys
        if condition is None:
            chosen = [keys[names.index(name)] for name in wanted]
            return _select(self.connection, source, chosen, None, {}).rename_columns(list(wanted))
        types = _sniff_types(self.connection, source, names, keys)
        pairs = zip(keys, names, strict=True)
        renamed = ", ".join(f"{_identifier(key)} AS {_identifier(name)}" for key, name in pairs)
        return _select(self.connection, f"(SELECT {renamed} FROM {source})", wanted, condition, types)

    @property
    def _keys(self) -> list[str]:
        return [f"column {number}" for number in range(len(self.dialect.names))]

    def _source(self, form: _Dialect, longest: int) -> str:
        """Return what follows FROM; `longest` is the room for a line, in bytes."""
        options = {
            "auto_detect": "false",
            "delim": _literal(form.separator),
            "quote": _literal(form.quote),
            "escape": _literal(form.escape or form.quote),
            "header": "true" if form.heading else "false",
            "skip": str(form.skip),
            "encoding": _literal(form.encoding),
            "columns": "{" + ", ".join(f"{_literal(key)}: 'VARCHAR'" for key in self._keys) + "}",
            "max_line_size": str(longest),
            "strict_mode": "true",
        }
        if self.reader and self.reader.null:
            options["nullstr"] = "[" + ", ".join(_literal(text) for text in ("", *self.reader.null)) + "]"
        joined = ", ".join(f"{name} = {value}" for name, value in options.items())
        return f"read_csv({_literal(str(self.file))}, {joined})"


def _may_swallow(file: Path, dialect: _Dialect, rows: int, condition: str | None) -> bool:
    """Tell whether a quote may have swallowed rows: there are quotes, and more lines than rows.

    A quote that begins a field takes all up to the next quote before a separator. If quotes are signs around fields
    that have line ends in them, the lines have other numbers of fields, and cannot be read without quotes.
    """
    if file.suffix.lower() in _PACKED:
        return True  # its lines are not counted here
    lines, has_quotes = 0, False
    with file.open("rb") as opened:
        for block in iter(lambda: opened.read(2**24), b""):
            lines += block.count(b"\n")
            has_quotes = has_quotes or dialect.quote.encode() in block
    return has_quotes and (condition is not None or lines - dialect.skip - bool(dialect.heading) > rows)


def _sniff_types(
    connection: DuckDBPyConnection, rows: str, names: Sequence[str], keys: Sequence[str]
) -> dict[str, str]:
    """Return for each column of text whose values are all numbers, by name, the type with which SQL compares it."""
    counts = ", ".join(
        f"count({_identifier(key)}) - count(TRY_CAST({_identifier(key)} AS DOUBLE)), "
        f"count({_identifier(key)}) - count(TRY_CAST({_identifier(key)} AS TIMESTAMP))"
        for key in keys
    )
    [found] = connection.execute(f"SELECT {counts} FROM (SELECT * FROM {rows} LIMIT 20000)").fetchall()
    types: dict[str, str] = {}
    for number, name in enumerate(names):
        if found[2 * number] == 0:
            types[name] = "DOUBLE"
        elif found[2 * number + 1] == 0:
            types[name] = "TIMESTAMP"
    return types


def _read_head(file: Path) -> bytes:
    """Return the first bytes of a file, unpacked."""
    suffix = file.suffix.lower()
    if suffix == ".gz":
        with gzip.open(file) as packed:
            return packed.read(_HEAD_BYTES)
    if suffix == ".zst":
        with pa.input_stream(str(file), compression="zstd") as stream:
            found: bytes = stream.read(_HEAD_BYTES)
            return found
    with file.open("rb") as plain:
        return plain.read(_HEAD_BYTES)


def _require_content(place: Path, head: bytes) -> None:
    if not head.strip(b"\r\n \t\0\xef\xbb\xbf"):
        _refuse(place, "is empty")


def _sniff(place: Path, head: bytes, reader: Reader | None) -> _Dialect:
    """Find the form of a text from its beginning, as far as the reader of the study file does not give it."""
    text, encoding = _decode(place, head, reader)
    lines = text.split("\n")[: _SNIFFED_LINES + 1]
    if len(head) == _HEAD_BYTES and len(lines) > 1:
        lines.pop()  # may be cut
    skip = reader.skip if reader else 0
    separator = reader.separator if reader else None
    # A spreadsheet may say its separator in a line of its own.
    if said := re.fullmatch(r"sep=(.)\r?", lines[skip] if skip < len(lines) else ""):
        separator, skip = separator or said[1], skip + 1
    body = [line.removesuffix("\r") for line in lines[skip:] if line.strip()]
    if not body:
        _refuse(place, "has no rows")
    kind = kind_of(place)
    separator = separator or _SEPARATORS.get(kind) or _find_separator(body)
    quoting = reader.quote if reader and reader.quote is not None else ("" if kind in TYPED else '"')
    escape = (reader.escape if reader else None) or quoting
    try:
        first = _fields(body, separator, quoting)
    except csv.Error as error:
        _refuse(place, f"its heading cannot be read ({error})")
    has_heading = reader.header if reader and reader.header is not None else _is_heading(first)
    return _Dialect(separator, quoting, escape, encoding, skip, first if has_heading else None, first)


def _decode(place: Path, head: bytes, reader: Reader | None) -> tuple[str, str]:
    """Return the text of a file's beginning, and its encoding as DuckDB names it."""
    if reader and reader.encoding:
        return head.decode(reader.encoding, "replace"), reader.encoding
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", "replace"), "utf-16"
    first = head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
    try:
        first.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(first) - 4:
            _refuse(
                place,
                f"line 1: {quote(first[:60].decode('utf-8', 'replace'))} is not UTF-8",
                'write reader = { encoding = "latin-1" } under [data]',
            )
    return head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace"), "utf-8"


def _fields(lines: Sequence[str], separator: str, quoting: str) -> list[str]:
    """Return the fields of the first row."""
    if len(separator) > 1 or not quoting:
        return lines[0].split(separator)
    text = io.StringIO("\n".join(lines), newline="")
    return next(row for row in csv.reader(text, delimiter=separator, quotechar=quoting) if row)


def _find_separator(lines: Sequence[str]) -> str:
    """Return the separator that cuts the most lines into the same number of fields as the first, and into the most."""

    def quality(separator: str) -> tuple[float, int]:
        counts = [_count_fields(line, separator) for line in lines]
        alike = sum(count == counts[0] for count in counts) / len(counts)
        return (round(alike, 1), counts[0]) if counts[0] > 1 else (0.0, 0)

    best = max(_CANDIDATES, key=quality)
    return best if quality(best) > (0.0, 0) else ","


def _count_fields(line: str, separator: str) -> int:
    """Count the fields of a line; separators between quotes are none."""
    outside = re.sub(r'"(?:[^"]|"")*"', "", line) if '"' in line else line
    return outside.count(separator) + 1


def _is_heading(first: Sequence[str]) -> bool:
    """Tell whether fields name columns: one has a usual name, or none is a number."""
    names = [name.partition(":")[0] for name in first]
    return has_usual_name(names) or not any(map(_is_number, first))


def _is_number(text: str) -> bool:
    try:
        float(text.strip().replace(",", "."))
    except ValueError:
        return False
    return text.strip().lower() not in ("nan", "inf", "infinity")


def _refuse(path: Path, problem: str, remedy: str = "correct the file") -> NoReturn:
    joint = " " if problem.startswith(("is ", "has ")) else ", "
    raise MalformedData(f"{path}{joint}{problem}", remedy) from None


def _first_line(error: object) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
