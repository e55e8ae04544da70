"""Tests of bad input: an error is one line with the place and the remedy, without a traceback or a partial file."""

import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import Command

QUICK = ["--trials", "1"]


def definition(folder: Path, source: str = "movielens/100k", more: str = "") -> str:
    path = folder / "mine.toml"
    text = f'[study]\nname = "mine"\n[data]\nsource = "{source}"\n[space]\nlearning_rate = {{low = 0.01, high = 1.0}}\n'
    path.write_text(text + more)
    return str(path)


def one_line(err: str) -> str:
    """Return the only error line of the output; the lines before it are plain messages."""
    assert "Traceback" not in err
    *_, last = err.strip().splitlines()
    assert last.startswith("error: ")
    return last


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "nonsense"], "unknown definition 'nonsense'"),
        (["run", "tutoral"], "did you mean 'tutorial'?"),
        (["run", "gone.toml"], "gone.toml: no such file"),
        (["run", "ml-100k", "--set", "space.learning_rte.low=1"], "space.learning_rte"),
        (["run", "ml-100k", "--set", "study.sede=1"], "did you mean 'seed'?"),
        (["run", "ml-100k", "--sampler", "cmaes"], "'cmaes' supports one objective only"),
        (["run", "--storage", "nosql://x"], "nosql://x"),
        (["run", "--set", "data.source=movielens/100"], "movielens/100k"),
        (["run", "--storage", ""], "the name of the storage is empty"),
        (["run", "--study", " a"], "study.name: ' a' begins or ends with a space"),
        (["front"], "no database at"),
        (["front", "--storage", ""], "the name of the storage is empty"),
        (["front", "--storage", "other.db"], "other.db"),
        (["plot"], "mtsearch run"),
        (["studies"], "no database at"),
        (["baselines", "nonsense"], "unknown definition"),
    ],
)
def test_named_errors(mtsearch: Command, tmp_path: Path, args: list[str], said: str) -> None:
    result = mtsearch(*args)
    assert result.status == 1
    assert said in one_line(result.err)
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("typed", "meant"), [("rnu", "run"), ("fornt", "front"), ("xyz", "run, check, data")])
def test_a_mistyped_command_names_the_one_that_was_meant(mtsearch: Command, typed: str, meant: str) -> None:
    result = mtsearch(typed)
    assert result.status == 2
    assert f"No such command '{typed}'" in result.err and meant in result.err


@pytest.mark.parametrize(
    "args",
    [
        ["run", "--trials", "0"],
        ["run", "--trials", "many"],
        ["run", "--timeout", "0"],
        ["run", "--timeout", "nan"],
        ["run", "--trials", "3", "--until", "4"],
        ["run", "--seed", "-1"],
        ["front", "--format", "xml"],
        ["nonsense"],
        ["run", "--nonsense"],
    ],
)
def test_usage_errors(mtsearch: Command, tmp_path: Path, args: list[str]) -> None:
    result = mtsearch(*args)
    assert result.status == 2
    assert "Traceback" not in result.err
    assert "Error: " in result.err
    assert list(tmp_path.iterdir()) == []


def test_unknown_key_names_file_and_nearest_key(mtsearch: Command, tmp_path: Path) -> None:
    path = definition(tmp_path, more="[splt]\nseed = 1\n")
    result = mtsearch("run", path, *QUICK)
    assert result.status == 1
    assert one_line(result.err) == f"error: {path}: unknown key 'splt' (did you mean 'split'?)"


def test_broken_toml_names_the_line(mtsearch: Command, tmp_path: Path) -> None:
    path = definition(tmp_path, more="[fixed]\nepochs =\n")
    assert "line 8" in one_line(mtsearch("run", path, *QUICK).err)


def test_corrupt_zip(mtsearch: Command, tmp_path: Path) -> None:
    (tmp_path / "ml.zip").write_bytes(b"PK\x03\x04 not a zip")
    result = mtsearch("run", definition(tmp_path, "ml.zip"), *QUICK)
    assert result.status == 1
    assert "ml.zip" in one_line(result.err)
    assert not (tmp_path / "studies").exists()


def test_text_for_a_rating_names_file_line_and_value(mtsearch: Command, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ml.zip", "w") as archive:
        archive.writestr("ml-100k/u.data", "1\t1\t5\t880000000\n1\t2\tfive\t880000000\n")
        archive.writestr("ml-100k/u.item", "".join(f"{i}|Film {i} (1990)|||x|{'|'.join('0' * 19)}\n" for i in (1, 2)))
    result = mtsearch("run", definition(tmp_path, "ml.zip"), *QUICK)
    line = one_line(result.err)
    assert result.status == 1
    assert "u.data, row 2, column" in line and "five" in line
    assert not (tmp_path / "studies").exists()


def test_unwritable_folder(mtsearch: Command, tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file in the way")
    result = mtsearch("run", *QUICK)
    assert result.status == 1
    assert str(tmp_path / "studies") in one_line(result.err)
    assert (tmp_path / "studies").read_text() == "a file in the way"


def test_unwritable_folder_is_told_before_data_are_read(mtsearch: Command, tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file in the way")
    (tmp_path / "ml.zip").write_text("not a zip")
    result = mtsearch("run", definition(tmp_path, "ml.zip"), *QUICK)
    assert result.status == 1
    assert f"{tmp_path / 'studies'} is not a writable folder" in one_line(result.err)


def test_unreachable_storage_hides_the_password(mtsearch: Command) -> None:
    result = mtsearch("run", *QUICK, "--storage", "postgresql://me:secret@127.0.0.1:1/db")
    assert result.status == 1
    assert "127.0.0.1" in one_line(result.err)
    assert "secret" not in result.err


def test_debug_shows_the_traceback(shell: Command) -> None:
    result = shell("--debug", "run", "nonsense")
    assert result.status == 1
    assert "Traceback" in result.err and "unknown definition" in result.err
