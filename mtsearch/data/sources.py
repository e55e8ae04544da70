"""Find the tables that a source names: files, patterns, folders and archives, known data sets among them."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mtsearch.errors import MalformedData, SourceUnavailable
from mtsearch.study_file.sections import Reader
from mtsearch.tables.names import find_aliases
from mtsearch.tables.open import TableFile, open_query, open_table
from mtsearch.tables.paths import PARQUET, SUFFIXES, expand, is_archive, is_table, kind_of, members, parts
from mtsearch.text import shorten_middle

if TYPE_CHECKING:
    from mtsearch.study_file.sections import DataSection


logger = logging.getLogger("mtsearch")


@dataclass(frozen=True)
class Source:
    """The open tables of a source.

    Attributes:
        files: the tables of interactions, in order.
        columns: column of each key as the source's known form has it.
        items: the tables of items; none without one.
        item_columns: column of each key of these.
        titled: True if items are called by their titles.
    """

    files: Sequence[TableFile]
    columns: Mapping[str, str | int] = field(default_factory=dict)
    items: Sequence[TableFile] = ()
    item_columns: Mapping[str, str | int] = field(default_factory=dict)
    titled: bool = False


@dataclass(frozen=True)
class _Form:
    """The form of a published data set: a folder or archive with these files.

    Attributes:
        interactions: name of the file of interactions.
        items: name of the file of items.
        columns, item_columns: column of each key, where it has no usual name.
        reader, item_reader: how the files are read.
        titled: True if items are called by their titles.
    """

    interactions: str
    items: str
    columns: Mapping[str, str | int] = field(default_factory=dict)
    item_columns: Mapping[str, str | int] = field(default_factory=dict)
    reader: Reader = field(default_factory=Reader)
    item_reader: Reader = field(default_factory=Reader)
    titled: bool = False


_SPREADSHEETS = (".xlsx", ".xls", ".ods")
_MOVIELENS = {"user": 1, "item": 2, "rating": 3, "timestamp": 4}
_FORMS = (
    _Form(  # MovieLens 100K
        "u.data",
        "u.item",
        _MOVIELENS,
        {"item": 1, "title": 2},
        Reader(separator="\t", header=False, quote=""),
        Reader(separator="|", header=False, quote="", encoding="latin-1"),
        titled=True,
    ),
    _Form(  # MovieLens 1M and 10M
        "ratings.dat",
        "movies.dat",
        _MOVIELENS,
        {"item": 1, "title": 2},
        Reader(separator="::", header=False, quote=""),
        Reader(separator="::", header=False, quote="", encoding="latin-1"),
    ),
    _Form("ratings.csv", "movies.csv"),  # MovieLens 20M and later
    _Form("ratings.csv", "books.csv", item_columns={"item": "book_id", "title": "title"}),  # Goodbooks
)

_FILES = {form.interactions: form.reader for form in _FORMS[:2]}
"""Files of MovieLens that are known by their names, and how they are read."""


def open_source(section: DataSection) -> Source:
    """Open the tables of a [data] section, which are no named source.

    Raises:
        SourceUnavailable: a path does not exist, or a file cannot be read.
        MalformedData: a file is damaged, or it is not clear which tables are meant.
    """
    if section.query:
        source = Source([open_query(section.query, Path(section.query_folder or "."))])
    else:
        paths = [path for each in section.sources for path in _require_paths(each)]
        source = _open_paths(paths, section.reader)
    if section.items is None:
        return source
    items = [open_table(path, section.reader) for path in _require_items(section.items)]
    return Source(source.files, source.columns, items)


def _require_paths(source: str) -> list[Path]:
    """Return the files that a path or a pattern names."""
    try:
        if found := expand(source):
            return found
    except (OSError, RuntimeError, ValueError):
        pass  # a name that is too long, or an unknown home folder, counts as a missing file
    if any(each in source for each in "*?["):
        raise SourceUnavailable(f"no file matches {source!r}", "correct the pattern")
    from mtsearch.data.load import source_names

    names = source_names()
    near = difflib.get_close_matches(source, names, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    raise SourceUnavailable(
        f"{source!r} is neither a data source nor a file",
        f"{guess}name one of {', '.join(names)}, or the path of a table, or of a folder or zip of tables",
    )


def _require_items(items: str) -> list[Path]:
    paths = expand(items)
    if not paths or not all(is_table(path) or kind_of(path) in SUFFIXES for path in paths):
        problem = f"items = {items!r} " + ("is not a table" if paths else "does not exist")
        raise SourceUnavailable(problem, f"name a file that ends in {', '.join(SUFFIXES)}, also with .gz or .zst")
    return [part for path in paths for part in parts(path)]


def _open_paths(paths: Sequence[Path], reader: Reader) -> Source:
    """Open files, or the one folder or archive that is given, by its known form where it has one."""
    for path in paths:
        if path.suffix.lower() in _SPREADSHEETS:
            raise MalformedData(f"{path} is a spreadsheet", "save its sheet as CSV")
    if len(paths) == 1 and (paths[0].is_dir() or is_archive(paths[0])):
        return _open_collection(paths[0], reader)
    if len(paths) == 1 and (form := _FILES.get(paths[0].name)):
        return Source([open_table(paths[0], _joined(form, reader))], _MOVIELENS)
    return Source([open_table(part, reader) for path in paths for part in parts(path)])


def _open_collection(path: Path, reader: Reader) -> Source:
    names = list(members(path))
    by_name = {PurePosixPath(name).name.removesuffix(".gz"): name for name in names}
    for form in _FORMS:
        lacking = [name for name in (form.interactions, form.items) if name not in by_name]
        if form.titled and len(lacking) == 1:
            raise MalformedData(f"{path} has no {lacking[0]}", "name the folder or zip of MovieLens 100K as a whole")
        if not lacking:
            interactions, items = path / by_name[form.interactions], path / by_name[form.items]
            return Source(
                [open_table(interactions, _joined(form.reader, reader))],
                form.columns,
                [open_table(items, form.item_reader)],
                form.item_columns,
                form.titled,
            )
    inter, item = ([name for name in names if kind_of(Path(name)) == kind] for kind in (".inter", ".item"))
    if len(inter) == 1:  # RecBole
        titled = [table for table in (open_table(path / name) for name in item) if _has_titles(table)]
        return Source([open_table(path / inter[0], reader)], {}, titled[:1])
    if not names:
        raise MalformedData(
            f"{path} has no tables", f"name a folder or zip with files that end in {', '.join(SUFFIXES)}"
        )
    return Source(_choose(path, {name: open_table(path / name, reader) for name in names}))


def _joined(form: Reader, given: Reader) -> Reader:
    """Return the reader of a form with what the study file says in its place."""
    return form.model_copy(update={name: getattr(given, name) for name in given.model_fields_set})


def _has_titles(table: TableFile) -> bool:
    names = [name.partition(":")[0] for name in table.names]
    return bool(find_aliases(names, "item") and find_aliases(names, "title"))


def _choose(path: Path, tables: Mapping[str, TableFile]) -> list[TableFile]:
    """Return the tables of interactions: all files of one form, or the only ones with users and items.

    Raises:
        MalformedData: there are several.
    """
    headings: dict[tuple[str, ...], list[str]] = {}
    for name, table in tables.items():
        headings.setdefault(tuple(table.names), []).append(name)
    if len(headings) == 1 or all(kind_of(Path(name)) in PARQUET for name in tables):  # a data set in parts
        return list(tables.values())
    fitting = [
        group for heading, group in headings.items() if all(find_aliases(heading, key) for key in ("user", "item"))
    ]
    rated = [group for heading, group in headings.items() if group in fitting and find_aliases(heading, "rating")]
    for groups in (fitting, rated):
        if len(groups) == 1:
            others = ", ".join(name for name in tables if name not in groups[0])
            logger.info("data: of %s, %s is read, and not %s", path, ", ".join(groups[0]), shorten_middle(others))
            return [tables[name] for name in groups[0]]
    known, first = shorten_middle(", ".join(tables)), next(iter(tables))
    raise MalformedData(f"{path} has several tables: {known}", f'name one: source = "{path}/{first}"')
