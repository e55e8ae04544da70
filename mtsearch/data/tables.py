"""Read a user's tables: choose the columns, parse the interactions, and add the items with their titles."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtsearch.data import parse_columns
from mtsearch.data.cleaning import NEED_TIMES, RawRows, clean
from mtsearch.data.doubts import warn_of_codes, warn_of_kinds
from mtsearch.data.interactions import Codes, Ids, Interactions, ReadReport
from mtsearch.data.parse_columns import MISSING, Column
from mtsearch.data.sources import Source
from mtsearch.data.split import WITHOUT_TIMES
from mtsearch.data.table_files import TYPED, TableFile
from mtsearch.errors import MalformedData
from mtsearch.study_file.sections import find_aliases, has_usual_name
from mtsearch.text import nearest, quote, shorten_middle

if TYPE_CHECKING:
    from mtsearch.study_file.sections import DataSection, SplitSection

Given = Mapping[str, str | int | Literal[False] | None]
"""For each key the name or the number of its column in the study file, False for no column, None for the usual one."""


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
        if name in (known, _strip_type(file, known)):
            return known
    place = "[split]" if key == "part" else "[data]"
    raise MalformedData(
        f"{file.place}: no column {name!r}{nearest(name, file.names)}", f"name a column of the file under {place}"
    )


def _find_column_by_alias(file: TableFile, key: str, table: str) -> str | None:
    places = find_aliases([_strip_type(file, name) for name in file.names], key)
    found = list(dict.fromkeys(file.names[place] for place in places))
    if len(found) > 1:
        raise MalformedData(
            f"{file.place}: {found[0]!r} and {found[1]!r} may both be the {key}",
            f'name one under [data]: {table} = {{ {key} = "..." }}',
        )
    return found[0] if found else None


def _strip_type(file: TableFile, name: str) -> str:
    """Return a column name without the type that RecBole's headings have, as in `user_id:token`."""
    return name.partition(":")[0] if file.place.removesuffix(".gz").endswith(TYPED) else name


logger = logging.getLogger("mtsearch")

PARTS = ("train", "validation", "test")
"""Values of a column of parts; `Interactions.part` has their indices in this list."""


def read_tables(source: Source, section: DataSection, split: SplitSection | None = None) -> Interactions:
    """Read the files of a source as the canonical table.

    Args:
        source: its files.
        section: how to read them.
        split: how the rows are divided; None if it is not known and may be by time.

    Raises:
        SourceUnavailable: a file cannot be read.
        MalformedData: a file is damaged, or has a wrong value.
    """
    # What the study file says comes before what the source's usual form has.
    named = {key: column for key, column in section.columns if column is not None}
    given: Given = {
        **dict.fromkeys(type(section.columns).model_fields), **source.columns, **named,
        "part": split.column if split else None,
    }  # fmt: skip
    _tell_heading(source.files[0], given, section)
    given = _find_counts(source.files[0], given, section.feedback)
    table = _Table.open(source.files, given, "columns", ("user", "item"), section.where)
    feedback = section.feedback or ("explicit" if "rating" in table.chosen else "binary")
    if feedback != "binary" and "rating" not in table.chosen:
        raise MalformedData(
            f"{section.origin}: no column for rating, which feedback = {feedback!r} needs",
            'name it under [data]: columns = { rating = "..." }, or write feedback = "binary"',
        )
    if not table.size:
        kept = " that meet `where`" if section.where else ""
        raise MalformedData(f"{section.origin} has no rows{kept}", "name another source")
    raw, time_unit, dropped = _parse_rows(table, section, _needs_times(section, split))
    if feedback == "binary" and section.feedback is None and section.columns.rating is None:
        _tell_counts(source.files[0])
    if feedback == "binary" and section.where is None:
        first = source.files[0]
        warn_of_kinds(table.ignored, lambda name: first.read([name], None).column(0))
    if feedback == "explicit" and section.rating_range is None:
        warn_of_codes(raw.ratings)
    if not time_unit:
        table = table.without("timestamp")
    report = ReadReport(table.chosen, table.ignored, feedback, time_unit, table.size, dropped)
    return _add_items(clean(raw, section, report), source, section)


