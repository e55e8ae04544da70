"""Read a user's tables: choose the columns, parse the interactions, and add the items with their titles."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtsearch.data import parse_columns
from mtsearch.data.cleaning import LARGEST, NEED_TIMES, RawRows, clean
from mtsearch.data.doubts import warn_of_codes, warn_of_kinds
from mtsearch.data.interactions import Codes, Ids, Interactions, ReadReport
from mtsearch.data.sources import Source
from mtsearch.data.split import WITHOUT_TIMES
from mtsearch.data.targets import drop_idle, find_rated_targets, parse_targets, plan_targets
from mtsearch.errors import MalformedData
from mtsearch.tables.columns import IDS, MISSING, Column, Given, Table, choose_columns, parse_ids, strip_type
from mtsearch.tables.names import has_usual_name
from mtsearch.tables.open import TableFile, identifier
from mtsearch.text import quote, shorten_middle

if TYPE_CHECKING:
    from mtsearch.study_file.sections import DataSection, SplitSection
    from mtsearch.study_file.tasks import TaskSection

logger = logging.getLogger("mtsearch")

PARTS = ("train", "validation", "test")
"""Values of a column of parts; `Interactions.part` has their indices in this list."""


def read_tables(
    source: Source,
    section: DataSection,
    split: SplitSection | None = None,
    tasks: Mapping[str, TaskSection] | None = None,
) -> Interactions:
    """Read the files of a source as the canonical table.

    Args:
        source: its files.
        section: how to read them.
        split: how the rows are divided; None if it is not known and may be by time.
        tasks: of the study file; none for the tutorial's two.

    Raises:
        SourceUnavailable: a file cannot be read.
        MalformedData: a file is damaged, or has a wrong value.
    """
    chosen = _choose_columns(source, section, split, tasks or {})
    targets, computed = plan_targets(tasks or {}, source.files[0])
    numbers = parse_columns.numbers(section.reader.decimal)
    kinds = {
        **{"user": IDS, "item": IDS, "part": IDS, "rating": numbers, "weight": numbers},
        **{"timestamp": parse_columns.TIMES, **dict.fromkeys(targets, numbers)},
    }
    table = Table(source.files, {**chosen, **targets}, kinds, section.where, computed)
    feedback: str = section.feedback or ("explicit" if "rating" in table.chosen else "binary")
    if feedback != "binary" and "rating" not in table.chosen:
        raise MalformedData(
            f"{section.origin}: no column for rating, which feedback = {feedback!r} needs",
            'name it under [data]: columns = { rating = "..." }, or write feedback = "binary"',
        )
    if not table.size:
        kept = " that meet `where`" if section.where else ""
        raise MalformedData(f"{section.origin} has no rows{kept}", "name another source")
    raw, time_unit, dropped = _parse_rows(table, section, _needs_times(section, split), tasks or {})
    feedback = _settle_feedback(feedback, raw, table, source.files[0], section, has_tasks=bool(tasks))
    if not time_unit:
        table.drop("timestamp")
    ignored = _leave_out_named(table.ignored, [section.where or "", *computed.values()])
    report = ReadReport(table.chosen, ignored, feedback, time_unit, table.size, dropped)
    return _clean_with_items(raw, source, section, report)


def _choose_columns(
    source: Source, section: DataSection, split: SplitSection | None, tasks: Mapping[str, TaskSection]
) -> dict[str, str]:
    """Return the name of the column for each purpose."""
    # What the study file says comes before what the source's usual form has.
    named = {key: column for key, column in section.columns if column is not None}
    given: Given = {
        **dict.fromkeys(type(section.columns).model_fields), **source.columns, **named,
        "part": split.column if split else None,
    }  # fmt: skip
    _tell_heading(source.files[0], given, section)
    given = _find_counts(source.files[0], given, section.feedback)
    rating_tasks = [name for name, task in tasks.items() if task.uses_ratings]
    if tasks and given["rating"] is None and not rating_tasks:
        given = {**given, "rating": False}  # its usual name may be that of something else
    chosen = choose_columns(source.files[0], given, "columns", ("user", "item"))
    if rating_tasks and "rating" not in chosen:
        raise MalformedData(
            f"{section.origin}: no column for rating, which [tasks.{rating_tasks[0]}] needs",
            f'name it under [data]: columns = {{ rating = "..." }}, or name a target in [tasks.{rating_tasks[0]}]',
        )
    return chosen


def _settle_feedback(
    feedback: str, raw: RawRows, table: Table, file: TableFile, section: DataSection, *, has_tasks: bool
) -> str:
    """Return what a row means, now that the rows are known, and warn of what they may mean other than that."""
    if feedback == "explicit" and section.feedback is None and not has_tasks and _is_yes_or_no(raw.ratings):
        feedback = "binary"
        _tell_yes_or_no(table.chosen["rating"])
    if feedback == "binary" and section.feedback is None and section.columns.rating is None and not has_tasks:
        _tell_counts(file)
    if feedback == "binary" and section.where is None and not has_tasks:
        warn_of_kinds(table.ignored, lambda name: file.read([identifier(name)]).column(0))
    if feedback == "explicit" and section.rating_range is None:
        warn_of_codes(raw.ratings)
    if has_tasks and section.feedback is None and "rating" not in table.chosen:
        feedback = "explicit"  # there are no ratings to convert, and the tasks say what a row means
    return feedback


def _clean_with_items(raw: RawRows, source: Source, section: DataSection, report: ReadReport) -> Interactions:
    """Return the canonical table of the rows, with the items and titles of the source's tables of items."""
    if not source.items:
        return clean(raw, section, report)
    listed, titles = _read_items(source, section)
    if source.titled and titles is not None:
        raw = _name_by_title(raw, listed, titles, source.items[0])
        return clean(raw, section, report).with_catalogue(np.unique(titles))
    interactions = clean(raw, section, report)
    _require_rated(listed, interactions, source.items[0].place, section)
    return interactions.with_catalogue(listed, titles)


