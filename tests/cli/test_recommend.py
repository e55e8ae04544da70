"""Tests of `mtsearch recommend`, `predict` and `serve`: one user, files of users, and errors."""

import csv
import gzip
import io
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from mtsearch.models import Device
from tests.cli.conftest import Command
from tests.cli.test_bad_input import one_line
from tests.helpers.model_cases import THREADS
from tests.helpers.served_double import ODD_TITLE, TABLES, write_model

ANYBODY = [*TABLES.user_ids, "nobody"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    Device.default(THREADS)  # takes the threads before TensorFlow runs, for the tests that train
    return str(write_model(tmp_path_factory.mktemp("model")))


def partial_files(folder: Path) -> list[str]:
    """Return the partial files that a failed command left in a folder."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_one_user(mtsearch: Command, folder: str) -> None:
    asked = ("recommend", folder, "--user", "1", "-k", "4")
    table, rows = mtsearch(*asked), json.loads(mtsearch(*asked, "--format", "json").out)
    assert (table.status, table.err) == (0, "")
    assert [row["item"] for row in rows] == TABLES.ranking("1")[:4]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert [row["rating"] for row in rows] == pytest.approx([TABLES.rating("1", row["item"]) for row in rows], abs=1e-5)
    assert sorted(rows, key=lambda row: -row["score"]) == rows
    for row in rows:
        assert row["title"] in table.out and f"{row['rating']:.2f}" in table.out
        assert row["item"] in table.out  # which `predict` wants, and which is not the title here
    lines = list(csv.DictReader(io.StringIO(mtsearch(*asked, "--format", "csv").out)))
    assert [line["title"] for line in lines] == [row["title"] for row in rows]


def test_seen_items(mtsearch: Command, folder: str) -> None:
    asked = ("recommend", folder, "--user", "2", "--format", "json")
    nothing = mtsearch(*asked)
    assert (nothing.status, json.loads(nothing.out)) == (0, [])
    assert "only 0 items are left" in nothing.err and "--include-seen" in nothing.err
    assert [row["item"] for row in json.loads(mtsearch(*asked, "--include-seen").out)] == TABLES.ranking("2", False)[
        :10
    ]


def test_an_unknown_user_gets_a_message(mtsearch: Command, folder: str) -> None:
    result = mtsearch("recommend", folder, "--user", "nobody", "-k", "3", "--format", "json")
    assert [row["item"] for row in json.loads(result.out)] == TABLES.ranking("nobody")[:3]
    assert (
        result.err == "the model was not trained on user 'nobody'; the items for the average user are shown instead\n"
    )


def test_one_rating(mtsearch: Command, folder: str) -> None:
    result = mtsearch("predict", folder, "--user", "4", "--item", "i2")
    assert (result.out, result.err) == (f"{TABLES.rating('4', 'i2'):.3f}\n", "")
    unknown = mtsearch("predict", folder, "--user", "nobody", "--item", "nothing")
    assert unknown.out == f"{TABLES.rating('nobody', 'nothing'):.3f}\n"
    assert "user 'nobody'" in unknown.err and "item 'nothing'" in unknown.err


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


READERS: dict[str, Callable[[Path], list[dict[str, object]]]] = {
    "csv": lambda path: [{**row, "rank": int(row["rank"]), "known": row["known"] == "true"} for row in csv_rows(path)],
    "parquet": lambda path: pyarrow.parquet.read_table(path).to_pylist(),
    "jsonl": lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()],
}


@pytest.mark.parametrize("suffix", list(READERS))
def test_a_file_of_users(mtsearch: Command, tmp_path: Path, folder: str, suffix: str) -> None:
    (tmp_path / "users.csv").write_text("age,user\n" + "".join(f"30,{user}\n" for user in ANYBODY))
    output = tmp_path / f"out.{suffix}"
    result = mtsearch("recommend", folder, "--users", "users.csv", "-k", "5", "-o", str(output))
    assert (result.status, result.out) == (0, "")
    rows = READERS[suffix](output)
    assert set(rows[0]) == {"user", "known", "rank", "item", "title", "rating", "score"}
    for user in ANYBODY:
        mine = [row for row in rows if row["user"] == user]
        assert [row["item"] for row in mine] == TABLES.ranking(user)[:5]
        assert [row["rank"] for row in mine] == list(range(1, len(mine) + 1))
        assert {row["known"] for row in mine} <= {user != "nobody"}
    assert f"wrote {len(rows)} rows for 6 users" in result.err and "1 of them" in result.err
    assert any(row["title"] == ODD_TITLE for row in rows)
    assert partial_files(tmp_path) == []


def test_more_users_than_are_asked_at_once(mtsearch: Command, tmp_path: Path, folder: str) -> None:
    users = [ANYBODY[place % 6] for place in range(5000)]
    (tmp_path / "users.csv").write_text("user\n" + "\n".join(users))
    result = mtsearch("recommend", folder, "--users", "users.csv", "-k", "1", "--include-seen", "-o", "out.parquet")
    assert result.status == 0, result.err
    found = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert found["user"] == users
    assert found["item"] == [TABLES.ranking(user, False)[0] for user in users]


@pytest.mark.parametrize("type_", [pa.int64(), pa.string()])
def test_parquet_in(mtsearch: Command, tmp_path: Path, folder: str, type_: pa.DataType) -> None:
    table = pa.table({"when": [0.5, 0.25], "user": pa.array(["3", "1"]).cast(type_)})
    pyarrow.parquet.write_table(table, tmp_path / "users.parquet")
    assert mtsearch("recommend", folder, "--users", "users.parquet", "-k", "2", "-o", "out.csv").status == 0
    assert [row["user"] for row in READERS["csv"](tmp_path / "out.csv")] == ["3", "3", "1", "1"]


def test_the_first_column_is_taken_and_said(mtsearch: Command, tmp_path: Path, folder: str) -> None:
    (tmp_path / "users.csv").write_text("who,age\n1,30\n")
    result = mtsearch("recommend", folder, "--users", "users.csv", "-k", "2", "-o", "out.csv")
    assert "no column is named user; took 'who' as user" in result.err
    assert [row["user"] for row in READERS["csv"](tmp_path / "out.csv")] == ["1", "1"]


PAIRS = [("1", "i3"), ("4", "i2")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("exact.csv", b"when,item,user\n7,i3,1\n8,i2,4\n"),
        ("usual.csv", b"itemId,userId\ni3,1\ni2,4\n"),
        ("exact_first.csv", b"user_id,movie_id,item,user\n4,i2,i3,1\n1,i3,i2,4\n"),
        ("mixed.csv", b"Film,Movie ID,user\nx,i3,1\ny,i2,4\n"),
        ("likeliest.csv", b"movie,movieId,customer\nHeat,i3,1\nAlien,i2,4\n"),
        ("semicolons.csv", b"item;user\ni3;1\ni2;4\n"),
        ("tabs.csv", b"item\tuser\ni3\t1\ni2\t4\n"),
        ("semicolons.txt", b"\r\nitem;user\r\ni3;1\r\ni2;4\r\n"),
        ("commas.txt", b"user,item;\n1,i3\n4,i2\n"),
        ("tabs.tsv", b"a, b\titem\tuser\n,\ti3\t1\n;\ti2\t4\n"),
        ("UPPER.TSV", b"item\tuser\ni3\t1\ni2\t4\n"),
        ("mark.csv", b"\xef\xbb\xbfuser,item\n1,i3\n4,i2\n"),
        ("mark_and_quotes.csv", b'\xef\xbb\xbf"user";"item"\n"1";"i3"\n4;i2\n'),
        ("mark.tsv", b"\xef\xbb\xbfuser\titem\n1\ti3\n4\ti2\n"),
        ("blanks.csv", b' user , item\n 1 ,i3\n"4 ",\t i2 \n'),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_columns_by_their_names(
    mtsearch: Command, tmp_path: Path, folder: str, name: str, content: bytes, packed: bool
) -> None:
    if packed:
        name, content = f"{name}.gz", gzip.compress(content)
    (tmp_path / name).write_bytes(content)
    result = mtsearch("predict", folder, "--pairs", name, "-o", "out.csv")
    assert result.err == "wrote 2 rows for 2 pairs to out.csv\n"
    assert [(row["user"], row["item"]) for row in csv_rows(tmp_path / "out.csv")] == PAIRS


def test_parquet_by_usual_names(mtsearch: Command, tmp_path: Path, folder: str) -> None:
    table = pa.table({"Item-ID": ["i3 ", "i2"], "rating": [1.0, 2.0], "userId": [1, 4]})
    pyarrow.parquet.write_table(table, tmp_path / "pairs.parquet")
    result = mtsearch("predict", folder, "--pairs", "pairs.parquet", "-o", "out.csv")
    assert result.err == "wrote 2 rows for 2 pairs to out.csv\n"
    assert [(row["user"], row["item"]) for row in csv_rows(tmp_path / "out.csv")] == PAIRS


def test_users_by_a_usual_name(mtsearch: Command, tmp_path: Path, folder: str) -> None:
    (tmp_path / "users.csv").write_text("age,User\n3,1\n")
    result = mtsearch("recommend", folder, "--users", "users.csv", "-k", "1", "-o", "out.csv")
    assert result.err == "wrote 1 row for 1 user to out.csv\n"
    assert [row["user"] for row in csv_rows(tmp_path / "out.csv")] == ["1"]


def test_the_first_two_columns_are_taken_and_said(mtsearch: Command, tmp_path: Path, folder: str) -> None:
    (tmp_path / "pairs.csv").write_text("who;what;when\n1;i3;7\n4;i2;8\n")
    result = mtsearch("predict", folder, "--pairs", "pairs.csv", "-o", "out.csv")
    assert "no column is named user; took 'who' as user and 'what' as item" in result.err
    assert [(row["user"], row["item"]) for row in csv_rows(tmp_path / "out.csv")] == PAIRS


def test_only_a_header(mtsearch: Command, tmp_path: Path, folder: str) -> None:
    (tmp_path / "users.csv").write_text("user\n")
    result = mtsearch("recommend", folder, "--users", "users.csv", "-o", "out.csv")
    assert "wrote 0 rows for 0 users" in result.err
    assert (tmp_path / "out.csv").read_text().startswith('"user","known","rank"')


def test_a_file_of_pairs(mtsearch: Command, tmp_path: Path, folder: str) -> None:
    pairs = [("1", "i3"), ("nobody", "i4"), ("2", 'a, "b"')]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("user", "item"), *pairs])
    result = mtsearch("predict", folder, "--pairs", "pairs.csv", "-o", "out.csv")
    assert (result.status, result.out) == (0, ""), result.err
    assert "wrote 3 rows for 3 pairs" in result.err and "2 of them" in result.err
    rows = csv_rows(tmp_path / "out.csv")
    assert [(row["user"], row["item"]) for row in rows] == pairs
    assert [float(row["rating"]) for row in rows] == pytest.approx([TABLES.rating(*pair) for pair in pairs], abs=1e-5)
    assert [(row["known_user"], row["known_item"]) for row in rows] == [
        ("true", "true"), ("false", "true"), ("true", "false"),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--user", "1", "-k", "13"], "k = 13 is not between 1 and 12"),
        (["--user", "1", "-k", "9" * 30], "k is not between 1 and 12"),
        (["--user", ""], "user id: '' is empty"),
        (["--user", "4" * 100_000], "has 100,000 characters"),
        (["--user", "\udcff"], "is not valid Unicode"),
        (["--users", "gone.csv", "-o", "out.csv"], "gone.csv cannot be read (No such file"),
        (["--users", "/dev/null", "-o", "out.csv"], "is empty"),
        (["--users", "users.csv", "-o", "out.txt"], "does not end in .csv, .parquet, .jsonl"),
        (["--users", "users.csv", "-o", "gone/out.csv"], "there is no folder gone"),
        (["--users", "users.csv", "-o", "users.csv"], "is the input file"),
        (["--users", "users.csv", "-k", "13", "-o", "out.csv"], "between 1 and 12"),
    ],
)
def test_named_errors(mtsearch: Command, tmp_path: Path, folder: str, args: list[str], said: str) -> None:
    (tmp_path / "users.csv").write_text("user\n1\n")
    result = mtsearch("recommend", folder, *args)
    assert (result.status, result.out) == (1, "")
    assert said in one_line(result.err)
    assert [path.name for path in tmp_path.iterdir()] == ["users.csv"]
    assert (tmp_path / "users.csv").read_text() == "user\n1\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"user\n1\n\xff\xfe\n", "not UTF-8"),
        (b"user,user\n1,2\n", "there are two columns 'user'"),
        (b"user,age\n1,2\n3\n", "line 3: 1 columns, but the first line has 2"),
        (b'user\n1\n""\n', "row 2: user '' is empty"),
        (b"user\n1\n4\x002\n", "'4\\x002' has a NUL character"),
        (b"user\n1\n" + b"4" * 1_000_000 + b"\n", "row 2: user '4"),
        (b"user\n1\n" + b"4" * 9_000_000 + b"\n", "has 9,000,000 characters"),
        (b"user_id,userId\n1,2\n", "'user_id' and 'userId' could both be the user"),
        (b"age,userId,userId\n1,2,3\n", "there are two columns 'userId'"),
        (b"user\n1\n \n", "row 2: user '' is empty"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_unreadable_user_files_are_refused(
    mtsearch: Command, tmp_path: Path, folder: str, content: bytes, said: str
) -> None:
    (tmp_path / "users.csv").write_bytes(content)
    result = mtsearch("recommend", folder, "--users", "users.csv", "-o", "out.csv")
    assert result.status == 1
    line = one_line(result.err)
    assert said in line and "users.csv" in line and len(line) < 400
    assert [path.name for path in tmp_path.iterdir()] == ["users.csv"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("pairs.csv", b"user\n1\n", "column 'item' is missing"),
        ("pairs.csv", b"user,thing\n1,i1\n", "column 'item' is missing"),
        ("pairs.csv", b"film,movieId\ni1,1\n", "column 'user' is missing"),
        ("pairs.csv", b"user,movie_id,movieId\n1,i1,i1\n", "'movie_id' and 'movieId' could both be the item"),
        ("pairs.jsonl", b'{"user": "1", "item": "i1"}\n{"us', "line 2 is not a JSON object"),
        ("pairs.xlsx", b"PK", "is not a complete zip archive"),
        ("pairs.parquet.gz", b"PK", "is not a complete gzip file"),
        ("pairs.csv.gz", b"user,item\n1,i1\n", "is not a complete gzip file"),
        (
            "pairs.tsv.gz",
            gzip.compress(b"user\titem\n" + b"1\ti1\n" * 100, mtime=0)[:-9],
            "is not a complete gzip file",
        ),
        ("pairs.csv", b"user,item\n1,i1\n2,\n", "row 2: item '' is empty"),
        ("pairs.parquet", b"PAR1 nonsense", "pairs.parquet is not a complete Parquet file"),
        ("pairs.parquet", b"", "pairs.parquet is not a complete Parquet file"),
    ],
)
def test_unreadable_pair_files_are_refused(
    mtsearch: Command, tmp_path: Path, folder: str, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    result = mtsearch("predict", folder, "--pairs", name, "-o", "out.jsonl")
    assert result.status == 1
    assert said in one_line(result.err)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_failure_leaves_the_file_that_was_there(mtsearch: Command, tmp_path: Path, folder: str) -> None:
    (tmp_path / "users.csv").write_text("user\n" + "1\n" * 3000 + '""\n')
    (tmp_path / "out.csv").write_text("yesterday's")
    assert "row 3001" in one_line(mtsearch("recommend", folder, "--users", "users.csv", "-o", "out.csv").err)
    assert (tmp_path / "out.csv").read_text() == "yesterday's"
    assert partial_files(tmp_path) == []


@pytest.mark.parametrize(
    "args",
    [
        ["recommend", "DIR"],
        ["recommend", "DIR", "--user", "1", "-k", "0"],
        ["recommend", "DIR", "--user", "1", "-k", "many"],
        ["recommend", "DIR", "--user", "1", "--users", "users.csv"],
        ["recommend", "DIR", "--users", "users.csv"],
        ["recommend", "DIR", "--user", "1", "-o", "out.csv"],
        ["predict", "DIR", "--user", "1"],
        ["predict", "DIR", "--pairs", "pairs.csv"],
        ["predict", "DIR", "--user", "1", "--item", "i1", "-o", "out.csv"],
        ["predict", "DIR", "--user", "1", "--pairs", "pairs.csv", "-o", "out.csv"],
        ["serve", "DIR", "--port", "70000"],
        ["serve"],
    ],
)
def test_usage_errors(mtsearch: Command, folder: str, args: list[str]) -> None:
    result = mtsearch(*[folder if arg == "DIR" else arg for arg in args])
    assert result.status == 2 and result.out == ""
    assert "Error: " in result.err and "Traceback" not in result.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["recommend", "--user", "1"], ["predict", "--user", "1", "--item", "i"], ["serve"]]
)
def test_no_model(command: list[str]) -> None:
    """Report a missing model before TensorFlow is imported."""
    code = (
        f"import sys; sys.argv = ['mtsearch', {command[0]!r}, 'nowhere', *{command[1:]!r}]\n"
        "from mtsearch.cli import main\n"
        "try: main()\n"
        "finally: print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "False\n")
    assert done.stderr == "error: there is no folder nowhere; give a folder that `mtsearch retrain` wrote\n"


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_serve_without_its_extra(mtsearch: Command, monkeypatch: pytest.MonkeyPatch, folder: str, package: str) -> None:
    for name in [name for name in sys.modules if name.startswith("mtsearch.serving.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    result = mtsearch("serve", folder)
    assert result.status == 1
    assert one_line(result.err) == f"error: mtsearch serve needs {package}; run: pip install 'mtsearch[serve]'"


@pytest.mark.parametrize("address", [["--host", "no.such.host.invalid"], ["--host", "192.0.2.1"], ["--host", "é" * 80]])
def test_serve_where_it_cannot(mtsearch: Command, folder: str, address: list[str]) -> None:
    result = mtsearch("serve", folder, *address)
    assert result.status == 1
    assert "cannot listen on" in one_line(result.err)


def test_serve_on_a_port_in_use(mtsearch: Command, folder: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = mtsearch("serve", folder, "--port", str(port))
    assert result.status == 1
    line = one_line(result.err)
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{port}: ") and "--port" in line


@pytest.mark.slow
def test_without_the_extra_files_and_one_user_work(folder: str) -> None:
    """Recommend without importing FastAPI, TFRS or Optuna; TensorFlow itself imports Keras."""
    code = (
        f"import sys; sys.argv = ['mtsearch', 'recommend', {folder!r}, '--user', '1', '-k', '1', '--format', 'json']\n"
        "from mtsearch.cli import main\n"
        "main()\n"
        "heavy = {'fastapi', 'uvicorn', 'tensorflow_recommenders', 'optuna', 'plotly'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)[0]["item"] == TABLES.ranking("1")[0]
