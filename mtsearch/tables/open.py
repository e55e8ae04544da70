"""Open tables with DuckDB: delimited text, JSON and Parquet, packed, in archives, or of a query."""

from __future__ import annotations

import atexit
import gzip
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtsearch.errors import MalformedData
from mtsearch.tables.dialect import Dialect, sniff
from mtsearch.tables.paths import JSON, PACKED, PARQUET, archive_of, kind_of, read_head
from mtsearch.tables.refusals import explained, refuse

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from mtsearch.study_file.sections import Reader

logger = logging.getLogger("mtsearch")

_LONGEST_LINE = 2**26
"""Bytes of a line of text. DuckDB takes a buffer of 16 times that, so that most files are read with `_USUAL_LINE`."""
_USUAL_LINE = 2**21
_SAMPLE = 20_000
"""Rows that tell the type of a column of text."""
_RESULT = "_mtsearch_"


@dataclass
class TableFile:
    """An open table, which is read by SQL expressions on its columns.

    Attributes:
        path: path of the file; None for a query.
        names: names of the columns, in order: of text without a heading their numbers, from 1 on. A damaged file may
            have a name twice.
        types: DuckDB's type of each column, VARCHAR for those of text and JSON.
        source: what follows FROM.
        connection: the database that reads it.
        headless: True for text without a heading.
        first: fields of the first row of such text, for messages.
        is_text: True for delimited text.
        compared: the types with which conditions see the columns, where they are not `types`.
        recheck: for the number of rows that were read, returns another source that has more; None if there is none.
    """

    path: Path | None
    names: Sequence[str]
    types: Mapping[str, str]
    source: str
    connection: DuckDBPyConnection
    headless: bool = False
    first: Sequence[str] = ()
    is_text: bool = False
    compared: Callable[[TableFile], Mapping[str, str]] | None = None
    recheck: Callable[[TableFile, int | None], str | None] | None = None

    @property
    def place(self) -> str:
        """The path of the file, as messages name it."""
        return "query" if self.path is None else str(self.path)

    def read(self, columns: Sequence[str], where: str | None = None, computed: Sequence[str] = ()) -> pa.Table:
        """Read SQL expressions, of the rows that meet a condition; the columns are in the order of the expressions.

        Args:
            columns: SQL expressions on the columns as they are in the file.
            where: an SQL condition.
            computed: further SQL expressions, which see numbers and times as such.

        Raises:
            MalformedData: the file is damaged, or the condition cannot be used.
        """
        with explained(self.path):
            for expression in filter(None, [where, *computed]):
                _require_whole(expression)
            table = self.fetch(self.select(columns, where, computed=computed))
            if self.recheck and (other := self.recheck(self, None if where else table.num_rows)):
                self.source, self.recheck = other, None
                table = self.fetch(self.select(columns, where, computed=computed))
            return table

    def require_usable(self, expression: str, place: str) -> None:
        """Refuse an SQL expression of a study file, as `where` or `computed` of `read`, that cannot be used.

        Raises:
            MalformedData: naming the place in the study file.
        """
        import duckdb

        try:
            with explained(self.path):
                sql = self.select(["1"], None, computed=[expression], limit=0)
                _require_whole(expression)
                if len(duckdb.extract_statements(sql)) != 1:
                    raise duckdb.ParserException("Parser Error: not one expression")
                if len(self.connection.sql(sql).columns) != 2:
                    raise duckdb.ParserException("Parser Error: not one expression")
        except MalformedData as error:
            told = error.problem.rpartition("where: ")[2].rpartition("query: ")[2]
            if "GROUP BY" in told:
                told = "it does not have a value of its own for each row"
            raise MalformedData(f"{self.place}: {place}: {told}", "correct it") from None

    def select(
        self, columns: Sequence[str], where: str | None, limit: int | None = None, computed: Sequence[str] = ()
    ) -> str:
        """Return the SELECT of SQL expressions, of the rows that meet a condition; `result` names its columns."""
        shown = ", ".join(f"{column} AS {result(place)}" for place, column in enumerate(columns))
        end = "" if limit is None else f" LIMIT {limit}"
        if where is None and not computed:
            return f"SELECT {shown} FROM {self.source}{end}"
        # Conditions see typed columns, and the expressions have them as they are in the file.
        compared = self.compared(self) if self.compared else {}
        typed = ", ".join(
            f"TRY_CAST({identifier(each)} AS {kind}) AS {identifier(each)}" for each, kind in compared.items()
        )
        replaced = f"* REPLACE ({typed})" if typed else "*"
        inner = f"SELECT {', '.join(filter(None, [replaced, shown]))} FROM {self.source}"
        wanted = [result(place) for place in range(len(columns))]
        wanted += [f"({sql}\n) AS {result(place)}" for place, sql in enumerate(computed, start=len(columns))]
        condition = "" if where is None else f" WHERE ({where}\n)"
        return f"SELECT {', '.join(wanted)} FROM ({inner}){condition}{end}"

    def fetch(self, sql: str) -> pa.Table:
        """Run one SELECT, with room for longer lines if there are some."""
        import duckdb

        with explained(self.path):
            # A condition that closes the parenthesis could go on with statements that write files.
            if len(duckdb.extract_statements(sql)) != 1:
                raise duckdb.ParserException("Parser Error: not one condition")
            try:
                return self.connection.sql(sql).to_arrow_table()
            except duckdb.InvalidInputException as error:
                if "aximum line size" not in str(error):
                    raise
            self.source = self.source.replace(_longest(_USUAL_LINE), _longest(_LONGEST_LINE))
            return self.connection.sql(sql.replace(_longest(_USUAL_LINE), _longest(_LONGEST_LINE))).to_arrow_table()

    def find_row(self, value: str, wrong: str, where: str | None) -> tuple[int, Any] | None:
        """Return the number, 0-based, and a value of the first row for which an SQL expression is true, if one is."""
        inner = self.select([value, f"({wrong})"], where)
        numbered = f"SELECT row_number() OVER () AS place, {result(0)}, {result(1)} FROM ({inner})"
        found = self.fetch(f"SELECT * FROM ({numbered}) WHERE {result(1)} ORDER BY place LIMIT 1").to_pylist()
        return (found[0]["place"] - 1, found[0][result(0)]) if found else None

    def measure(
        self, measures: Sequence[str], column: str, where: str | None, limit: int | None = _SAMPLE
    ) -> list[Any]:
        """Return aggregates over `value`, an SQL expression, of the first rows that meet a condition."""
        inner = self.select([column], where, limit)
        sql = f"SELECT {', '.join(measures)} FROM (SELECT {result(0)} AS value FROM ({inner}))"
        return [column[0].as_py() for column in self.fetch(sql).columns]