def _leave_out_named(columns: Sequence[str], expressions: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that no SQL expression names."""
    named = re.compile("|".join(rf"(?<!\w){re.escape(each)}(?!\w)" for each in columns), re.IGNORECASE)
    found = {each.lower() for expression in expressions if columns for each in named.findall(expression)}
    return tuple(each for each in columns if each.lower() not in found)


def _is_yes_or_no(ratings: NDArray[np.float64]) -> bool:
    """Tell whether a column of ratings has nothing but 0 and 1, and both; some may be missing."""
    known = ratings[~np.isnan(ratings)]
    return len(known) > 0 and bool(np.isin(known, (0, 1)).all()) and 0 < known.mean() < 1


def _tell_yes_or_no(name: str) -> None:
    logger.warning(
        "data: column %r has only 0 and 1, which are no stars: rows of 1 are taken as chosen, all others left out; to "
        'have it so without a warning, write feedback = "binary" under [data]; to learn from both, write '
        '[tasks.chosen] kind = "retrieval" where = "%s = 1" and [tasks.answer] kind = "label" target = "%s"; to take '
        'them as numbers, as earlier versions did, write feedback = "explicit"',
        name,
        name if name.isidentifier() else f'\\"{name}\\"',
        name,
    )


def _tell_heading(file: TableFile, given: Given, section: DataSection) -> None:
    """Warn that a first line is taken for a heading if nothing but the numbers of columns is known of it."""
    names = [strip_type(file, name) for name in file.names]
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


def _parse_rows(
    table: Table, section: DataSection, needs_times: bool, tasks: Mapping[str, TaskSection]
) -> tuple[RawRows, str, dict[str, int]]:
    """Parse the rows; return those without missing values, the unit of their times, and the counts of dropped rows.

    A row without a rating, or without the target of a task, still serves the other tasks. A row that serves none is
    dropped.

    The unit is empty if the table has no times.
    """
    columns: dict[str, Column] = {}

    def take(key: str) -> Column:
        # Values are given up as soon as they are parsed: only their places are needed later.
        column = table.column(key)
        columns[key] = replace(column, values=column.values.slice(0, 0))
        return column

    (user_ids, users), (item_ids, items) = parse_ids(take("user")), parse_ids(take("item"))
    absent = {"user": users == MISSING, "item": items == MISSING}
    ratings = parse_columns.parse_numbers(take("rating")) if "rating" in table.chosen else np.ones(table.size)
    if section.missing == "drop" and not tasks:
        absent["rating"] = np.isnan(ratings)
    timestamps, time_unit = np.zeros(table.size, np.int64), ""
    if found := _parse_times(table, needs_times, section.missing):
        columns["timestamp"], timestamps, absent["timestamp"], time_unit = found
    part = None
    if "part" in table.chosen:
        part = _parse_parts(take("part"))
        absent["part"] = part == MISSING
    weights = None
    if "weight" in table.chosen:
        weights = _parse_weights(take("weight"))
        absent["weight"] = np.isnan(weights)
    targets = parse_targets(tasks, take, ratings)
    rated = find_rated_targets(tasks)
    raw = RawRows(
        user_ids, item_ids, users, items, ratings, timestamps, part, columns["user"].at, targets, weights, rated
    )
    raw, time_unit, counts = _drop_missing(raw, columns, absent, section.missing, time_unit)
    if "rating" in columns and len(raw.users) and np.isnan(raw.ratings).all():
        columns["rating"].refuse(0, "no row has a rating", "name another column, or columns = { rating = false }")
    return drop_idle(raw, tasks, counts), time_unit, counts


def _parse_weights(column: Column) -> NDArray[np.float64]:
    weights = parse_columns.parse_numbers(column)
    if (wrong := ~np.isnan(weights) & ~((weights >= 0) & (weights <= LARGEST))).any():
        row = int(np.argmax(wrong))
        problem = f"the weight {weights[row]:g} is negative, infinite or beyond float32"
        column.refuse(row, problem, "write a number of 0 or more")
    if len(weights) and not (weights > 0).any():
        column.refuse(0, "no row has a weight above 0", "name another column, or columns = { weight = false }")
    return weights


def _parse_times(
    table: Table, needed: bool, missing: str
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
    names, codes = parse_ids(column)
    unknown = [code for code, name in enumerate(names) if name not in PARTS]
    if unknown:
        row = int(np.argmax(np.isin(codes, unknown)))
        column.refuse(row, f"{quote(names[codes[row]])} is not one of {', '.join(PARTS)}")
    places = np.array([*(PARTS.index(name) for name in names), MISSING], np.int8)
    return places[codes]


def _read_items(source: Source, section: DataSection) -> tuple[Ids, Ids | None]:
    """Read the items file: return the ids of the items, and their titles if it has some."""
    named = {key: column for key, column in section.item_columns if column is not None}
    given = {**dict.fromkeys(type(section.item_columns).model_fields), **source.item_columns, **named}
    chosen = choose_columns(source.items[0], given, "item_columns", ("item",))
    table = Table(source.items, chosen, dict.fromkeys(chosen, IDS))
    column, place = table.column("item"), source.items[0].place
    listed, codes = parse_ids(column)
    if (codes == MISSING).any():
        column.refuse(int(np.argmax(codes == MISSING)), "no item")
    if not len(listed):
        raise MalformedData(f"{place} lists no items", "name another file, or remove `items`")
    return listed, _collect_titles(listed, codes, table.column("title") if "title" in table.chosen else None)


def _name_by_title(raw: RawRows, listed: Ids, titles: Ids, file: TableFile) -> RawRows:
    """Return the rows with the titles of the items as their ids; items of one title become one."""
    known = dict(zip(listed, titles, strict=True))
    unknown = [code for code, item in enumerate(raw.item_ids) if item not in known]
    if unknown:
        row = int(np.argmax(np.isin(raw.items, unknown)))
        problem = f"item {quote(raw.item_ids[raw.items[row]])} has no line in {file.place}"
        raw.refuse(row, problem, "correct the file or download the archive again")
    names, codes = np.unique(np.array([known[item] for item in raw.item_ids], np.object_), return_inverse=True)
    return replace(raw, item_ids=names, items=codes.astype(np.int32)[raw.items])


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
    names, titled = parse_ids(column)
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
