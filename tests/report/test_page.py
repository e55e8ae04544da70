"""The page as text: what it says, that it is whole, and that nobody's text becomes markup."""

import os
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mtsearch.errors import MachineError
from mtsearch.report.figures import plotly_js
from mtsearch.report.markup import Html, tag
from mtsearch.report.page import OPEN_FAILURES, page, write_page
from mtsearch.report.references import verdict
from mtsearch.search.record import Failure, StudyRecord
from tests.report.records import HOSTILE, hostile, realistic, record, row

VOID = {"meta", "link", "br"}


class Outline(HTMLParser):
    """Elements with their attributes, and the text outside scripts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attrs)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data + " "


def outline(study: StudyRecord) -> Outline:
    parsed = Outline(page(study).replace(plotly_js(), ""))
    assert parsed.open == []
    return parsed


def test_headlines() -> None:
    study = realistic()
    assert study.knee is not None
    text = outline(study).text
    for part in ("ml-100k", "50 complete, 2 failed", "knee: trial 43", "RMSE 0.9952 and top-100 accuracy 0.2701"):
        assert part in text
    assert f"{study.hypervolume:.4g}" in text
    assert "biases, beaten" in text
    assert "2025-03-01 09:30 to 2025-03-01 09:42" in text


def test_failures_and_passport() -> None:
    parsed = outline(realistic())
    assert "non-finite loss at epoch 2, step 14" in parsed.text
    assert "packages.tensorflow" in parsed.text
    assert "2.21.0" in parsed.text


def test_many_failures_are_folded() -> None:
    many = tuple(Failure(number, "out of memory", counted=True) for number in range(OPEN_FAILURES + 1))
    assert "11 failed trials" in outline(replace(realistic(), failures=many)).text
    assert "failed trials" not in outline(replace(realistic(), failures=many[1:])).text


def test_verdicts() -> None:
    assert verdict(record()) == "No trial has completed yet, so there is no front."
    assert "does not beat popularity in top-100 accuracy (0.295)" in verdict(record([row(0, 0.93, 0.2)]))
    both = verdict(record([row(0, 0.95, 0.2)]))
    assert "does not beat biases in RMSE (0.942) and popularity in top-100 accuracy (0.295)" in both
    assert verdict(record([row(0, 0.93, 0.3)])).endswith(
        "Its knee is better than chance, popularity and biases in both objectives at once."
    )
    assert verdict(record([row(0, 0.93, 0.3)], baselines={})).startswith("1 trial on the front; no baselines")


@pytest.mark.parametrize(
    "study", [record(), record(baselines={}), record([row(0, 1.0, 0.1)], begun=None, ended=None, passport={})]
)
def test_small_studies_have_a_whole_page(study: StudyRecord) -> None:
    assert "Pareto front" in outline(study).text


def test_hostile_text_stays_text() -> None:
    ordinary, attacked = outline(realistic()), outline(hostile())
    assert {name for name, _ in attacked.elements} <= {name for name, _ in ordinary.elements}
    assert not [key for _, attributes in attacked.elements for key in attributes if key.startswith("on")]
    assert len([1 for name, _ in attacked.elements if name == "script"]) == 3
    assert attacked.text.count(HOSTILE) > 20


def test_nothing_is_fetched_and_only_the_pages_scripts_run() -> None:
    parsed = outline(realistic())
    policy = next(a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert [a for name, a in parsed.elements if "src" in a or (name == "link" and a["href"] != "data:,")] == []


def test_markup_escapes_whatever_is_not_html() -> None:
    assert tag("p", "<b>", Html("<i></i>"), class_='"x"') == '<p class="&quot;x&quot;">&lt;b&gt;<i></i></p>'


def test_write_page_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for study in (record(), replace(realistic(), name="Ärger \ud800")):
        assert write_page(study, folder) == folder / "index.html"
    assert "Ärger" in (folder / "index.html").read_text(encoding="utf-8")
    assert os.listdir(folder) == ["index.html"]  # noqa: PTH208 # hidden files too


def test_a_failed_write_keeps_the_old_page(tmp_path: Path) -> None:
    (tmp_path / "index.html").mkdir()  # cannot be replaced by a file
    with pytest.raises(
        MachineError, match=r"cannot write .*index\.html: .*; name a folder that can be written with -o"
    ):
        write_page(record(), tmp_path)
    assert os.listdir(tmp_path) == ["index.html"]  # noqa: PTH208


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="name a folder"):
        write_page(record(), tmp_path / "file" / "folder")