def _require_whole(expression: str) -> None:
    """Refuse an SQL expression that closes a parenthesis which it does not open, such as that around it."""
    import duckdb

    if len(duckdb.extract_statements(f"SELECT {expression}\n")) != 1:
        raise duckdb.ParserException("Parser Error: not one expression")


def result(place: int) -> str:
    """Return the name of a column that `TableFile.select` gives."""
    return f"{_RESULT}{place}"


def identifier(column: str) -> str:
    """Return the SQL identifier of a column."""
    return '"' + column.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def open_table(path: Path, reader: Reader | None = None) -> TableFile:
    """Open one file with a table, which may be in an archive.

    Args:
        path: path of the file.
        reader: the form of the text where it cannot be told from the file.

    Raises:
        SourceUnavailable: the file cannot be read.
        MalformedData: the file is damaged.
    """
    with explained(path):
        file = _unpack(path)
        kind = kind_of(path)
        if kind in PARQUET:
            source = f"read_parquet({literal(str(file))}, hive_partitioning = true)"
            table = _describe(path, source, _connect())
        elif kind in JSON:
            table = _open_json(path, file)
        else:
            table = _open_text(path, file, reader)
    if reader and reader.null:
        nothing = ", ".join(map(literal, reader.null))
        texts = [identifier(each) for each, kind in table.types.items() if kind == "VARCHAR"]
        replaced = ", ".join(f"CASE WHEN {each} NOT IN ({nothing}) THEN {each} END AS {each}" for each in texts)
        if replaced:
            table.source = f"(SELECT * REPLACE ({replaced}) FROM {table.source})"
    return table


