"""Tests of `mtsearch data`, which shows how ratings are read and split."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command

STUDY = """
[study]
name = "mine"
objectives = ["rmse", "mrr"]
[data]
source = "t.csv"
missing = "drop"
[split]
method = "leave_last"
[space]
learning_rate = { low = 0.1, high = 1.0 }
"""
TABLE = "userId,movieId,rating,timestamp,device\n" + "".join(
    f"u{user},m{(user + item) % 7},{item % 5 + 1},{1_600_000_000 + item},phone\n"
    for user in range(5)
    for item in range(6)
)


def study(folder: Path, table: str = TABLE) -> str:
    (folder / "t.csv").write_text(table)
    (folder / "s.toml").write_text(STUDY)
    return "s.toml"


def test_movielens(mtsearch: Command) -> None:
    table, description = mtsearch("data"), json.loads(mtsearch("data", "--format", "json").out)
    assert table.status == 0 and "307 rows repeat a pair" in table.out and "1997-09-20" in table.out
    assert (description["rows"], description["users"], description["items"], description["catalogue"]) == (
        100_000,
        943,
        1664,
        1664,
    )
    assert [(bar["low"], bar["rows"]) for bar in description["ratings"]["histogram"]] == [
        (1, 6110), (2, 11370), (3, 27145), (4, 34174), (5, 21201),
    ]  # fmt: skip
    assert description["split"]["validation"]["cold_items"] == 13
    assert description["read"]["columns"] == {} and description["read"]["treated"] == {}


def test_a_user_s_own_table(mtsearch: Command, tmp_path: Path) -> None:
    result = mtsearch("data", study(tmp_path, TABLE + ",m1,3,1600000000,phone\n"), "--format", "json")
    description = json.loads(result.out)
    assert result.status == 0, result.err
    assert description["read"] == {
        "columns": {"user": "userId", "item": "movieId", "rating": "rating", "timestamp": "timestamp"},
        "ignored": ["device"],
        "feedback": "explicit",
        "times": "seconds since 1970",
        "rows": 31,
        "treated": {"rows without user dropped": 1},
    }
    assert (description["source"], description["method"]) == (str(tmp_path / "t.csv"), "leave_last")
    assert [description["split"][part]["rows"] for part in ("train", "validation", "test")] == [20, 5, 5]
    (said,) = result.err.splitlines()
    assert said == (
        f"data: 30 rows from {tmp_path / 't.csv'}; user = 'userId', item = 'movieId', rating = 'rating', "
        "timestamp = 'timestamp', 1 rows without user dropped"
    )
    table = mtsearch("data", "s.toml").out
    assert "1 rows without user dropped" in table and "device" in table


def test_a_mistake_is_one_line_without_anything_on_stdout(mtsearch: Command, tmp_path: Path) -> None:
    result = mtsearch("data", study(tmp_path, TABLE + "u1,m1,good,1600000000,phone\n"))
    assert (result.status, result.out) == (1, "")
    told = f"error: {tmp_path / 't.csv'}, row 31, column 'rating': 'good' is not a number; correct the row, or write "
    assert result.err.startswith(told) and result.err.count("\n") == 1


def test_names_from_a_file_do_nothing_to_the_terminal(mtsearch: Command, tmp_path: Path) -> None:
    result = mtsearch("data", study(tmp_path, TABLE.replace("device", "\x1b[31mred")))
    assert result.status == 0 and "\x1b[31m" not in result.out


@pytest.mark.parametrize(
    ("key", "value"), [("data.missing", "keep"), ("data.columns.usr", "x"), ("split.method", "no")]
)
def test_an_unknown_value_is_refused(mtsearch: Command, tmp_path: Path, key: str, value: str) -> None:
    result = mtsearch("data", study(tmp_path), "--set", f"{key}={value}")
    assert result.status == 1 and result.err.startswith("error: ") and key in result.err


def test_every_rating_the_same_has_no_nan(mtsearch: Command, tmp_path: Path) -> None:
    description = json.loads(
        mtsearch("data", study(tmp_path, TABLE.replace(",rating,", ",ratin,")), "--format", "json").out
    )
    assert description["ratings"] == {
        "lowest": 1,
        "highest": 1,
        "mean": 1,
        "histogram": [{"low": 1, "high": 1, "rows": 30}],
    }


def test_a_table_needs_no_study_file(tmp_path: Path, mtsearch: Command) -> None:
    rows = "".join(f"u{n % 40},i{n * n % 150}\n" for n in range(2000))
    (tmp_path / "clicks.csv").write_text("visitor,sku\n" + rows)
    shown = mtsearch("data", "clicks.csv")
    assert shown.status == 0 and "user u0, item i0, rating 1.0" in shown.out
    assert "next: mtsearch init study.toml --data clicks.csv" in shown.err
    assert mtsearch("init", "mine.toml", "--data", "clicks.csv").status == 0
    written = (tmp_path / "mine.toml").read_text()
    assert f'source = "{tmp_path / "clicks.csv"}"' in written and 'objectives = ["top_100", "mrr"]' in written
    assert mtsearch("check", "mine.toml").status == 0


def test_init_writes_nothing_for_data_that_cannot_be_read(tmp_path: Path, mtsearch: Command) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    done = mtsearch("init", "mine.toml", "--data", "bad.csv")
    assert done.status == 1 and "bad.csv" in done.err
    assert not (tmp_path / "mine.toml").exists()


def test_a_shipped_study_comes_before_a_folder_of_its_name(tmp_path: Path, mtsearch: Command) -> None:
    (tmp_path / "ml-100k").mkdir()
    assert "307 rows repeat a pair" in mtsearch("data", "ml-100k").out


def test_tasks_are_shown_with_their_rows(mtsearch: Command, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(
        "user,item,event,stars\n"
        + "".join(f"u{n % 9},i{n % 7},{'buy' if n % 3 else 'view'},{n % 5 + 1 if n % 2 else ''}\n" for n in range(120))
    )
    (tmp_path / "s.toml").write_text(
        '[study]\nname = "shop"\nobjectives = ["buy.mrr"]\n[data]\nsource = "events.csv"\n'
        '[tasks.buy]\nkind = "retrieval"\nwhere = "event = \'buy\'"\n[tasks.stars]\nkind = "rating"\n'
        'target = "stars"\n[space]\nlearning_rate = { low = 0.1, high = 1.0 }\n'
    )
    table, told = mtsearch("data", "s.toml"), json.loads(mtsearch("data", "s.toml", "--format", "json").out)
    # Of every six rows one is a view without stars, which serves no task.
    assert told["read"]["treated"]["rows that serve no task dropped"] == 20
    assert [
        sum(told["tasks"][name][part] for part in ("train", "validation", "test")) for name in ("buy", "stars")
    ] == [
        *(80, 60),
    ]
    assert all(row["tasks"] for row in told["sample"])
    assert "buy" in table.out and f"retrieval: {told['tasks']['buy']['train']} train" in table.out
    assert f"rating: {told['tasks']['stars']['train']} train" in table.out
    assert "on average" in table.out and "rating 1.0" not in table.out  # ratings that no task learns are not shown