def _tell_heading(file: TableFile, given: Given, section: DataSection) -> None:
    """Warn that a first line is taken for a heading if nothing but the numbers of columns is known of it."""
    names = [_strip_type(file, name) for name in file.names]
    by_number = any(isinstance(place, int) and not isinstance(place, bool) for place in given.values())
    if by_number and not has_usual_name(names) and file.is_text and not file.headless and section.reader.header is None:
        logger.warning(
            "data: the first line of %s, %s, is taken for a heading; if it is a row, write "
            "reader = { header = false } under [data], else reader = { header = true }",
            file.place,
            shorten_middle(", ".join(map(repr, file.names))),
        )


def _find_counts(file: TableFile, given: Given, feedback: str | None) -> Given:
    """Return `given` with the column of counts for that of ratings: for count feedback their usual names come first."""
    if given["rating"] is not None or feedback != "count":
        return given
    return {**given, "rating": choose_columns(file, {"count": None}, "columns", ()).get("count")}


def _tell_counts(file: TableFile) -> None:
    """Warn of a column of counts that is not used, since every row counts as 1."""
    if counts := choose_columns(file, {"count": None}, "columns", ()):
        logger.warning(
            "data: column %r is not used, and every row counts as 1; to learn from its numbers, write "
            'feedback = "count" under [data], else feedback = "binary"',
            counts["count"],
        )


def _needs_times(section: DataSection, split: SplitSection | None) -> bool:
    """Tell whether a column of times is named, or needed for duplicates or the split; True if the split is unknown."""
    named = section.columns.timestamp is not None
    return named or section.duplicates in NEED_TIMES or split is None or split.method not in WITHOUT_TIMES


