"""Times in users' tables: every form, and columns that only look like times."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtsearch.data import load
from mtsearch.errors import MalformedData
from mtsearch.study_file.sections import DataSection, SplitSection
from tests.data.test_tables import decoded, message, section, text

pytestmark = pytest.mark.quick

TIMES: dict[str, Any] = {
    "seconds": (["1600000000", "-5"], [1_600_000_000, -5], "seconds since 1970"),
    "fractions": (["1600000000.75", "-0.5"], [1_600_000_000, -1], "seconds since 1970"),
    "milliseconds": (["1600000000999", "1600000001000"], [1_600_000_000, 1_600_000_001], "milliseconds since 1970"),
    "nanoseconds": (["1600000000999999999"] * 2, [1_600_000_000] * 2, "nanoseconds since 1970"),
    "dates": (["2020-09-13", "1969-12-31"], [1_599_955_200, -86_400], "dates"),
    "times of a zone": (["2020-09-13T12:26:40Z", "2020-09-13T14:26:40+02:00"], [1_600_000_000] * 2, "dates"),
    "parts of seconds": (["2020-09-13 12:26:40.9", "1969-12-31 23:59:59.5"], [1_600_000_000, -1], "dates"),
    "dates in nanoseconds": (
        ["2020-09-13T12:26:40.123456789", "2020-09-13 12:26:40.999999999", "1969-12-31 23:59:59.123456789"],
        [1_600_000_000, 1_600_000_000, -1],
        "dates",
    ),
    "nanoseconds of a zone": (
        ["2020-09-13 12:26:40.123456789+00:00", "2020-09-13 14:26:40+02:00"], [1_600_000_000] * 2, "dates",
    ),
    "dates that nanoseconds do not reach": (["2300-01-01 00:00:00.123456"], [10_413_792_000], "dates"),
}  # fmt: skip


@pytest.mark.parametrize("form", TIMES)
def test_times(tmp_path: Path, form: str) -> None:
    given, wanted, unit = TIMES[form]
    path = text(tmp_path, "user,item,timestamp\n" + "".join(f"{n},i,{time}\n" for n, time in enumerate(given)))
    table = load(section(path))
    assert table.rows.timestamps.tolist() == wanted
    assert table.report.time_unit == unit


def test_times_of_parquet(tmp_path: Path) -> None:
    for kind in (pa.timestamp("ns"), pa.timestamp("ms", "Europe/Berlin"), pa.timestamp("s")):
        times = pa.array([1_600_000_000, -1], pa.int64()).cast(pa.timestamp("s", kind.tz)).cast(kind)
        pq.write_table(pa.table({"user": ["a", "b"], "item": ["i", "i"], "time": times}), tmp_path / "t.parquet")
        assert load(section(tmp_path / "t.parquet")).rows.timestamps.tolist() == [1_600_000_000, -1]


@pytest.mark.parametrize("word", ["", "  ", "NaN", "NaT", "NA", "N/A", "null", "None"])
def test_times_that_are_missing(tmp_path: Path, word: str) -> None:
    for time in ("5", "1970-01-01 00:00:05"):
        path = text(tmp_path, f"user,item,time\na,x,{time}\nb,x,{word}\n")
        assert decoded(load(section(path, missing="drop"))) == [("a", "x", 1, 5)]
        assert "row 2, column 'time': no timestamp" in message(path)


NOT_TIMES: dict[str, tuple[str | pa.Table, str]] = {
    "of either order": (
        "user,item,date\na,x,01/02/2026\n", "row 1, column 'date': '01/02/2026' may begin with a month or with a day",
    ),
    "of a day": ("user,item,date\na,x,12:34:56\n", "row 1, column 'date': '12:34:56' is not a time"),
    "blanks": ("user,item,date\na,x,5\nb,x,\n", "row 2, column 'date': no timestamp"),
    "nothing": ("user,item,date\na,x,\n", "row 1, column 'date': no timestamp"),
    "of two forms": ("user,item,date\na,x,5\nb,x,2026-01-31\n", "row 2, column 'date': '2026-01-31' is not a time"),
    "of another type": (
        pa.table({"user": ["a"], "item": ["x"], "date": pa.array([5], pa.time32("s"))}),
        "column 'date' is of type TIME",
    ),
}  # fmt: skip


def not_times(folder: Path, kind: str) -> tuple[Path, str]:
    content, told = NOT_TIMES[kind]
    if isinstance(content, str):
        return text(folder, content), told
    pq.write_table(content, folder / "t.parquet")
    return folder / "t.parquet", told


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        *((kind, keys) for kind in NOT_TIMES for keys in ({}, {"duplicates": "error"})),
        *((kind, {"missing": "drop"}) for kind in NOT_TIMES if kind != "blanks"),
    ],
)
def test_times_that_nobody_named_or_needs_are_left_out(
    tmp_path: Path, messages: pytest.LogCaptureFixture, kind: str, keys: dict[str, Any]
) -> None:
    path, told = not_times(tmp_path, kind)
    table = load(section(path, **keys), SplitSection())
    assert {row[1:] for row in decoded(table)} == {("x", 1.0, 0)} and len(table.rows) == table.report.rows
    assert dict(table.report.columns) == {"user": "user", "item": "item"} and table.report.ignored == ("date",)
    assert table.report.time_unit == ""
    (warned,) = [each.getMessage() for each in messages.records if "is ignored" in each.getMessage()]
    assert "column 'date' is ignored" in warned and told in warned
    assert 'name it under [data]: columns = { timestamp = "date" }' in warned


def test_a_row_without_a_time_is_dropped_where_that_is_asked_for(tmp_path: Path) -> None:
    path, _ = not_times(tmp_path, "blanks")
    assert decoded(load(section(path, missing="drop"), SplitSection())) == [("a", "x", 1, 5)]


@pytest.mark.parametrize(
    ("keys", "split"),
    [
        ({"columns": {"timestamp": "date"}}, {}),
        ({"duplicates": "drop"}, {}),
        ({"duplicates": "last"}, {}),
        ({"duplicates": "mean"}, {}),
        ({}, {"method": "temporal"}),
        ({}, {"method": "temporal_user"}),
        ({}, {"method": "leave_last"}),
        ({}, None),
    ],
)
@pytest.mark.parametrize("kind", NOT_TIMES)
def test_times_that_are_named_or_needed_must_be_whole(
    tmp_path: Path, kind: str, keys: dict[str, Any], split: dict[str, Any] | None
) -> None:
    path, told = not_times(tmp_path, kind)
    with pytest.raises(MalformedData) as caught:
        load(section(path, **keys), split if split is None else SplitSection.model_validate(split))
    assert told in str(caught.value)


def test_times_are_guessed_where_they_are_whole(tmp_path: Path) -> None:
    table = load(section(text(tmp_path, "user,item,date\na,x,1970-01-02\n")), SplitSection())
    assert table.rows.timestamps.tolist() == [86_400] and table.report.columns["timestamp"] == "date"


def test_times_that_some_files_of_a_folder_lack(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    pq.write_table(pa.table({"user": ["a"], "item": ["x"], "time": [5]}), parts / "a.parquet")
    for other in (pa.table({"user": ["b"], "item": ["x"]}), pa.table({"user": ["b"], "item": ["x"], "time": ["noon"]})):
        pq.write_table(other, parts / "b.parquet")
        assert decoded(load(section(parts), SplitSection())) == [("a", "x", 1, 0), ("b", "x", 1, 0)]
        assert "parts/b.parquet" in message(parts)


def test_a_column_of_parts_beside_one_of_no_times(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item,time,fold\na,x,noon,train\na,y,noon,validation \nb,x,noon,test\n")
    split = SplitSection(method="column", column="fold")
    table = load(section(path), split)
    assert table.part is not None and table.part.tolist() == [0, 1, 2]
    with pytest.raises(MalformedData, match=r"no column 'fould' .*; name a column of the file under \[split\]"):
        load(section(path), SplitSection(method="column", column="fould"))
    with pytest.raises(MalformedData, match=r"column 'item' is both item and part; name another column in \[split\]"):
        load(section(path), SplitSection(method="column", column="item"))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("31/01/2026", 1769817600),
        ("01/31/2026 12:30", 1769862600),
        ("31.01.2026", 1769817600),
        ("31-Jan-2026", 1769817600),
        ("01 31, 2026", 1769817600),
        ("2026/01/31", 1769817600),
        ("2026-01-31 00:00:00 UTC", 1769817600),
        ("20260131", 1769817600),
    ],
)
def test_dates_as_they_are_written(tmp_path: Path, written: str, seconds: int) -> None:
    (tmp_path / "t.csv").write_text(f'user,item,date\na,x,"{written}"\n')
    assert load(DataSection(source=str(tmp_path / "t.csv"))).rows.timestamps.tolist() == [seconds]
