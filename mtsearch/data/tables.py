"""Read a user's tables: choose the columns, parse the interactions, and add the items with their titles."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtsearch.data import parse_columns
from mtsearch.data.cleaning import NEED_TIMES, RawRows, clean
from mtsearch.data.interactions import Codes, Ids, Interactions, ReadReport
from mtsearch.data.parse_columns import MISSING, Column
from mtsearch.data.split import WITHOUT_TIMES
from mtsearch.data.table_files import SUFFIXES, TYPED, TableFile, is_table, open_table, parquet_parts
from mtsearch.errors import MalformedData, SourceUnavailable
from mtsearch.study_file.sections import find_aliases
from mtsearch.text import nearest, quote, shorten_middle

if TYPE_CHECKING:
    from mtsearch.study_file.sections import DataSection, SplitSection


def choose_columns(
    file: TableFile, given: Mapping[str, str | None], table: str, required: Iterable[str]
) -> dict[str, str]:
    """Return the name of the column for each key of `given` that has a column, by the study file or a usual name.

    Args:
        file: a table.
        given: column names from the study file, that of `part` from [split]; None for a key without a name.
        table: the key of [data] that has these names.
        required: keys that must have a column.

    Raises:
        MalformedData: a column is missing, several columns fit, or one column is used for two keys.
    """
    chosen: dict[str, str] = {}
    for key, name in given.items():
        found = _find_column_by_alias(file, key, table) if name is None else _find_named_column(file, key, name)
        if found is not None:
            chosen[key] = found
        elif key in required:
            known = ", ".join(map(repr, file.names))
            raise MalformedData(
                f"{file.place}: no column for {key} among {shorten_middle(known)}",
                f'name it under [data]: {table} = {{ {key} = "..." }}',
            )
    for key, name in chosen.items():
        if file.names.count(name) > 1:
            raise MalformedData(f"{file.place}: two columns are called {name!r}", "rename one of them")
        if other := next((each for each, column in chosen.items() if column == name and each != key), None):
            place = "[split]" if "part" in (key, other) else table
            remedy = f"name another column in {place}"
            raise MalformedData(f"{file.place}: column {name!r} is both {key} and {other}", remedy)
    return chosen


def _find_named_column(file: TableFile, key: str, name: str) -> str:
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


def read_tables(path: Path, section: DataSection, split: SplitSection | None = None) -> Interactions:
    """Read a file, or a folder of Parquet files, as the canonical table.

    Args:
        path: path of the file or folder.
        section: how to read it.
        split: how the rows are divided; None if it is not known and may be by time.

    Raises:
        SourceUnavailable: a file cannot be read.
        MalformedData: a file is damaged, or has a wrong value.
    """
    given: dict[str, str | None] = {**dict(section.columns), "part": split.column if split else None}
    table = _Table.open(path, given, "columns", ("user", "item"), counted=section.feedback == "count")
    feedback = section.feedback or ("explicit" if "rating" in table.chosen else "binary")
    if feedback != "binary" and "rating" not in table.chosen:
        raise MalformedData(
            f"{path}: no column for rating, which feedback = {feedback!r} needs",
            'name it under [data]: columns = { rating = "..." }, or write feedback = "binary"',
        )
    raw, time_unit, dropped = _parse_rows(table, section.missing, _needs_times(section, split))
    if not time_unit:
        table = table.without("timestamp")
    report = ReadReport(table.chosen, table.ignored, feedback, time_unit, table.size, dropped)
    return _add_items(clean(raw, section, report), section)


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
        cls, path: Path, given: Mapping[str, str | None], table: str, required: Sequence[str], counted: bool = False
    ) -> _Table:
        """Open all files and choose the columns by those of the first; for the arguments see `choose_columns`.

        Args:
            path: a file, or a folder of Parquet files.
            given: column names from the study file.
            table: the key of [data] that has these names.
            required: keys that must have a column.
            counted: True if ratings are counts, whose usual column names differ.
        """
        files = [open_table(part) for part in (parquet_parts(path) if path.is_dir() else [path])]
        chosen = _choose_counted(files[0], given, table, required, counted)
        pieces = [_read_plain_columns(file, chosen) for file in files]
        return cls(files[0].names, chosen, pieces, [file.place for file in files])

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


def _choose_counted(
    file: TableFile, given: Mapping[str, str | None], table: str, required: Sequence[str], counted: bool
) -> dict[str, str]:
    """Choose the columns as `choose_columns` does; for counts, their usual names come before those of ratings."""
    if counted and given["rating"] is None:
        usual = choose_columns(file, {"count": None}, table, ())
        given = {**given, "rating": usual.get("count")}
    return choose_columns(file, given, table, required)


def _read_plain_columns(file: TableFile, names: Mapping[str, str]) -> pa.Table:
    """Read those of the columns that a file has, and convert dictionaries and views into plain values."""
    table = file.read([name for name in names.values() if name in file.names])
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


def _parse_rows(table: _Table, missing: str, needs_times: bool) -> tuple[RawRows, str, dict[str, int]]:
    """Parse the rows; return those without missing values, the unit of their times, and the counts of dropped rows.

    The unit is empty if the table has no times.
    """
    columns, size = {key: table.column(key) for key in table.chosen if key != "timestamp"}, table.size
    (user_ids, users), (item_ids, items) = (
        parse_columns.parse_ids(columns["user"]),
        parse_columns.parse_ids(columns["item"]),
    )
    absent = {"user": users == MISSING, "item": items == MISSING}
    ratings = parse_columns.parse_numbers(columns["rating"]) if "rating" in columns else np.ones(size)
    absent["rating"] = np.isnan(ratings)
    timestamps, time_unit = np.zeros(size, np.int64), ""
    if found := _parse_times(table, needs_times, missing):
        columns["timestamp"], timestamps, absent["timestamp"], time_unit = found
    part = None
    if "part" in columns:
        part = _parse_parts(columns["part"])
        absent["part"] = part == MISSING
    raw = RawRows(user_ids, item_ids, users, items, ratings, timestamps, part, columns["user"].at)
    return _drop_missing(raw, columns, absent, missing, time_unit)


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


def _add_items(interactions: Interactions, section: DataSection) -> Interactions:
    """Add the catalogue and the titles of the items file to a table, if the study file names one."""
    if section.items is None:
        return interactions
    path = Path(section.items)
    if not path.exists() or not is_table(path):
        problem = f"items = {section.items!r} " + ("is not a table" if path.exists() else "does not exist")
        raise SourceUnavailable(problem, f"name a file that ends in {', '.join(SUFFIXES)}, also with .gz")
    table = _Table.open(path, dict(section.item_columns), "item_columns", ("item",))
    column = table.column("item")
    listed, codes = parse_columns.parse_ids(column)
    if (codes == MISSING).any():
        column.refuse(int(np.argmax(codes == MISSING)), "no item")
    if not len(listed):
        raise MalformedData(f"{section.items} lists no items", "name another file, or remove `items`")
    titles = _collect_titles(listed, codes, table.column("title") if "title" in table.chosen else None)
    _require_rated(listed, interactions, section)
    return interactions.with_catalogue(listed, titles)


def _require_rated(listed: Ids, interactions: Interactions, section: DataSection) -> None:
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
            f"{section.items} lists no item of {section.source}: the first file has ids such as {quote(listed[0])}, "
            f"the other one ids such as {quote(interactions.item_ids[0])}",
            'write the ids in the same way in both, or name their column: item_columns = { item = "..." }',
        )
    if outside > rows / 10:
        logger.warning(
            "data: %s of %s rows have items that %s does not list: these are never recommended, and count as misses",
            f"{outside:,}",
            f"{rows:,}",
            section.items,
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