@dataclass(frozen=True)
class _Table:
    """The columns of a table that are used, by their purpose; the table may have several files.

    Attributes:
        names: names of all columns.
        chosen: names of the used columns, by key such as `user`.
        pieces: used columns of each file; all but the first file may lack some.
        places: paths of the files.
    """

    names: Sequence[str]
    chosen: Mapping[str, str]
    pieces: Sequence[pa.Table]
    places: Sequence[str]

    @classmethod
    def open(
        cls, files: Sequence[TableFile], given: Given, table: str, required: Sequence[str], where: str | None = None
    ) -> _Table:
        """Choose the columns by those of the first file, and read them; for the arguments see `choose_columns`.

        Args:
            files: the files.
            given: columns from the study file.
            table: the key of [data] that has these names.
            required: keys that must have a column.
            where: an SQL condition on the rows.
        """
        chosen = choose_columns(files[0], given, table, required)
        pieces = [_read_plain_columns(file, chosen, where) for file in files]
        kept = ", of the rows that meet `where`" if where else ""
        return cls(files[0].names, chosen, pieces, [file.place + kept for file in files])

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names of the columns that are not used."""
        return tuple(name for name in self.names if name not in self.chosen.values())

    @property
    def size(self) -> int:
        """Number of rows."""
        return sum(piece.num_rows for piece in self.pieces)

    def column(self, key: str) -> Column:
        """Return the column for a key, with the rows of all files.

        Raises:
            MalformedData: a file lacks the column, or has it with another type.
        """
        name = self.chosen[key]
        for piece, place in zip(self.pieces, self.places, strict=True):
            if name not in piece.column_names:
                raise MalformedData(
                    f"{place}: no column {name!r}, which other files of the folder have",
                    "write all files of the folder with the same columns",
                )
        starts = np.cumsum([0, *(piece.num_rows for piece in self.pieces[:-1])]).tolist()
        values = _join_pieces([piece.column(name) for piece in self.pieces], name, self.places)
        return Column(name, values, self.places, starts)

    def without(self, key: str) -> _Table:
        """Return the table without the column for a key."""
        return replace(self, chosen={each: name for each, name in self.chosen.items() if each != key})


def _read_plain_columns(file: TableFile, names: Mapping[str, str], condition: str | None) -> pa.Table:
    """Read those of the columns that a file has, and convert dictionaries and views into plain values."""
    table = file.read([name for name in names.values() if name in file.names], condition)
    for number, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        kind = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(kind, kind)
        if kind != field.type:
            table = table.set_column(number, field.name, table.column(number).cast(kind))
    return table


def _join_pieces(pieces: Sequence[pa.ChunkedArray], name: str, places: Sequence[str]) -> pa.ChunkedArray:
    kinds = [piece.type for piece in pieces]
    known = [kind for kind in kinds if not pa.types.is_null(kind)]
    other = next((number for number, kind in enumerate(kinds) if kind not in (known[:1] or kinds[:1])
                  and not pa.types.is_null(kind)), None)  # fmt: skip
    if other is not None:
        raise MalformedData(
            f"{places[other]}, column {name} is of type {kinds[other]}, but of type {known[0]} in {places[0]}",
            "write all files of the folder with the same types",
        )
    kind = known[0] if known else kinds[0]
    return pa.chunked_array([chunk for piece in pieces for chunk in piece.cast(kind).chunks], kind)


def _parse_rows(table: _Table, section: DataSection, needs_times: bool) -> tuple[RawRows, str, dict[str, int]]:
    """Parse the rows; return those without missing values, the unit of their times, and the counts of dropped rows.

    The unit is empty if the table has no times.
    """
    columns, size = {key: table.column(key) for key in table.chosen if key != "timestamp"}, table.size
    (user_ids, users), (item_ids, items) = (
        parse_columns.parse_ids(columns["user"]),
        parse_columns.parse_ids(columns["item"]),
    )
    absent = {"user": users == MISSING, "item": items == MISSING}
    ratings = np.ones(size)
    if "rating" in columns:
        ratings = parse_columns.parse_numbers(columns["rating"], decimal=section.reader.decimal)
    absent["rating"] = np.isnan(ratings)
    timestamps, time_unit = np.zeros(size, np.int64), ""
    if found := _parse_times(table, needs_times, section.missing):
        columns["timestamp"], timestamps, absent["timestamp"], time_unit = found
    part = None
    if "part" in columns:
        part = _parse_parts(columns["part"])
        absent["part"] = part == MISSING
    raw = RawRows(user_ids, item_ids, users, items, ratings, timestamps, part, columns["user"].at)
    return _drop_missing(raw, columns, absent, section.missing, time_unit)


def _parse_times(
    table: _Table, needed: bool, missing: str
) -> tuple[Column, NDArray[np.int64], parse_columns.Mask, str] | None:
    """Parse the column of times, if there is one: return the column, its seconds, missing values and unit.

    A column that is not needed was only found by its usual name, and may be something else. It is left out with a
    warning if it cannot be parsed, or if its missing values would be an error.
    """
    if "timestamp" not in table.chosen:
        return None
    try:
        column = table.column("timestamp")
        found = parse_columns.parse_times(column)
        blank = found[1]
        if not needed and (blank.any() if missing == "error" else blank.all()):
            column.refuse(int(np.argmax(blank)), "no timestamp")
    except MalformedData as error:
        if needed:
            raise
        name = table.chosen["timestamp"]
        logger.warning(
            "data: column %r is ignored, since times are not needed here: %s; "
            'to read it as times, name it under [data]: columns = { timestamp = "%s" }',
            name,
            error.problem,
            name,
        )
        return None
    return column, *found


def _drop_missing(
    raw: RawRows, columns: Mapping[str, Column], absent: Mapping[str, NDArray[np.bool_]], how: str, time_unit: str
) -> tuple[RawRows, str, dict[str, int]]:
    incomplete = np.logical_or.reduce(list(absent.values()))
    if not incomplete.any():
        return raw, time_unit, {}
    if how == "error":
        row = int(np.argmax(incomplete))
        key = next(key for key, rows in absent.items() if rows[row])
        columns[key].refuse(row, f"no {key}", 'write `missing = "drop"` under [data] to leave such rows out')
    counts = {f"rows without {key} dropped": int(rows.sum()) for key, rows in absent.items()}
    return raw.take(np.flatnonzero(~incomplete)), time_unit, counts


def _parse_parts(column: Column) -> NDArray[np.int8]:
    """Return `[N]`, the index of each row's part in `PARTS`, or `MISSING`."""
    names, codes = parse_columns.parse_ids(column)
    unknown = [code for code, name in enumerate(names) if name not in PARTS]
    if unknown:
        row = int(np.argmax(np.isin(codes, unknown)))
        column.refuse(row, f"{quote(names[codes[row]])} is not one of {', '.join(PARTS)}")
    places = np.array([*(PARTS.index(name) for name in names), MISSING], np.int8)
    return places[codes]


