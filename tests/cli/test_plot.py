"""Tests of `mtsearch plot`: what it writes, and to which folder or file."""

import base64
import csv
import gzip
import io
import json
import re
import shutil
from pathlib import Path

import pytest

from mtsearch import api
from mtsearch.cli.plot import folder_name
from tests.cli.conftest import Command
from tests.helpers.fixtures import small_data
from tests.helpers.trainers import FormulaTrainer, make_factory
from tests.search.test_run import define


@pytest.fixture
def stored(tmp_path: Path) -> str:
    path = str(tmp_path / "a.db")
    api.run(define(small_data(tmp_path)), 3, storage=path, make_trainer=make_factory(FormulaTrainer()))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "written"),
    [
        ("p.html", "p.html"),
        ("new/p.html", "new/p.html"),
        ("pages", "pages/index.html"),
        ("pages.v1", "pages.v1/index.html"),
    ],
)
def test_output_is_a_file_where_it_ends_in_html(mtsearch: Command, stored: str, output: str, written: str) -> None:
    for _ in range(2):  # written again in place of the first
        result = mtsearch("plot", "--storage", stored, "-o", output)
        assert (result.status, result.out.strip()) == (0, written)
        assert Path(written).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_studies_of_like_names_have_folders_of_their_own() -> None:
    assert folder_name("ml-100k_2.b") == "ml-100k_2.b"
    names = ["a b", "a-b", "a/b", ".a-b", "я" * 150, "я" * 151, "..."]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    for folder in folders:
        assert len(folder.encode()) < 220 and folder[0] != "."
        assert all(char.isalnum() or char in "._-" for char in folder)


def test_output_that_cannot_be_is_an_error_in_one_line(mtsearch: Command, stored: str) -> None:
    Path("notes.txt").write_text("mine")
    result = mtsearch("plot", "--storage", stored, "-o", "notes.txt")
    assert result.status == 1
    assert result.err.splitlines()[-1].startswith("error: cannot write notes.txt/index.html: ")
    assert Path("notes.txt").read_text() == "mine"


def test_what_is_drawn_as_json_and_csv(mtsearch: Command, stored: str) -> None:
    shown = json.loads(mtsearch("plot", "--storage", stored, "--format", "json").out)
    assert [each["trial"] for each in shown["trials"]] == [0, 1, 2]
    assert shown["trials"][-1]["hypervolume"] == shown["hypervolume"]
    assert {each["trial"] for each in shown["curves"]} == {0, 1, 2}
    assert set(shown["baselines"]) == {"chance", "popularity", "biases"}
    assert not Path("dashboards").exists()
    both = mtsearch("plot", "--storage", stored, "--format", "csv", "-o", "p.html")
    rows = list(csv.DictReader(io.StringIO(both.out)))
    assert [row["rmse"] for row in rows] == [str(each["rmse"]) for each in shown["trials"]]
    assert float(rows[0]["seconds"]) > 0
    assert both.err.splitlines()[-1] == "p.html"
    assert Path("p.html").exists()


def test_plotly_from_its_server(mtsearch: Command, stored: str) -> None:
    mtsearch("plot", "--storage", stored, "-o", "p.html", "--plotlyjs", "cdn")
    assert Path("p.html").stat().st_size < 200_000


def test_commands_on_the_page_name_the_storage(mtsearch: Command, stored: str) -> None:
    mtsearch("plot", "--storage", stored, "-o", "p.html")
    data = re.search(r'id="data">([^<]*)<', Path("p.html").read_text(encoding="utf-8"))
    assert data is not None
    command, rest = json.loads(gzip.decompress(base64.b64decode(data[1])))["command"]
    assert f"{command} {rest}" == f"mtsearch export --study s --storage {stored} -o best.toml"


@pytest.mark.slow
def test_pictures(mtsearch: Command, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chrome = shutil.which("chromium") or shutil.which("google-chrome")
    if chrome is None:
        pytest.skip("needs chromium or google-chrome")
    monkeypatch.setenv("BROWSER_PATH", chrome)
    result = mtsearch("plot", "--storage", stored, "--png", "new/a.png", "--svg", "a.svg")
    assert result.status == 0, result.err
    assert result.out.splitlines()[1:] == ["new/a.png", "a.svg"]
    assert Path("new/a.png").read_bytes().startswith(b"\x89PNG")
    assert "RMSE (stars)" in Path("a.svg").read_text(encoding="utf-8")


def test_pictures_without_a_chrome_or_under_another_name(
    mtsearch: Command, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mtsearch("plot", "--storage", stored, "--png", "a.jpg").err.splitlines()[-1] == (
        "error: a.jpg is no picture; let its name end in .png or .svg"
    )
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chrome")
    result = mtsearch("plot", "--storage", stored, "--png", "a.png")
    assert result.status == 1
    assert result.err.splitlines()[-1].startswith("error: pictures need Chrome")
    assert not Path("a.png").exists()
