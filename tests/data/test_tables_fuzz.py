"""Random CSV files, valid or damaged: the same rows as the csv module reads, or a message of one line."""

import csv
import gzip
import io
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtsearch.data import Interactions, load
from mtsearch.errors import MalformedData
from mtsearch.study_file.sections import DataSection

Row = tuple[str, str, float, int]

HEADER = ["user_id", "item_id", "rating", "timestamp", "comment"]
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
FLOAT32_MAX = float(np.finfo(np.float32).max)

letters = st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]) | st.sampled_from(' ,;"\n\t')
ids = st.text(letters, min_size=1, max_size=6).filter(lambda text: text.strip() != "") | st.sampled_from(
    ["1", "1.0", "01", "nan", "NULL", "true", " 1", "1\u00a0", '"', "2020-01-01", "9" * 30, "x" * 10_000]
)
ratings = st.sampled_from(["1", "5", "4.5", " 3 ", "+2", "-1", "0", "-0.0", "1e3", ".5", "1e-50"]) | st.floats(
    -1e6, 1e6
).map(repr)
# A column of numbers such as 20260131 would be one of dates.
whole_seconds = st.integers(0, 2 * 10**9).filter(lambda second: not 19000101 <= second <= 21001231).map(str)
dates = st.datetimes(datetime(1930, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.isoformat(sep=" "))
rows = st.one_of(*(st.lists(st.tuples(ids, ids, ratings, times, st.text(letters, max_size=5)), min_size=1, max_size=8)
                   for times in (whole_seconds, dates)))  # fmt: skip
NO_RATING = math.inf
"""Stands for the rating of a row without one; it equals itself, and is the last in the order as NaN is."""
NOTHING = {"", "na", "n/a", "nan", "nat", "none", "null"}
spoilt_cells = st.sampled_from(
    ["", "  ", "nan", "NA", " null", "inf", "-inf", "1e300", "1e999", "abc", "true", "False", "\0", "1\0", "1,5", "0x1"]
)


def written(table: list[Any], line_end: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end).writerows([HEADER, *table])
    return text.getvalue().encode()


def read(path: Path, content: bytes, **section: Any) -> Interactions:
    path.write_bytes(content)
    return load(DataSection.model_validate({"source": str(path), **section}))


def decoded(table: Interactions) -> list[Row]:
    data = table.rows
    users, items = table.user_ids[data.users].tolist(), table.item_ids[data.items].tolist()
    ratings = [NO_RATING if math.isnan(rating) else rating for rating in data.ratings.tolist()]
    return list(zip(users, items, ratings, data.timestamps.tolist(), strict=True))


def expected(content: bytes, drop: bool = False) -> list[Row]:
    """Read a table with the csv module row by row; raise ValueError for a wrong value."""
    header, *body = csv.reader(io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline=""), strict=True)
    if header != HEADER:
        raise ValueError(header)
    table = []
    if {cells[2].strip().lower() for cells in body if len(cells) == len(HEADER)} - NOTHING <= {"true", "false"}:
        truth = {"true": "1", "false": "0"}
        body = [[*cells[:2], truth.get(cells[2].strip().lower(), cells[2]), *cells[3:]] for cells in body if cells]
    for cells in body:
        if not cells:
            continue
        # DuckDB leaves out an empty field behind the last one.
        if len(cells) != len(HEADER) and not (len(cells) == len(HEADER) + 1 and not cells[-1]):
            raise ValueError(cells)
        "".join(cells[:4]).encode()  # UTF-8, of what is used
        row = interpreted(*cells[:4], drop=drop)
        if row is None and not drop:
            raise ValueError(cells)
        if row is not None:
            table.append(row)
    if all(row[2] == NO_RATING for row in table):
        raise ValueError("no rows, or none with a rating")
    if {row[2] for row in table} - {NO_RATING} == {0, 1}:  # yes and no: those of yes are left
        table = [row for row in table if row[2] == 1]
    return sorted(table, key=lambda row: (row[0], row[1], row[3], row[2]))


def interpreted(user: str, item: str, rating: str, time: str, *, drop: bool) -> Row | None:
    """Parse a row; return None if a value is missing, a rating only for `drop`; else this is `NO_RATING`."""
    if "\0" in user + item:
        raise ValueError("NUL")
    no_rating = rating.strip().lower() in NOTHING
    missing = not user.strip() or not item.strip() or (drop and no_rating) or not time.strip()
    value = NO_RATING
    if not no_rating:
        if not NUMBER.fullmatch(rating.strip()):
            raise ValueError(rating)
        value = float(rating)
    seconds = 0
    if time.strip():
        if NUMBER.fullmatch(time.strip()):
            seconds = math.floor(float(time))
        else:
            seconds = math.floor(
                datetime.fromisoformat(re.sub(r"^(\d+)-", lambda year: f"{int(year[1]):04}-", time.strip()))
                .replace(tzinfo=UTC)
                .timestamp()
            )
    if missing:
        return None
    if not no_rating and abs(value) > FLOAT32_MAX:
        raise ValueError(rating)
    return user.strip(), item.strip(), float(np.float32(value)) + 0.0, seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@relaxed
@given(rows, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_a_whole_file_is_what_the_csv_module_reads(
    folder: Path, table: list[Any], line_end: str, mark: bool, packed: bool
) -> None:
    content = b"\xef\xbb\xbf" * mark + written(table, line_end)
    found = read(folder / f"t.csv{'.gz' * packed}", gzip.compress(content) if packed else content)
    assert decoded(found) == expected(content)
    assert found.report.rows == len(table)


def same_or_one_line(path: Path, content: bytes, drop: bool = False) -> None:
    try:
        wanted = expected(content, drop)
    except (ValueError, csv.Error):
        with pytest.raises(MalformedData) as caught:
            read(path, content, missing="drop" if drop else "error")
        told = str(caught.value)
        assert told.startswith(str(path)) and "\n" not in told and len(told) < 600
        return
    assert decoded(read(path, content, missing="drop" if drop else "error")) == wanted


@relaxed
@given(rows, st.data(), st.booleans())
def test_a_spoilt_cell_is_named_or_dropped(folder: Path, table: list[Any], draw: Any, drop: bool) -> None:
    row, column = draw.draw(st.integers(0, len(table) - 1)), draw.draw(st.integers(0, 2))
    cells = list(table[row])
    cells[column] = draw.draw(spoilt_cells)
    spoilt = [*table[:row], cells, *table[row + 1 :]]
    same_or_one_line(folder / "t.csv", written(spoilt, "\n"), drop)


def more(content: bytes, at: int) -> bytes:
    return content[:at] + b"," + content[at:]


def cut(content: bytes, at: int) -> bytes:
    return content[:at]


def without(content: bytes, at: int) -> bytes:
    return content[:at] + content[at + 1 :]


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x80]) + content[at + 1 :]


def quoted(content: bytes, at: int) -> bytes:
    return content[:at] + b'"' + content[at:]


@relaxed
@given(rows, st.sampled_from([more, cut, without, flipped, quoted]), st.data())
def test_damage_is_told_or_harmless(
    folder: Path, table: list[Any], damage: Callable[[bytes, int], bytes], draw: Any
) -> None:
    content = written(table, "\n")
    damaged = damage(content, draw.draw(st.integers(content.index(b"\n") + 1, len(content) - 1)))
    try:
        found = decoded(read(folder / "t.csv", damaged))
    except MalformedData as error:
        assert "\n" not in str(error) and str(folder) in str(error) and len(str(error)) < 600
        return
    assert found == expected(damaged)