def _add_items(interactions: Interactions, source: Source, section: DataSection) -> Interactions:
    """Add the catalogue and the titles of the items file to a table, if the study file or the source names one."""
    if not source.items:
        return interactions
    named = {key: column for key, column in section.item_columns if column is not None}
    given = {**dict.fromkeys(type(section.item_columns).model_fields), **source.item_columns, **named}
    table = _Table.open(source.items, given, "item_columns", ("item",))
    column, place = table.column("item"), source.items[0].place
    listed, codes = parse_columns.parse_ids(column)
    if (codes == MISSING).any():
        column.refuse(int(np.argmax(codes == MISSING)), "no item")
    if not len(listed):
        raise MalformedData(f"{place} lists no items", "name another file, or remove `items`")
    titles = _collect_titles(listed, codes, table.column("title") if "title" in table.chosen else None)
    _require_rated(listed, interactions, place, section)
    return interactions.with_catalogue(listed, titles)


def _require_rated(listed: Ids, interactions: Interactions, place: str, section: DataSection) -> None:
    """Warn if the items file lacks the items of more than a tenth of the rows.

    Raises:
        MalformedData: the file lacks the items of all rows.
    """
    catalogue = set(listed)
    is_listed = np.array([item in catalogue for item in interactions.item_ids])
    rows = len(interactions.rows)
    outside = rows - int(np.count_nonzero(is_listed[interactions.rows.items]))
    if outside == rows:
        raise MalformedData(
            f"{place} lists no item of {section.origin}: the first file has ids such as {quote(listed[0])}, "
            f"the other one ids such as {quote(interactions.item_ids[0])}",
            'write the ids in the same way in both, or name their column: item_columns = { item = "..." }',
        )
    if outside > rows / 10:
        logger.warning(
            "data: %s of %s rows have items that %s does not list: these are never recommended, and count as misses",
            f"{outside:,}",
            f"{rows:,}",
            place,
        )


def _collect_titles(listed: Ids, codes: Codes, column: Column | None) -> Ids | None:
    """Return `[C]` titles of the items, the id for an item without a title; None without a column of titles.

    Raises:
        MalformedData: an item has two different titles.
    """
    if column is None:
        return None
    names, titled = parse_columns.parse_ids(column)
    present = np.flatnonzero(titled != MISSING)
    # The first title of each item: rows are assigned in reverse order, so that the first row is assigned last.
    first = np.full(len(listed), MISSING, np.int32)
    first[codes[present[::-1]]] = titled[present[::-1]]
    clash = present[first[codes[present]] != titled[present]]
    if len(clash):
        row = int(clash[0])
        item, title = listed[codes[row]], names[titled[row]]
        column.refuse(row, f"{quote(title)} is a second title of item {quote(item)}")
    titles = listed.copy()
    found = np.flatnonzero(first != MISSING)
    titles[found] = names[first[found]]
    return titles
