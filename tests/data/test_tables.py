"""Users' tables: every file format, columns, treatments of bad rows, and the items file."""

import gzip
import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtsearch.data import Interactions, load
from mtsearch.data.split import describe, make_split
from mtsearch.errors import DataError, MalformedData, SourceUnavailable
from mtsearch.study_file.sections import DataSection, SplitSection
from mtsearch.tables.open import open_query

pytestmark = pytest.mark.quick

Row = tuple[str, str, float, int]

ROWS: list[Row] = [("7", "b", 3.5, 300), ("7", "a", 5.0, 200), ("10", "a", 1.0, 100), ("é", "c, d", 2.0, 50)]
WANTED = [("10", "a", 1.0, 100), ("7", "a", 5.0, 200), ("7", "b", 3.5, 300), ("é", "c, d", 2.0, 50)]


def decoded(table: Interactions) -> list[Row]:
    data = table.rows
    users, items = table.user_ids[data.users].tolist(), table.item_ids[data.items].tolist()
    return list(zip(users, items, data.ratings.tolist(), data.timestamps.tolist(), strict=True))


def section(path: Path, **keys: Any) -> DataSection:
    return DataSection.model_validate({"source": str(path), **keys})


def text(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def message(path: Path, **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(section(path, **keys))
    told = str(caught.value)
    assert "\n" not in told and caught.value.remedy and len(told) < 600
    return told.replace(str(path.parent) + "/", "")


def csv_text(separator: str = ",", quote: str = '"', header: str | None = None) -> str:
    header = header or separator.join(["userId", "movieId", "rating", "timestamp"])
    lines = [
        separator.join([user, f"{quote}{item}{quote}", str(rating), str(time)]) for user, item, rating, time in ROWS
    ]
    return "\n".join([header, *lines]) + "\n"


def arrow() -> pa.Table:
    users, items, ratings, times = zip(*ROWS, strict=True)
    return pa.table({"user": users, "item": items, "rating": ratings, "ts": times})


def parquet(path: Path) -> Path:
    pq.write_table(arrow(), path)
    return path


def parquet_folder(path: Path) -> Path:
    (path / "more").mkdir(parents=True)
    pq.write_table(arrow()[:1], path / "b.parquet")
    pq.write_table(arrow()[1:], path / "more" / "a.parquet")
    (path / "_SUCCESS.parquet").write_text("")
    return path


def json_lines() -> str:
    keys = ("user", "item", "rating", "timestamp")
    return "\n\n".join(json.dumps(dict(zip(keys, row, strict=True))) for row in ROWS)


INTER = csv_text("\t", "", "user_id:token\titem_id:token\trating:float\ttimestamp:float")
FORMS: dict[str, Callable[[Path], Path]] = {
    "csv": lambda folder: text(folder, csv_text()),
    "csv.gz": lambda folder: text(folder, gzip.compress(csv_text().encode()), "t.csv.gz"),
    "csv of a spreadsheet": lambda folder: text(folder, "\ufeff" + csv_text(";").replace("\n", "\r\n")),
    "tsv": lambda folder: text(folder, csv_text("\t"), "t.tsv"),
    "inter": lambda folder: text(folder, INTER, "t.inter"),
    "inter.gz": lambda folder: text(folder, gzip.compress(INTER.encode()), "t.inter.gz"),
    "json lines": lambda folder: text(folder, json_lines(), "t.jsonl"),
    "json lines.gz": lambda folder: text(folder, gzip.compress(json_lines().encode()), "t.ndjson.gz"),
    "parquet": lambda folder: parquet(folder / "t.parquet"),
    "parquet.gz": lambda folder: text(folder, gzip.compress(parquet(folder / "x.pq").read_bytes()), "t.parquet.gz"),
    "folder": lambda folder: parquet_folder(folder / "parts"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_table(tmp_path: Path, form: str) -> None:
    table = load(section(FORMS[form](tmp_path)))
    assert decoded(table) == WANTED
    users, items, ratings, times = zip(*ROWS, strict=True)
    plain = Interactions.from_columns(users, items, np.array(ratings, np.float32), np.array(times))
    assert table.fingerprint == plain.fingerprint
    assert table.report.rows == 4 and table.report.feedback == "explicit"


COLUMNS: dict[str, Any] = {
    "int32": (pa.array([1, 2, 3], pa.int32()), ["1", "2", "3"]),
    "whole floats, as pandas makes them of numbers with gaps": (pa.array([1.0, 2.0, 3.0]), ["1", "2", "3"]),
    "categories": (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "x", "y"]),
    "numbers as categories": (pa.array([5, 6, 5]).dictionary_encode(), ["5", "5", "6"]),
    "large strings": (pa.array(["x", "y", "z"], pa.large_string()), ["x", "y", "z"]),
    "views": (pa.array(["x", "y", "z"], pa.string_view()), ["x", "y", "z"]),
    "bytes": (pa.array([b"x", b"y", b"z"]), ["x", "y", "z"]),
    "huge numbers": (
        pa.array([2**64 - 1, 2**64 - 2, 3], pa.uint64()),
        ["18446744073709551614", "18446744073709551615", "3"],
    ),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_ids_of_parquet(tmp_path: Path, kind: str) -> None:
    column, wanted = COLUMNS[kind]
    pq.write_table(pa.table({"user": column, "item": ["a", "b", "c"]}), tmp_path / "t.parquet")
    assert [row[0] for row in decoded(load(section(tmp_path / "t.parquet")))] == wanted


@pytest.mark.parametrize(
    ("users", "told"),
    [
        (pa.array([1.5, 2.0]), "row 1, column 'user': 1.5 is not an exact whole number"),
        (pa.array([1.0, 2.0**60]), "row 2, column 'user': 1.152921504606847e+18 is not an exact"),
        (pa.array([True, False]), "column 'user' is of type BOOLEAN"),
        (pa.array([b"\xff", b"y"]), r"row 1, column 'user': b'\xff' is not UTF-8"),
        (pa.array(["x", None]), "row 2, column 'user': no user"),
        (pa.array([None, None]), "row 1, column 'user': no user"),
    ],
)
def test_ids_that_are_none(tmp_path: Path, users: pa.Array, told: str) -> None:
    pq.write_table(pa.table({"user": users, "item": ["a", "b"]}), tmp_path / "t.parquet")
    assert told in message(tmp_path / "t.parquet")


def test_ids_are_text_as_it_is_written(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item\n1,2020-01-01\n1.0,TRUE\n01,nan\n")
    assert [row[:2] for row in decoded(load(section(path)))] == [("01", "nan"), ("1", "2020-01-01"), ("1.0", "TRUE")]
    path = text(tmp_path, '{"user":"2020-01-01","item":1}\n{"user":"2021-01-01 00:00:00","item":2}\n', "t.jsonl")
    assert [row[:2] for row in decoded(load(section(path)))] == [("2020-01-01", "1"), ("2021-01-01 00:00:00", "2")]


def test_blanks_around_an_id_are_not_its_own(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item\n 1,b\n1 ,b c\n1, b\n\t1\u00a0,b\n2,b c \n")
    table = load(section(path))
    assert (table.user_ids.tolist(), table.item_ids.tolist()) == (["1", "2"], ["b", "b c"])
    assert [row[:2] for row in decoded(table)] == [("1", "b")] * 3 + [("1", "b c"), ("2", "b c")]
    items = text(tmp_path, "item,title\nb,One\n b, One \nb c,Two\n", "items.csv")
    titles = load(section(path, items=str(items))).titles
    assert titles is not None and titles.tolist() == ["One", "Two"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "t.csv is empty"),
        ("user,item,rating\n", "t.csv has no rows"),
        ("user,item,rating", "t.csv has no rows"),
        ("user,thing,rating\na,b,1\n", "no column for item among 'user', 'thing', 'rating'; name it under [data]"),
        ("user,item,user\na,b,c\n", "two columns are called 'user'"),
        ("user_id,userId,item\na,b,c\n", "'user_id' and 'userId' may both be the user"),
        ("user,item,rating\na,b,5\nc,d\n", "t.csv, line 3: 2 columns, but the first line has 3: 'c,d'"),
        ("user,item,rating\na,b,5\n\nc,d,x\n", "row 2, column 'rating': 'x' is not a number"),
        ("user,item,rating\na,b,1e300\n", "row 1: the rating 1e+300 is not finite, or beyond float32"),
        ("user,item,rating\na,b,-inf\n", "row 1: the rating -inf is not finite"),
        ("user,item,rating\na,b,nan\n", "row 1, column 'rating': no row has a rating"),
        ("user,item,timestamp\na,b,5\nc,d,2020-01-01\n", "column 'timestamp': '2020-01-01' is not a time"),
        ("user,item,timestamp\na,b,now\n", "row 1, column 'timestamp': 'now' is not a time"),
        ("user,item,timestamp\na,b,1e300\n", "1e+300 is too large for a time"),
        ("user,item\na,b\0\n", "row 1, column 'item': 'b\\x00' has a NUL character"),
        (b"user,item\na,b\xe9\n", "t.csv, line 2: 'a,b?' is not UTF-8; write reader = { encoding ="),
        (b"us\xe9r,item\na,b\n", "line 1: 'us\ufffdr,item' is not UTF-8; write reader = { encoding ="),
        ('user,item\na,"b\nc,d\ne,f\n', "t.csv, line 2: a quote is not closed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, content: str | bytes, told: str) -> None:
    assert told in message(text(tmp_path, content))


def test_other_files_that_are_damaged(tmp_path: Path) -> None:
    whole = gzip.compress(csv_text().encode())
    assert "t.csv.gz is not a complete gzip file" in message(text(tmp_path, whole[:-9], "t.csv.gz"))
    assert "not a complete gzip file" in message(text(tmp_path, csv_text(), "t.csv.gz"))
    assert "t.parquet is not a complete Parquet file" in message(text(tmp_path, b"PAR1nonsense", "t.parquet"))
    assert "t.jsonl, line 2 is not a JSON object" in message(text(tmp_path, '{"user":1}\n{"user"', "t.jsonl"))
    parts = parquet_folder(tmp_path / "parts")
    pq.write_table(pa.table({"user": [1], "item": ["a"], "rating": [1.0], "ts": [1]}), parts / "z.parquet")
    assert "z.parquet, column user is of type BIGINT, but of type VARCHAR in" in message(parts)
    pq.write_table(pa.table({"user": ["1"], "item": ["a"]}), parts / "z.parquet")
    assert "z.parquet: no column 'rating', which other files of the folder have" in message(parts)
    assert "is neither a data source nor a file" in message(tmp_path / "gone.csv")
    (tmp_path / "empty").mkdir()
    assert "empty has no tables" in message(tmp_path / "empty")


def test_a_row_of_a_part_is_named_by_its_file(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, users in (("a", ["x", "y"]), ("b", ["z", None])):
        pq.write_table(pa.table({"user": users, "item": ["i", "j"]}), parts / f"{name}.parquet")
    assert "parts/b.parquet, row 2, column 'user': no user" in message(parts)


SPOILT = "user,item,rating,timestamp\na,x,5,1\n,x,5,1\nb,,5,1\nc,x,,1\nd,x,nan,1\ne,x,9,1\nf,x,4,\ng,x,inf,1\n"


def test_rows_are_dropped_as_the_file_says_and_counted(tmp_path: Path) -> None:
    path = text(tmp_path, SPOILT)
    dropped = load(section(path, missing="drop", out_of_range="drop", rating_range=[1, 5]))
    assert decoded(dropped) == [("a", "x", 5.0, 1)]
    assert dropped.user_ids.tolist() == ["a"]
    assert dropped.report.rows == 8
    assert dropped.report.counts == {
        "rows without user dropped": 1,
        "rows without item dropped": 1,
        "rows without rating dropped": 2,
        "rows without timestamp dropped": 1,
        "rows with a rating out of range dropped": 2,
    }
    clipped = load(section(path, missing="drop", out_of_range="clip", rating_range=[1, 5]))
    assert [row[2] for row in decoded(clipped)] == [5, 5, 5]
    assert "row 6: the rating 9 is outside rating_range = [1, 5]" in message(path, missing="drop", rating_range=[1, 5])
    assert "has no rows left after cleaning" in message(path, missing="drop", out_of_range="drop", rating_range=[7, 8])


TWICE = "user,item,rating,timestamp\na,x,1,9\na,x,4,5\na,x,1,9\nb,x,2,1\na,y,3,1\n"


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("keep", [("a", "x", 4, 5), ("a", "x", 1, 9), ("a", "x", 1, 9), ("a", "y", 3, 1), ("b", "x", 2, 1)]),
        ("drop", [("a", "x", 4, 5), ("a", "x", 1, 9), ("a", "y", 3, 1), ("b", "x", 2, 1)]),
        ("last", [("a", "x", 1, 9), ("a", "y", 3, 1), ("b", "x", 2, 1)]),
        ("mean", [("a", "x", 2, 9), ("a", "y", 3, 1), ("b", "x", 2, 1)]),
    ],
)
def test_duplicates(tmp_path: Path, how: str, wanted: list[Row]) -> None:
    table = load(section(text(tmp_path, TWICE), duplicates=how))
    assert decoded(table) == wanted
    assert sum(table.report.counts.values()) == (1 if how == "drop" else 2)


@pytest.mark.parametrize("ratings", [[5, 1], [1, 5], [2, 5, 1, 3], [3, 3, 1]])
def test_of_one_time_the_last_in_the_file_is_kept(tmp_path: Path, ratings: list[int]) -> None:
    others = [("b", 4), ("0", 2)]
    rows = [("a", rating) for rating in ratings]
    lines = [f"{user},x,{rating}" for user, rating in [others[0], *rows, others[1]]]
    wanted = [("0", "x", 2.0), ("a", "x", float(ratings[-1])), ("b", "x", 4.0)]
    timeless = load(section(text(tmp_path, "\n".join(["user,item,rating", *lines])), duplicates="last"))
    assert [row[:3] for row in decoded(timeless)] == wanted
    lines = [f"{line},7" for line in lines]
    of_one_time = load(section(text(tmp_path, "\n".join(["user,item,rating,time", *lines])), duplicates="last"))
    assert [row[:3] for row in decoded(of_one_time)] == wanted
    earlier = load(section(text(tmp_path, "\n".join(["user,item,rating,time", *lines, "a,x,9,6"])), duplicates="last"))
    assert earlier.fingerprint == of_one_time.fingerprint


def test_of_one_time_the_last_part_of_a_folder_is_kept(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, ratings in (("a", [5, 4]), ("b", [1, 3, 2])):
        pq.write_table(
            pa.table({"user": ["u"] * len(ratings), "item": ["x"] * len(ratings), "rating": ratings}),
            parts / f"{name}.parquet",
        )
    assert decoded(load(section(parts, duplicates="last"))) == [("u", "x", 2, 0)]


def test_a_duplicate_is_an_error_where_the_file_says_so(tmp_path: Path) -> None:
    told = message(text(tmp_path, TWICE), duplicates="error")
    assert "row 1: user 'a' has item 'x' a second time" in told and "row 2)" in told


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(-3, 3), st.integers(0, 2)), min_size=1)
)
def test_duplicates_by_hand(tmp_path: Path, rows: list[tuple[str, str, int, int]]) -> None:
    path = text(tmp_path, "user,item,rating,timestamp\n" + "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in rows))
    groups: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for user, item, rating, time in rows:
        groups.setdefault((user, item), []).append((time, rating))
    last = [(*pair, float(sorted(group, key=lambda row: row[0])[-1][1]), max(group)[0])
            for pair, group in sorted(groups.items())]  # fmt: skip
    mean = [(*pair, float(np.float32(sum(r for _, r in group) / len(group))), max(group)[0])
            for pair, group in sorted(groups.items())]  # fmt: skip
    assert decoded(load(section(path, feedback="explicit", duplicates="last"))) == last
    merged = decoded(load(section(path, feedback="explicit", duplicates="mean")))
    assert [(*row[:2], row[3]) for row in merged] == [(*row[:2], row[3]) for row in mean]
    assert [row[2] for row in merged] == pytest.approx([row[2] for row in mean], abs=1e-6)
    copies = sorted({(u, i, float(r), t) for u, i, r, t in rows}, key=lambda row: (row[0], row[1], row[3], row[2]))
    assert decoded(load(section(path, feedback="explicit", duplicates="drop"))) == copies


def test_clicks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mtsearch")
    table = load(section(text(tmp_path, "visitorid,itemid,event\na,x,view\na,x,buy\nb,y,view\n")))
    assert decoded(table) == [("a", "x", 1, 0), ("a", "x", 1, 0), ("b", "y", 1, 0)]
    assert table.report.feedback == "binary" and table.report.ignored == ("event",)
    assert "binary feedback, 1 rows of a user and an item that had one already, kept" in caplog.messages[1]
    assert "column 'event' is not used" in caplog.messages[0] and "every rating is 1" in caplog.messages[2]


def test_counts(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item,plays,score\na,x,3,9\na,y,0,9\nb,x,true,9\n".replace("true", "1"))
    table = load(section(path, feedback="count"))
    assert decoded(table) == [("a", "x", float(np.float32(np.log(4))), 0), ("b", "x", float(np.float32(np.log(2))), 0)]
    assert table.report.counts == {"rows of 0 left out (count feedback)": 1}
    assert table.report.columns["rating"] == "plays"
    assert "-1 is negative" in message(text(tmp_path, "user,item,count\na,x,-1\n"), feedback="count")
    assert "no column for rating" in message(text(tmp_path, "user,item\na,x\n"), feedback="count")


def test_true_and_false_are_ratings(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item,rating\na,x,True\na,y,false\n")
    assert [row[2] for row in decoded(load(section(path, feedback="explicit")))] == [1, 0]
    assert [row[1] for row in decoded(load(section(path, feedback="binary")))] == ["x"]
    pq.write_table(pa.table({"user": ["a", "a"], "item": ["x", "y"], "rating": [True, False]}), tmp_path / "t.parquet")
    assert [row[2] for row in decoded(load(section(tmp_path / "t.parquet", feedback="explicit")))] == [1, 0]


@pytest.mark.parametrize("word", ["", " ", "NaN", "nan", "NA", "n/a", "NULL", "None"])
@pytest.mark.parametrize("present", ["true", "1", "4.5"])
def test_ratings_that_are_missing(tmp_path: Path, word: str, present: str) -> None:
    path = text(tmp_path, f"user,item,rating\na,x,{word}\na,y,{present}\na,z,{word}\n")
    table = load(section(path, missing="drop"))
    assert decoded(table) == [("a", "y", 1.0 if present == "true" else float(present), 0)]
    assert table.report.counts == {"rows without rating dropped": 2}
    kept = load(section(path))
    assert [str(rating) for rating in kept.rows.ratings.tolist()] == ["nan", str(decoded(table)[0][2]), "nan"]
    assert kept.report.counts == {"rows without a rating, which serve the other tasks": 2}


def test_true_beside_a_number_is_none(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item,rating\na,x,3\na,y,\na,z,true\n")
    assert "row 3, column 'rating': 'true' is not a number" in message(path, missing="drop")


def test_columns_by_name(tmp_path: Path) -> None:
    path = text(tmp_path, "who,what,how much,rating\na,x,4,1\n")
    table = load(section(path, columns={"user": "who", "item": "what", "rating": "how much"}))
    assert decoded(table) == [("a", "x", 4, 0)]
    assert table.report.ignored == ("rating",)
    assert "no column 'whoo' (did you mean 'who'?)" in message(path, columns={"user": "whoo", "item": "what"})
    assert "column 'who' is both" in message(path, columns={"user": "who", "item": "who"})


def test_the_items_file_gives_catalogue_and_titles(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item\na,x\na,a\nb,x\n")
    items = text(tmp_path, 'item_id,title\ny,Why\nx,"Ex, the first"\nw,\nx,"Ex, the first"\n', "items.csv")
    table = load(section(path, items=str(items)))
    assert table.item_ids.tolist() == ["a", "w", "x", "y"]
    assert table.catalogue is not None and table.titles is not None
    assert table.item_ids[table.catalogue].tolist() == ["w", "x", "y"]
    assert table.titles.tolist() == ["a", "w", "Ex, the first", "Why"]
    assert decoded(table) == [("a", "a", 1, 0), ("a", "x", 1, 0), ("b", "x", 1, 0)]
    assert table.fingerprint == load(section(path)).fingerprint
    listed = text(tmp_path, "name,title,code\nOne,z,x\n", "items.csv")
    assert load(section(path, items=str(listed), item_columns={"item": "code", "title": "name"})).titles is not None
    untitled = load(section(path, items=str(text(tmp_path, "item\nx\n", "items.csv"))))
    assert untitled.titles is None and untitled.catalogue is not None


def test_items_files_that_are_none(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item\na,x\n")
    items = text(tmp_path, "item,title\nx,One\nx,Two\n", "items.csv")
    assert "items.csv, row 2, column 'title': 'Two' is a second title of item 'x'" in message(path, items=str(items))
    assert "row 2, column 'item': no item" in message(
        path, items=str(text(tmp_path, "item,title\nx,One\n,Two\n", "items.csv"))
    )
    assert "lists no items" in message(path, items=str(text(tmp_path, "item\n", "items.csv")))
    assert "does not exist" in message(path, items=str(tmp_path / "gone.csv"))


def test_an_items_file_of_other_ids(tmp_path: Path) -> None:
    path = text(tmp_path, "user,item\na,i7\na,i8\n")
    items = text(tmp_path, "item,title\n8,Eight\n7,Seven\n", "items.csv")
    told = message(path, items=str(items))
    assert (
        "items.csv lists no item of t.csv: the first file has ids such as '7', the other one ids such as 'i7'; " in told
    )


@pytest.mark.parametrize(("unlisted", "warned"), [(0, False), (1, False), (2, True), (9, True)])
def test_many_rows_outside_the_items_file_are_told(
    tmp_path: Path, messages: pytest.LogCaptureFixture, unlisted: int, warned: bool
) -> None:
    path = text(tmp_path, "user,item\n" + "".join(f"u{n},{'old' if n < unlisted else 'new'}\n" for n in range(10)))
    items = text(tmp_path, "item\nnew\nnewer\nnewest\n", "items.csv")
    load(section(path, items=str(items)))
    told = [each.getMessage() for each in messages.records if "does not list" in each.getMessage()]
    assert bool(told) == warned
    assert not warned or f"data: {unlisted} of 10 rows have items that {items} does not list" in told[0]


@pytest.mark.slow
def test_movielens_takes_what_is_not_of_columns(original: Path, ml_100k: Interactions) -> None:
    last = load(section(original, duplicates="last"))
    assert len(last.rows) == 100_000 - 307
    assert last.catalogue is not None and len(last.catalogue) == 1664
    binary = load(section(original, feedback="binary"))
    assert len(binary.rows) == 100_000 and set(binary.rows.ratings.tolist()) == {1.0}
    assert load(section(original, rating_range=[1, 5])).fingerprint == ml_100k.fingerprint
    assert "u.data: no column 'u'" in message(original, columns={"user": "u"})
    assert "is outside rating_range = [3, 5]" in message(original, rating_range=[3, 5])


@pytest.mark.parametrize(
    "raw",
    [
        {"rating_range": [5, 1]},
        {"out_of_range": "clip"},
        {"item_columns": {"title": "t"}},
        {"columns": {"usr": "w"}},
        {"missing": "keep"},
        {"items": ""},
    ],
)
def test_sections_that_cannot_be_used(raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        DataSection.model_validate(raw)


def test_a_million_rows_make_no_objects(tmp_path: Path) -> None:
    """25 million rows must not become Python objects: each row takes the memory of its arrays' entries only."""
    import tracemalloc

    count = 1_000_000
    numbers = np.arange(count)
    pq.write_table(
        pa.table({"user": numbers % 1000, "item": numbers % 777, "rating": numbers % 5, "time": numbers}),
        tmp_path / "t.parquet",
    )
    tracemalloc.start()
    table = load(section(tmp_path / "t.parquet"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table.rows) == count
    assert peak < 150 * count


def test_the_facts(tmp_path: Path) -> None:
    path = text(tmp_path, csv_text().replace("10,", "7,") + "9,x,5,400\n9,x,5,400\n")
    table = load(section(path))
    described = describe(table, make_split(table, SplitSection(method="temporal", test=0.4, validation=0.3)))
    assert (described["rows"], described["users"], described["items"], described["repeated_pairs"]) == (6, 3, 4, 2)
    assert described["density"] == pytest.approx(4 / 12)
    assert described["dates"] == {"first": "1970-01-01T00:00:50", "last": "1970-01-01T00:06:40"}
    assert sum(bar["rows"] for bar in described["ratings"]["histogram"]) == 6
    assert described["split"]["test"] == {
        "rows": 2, "cold_users": 1, "rows_of_cold_users": 2, "cold_items": 1, "rows_of_cold_items": 2,
        "rows_outside_catalogue": 2,
    }  # fmt: skip


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _mode: str) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = text(tmp_path, csv_text())
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceUnavailable, match="cannot be read \\(Permission denied\\)"):
        load(section(path))


@pytest.mark.slow
def test_a_row_longer_than_a_block(tmp_path: Path) -> None:
    title = "x" * 20_000_000
    path = text(tmp_path, json.dumps({"user": "a", "item": title}) + '\n{"user":"b","item":"c"}\n', "t.jsonl")
    assert [len(row[1]) for row in decoded(load(section(path)))] == [20_000_000, 1]
    path = text(tmp_path, f"user,item\na,{title}\nb,c\n")
    assert [len(row[1]) for row in decoded(load(section(path)))] == [20_000_000, 1]
    with pytest.raises(MalformedData, match="row 2"):
        load(section(text(tmp_path, f"user,item\na,{title}\nb,\n")))


@pytest.mark.parametrize("size", [140_000, 2_000_000])
def test_fields_longer_than_the_csv_module_takes_by_itself(tmp_path: Path, size: int) -> None:
    long = "x" * size
    path = text(tmp_path, f'user,item\na,"{long} ""so"""\nb,c\n')
    assert [len(row[1]) for row in decoded(load(section(path)))] == [size + 5, 1]
    path = text(tmp_path, f"user,item,{long}\na,b,c\n")
    assert [row[:2] for row in decoded(load(section(path)))] == [("a", "b")]
    assert "no column for item among 'user', 'xxx" in message(text(tmp_path, f"user,{long}\na,b\n"))
    assert "line 2: a quote is not closed" in message(text(tmp_path, f'user,item\na,"{long} ""so\nb,c\n'))


def test_line_ends_and_separators_in_ids(tmp_path: Path) -> None:
    rows = [(f"u{n % 7}", f"x\na,b,{n % 5},{n}\n,y" if n % 3 else f"i{n % 4}", float(n % 5), n) for n in range(60)]
    lines = [f'{user},"{item}",{rating},{time}\n' for user, item, rating, time in rows]
    wanted = sorted(rows, key=lambda row: (row[0], row[1], row[3]))
    assert decoded(load(section(text(tmp_path, "user,item,rating,timestamp\n" + "".join(lines))))) == wanted
    keys = ("user", "item", "rating", "timestamp")
    lines = [json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows]
    assert decoded(load(section(text(tmp_path, "".join(lines), "t.jsonl")))) == wanted


NUMBERED = {"user": 1, "item": 2, "rating": 3}


@pytest.mark.parametrize(
    ("content", "columns", "users"),
    [
        ("# made by a tool\n#user,item,rating\na,x,1\nb,y,2\n", {}, ["a", "b"]),
        ("# made, by\n\nuser,item,rating\na,x,1\n", {}, ["a"]),
        ("user,item,rating\n#a,x,1\nb,y,2\n", {}, ["#a", "b"]),
        ("#a,x,1\n#b,y,2\n", NUMBERED, ["#a", "#b"]),
        ("#b,y,2\na,x,1\n", NUMBERED, ["#b", "a"]),
    ],
)
def test_a_comment_above_the_table_is_none_of_its_rows_and_no_row_is_taken_for_one(
    tmp_path: Path, content: str, columns: dict[str, int], users: list[str]
) -> None:
    (tmp_path / "t.csv").write_text(content)
    table = load(DataSection.model_validate({"source": str(tmp_path / "t.csv"), "columns": columns}))
    assert table.user_ids.tolist() == users


def test_a_text_for_nothing_leaves_a_table_of_numbers_as_it_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user": [1, 2], "item": [1, 1], "rating": [3.0, 4.0]}), tmp_path / "t.parquet")
    table = load(DataSection.model_validate({"source": str(tmp_path / "t.parquet"), "reader": {"null": ["?"]}}))
    assert table.rows.ratings.tolist() == [3, 4]


def test_an_interruption_inside_of_a_query_is_one(tmp_path: Path) -> None:
    """Be interrupted, although DuckDB raises an error of its own in place of what the handler of a signal raised."""
    table = open_query("SELECT hash(a.range + b.range) AS x FROM range(30000) a, range(30000) b", tmp_path)
    earlier = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            table.read(["sum(x)"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
