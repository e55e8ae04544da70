"""Choose the columns of a table by the study file or by their usual names, and read them, ids above all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from mtsearch.errors import MalformedData
from mtsearch.tables.names import find_aliases
from mtsearch.tables.open import TableFile, identifier, literal
from mtsearch.tables.paths import TYPED
from mtsearch.text import nearest, quote, shorten_middle

if TYPE_CHECKING:
    import pyarrow as pa

Given = Mapping[str, str | int | Literal[False] | None]
"""For each key the name or the number of its column in the study file, False for no column, None for the usual one."""

Ids = NDArray[np.object_]
Codes = NDArray[np.int32]

MISSING = -1


def choose_columns(file: TableFile, given: Given, table: str, required: Iterable[str]) -> dict[str, str]:
    """Return the name of the column for each key of `given` that has a column, by the study file or a usual name.

    Args:
        file: a table.
        given: columns from the study file, that of `part` from [split].
        table: the key of [data] that has these names.
        required: keys that must have a column.

    Raises:
        MalformedData: a column is missing, several columns fit, or one column is used for two keys.
    """
    chosen: dict[str, str] = {}
    for key, name in given.items():
        found = None
        if name is None:
            found = _find_column_by_alias(file, key, table)
        elif name is not False:
            found = _find_named_column(file, key, name)
        if found is not None:
            chosen[key] = found
    if missing := [key for key in required if key not in chosen]:
        if file.headless:
            raise _headless_error(file, table, required)
        known, named = ", ".join(map(repr, file.names)), ", ".join(f'{key} = "..."' for key in missing)
        raise MalformedData(
            f"{file.place}: no column for {' and '.join(missing)} among {shorten_middle(known)}",
            f"name {'it' if len(missing) == 1 else 'them'} under [data]: {table} = {{ {named} }}",
        )
    for key, name in chosen.items():
        if file.names.count(name) > 1:
            raise MalformedData(f"{file.place}: two columns are called {name!r}", "rename one of them")
        if other := next((each for each, column in chosen.items() if column == name and each != key), None):
            place = "[split]" if "part" in (key, other) else table
            remedy = f"name another column in {place}"
            raise MalformedData(f"{file.place}: column {name!r} is both {key} and {other}", remedy)
    return chosen


def _headless_error(file: TableFile, table: str, required: Iterable[str]) -> MalformedData:
    first = shorten_middle(", ".join(map(repr, file.first)))
    numbers = ", ".join(f"{key} = {number}" for number, key in enumerate(required, start=1))
    return MalformedData(
        f"{file.place} seems to have no heading: its first line is {first}",
        f"give the columns by number under [data]: {table} = {{ {numbers} }}, or write reader = {{ header = true }}",
    )


def _find_named_column(file: TableFile, key: str, name: str | int) -> str:
    if isinstance(name, int):
        if name <= len(file.names):
            return file.names[name - 1]
        raise MalformedData(
            f"{file.place}: no column {name}, it has {len(file.names)}", f"give a number from 1 to {len(file.names)}"
        )
    for known in file.names:
        if name in (known, strip_type(file, known)):
            return known
    place = "[split]" if key == "part" else "[data]"
    raise MalformedData(
        f"{file.place}: no column {name!r}{nearest(name, file.names)}", f"name a column of the file under {place}"
    )


def _find_column_by_alias(file: TableFile, key: str, table: str) -> str | None:
    places = find_aliases([strip_type(file, name) for name in file.names], key)
    found = list(dict.fromkeys(file.names[place] for place in places))
    if len(found) > 1:
        raise MalformedData(
            f"{file.place}: {found[0]!r} and {found[1]!r} may both be the {key}",
            f'name one under [data]: {table} = {{ {key} = "..." }}',
        )
    return found[0] if found else None


def strip_type(file: TableFile, name: str) -> str:
    """Return a column name without the type that RecBole's headings have, as in `user_id:token`."""
    return name.partition(":")[0] if file.place.removesuffix(".gz").endswith(TYPED) else name


@dataclass(frozen=True)
class Form:
    """A form in which values are written.

    Attributes:
        sql: SQL expression that reads a value in this form, NULL for any other; `{}` stands for the column.
        fits: the same, where another expression tells better whether a value has this form.
        rival: place among the forms of the one that may read the same values as something else.
    """

    sql: str
    fits: str = ""
    rival: int | None = None