def open_query(query: str, folder: Path) -> TableFile:
    """Open the rows of one SELECT; the paths in it are relative to `folder`.

    Raises:
        MalformedData: it is anything else, or DuckDB refuses it.
    """
    import duckdb

    with explained(None):
        statements = duckdb.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise MalformedData("[data] query is not one SELECT", "write query = \"SELECT ... FROM 'file.csv'\"")
        connection = _connect()
        connection.execute("SET file_search_path = ?", [str(folder)])
        return _describe(None, f"({query.rstrip().rstrip(';')}\n)", connection)


def open_rows(rows: pa.Table, name: str) -> TableFile:
    """Open a table of Arrow; messages call it by a name."""
    connection = _connect()
    connection.register("rows", rows)
    return _describe(Path(name), "rows", connection)


def _connect() -> DuckDBPyConnection:
    """Return a database in memory that neither loads nor downloads an extension."""
    import duckdb

    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    # NOTE: DuckDB 2.0.1 moves TRY_CAST into its CSV reader, where it is an error for a text that cannot be converted.
    connection.execute("SET disabled_optimizers = 'type_pushdown'")
    return connection


def _describe(path: Path | None, source: str, connection: DuckDBPyConnection) -> TableFile:
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    types = {row[0]: row[1] for row in described}
    return TableFile(path, list(types), types, source, connection)


def _unpack(path: Path) -> Path:
    """Return a file that DuckDB reads: an archive's member is unpacked, as long as the process runs."""
    archive = archive_of(path)
    if archive is None and not (kind_of(path) in PARQUET and path.suffix.lower() == ".gz"):
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


def _require_content(place: Path, head: bytes) -> None:
    if not head.strip(b"\r\n \t\0\xef\xbb\xbf"):
        refuse(place, "is empty")


def _open_json(place: Path, file: Path) -> TableFile:
    _require_content(place, read_head(file))
    read, options = f"read_json({literal(str(file))}, ", f"maximum_object_size = {_LONGEST_LINE})"
    table = _describe(place, read + options, _connect())
    # Values are read as they are written, since a text such as 2020-01-01 may be an id.
    columns = ", ".join(f"{literal(each)}: 'JSON'" for each in table.names)
    texts = ", ".join(f"{identifier(each)} ->> '$' AS {identifier(each)}" for each in table.names)
    source = f"(SELECT {texts} FROM {read}columns = {{{columns}}}, {options})"
    found = dict(table.types)
    return replace(table, types=dict.fromkeys(found, "VARCHAR"), source=source, compared=lambda _: found)


def _open_text(place: Path, file: Path, reader: Reader | None) -> TableFile:
    head = read_head(file)
    _require_content(place, head)
    dialect = sniff(place, head, reader)

    def recheck(table: TableFile, rows: int | None) -> str | None:
        return _find_rows(table, file, dialect, rows)

    names = dialect.names
    return TableFile(
        place,
        names,
        dict.fromkeys(names, "VARCHAR"),
        _text_source(file, dialect),
        _connect(),
        headless=dialect.heading is None,
        first=dialect.first,
        is_text=True,
        compared=_sniff_types,
        recheck=recheck if dialect.quote and not (reader and reader.quote) else None,
    )


