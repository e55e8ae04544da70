"""People's own tables: interactions, and the items with their titles."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtsearch.data import cells
from mtsearch.data.cells import MISSING, Column
from mtsearch.data.cleaning import READ_TIMES, Raw, clean
from mtsearch.data.columns import choose
from mtsearch.data.interactions import Codes, Ids, Interactions
from mtsearch.data.partition import WITHOUT_TIMES
from mtsearch.data.reading import Reading
from mtsearch.data.table_files import SUFFIXES, TableFile, is_table, open_table, parquet_parts
from mtsearch.errors import MalformedData, SourceUnavailable
from mtsearch.study_file.mistakes import shown

if TYPE_CHECKING:
    from mtsearch.definition import DataSection, SplitSection

logger = logging.getLogger("mtsearch")

PARTS = ("train", "validation", "test")
"""Values of a column that says the part; `Interactions.part` is the place in it."""


def read(path: Path, section: "DataSection", split: "SplitSection | None" = None) -> Interactions:
    """The canonical table of a file, or of a folder of Parquet files.

    Args:
        path: of it.
        section: how to read it.
        split: how the rows are divided; None where it is not known, and may be by time.

    Raises:
        SourceUnavailable: a file cannot be read.
        MalformedData: a file is damaged, or a value is not what it should be.
    """
    given: dict[str, str | None] = {**dict(section.columns), "part": split.column if split else None}
    table = _Table.open(path, given, "columns", ("user", "item"), counted=section.feedback == "count")
    feedback = section.feedback or ("explicit" if "rating" in table.chosen else "binary")
    if feedback != "binary" and "rating" not in table.chosen:
        raise MalformedData(
            f"{path}: no column for rating, which feedback = {feedback!r} reads",
            'name it under [data]: columns = { rating = "..." }, or write feedback = "binary"',
        )
    raw, time_unit, dropped = _raw(table, section.missing, _needs_times(section, split))
    if not time_unit:
        table = table.without("timestamp")
    reading = Reading(table.chosen, table.ignored, feedback, time_unit, table.size, dropped)
    return _with_items(clean(raw, section, reading), section)


def _needs_times(section: "DataSection", split: "SplitSection | None") -> bool:
    """Whether a column of times is named or used; it may be where the split is not known."""
    named = section.columns.timestamp is not None
    return named or section.duplicates in READ_TIMES or split is None or split.method not in WITHOUT_TIMES


@dataclass(frozen=True)
class _Table:
    """The columns of a table that are of use, by what they are for.

    Attributes:
        names: of all columns.
        chosen: names of those that are of use.
        pieces: the latter, as each file has them; a file that is not the first may lack some.
        places: the files.
    """

    names: Sequence[str]
    chosen: Mapping[str, str]
    pieces: Sequence[pa.Table]
    places: Sequence[str]

    @classmethod
    def open(
        cls, path: Path, given: Mapping[str, str | None], table: str, required: Sequence[str], counted: bool = False
    ) -> "_Table":
        files = [open_table(part) for part in (parquet_parts(path) if path.is_dir() else [path])]
        chosen = _choose(files[0], given, table, required, counted)
        pieces = [_plain(file, chosen) for file in files]
        return cls(files[0].names, chosen, pieces, [file.place for file in files])

    @property
    def ignored(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name not in self.chosen.values())

    @property
    def size(self) -> int:
        return sum(piece.num_rows for piece in self.pieces)

    def column(self, key: str) -> Column:
        """What is chosen for a key, of all files.

        Raises:
            MalformedData: a file lacks it, or has it of another type.
        """
        name = self.chosen[key]
        for piece, place in zip(self.pieces, self.places, strict=True):
            if name not in piece.column_names:
                raise MalformedData(
                    f"{place}: no column {name!r}, which other files of the folder have", "write the parts alike"
                )
        starts = np.cumsum([0, *(piece.num_rows for piece in self.pieces[:-1])]).tolist()
        values = _joined([piece.column(name) for piece in self.pieces], name, self.places)
        return Column(name, values, self.places, starts)

    def without(self, key: str) -> "_Table":
        """With nothing chosen for a key."""
        return replace(self, chosen={each: name for each, name in self.chosen.items() if each != key})


def _choose(
    file: TableFile, given: Mapping[str, str | None], table: str, required: Sequence[str], counted: bool
) -> dict[str, str]:
    """See `choose`; where counts are wanted, the names that are usual for them come before those of ratings."""
    if counted and given["rating"] is None:
        usual = choose(file, {"count": None}, table, ())
        given = {**given, "rating": usual.get("count")}
    return choose(file, given, table, required)


def _plain(file: TableFile, names: Mapping[str, str]) -> pa.Table:
    """Those of the columns that a file has, dictionaries and views as what they stand for."""
    table = file.read([name for name in names.values() if name in file.names])
    for number, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        kind = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(kind, kind)
        if kind != field.type:
            table = table.set_column(number, field.name, table.column(number).cast(kind))
    return table


def _joined(pieces: Sequence[pa.ChunkedArray], name: str, places: Sequence[str]) -> pa.ChunkedArray:
    kinds = [piece.type for piece in pieces]
    known = [kind for kind in kinds if not pa.types.is_null(kind)]
    other = next((number for number, kind in enumerate(kinds) if kind not in (known[:1] or kinds[:1])
                  and not pa.types.is_null(kind)), None)  # fmt: skip
    if other is not None:
        raise MalformedData(
            f"{places[other]}, column {name} is of type {kinds[other]}, and of type {known[0]} in {places[0]}",
            "write the parts alike",
        )
    kind = known[0] if known else kinds[0]
    return pa.chunked_array([chunk for piece in pieces for chunk in piece.cast(kind).chunks], kind)


def _raw(table: _Table, missing: str, needs_times: bool) -> tuple[Raw, str, dict[str, int]]:
    """The rows that have all, the unit of their times, empty where they have none, and how many rows have not."""
    columns, size = {key: table.column(key) for key in table.chosen if key != "timestamp"}, table.size
    (user_ids, users), (item_ids, items) = cells.ids(columns["user"]), cells.ids(columns["item"])
    absent = {"user": users == MISSING, "item": items == MISSING}
    ratings = cells.numbers(columns["rating"]) if "rating" in columns else np.ones(size)
    absent["rating"] = np.isnan(ratings)
    timestamps, time_unit = np.zeros(size, np.int64), ""
    if found := _times(table, needs_times, missing):
        columns["timestamp"], timestamps, absent["timestamp"], time_unit = found
    part = None
    if "part" in columns:
        part = _parts(columns["part"])
        absent["part"] = part == MISSING
    raw = Raw(user_ids, item_ids, users, items, ratings, timestamps, part, columns["user"].at)
    return _without_missing(raw, columns, absent, missing, time_unit)


def _times(table: _Table, needed: bool, missing: str) -> tuple[Column, NDArray[np.int64], cells.Mask, str] | None:
    """The column of times and what is in it; None where there is none.

    One that is not needed was only guessed by its name, and may be something else: it is left out where it cannot be
    read, or where its blanks would end the run.
    """
    if "timestamp" not in table.chosen:
        return None
    try:
        column = table.column("timestamp")
        found = cells.times(column)
        blank = found[1]
        if not needed and (blank.any() if missing == "error" else blank.all()):
            column.refuse(int(np.argmax(blank)), "no timestamp")
    except MalformedData as error:
        if needed:
            raise
        name = table.chosen["timestamp"]
        logger.warning(
            "data: column %r is left out, which nothing here needs: %s; "
            'to have it read as times, name it under [data]: columns = { timestamp = "%s" }',
            name,
            error.problem,
            name,
        )
        return None
    return column, *found


def _without_missing(
    raw: Raw, columns: Mapping[str, Column], absent: Mapping[str, NDArray[np.bool_]], how: str, time_unit: str
) -> tuple[Raw, str, dict[str, int]]:
    spoilt = np.logical_or.reduce(list(absent.values()))
    if not spoilt.any():
        return raw, time_unit, {}
    if how == "error":
        row = int(np.argmax(spoilt))
        key = next(key for key, rows in absent.items() if rows[row])
        columns[key].refuse(row, f"no {key}", '`missing = "drop"` under [data] leaves such rows out')
    counts = {f"rows without {key} dropped": int(rows.sum()) for key, rows in absent.items()}
    return raw.take(np.flatnonzero(~spoilt)), time_unit, counts


def _parts(column: Column) -> NDArray[np.int8]:
    """`[N]` places in `PARTS`, or `MISSING`."""
    names, codes = cells.ids(column)
    unknown = [code for code, name in enumerate(names) if name not in PARTS]
    if unknown:
        row = int(np.argmax(np.isin(codes, unknown)))
        column.refuse(row, f"{shown(names[codes[row]])} is none of {', '.join(PARTS)}")
    places = np.array([*(PARTS.index(name) for name in names), MISSING], np.int8)
    return places[codes]


def _with_items(interactions: Interactions, section: "DataSection") -> Interactions:
    """With the catalogue and the titles of the items file, where there is one."""
    if section.items is None:
        return interactions
    path = Path(section.items)
    if not path.exists() or not is_table(path):
        problem = f"items = {section.items!r} is no {'table' if path.exists() else 'file'}"
        raise SourceUnavailable(problem, f"name one that ends in {', '.join(SUFFIXES)}, .gz behind it or not")
    table = _Table.open(path, dict(section.item_columns), "item_columns", ("item",))
    column = table.column("item")
    listed, codes = cells.ids(column)
    if (codes == MISSING).any():
        column.refuse(int(np.argmax(codes == MISSING)), "no item")
    if not len(listed):
        raise MalformedData(f"{section.items} lists no items", "name a file that does, or leave `items` out")
    titles = _titles(listed, codes, table.column("title") if "title" in table.chosen else None)
    _require_rated(listed, interactions, section)
    return interactions.listing(listed, titles)


def _require_rated(listed: Ids, interactions: Interactions, section: "DataSection") -> None:
    """Warn where more than a tenth of the rows are of items that are not listed.

    Raises:
        MalformedData: all are.
    """
    catalogue = set(listed)
    is_listed = np.array([item in catalogue for item in interactions.item_ids])
    rows = len(interactions.rows)
    outside = rows - int(np.count_nonzero(is_listed[interactions.rows.items]))
    if outside == rows:
        raise MalformedData(
            f"{section.items} lists no item of {section.source}: there is {shown(listed[0])} in the one, "
            f"and {shown(interactions.item_ids[0])} in the other",
            'write ids alike in both, or name the column that has them: item_columns = { item = "..." }',
        )
    if outside > rows / 10:
        logger.warning(
            "data: %s of %s rows are of items that %s does not list: they are never recommended, and count as misses",
            f"{outside:,}",
            f"{rows:,}",
            section.items,
        )


def _titles(listed: Ids, codes: Codes, column: Column | None) -> Ids | None:
    """`[C]` the title of each item; the id of one that has none.

    Raises:
        MalformedData: an item is there twice, with different titles.
    """
    if column is None:
        return None
    names, titled = cells.ids(column)
    present = np.flatnonzero(titled != MISSING)
    first = np.full(len(listed), MISSING, np.int32)
    first[codes[present[::-1]]] = titled[present[::-1]]
    clash = present[first[codes[present]] != titled[present]]
    if len(clash):
        row = int(clash[0])
        item, title = listed[codes[row]], names[titled[row]]
        column.refuse(row, f"{shown(title)} is another title of item {shown(item)}, which is there already")
    titles = listed.copy()
    found = np.flatnonzero(first != MISSING)
    titles[found] = names[first[found]]
    return titles