@dataclass(frozen=True)
class Kind:
    """What a column holds, and how it is read.

    Attributes:
        expected: what it should hold, for a column of another type.
        texts: forms of text; the one that reads the most values of a sample is taken.
        types: for each of DuckDB's types the SQL expression that reads it.
        problem: what is wrong with a text that cannot be read.
        remedy: gives the remedy for such a text, of a column.
    """

    expected: str
    texts: Sequence[Form]
    types: Mapping[str, str]
    problem: str
    remedy: Callable[[str, str], str]


_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
NUMERIC = ('"NULL"', *_WHOLE, "UBIGINT", "HUGEINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL")
IDS = Kind(
    "an id is text or a whole number",
    (Form("{}"),),
    {
        **dict.fromkeys(_WHOLE, "CAST({} AS BIGINT)"),
        **dict.fromkeys(("FLOAT", "DOUBLE"), "{}"),
        **dict.fromkeys(("UBIGINT", "HUGEINT", "UHUGEINT", "UUID", "ENUM"), "CAST({} AS VARCHAR)"),
        "DECIMAL": "CASE WHEN {0} = floor({0}) THEN CAST(CAST({0} AS HUGEINT) AS VARCHAR) END",
        "BLOB": "TRY(decode({}))",
        '"NULL"': "CAST({} AS VARCHAR)",
    },
    "is not UTF-8 text or a whole number",
    lambda _column, _text: "write ids as text or whole numbers",
)

_BLANKS = "' ' || chr(9) || chr(10) || chr(13) || chr(160)"
_MISSING_TEXTS = ("", "na", "n/a", "nan", "nat", "none", "null", "\\n", "<na>")
"""Texts, in lower case, that mean a missing number or time."""


def _clean(column: str) -> str:
    """Return the SQL of a text without the spaces around it, NULL for one that means a missing value."""
    missing = ", ".join(map(literal, _MISSING_TEXTS))
    trimmed = f"trim({column}, {_BLANKS})"
    return f"CASE WHEN lower({trimmed}) NOT IN ({missing}) THEN {trimmed} END"


def query_remedy(column: str, sql: str) -> str:
    """Return the line of a study file that reads a column of text by SQL, in which `{}` stands for the column."""
    name = identifier(column)
    table = "read_csv('FILE', all_varchar = true)"
    return f"query = '''SELECT * REPLACE ({sql.format(name)} AS {name}) FROM {table}''' under [data] in place of source"


_MONTH_FIRST = "strptime({}, '%m/%d/%Y')"


def _plain_type(kind: str) -> str:
    """Return a type of DuckDB without its parameters; that of a list or a structure unchanged."""
    return kind if kind.endswith("]") else re.split(r"[( ]", kind)[0]


@dataclass(frozen=True)
class Column:
    """A column of a table, which may have several files.

    Attributes:
        name: name in the file.
        values: values of all rows.
        form: the SQL that read them, of the first file.
        places: paths of the files.
        starts: first row of each file, from 0 on.
    """

    name: str
    values: pa.ChunkedArray
    form: str
    places: Sequence[str]
    starts: Sequence[int]

    def refuse(self, row: int, problem: str, remedy: str = "correct the row") -> NoReturn:
        """Raise the error for a wrong value in a row, 0-based over all files."""
        raise MalformedData(f"{self.at(row)}, column {quote(self.name)}: {problem}", remedy) from None

    def at(self, row: int) -> str:
        """Return the file of a row and its number there, counted from 1 below the heading."""
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"{self.places[file]}, row {row - self.starts[file] + 1}"