def _text_source(file: Path, dialect: Dialect) -> str:
    """Return what follows FROM for a text. A name that is there before, in any case, is given a number."""
    keys = [f"column {place}" for place in range(len(dialect.names))]
    options = {
        "auto_detect": "false",
        "delim": literal(dialect.separator),
        "quote": literal(dialect.quote),
        "escape": literal(dialect.escape or dialect.quote),
        "header": "true" if dialect.has_heading else "false",
        "skip": str(dialect.skip),
        "encoding": literal(dialect.encoding),
        "columns": "{" + ", ".join(f"{literal(key)}: 'VARCHAR'" for key in keys) + "}",
        "strict_mode": "true",
    }
    seen: set[str] = set()
    renamed = []
    for key, each in zip(keys, dialect.names, strict=True):
        renamed.append(f"{identifier(key)} AS {identifier(f'{each} ({key})' if each.lower() in seen else each)}")
        seen.add(each.lower())
    joined = ", ".join(f"{option} = {value}" for option, value in options.items())
    return f"(SELECT {', '.join(renamed)} FROM read_csv({literal(str(file))}, {joined}, {_longest(_USUAL_LINE)}))"


def _longest(size: int) -> str:
    return f"max_line_size = {size}"


def _find_rows(table: TableFile, file: Path, dialect: Dialect, rows: int | None) -> str | None:
    """Return the source without quotes if rows are lost with them; tell of cells with line breaks.

    A quote that begins a field takes all up to the next quote before a separator. If quotes are signs around fields
    that have line ends in them, the lines have other numbers of fields, and cannot be read without quotes.

    Args:
        table: the table, read with quotes.
        file: the file that is read.
        dialect: its form.
        rows: number of rows that were read with quotes, None if it is not known.
    """
    packed = file.suffix.lower() in PACKED or dialect.encoding == "utf-16"
    lines = None if packed else _count_lines(file, dialect.quote.encode()) - dialect.skip - dialect.has_heading
    if lines is not None and (lines < 0 or lines <= (rows or -1)):
        return None
    found = rows if rows is not None and lines is not None else _count(table, table.source)
    if lines is not None and lines <= found:
        return None
    plain = _text_source(file, replace(dialect, quote="", escape=""))
    without = _count(table, plain)
    if without > found:
        logger.warning(
            "data: quotes of %s seem to have no meaning, and are read as text; to have it so without a warning, "
            'write reader = { quote = "" } under [data], else reader = { quote = \'"\' }',
            table.place,
        )
        return plain
    if lines is not None and without < 0:
        logger.info("data: cells of %s have %s line breaks or blank lines in them", table.place, f"{lines - found:,}")
    return None


def _count_lines(file: Path, quote: bytes) -> int:
    """Count the line ends of a file, a last line without one too; -1 if it has no quote."""
    lines, has_quotes, last = 0, False, b"\n"
    with file.open("rb") as opened:
        for block in iter(lambda: opened.read(2**24), b""):
            lines += block.count(b"\n")
            has_quotes = has_quotes or quote in block
            last = block[-1:]
    return lines + (last != b"\n") if has_quotes else -1


def _count(table: TableFile, source: str) -> int:
    """Count the rows of a source; -1 if the text does not have its form."""
    import duckdb

    try:
        wide = source.replace(_longest(_USUAL_LINE), _longest(_LONGEST_LINE))
        [[found]] = table.connection.execute(f"SELECT count(*) FROM {wide}").fetchall()
    except duckdb.Error:
        return -1
    return int(found)


def _sniff_types(table: TableFile) -> dict[str, str]:
    """Return the type with which SQL compares each column of text that has numbers, times, or true and false alone."""
    columns = [identifier(each) for each in table.types]
    kinds = {
        **{kind: f"TRY_CAST({{}} AS {kind})" for kind in ("DOUBLE", "TIMESTAMP")},
        "BOOLEAN": "CASE WHEN lower({}) IN ('true', 'false') THEN true END",
    }
    measures = [f"count({each}) - count({fits.format(each)})" for each in columns for fits in kinds.values()]
    sample = f"(SELECT * FROM {table.source} LIMIT {_SAMPLE})"
    misses = [column[0].as_py() for column in table.fetch(f"SELECT {', '.join(measures)} FROM {sample}").columns]
    fitting = {
        each: [kind for number, kind in enumerate(kinds) if misses[len(kinds) * place + number] == 0]
        for place, each in enumerate(table.types)
    }
    return {each: found[0] for each, found in fitting.items() if found}
