"""`mtsearch data`: how a source was understood, and what the split makes of it."""

import json
from pathlib import Path

import pytest

from .conftest import Command

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
    table, facts = mtsearch("data"), json.loads(mtsearch("data", "--format", "json").out)
    assert table.status == 0 and "307 rows repeat a pair" in table.out and "1997-09-20" in table.out
    assert (facts["rows"], facts["users"], facts["items"], facts["catalogue"]) == (100_000, 943, 1664, 1664)
    assert [(bar["low"], bar["rows"]) for bar in facts["ratings"]["histogram"]] == [
        (1, 6110), (2, 11370), (3, 27145), (4, 34174), (5, 21201),
    ]  # fmt: skip
    assert facts["split"]["validation"]["cold_items"] == 13
    assert facts["read"]["columns"] == {} and facts["read"]["treated"] == {}


def test_a_table_of_one_s_own(mtsearch: Command, tmp_path: Path) -> None:
    result = mtsearch("data", study(tmp_path, TABLE + ",m1,3,1600000000,phone\n"), "--format", "json")
    facts = json.loads(result.out)
    assert result.status == 0, result.err
    assert facts["read"] == {
        "columns": {"user": "userId", "item": "movieId", "rating": "rating", "timestamp": "timestamp"},
        "ignored": ["device"],
        "feedback": "explicit",
        "times": "seconds since 1970",
        "rows": 31,
        "treated": {"rows without user dropped": 1},
    }
    assert (facts["source"], facts["method"]) == (str(tmp_path / "t.csv"), "leave_last")
    assert [facts["split"][part]["rows"] for part in ("train", "validation", "test")] == [20, 5, 5]
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
    assert result.err == f"error: {tmp_path / 't.csv'}, row 31, column 'rating': 'good' is no number; mend the row\n"


def test_names_from_a_file_do_nothing_to_the_terminal(mtsearch: Command, tmp_path: Path) -> None:
    result = mtsearch("data", study(tmp_path, TABLE.replace("device", "\x1b[31mred")))
    assert result.status == 0 and "\x1b[31m" not in result.out


@pytest.mark.parametrize(
    ("key", "value"), [("data.missing", "keep"), ("data.columns.usr", "x"), ("split.method", "no")]
)
def test_an_option_that_is_none(mtsearch: Command, tmp_path: Path, key: str, value: str) -> None:
    result = mtsearch("data", study(tmp_path), "--set", f"{key}={value}")
    assert result.status == 1 and result.err.startswith("error: ") and key in result.err


def test_every_rating_the_same_has_no_nan(mtsearch: Command, tmp_path: Path) -> None:
    facts = json.loads(mtsearch("data", study(tmp_path, TABLE.replace(",rating,", ",ratin,")), "--format", "json").out)
    assert facts["ratings"] == {"lowest": 1, "highest": 1, "mean": 1, "histogram": [{"low": 1, "high": 1, "rows": 30}]}