class Table:
    """The columns of a table that are used, by their purpose; the table may have several files.

    Attributes:
        names: names of all columns.
        chosen: names of the used columns, by key such as `user`.
        size: number of rows.

    Args:
        files: the files.
        chosen: see above; all but the first file may lack some of the columns.
        kinds: what the column of each key holds.
        where: an SQL condition on the rows.
        computed: further columns by key, which are SQL expressions.
    """

    def __init__(
        self,
        files: Sequence[TableFile],
        chosen: Mapping[str, str],
        kinds: Mapping[str, Kind],
        where: str | None = None,
        computed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.names, self.chosen, self._kinds, self._where = files[0].names, dict(chosen), kinds, where
        self._computed = computed
        self._files, self._errors = files, dict[str, MalformedData]()
        self._forms = {key: self._choose_form(key) for key in chosen}
        for file in files:
            for key, expression in computed.items():
                file.require_usable(expression, key)
        pieces = [file.read(list(self._expressions(file)), where, list(computed.values())) for file in files]
        self._values = [
            dict(zip([*(key for key in chosen if chosen[key] in file.names), *computed], piece.columns, strict=True))
            for file, piece in zip(files, pieces, strict=True)
        ]
        self._sizes = [piece.num_rows for piece in pieces]
        self.size = sum(self._sizes)

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names of the columns that are not used."""
        return tuple(name for name in self.names if name not in self.chosen.values())

    def drop(self, key: str) -> None:
        """Leave the column for a key out."""
        self.chosen.pop(key, None)

    def column(self, key: str) -> Column:
        """Return the column for a key, with the rows of all files; its memory is given up here.

        Raises:
            MalformedData: a file lacks the column, has it with another type, or has a value that cannot be read.
        """
        import pyarrow as pa

        name = self.chosen.get(key, key)
        if key in self._errors:
            raise self._errors[key]
        for file, values in zip(self._files, self._values, strict=True):
            if key not in values:
                raise MalformedData(
                    f"{file.place}: no column {name!r}, which other files of the folder have",
                    "write all files of the folder with the same columns",
                )
        pieces = [values.pop(key) for values in self._values]
        if key in self._computed and all(is_number(piece.type) for piece in pieces):
            common = next((piece.type for piece in pieces if piece.type != pieces[0].type), None)
            pieces = pieces if common is None else [piece.cast(pa.float64()) for piece in pieces]
        self._require_one_type(name, [piece.type for piece in pieces])
        kept = ", of the rows that meet `where`" if self._where else ""
        starts = np.cumsum([0, *self._sizes[:-1]]).tolist()
        values = pa.chunked_array([chunk for piece in pieces for chunk in piece.chunks], pieces[0].type)
        form = "{}" if key in self._computed else self._sql(key, self._files[0])
        column = Column(name, values, form, [file.place + kept for file in self._files], starts)
        if key in self._computed:
            return column
        for file, piece, start in zip(self._files, pieces, starts, strict=True):
            if piece.null_count:
                self._refuse_unread(key, file, column, start)
        return column

    def _choose_form(self, key: str) -> Form:
        """Return the form of a column of text, by the first file that has one."""
        name, kind = self.chosen[key], self._kinds[key]
        file = next((each for each in self._files if each.types.get(name) == "VARCHAR"), None)
        if file is None or len(kind.texts) == 1:
            return kind.texts[0]
        measures = ["count(value)", *(f"count({(form.fits or form.sql).format('value')})" for form in kind.texts)]
        total, *read = file.measure(measures, _clean(identifier(name)), self._where)
        if not total:
            total, *read = file.measure(measures, _clean(identifier(name)), self._where, None)
        best = max(range(len(read)), key=read.__getitem__)
        rival = kind.texts[best].rival
        if rival is None or read[rival] < read[best]:
            return kind.texts[best]
        return self._choose_of_rivals(key, file, kind.texts[best], kind.texts[rival])

    def _choose_of_rivals(self, key: str, file: TableFile, form: Form, rival: Form) -> Form:
        """Return the form that reads more of a whole column; if both read all and not alike, it will be refused."""
        name = self.chosen[key]
        value, (one, other) = _clean(identifier(name)), (each.sql.format("value") for each in (form, rival))
        differ = f"count(*) FILTER ({one} <> {other})"
        read, rivals, unlike = file.measure([f"count({one})", f"count({other})", differ], value, self._where, None)
        if read == rivals and unlike and (found := file.find_row(value, f"{value} IS NOT NULL", self._where)):
            row, example = found
            self._errors[key] = MalformedData(
                f"{file.place}, row {row + 1}, column {quote(name)}: {quote(example)} may begin with a month or with a "
                "day",
                f"write dates such as 2026-01-31, or, with the month first, {query_remedy(name, _MONTH_FIRST)}",
            )
        return rival if rivals > read else form

    def _expressions(self, file: TableFile) -> Iterator[str]:
        """Yield the SQL of each used column that a file has."""
        for key, name in self.chosen.items():
            if name not in file.names:
                continue
            yield self._sql(key, file).format(identifier(name))

    def _sql(self, key: str, file: TableFile) -> str:
        """Return the SQL that reads a column, with `{}` for its name."""
        kind, name = self._kinds[key], self.chosen[key]
        if file.types[name] == "VARCHAR":
            return self._forms[key].sql
        form = kind.types.get(_plain_type(file.types[name]))
        if form is None:
            problem = f"{file.place}, column {quote(name)} is of type {shorten_middle(file.types[name])}"
            self._errors.setdefault(key, MalformedData(problem, kind.expected))
        return form or "NULL"

    def _require_one_type(self, name: str, types: Sequence[pa.DataType]) -> None:
        other = next((place for place, kind in enumerate(types) if kind != types[0]), None)
        if other is not None:
            one, another = (self._files[place] for place in (0, other))
            raise MalformedData(
                f"{another.place}, column {name} is of type {another.types.get(name, types[other])}, but of type "
                f"{one.types.get(name, types[0])} in {one.place}",
                "write all files of the folder with the same types",
            )

    def _refuse_unread(self, key: str, file: TableFile, column: Column, start: int) -> None:
        """Refuse a column with a value that is not missing but could not be read."""
        kind, raw = self._kinds[key], identifier(self.chosen[key])
        form = self._sql(key, file)
        if form == "{}":
            return
        present = _clean(raw) if file.types[self.chosen[key]] == "VARCHAR" else raw
        found = file.find_row(raw, f"{present} IS NOT NULL AND {form.format(raw)} IS NULL", self._where)
        if found:
            row, value = found
            column.refuse(start + row, f"{quote(value)} {kind.problem}", kind.remedy(column.name, str(value)))


def is_number(kind: pa.DataType) -> bool:
    """Tell whether a type of Arrow is one of numbers, or of true and false."""
    import pyarrow.types as of

    return bool(of.is_boolean(kind) or of.is_floating(kind) or of.is_integer(kind) or of.is_decimal(kind))


def parse_ids(column: Column) -> tuple[Ids, Codes]:
    """Return the unique ids, sorted by code point, and `[N]` codes into them; `MISSING` for a row without an id.

    Spaces around a text are removed. Whole numbers are written without a point, also those that Arrow or pandas
    converted into floating-point numbers.

    Raises:
        MalformedData: a value is not an id.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = column.values.dictionary_encode()
    chunks = encoded.chunks or [pa.array([], column.values.type).dictionary_encode()]
    index = np.concatenate([np.asarray(pc.fill_null(chunk.indices, MISSING)).astype(np.int32) for chunk in chunks])
    distinct = chunks[-1].dictionary
    if pa.types.is_floating(distinct.type):
        distinct = _to_whole_numbers(column, index, distinct)
    texts = distinct.cast(pa.large_string())
    damaged = pc.index(pc.match_substring(texts, "\0"), True).as_py()
    if damaged >= 0:
        column.refuse(int(np.argmax(index == damaged)), f"{quote(texts[damaged].as_py())} has a NUL character")
    trimmed = pc.fill_null(pc.utf8_trim_whitespace(texts), "").dictionary_encode()  # texts that differ only in spaces
    texts = trimmed.dictionary
    order = pc.array_sort_indices(texts).to_numpy()
    order = order[~pc.equal(texts, "").to_numpy(zero_copy_only=False)[order]]
    rank = np.full(len(texts), MISSING, np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    unique = np.empty(len(order), np.object_)
    unique[:] = texts.take(pa.array(order)).to_pylist()
    # MISSING is -1, the index of the value that is appended here.
    return unique, np.append(rank[trimmed.indices.to_numpy()], np.int32(MISSING))[index]


def _to_whole_numbers(column: Column, index: Codes, values: pa.Array) -> pa.Array:
    """Convert floating-point numbers to whole ones; those are refused that may have been rounded."""
    import pyarrow as pa

    limit = 2**24 if values.type == pa.float32() else 2**53
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
    wrong = ~np.isnan(numbers) & ~((np.abs(numbers) < limit) & (np.floor(numbers) == numbers))
    if wrong.any():
        row = int(np.argmax(np.append(wrong, False)[index]))
        value = numbers[index[row]]
        problem = f"{value} is not an exact whole number"
        if value == np.floor(value):
            problem += f": from {limit:,} on, numbers of this type are rounded"
        column.refuse(row, problem, "write ids as text or whole numbers")
    return pa.array(np.nan_to_num(numbers).astype(np.int64), mask=np.isnan(numbers))
